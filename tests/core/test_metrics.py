from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_usgseg.core import metrics

MASKS = st.tuples(st.integers(1, 14), st.integers(1, 14)).flatmap(
    lambda shape: st.tuples(hnp.arrays(bool, shape), hnp.arrays(bool, shape))
)
quick = settings(deadline=None, max_examples=60)


def square(x0, y0, x1, y1, shape=(60, 80)):
    mask = np.zeros(shape, bool)
    mask[y0 : y1 + 1, x0 : x1 + 1] = True
    return mask


def hd95_by_brute_force(a, b):
    def surface(mask):
        padded = np.pad(mask, 1)
        inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        return np.argwhere(mask & ~inner)

    gaps = np.linalg.norm(surface(a)[:, None] - surface(b)[None], axis=-1)
    return np.percentile(np.concatenate([gaps.min(axis=1), gaps.min(axis=0)]), 95)


def click_by_brute_force(truth, prediction):
    def depths(region):
        padded = np.pad(region, 1)
        outside = np.argwhere(~padded)
        return {
            (x - 1, y - 1): np.linalg.norm(outside - (y, x), axis=1).min()
            for y, x in np.argwhere(padded)
        }

    missed, excess = depths(truth & ~prediction), depths(prediction & ~truth)
    label = int(max(missed.values(), default=0) >= max(excess.values(), default=0))
    deep = missed if label else excess
    return {xy for xy, depth in deep.items() if depth >= max(deep.values()) - 1e-9}, label


@quick
@given(MASKS)
def test_dice_and_iou_agree_with_each_other_and_do_not_care_for_order(pair):
    a, b = pair
    j, d = metrics.iou(a, b), metrics.dice(a, b)
    assert d == pytest.approx(2 * j / (1 + j))
    assert (metrics.iou(b, a), metrics.dice(b, a)) == (j, d)
    assert metrics.dice(a, a) == metrics.iou(b, b) == 1


def test_half_an_overlap_is_known():
    a, b = square(0, 0, 9, 9), square(5, 0, 14, 9)
    assert metrics.dice(a, b) == pytest.approx(0.5)
    assert metrics.iou(a, b) == pytest.approx(1 / 3)
    assert metrics.hd95(a, b) == 5


def test_two_empty_masks_are_the_same_and_one_empty_mask_is_as_far_as_can_be():
    empty, full = np.zeros((30, 40), bool), np.ones((30, 40), bool)
    assert (metrics.dice(empty, empty), metrics.iou(empty, empty)) == (1, 1)
    assert metrics.hd95(empty, empty) == 0
    for pair in ((empty, full), (full, empty)):
        assert (metrics.dice(*pair), metrics.iou(*pair)) == (0, 0)
        assert metrics.hd95(*pair) == 50


@quick
@given(MASKS)
def test_hd95_is_in_the_unit_of_the_spacing(pair):
    a, b = pair
    assert metrics.hd95(a, b, (0.25, 0.25)) == pytest.approx(0.25 * metrics.hd95(a, b))
    tall = metrics.hd95(a, b, (0.1, 0.3))
    assert tall == pytest.approx(metrics.hd95(a.T, b.T, (0.3, 0.1)))
    assert 0.1 * metrics.hd95(a, b) <= tall + 1e-9 <= 0.3 * metrics.hd95(a, b) + 1e-6


@quick
@given(MASKS)
def test_hd95_is_what_brute_force_finds(pair):
    a, b = pair
    if a.any() and b.any():
        assert metrics.hd95(a, b) == pytest.approx(hd95_by_brute_force(a, b))


@quick
@given(MASKS)
def test_the_next_click_is_the_deepest_error(pair):
    truth, prediction = pair
    click = metrics.next_click(truth, prediction)
    if (truth == prediction).all():
        assert click is None
        return
    xy, label = click
    deepest, wanted = click_by_brute_force(truth, prediction)
    assert label == wanted
    assert xy in deepest
    x, y = xy
    assert truth[y, x] == bool(label)
    assert prediction[y, x] != bool(label)


def test_the_first_click_goes_to_the_middle_of_the_object():
    assert metrics.next_click(square(10, 20, 30, 40), square(0, 0, -1, -1)) == ((20, 30), 1)


def test_the_edge_of_the_image_is_a_border():
    truth = np.zeros((21, 41), bool)
    truth[:, :21] = True
    assert metrics.next_click(truth, ~truth & False) == ((10, 10), 1)


def test_masks_of_two_sizes_are_refused():
    with pytest.raises(ValueError, match="one size"):
        metrics.dice(np.zeros((3, 4)), np.zeros((4, 3)))
