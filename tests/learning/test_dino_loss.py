"""The small Grounding DINO's losses and its start: what is taught is what was asked."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_usgseg.lab.nano_factory.dino import build_dino, start_trunk
from napari_usgseg.learning.lora.data import Question
from napari_usgseg.learning.lora.tasks import (
    STRIDES,
    Truth,
    box_ious,
    dino_loss,
    hits_of,
    pairwise_ious,
    phrase_of_tokens,
    truth_of,
)
from napari_usgseg.models.grounding.nano_detector import PhraseNet

SIDE = 64
LEVELS = STRIDES[:3]
CELLS = sum((SIDE // stride) ** 2 for stride in LEVELS)
TOKENS = torch.tensor([[101, 2000, 2001, 1012, 3000, 1012, 102], [101, 4000, 1012, 102, 0, 0, 0]])
"""Two phrases of two tokens and one; one phrase and padding."""
MASK = (TOKENS != 0).long()


def square(x0, y0, x1, y1):
    mask = torch.zeros(SIDE, SIDE)
    mask[y0:y1, x0:x1] = 1
    return mask


def truths():
    first = [
        Question(0, "a b", square(8, 8, 40, 40), True),
        Question(0, "c", square(0, 0, 0, 0), False),
    ]
    return [
        truth_of(first, SIDE),
        truth_of([Question(1, "d", torch.zeros(SIDE, SIDE), False)], SIDE),
    ]


class Heads:
    """Class and box heads that give back the logits and boxes hidden in a state."""

    def __init__(self, logits):
        self.logits = logits
        self.class_embed = [
            lambda vision_hidden_state, text_hidden_state, text_token_mask: self.logits
        ]
        self.bbox_embed = [lambda hidden: torch.zeros(*hidden.shape[:2], 4)]


def answer(encoder_logits, decoder_logits, encoder_boxes, decoder_boxes):
    """What the model gives, for scores and boxes of our choice."""
    hidden = torch.zeros(len(decoder_boxes), 1, decoder_boxes.shape[1], 2)
    return SimpleNamespace(
        enc_outputs_class=encoder_logits,
        enc_outputs_coord_logits=encoder_boxes.logit(1e-6),
        init_reference_points=decoder_boxes,
        intermediate_reference_points=decoder_boxes[:, None],
        intermediate_hidden_states=hidden,
        encoder_last_hidden_state_text=None,
    )


def loss_of(encoder_score, decoder_score, box):
    """The loss where every cell inside the object and every query has a score and a box."""
    encoder = torch.full((2, CELLS, 7), -8.0)
    inside = torch.cat(
        [
            torch.nn.functional.avg_pool2d(square(8, 8, 40, 40)[None], s).flatten()
            for s in STRIDES[:3]
        ]
    )
    encoder[0, inside > 0.3, 1:3] = encoder_score
    decoder = torch.full((2, 5, 7), -8.0)
    decoder[0, 0, 1:3] = decoder_score
    boxes = torch.tensor(box).expand(2, CELLS, 4)
    queries = torch.tensor([box, *[[0.9, 0.9, 0.1, 0.1]] * 4]).expand(2, 5, 4)
    output = answer(encoder, decoder, boxes, queries)
    return dino_loss(Heads(decoder), output, TOKENS, MASK, truths())


RIGHT, WRONG = [0.375, 0.375, 0.5, 0.5], [0.8, 0.8, 0.2, 0.2]


def test_the_right_scores_and_boxes_cost_least():
    best, _ = loss_of(6.0, 6.0, RIGHT)
    assert float(best) >= 0
    for worse in (loss_of(-6.0, 6.0, RIGHT), loss_of(6.0, -6.0, RIGHT), loss_of(6.0, 6.0, WRONG)):
        assert float(worse[0]) > float(best) + 0.1


def test_a_confident_answer_for_what_is_not_there_costs():
    _, quiet = loss_of(6.0, 6.0, RIGHT)
    encoder = torch.full((2, CELLS, 7), -8.0)
    decoder = torch.full((2, 5, 7), -8.0)
    decoder[1, 0, 1] = 6.0  # the second image's only phrase, of which there is nothing
    boxes = torch.tensor(RIGHT)
    output = answer(encoder, decoder, boxes.expand(2, CELLS, 4), boxes.expand(2, 5, 4))
    _, loud = dino_loss(Heads(decoder), output, TOKENS, MASK, truths())
    assert loud["dec0_score"] > quiet["dec0_score"]


def test_padding_never_counts():
    losses = []
    for padding in (float("-inf"), 5.0):
        encoder = torch.full((2, CELLS, 7), -8.0)
        decoder = torch.full((2, 5, 7), -8.0)
        encoder[1, :, 4:] = decoder[1, :, 4:] = padding
        boxes = torch.tensor(RIGHT)
        output = answer(encoder, decoder, boxes.expand(2, CELLS, 4), boxes.expand(2, 5, 4))
        losses.append(dino_loss(Heads(decoder), output, TOKENS, MASK, truths())[0])
    assert torch.isfinite(losses[0])
    torch.testing.assert_close(*losses)


def test_tokens_belong_to_the_phrase_between_two_signs():
    numbers = phrase_of_tokens(TOKENS).tolist()
    assert numbers == [[-1, 0, 0, -1, 1, -1, -1], [-1, 0, -1, -1, -1, -1, -1]]


def test_every_part_of_a_mask_is_an_object_of_its_phrase():
    two = square(4, 4, 20, 20) + square(40, 30, 60, 50)
    truth = truth_of(
        [Question(0, "a", torch.zeros(SIDE, SIDE), False), Question(0, "b", two, True)], SIDE
    )
    assert truth.phrases.tolist() == [1, 1]
    np.testing.assert_allclose(truth.boxes[0].numpy() * SIDE, [12, 12, 16, 16])
    assert truth.masks.sum() == two.sum()


def test_a_hit_is_the_best_scored_box_of_its_own_phrase():
    truth = Truth(torch.tensor([RIGHT]), torch.tensor([1]), torch.zeros(1, SIDE, SIDE))
    logits = torch.full((2, 7), -5.0)
    boxes = torch.tensor([WRONG, RIGHT])
    logits[0, 1], logits[1, 4] = 4.0, 2.0  # the other phrase is surer of the wrong box
    assert hits_of(logits, boxes, TOKENS[0], truth) == [True]
    logits[0, 4] = 3.0
    assert hits_of(logits, boxes, TOKENS[0], truth) == [False]


boxes_of_fractions = st.lists(
    st.tuples(*[st.floats(0.2, 0.8)] * 2, *[st.floats(0.01, 0.4)] * 2), min_size=1, max_size=5
)


@settings(deadline=None)
@given(boxes_of_fractions, boxes_of_fractions)
def test_overlaps_are_symmetric_and_generalised_ones_never_larger(a, b):
    first, second = torch.tensor(a), torch.tensor(b)
    overlap, general = pairwise_ious(first, second)
    torch.testing.assert_close(overlap, pairwise_ious(second, first)[0].T)
    assert ((overlap >= 0) & (overlap <= 1 + 1e-5)).all()
    assert (general <= overlap + 1e-5).all()
    torch.testing.assert_close(box_ious(first, first), torch.ones(len(first)))


@pytest.fixture(scope="module")
def small_dino():
    """The model as a training starts it, with a text side of no size."""
    return build_dino(
        {"vocab_size": 5000, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    )


def test_the_trunk_sees_what_it_saw_in_the_phrase_grounder(small_dino, tmp_path):
    from safetensors.torch import save_file

    donor = PhraseNet().eval()
    with torch.no_grad():
        for name, tensor in donor.named_buffers():
            if name.endswith("running_var"):
                tensor.uniform_(1e-4, 2)  # as small as the trained ones: epsilon matters
    save_file(
        {k: v.contiguous() for k, v in donor.state_dict().items()}, tmp_path / "g.safetensors"
    )
    start_trunk(small_dino, tmp_path / "g.safetensors")
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        wanted = donor.trunk(pixels)[1:]
        encoder = small_dino.model.backbone.conv_encoder.eval()
        given = encoder(pixels, torch.ones(1, 64, 64, dtype=torch.long))
    for ours, (theirs, _) in zip(wanted, given, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4 * float(ours.abs().max()))


def test_every_score_starts_near_nothing(small_dino):
    ids = TOKENS[:1] % 5000
    with torch.no_grad():
        output = small_dino.eval()(pixel_values=torch.randn(1, 3, 64, 64), input_ids=ids)
    assert 0.001 < float(output.logits[0, :, :7].sigmoid().mean()) < 0.15
    assert float(output.enc_outputs_class[0, :, :7].sigmoid().mean()) < 0.15
