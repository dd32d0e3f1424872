"""Data sets written in this layout, and in Sam2Rad's.

    Sam2Rad:  <out>/Train/{imgs,gts}/<id>.png  <out>/Test/{imgs,gts}/<id>.png  <out>/classes.json

Masks hold label values 1.. in both, and ``classes.json`` names them (Sam2Rad has no such file).
``io.datasets.read_dataset`` reads both. Files of an id that is no plain file name have a safe one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import DatasetError, FileError, readable
from ...core.types import LabelClass
from ...io.datasets import (
    CARD,
    Dataset,
    DatasetItem,
    Split,
    card_ids,
    image_entry,
    read_pair,
    write_card,
    write_pair,
)
from ...io.labels import (
    LabelMap,
    default_color,
    values_in,
    write_classes,
    write_image,
    write_labels,
)
from ...io.names import safe_file_names
from ...io.outputs import OutputFolder
from .finding import Remark


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
    folder = open_output(dataset, out, overwrite)
    files = safe_file_names(item.item_id for item in dataset.items)
    ids, names = card_ids(files), dict(dataset.labels)
    items: list[dict[str, Any]] = []
    remarks: list[Remark] = []
    for item, image, labels in read_items(dataset, remarks):
        folder.remove(out / CARD)  # what is cut off is no data set, and not half of each
        write_pair(out, files[item.item_id], image, labels, folder.write)
        for value in values_in(labels):
            names.setdefault(value, f"label {value}")
        more = {"finding": item.finding, "pixel_size_mm": item.spacing_mm}
        items.append(image_entry(ids[item.item_id], item.group, labels, **more))
    check_any(dataset, len(items), remarks)
    write_card(
        out, folder.write, name=dataset.name, organ=dataset.organ, target=dataset.target,
        labels=names, items=items,
    )  # fmt: skip
    folder.remove_others()
    return len(items), tuple(remarks)


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
    folder = open_output(dataset, out, overwrite)
    files = safe_file_names(item.item_id for item in dataset.items)
    sides = {"Train": {*split.train, *split.val}, "Test": set(split.test)}
    counts = dict.fromkeys(sides, 0)
    names = dict(dataset.labels)
    remarks = on_no_side(dataset, split)
    for side, ids in sides.items():
        for item, image, labels in read_items(dataset.only(ids), remarks):
            file = f"{files[item.item_id]}.png"
            write_image(out / side / "imgs" / file, image, folder.write)
            write_labels(out / side / "gts" / file, labels, folder.write)
            for value in values_in(labels):
                names.setdefault(value, f"label {value}")
            counts[side] += 1
    check_any(dataset, sum(counts.values()), remarks)
    classes = [
        LabelClass(value, readable(name).strip() or f"label {value}", default_color(value))
        for value, name in names.items()
    ]
    write_classes(out / "classes.json", classes, folder.write)
    folder.remove_others()
    return f"Train {counts['Train']}, Test {counts['Test']} images", tuple(remarks)


def open_output(dataset: Dataset, out: Path, overwrite: bool) -> OutputFolder:
    """The folder that a data set is converted to, which holds nothing else.

    Raises:
        LabelWriteError: it holds anything else, or what the data set is read from.
    """
    reads = [path for item in dataset.items for path in (item.image_path, item.mask_path)]
    folder = OutputFolder(out, reads=reads, overwrite=overwrite)
    folder.check_only_own()
    return folder


def read_items(
    dataset: Dataset, remarks: list[Remark]
) -> Iterator[tuple[DatasetItem, NDArray[np.uint8], LabelMap]]:
    """Each item with its image (H, W, 3) and labels (H, W); those that fail join ``remarks``."""
    for item in dataset.items:
        try:
            image, labels = read_pair(item)
        except FileError as error:
            remarks.append(Remark("failed", item.item_id, str(error)))
        else:
            yield item, image, labels


def on_no_side(dataset: Dataset, split: Split) -> list[Remark]:
    """A remark on each item that a split names on none of its sides."""
    named = {*split.train, *split.val, *split.test}
    return [
        Remark("missing", item.item_id, "on no side of the split")
        for item in dataset.items
        if item.item_id not in named
    ]


def check_any(dataset: Dataset, count: int, remarks: list[Remark]) -> None:
    """Refuse a data set of which ``count`` items, none, could be used.

    Raises:
        DatasetError: it says why the first could not.
    """
    if not count:
        why = f"; the first: {remarks[0].text}" if remarks else ""
        raise DatasetError(dataset.name, f"no image of it could be used{why}")
