"""Format "voc": Pascal VOC, boxes and segmentation.

    JPEGImages/<id>.png          lossless, whatever the folder is called
    Annotations/<id>.xml         an object each: its class, and its box from 1 on
    SegmentationClass/<id>.png   the class's place in labelmap.txt, with its colour as palette
    SegmentationObject/<id>.png  the object's place in Annotations/<id>.xml, from 1 on
    ImageSets/{Main,Segmentation}/{train,val,trainval,test}.txt
    labelmap.txt                 name:r,g,b:: a line, the background first

255 is VOC's rim of no class. Masks in colour, as CVAT writes them, are read by labelmap.txt.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...core.errors import DatasetError, ImageReadError
from ...core.geometry import mask_to_box
from ...core.types import BoolArray
from ..labels import rgb_of
from ..masks import fitted, read_colors, read_mask_file
from ..outputs import OutputFolder
from .objects import (
    box_of,
    check_count,
    class_name,
    classes_named,
    colors_of,
    files_below,
    image_entry,
    malformed,
    names_of,
    numbered,
    objects_of,
    pack,
    read_bytes,
    read_xml,
    unpacked,
    unreadable,
    write_picture,
    write_text,
    xml_root,
    xml_text,
)
from .records import Entry, ExportAbout, ExportImage, LabelledImage, LabelledObject, LabelSet

CARD = "labelmap.txt"
CLASS_MASKS, OBJECT_MASKS = "SegmentationClass", "SegmentationObject"
RIM = 255
SIGNS = {ord(":"): "\N{FULLWIDTH COLON}", ord("#"): "\N{FULLWIDTH NUMBER SIGN}"}
"""What names have in the place of signs that mean something in ``labelmap.txt``."""
BACKGROUND = ("background", "__background__", "_background_")


def write_image(folder: OutputFolder, item: ExportImage) -> Entry:
    """Write the image and its objects' mask; the rest follows with the card."""
    objects = list(objects_of(item))
    if len(objects) >= RIM:
        raise DatasetError(
            folder.root / item.source,
            f"has {len(objects)} objects, Pascal VOC holds {RIM - 1}; choose another format",
        )
    file = write_picture(folder, "JPEGImages", item)
    numbers = np.zeros(item.labels.shape, np.uint8)
    for number, (_, mask) in enumerate(objects, start=1):
        numbers[mask] = number
    _write_palette(folder, f"{OBJECT_MASKS}/{file}", numbers, _shades())
    boxes = [(class_id, mask_to_box(mask)) for class_id, mask in objects]
    depth = 1 if (item.image == item.image[..., :1]).all() else 3
    return image_entry(item) | {"objects": boxes, "depth": depth, "labels": pack(item.labels)}


def write_card(folder: OutputFolder, about: ExportAbout, entries: Sequence[Entry]) -> None:
    """Write annotations, class masks, lists by side and ``labelmap.txt``.

    Raises:
        DatasetError: there are more classes than a palette holds.
    """
    places, colors = numbered(about), colors_of(about)
    if len(places) >= RIM:
        raise DatasetError(folder.root, f"{len(places)} classes; Pascal VOC holds {RIM - 1}")
    palette = [(0, 0, 0), *(rgb_of(colors[value]) for value in places)]
    names = names_of(about, *BACKGROUND)
    for entry in entries:
        found = unpacked(entry)
        labels = np.zeros(found.shape, np.uint8)
        for value, place in places.items():
            labels[found == value] = place + 1
        _write_palette(folder, f"{CLASS_MASKS}/{entry['file']}.png", labels, palette)
        write_text(folder, f"Annotations/{entry['file']}.xml", _annotation(about, names, entry))
    for kind in ("Main", "Segmentation"):
        for name, sides in SETS.items():
            listed = [entry["file"] for entry in entries if entry["side"] in sides]
            text = "".join(f"{file}\n" for file in listed)
            write_text(folder, f"ImageSets/{kind}/{name}.txt", text)
    lines = ["# label:color_rgb:parts:actions", "background:0,0,0::"]
    for value, color in zip(places, palette[1:], strict=True):
        lines.append(f"{_as_listed(names[value])}:{','.join(map(str, color))}::")
    write_text(folder, CARD, "\n".join(lines) + "\n")


SETS = {"train": ("train",), "val": ("val",), "trainval": ("train", "val"), "test": ("test",)}


def _annotation(about: ExportAbout, names: dict[int, str], entry: Entry) -> str:
    root = Element("annotation")

    def add(parent: Element, **texts: object) -> None:
        for name, text in texts.items():
            SubElement(parent, name).text = xml_text(text)

    add(root, folder="JPEGImages", filename=f"{entry['file']}.png")
    add(SubElement(root, "source"), database=about.name)
    size = SubElement(root, "size")
    add(size, width=entry["width"], height=entry["height"], depth=entry["depth"])
    add(root, segmented=1)
    for class_id, (x0, y0, x1, y1) in entry["objects"]:
        made = SubElement(root, "object")
        add(made, name=_as_listed(names[class_id]), pose="Unspecified")
        add(made, truncated=0, difficult=0)
        ends = {"xmin": x0 + 1, "ymin": y0 + 1, "xmax": x1 + 1, "ymax": y1 + 1}
        box = SubElement(made, "bndbox")
        add(box, **{name: int(value) for name, value in ends.items()})
    indent(root)
    return tostring(root, encoding="unicode") + "\n"


def _as_listed(name: str) -> str:
    """A class's name as ``labelmap.txt`` can have it."""
    return name.translate(SIGNS)


def _own_name(name: str, number: int) -> str:
    """The name that is meant by the one that is listed."""
    return class_name(name.translate({ord(b): chr(a) for a, b in SIGNS.items()}), number)


def _shades() -> list[tuple[int, int, int]]:
    """VOC's own colours: the bits of a number, spread over red, green and blue."""

    def shade(number: int) -> tuple[int, int, int]:
        parts = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                parts[channel] |= (number >> channel & 1) << (7 - bit)
            number >>= 3
        return parts[0], parts[1], parts[2]

    return [shade(number) for number in range(256)]


def _write_palette(
    folder: OutputFolder, place: str, numbers: NDArray[np.uint8], colors: Sequence[Any]
) -> None:
    picture = Image.fromarray(numbers, mode="P")
    filled = [*colors, *_shades()[len(colors) :]][:256]
    picture.putpalette([part for color in filled for part in color])
    encoded = BytesIO()
    picture.save(encoded, format="PNG")
    folder.write(folder.root / place, encoded.getvalue())


def recognises(path: Path) -> bool:
    """A folder with Annotations/ of XML or SegmentationClass/, or one annotation."""
    if path.is_file():
        return xml_root(path) == "annotation"
    return (path / CLASS_MASKS).is_dir() or any((path / "Annotations").glob("*.xml"))


def read(path: Path) -> LabelSet:
    """Objects by their masks where there are such, else by their boxes."""
    root = path if path.is_dir() else path.parent.parent
    listed = _label_map(root / CARD)
    files = [path] if path.is_file() else files_below(root / "Annotations", ".xml")
    annotations, broken = {}, []
    for file in files:
        try:
            annotations[file.stem] = _parsed(file)
        except DatasetError as error:
            broken.append(unreadable(file, error))
    masks = files_below(root / CLASS_MASKS, ".png") if path.is_dir() else []
    stems = dict.fromkeys([*annotations, *(file.stem for file in masks)])
    for image in broken:
        stems.pop(image.path.stem, None)
    if not stems and not broken:
        raise DatasetError(path, "no Pascal VOC data set here: expected Annotations/<image>.xml")
    found = [name for _, objects in annotations.values() for name, _ in objects]
    names = list(dict.fromkeys([*listed, *found])) or ["object"]
    classes = classes_named(dict(enumerate(names, start=1)))
    numbers = {name: index for index, name in enumerate(names, start=1)}

    def labelled(stem: str) -> LabelledImage:
        file_name, objects = annotations.get(stem, (stem, []))
        boxes = [(numbers[name], box) for name, box in objects]
        place = root / "Annotations" / f"{stem}.xml"
        return LabelledImage(
            place,
            (file_name, stem),
            lambda size: _objects(root, stem, boxes, listed, numbers, size),
        )

    return LabelSet([*(labelled(stem) for stem in stems), *broken], classes)


def _parsed(file: Path) -> tuple[str, list[tuple[str, NDArray[np.float32]]]]:
    """The image's name, and class and box (XYXY from 0 on) of each object.

    Raises:
        DatasetError: it is no annotation.
    """
    root = read_xml(file)
    objects = []
    for number, item in enumerate(root.iter("object"), start=1):
        with malformed(file, f"object {number} has no box"):
            ends = (item.findtext(f"bndbox/{n}", "") for n in ("xmin", "ymin", "xmax", "ymax"))
            box = box_of([float(end) - 1 for end in ends])
        objects.append((_own_name(item.findtext("name", ""), number), box))
    return root.findtext("filename") or file.stem, objects


def _label_map(path: Path) -> dict[str, tuple[int, ...]]:
    """Class -> colour, without the background; {} where there is no such file."""
    if not path.is_file():
        return {}
    listed: dict[str, tuple[int, ...]] = {}
    for line in read_bytes(path).decode("utf-8", "replace").splitlines():
        name, *rest = line.split(":")
        if not name.strip() or name.startswith("#") or name.strip().casefold() in BACKGROUND:
            continue
        parts = rest[0].split(",") if rest else []
        color = tuple(int(part) for part in parts if part.strip().isdecimal())
        listed[_own_name(name, len(listed) + 1)] = color
    return listed


def _objects(
    root: Path,
    stem: str,
    boxes: list[tuple[int, NDArray[np.float32]]],
    listed: dict[str, tuple[int, ...]],
    numbers: dict[str, int],
    size_hw: tuple[int, int],
) -> list[LabelledObject]:
    place = root / "Annotations" / f"{stem}.xml"
    check_count(place, len(boxes), size_hw)
    of_objects, of_classes = (root / kind / f"{stem}.png" for kind in (OBJECT_MASKS, CLASS_MASKS))
    parts = _parts(of_objects, size_hw) if of_objects.is_file() else {}
    if parts and boxes:
        found = [
            LabelledObject(class_id, parts[number][1])
            for number, (class_id, _) in enumerate(boxes, start=1)
            if number in parts
        ]
        if len(found) == len(parts):
            return found
    if of_classes.is_file():
        shades = _shades()
        by_color = {
            (color if len(color) == 3 else shades[place]): numbers[name]
            for place, (name, color) in enumerate(listed.items(), start=1)
        } or {shades[place]: place for place in numbers.values()}
        found = []
        for value, (color, mask) in _parts(of_classes, size_hw).items():
            class_id = by_color.get(color, 0) if color else value
            if len(numbers) == 1:
                class_id = 1
            if not 1 <= class_id <= len(numbers):
                raise DatasetError(of_classes, f"the class {value}, which {CARD} does not name")
            if not of_objects.is_file():
                found.append(LabelledObject(class_id, mask))
            for _, part in parts.values():
                if (mask & part).any():
                    found.append(LabelledObject(class_id, mask & part))
        return found
    return [LabelledObject(class_id, None, box) for class_id, box in boxes]


def _parts(file: Path, size_hw: tuple[int, int]) -> dict[int, tuple[Any, BoolArray]]:
    """Number -> colour (() for none) and mask of each value, but background and rim."""
    try:
        values = fitted(file, read_mask_file(file).values, size_hw)
    except ImageReadError:  # in colour
        colors = fitted(file, read_colors(file), size_hw).astype(np.int64)
        packed = colors[..., 0] << 16 | colors[..., 1] << 8 | colors[..., 2]
        kinds = [int(k) for k in np.unique(packed) if k not in (0, 0xE0E0C0)]
        check_count(file, len(kinds), size_hw)
        places = {color: place for place, color in enumerate(_shades())}
        found = {}
        for number, kind in enumerate(kinds, start=1):
            color = (kind >> 16, kind >> 8 & 255, kind & 255)
            found[places.get(color, len(places) + number)] = color, packed == kind
        return found
    return {
        int(value): ((), values == value) for value in np.unique(values) if value not in (0, RIM)
    }
