"""Label maps and their classes on disk.

A label map is a grey PNG of exactly its image's size: 0 background, else a class's number; 8-bit
up to 255, 16-bit above. ``classes.json`` beside it names the numbers:

    {"schema": 1, "classes": [{"id": 1, "name": "breast tumor", "color": "#e69f00"}]}
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from ..errors import DatasetError, ImageReadError, LabelWriteError
from ..types import LabelClass
from .atomic import Write, write_new
from .masks import read_mask_file, whole_numbers

LabelMap = NDArray[np.uint8] | NDArray[np.uint16]
"""(H, W); 0 is background. A value is a class's number, or in instance labelling an object's."""

MAX_LABEL = 65535

PALETTE = (
    "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7",
    "#88ccee", "#44aa99", "#999933", "#ddcc77", "#cc6677", "#882255", "#aa4499", "#117733",
)  # fmt: skip
"""Colours that colour-blind people can tell apart: Okabe and Ito's, then Tol's muted ones."""


def default_color(class_id: int) -> str:
    """The colour "#rrggbb" of class 1..; they repeat after the palette's end."""
    return PALETTE[(class_id - 1) % len(PALETTE)]


def write_labels(path: str | Path, labels: ArrayLike, write: Write = write_new) -> None:
    """Write a label map (H, W), whole or not at all.

    Args:
        path: ends in ``.png``; missing folders are made.
        labels: (H, W) bool or integers in 0..65535.
        write: how the file is written.

    Raises:
        LabelWriteError: a file is there already, it cannot be written, or this is no label map.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise LabelWriteError(path, "label maps are PNG files; choose a name that ends in .png")
    write_png(path, as_label_map(path, np.asarray(labels)), write)


def write_png(path: str | Path, pixels: NDArray[Any], write: Write = write_new) -> None:
    """Write (H, W) uint8 or uint16, or (H, W, 3) uint8, as a PNG, whole or not at all.

    Raises:
        LabelWriteError: a file is there already, or it cannot be written.
    """
    encoded = BytesIO()
    Image.fromarray(pixels).save(encoded, format="PNG")
    write(Path(path), encoded.getvalue())


def write_image(path: str | Path, image: NDArray[np.uint8], write: Write = write_new) -> None:
    """Write an image (H, W, 3) RGB as a PNG, grey where its channels are equal.

    Raises:
        LabelWriteError: a file is there already, or it cannot be written.
    """
    grey = bool((image == image[..., :1]).all())
    write_png(path, image[..., 0] if grey else image, write)


def as_label_map(path: Path, labels: NDArray[Any]) -> LabelMap:
    """The same values, (H, W), as uint8, or as uint16 where that does not hold them.

    Raises:
        LabelWriteError: they are no label map; it names ``path``, where they were to be written.
    """
    if labels.ndim != 2 or labels.size == 0 or labels.dtype.kind not in "bui":
        raise LabelWriteError(
            path,
            f"an array of shape {labels.shape} and type {labels.dtype} is no label map; "
            "expected (H, W) integers",
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > MAX_LABEL:
        raise LabelWriteError(
            path, f"labels from {low} to {high} do not fit; PNG label maps hold 0 to {MAX_LABEL}"
        )
    return labels.astype(np.uint8) if high <= 255 else labels.astype(np.uint16)


def read_labels(path: str | Path) -> LabelMap:
    """Read a label map as (H, W) uint8 or uint16, upright, by the rules of ``io.masks``.

    Values are as stored, palette indices too; a colour image with equal channels is taken as grey.

    Raises:
        ImageReadError: the file is missing, damaged or no label map.
    """
    path = Path(path)
    mask = read_mask_file(path)
    if mask.lossy:
        raise ImageReadError(
            path, "a JPEG, which changes the numbers of a label map; save it as PNG"
        )
    numbers = whole_numbers(mask.values)
    if numbers is None:
        raise ImageReadError(
            path, f"holds values that are no whole numbers from 0 to {MAX_LABEL}, so no label map"
        )
    return numbers


def write_classes(
    path: str | Path, classes: Iterable[LabelClass], write: Write = write_new
) -> None:
    """Write ``classes.json``, whole or not at all.

    Raises:
        LabelWriteError: a class is not valid or twice there, or the file cannot be written.
    """
    path = Path(path)
    ordered = sorted(classes, key=lambda entry: entry.class_id)
    problem = _problem(ordered)
    if problem:
        raise LabelWriteError(path, problem)
    entries = [{"id": c.class_id, "name": c.name, "color": c.color} for c in ordered]
    text = json.dumps({"schema": 1, "classes": entries}, indent=1, ensure_ascii=False)
    write(path, (text + "\n").encode("utf-8"))


def read_classes(path: str | Path) -> list[LabelClass]:
    """Read ``classes.json``, ordered by number.

    Raises:
        DatasetError: the file is missing or not such a list.
    """
    path = Path(path)
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        if card["schema"] != 1:
            raise ValueError(f"schema {card['schema']} is of a newer version of this program")
        classes = sorted(
            (LabelClass(int(c["id"]), str(c["name"]), str(c["color"])) for c in card["classes"]),
            key=lambda entry: entry.class_id,
        )
        problem = _problem(classes)
        if problem:
            raise ValueError(problem)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DatasetError(
            path,
            f"not a list of classes ({type(error).__name__}: {error}); expected "
            '{"schema": 1, "classes": [{"id": 1, "name": "...", "color": "#rrggbb"}]}',
        ) from error
    return classes


def _problem(classes: list[LabelClass]) -> str | None:
    """What is wrong with a list of classes, with the cure; None where nothing is."""
    numbers = [entry.class_id for entry in classes]
    if len(set(numbers)) < len(numbers):
        return f"two classes have the same number among {numbers}; give each its own"
    for entry in classes:
        if not 1 <= entry.class_id <= MAX_LABEL:
            return f"class number {entry.class_id} is not in 1..{MAX_LABEL}; choose another"
        if not entry.name.strip():
            return f"class {entry.class_id} has no name; give it one"
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", entry.color):
            return f"class {entry.class_id} has the color {entry.color!r}; expected #rrggbb"
    return None
