"""Burned-in text of a picture: lines of letters, found by their strokes.

Letters that a scanner draws are small pieces of strokes: sharp, of one brightness, of one height
and side by side. Nothing is read (a classical finder after connected components and stroke width,
as in Epshtein et al., CVPR 2010), so that any script and any font is found, and scales, arrows and
small graphics beside them may be, too. Letters of less than 5 pixels are not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from ..core.types import BoolArray

Box = tuple[int, int, int, int]
"""(x0, y0, x1, y1) in pixels of the picture, half open."""
# Lenient beside tissue, where a missed letter may be a name; strict within it, where vessel walls
# and speckle have strokes too.
_CONTRAST, _CONTRAST_IN_TISSUE = 32, 80
"""Letters are brighter than the ground beside them by so much, at the least."""
_STROKE = 9
"""Pixels: strokes are thinner than this."""
_HEIGHTS = (5, 48)
_WIDEST = 3.0
"""A letter, or several that touch, is at most so much wider than high."""
_SPREAD, _SPREAD_IN_TISSUE = 45.0, 12.0
"""Standard deviation of the brighter half of a letter's pixels, at the most."""
_ALIKE = 10.0
"""In tissue, the letters of a line differ in brightness by so much, at the most."""
_GAP = 1.6
"""Letters of a line are at most so many heights apart."""
_LARGEST = 2048
"""A picture with a longer side is searched at half its size, or at a third."""
_EIGHT = np.ones((3, 3), bool)


@dataclass(frozen=True, slots=True)
class _Letter:
    box: Box
    level: float
    is_tissue: bool

    @property
    def height(self) -> int:
        return self.box[3] - self.box[1]


def find_text(picture: NDArray[Any], tissue: BoolArray | None = None) -> list[Box]:
    """Boxes of the lines of text in a picture, from the top down.

    Args:
        picture: (H, W) or (H, W, 3) uint8.
        tissue: (H, W), where the ultrasound is: speckle may look like a letter there, so a line
            must have three of them; two do beside it. None: as if all were tissue.
    """
    grey = (picture if picture.ndim == 2 else picture.max(axis=2)).astype(np.uint8)
    inside = np.ones(grey.shape, bool) if tissue is None else tissue
    factor = -(-max(grey.shape) // _LARGEST)
    if factor > 1:
        small = np.asarray(Image.fromarray(grey).reduce(factor))
        of_small = find_text(small, inside[::factor, ::factor][: len(small), : small.shape[1]])
        return [(x0 * factor, y0 * factor, x1 * factor, y1 * factor) for x0, y0, x1, y1 in of_small]
    found: list[Box] = []
    for values in (grey, 255 - grey):  # bright letters, and dark ones on a bright ground
        letters = _letters(values, inside)
        for is_tissue, least in ((True, 3), (False, 2)):
            for line in _lines([each for each in letters if each.is_tissue is is_tissue]):
                levels = [letter.level for letter in line]
                if len(line) >= least and not (is_tissue and np.ptp(levels) > _ALIKE):
                    found.append(_around([letter.box for letter in line]))
    return sorted(_apart(found), key=lambda box: (box[1], box[0]))


def text_mask(boxes: Sequence[Box], size_hw: tuple[int, int], rim: int = 2) -> BoolArray:
    """(H, W): where the lines are, and so many pixels around them."""
    mask = np.zeros(size_hw, bool)
    for x0, y0, x1, y1 in boxes:
        mask[max(y0 - rim, 0) : y1 + rim, max(x0 - rim, 0) : x1 + rim] = True
    return mask


def _letters(grey: NDArray[np.uint8], tissue: BoolArray) -> list[_Letter]:
    """Pieces of thin strokes of one brightness that are as large as a letter."""
    # The opening takes out whatever is brighter and narrower than a stroke, so the difference is
    # strokes alone, on any ground.
    ground = ndimage.grey_opening(grey, (_STROKE, _STROKE))
    above = grey.astype(np.int16) - ground
    strokes = above > _CONTRAST
    numbers, count = ndimage.label(strokes, _EIGHT)
    letters: list[_Letter] = []
    areas = np.bincount(numbers.ravel(), minlength=1)
    for number, place in enumerate(ndimage.find_objects(numbers, count), start=1):
        if areas[number] < _HEIGHTS[0]:
            continue
        rows, columns = place
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if not _HEIGHTS[0] <= height <= _HEIGHTS[1] or width > _WIDEST * height or width < 2:
            continue
        mask = numbers[place] == number
        filled = mask.mean()
        values = grey[place][mask]
        bright = values[values >= np.median(values)]
        is_tissue = bool(tissue[place].mean() > 0.5)
        spread = _SPREAD_IN_TISSUE if is_tissue else _SPREAD
        if is_tissue and np.median(above[place][mask]) < _CONTRAST_IN_TISSUE:
            continue
        # A box that is nearly full is a bar or a block; one nearly empty a curve or a frame.
        if 0.12 <= filled <= 0.9 and bright.std() <= spread:
            box = columns.start, rows.start, columns.stop, rows.stop
            letters.append(_Letter(box, float(np.median(bright)), is_tissue))
    return letters


def _lines(letters: Sequence[_Letter]) -> list[list[_Letter]]:
    """Letters side by side on one line, of one height, from left to right."""
    chains: list[list[_Letter]] = []
    ends: dict[int, list[list[_Letter]]] = defaultdict(list)  # by the row of their last foot
    # No letter can follow one further off, so open lines are looked up by rows of this height, and
    # those that ended are dropped: a picture with thousands of specks would otherwise be compared
    # pair by pair.
    reach = round((_GAP + 1) * _HEIGHTS[1])
    for letter in sorted(letters, key=lambda letter: letter.box[0]):
        row, best = letter.box[3] // reach, None
        for near in (row - 1, row, row + 1):
            ends[near] = [c for c in ends[near] if letter.box[0] - c[-1].box[2] <= reach]
            for chain in ends[near]:
                last = chain[-1]
                if _follow(last, letter) and (best is None or last.box[2] > best[-1].box[2]):
                    best = chain
        if best is None:
            chains.append(best := [])
        else:
            ends[best[-1].box[3] // reach].remove(best)
        best.append(letter)
        ends[row].append(best)
    return chains


def _follow(last: _Letter, letter: _Letter) -> bool:
    tall, small = max(last.height, letter.height), min(last.height, letter.height)
    gap = letter.box[0] - last.box[2]
    overlap = min(last.box[3], letter.box[3]) - max(last.box[1], letter.box[1])
    foot = abs(last.box[3] - letter.box[3]) <= 0.35 * tall
    # Of one height to a factor of two (small letters beside capitals), on one line by overlap and
    # foot; a descender moves the foot, hence a third of the height.
    return tall <= 2 * small and -2 <= gap <= _GAP * tall and overlap >= 0.6 * small and foot


def _around(boxes: Sequence[Box]) -> Box:
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def _apart(boxes: Sequence[Box]) -> list[Box]:
    """Boxes of which no two overlap."""
    waiting, found = list(boxes), list[Box]()
    while waiting:
        box = waiting.pop()
        touching = [b for b in found if _touch(b, box)]
        if touching:
            found = [b for b in found if b not in touching]
            waiting.append(_around([box, *touching]))
        else:
            found.append(box)
    return found


def _touch(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
