"""A correction changes what it points at, and leaves alone what it does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from napari_usgseg.core.metrics import iou
from napari_usgseg.core.types import Prompts
from napari_usgseg.segmentation import correction
from napari_usgseg.segmentation.correction import (
    LEAST_AGREEMENT,
    REACH,
    merge_correction,
    merged_logits,
)
from napari_usgseg.segmentation.postprocess import PostprocessSettings
from napari_usgseg.segmentation.propose import propose_prompts

HEIGHT, WIDTH = 70, 90
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]


def ellipse(x, y, a, b):
    return ((COLUMNS - x) / a) ** 2 + ((ROWS - y) / b) ** 2 <= 1


def click(x, y, label):
    return Prompts(np.array([[x, y]], np.float32), np.array([label], np.int32))


ellipses = st.builds(
    ellipse,
    st.integers(10, WIDTH - 10),
    st.integers(10, HEIGHT - 10),
    st.integers(5, 40),
    st.integers(5, 30),
)
points = st.tuples(st.integers(0, WIDTH - 1), st.integers(0, HEIGHT - 1))


def depth_of(previous, x, y, label):
    """Distance of a click from the nearest pixel on the other side of the old border."""
    other = previous if label else ~np.pad(previous, 1)
    rows, columns = np.nonzero(other)
    shift = 0 if label else 1
    return np.hypot(rows - y - shift, columns - x - shift).min()


@settings(deadline=None, max_examples=150)
@given(ellipses, ellipses, points, st.data())
def test_far_from_the_click_nothing_changes(previous, other, point, data):
    x, y = point
    label = int(not previous[y, x])
    patch = ellipse(*point, data.draw(st.integers(2, 15)), data.draw(st.integers(2, 15)))
    answer = (previous | patch) if label else (previous & ~patch)
    answer = answer ^ (other & data.draw(st.sampled_from([other, ~other & other, patch])))
    assume(iou(previous, answer) >= LEAST_AGREEMENT)
    merged = merge_correction(previous, answer, click(x, y, label))
    reach = max(REACH, 1) * depth_of(previous, x, y, label)
    far = np.hypot(COLUMNS - x, ROWS - y) > reach
    np.testing.assert_array_equal(merged[far], previous[far])


@settings(deadline=None, max_examples=150)
@given(ellipses, ellipses, st.lists(st.tuples(points, st.booleans()), min_size=1, max_size=3))
def test_the_clicked_pixels_follow_their_signs(previous, answer, clicks):
    coords = [point for point, _ in clicks]
    assume(len(set(coords)) == len(coords))
    labels = [int(positive) for _, positive in clicks]
    assume(any(previous[y, x] != bool(k) for (x, y), k in zip(coords, labels, strict=True)))
    assume(len(set(labels)) == 1)  # discs of opposite clicks may reach over one another
    prompts = Prompts(np.array(coords, np.float32), np.array(labels, np.int32))
    merged = merge_correction(previous, answer, prompts)
    for (x, y), label in zip(coords, labels, strict=True):
        if previous[y, x] != bool(label):
            assert merged[y, x] == bool(label)


@settings(deadline=None, max_examples=100)
@given(ellipses, points, st.integers(2, 12), st.integers(2, 12))
def test_a_correction_changes_the_mask_in_its_own_sense_only(previous, point, a, b):
    x, y = point
    label = int(not previous[y, x])
    answer = previous ^ ellipse(x, y, a, b)
    assume(iou(previous, answer) >= LEAST_AGREEMENT)
    merged = merge_correction(previous, answer, click(x, y, label))
    assert not (previous & ~merged).any() if label else not (merged & ~previous).any()


@given(ellipses, ellipses)
def test_a_prompt_that_contradicts_nothing_changes_nothing(previous, answer):
    y, x = np.argwhere(previous)[0]
    merged = merge_correction(previous, answer, click(x, y, 1))
    np.testing.assert_array_equal(merged, previous)
    assert merged is not previous


def test_a_mask_that_was_wrong_by_far_is_changed_as_far_as_the_answer_goes():
    small, large = ellipse(30, 30, 10, 10), ellipse(50, 35, 35, 30)
    merged = merge_correction(small, large, click(60, 35, 1))
    np.testing.assert_array_equal(merged, small | large)
    merged = merge_correction(large, small, click(60, 35, 0))
    np.testing.assert_array_equal(merged, large & small)


@settings(deadline=None, max_examples=100)
@given(ellipses, ellipses, points)
def test_whatever_the_answer_no_click_changes_the_mask_against_its_sense(previous, answer, point):
    x, y = point
    label = int(not previous[y, x])
    merged = merge_correction(previous, answer, click(x, y, label))
    assert not (previous & ~merged).any() if label else not (merged & ~previous).any()


def test_a_rim_of_an_answer_on_the_other_side_is_not_taken_though_masks_differ():
    previous = ellipse(45, 35, 30, 8)
    above, below = ellipse(45, 24, 34, 8), ellipse(45, 46, 34, 8)
    answer = previous | above | below
    assert iou(previous, answer) < LEAST_AGREEMENT
    merged = merge_correction(previous, answer, click(45, 48, 1))
    assert merged[below & ~previous].mean() > 0.9
    far = above & ~previous & (ROWS < 30)
    assert not merged[far & (np.abs(COLUMNS - 45) < 20)].any()


def test_without_a_mask_before_the_answer_is_whole():
    answer = ellipse(30, 30, 10, 10)
    merged = merge_correction(np.zeros_like(answer), answer, click(0, 0, 1))
    np.testing.assert_array_equal(merged, answer)


def test_only_the_corrected_side_of_the_border_moves():
    previous = ellipse(45, 35, 30, 25)
    left, right = ellipse(14, 35, 6, 8), ellipse(75, 35, 6, 8)
    merged = merge_correction(previous, previous | left | right, click(10, 35, 1))
    assert merged[left].all()
    assert not merged[right & ~previous].any()


def test_a_scribble_corrects_along_its_whole_length():
    previous = ellipse(45, 35, 30, 25)
    band = (ROWS >= 57) & (ROWS <= 64) & (COLUMNS >= 25) & (COLUMNS <= 65)
    line = np.array([[27, 62], [63, 62]], np.float32)
    merged = merge_correction(previous, previous | band, Prompts(scribbles=((line, 1),)))
    assert merged[62, 27:64].all()
    np.testing.assert_array_equal(merged[:50], previous[:50])


def test_a_click_that_the_model_ignores_still_moves_the_border():
    previous = ellipse(45, 35, 30, 25)
    merged = merge_correction(previous, previous, click(45, 14, 0))
    removed = previous & ~merged
    assert removed[14, 45]
    assert removed.sum() < 0.1 * previous.sum()
    assert iou(merged, previous) > 0.9


def test_an_image_beyond_the_grid_is_corrected_as_its_reduction_is(monkeypatch):
    previous, patch = ellipse(45, 35, 30, 25), ellipse(14, 35, 6, 8)
    fine = merge_correction(previous, previous | patch, click(12, 35, 1))
    monkeypatch.setattr(correction, "GRID", 30)
    coarse = merge_correction(previous, previous | patch, click(12, 35, 1))
    assert iou(fine, coarse) > 0.98


@settings(deadline=None, max_examples=50)
@given(ellipses, ellipses)
def test_what_is_fed_back_says_what_the_person_sees(answer, merged):
    logits = np.where(answer[::2, ::2], 7.5, -6.5).astype(np.float32)
    fed_back = merged_logits(logits, merged)
    blocks = merged.reshape(HEIGHT // 2, 2, WIDTH // 2, 2).mean(axis=(1, 3))
    inside, outside = blocks > 0.5, blocks < 0.5
    assert (fed_back[inside] > 0).all()
    assert (fed_back[outside] < 0).all()
    agreed = (inside & (logits > 0)) | (outside & (logits < 0))
    np.testing.assert_array_equal(fed_back[agreed], logits[agreed])


@pytest.mark.parametrize("label", [0, 1])
def test_a_proposal_is_corrected_where_its_previous_mask_is_given(plain_segmenter, image, label):
    embedding = plain_segmenter.embed(image)
    cleaning = PostprocessSettings(enabled=False)
    box = np.array([10, 10, 60, 50], np.float32)
    before = propose_prompts(plain_segmenter, embedding, Prompts(box=box), cleaning)
    x, y = (62, 30) if label else (58, 30)
    prompts = Prompts(np.array([[x, y]], np.float32), np.array([label]), box)
    whole = propose_prompts(plain_segmenter, embedding, prompts, cleaning)
    part = propose_prompts(plain_segmenter, embedding, prompts, cleaning, before.mask)
    assert part.mask[y, x] == bool(label)
    changed = part.mask ^ before.mask
    assert 0 < changed.sum() < (whole.mask ^ before.mask).sum()
