from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_usgseg.core import geometry
from napari_usgseg.core.errors import PromptError

SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))
MASKS = hnp.arrays(bool, SIZES)
COORDINATES = st.floats(-100, 100, width=32)
POINTS = hnp.arrays(np.float32, st.tuples(st.integers(1, 12), st.just(2)), elements=COORDINATES)
quick = settings(deadline=None, max_examples=40)


@st.composite
def boxes(draw, least=0, most=8):
    count = draw(st.integers(least, most))
    corners = [
        sorted(draw(st.tuples(st.integers(0, 30), st.integers(0, 30)))) for _ in range(2 * count)
    ]
    pairs = np.array(corners, np.float32).reshape(count, 2, 2)
    return pairs.transpose(0, 2, 1).reshape(count, 4)


@quick
@given(POINTS)
def test_xy_and_row_column_are_each_other_s_inverse(points):
    assert np.array_equal(geometry.rc_to_xy(geometry.xy_to_rc(points)), points)
    assert np.array_equal(geometry.xy_to_rc(points)[:, 0], points[:, 1])


@quick
@given(MASKS)
def test_the_box_of_a_mask_is_tight_and_inclusive(mask):
    box = geometry.mask_to_box(mask)
    if not mask.any():
        assert box is None
        return
    x0, y0, x1, y1 = box.astype(int)
    assert mask[y0 : y1 + 1, x0 : x1 + 1].sum() == mask.sum()
    assert mask[y0].any()
    assert mask[y1].any()
    assert mask[:, x0].any()
    assert mask[:, x1].any()


def test_the_box_of_one_pixel_is_that_pixel():
    mask = np.zeros((5, 7), bool)
    mask[2, 6] = True
    assert geometry.mask_to_box(mask).tolist() == [6, 2, 6, 2]


@quick
@given(boxes(), boxes())
def test_box_iou_counts_pixels(a, b):
    def paint(box):
        canvas = np.zeros((31, 31), bool)
        x0, y0, x1, y1 = box.astype(int)
        canvas[y0 : y1 + 1, x0 : x1 + 1] = True
        return canvas

    result = geometry.box_iou(a, b)
    assert result.shape == (len(a), len(b))
    for i, first in enumerate(a):
        for j, second in enumerate(b):
            both = (paint(first) & paint(second)).sum()
            either = (paint(first) | paint(second)).sum()
            assert result[i, j] == pytest.approx(both / either, abs=1e-6)


@quick
@given(boxes(least=1), SIZES)
def test_a_clipped_box_lies_inside_and_clipping_twice_changes_nothing(some, size_hw):
    clipped = geometry.clip_box(some - 8, size_hw)
    height, width = size_hw
    assert clipped.min() >= 0
    assert (clipped[:, [0, 2]] <= width - 1).all()
    assert (clipped[:, [1, 3]] <= height - 1).all()
    assert np.array_equal(geometry.clip_box(clipped, size_hw), clipped)


def test_a_box_from_two_corners_does_not_care_for_their_order():
    wanted = [1, 2, 8, 9]
    assert geometry.box_from_points((8, 2), (1, 9)).tolist() == wanted
    assert geometry.box_from_points((1, 2), (8, 9)).tolist() == wanted


@quick
@given(boxes(), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_nms_keeps_the_best_of_every_overlapping_group(some, seed, threshold):
    scores = np.random.default_rng(seed).random(len(some))
    kept = geometry.nms(some, scores, threshold)
    assert (np.diff(scores[kept]) <= 0).all()
    overlap = geometry.box_iou(some, some)
    for index in range(len(some)):
        better = [k for k in kept if k != index and scores[k] >= scores[index]]
        beaten = bool(better) and overlap[index, better].max() > threshold
        assert (index in kept) != beaten


@quick
@given(POINTS, st.floats(0.5, 50), st.integers(1, 30))
def test_scribble_points_lie_on_the_scribble_with_both_ends(polyline, spacing, limit):
    points = geometry.scribble_to_points(polyline, spacing, limit)
    assert points.dtype == np.float32
    assert 1 <= len(points) <= limit
    low, high = polyline.min(axis=0), polyline.max(axis=0)
    assert (points >= low - 1e-3).all()
    assert (points <= high + 1e-3).all()
    if len(points) > 1:
        assert points[0] == pytest.approx(polyline[0], abs=1e-3)
        assert points[-1] == pytest.approx(polyline[-1], abs=1e-3)


def test_a_straight_scribble_is_sampled_evenly():
    points = geometry.scribble_to_points([(0, 0), (4, 0), (30, 0)], spacing=10, limit=20)
    assert points[:, 0].tolist() == [0, 10, 20, 30]


def test_a_scribble_of_one_vertex_gives_that_point():
    assert geometry.scribble_to_points([(3, 4)], 5, 9).tolist() == [[3, 4]]


@pytest.mark.parametrize(
    ("polyline", "spacing", "limit"),
    [(np.zeros((0, 2)), 5, 5), ([(1, 1)], 0, 5), ([(1, 1)], 5, 0)],
)
def test_an_unusable_scribble_is_a_prompt_error(polyline, spacing, limit):
    with pytest.raises(PromptError):
        geometry.scribble_to_points(polyline, spacing, limit)


@quick
@given(boxes(least=1, most=1), st.floats(0, 2), st.integers(0, 2**32 - 1))
def test_a_jittered_box_stays_inside_in_order_and_near(some, fraction, seed):
    box = some[0]
    shaken = geometry.jitter_box(box, fraction, (31, 31), np.random.default_rng(seed))
    assert shaken.shape == (4,)
    assert (shaken[:2] <= shaken[2:]).all()
    assert shaken.min() >= 0
    assert shaken.max() <= 30
    if fraction <= 0.5:
        sides = np.tile(box[2:] - box[:2] + 1, 2)
        assert (np.abs(shaken - box) <= fraction * sides + 1e-3).all()


def test_diagonal_neighbours_are_one_object_and_specks_are_left_out():
    mask = np.zeros((100, 100), bool)
    mask[10:20, 10:20] = True
    mask[20:30, 20:30] = True
    mask[60:70, 60:70] = True
    mask[90, 90] = True
    found = geometry.components(mask)
    assert [int(m.sum()) for m in found] == [200, 100]
    assert len(list(geometry.components(mask, min_fraction=0))) == 3


@quick
@given(MASKS)
def test_all_components_together_are_the_mask(mask):
    found = geometry.components(mask, min_fraction=0)
    assert np.array_equal(np.sum([np.zeros(mask.shape, int), *found], axis=0), mask.astype(int))
