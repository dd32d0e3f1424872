"""The segmenter's own behaviour, on a small network with random weights.

That its numbers are SAM 2's is the business of test_sam2.py.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_usgseg.core.errors import ModelError, PromptError
from napari_usgseg.core.geometry import scribble_to_points
from napari_usgseg.core.types import Prompts
from napari_usgseg.models.sam.nano import NanoSam
from napari_usgseg.models.sam.sam import LOGIT_LIMIT, SCRIBBLE_LIMIT, SCRIBBLE_SPACING, SamSegmenter

SIZE_HW = (90, 140)
GRID = 4 * 128 // 16


def click(x: float, y: float, label: int = 1) -> Prompts:
    return Prompts(np.array([[x, y]], np.float32), np.array([label], np.int32))


def box(*corners: float) -> Prompts:
    return Prompts(box=np.array(corners, np.float32))


def noise(seed: int, size_hw: tuple[int, int] = SIZE_HW) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), np.uint8)


@pytest.fixture(scope="module")
def segmenter() -> SamSegmenter:
    torch.manual_seed(0)
    return SamSegmenter(NanoSam(128), "nano-random")


@pytest.fixture(scope="module")
def embedding(segmenter):
    return segmenter.embed(noise(0), "scan")


def test_an_embedding_carries_the_image_the_model_and_the_original_size(embedding):
    assert (embedding.image_id, embedding.model_id) == ("scan", "nano-random")
    assert embedding.size_hw == SIZE_HW
    assert embedding.features["image_embed"].shape == (1, 256, 8, 8)


def test_embedding_reads_flipped_and_read_only_images_and_leaves_them_alone(segmenter):
    image = noise(1)
    flipped = image[:, ::-1]
    before = image.copy()
    image.setflags(write=False)
    mirrored = segmenter.embed(np.ascontiguousarray(flipped)).features["image_embed"]
    assert torch.equal(segmenter.embed(flipped).features["image_embed"], mirrored)
    assert np.array_equal(image, before)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_an_image_that_is_not_rgb_uint8_is_refused_with_the_cure(segmenter, image):
    with pytest.raises(ModelError, match="to_rgb_uint8"):
        segmenter.embed(image)


def test_two_threads_with_two_images_do_not_mix_them(segmenter):
    images = [noise(2), noise(3, (64, 50))]
    prompts = [click(40, 30), click(20, 50, label=0)]

    def work(which: int):
        return segmenter.predict(segmenter.embed(images[which]), prompts[which], multimask=True)

    alone = [work(0), work(1)]
    assert not np.array_equal(alone[0].low_res_logits, alone[1].low_res_logits)
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(work, [0, 1] * 4))
    for index, answer in enumerate(together):
        expected = alone[index % 2]
        np.testing.assert_allclose(answer.low_res_logits, expected.low_res_logits, atol=1e-5)
        assert answer.masks.shape == expected.masks.shape


def test_three_candidates_come_back_best_first(segmenter, embedding):
    prediction = segmenter.predict(embedding, box(20, 10, 90, 70), multimask=True)
    assert prediction.masks.shape == (3, *SIZE_HW)
    assert prediction.masks.dtype == bool
    assert prediction.low_res_logits.shape == (3, GRID, GRID)
    assert (np.diff(prediction.iou_predictions) <= 0).all()


def test_a_single_click_gives_the_best_of_three_and_a_box_the_single_mask(segmenter, embedding):
    three = segmenter.predict(embedding, click(50, 40), multimask=True)
    best = segmenter.predict(embedding, click(50, 40))
    assert best.masks.shape == (1, *SIZE_HW)
    np.testing.assert_array_equal(best.low_res_logits[0], three.low_res_logits[0])

    prompts = box(20, 10, 90, 70)
    np.testing.assert_array_equal(
        segmenter.predict(embedding, prompts).low_res_logits,
        segmenter.predict(embedding, prompts, multimask=False).low_res_logits,
    )


@settings(deadline=None, max_examples=8)
@given(height=st.integers(1, 200), width=st.integers(1, 200))
def test_masks_have_the_size_of_the_original_whatever_it_is(segmenter, height, width):
    embedding = segmenter.embed(noise(4, (height, width)))
    prediction = segmenter.predict(embedding, click(width - 1, height - 1))
    assert prediction.masks.shape == (1, height, width)


def test_a_scribble_is_the_points_along_it(segmenter, embedding):
    line = np.array([[20, 20], [80, 30], [100, 70]], np.float32)
    points = scribble_to_points(line, SCRIBBLE_SPACING * max(SIZE_HW), SCRIBBLE_LIMIT)
    drawn = segmenter.predict(embedding, Prompts(scribbles=((line, 0),)))
    clicked = segmenter.predict(embedding, Prompts(points, np.zeros(len(points), np.int32)))
    np.testing.assert_array_equal(drawn.low_res_logits, clicked.low_res_logits)


def test_a_scribble_and_a_box_that_cross_the_border_count_inside_of_it(segmenter, embedding):
    line = np.array([[-500, 40], [30, 40]], np.float32)
    assert segmenter.predict(embedding, Prompts(scribbles=((line, 1),))).masks.any(axis=0).shape
    over = segmenter.predict(embedding, box(-30, 10, 1000, 70))
    cut = segmenter.predict(embedding, box(0, 10, SIZE_HW[1] - 1, 70))
    np.testing.assert_array_equal(over.low_res_logits, cut.low_res_logits)


def test_previous_logits_of_any_size_are_taken_and_matter(segmenter, embedding):
    first = segmenter.predict(embedding, click(50, 40))
    logits = np.full((GRID, GRID), -8, np.float32)
    logits[5:20, 5:20] = 8
    bigger = np.kron(logits, np.ones((3, 2), np.float32))
    fed, resampled = (
        segmenter.predict(
            embedding, Prompts(np.array([[50, 40]]), np.array([1]), mask_input=mask), multimask=True
        )
        for mask in (logits, bigger)
    )
    assert np.abs(fed.low_res_logits[0] - first.low_res_logits[0]).max() > 1e-3
    np.testing.assert_allclose(resampled.low_res_logits, fed.low_res_logits, atol=0.05)


def test_previous_logits_alone_are_a_prompt_and_are_clamped(segmenter, embedding):
    logits = np.linspace(-100, 100, GRID * GRID, dtype=np.float32).reshape(GRID, GRID)
    clamped = segmenter.predict(embedding, Prompts(mask_input=logits.clip(-32, 32)))
    given_raw = segmenter.predict(embedding, Prompts(mask_input=logits))
    np.testing.assert_array_equal(given_raw.low_res_logits, clamped.low_res_logits)
    assert np.abs(given_raw.low_res_logits).max() <= LOGIT_LIMIT


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (Prompts(), "nothing to go by"),
        (click(np.nan, 3), "outside the image"),
        (click(np.inf, 3), "outside the image"),
        (click(140, 3), "outside the image of 140 x 90"),
        (click(3, -1), "outside the image"),
        (click(3, 3, label=2), "positive"),
        (Prompts(np.zeros((2, 2)), np.ones(3)), r"\(2, 2\)"),
        (box(5, 5, np.nan, 9), "four finite numbers"),
        (box(30, 5, 20, 9), "swapped"),
        (box(200, 5, 300, 9), "outside the image"),
        (Prompts(box=np.zeros((2, 4), np.float32)), "four finite numbers"),
        (Prompts(scribbles=((np.array([[np.nan, 1]]), 1),)), "scribble"),
        (Prompts(scribbles=((np.array([[-9, -9], [-2, -9]]), 1),)), "scribble lies outside"),
        (Prompts(mask_input=np.full((8, 8), np.nan, np.float32)), "mask_input"),
        (Prompts(mask_input=np.zeros((1, 8, 8), np.float32)), "mask_input"),
    ],
)
def test_a_prompt_that_cannot_be_used_is_refused_with_the_reason(
    segmenter, embedding, prompts, message
):
    with pytest.raises(PromptError, match=message):
        segmenter.predict(embedding, prompts)


def test_an_embedding_of_another_model_is_refused(segmenter, embedding):
    other = SamSegmenter(segmenter.net, "nano-other")
    with pytest.raises(ModelError, match=r"nano-random.*nano-other.*embed the image again"):
        other.predict(embedding, click(5, 5))
