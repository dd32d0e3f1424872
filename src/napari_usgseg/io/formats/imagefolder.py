"""Format "imagefolder": what ``datasets.load_dataset("imagefolder", data_dir=...)`` loads.

    train/images/<id>.png  train/masks/<id>.png  train/metadata.jsonl   validation/  test/
    classes.json

A line of ``metadata.jsonl`` is an image: ``file_name``, ``mask_file_name`` (both become pictures),
``id``, ``group``, its pixel's size, and ``objects`` with ``bbox`` (x, y, width, height) and
``categories``. Masks hold class numbers, or codes (class number * 1000 + n) where objects were told
apart.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...core.errors import DatasetError, FileError
from ...core.geometry import mask_to_box
from ...core.types import LabelClass
from ..labels import (
    CLASSES_FILE,
    LABELLINGS,
    Labelling,
    class_of,
    read_classes,
    read_labels,
    values_in,
    write_classes,
    write_png,
)
from ..masks import fitted
from ..names import NameFinder
from ..outputs import OutputFolder
from ..search import IMAGE_SUFFIXES
from .objects import (
    classes_named,
    colors_of,
    image_entry,
    labelling_of,
    malformed,
    objects_in,
    objects_of,
    read_bytes,
    unreadable,
    write_picture,
    write_text,
)
from .records import Entry, ExportAbout, ExportImage, LabelledImage, LabelledObject, LabelSet

FOLDERS = {"train": "train", "val": "validation", "test": "test"}
CARD = "metadata.jsonl"
MASKS = (
    "mask_file_name",
    "mask",
    "label_file_name",
    "segmentation_file_name",
    "annotation_file_name",
)
"""Names of the column that other people's masks are in."""


def write_image(folder: OutputFolder, item: ExportImage) -> Entry:
    """Write the image and its mask."""
    place = FOLDERS[item.side]
    file = write_picture(folder, f"{place}/images", item)
    labels = item.labels if item.codes is None else item.codes
    path = folder.root / place / "masks" / file
    small = item.codes is None and labels.max() < 256
    write_png(path, labels.astype("uint8" if small else "uint16"), folder.write)
    boxes, categories = [], []
    for class_id, mask in objects_of(item):
        x0, y0, x1, y1 = (int(side) for side in mask_to_box(mask))  # type: ignore[union-attr]
        boxes.append([x0, y0, x1 - x0 + 1, y1 - y0 + 1])
        categories.append(class_id)
    about = {k: v for k, v in image_entry(item).items() if k not in ("file", "side")}
    line = {"file_name": f"images/{file}", "mask_file_name": f"masks/{file}", **about}
    line["labelling"] = "semantic" if item.codes is None else "instance"
    return {
        "side": item.side,
        "line": line | {"objects": {"bbox": boxes, "categories": categories}},
    }


def write_card(folder: OutputFolder, about: ExportAbout, entries: Sequence[Entry]) -> None:
    """Write ``metadata.jsonl`` of each side, and ``classes.json``."""
    lines: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        lines[FOLDERS[entry["side"]]].append(json.dumps(entry["line"], ensure_ascii=False) + "\n")
    for place, texts in lines.items():
        write_text(folder, f"{place}/{CARD}", "".join(texts))
    colors = colors_of(about)
    classes = [LabelClass(value, name, colors[value]) for value, name in about.labels.items()]
    write_classes(folder.root / CLASSES_FILE, classes, folder.write)


def recognises(path: Path) -> bool:
    """A ``metadata.jsonl``, or a folder with one in it or in the folders of its sides."""
    return bool(_cards(path))


def _cards(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.name == CARD else []
    return [*path.glob(CARD), *sorted(path.glob(f"*/{CARD}"))]


def read(path: Path) -> LabelSet:
    """All images with masks; a line without one is left out, and said."""
    cards = _cards(path)
    if not cards:
        raise DatasetError(path, f"no imagefolder here: expected {CARD}")
    root = path if path.is_dir() else path.parent
    rows, broken, bare = [], [], 0
    for card in cards:
        finder = NameFinder(card.parent, IMAGE_SUFFIXES)
        for number, line in enumerate(read_bytes(card).decode("utf-8", "replace").splitlines(), 1):
            if not line.strip():
                continue
            try:
                row = _row(card, number, line)
                name = next((str(row[key]) for key in MASKS if row.get(key)), None)
                mask = None if name is None or ".." in Path(name).parts else finder.find(name)
            except DatasetError as error:
                broken.append(unreadable(card, error))
                continue
            if mask is None:
                bare += 1
            else:
                rows.append((row, mask))
    listed = (place / CLASSES_FILE for place in (root, root.parent))
    classes = next((read_classes(each) for each in listed if each.is_file()), None)
    said = [row["labelling"] for row, _ in rows]
    values: set[int] = set()
    if classes is None or None in said:  # what they do not say the masks do
        for _, mask in rows:
            with suppress(FileError):  # which is said when it is its turn
                values.update(values_in(read_labels(mask)))
    kind = labelling_of(values)
    told_apart = "instance" in (*said, kind)
    if classes is None:
        used = {class_of(value, "instance" if told_apart else "semantic") for value in values}
        classes = [*classes_named(dict.fromkeys(sorted(used), ""))]
    images = [
        LabelledImage(
            mask,
            (str(row.get("id") or row["file_name"]), Path(str(row["file_name"])).name),
            _reader(mask, row["labelling"] or kind),
        )
        for row, mask in rows
    ]
    notes = (f"{bare} images have no mask there and were left out",) if bare else ()
    return LabelSet([*images, *broken], classes, told_apart, notes=notes)


def _row(card: Path, number: int, line: str) -> Any:
    with malformed(card, f'line {number} is none; expected {{"file_name": "..."}}'):
        row = json.loads(line)
        str(row["file_name"])
        said = row.get("labelling")
        return row | {"labelling": said if said in LABELLINGS else None}


def _reader(mask: Path, labelling: Labelling) -> Any:
    def read_objects(size_hw: tuple[int, int]) -> list[LabelledObject]:
        return objects_in(mask, fitted(mask, read_labels(mask), size_hw), labelling)

    return read_objects
