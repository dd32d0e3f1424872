"""Format "cvat": images/ and annotations.xml, CVAT for images 1.1.

Objects are masks (CVAT from 2.3 on): the run lengths of a window, row by row, background first. All
that has an area comes in: masks, polygons, boxes, ellipses; the higher ``z_order`` lies on top.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np

from ...core.errors import DatasetError, readable
from ...core.geometry import mask_to_box
from ...core.types import BoolArray, LabelClass
from ..labels import default_color, is_color
from ..outputs import OutputFolder
from .objects import (
    at_size,
    box_of,
    check_count,
    checked_size,
    class_name,
    colors_of,
    image_entry,
    malformed,
    names_of,
    objects_of,
    read_xml,
    write_picture,
    write_text,
    xml_root,
    xml_text,
)
from .polygons import corners_mask
from .records import Entry, ExportAbout, ExportImage, LabelledImage, LabelledObject, LabelSet

CARD = "annotations.xml"
AREAS = ("mask", "polygon", "box", "ellipse")
OTHERS = ("polyline", "points", "skeleton", "cuboid", "tag")


def write_image(folder: OutputFolder, item: ExportImage) -> Entry:
    """Write the image; its masks are in the entry."""
    file = write_picture(folder, "images", item)
    return image_entry(item) | {
        "image": file,
        "objects": [(class_id, _window(mask)) for class_id, mask in objects_of(item)],
    }


def _window(mask: BoolArray) -> dict[str, str]:
    """The attributes of a mask: a window, and its run lengths."""
    box = mask_to_box(mask)
    assert box is not None
    x0, y0, x1, y1 = (int(side) for side in box)
    flat = mask[y0 : y1 + 1, x0 : x1 + 1].ravel()
    ends = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], ends, [flat.size]])).tolist()
    runs = [0, *runs] if flat[0] else runs
    sides = {"left": x0, "top": y0, "width": x1 - x0 + 1, "height": y1 - y0 + 1}
    return {"rle": ", ".join(map(str, runs)), **{name: str(side) for name, side in sides.items()}}


def write_card(folder: OutputFolder, about: ExportAbout, entries: Sequence[Entry]) -> None:
    """Write ``annotations.xml``."""
    root = Element("annotations")
    _add(root, "version", "1.1")
    names = names_of(about)
    task = SubElement(SubElement(root, "meta"), "task")
    _add(task, "name", about.name)
    _add(task, "size", str(len(entries)))
    labels = SubElement(task, "labels")
    for value, color in colors_of(about).items():
        label = SubElement(labels, "label")
        _add(label, "name", names[value])
        _add(label, "color", color)
        _add(label, "type", "any")
        SubElement(label, "attributes")
    for number, entry in enumerate(entries):
        sizes = {"width": str(entry["width"]), "height": str(entry["height"])}
        named = {"id": str(number), "name": xml_text(entry["image"])}
        image = SubElement(root, "image", named | sizes)
        for class_id, window in entry["objects"]:
            name = xml_text(names[class_id])
            common = {"label": name, "source": "manual", "occluded": "0", "z_order": "0"}
            SubElement(image, "mask", common | window)
    indent(root)
    text = tostring(root, encoding="unicode")
    write_text(folder, CARD, f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n')


def _add(parent: Element, name: str, text: str) -> None:
    SubElement(parent, name).text = xml_text(text)


def recognises(path: Path) -> bool:
    """An XML file of annotations, or a folder with one."""
    return any(xml_root(place) == "annotations" for place in _places(path))


def _places(path: Path) -> list[Path]:
    """The file, or those of a folder that may be one."""
    return [path] if path.is_file() else [path / CARD, *sorted(path.glob("*.xml"))]


def read(path: Path) -> LabelSet:
    """All images of the file; what has no area is left out, and said."""
    places = [place for place in _places(path) if place.is_file()]
    if not places:
        raise DatasetError(path, f"no CVAT file for images here: expected {CARD}")
    card = next((place for place in places if xml_root(place) == "annotations"), places[0])
    root = read_xml(card)
    images = root.findall("image")
    if not images:
        raise DatasetError(
            card, 'has no <image>; export it as "CVAT for images", for videos are not read'
        )
    listed = {name: _color(label.findtext("color")) for label in root.iter("label")
              if (name := label.findtext("name"))}  # fmt: skip
    drawn = [each.get("label") or "" for image in images for each in image if each.tag in AREAS]
    names = dict.fromkeys([*listed, *drawn]) or {"object": None}
    classes = [
        LabelClass(number, class_name(name, number), listed.get(name) or default_color(number))
        for number, name in enumerate(names, start=1)
    ]
    numbers = {name: item.class_id for name, item in zip(names, classes, strict=True)}
    others = sum(each.tag in OTHERS for image in images for each in image)

    def labelled(image: Element) -> LabelledImage:
        name = image.get("name") or ""
        return LabelledImage(
            card, (name, Path(name).name), lambda size: _objects(card, image, numbers, size)
        )

    note = f"{others} shapes have no area (lines, points, tags) and were left out"
    return LabelSet(
        [labelled(image) for image in images],
        classes,
        last_on_top=True,
        notes=(note,) if others else (),
    )


def _color(text: str | None) -> str:
    return text if text is not None and is_color(text) else ""


def _objects(
    card: Path, image: Element, numbers: dict[str, int], size_hw: tuple[int, int]
) -> list[LabelledObject]:
    found: list[tuple[int, LabelledObject]] = []
    with malformed(card, f"{readable(image.get('name'))}: a shape that is none"):
        own = (int(image.get("height", size_hw[0])), int(image.get("width", size_hw[1])))
        own = checked_size(card, own, size_hw)
        shapes = [each for each in image if each.tag in AREAS]
        check_count(card, len(shapes), size_hw)
        for each in shapes:
            class_id, level = numbers[each.get("label") or ""], int(each.get("z_order") or 0)
            if each.tag == "box" and not float(each.get("rotation") or 0):
                x0, y0, x1, y1 = (
                    float(each.attrib[n]) * size_hw[1] / own[1]
                    for n in ("xtl", "ytl", "xbr", "ybr")
                )
                box = box_of([x0, y0, x1 - 1, y1 - 1])
                found.append((level, LabelledObject(class_id, None, box)))
            else:
                mask = at_size(card, _mask(each, own), size_hw)
                found.append((level, LabelledObject(class_id, mask)))
    return [item for _, item in sorted(found, key=lambda pair: pair[0])]


def _mask(shape: Any, size_hw: tuple[int, int]) -> BoolArray:
    """The pixels of a mask, a polygon, a box that was turned, or an ellipse.

    Raises:
        KeyError, ValueError: it is none of these.
    """
    if shape.tag == "polygon":
        pairs = [point.split(",") for point in shape.attrib["points"].split(";")]
        return corners_mask([[float(value) for pair in pairs for value in pair]], size_hw)
    if shape.tag == "box":
        x0, y0, x1, y1 = (float(shape.attrib[name]) for name in ("xtl", "ytl", "xbr", "ybr"))
        turn = math.radians(float(shape.attrib["rotation"]))
        cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
        corners = [(x - cx, y - cy) for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))]
        turned = [
            value
            for x, y in corners
            for value in (
                cx + x * math.cos(turn) - y * math.sin(turn),
                cy + x * math.sin(turn) + y * math.cos(turn),
            )
        ]
        return corners_mask([turned], size_hw)
    if shape.tag == "ellipse":
        cx, cy, rx, ry = (float(shape.attrib[name]) for name in ("cx", "cy", "rx", "ry"))
        turn = math.radians(float(shape.get("rotation") or 0))
        if not all(map(math.isfinite, (cx, cy, rx, ry, turn))) or min(rx, ry) <= 0:
            raise ValueError("an ellipse without an area")
        rows, columns = np.ogrid[: size_hw[0], : size_hw[1]]
        x, y = columns + 0.5 - cx, rows + 0.5 - cy
        along = x * math.cos(turn) + y * math.sin(turn)
        across = y * math.cos(turn) - x * math.sin(turn)
        return (along / rx) ** 2 + (across / ry) ** 2 <= 1
    left, top, width, height = (
        int(float(shape.attrib[name])) for name in ("left", "top", "width", "height")
    )
    runs = [int(run) for run in shape.attrib["rle"].split(",")]
    inside = left >= 0 and top >= 0 and left + width <= size_hw[1] and top + height <= size_hw[0]
    if not inside or min(runs) < 0 or min(width, height) < 1 or sum(runs) != width * height:
        raise ValueError("a mask that does not fill its window, or a window outside of the image")
    mask = np.zeros(size_hw, bool)
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    mask[top : top + height, left : left + width] = values.reshape(height, width)
    return mask
