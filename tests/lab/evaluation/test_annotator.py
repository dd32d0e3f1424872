from __future__ import annotations

import numpy as np
import pytest

from napari_usgseg.core.metrics import dice
from napari_usgseg.lab.evaluation.annotator import ClickTrace, simulate_clicks
from napari_usgseg.segmentation.postprocess import PostprocessSettings

RAW = PostprocessSettings(enabled=False)


def _truth(height=60, width=80):
    truth = np.zeros((height, width), bool)
    truth[10:50, 15:65] = True
    return truth


def test_the_first_click_is_positive_at_the_deepest_point(plain_segmenter):
    truth = _truth()
    embedding = plain_segmenter.embed(np.zeros((60, 80, 3), np.uint8))
    simulate_clicks(plain_segmenter, embedding, truth, RAW)
    first = plain_segmenter.asked[0]
    (x, y), label = first.point_coords[0], first.point_labels[0]
    assert label == 1
    assert min(x - 15, 64 - x, y - 10, 49 - y) >= 19
    assert first.mask_input is None


def test_clicks_add_up_and_the_last_low_resolution_mask_is_fed_back(plain_segmenter):
    embedding = plain_segmenter.embed(np.zeros((60, 80, 3), np.uint8))
    simulate_clicks(plain_segmenter, embedding, _truth(), RAW)
    asked = plain_segmenter.asked
    assert [len(prompts.point_coords) for prompts in asked] == list(range(1, len(asked) + 1))
    first_answer = plain_segmenter.predict(embedding, asked[0]).low_res_logits[0]
    np.testing.assert_array_equal(asked[1].mask_input, first_answer)
    assert asked[2].mask_input is not None
    np.testing.assert_array_equal(asked[2].point_coords[:2], asked[1].point_coords)


def test_the_reported_mask_is_the_one_after_five_clicks(plain_segmenter):
    truth = _truth()
    embedding = plain_segmenter.embed(np.zeros((60, 80, 3), np.uint8))
    trace = simulate_clicks(plain_segmenter, embedding, truth, RAW)
    assert len(trace.dice) > 5
    assert dice(truth, trace.mask) == pytest.approx(trace.dice_at(5))
    assert trace.dice_at(5) > trace.dice_at(1)


def test_a_model_that_never_gets_there_is_given_up_after_twenty_clicks(plain_segmenter):
    truth = np.ones((400, 400), bool)
    embedding = plain_segmenter.embed(np.zeros((400, 400, 3), np.uint8))
    trace = simulate_clicks(plain_segmenter, embedding, truth, RAW)
    assert len(plain_segmenter.asked) == 20
    assert trace.noc(0.85) == 20


def test_clicks_to_reach_an_iou_are_counted_from_one():
    trace = ClickTrace((0.5, 0.9, 0.95), (0.4, 0.86, 0.91), np.zeros((1, 1), bool))
    assert (trace.noc(0.85), trace.noc(0.90), trace.noc(0.95)) == (2, 3, 20)


def test_a_trace_that_ended_early_stays_at_its_last_dice():
    trace = ClickTrace((0.7, 1.0), (0.6, 1.0), np.zeros((1, 1), bool))
    assert [trace.dice_at(count) for count in (1, 3, 5)] == [0.7, 1.0, 1.0]
