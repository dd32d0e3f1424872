"""Format "labelme": beside each image a JSON file of its shapes.

A piece without holes is a polygon, through the pixels at its rim, as labelme draws it; any other is
a shape "mask" with the pixels as PNG. Pieces of one object share a ``group_id``. labelme knows
classes by name only; ``labels.txt`` lists them in their order.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...core.errors import DatasetError
from ...core.geometry import mask_to_box
from ...core.types import BoolArray, LabelClass
from ..outputs import OutputFolder
from .objects import (
    at_size,
    check_count,
    checked_size,
    class_name,
    classes_named,
    files_below,
    holds,
    image_entry,
    malformed,
    names_of,
    objects_of,
    pieces_of,
    read_bytes,
    read_json,
    unreadable,
    write_json,
    write_picture,
    write_text,
)
from .polygons import MAX_POLYGONS, pixel_rings, pixels_mask
from .records import Entry, ExportAbout, ExportImage, LabelledImage, LabelledObject, LabelSet

CARD = "labels.txt"
VERSION = "5.5.0"
"""Of labelme, whose format this is; a later one reads it."""
IGNORED = ("__ignore__", "_background_")
AREAS = ("polygon", "rectangle", "oriented_rectangle", "circle", "mask")
"""Kinds of shapes that have an area."""


def write_image(folder: OutputFolder, item: ExportImage) -> Entry:
    """Write the image; its shapes follow with the card, which knows the classes' names."""
    file = write_picture(folder, ".", item)
    shapes = []
    for number, (class_id, mask) in enumerate(objects_of(item), start=1):
        pieces = list(pieces_of(mask))
        group = number if len(pieces) > 1 else None
        shapes += [(class_id, _shape(piece) | {"group_id": group}) for piece in pieces]
    return image_entry(item) | {"shapes": shapes, "image": file}


def write_card(folder: OutputFolder, about: ExportAbout, entries: Sequence[Entry]) -> None:
    """Write the shapes of each image, and ``labels.txt``."""
    names = names_of(about, *IGNORED)
    for entry in entries:
        shapes = [
            {"label": names[class_id], "flags": {}, "description": "", **shape}
            for class_id, shape in entry["shapes"]
        ]
        content = {
            "version": VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": entry["image"],
            "imageData": None,
            "imageHeight": entry["height"],
            "imageWidth": entry["width"],
        }
        write_json(folder, f"{entry['file']}.json", content, indent=1)
    listed = (*IGNORED, *names.values())
    write_text(folder, CARD, "".join(f"{name}\n" for name in listed))


def _shape(piece: BoolArray) -> Entry:
    """One piece of an object, or all where these are too many, exactly."""
    (outer, holes), *more = pixel_rings(piece)
    if not (more or holes) and len(outer) >= 3:
        return {"shape_type": "polygon", "points": outer.astype(float).tolist()}
    box = mask_to_box(piece)
    assert box is not None
    x0, y0, x1, y1 = (int(side) for side in box)
    encoded = BytesIO()
    Image.fromarray(piece[y0 : y1 + 1, x0 : x1 + 1].astype(np.uint8) * 255).save(encoded, "PNG")
    text = base64.b64encode(encoded.getvalue()).decode()
    points = [[float(x0), float(y0)], [float(x1), float(y1)]]
    return {"shape_type": "mask", "points": points, "mask": text}


def recognises(path: Path) -> bool:
    """A JSON file with shapes, or a folder with such."""
    files = [path] if path.is_file() else sorted(path.glob("*.json"))
    return any(file.suffix.lower() == ".json" and holds(file, b'"shapes"') for file in files)


def read(path: Path) -> LabelSet:
    """All files with shapes; a shape without an area is left out, and said."""
    folder = path if path.is_dir() else path.parent
    files = files_below(path, ".json") if path.is_dir() else [path]
    files = [file for file in files if holds(file, b'"shapes"')]
    if not files:
        raise DatasetError(path, "no labelme files here: expected JSON with shapes")
    listed = folder / CARD
    names = read_bytes(listed).decode("utf-8", "replace").split("\n") if listed.is_file() else []
    names = [name.strip() for name in names if name.strip() and name.strip() not in IGNORED]
    images, left_out = [], 0
    broken: list[LabelledImage] = []
    for file in files:
        try:
            content = read_json(file)
            shapes = _shapes(file, content)
        except DatasetError as error:
            broken.append(unreadable(file, error))
            continue
        left_out += sum(shape["shape_type"] not in AREAS for shape in shapes)
        names += [shape["label"] for shape in shapes if shape["shape_type"] in AREAS]
        own = str(content.get("imagePath") or file.stem).replace("\\", "/").rpartition("/")[2]
        images.append((file, own))
    names = list(dict.fromkeys(class_name(name, 1) for name in names)) or ["object"]
    classes = classes_named(dict(enumerate(names, start=1)))
    what = "shapes have no area (lines, points) and were left out"
    read_images = [
        LabelledImage(file, (own, file.stem), _reader(file, classes)) for file, own in images
    ]
    return LabelSet(
        [*read_images, *broken],
        classes,
        last_on_top=True,
        notes=(f"{left_out} {what}",) if left_out else (),
    )


def _shapes(file: Path, content: Any) -> list[Any]:
    """The shapes of a file; their kinds and labels are text.

    Raises:
        DatasetError: it has none.
    """
    with malformed(file, "is no labelme file"):
        shapes = list(content["shapes"])
        for shape in shapes:
            shape["label"] = str(shape["label"])
            shape["shape_type"] = str(shape.get("shape_type") or "polygon")
        content.get("imagePath")
    return shapes


def _reader(file: Path, classes: Sequence[LabelClass]) -> Any:
    """What reads the objects of one file; it is read again, for it may hold the picture too."""
    numbers = {item.name: item.class_id for item in classes}

    def read_objects(size_hw: tuple[int, int]) -> list[LabelledObject]:
        content = read_json(file)
        shapes = [each for each in _shapes(file, content) if each["shape_type"] in AREAS]
        own = (content.get("imageHeight") or size_hw[0], content.get("imageWidth") or size_hw[1])
        with malformed(file, "has a size that is none"):
            own = checked_size(file, own, size_hw)
        masks: dict[Any, tuple[int, BoolArray]] = {}
        keys = [_key(number, shape) for number, shape in enumerate(shapes)]
        check_count(file, len(set(keys)), size_hw)
        for number, (key, shape) in enumerate(zip(keys, shapes, strict=True), start=1):
            with malformed(file, f"shape {number} is none"):
                if number > MAX_POLYGONS:
                    raise ValueError(f"more than {MAX_POLYGONS} shapes")
                mask = _mask(shape, own)
                if key in masks:
                    mask = mask | masks[key][1]
                masks[key] = numbers[class_name(shape["label"], 1)], mask
        return [
            LabelledObject(value, at_size(file, mask, size_hw)) for value, mask in masks.values()
        ]

    return read_objects


def _key(number: int, shape: Any) -> object:
    """What shapes of one object have in common."""
    group = shape.get("group_id")
    return number if group is None else (shape["label"], str(group))


def _mask(shape: Any, size_hw: tuple[int, int]) -> BoolArray:
    """The pixels of a shape, as labelme draws it.

    Raises:
        ValueError, KeyError, TypeError: it is none.
    """
    kind, points = shape["shape_type"], shape["points"]
    if kind in ("polygon", "oriented_rectangle"):
        return pixels_mask(points, size_hw)
    (x0, y0), (x1, y1) = ((float(x), float(y)) for x, y in points)
    if not all(map(math.isfinite, (x0, y0, x1, y1))):
        raise ValueError("points that are no numbers")
    mask = np.zeros(size_hw, bool)
    if kind == "circle":
        radius = math.hypot(x1 - x0, y1 - y0)
        rows, columns = np.ogrid[: size_hw[0], : size_hw[1]]
        return (columns - x0) ** 2 + (rows - y0) ** 2 <= (radius + 0.5) ** 2
    if kind == "rectangle":
        corners = [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]
        return pixels_mask(corners, size_hw)
    with Image.open(BytesIO(base64.b64decode(shape["mask"])), formats=("PNG",)) as picture:
        if picture.size[0] * picture.size[1] > 4 * size_hw[0] * size_hw[1]:
            raise ValueError(f"a mask of {picture.size[0]}x{picture.size[1]} pixels")
        part = np.asarray(picture.convert("L")) > 0
    top, left = round(min(y0, y1)), round(min(x0, x1))
    first = max(0, -top), max(0, -left)
    part = part[first[0] :, first[1] :]
    place = mask[max(0, top) :, max(0, left) :]
    height, width = min(part.shape[0], place.shape[0]), min(part.shape[1], place.shape[1])
    place[:height, :width] = part[:height, :width]
    return mask
