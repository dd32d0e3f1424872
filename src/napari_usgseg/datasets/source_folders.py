"""Data sets written in this layout, and in Sam2Rad's.

    Sam2Rad:  <out>/Train/{imgs,gts}/<id>.png  <out>/Test/{imgs,gts}/<id>.png

Masks hold label values 1.. in both. ``io.datasets.read_dataset`` reads both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError
from ..io.atomic import Write
from ..io.datasets import Dataset, Split
from ..io.export import write_card
from ..io.images import image_size
from ..io.labels import write_image, write_labels
from ..io.outputs import OutputFolder
from ..io.pairs import read_mask, read_pair


def write_pair(
    folder: Path, item_id: str, image: NDArray[np.uint8], labels: NDArray[Any], write: Write
) -> None:
    """Write ``images/<id>.png`` from (H, W, 3) and ``masks/<id>.png`` from (H, W) label values.

    Raises:
        DatasetError: the two are not of one size.
        LabelWriteError: a file is there already, or cannot be written.
    """
    if labels.shape != image.shape[:2]:
        raise DatasetError(
            folder / "masks" / f"{item_id}.png",
            f"{labels.shape} pixels, its image {image.shape[:2]}; they must be the same",
        )
    write_image(folder / "images" / f"{item_id}.png", image, write)
    write_labels(folder / "masks" / f"{item_id}.png", labels, write)


def write_png_layout(dataset: Dataset, out: Path, *, overwrite: bool = False) -> int:
    """Write a data set in the layout of the protocol; returns how many images.

    Raises:
        DatasetError: a mask is not of its image's size.
        ImageReadError: a file cannot be read.
        LabelWriteError: ``out`` holds anything else, or a file cannot be written.
    """
    folder = OutputFolder(out, reads=files_of(dataset), overwrite=overwrite)
    folder.check_only_own()
    items, names = [], dict(dataset.labels)
    for item in dataset.items:
        image, labels = read_pair(item)
        write_pair(out, item.item_id, image, labels, folder.write)
        for value in np.unique(labels[labels > 0]).tolist():
            names.setdefault(value, f"label {value}")
        entry: dict[str, Any] = {
            "id": item.item_id,
            "group": item.group,
            "width": labels.shape[1],
            "height": labels.shape[0],
            "empty_mask": not labels.any(),
        }
        more = {"finding": item.finding, "pixel_size_mm": item.spacing_mm}
        items.append(entry | {key: value for key, value in more.items() if value is not None})
    write_card(
        out, folder.write, name=dataset.name, organ=dataset.organ, target=dataset.target,
        labels=names, items=items,
    )  # fmt: skip
    return len(items)


def write_sam2rad(dataset: Dataset, split: Split, out: Path, *, overwrite: bool = False) -> str:
    """Copy a data set into Sam2Rad's folders: training and validation to Train, test to Test.

    Images are copied as they are, masks written as what is read of them.

    Returns:
        How many images are in each.

    Raises:
        DatasetError: a mask is not of its image's size.
        ImageReadError: a file cannot be read.
        LabelWriteError: ``out`` holds anything else, or a file cannot be written.
    """
    folder = OutputFolder(out, reads=files_of(dataset), overwrite=overwrite)
    folder.check_only_own()
    sides = {"Train": {*split.train, *split.val}, "Test": set(split.test)}
    counts = dict.fromkeys(sides, 0)
    for side, ids in sides.items():
        for item in dataset.only(ids).items:
            labels = read_mask(item, image_size(item.image_path))
            image = f"{item.item_id}{item.image_path.suffix.lower()}"
            folder.write(out / side / "imgs" / image, item.image_path.read_bytes())
            write_labels(out / side / "gts" / f"{item.item_id}.png", labels, folder.write)
            counts[side] += 1
    return f"Train {counts['Train']}, Test {counts['Test']} images"


def files_of(dataset: Dataset) -> list[Path]:
    """The files that a data set is read from."""
    return [path for item in dataset.items for path in (item.image_path, item.mask_path)]
