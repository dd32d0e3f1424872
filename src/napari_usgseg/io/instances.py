"""Semantic and instance label maps: one map of integers, two ways to read it.

A semantic map holds class numbers. An instance map holds the codes of the Cityscapes data set
(Cordts et al., CVPR 2016): ``class_id * 1000 + n`` for the n-th object of a class, n from 1, and a
bare class number, below 1000, for a region of a class whose objects are not told apart.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .labels import LabelMap

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
    """The values of a label map but 0, in ascending order; quicker than sorting all pixels."""
    flat = labels.ravel()
    present = np.zeros(1 + int(flat.max(initial=0)), bool)
    for start in range(0, len(flat), _BLOCK):
        present[flat[start : start + _BLOCK]] = True
    return [int(value) for value in np.flatnonzero(present) if value]


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
    order = [*range(first, STEP), *range(1, min(first, STEP))]
    return [number for number in order if number not in taken][:count]


def instance_color(color: str, number: int) -> str:
    """A shade "#rrggbb" of a class's colour for its ``number``-th object, 0 the colour itself.

    Neighbouring numbers differ in lightness, which all eyes see; the shades repeat after five.
    """
    shift = _SHIFTS[(number - 1) % SHADES] if number else 0.0
    red, green, blue = (int(color[at : at + 2], 16) / 255 for at in (1, 3, 5))
    hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
    lightness = min(0.92, max(0.12, lightness + shift))
    parts = colorsys.hls_to_rgb(hue, lightness, saturation)
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)
