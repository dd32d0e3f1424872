"""A person's prompts beside learned ones: which way is measured best, and taken."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_usgseg.core.types import Prompts
from napari_usgseg.learning.joining import LEARNED, error_line, in_words, means, measure_ways
from napari_usgseg.learning.labelled import LabelledImage
from napari_usgseg.models.ppn.card import WAYS, PpnCard, best_way
from napari_usgseg.models.ppn.model import PpnModel
from napari_usgseg.models.ppn.network import ClassPrompter, PpnShape
from napari_usgseg.models.sam.nano import NanoSam
from napari_usgseg.models.sam.sam import SamSegmenter

BOX = Prompts(box=np.array([20.0, 15.0, 80.0, 70.0], np.float32))
CLICK = Prompts(np.array([[40.0, 30.0]], np.float32), np.array([1], np.int32))


@pytest.fixture(scope="module")
def model() -> PpnModel:
    torch.manual_seed(1)
    segmenter = SamSegmenter(NanoSam(64), "nano-00000001")
    prompter = ClassPrompter(PpnShape((256,), mlp_dim=64), 2, 6)
    return PpnModel(segmenter, prompter, PpnCard({1: "nerve", 4: "bone"}, "nano-00000001", {}))


@pytest.fixture(scope="module")
def image() -> LabelledImage:
    pixels = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    labels = np.zeros((90, 120), np.uint8)
    labels[20:40, 10:60], labels[60:70, 50:110] = 1, 1
    return LabelledImage("a", "g", pixels, labels)


def measured(way: str, kind: str = "box") -> dict:
    dice = dict.fromkeys(WAYS[kind], 0.5) | {way: 0.9}
    return {"ways": {"1": {kind: dice}}}


def test_every_way_is_measured_for_the_classes_that_are_there(model, image):
    found = means([measure_ways(model, image)])
    assert set(found) == {"1"}
    assert set(found["1"]) == set(WAYS)
    for kind, ways in found["1"].items():
        fixes = {LEARNED} if kind.startswith("fix") else set()
        assert set(ways) in ({*WAYS[kind], *fixes}, set()), kind
        assert all(0 <= dice <= 1 for dice in ways.values())


@pytest.mark.parametrize("way", WAYS["box"])
def test_a_box_is_answered_in_the_way_that_was_measured_best(model, image, way):
    known = model.with_card(replace(model.card, scores=measured(way)))
    embedding = model.segmenter.embed(image.image)
    answer = known.for_class(1).predict(embedding, BOX)
    expected = model.answer(embedding, 1, BOX, way)
    np.testing.assert_array_equal(answer.low_res_logits, expected.low_res_logits)
    other = known.for_class(4).predict(embedding, BOX)
    beside = model.answer(embedding, 4, BOX, "beside")
    np.testing.assert_array_equal(other.low_res_logits, beside.low_res_logits)


def test_what_is_kept_is_the_mask_itself(model, image):
    known = model.with_card(replace(model.card, scores=measured("kept", "fix by click")))
    embedding = model.segmenter.embed(image.image)
    before = model.for_class(1).predict(embedding, Prompts())
    fix = replace(CLICK, mask_input=before.low_res_logits[0])
    answer = known.for_class(1).predict(embedding, fix)
    np.testing.assert_array_equal(answer.masks, before.masks)


def test_a_learned_mask_that_is_cut_is_nowhere_outside_the_box(model, image):
    embedding = model.segmenter.embed(image.image)
    mask = model.answer(embedding, 1, BOX, "cut").masks[0]
    rows, columns = np.nonzero(mask)
    if len(rows):
        assert columns.min() >= 20 - 8
        assert columns.max() <= 80 + 8


def test_an_error_is_scribbled_along_and_within():
    error = np.zeros((60, 100), bool)
    error[20:24, 10:90] = True
    error[40:60, 0:5] = True
    line = error_line(error, (50, 22))
    assert np.ptp(line[:, 0]) > 40
    at = np.rint(line).astype(int)
    assert error[at[:, 1], at[:, 0]].all()


def test_the_learn_page_says_what_prompts_give_beside_what_was_learned():
    text = in_words(measured("joined"), {1: "ilium"})
    assert "ilium: box 0.90, joined (alone 0.50)" in text
    assert in_words({}, {1: "ilium"}) == ""


def test_a_small_lead_is_chance_and_the_segmenter_alone_is_taken():
    assert best_way({"plain": 0.90, "beside": 0.905, "joined": 0.8}, "box") == "plain"
    assert best_way({"plain": 0.30, "beside": 0.34, "joined": 0.64}, "box") == "joined"
    assert best_way({}, "box") is None
