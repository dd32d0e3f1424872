from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_usgseg.core.types import LabelClass, Prompts
from napari_usgseg.gui.canvas.drawing import Contour, eroded, name_marks, outlines
from napari_usgseg.project.records import ClassTable, ProposedObject
from napari_usgseg.segmentation.propose import Proposal

pytestmark = pytest.mark.gui


def proposed(mask: np.ndarray, class_id: int = 1) -> ProposedObject:
    return ProposedObject(
        class_id, Prompts(), Proposal(mask, np.zeros(4, np.float32), 1.0, "", 1.0)
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3))
def test_eroding_is_what_scipy_does_with_a_square(seed: int, width: int) -> None:
    mask = np.random.default_rng(seed).random((17, 23)) > 0.2
    square = np.ones((2 * width + 1, 2 * width + 1), bool)
    assert np.array_equal(eroded(mask, width), ndimage.binary_erosion(mask, square))


def test_an_outline_lies_on_the_masks_inner_border_also_at_the_images_edge() -> None:
    mask = np.zeros((60, 80), bool)
    mask[0:30, 50:80] = True
    outline = outlines((proposed(mask, 3),), mask.shape)
    assert set(np.unique(outline)) == {0, 3}
    assert mask[outline > 0].all()
    assert (outline[0, 50:80] == 3).all()
    assert (outline[0:30, 79] == 3).all()
    assert outline[15, 65] == 0


def test_the_object_under_work_has_the_wider_contour_and_its_class_bears_a_mark() -> None:
    left, right = np.zeros((60, 80), bool), np.zeros((60, 80), bool)
    left[20:50, 5:35] = right[20:50, 30:70] = True
    both = (proposed(left, 1), proposed(right, 2))
    none, first = outlines(both, left.shape), outlines(both, left.shape, active=0)
    assert (first == 1).sum() > (none == 1).sum()
    assert (first[left & right & (none == 1)] == 1).all(), "it lies over the others"
    classes = (LabelClass(1, "head", "#e69f00"), LabelClass(2, "ilium", "#56b4e9"))
    marks = name_marks(both, 0, ClassTable(classes, 1))
    assert [name for _, name, _ in marks] == ["▸ head", "ilium"]
    assert [color for _, _, color in marks] == ["#e69f00", "#56b4e9"]
    for (row, column), mask in zip((at for at, _, _ in marks), (left, right), strict=True):
        assert 10 < row < 20, "above the object"
        assert mask[20, round(column)]
    assert name_marks((ProposedObject(1, Prompts()),), None, ClassTable(classes, 1)) == []


@pytest.mark.parametrize("contour", [Contour(3.0, 2), Contour(0.25, 1), Contour(1.0, 4)])
def test_an_outline_of_another_grain_lies_where_the_mask_is(contour: Contour) -> None:
    mask = np.zeros((61, 83), bool)
    mask[8:40, 20:64] = True
    outline = outlines((proposed(mask, 3),), mask.shape, contour=contour)
    grain = contour.grain
    assert outline.shape == tuple(
        math.ceil(side * min(grain, 1)) * max(grain, 1) for side in mask.shape
    )
    rows, columns = np.nonzero(outline)
    assert mask[(rows / grain).astype(int), (columns / grain).astype(int)].all()
    assert (rows.min(), columns.min()) == (8 * grain, 20 * grain)
    assert (rows.max(), columns.max()) == (40 * grain - 1, 64 * grain - 1)
    middle = outline[int(24 * grain)]
    assert np.count_nonzero(middle) == 2 * contour.width


def test_a_large_image_is_outlined_at_once() -> None:
    mask = np.zeros((6000, 6000), bool)
    mask[2000:2600, 1000:1700] = True
    start = time.thread_time()
    outlines((proposed(mask),), mask.shape)
    assert time.thread_time() - start < 0.5
