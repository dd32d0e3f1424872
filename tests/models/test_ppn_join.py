"""Learned prompts beside each other: which box counts, and whose mask where two disagree."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_usgseg.core.types import Prompts
from napari_usgseg.models.ppn.card import PpnCard
from napari_usgseg.models.ppn.model import (
    Decoded,
    FrozenDecoder,
    PpnModel,
    blended,
    box_of_mask,
    mean_of,
    within_box,
)
from napari_usgseg.models.ppn.network import BOX_TOKENS, ClassPrompter, LearnedPrompts, PpnShape
from napari_usgseg.models.sam.nano import NanoSam
from napari_usgseg.models.sam.sam import SamSegmenter


@pytest.fixture(scope="module")
def segmenter() -> SamSegmenter:
    torch.manual_seed(1)
    return SamSegmenter(NanoSam(64), "nano-00000001")


def learned_of(mask_logits: torch.Tensor) -> LearnedPrompts:
    rows = len(mask_logits)
    generator = torch.Generator().manual_seed(0)
    return LearnedPrompts(
        sparse=torch.randn(rows, 5, 256, generator=generator),
        dense=torch.zeros(rows, 256, 4, 4),
        mask_logits=mask_logits,
        boxes=torch.full((rows, 4), 0.5),
    )


def decoded_of(logits: torch.Tensor) -> Decoded:
    return Decoded(logits, torch.ones(len(logits), 1), torch.full((len(logits), 1), 3.0))


def test_the_box_goes_around_the_mask_prompt_and_the_other_tokens_stay(segmenter):
    logits = torch.full((2, 1, 16, 16), -4.0)
    logits[0, 0, 4:8, 2:14] = 3.0  # the second mask prompt has no pixel
    learned = learned_of(logits)
    decoder = FrozenDecoder(segmenter)
    with torch.inference_mode():
        boxed = box_of_mask(learned, decoder)
        expected = decoder.embed_boxes(torch.tensor([[0.125, 0.25, 0.875, 0.5]]) * 64)
    torch.testing.assert_close(boxed.boxes[0], torch.tensor([0.125, 0.25, 0.875, 0.5]))
    torch.testing.assert_close(boxed.boxes[1], learned.boxes[1])
    torch.testing.assert_close(boxed.sparse[:1, :BOX_TOKENS], expected)
    torch.testing.assert_close(boxed.tokens, learned.tokens)


def test_where_both_masks_are_the_same_the_decoders_logits_stay():
    logits = torch.full((1, 1, 8, 8), -2.0)
    logits[..., 2:6, 2:6] = 2.5
    answer = blended(decoded_of(logits), 3 * logits)
    torch.testing.assert_close(answer.logits, logits, atol=1e-3, rtol=0)
    assert float(answer.object_score) == 3.0


def test_where_the_masks_are_apart_the_surer_one_is_seen():
    ours, theirs = torch.full((1, 1, 8, 8), -3.0), torch.full((1, 1, 8, 8), -3.0)
    theirs[..., :3] = 0.5  # the decoder is not sure
    ours[..., 5:] = 6.0
    mask = blended(decoded_of(theirs), ours).logits > 0
    assert not mask[..., :3].any()
    assert mask[..., 5:].all()


def test_two_empty_masks_stay_empty():
    empty = torch.full((1, 1, 8, 8), -5.0)
    answer = blended(decoded_of(empty), empty)
    assert not (answer.logits > 0).any()
    assert torch.isfinite(answer.logits).all()


def test_the_answer_to_a_box_is_the_mean_with_and_without_the_mask_prompt(segmenter):
    torch.manual_seed(2)
    prompter = ClassPrompter(PpnShape((256,), mlp_dim=64), 1, 6)
    model = PpnModel(segmenter, prompter, PpnCard({1: "nerve"}, segmenter.model_id, {}))
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    embedding = segmenter.embed(image)
    box = Prompts(box=np.array([20.0, 15.0, 80.0, 70.0], np.float32))
    plain = segmenter.predict(embedding, box)
    answer = model.for_class(1).predict(embedding, box)
    assert answer.masks.shape == plain.masks.shape == (1, 90, 120)
    assert answer.object_score == plain.object_score
    second = 2 * answer.low_res_logits - plain.low_res_logits
    assert np.abs(second - plain.low_res_logits).max() > 1e-4  # the mask prompt was heard
    again = mean_of(answer, answer, embedding, 64)
    np.testing.assert_array_equal(again.masks, answer.masks)
    np.testing.assert_allclose(again.low_res_logits, answer.low_res_logits, atol=1e-6)


def test_a_mask_prompt_ends_at_a_box():
    cut = within_box(torch.full((1, 1, 20, 20), 5.0), torch.tensor([[0.25, 0.5, 0.75, 1.0]]), 0.0)
    inside = cut[0, 0] > 0
    assert inside[10:, 5:15].all()
    assert inside.sum() == 100
