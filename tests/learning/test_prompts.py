"""Simulated people."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_usgseg.learning.augmentation import (
    coarse_logits,
    correction,
    empty_box,
    first_prompt,
    to_tensors,
)


def disc(x: int, y: int, radius: int) -> np.ndarray:
    rows, columns = np.mgrid[:64, :64]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


@settings(deadline=None, max_examples=30)
@given(st.integers(8, 55), st.integers(8, 55), st.integers(1, 9), st.integers(0, 10**6))
def test_a_first_prompt_points_at_its_object(x, y, radius, seed):
    mask = disc(x, y, radius)
    for px, py, label in first_prompt(mask, np.random.default_rng(seed)):
        if label == 1:
            assert mask[int(py), int(px)]
        else:
            assert label in (2, 3)
            assert -16 <= px - x <= 16
            assert -16 <= py - y <= 16


def test_a_missed_part_gets_a_positive_click_in_it():
    truth, shown = disc(20, 30, 10), disc(20, 30, 4)
    click = correction(truth, shown, np.random.default_rng(0))
    assert click is not None
    x, y, label = click
    assert label == 1
    assert truth[int(y), int(x)]
    assert not shown[int(y), int(x)]


def test_an_excess_gets_a_negative_click_in_it():
    truth, shown = disc(20, 30, 4), disc(20, 30, 10)
    click = correction(truth, shown, np.random.default_rng(0))
    assert click is not None
    x, y, label = click
    assert label == 0
    assert shown[int(y), int(x)]
    assert not truth[int(y), int(x)]


def test_a_perfect_mask_needs_no_click():
    assert correction(disc(9, 9, 3), disc(9, 9, 3), np.random.default_rng(0)) is None


def test_shorter_prompts_are_padded_with_points_that_mean_nothing():
    coords, labels = to_tensors([[(1.0, 2.0, 1)], [(0.0, 0.0, 2), (5.0, 6.0, 3), (3.0, 3.0, 0)]])
    assert coords.shape == (2, 3, 2)
    assert labels.tolist() == [[1, -1, -1], [2, 3, 0]]


def test_nothing_is_pointed_at_only_where_the_image_is_black():
    image = torch.ones(3, 64, 64)
    assert empty_box(image, np.random.default_rng(0)) is None
    image[:, 32:] = 0
    box = empty_box(image, np.random.default_rng(0))
    assert box is not None
    assert box[0][1] >= 31


@pytest.mark.parametrize("seed", range(5))
def test_a_coarse_prior_still_lies_on_its_object(seed):
    mask = torch.from_numpy(disc(32, 32, 12)).float()[None]
    logits = coarse_logits(mask, np.random.default_rng(seed))
    assert logits[0, 32, 32] > 0
    assert logits[0, 2, 2] < 0


def test_each_bend_of_the_published_views_happens_in_half_of_them():
    from napari_usgseg.learning.augmentation import random_affine
    from napari_usgseg.learning.ppn import PAPER_AUGMENTATION

    rng = np.random.default_rng(0)
    drawn = np.stack([random_affine(rng, PAPER_AUGMENTATION) for _ in range(400)])
    sizes = np.sqrt(np.abs(np.linalg.det(drawn[:, :, :2])))
    assert sizes.min() >= 0.8 - 1e-6
    assert sizes.max() <= 1 + 1e-6
    for happened in (
        sizes < 1 - 1e-6,  # a crop
        np.abs(drawn[:, 0, 1]) > 1e-6,  # a turn
        np.abs(drawn[:, :, 2]).max(1) > 1e-6,  # a shift
        drawn[:, 0, 0] < 0,  # flipped, or turned, left to right
    ):
        assert 0.4 < happened.mean() < 0.6
    assert np.abs(drawn[:, :, 2]).max() <= 0.4 + 1e-6
