from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from napari_usgseg.core.errors import UsgsegError
from napari_usgseg.core.types import Prompts
from napari_usgseg.segmentation.postprocess import PostprocessSettings, postprocess

quick = settings(deadline=None, max_examples=60)
SHAPES = st.tuples(st.integers(1, 24), st.integers(1, 24))
MASKS = st.one_of(
    hnp.arrays(bool, SHAPES),
    SHAPES.map(lambda shape: np.ones(shape, bool)),
    SHAPES.map(lambda shape: np.zeros(shape, bool)),
    hnp.arrays(np.float32, SHAPES, elements=st.floats(-1, 1, width=32)).map(
        lambda noise: ndimage.gaussian_filter(noise, 1.5) > 0
    ),
)
POINTS = st.lists(st.tuples(st.floats(-5, 30), st.floats(-5, 30), st.sampled_from([0, 1])))


@st.composite
def all_settings(draw, growth=True):
    return PostprocessSettings(
        keep=draw(st.sampled_from(["prompted", "largest", "all"])),
        min_area=draw(st.integers(0, 20)),
        fill_holes=draw(st.sampled_from([0.0, 0.1, 1.0])),
        opening=draw(st.integers(0, 3)) if growth else 0,
        closing=draw(st.integers(0, 3)) if growth else 0,
        smoothing=draw(st.sampled_from([0.0, 1.0, 2.5])) if growth else 0.0,
        dilation=draw(st.integers(0, 4)) if growth else 0,
    )


@st.composite
def all_prompts(draw):
    points = draw(POINTS)
    box = draw(st.none() | st.tuples(*[st.floats(-10, 40)] * 4))
    return Prompts(
        point_coords=np.array([p[:2] for p in points], np.float32).reshape(-1, 2),
        point_labels=np.array([p[2] for p in points], np.int32),
        box=None if box is None else np.array(box, np.float32),
        scribbles=tuple((np.array([p[:2], (9, 9)], np.float32), p[2]) for p in points[:1]),
    )


@quick
@given(MASKS, all_settings(), st.none() | all_prompts())
def test_size_and_type_are_kept_and_the_argument_is_not_touched(mask, chosen, prompts):
    before = mask.copy()
    cleaned = postprocess(mask, chosen, prompts)
    assert cleaned.shape == mask.shape
    assert cleaned.dtype == bool
    assert np.array_equal(mask, before)
    assert cleaned is not mask
    if not mask.any():
        assert not cleaned.any()


@quick
@given(MASKS, all_settings(growth=False), st.none() | all_prompts())
def test_holes_and_components_are_cleaned_once_and_for_all(mask, chosen, prompts):
    once = postprocess(mask, chosen, prompts)
    assert np.array_equal(postprocess(once, chosen, prompts), once)


@quick
@given(MASKS, st.sampled_from(["opening", "closing"]), st.integers(1, 4))
def test_opening_and_closing_are_idempotent_and_go_one_way(mask, step, radius):
    chosen = PostprocessSettings(keep="all", fill_holes=0, **{step: radius})
    once = postprocess(mask, chosen)
    assert np.array_equal(postprocess(once, chosen), once)
    smaller, larger = (once, mask) if step == "opening" else (mask, once)
    assert not (smaller & ~larger).any()


@quick
@given(MASKS, st.integers(1, 5))
def test_dilation_takes_every_pixel_within_the_radius(mask, radius):
    chosen = PostprocessSettings(keep="all", fill_holes=0, dilation=radius)
    grown = postprocess(mask, chosen)
    if mask.any():
        assert np.array_equal(grown, ndimage.distance_transform_edt(~mask) <= radius)


@quick
@given(MASKS)
def test_where_a_mask_lies_does_not_change_how_it_is_cleaned(mask):
    chosen = PostprocessSettings(opening=1, closing=2, smoothing=1, dilation=1)
    near, far = np.pad(mask, 20), np.pad(mask, ((45, 20), (33, 20)))
    assert np.array_equal(postprocess(far, chosen)[25:, 13:], postprocess(near, chosen))


def disc(row, column, radius, shape=(80, 100)):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


def test_by_default_pieces_away_from_the_click_go_and_small_holes_are_filled():
    lesion = disc(40, 30, 15)
    mask = (lesion & ~disc(40, 30, 2)) | disc(40, 80, 9)
    click = Prompts(np.array([[25, 40]], np.float32), np.array([1], np.int32))
    assert np.array_equal(postprocess(mask, PostprocessSettings(), click), lesion)


def test_pieces_in_the_box_stay():
    left, right = disc(40, 20, 8), disc(40, 70, 8)
    both = Prompts(box=np.array([5, 20, 90, 60], np.float32))
    one = Prompts(box=np.array([5, 20, 40, 60], np.float32))
    assert np.array_equal(postprocess(left | right, PostprocessSettings(), both), left | right)
    assert np.array_equal(postprocess(left | right, PostprocessSettings(), one), left)


def test_a_scribble_keeps_what_it_crosses():
    left, right = disc(40, 20, 8), disc(40, 70, 10)
    across = Prompts(scribbles=((np.array([[20, 5], [20, 75]], np.float32), 1),))
    assert np.array_equal(postprocess(left | right, PostprocessSettings(), across), left)


def test_a_click_beside_every_piece_keeps_the_largest():
    left, right = disc(40, 20, 8), disc(40, 70, 10)
    click = Prompts(np.array([[45, 5]], np.float32), np.array([1], np.int32))
    assert np.array_equal(postprocess(left | right, PostprocessSettings(), click), right)


def test_a_box_beside_every_piece_keeps_the_largest():
    left, right = disc(40, 20, 8), disc(40, 70, 10)
    for box in ([0, 0, 9, 9], [90, 70, 120, 90], [-30, -30, -5, -5]):
        prompts = Prompts(box=np.array(box, np.float32))
        assert np.array_equal(postprocess(left | right, PostprocessSettings(), prompts), right)


def test_without_a_prompt_every_piece_stays():
    both = disc(40, 20, 8) | disc(40, 70, 10)
    assert np.array_equal(postprocess(both, PostprocessSettings()), both)


def test_a_hole_that_a_negative_click_made_stays_a_hole():
    ring = disc(40, 30, 15) & ~disc(40, 30, 3)
    no = Prompts(np.array([[20, 40], [30, 40]], np.float32), np.array([1, 0], np.int32))
    assert np.array_equal(postprocess(ring, PostprocessSettings(fill_holes=1), no), ring)


def test_a_large_hole_stays_unless_all_are_filled():
    ring = disc(40, 30, 15) & ~disc(40, 30, 11)
    assert np.array_equal(postprocess(ring, PostprocessSettings()), ring)
    filled = postprocess(ring, PostprocessSettings(fill_holes=1))
    assert np.array_equal(filled, disc(40, 30, 15))


def test_small_pieces_go_by_their_area():
    mask = disc(40, 20, 8) | disc(40, 70, 2)
    cleaned = postprocess(mask, PostprocessSettings(keep="all", min_area=50))
    assert np.array_equal(cleaned, disc(40, 20, 8))


def test_smoothing_rounds_a_corner_and_keeps_the_area():
    mask = np.zeros((80, 100), bool)
    mask[20:60, 30:70] = True
    smooth = postprocess(mask, PostprocessSettings(smoothing=4))
    assert not smooth[20, 30]
    assert smooth[40, 30]
    assert smooth.sum() == pytest.approx(mask.sum(), rel=0.05)


def test_an_object_that_the_frame_cuts_is_not_opened_away_there():
    mask = np.zeros((80, 100), bool)
    mask[:, :6] = True
    assert np.array_equal(postprocess(mask, PostprocessSettings(opening=4)), mask)


def test_closing_does_not_bridge_the_gap_to_the_frame():
    mask = np.zeros((80, 100), bool)
    mask[30:50, 2:20] = True
    assert np.array_equal(postprocess(mask, PostprocessSettings(closing=4)), mask)


def test_switched_off_nothing_happens():
    mask = disc(40, 20, 8) | disc(40, 70, 2)
    chosen = PostprocessSettings(enabled=False, keep="largest", dilation=5)
    assert np.array_equal(postprocess(mask, chosen), mask)


@pytest.mark.parametrize("wrong", [{"keep": "some"}, {"dilation": -1}, {"smoothing": float("nan")}])
def test_impossible_settings_say_what_is_expected(wrong):
    with pytest.raises(UsgsegError, match="expected"):
        PostprocessSettings(**wrong)
