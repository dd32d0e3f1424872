"""Conversions between the protocol's layout and those of the two source systems.

GroundingDINO-US-SAM, a CSV a side with one row a box (README.md and DatabaseScrtips/dataSaver.py of
its repository):

    train.CSV  val.CSV  test.CSV      train/  val/  test_image/  test_mask/
    label_name,bbox_x,bbox_y,bbox_width,bbox_height,image_name,image_width,image_height,dataset

Boxes are in whole pixels, the first one and how many, as OpenCV's ``boundingRect`` gives them.
Image names are in small letters and begin with the data set's. Masks (0 and 255) are there for the
test side only.

Sam2Rad, whose masks hold label values 1.. as ours do (it has no ``classes.json``, their names):

    Train/{imgs,gts}/<id>.png      Test/{imgs,gts}/<id>.png      classes.json

``io.datasets.read_dataset`` reads Sam2Rad's and ours. Files of an id that is no plain file name
have a safe one.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import DatasetError, FileError, readable
from ...core.geometry import components, mask_to_box
from ...core.types import BoolArray, LabelClass
from ...io.datasets import (
    DATASET_CARD,
    SIDES,
    Dataset,
    DatasetItem,
    Split,
    card_ids,
    image_entry,
    read_pair,
    write_card,
    write_pair,
    write_splits,
)
from ...io.formats import DEFAULT_ORGAN
from ...io.images import card_entry, read_image
from ...io.labels import (
    CLASSES_FILE,
    LabelMap,
    default_color,
    values_in,
    write_classes,
    write_image,
    write_labels,
    write_png,
)
from ...io.masks import object_mask
from ...io.names import safe_file_names, same_name_key
from ...io.outputs import OutputFolder
from ...io.tables import read_table
from .finding import Remark
from .registry import find_dataset

COLUMNS = (
    "label_name", "bbox_x", "bbox_y", "bbox_width", "bbox_height",
    "image_name", "image_width", "image_height", "dataset",
)  # fmt: skip
FROM_BOX = "box"
"""What ``mask_from`` of an item says where its mask is the filled box."""


class _Conversion:
    """A data set on its way into a folder that holds nothing else.

    Args:
        dataset: what is read.
        out: the folder.
        overwrite: replace an earlier conversion that nobody changed since.
        split: where given, items on none of its sides are remarked on.

    Raises:
        LabelWriteError: the folder holds anything else, or what the data set is read from.
    """

    def __init__(
        self, dataset: Dataset, out: Path, overwrite: bool, split: Split | None = None
    ) -> None:
        reads = [path for item in dataset.items for path in (item.image_path, item.mask_path)]
        self.folder = OutputFolder(out, reads=reads, overwrite=overwrite)
        self.folder.check_only_own()
        self.dataset = dataset
        self.files = safe_file_names(item.item_id for item in dataset.items)
        self.names = dict(dataset.labels)
        """Of each label value, those included that only a mask has."""
        sides = {*split.train, *split.val, *split.test} if split else self.files
        self.remarks = [
            Remark("missing", item.item_id, "on no side of the split")
            for item in dataset.items
            if item.item_id not in sides
        ]

    def read(
        self, ids: Iterable[str] | None = None
    ) -> Iterator[tuple[DatasetItem, NDArray[np.uint8], LabelMap]]:
        """Items with image (H, W, 3) and labels (H, W); one that fails is remarked on."""
        for item in self.dataset.items if ids is None else self.dataset.only(ids).items:
            try:
                image, labels = read_pair(item)
            except FileError as error:
                self.remarks.append(Remark("failed", item.item_id, str(error)))
                continue
            for value in values_in(labels):
                self.names.setdefault(value, f"label {value}")
            yield item, image, labels

    def check_any(self, count: int) -> None:
        """Refuse a data set of which ``count`` items, none, could be used; say why the first not.

        Raises:
            DatasetError: there are none.
        """
        if not count:
            why = f"; the first: {self.remarks[0].text}" if self.remarks else ""
            raise DatasetError(self.dataset.name, f"no image of it could be used{why}")


def write_png_layout(
    dataset: Dataset, out: Path, *, overwrite: bool = False
) -> tuple[int, tuple[Remark, ...]]:
    """Write a data set in the layout of the protocol; an item that fails stops no other.

    Returns:
        How many images, and remarks on those that were left out.

    Raises:
        DatasetError: no item could be used.
        LabelWriteError: ``out`` holds anything else, or a file cannot be written.
    """
    made = _Conversion(dataset, out, overwrite)
    folder, ids = made.folder, card_ids(made.files)
    items: list[dict[str, Any]] = []
    for item, image, labels in made.read():
        folder.remove(out / DATASET_CARD)  # what is cut off is no data set
        write_pair(out, made.files[item.item_id], image, labels, folder.write)
        more = {"finding": item.finding, "pixel_size_mm": card_entry(item.spacing_mm)}
        items.append(image_entry(ids[item.item_id], item.group, labels, **more))
    made.check_any(len(items))
    write_card(
        out, folder.write, name=dataset.name, organ=dataset.organ, target=dataset.target,
        labels=made.names, items=items,
    )  # fmt: skip
    folder.remove_others()
    return len(items), tuple(made.remarks)


def write_sam2rad(
    dataset: Dataset, split: Split, out: Path, *, overwrite: bool = False
) -> tuple[str, tuple[Remark, ...]]:
    """Write a data set as Sam2Rad's folders: training and validation to Train, test to Test.

    Images become 8-bit PNGs by the rule of ``io.images``, masks what is read of them.

    Returns:
        How many images are in each, and remarks on those that were left out.

    Raises:
        DatasetError: no item could be used.
        LabelWriteError: ``out`` holds anything else, or a file cannot be written.
    """
    made = _Conversion(dataset, out, overwrite, split)
    write = made.folder.write
    counts = {"Train": 0, "Test": 0}
    for side, ids in (("Train", {*split.train, *split.val}), ("Test", set(split.test))):
        for item, image, labels in made.read(ids):
            file = f"{made.files[item.item_id]}.png"
            write_image(out / side / "imgs" / file, image, write)
            write_labels(out / side / "gts" / file, labels, write)
            counts[side] += 1
    made.check_any(sum(counts.values()))
    classes = [
        LabelClass(value, readable(name).strip() or f"label {value}", default_color(value))
        for value, name in made.names.items()
    ]
    write_classes(out / CLASSES_FILE, classes, write)
    made.folder.remove_others()
    return f"Train {counts['Train']}, Test {counts['Test']} images", tuple(made.remarks)


def write_source_csv(
    dataset: Dataset, split: Split, out: Path, *, overwrite: bool = False
) -> tuple[str, tuple[Remark, ...]]:
    """Write a data set as GroundingDINO-US-SAM's, one row for each object of each label.

    A data set of several labels gives each image once for each of its labels, as the source
    system's own scripts do, with the label in the name. An image without an object has no row.

    Returns:
        How many boxes of how many images, and remarks on those that were left out.

    Raises:
        DatasetError: no item could be used.
        LabelWriteError: ``out`` holds anything else, or a file cannot be written.
    """
    made = _Conversion(dataset, out, overwrite, split)
    folder, names = made.folder, _image_names(dataset)
    rows: dict[str, list[list[object]]] = {side: [] for side in SIDES}
    images = 0
    for side in SIDES:
        for item, image, labels in made.read(getattr(split, side)):
            for table in SIDES:
                folder.remove(out / f"{table}.CSV")  # what is cut off is none, not half of each
            size = [labels.shape[1], labels.shape[0], readable(dataset.name.lower())]
            before = images
            for value in dataset.labels:
                mask = labels == value
                boxes = [box for part in components(mask) if (box := mask_to_box(part)) is not None]
                if not boxes:
                    continue
                images += 1
                name = f"{names[item.item_id, value]}.png"
                write_image(
                    out / ("test_image" if side == "test" else side) / name, image, folder.write
                )
                if side == "test":
                    marked = mask.astype(np.uint8) * 255
                    write_png(out / "test_mask" / name, marked, folder.write)
                phrase = readable(dataset.phrase(value))
                for x0, y0, x1, y1 in (map(int, box) for box in boxes):
                    rows[side].append([phrase, x0, y0, x1 - x0 + 1, y1 - y0 + 1, name, *size])
            if images == before:
                why = "shows none of the labels, and this layout has rows of objects only"
                made.remarks.append(Remark("missing", item.item_id, why))
    made.check_any(images)
    for side, lines in rows.items():
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([list(COLUMNS), *lines])
        folder.write(out / f"{side}.CSV", text.getvalue().encode("utf-8"))
    folder.remove_others()
    return f"{sum(map(len, rows.values()))} boxes of {images} images", tuple(made.remarks)


def _image_names(dataset: Dataset) -> dict[tuple[str, int], str]:
    """The file name, without suffix, of each item and label; no two are one."""
    wanted: dict[tuple[str, int], str] = {}
    taken: set[str] = set()
    for item in dataset.items:
        for value, label in dataset.labels.items():
            word = f"_{label}" if len(dataset.labels) > 1 else ""
            plain = f"{dataset.name}_{item.item_id}{word}".lower().replace(" ", "_")
            name, number = plain, 2
            while same_name_key(name, ignore_case=True) in taken:
                name, number = f"{plain}-{number}", number + 1
            taken.add(same_name_key(name, ignore_case=True))
            wanted[item.item_id, value] = name
    safe = safe_file_names(wanted.values())
    return {key: safe[name] for key, name in wanted.items()}


@dataclass(slots=True)
class _Image:
    side: str
    boxes: list[tuple[str, tuple[int, int, int, int]]] = field(default_factory=list)


def is_source_csv(folder: Path) -> bool:
    """Whether a folder holds CSV files of GroundingDINO-US-SAM."""
    return folder.is_dir() and any(True for _ in _tables(folder))


def read_source_csv(
    folder: Path, out: Path, *, organ: str = DEFAULT_ORGAN, overwrite: bool = False
) -> tuple[int, tuple[Remark, ...]]:
    """Read GroundingDINO-US-SAM's, write ours: one data set in ``out``, several in folders of it.

    Where there is no mask, the filled box stands for it, and the item's ``mask_from`` says so:
    good for tuning a detector, not for measuring masks. ``splits.json`` keeps the sides.

    Returns:
        How many images, and remarks.

    Raises:
        DatasetError: no such files, not of these columns, or no image could be used.
        LabelWriteError: ``out`` holds anything else, or the result cannot be written.
    """
    remarks: list[Remark] = []
    files = _Files(folder)
    written = OutputFolder(out, reads=files, overwrite=overwrite)
    written.check_only_own()
    datasets = _read_rows(folder, remarks)
    folders = safe_file_names(datasets)
    total = 0
    for name, images in datasets.items():
        place = out if len(datasets) == 1 else out / folders[name]
        total += _write_ours(name, images, files, place, organ, written, remarks)
    if not total:
        why = f"; the first: {remarks[0].path}: {remarks[0].text}" if remarks else ""
        raise DatasetError(folder, f"no image of its CSV files could be used{why}")
    written.remove_others()
    return total, tuple(remarks)


def _tables(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() == ".csv" and path.stem.lower() in SIDES:
            yield path.stem.lower(), path


def _read_rows(folder: Path, remarks: list[Remark]) -> dict[str, dict[str, _Image]]:
    """Data set -> image name -> its side and boxes; the test side wins over the others."""
    datasets: dict[str, dict[str, _Image]] = {}
    for side, path in _tables(folder):
        for number, row in enumerate(read_table(path), start=2):
            try:
                x, y, width, height = (
                    round(float(row[f"bbox_{part}"])) for part in ("x", "y", "width", "height")
                )
                name, label = row["image_name"], row["label_name"]
                images = datasets.setdefault(row["dataset"] or "dataset", {})
            except KeyError as error:
                columns = ", ".join(COLUMNS)
                raise DatasetError(path, f"no column {error}; expected {columns}") from error
            except ValueError as error:
                remarks.append(Remark("failed", path.name, f"row {number}: {error}"))
                continue
            image = images.setdefault(name, _Image(side))
            if image.side != side:
                text = f"{name} is on the sides {image.side} and {side}; it counts for the latter"
                remarks.append(Remark("odd", path.name, f"row {number}: {text}"))
                image.side = max(side, image.side, key=SIDES.index)
            if width < 1 or height < 1:
                text = f"row {number}: a box of {width} x {height} pixels"
                remarks.append(Remark("failed", path.name, text))
            elif (label, (x, y, width, height)) not in image.boxes:
                image.boxes.append((label, (x, y, width, height)))
    if not datasets:
        raise DatasetError(folder, "no row in train.CSV, val.CSV or test.CSV")
    return datasets


def _write_ours(
    name: str,
    images: dict[str, _Image],
    files: _Files,
    out: Path,
    organ: str,
    folder: OutputFolder,
    remarks: list[Remark],
) -> int:
    words = list(dict.fromkeys(label for image in images.values() for label, _ in image.boxes))
    values = {word: value for value, word in enumerate(words, 1)}
    own_ids = _item_ids(images)
    file_names = safe_file_names(own_ids.values())
    ids = card_ids(file_names)
    items: list[dict[str, Any]] = []
    sides: dict[str, list[str]] = {side: [] for side in SIDES}
    for file, image in images.items():
        if not image.boxes:  # its rows are named already
            remarks.append(Remark("failed", file, "has no box that can be used"))
            continue
        try:
            pixels, labels, from_box = _read_pair(file, image, files, values)
            folder.remove(out / DATASET_CARD)  # what is cut off is no data set
            write_pair(out, file_names[own_ids[file]], pixels, labels, folder.write)
        except FileError as error:
            remarks.append(Remark("failed", file, error.cause))
            continue
        item_id = ids[own_ids[file]]
        mask_from = FROM_BOX if from_box else None
        items.append(image_entry(item_id, item_id, labels, source=file, mask_from=mask_from))
        sides[image.side].append(item_id)
    if items:
        known = find_dataset(name)
        write_card(
            out, folder.write, name=name, organ=known.organ if known else organ, target=words[0],
            labels={value: word for word, value in values.items()}, items=items,
        )  # fmt: skip
        split = Split(*(tuple(sorted(sides[side])) for side in SIDES))
        write_splits({name: split}, out / "splits.json", write=folder.write)
    boxed = sum("mask_from" in item for item in items)
    if boxed:
        text = f"{boxed} of {len(items)} masks are the filled boxes: for detectors, not for masks"
        remarks.append(Remark("odd", name, text))
    return len(items)


def _item_ids(files: Iterable[str]) -> dict[str, str]:
    """An id for each image by its name: the name without suffix; all of it where two are one so.

    A name with folders ("p1/a.png") gives an id with them.
    """
    stems = {file: re.sub(r"\.\w{1,5}$", "", file.replace("\\", "/")) for file in files}
    counts = Counter(stems.values())
    ids = {file: stem if counts[stem] == 1 else file for file, stem in stems.items()}
    return ids if len(set(ids.values())) == len(ids) else {file: file for file in ids}


def _read_pair(
    file: str, image: _Image, files: _Files, values: dict[str, int]
) -> tuple[NDArray[np.uint8], NDArray[Any], bool]:
    """The image, its labels, and whether boxes stand for masks."""
    path = files.find(file, image.side, "image")
    if path is None:
        raise DatasetError(file, f"no such image in {image.side}/ or {image.side}_image/")
    pixels = read_image(path)
    height, width = pixels.shape[:2]
    labels: NDArray[Any] = np.zeros((height, width), np.uint16)
    mask_path = files.find(file, image.side, "mask")
    mask: BoolArray = np.ones((height, width), bool)
    if mask_path is not None:
        mask = object_mask(mask_path, (height, width))
    for label, (x, y, box_width, box_height) in image.boxes:
        inside = (slice(max(0, y), y + box_height), slice(max(0, x), x + box_width))
        if x >= width or y >= height or x + box_width <= 0 or y + box_height <= 0:
            raise DatasetError(
                path, f"the box {x}, {y}, {box_width}, {box_height} is outside of it"
            )
        labels[inside][mask[inside]] = values[label]
    return pixels, labels, mask_path is None


class _Files:
    """The files of a source folder by their path below it; in small letters where that is sure."""

    def __init__(self, folder: Path) -> None:
        found = sorted(path for path in folder.rglob("*") if path.is_file())
        self._exact = {path.relative_to(folder).as_posix(): path for path in found}
        self._alike: dict[str, list[Path]] = {}
        for name, path in self._exact.items():
            self._alike.setdefault(same_name_key(name, ignore_case=True), []).append(path)

    def __iter__(self) -> Iterator[Path]:
        return iter(self._exact.values())

    def find(self, file: str, side: str, kind: str) -> Path | None:
        """Where an image or a mask is: of its own side first, then of the others.

        Raises:
            DatasetError: two files are meant alike.
        """
        folders = []
        for each in (side, *(other for other in SIDES if other != side)):
            folders += [f"{each}_{kind}", f"{each}/{each}_{kind}", f"{each}/{each}_{kind}s"]
            folders += [each] if kind == "image" else []
        names = [f"{folder}/{file}" for folder in folders]
        if kind == "image":
            names.append(file)
        else:
            names += [f"{name.rpartition('.')[0]}.png" for name in names]
        return next((path for name in names if (path := self._at(name)) is not None), None)

    def _at(self, name: str) -> Path | None:
        if name in self._exact:
            return self._exact[name]
        alike = self._alike.get(same_name_key(name, ignore_case=True), [])
        if len(alike) > 1:
            raise DatasetError(
                alike[0], f"or {alike[1].name} could be {name!r}; rename one, or write it exactly"
            )
        return alike[0] if alike else None
