"""How a tuning is judged, and which score a box must have afterwards."""

from __future__ import annotations

import numpy as np
import pytest

from napari_usgseg.core.types import TextPrompt
from napari_usgseg.learning.lora.data import CheckImage
from napari_usgseg.learning.lora.validation import THRESHOLDS, ask, choose_threshold
from napari_usgseg.models.registry import load_detector
from napari_usgseg.phantoms.phantom import make_phantom


def at(*parts):
    """Scores at the thresholds, from parts (up to which threshold, score)."""
    return np.array([next((v for end, v in parts if t <= end + 1e-6), 0.0) for t in THRESHOLDS])


def chosen(dice_at, own=0.8, images=10):
    return float(THRESHOLDS[choose_threshold(dice_at, images, own)])


def test_the_detectors_own_threshold_stays_where_it_is_as_good_as_any():
    assert chosen(at((0.9, 0.9))) == pytest.approx(0.8)
    assert chosen(at((0.3, 0.94), (0.85, 0.9))) == pytest.approx(0.8)
    assert chosen(at((0.6, 0.9)), own=0.3) == pytest.approx(0.3)


def test_many_images_are_believed_more_than_few():
    faint = at((0.5, 0.94), (0.85, 0.9))
    assert chosen(faint, images=10) == pytest.approx(0.8)
    assert chosen(faint, images=100) < 0.5


def test_a_target_with_low_scores_gets_the_middle_of_the_thresholds_that_are_good():
    assert chosen(at((0.2, 0.6), (0.4, 0.9), (0.8, 0.5))) == pytest.approx(0.35, abs=0.051)


def test_no_threshold_is_far_below_the_detectors_own():
    assert chosen(at((0.1, 0.9), (0.3, 0.6))) == pytest.approx(0.25, abs=0.051)


@pytest.mark.parametrize("name", ["nano", "nano-dino"])
def test_the_dice_at_a_threshold_is_that_of_the_boxes_that_pass_it(name):
    phantom = make_phantom(1, kind="breast")
    detector = load_detector(name)
    image = CheckImage("phantoms/1", phantom.image, phantom.labels, {1: phantom.phrase, 2: "cyst"})
    answers = ask(detector, [image])
    assert [answer.phrase for answer in answers] == [phantom.phrase, "cyst"]
    for answer in answers:
        for place in (0, 6, 15):
            threshold = float(THRESHOLDS[place])
            usual = detector.detect(phantom.image, TextPrompt(answer.phrase, threshold, threshold))
            np.testing.assert_array_equal(answer.found_at(place), usual.boxes)
    assert answers[0].dice.max() > 0.6
    assert set(answers[0].dice) != {0.0}


def test_where_nothing_is_there_a_high_threshold_is_right():
    phantom = make_phantom(1, kind="breast")
    nothing = np.zeros_like(phantom.labels)
    image = CheckImage("phantoms/1", phantom.image, nothing, {1: phantom.phrase})
    (answer,) = ask(load_detector("nano"), [image])
    assert answer.dice[0] == 0.0
    assert list(answer.dice) == sorted(answer.dice)
