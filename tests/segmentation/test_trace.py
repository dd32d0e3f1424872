"""Traces of bright and dark lines, of known images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_usgseg.core.errors import PromptError
from napari_usgseg.core.geometry import stroke_mask
from napari_usgseg.core.metrics import dice
from napari_usgseg.segmentation.trace import (
    BandHabit,
    Trace,
    ends_of,
    measure_band,
    trace,
    trace_mask,
)

SIZE_HW = (240, 320)
ACROSS = np.arange(20, 300, dtype=np.float32)
ARC = np.stack([ACROSS, 120 + 60 * np.sin(ACROSS / 45)], axis=1)


def picture(line: np.ndarray, width: float, dark: bool = False) -> np.ndarray:
    """A speckled image with a bright, or dark, band along a line."""
    rng = np.random.default_rng(0)
    inside = stroke_mask(line, width, SIZE_HW)
    values = np.where(inside, 40.0 if dark else 170.0, 170.0 if dark else 40.0)
    grey = np.clip(values * rng.gamma(8, 1 / 8, SIZE_HW), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


@pytest.mark.parametrize("dark", [False, True])
def test_two_clicks_follow_a_curved_band_from_end_to_end(dark):
    found = trace(picture(ARC, 9, dark), [tuple(ARC[0]), tuple(ARC[-1])], 9, dark)
    assert dice(stroke_mask(found, 9, SIZE_HW), stroke_mask(ARC, 9, SIZE_HW)) > 0.9
    steps = np.linalg.norm(np.diff(found, axis=0), axis=1)
    assert steps.max() < 2, "a pixel apart"


def test_a_click_beside_the_line_is_moved_onto_it():
    ends = ARC[[10, -10]] + [[0, 9], [0, -9]]
    drawn = Trace(picture(ARC, 12), 12)
    for x, y in ends:
        drawn.pin(x, y)
    band = stroke_mask(ARC, 12, SIZE_HW)
    assert all(band[round(y), round(x)] for x, y in drawn.points)
    assert dice(stroke_mask(drawn.line(), 12, SIZE_HW), stroke_mask(ARC, 12, SIZE_HW)) > 0.88


def test_a_line_goes_through_the_points_in_between_where_the_ridge_goes_elsewhere():
    image = picture(ARC, 9)
    straight = trace(image, [(20, 125), (150, 200), (299, 130)], 9)
    assert np.linalg.norm(straight - [150, 200], axis=1).min() < 6
    assert np.linalg.norm(trace(image, [(20, 125), (299, 130)], 9) - [150, 200], axis=1).min() > 30


def test_the_newest_point_is_taken_back_and_the_rest_stays():
    drawn = Trace(picture(ARC, 9), 9)
    drawn.unpin()
    drawn.pin(*ARC[0])
    drawn.pin(*ARC[140])
    before = drawn.line()
    drawn.pin(300, 10)
    drawn.unpin()
    np.testing.assert_array_equal(drawn.line(), before)
    drawn.unpin()
    drawn.unpin()
    assert drawn.line().shape == (0, 2)


@pytest.mark.parametrize("points", [[], [(5, 5)]])
def test_a_trace_without_two_ends_says_what_is_missing(points):
    with pytest.raises(PromptError, match="one at each end"):
        trace(np.zeros((20, 20), np.uint8), points, 3)


@pytest.mark.parametrize("width", [0, -1, float("nan")])
def test_a_band_without_width_is_refused(width):
    with pytest.raises(PromptError, match="width"):
        Trace(np.zeros((20, 20), np.uint8), width)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 40), st.integers(1, 900)),
    st.lists(st.tuples(st.floats(-50, 950), st.floats(-50, 90)), min_size=2, max_size=4),
    st.floats(0.5, 60),
)
def test_any_points_of_any_image_make_a_line_within_reach_of_the_image(size_hw, points, width):
    image = np.random.default_rng(0).integers(0, 255, size_hw, np.uint8)
    line = trace(image, points, width)
    assert line.ndim == 2
    assert np.isfinite(line).all()
    limit = np.array([size_hw[1] - 1, size_hw[0] - 1])
    assert (line >= -4).all()
    assert (line <= limit + 4).all()


@pytest.mark.parametrize("beside", [-5, 0, 5])
@pytest.mark.parametrize("turned", [False, True])
def test_a_trace_lies_beside_the_ridge_as_the_accepted_bands_do(beside, turned):
    image, drawn = picture(ARC, 9), ARC + np.array([0, beside], np.float32)
    if turned:  # an upright line, which goes from its upper end to its lower one
        image, drawn = np.ascontiguousarray(image.swapaxes(0, 1)), drawn[:, ::-1]
    size = image.shape[:2]
    truth = stroke_mask(drawn, 11, size)
    band = measure_band(image, truth)
    assert band is not None
    habit = BandHabit((band,))
    ends = [tuple(drawn[5]), tuple(drawn[-5])]
    for points in (ends, ends[::-1]):
        found = trace_mask(image, points, habit.width, habit=habit)
        assert dice(found, truth) > 0.9


def test_the_width_of_a_class_is_the_median_of_its_bands():
    image = picture(ARC, 9)
    bands = [measure_band(image, stroke_mask(ARC, width, SIZE_HW)) for width in (5, 9, 21)]
    assert BandHabit(tuple(bands)).width == pytest.approx(9, abs=1)


def test_blobs_dots_and_nothing_are_no_bands():
    rows, columns = np.ogrid[: SIZE_HW[0], : SIZE_HW[1]]
    disc = (rows - 120) ** 2 + (columns - 160) ** 2 <= 60**2
    dot = (rows - 120) ** 2 + (columns - 160) ** 2 <= 2**2
    for mask in (disc, dot, np.zeros(SIZE_HW, bool), np.ones(SIZE_HW, bool)):
        assert ends_of(mask) is None
        assert measure_band(picture(ARC, 9), mask) is None


def test_a_path_takes_no_long_way_through_what_is_bright_all_over():
    """Below a faint line there is a brighter area without a line in it."""
    line = np.stack([ACROSS, np.full_like(ACROSS, 60)], axis=1)
    image = np.where(stroke_mask(line, 7, SIZE_HW), 120, 40).astype(np.uint8)
    image[110:230] = 170
    found = trace(image, [tuple(line[0]), tuple(line[-1])], 7)
    assert np.abs(found[:, 1] - 60).max() < 5
