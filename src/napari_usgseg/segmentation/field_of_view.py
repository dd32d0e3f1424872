"""Fields of view of a picture: which parts models look at, and the way into them and back.

A model is asked about the crop alone, in pixels of the crop; what it answers is put into the whole
picture and cut to the field. ``segmentation.propose`` does both, so that whoever asks knows pixels
of the picture only. Logits (``mask_input``, ``low_res_logits``) of the whole picture are longer on
one side than those of the crop by as much as the picture is than the crop.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..core.types import (
    BoolArray,
    FieldOfView,
    FloatArray,
    ImageEmbedding,
    Prompts,
    Region,
)
from ..models.interfaces import Segmenter

Scalar = TypeVar("Scalar", bound=np.generic)

LEAST_SIDE = 32
"""Pixels; a narrower region is none to look at."""
INSIDE = 0.9
"""A region of which a greater part lies in another one is no further view (colour over B-mode)."""
ELSEWHERE = -10.0
"""Logit of what lies outside of the field."""
LONGEST = 1024
"""Cells of logits over a whole picture, the longer side."""


def fields_of_view(regions: Iterable[Region], size_hw: tuple[int, int]) -> tuple[FieldOfView, ...]:
    """What models look at in a picture; () is all of it.

    That is each region of tissue, as the scanner wrote them: of dual views there are two.

    Args:
        regions: of the picture's file.
        size_hw: (H, W) of the picture; regions of a file are those of each of its frames.
    """
    height, width = size_hw
    boxes: list[tuple[int, int, int, int]] = []
    tissue = (region.box for region in regions if region.is_tissue)
    # The larger ones first, so that a colour box is measured against the B-mode picture around it.
    for box in sorted(tissue, key=_area, reverse=True):
        x0, y0, x1, y1 = max(box[0], 0), max(box[1], 0), min(box[2], width), min(box[3], height)
        if min(x1 - x0, y1 - y0) < LEAST_SIDE:
            continue
        cut = (x0, y0, x1, y1)
        if all(_area(_common(cut, larger)) <= INSIDE * _area(cut) for larger in boxes):
            boxes.append(cut)
    return tuple(FieldOfView(box, size_hw) for box in sorted(boxes))


def _area(box: tuple[int, int, int, int]) -> int:
    return max(0, box[2] - box[0]) * max(0, box[3] - box[1])


def _common(
    a: tuple[int, int, int, int], b: tuple[int, int, int, int]
) -> tuple[int, int, int, int]:
    return max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])


def field_of(fields: Sequence[FieldOfView], prompts: Prompts) -> FieldOfView | None:
    """The field that holds all that a person points at; None, the whole picture, where none does.

    Held must be each positive point, the middle of a box, and the middle of each positive scribble;
    of logits alone, the middle of what they show. Prompts of a wrong shape are in none: it is for
    the segmenter to say what is wrong.
    """
    coords, labels = np.asarray(prompts.point_coords), np.asarray(prompts.point_labels)
    box = np.zeros(4, np.float32) if prompts.box is None else np.asarray(prompts.box)
    if coords.shape != (*labels.shape, 2) or box.shape != (4,):
        return None
    points = [*coords[labels == 1]]
    points += [line[len(line) // 2] for line, label in prompts.scribbles if label == 1]
    points += [] if prompts.box is None else [(box[:2] + box[2:]) / 2]
    for field in fields:
        x0, y0, x1, y1 = field.box
        places = points or _middle(prompts.mask_input, field.size_hw)
        if places and all(x0 - 0.5 <= x < x1 - 0.5 and y0 - 0.5 <= y < y1 - 0.5 for x, y in places):
            return field
    return None


def _middle(logits: FloatArray | None, size_hw: tuple[int, int]) -> list[tuple[float, float]]:
    """The middle (x, y) of what logits over a picture show; none where they show nothing."""
    if logits is None or not (logits > 0).any():
        return []
    row, column = (np.argwhere(logits > 0).mean(0) + 0.5) * np.divide(size_hw, logits.shape) - 0.5
    return [(float(column), float(row))]


def field_key(key: str, field: FieldOfView | None) -> str:
    """A name for what is in a field of an image, from the one for what is in the image."""
    return key if field is None else f"{key}-{'-'.join(map(str, field.box))}"


def embed_field(
    segmenter: Segmenter, image: NDArray[np.uint8], field: FieldOfView | None
) -> ImageEmbedding:
    """Encode a field of an image (H, W, 3) RGB uint8, or all of it (None)."""
    if field is None:
        return segmenter.embed(image)
    return replace(segmenter.embed(crop(field, image)), field=field)


def embed_fields(
    segmenter: Segmenter, image: NDArray[np.uint8], fields: Sequence[FieldOfView]
) -> list[ImageEmbedding]:
    """Encode each field of an image (H, W, 3) RGB uint8, or all of it where there is none."""
    return [embed_field(segmenter, image, field) for field in fields or (None,)]


def crop(field: FieldOfView, array: NDArray[Scalar]) -> NDArray[Scalar]:
    """The field's box of an array (H, W, ...) over the picture, a view."""
    x0, y0, x1, y1 = field.box
    return array[y0:y1, x0:x1]


def prompts_within(field: FieldOfView, prompts: Prompts) -> Prompts:
    """Prompts in pixels of the picture as those of the crop.

    Points that lie outside of it are left out, boxes and scribbles cut.
    """
    x0, y0, x1, y1 = field.box
    corner, limit = np.array([x0, y0], np.float32), np.array([x1 - x0, y1 - y0]) - 0.5

    def within(points: FloatArray) -> BoolArray:
        return np.asarray(((points >= -0.5) & (points < limit)).all(axis=1), bool)

    points = np.asarray(prompts.point_coords, np.float32) - corner
    lines = [(np.asarray(line, np.float32) - corner, label) for line, label in prompts.scribbles]
    box, logits = prompts.box, prompts.mask_input
    if box is not None:
        box = np.clip(np.asarray(box, np.float32) - np.tile(corner, 2), 0, np.tile(limit - 0.5, 2))
    return Prompts(
        points[within(points)],
        np.asarray(prompts.point_labels)[within(points)],
        None if box is None else box.astype(np.float32),
        tuple((line, label) for line, label in lines if within(line).any()),
        None if logits is None else logits_within(field, logits),
    )


def whole_mask(field: FieldOfView, mask: BoolArray, beside: BoolArray | None = None) -> BoolArray:
    """A mask of the crop in the picture (H, W), cut to the field; ``beside`` is what is outside."""
    found = np.zeros(field.size_hw, bool) if beside is None else beside.copy()
    np.copyto(crop(field, found), mask, where=True if field.shape is None else field.shape)
    return found


def whole_box(field: FieldOfView, box: FloatArray) -> FloatArray:
    """A box (4,) in pixels of the crop as one of the picture."""
    return (np.asarray(box, np.float32) + np.tile(np.array(field.box[:2]), 2)).astype(np.float32)


def logits_within(field: FieldOfView, logits: FloatArray) -> FloatArray:
    """The part over the field of logits (h, w) over the picture, in cells of their size."""
    (height, width), (x0, y0, x1, y1) = field.size_hw, field.box
    rows, columns = logits.shape[0] / height, logits.shape[1] / width
    size = max(1, round(rows * (y1 - y0))), max(1, round(columns * (x1 - x0)))
    return _resampled(
        logits, size, (y0 * rows, x0 * columns), ((y1 - y0) * rows, (x1 - x0) * columns)
    )


def whole_logits(field: FieldOfView, logits: FloatArray) -> FloatArray:
    """Logits (h, w) over the crop as those of the picture; outside of the field nothing is."""
    (height, width), (x0, y0, x1, y1) = field.size_hw, field.box
    rows, columns = logits.shape[0] / (y1 - y0), logits.shape[1] / (x1 - x0)
    # A small region of a large picture would need a huge grid to keep its cells' size.
    shrink = min(1.0, LONGEST / max(rows * height, columns * width))
    size = max(1, round(shrink * rows * height)), max(1, round(shrink * columns * width))
    corner, length = (-y0 * rows, -x0 * columns), (height * rows, width * columns)
    return _resampled(logits, size, corner, length)


def _resampled(
    logits: FloatArray,
    size_hw: tuple[int, int],
    corner: tuple[float, float],
    length: tuple[float, float],
) -> FloatArray:
    """A window of logits (h, w), between cells; beside them is ``ELSEWHERE``.

    Args:
        logits: to be looked up.
        size_hw: of what is given.
        corner: upper left (row, column) of the window, in cells from the corner of the first.
        length: of its sides, in cells.
    """
    axes = []
    for first, side, count, cells in zip(corner, length, size_hw, logits.shape, strict=True):
        # Cells have their values in their middles, hence the halves; torch's align_corners=False.
        places = first + (np.arange(count) + 0.5) * side / count - 0.5
        lower = np.clip(np.floor(places).astype(int), 0, cells - 1)
        share = np.clip(places - lower, 0, 1)
        axes.append(
            (
                lower,
                np.minimum(lower + 1, cells - 1),
                share,
                (places >= -0.5) & (places <= cells - 0.5),
            )
        )
    (top, bottom, down, rows), (left, right, along, columns) = axes
    mixed = logits[top] * (1 - down)[:, None] + logits[bottom] * down[:, None]
    mixed = mixed[:, left] * (1 - along) + mixed[:, right] * along
    return np.where(rows[:, None] & columns, mixed, ELSEWHERE).astype(np.float32)
