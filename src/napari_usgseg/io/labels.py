"""Label maps, semantic and instance: one map of integers, two ways to read it.

A semantic map holds class numbers. An instance map holds the codes of the Cityscapes data set
(Cordts et al., CVPR 2016): ``class_id * 1000 + n`` for the n-th object of a class, n from 1, and a
bare class number, below 1000, for a region of a class whose objects are not told apart.
"""

from __future__ import annotations

import colorsys
import json
import re
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from ..core.errors import DatasetError, ImageReadError, LabelWriteError
from ..core.types import LabelClass
from .atomic import Write, write_new
from .masks import read_mask_file, whole_numbers

LabelMap = NDArray[np.uint8] | NDArray[np.uint16]
"""(H, W); 0 is background. A value is a class's number, or in instance labelling an object's."""

CLASSES_FILE = "classes.json"
"""Name of the file that says what the values of label maps are called."""

MAX_LABEL = 65535

PALETTE = (
    "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7",
    "#88ccee", "#44aa99", "#999933", "#ddcc77", "#cc6677", "#882255", "#aa4499", "#117733",
)  # fmt: skip
"""Colours that colour-blind people can tell apart: Okabe and Ito's, then Tol's muted ones."""


def default_color(class_id: int) -> str:
    """The colour "#rrggbb" of class 1..; they repeat after the palette's end."""
    return PALETTE[(class_id - 1) % len(PALETTE)]


def is_color(text: str) -> bool:
    """Whether a text is a colour "#rrggbb"."""
    return re.fullmatch(r"#[0-9a-fA-F]{6}", text) is not None


def rgb_of(color: str) -> tuple[int, int, int]:
    """Red, green and blue (0 to 255) of a colour "#rrggbb"."""
    red, green, blue = bytes.fromhex(color[1:])
    return red, green, blue


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
        if not is_color(entry.color):
            return f"class {entry.class_id} has the color {entry.color!r}; expected #rrggbb"
    return None


Labelling = Literal["semantic", "instance"]
LABELLINGS: tuple[Labelling, ...] = get_args(Labelling)

STEP = 1000
MAX_INSTANCE = STEP - 1
"""Objects of one class that an image can have."""
MAX_CLASS = 64
"""The highest class number whose 999 objects fit into 16 bits."""

_BLOCK = 1 << 20
_SHIFTS = (0.0, 0.22, -0.2, 0.4, -0.34)
SHADES = len(_SHIFTS)
"""Shades of a class's colour that neighbouring objects have."""


def labelling_in(settings: Mapping[str, Any]) -> Labelling:
    """How a project with these settings is labelled; semantic where they do not say."""
    return "instance" if settings.get("labelling") == "instance" else "semantic"


def class_of(value: int, labelling: Labelling) -> int:
    """The class that a label value stands for; 0 for background."""
    return value // STEP if labelling == "instance" and value >= STEP else value


def instance_of(value: int, labelling: Labelling) -> int:
    """The number of a label value's object within its class; 0 where objects are not told apart."""
    return value % STEP if labelling == "instance" and value >= STEP else 0


def code_of(class_id: int, number: int) -> int:
    """The label value of the ``number``-th object of a class."""
    return class_id * STEP + number


def semantic(labels: LabelMap, labelling: Labelling) -> LabelMap:
    """The class of every pixel of a label map (H, W): uint8 where all fit into it."""
    if labelling == "semantic" or labels.dtype == np.uint8:
        return labels
    classes = np.where(labels >= STEP, labels // STEP, labels)
    return classes.astype(np.uint16) if classes.max(initial=0) > 255 else classes.astype(np.uint8)


def values_in(labels: NDArray[Any]) -> list[int]:
    """The values of a label map but 0, in ascending order; quicker than sorting all pixels.

    Only where a run of equal pixels begins is looked at: a person waits for it.
    """
    flat = labels.ravel()
    found: set[int] = set()
    for start in range(0, len(flat), _BLOCK):
        block = flat[start : start + _BLOCK]
        begins = block[1:][block[1:] != block[:-1]]
        found.update(block[:1].tolist(), np.unique(begins).tolist())
    return sorted(found - {0})


def same_labels(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether two label maps are equal; by parts, so that a large one is not kept waiting for."""
    first, second = a.ravel(), b.ravel()
    return a.shape == b.shape and all(
        np.array_equal(first[start : start + _BLOCK], second[start : start + _BLOCK])
        for start in range(0, len(first), _BLOCK)
    )


def free_numbers(used: Iterable[int], class_id: int, count: int = 1) -> list[int]:
    """Numbers for further objects of a class: above the highest in use, then the gaps.

    Args:
        used: label values of an instance map.
        class_id: of the new objects.
        count: how many are wanted.

    Returns:
        ``count`` numbers, or fewer where the class has all its 999 objects.
    """
    taken = {value % STEP for value in used if value >= STEP and value // STEP == class_id}
    first = max(taken, default=0) + 1
    # Above the highest first: the number of an object that was deleted is not soon another's.
    order = [*range(first, STEP), *range(1, min(first, STEP))]
    return [number for number in order if number not in taken][:count]


def next_code(used: Iterable[int], class_id: int, wanted: int = 0) -> int:
    """The label value of another object of a class in an instance map.

    Args:
        used: the map's values.
        class_id: of the object.
        wanted: the number that it has if that is free; 0 wants none.

    Returns:
        A free code; the bare class number, a region of its class, where the class has all its 999
        objects or is above 64.
    """
    if class_id > MAX_CLASS:
        return class_id
    taken = set(used)
    numbers = [wanted] * bool(wanted) + free_numbers(taken, class_id)
    codes = (code_of(class_id, number) for number in numbers)
    return next((code for code in codes if code not in taken), class_id)


def instance_color(color: str, number: int) -> str:
    """A shade "#rrggbb" of a class's colour for its ``number``-th object, 0 the colour itself.

    Neighbouring numbers differ in lightness, which all eyes see; the shades repeat after five.
    """
    shift = _SHIFTS[(number - 1) % SHADES] if number else 0.0
    red, green, blue = (part / 255 for part in rgb_of(color))
    hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
    lightness = min(0.92, max(0.12, lightness + shift))
    parts = colorsys.hls_to_rgb(hue, lightness, saturation)
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)
