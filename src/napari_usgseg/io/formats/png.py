"""Format "png": images/, masks/ and dataset.json, the layout that evaluate and train read.

    images/<id>.png   masks/<id>.png     label maps of class numbers
    instances/<id>.png                   16 bits: class number * 1000 + n, where told apart
    classes.json      dataset.json

Label maps alone come in too, in a folder or a single one: one that another program made has the
name of its image.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import DatasetError
from ...core.types import LabelClass
from .. import datasets
from ..images import card_entry
from ..labels import CLASSES_FILE, default_color, read_classes, read_labels, write_classes
from ..labels import write_png as write_pixels
from ..masks import as_labels, fitted, read_mask_file
from ..outputs import OutputFolder
from ..search import IMAGE_SUFFIXES
from .objects import files_below, folder_of, holds, objects_in, own_classes
from .records import Entry, ExportAbout, ExportImage, LabelledImage, LabelledObject, LabelSet

INSTANCES = "instances"
MOST_VALUES = 64
"""A picture of more values is no label map."""


def write_image(folder: OutputFolder, item: ExportImage) -> Entry:
    """Write the image, its label map, and its objects' codes where there are any."""
    datasets.write_pair(folder.root, item.file_name, item.image, item.labels, folder.write)
    if item.codes is not None:
        path = folder.root / INSTANCES / f"{item.file_name}.png"
        write_pixels(path, item.codes.astype("uint16"), folder.write)  # also where all are 0
    return datasets.image_entry(
        item.image_id,
        item.group,
        item.labels,
        source=item.source,
        pixel_size_mm=card_entry(item.spacing_mm),
    )


def write_card(folder: OutputFolder, about: ExportAbout, entries: Sequence[Entry]) -> None:
    """Write ``classes.json`` and ``dataset.json``."""
    write_classes(folder.root / CLASSES_FILE, about.classes, folder.write)
    datasets.write_card(
        folder.root,
        folder.write,
        name=about.name,
        organ=about.organ,
        target=about.target,
        labels=about.labels,
        items=entries,
        labelling=about.labelling,
        more={"licence": about.licence} if about.licence else None,
    )


def recognises(path: Path) -> bool:
    """A folder with a card that has items, Sam2Rad's layout, or the card itself."""
    folder = folder_of(path, datasets.DATASET_CARD)
    card = folder / datasets.DATASET_CARD
    return holds(card, b'"items"') if card.is_file() else datasets.is_dataset(folder)


def read(path: Path) -> LabelSet:
    """The items of a data set; label maps alone where there is no card."""
    folder = folder_of(path, datasets.DATASET_CARD)
    if not recognises(folder):
        return read_maps(path)
    found = datasets.read_dataset(folder)
    told_apart = (folder / INSTANCES).is_dir()
    classes = [LabelClass(v, n, default_color(v)) for v, n in sorted(found.labels.items())]

    def image(item: datasets.DatasetItem) -> LabelledImage:
        def objects(size_hw: tuple[int, int]) -> Sequence[LabelledObject]:
            labels = datasets.read_mask(item, size_hw)
            codes = folder / INSTANCES / item.mask_path.name
            if not codes.is_file():
                return objects_in(item.mask_path, labels, "semantic")
            return objects_in(codes, fitted(codes, read_labels(codes), size_hw), "instance")

        return LabelledImage(item.mask_path, (item.item_id, item.image_path.name), objects)

    images = [image(item) for item in found.items]
    return LabelSet(images, own_classes(folder / CLASSES_FILE, classes), told_apart)


def read_maps(path: Path) -> LabelSet:
    """Label maps in a folder, or a single one; ``classes.json`` beside them names the values.

    Raises:
        DatasetError: there is none.
    """
    folder = path if path.is_dir() else path.parent
    files = files_below(path, *IMAGE_SUFFIXES) if path.is_dir() else [path]
    try:
        classes = {item.class_id: item for item in read_classes(folder / CLASSES_FILE)}
    except DatasetError:
        classes = {}
    named = bool(classes)
    usable, odd = [], 0
    for file in files:
        try:
            values = np.unique(read_mask_file(file).values)
        except (DatasetError, OSError):
            odd += 1
            continue
        if not named and (len(values) > MOST_VALUES):
            odd += 1
            continue
        usable.append((file, values))
    if not usable:
        raise DatasetError(path, "holds no label map: expected grey PNG files of class numbers")
    if not named:
        numbers = sorted({int(v) for _, values in usable for v in values if v == int(v) > 0})
        numbers = [1] if numbers == [255] else numbers
        classes = {v: LabelClass(v, f"label {v}", default_color(v)) for v in numbers}

    def image(file: Path) -> LabelledImage:
        def objects(size_hw: tuple[int, int]) -> Sequence[LabelledObject]:
            labels: Any = as_labels(file, read_mask_file(file), sorted(classes))
            return objects_in(file, fitted(file, labels, size_hw), "semantic")

        name = file.relative_to(folder).as_posix()
        return LabelledImage(file, (name, file.name), objects)

    notes = (f"{odd} files are no label maps and were left out",) if odd else ()
    images = [image(file) for file, _ in usable]
    return LabelSet(images, list(classes.values()), told_apart=False, notes=notes)
