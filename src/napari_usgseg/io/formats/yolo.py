"""Formats "yolo" and "yolo-boxes": data.yaml, images/<side>/, labels/<side>/ (Ultralytics).

A line of labels/<side>/<id>.txt is an object: the class from 0, then its polygon or its box
(centre, width, height), all from 0 to 1. YOLO draws polygons with their line, so points are pixels
at the rim, a quarter of a pixel inside: who cuts off and who rounds gets the same pixel. A polygon
has one part, so an object of several pieces becomes several; a hole is joined to the rim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ...core.errors import DatasetError
from ...core.geometry import mask_to_box
from ...core.types import BoolArray
from ..labels import MAX_LABEL
from ..outputs import OutputFolder
from .objects import (
    box_of,
    check_count,
    classes_named,
    files_below,
    image_entry,
    malformed,
    numbered,
    objects_of,
    read_bytes,
    write_json,
    write_picture,
    write_text,
)
from .polygons import joined, pixel_rings, pixels_mask
from .records import Entry, ExportAbout, ExportImage, LabelledImage, LabelledObject, LabelSet

CARD = "data.yaml"
INSIDE = 0.25
"""How far in its pixel a point is: what is cut off or rounded is the pixel's number."""
PLACES_OF_LABELS = {"labels", "obj_train_data", "obj_valid_data", "obj_test_data"}
LISTS = ("classes.txt", "train.txt", "val.txt", "test.txt")
MAX_CARD_BYTES = 1 << 18
"""A list of classes of more bytes is none: aliases of YAML can make much of little."""
PLACES = 6
"""Decimals of a coordinate; 1e-6 of 65,536 pixels is less than ``INSIDE``."""


@dataclass(frozen=True, slots=True)
class Yolo:
    """The format, with polygons or boxes."""

    boxes: bool

    def write_image(self, folder: OutputFolder, item: ExportImage) -> Entry:
        """Write the image; its lines follow with the card, which knows the classes' places."""
        write_picture(folder, f"images/{item.side}", item)
        lines: list[tuple[int, str]] = []
        for class_id, mask in objects_of(item):
            lines += [(class_id, line) for line in self._lines(mask)]
        return image_entry(item) | {"lines": lines}

    def _lines(self, mask: BoolArray) -> list[str]:
        height, width = mask.shape
        if self.boxes:
            box = mask_to_box(mask)
            if box is None:
                return []
            x0, y0, x1, y1 = (float(side) for side in box)
            sides = (x0 + x1 + 1) / 2 / width, (y0 + y1 + 1) / 2 / height
            return [_text([*sides, (x1 - x0 + 1) / width, (y1 - y0 + 1) / height])]
        lines = []
        for outer, holes in pixel_rings(mask):
            rim = joined(outer, holes)
            rim = np.resize(rim, (max(len(rim), 3), 2))  # a pixel is a polygon of three points
            lines.append(_text(((rim + INSIDE) / (width, height)).ravel().tolist()))
        return lines

    def write_card(
        self, folder: OutputFolder, about: ExportAbout, entries: Sequence[Entry]
    ) -> None:
        """Write the lines of each image, and ``data.yaml``."""
        places = numbered(about)
        for entry in entries:
            text = "".join(f"{places[class_id]} {line}\n" for class_id, line in entry["lines"])
            write_text(folder, f"labels/{entry['side']}/{entry['file']}.txt", text)
        sides = {entry["side"] for entry in entries}
        card: dict[str, Any] = {"path": ".", "train": "images/train"}
        card["val"] = "images/val" if "val" in sides else "images/train"
        card |= {"test": "images/test"} if "test" in sides else {}
        card["nc"] = len(places)
        card["names"] = [about.labels[value] for value in places]  # JSON is YAML, too
        write_json(folder, CARD, card, indent=1)

    def recognises(self, path: Path) -> bool:
        """A ``data.yaml``, or a folder with one, or with a list of classes and labels."""
        return _card(path) is not None

    def read(self, path: Path) -> LabelSet:
        """All label files below the card's folder."""
        return _read(path)


POLYGONS, BOXES = Yolo(boxes=False), Yolo(boxes=True)
write_image, write_card = POLYGONS.write_image, POLYGONS.write_card
recognises, read = POLYGONS.recognises, POLYGONS.read


def _text(numbers: Sequence[float]) -> str:
    return " ".join(f"{number:.{PLACES}f}" for number in numbers)


def _card(path: Path) -> Path | None:
    if path.is_file():
        return path if path.suffix.lower() in (".yaml", ".yml", ".names") else None
    cards = [path / CARD, *sorted(path.glob("*.y*ml")), path / "classes.txt"]
    cards += [path / "labels" / "classes.txt", path / "obj.names"]
    return next((each for each in cards if each.is_file()), None)


def _names(card: Path) -> dict[int, str]:
    """Number from 0 on -> name: a list, a name a line, or numbers with their names.

    Raises:
        DatasetError: the card names none.
    """
    data = read_bytes(card)
    if len(data) > MAX_CARD_BYTES:
        raise DatasetError(card, f"has {len(data)} bytes; expected a list of classes")
    text = data.decode("utf-8-sig", "replace")
    if card.suffix in (".txt", ".names"):  # a line left empty keeps its number
        return dict(enumerate(text.rstrip().splitlines()))
    with malformed(card, "names no classes; expected names: [...]"):
        try:
            # all scalars as text: to YAML "no", "1.0" and "2024-01-01" are no names
            names = yaml.load(text, yaml.BaseLoader)["names"]
        except yaml.YAMLError as error:
            raise ValueError(f"no YAML: {error}") from error
        found = dict(names) if isinstance(names, dict) else dict(enumerate(names))
        numbers = {int(number): name for number, name in found.items()}
        plain = not isinstance(names, str) and all(isinstance(n, str) for n in numbers.values())
        if not plain or not all(0 <= number < MAX_LABEL for number in numbers):
            raise ValueError(f"expected names with numbers from 0 to {MAX_LABEL - 1}")
    return dict(sorted(numbers.items()))


def _read(path: Path) -> LabelSet:
    card = _card(path)
    if card is None:
        raise DatasetError(path, f"no YOLO data set here: expected {CARD} and labels/")
    names = _names(card)
    classes = classes_named({number + 1: name for number, name in names.items()})
    folder = card.parent
    root = folder / "labels" if (folder / "labels").is_dir() else folder
    files = [file for file in files_below(root, ".txt") if file.name not in LISTS]
    if root == folder:  # train/images and train/labels, or all beside one another
        below = [file for file in files if PLACES_OF_LABELS & {*file.relative_to(folder).parts}]
        files = below or [file for file in files if not file.name.lower().startswith("readme")]
    if not files:
        raise DatasetError(folder, "no label files here: expected labels/<side>/<image>.txt")

    def image(file: Path) -> LabelledImage:
        name = file.relative_to(root).with_suffix("").as_posix()
        return LabelledImage(
            file, (file.stem, name), lambda size_hw: _objects(file, size_hw, names)
        )

    return LabelSet([image(file) for file in files], classes)


def _objects(
    file: Path, size_hw: tuple[int, int], names: Mapping[int, str]
) -> list[LabelledObject]:
    found = []
    text = read_bytes(file).decode("utf-8-sig", "replace")
    lines = [line for line in text.splitlines() if line.strip()]
    check_count(file, len(lines), size_hw)
    for number, line in enumerate(lines, start=1):
        with malformed(file, f"line {number} is no object"):
            first, *rest = (float(part) for part in line.split())
            if first not in names:
                raise ValueError(f"the class {first:g}; expected one of {[*names][:20]}")
            found.append(_object(int(first) + 1, rest, size_hw))
    return found


def _object(class_id: int, rest: list[float], size_hw: tuple[int, int]) -> LabelledObject:
    height, width = size_hw
    if len(rest) in (4, 5):  # the fifth is a prediction's score
        x, y, w, h = rest[:4]
        corners = ((x - w / 2) * width, (y - h / 2) * height)
        ends = ((x + w / 2) * width - 1, (y + h / 2) * height - 1)
        return LabelledObject(class_id, None, box_of([*corners, *ends]))
    if len(rest) < 6:
        raise ValueError(f"{len(rest) + 1} numbers; expected a box's 5, or a polygon's 7 or more")
    # Coordinates have a few decimals: 0.05 of a pixel keeps a rounded-down one from falling into
    # the pixel before.
    points = np.array(rest[: len(rest) // 2 * 2]).reshape(-1, 2) * (width, height)
    return LabelledObject(class_id, pixels_mask(np.floor(points + 0.05), size_hw))
