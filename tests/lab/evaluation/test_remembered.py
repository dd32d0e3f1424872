from __future__ import annotations

import numpy as np
import pytest

from napari_usgseg.core.types import Prompts, TextPrompt
from napari_usgseg.lab.evaluation.ablation import RememberingDetector, RememberingSegmenter

BOX = np.array([10, 10, 30, 40], np.float32)


@pytest.fixture
def prompts():
    points = np.array([[50, 30]], np.float32)
    prior = np.ones((4, 4), np.float32)
    return [
        Prompts(box=BOX),
        Prompts(box=BOX + 1),
        Prompts(box=BOX, mask_input=prior),
        Prompts(box=BOX, mask_input=-prior),
        Prompts(points, np.ones(1, np.int32)),
        Prompts(points, np.zeros(1, np.int32), BOX),
    ]


def test_equal_prompts_are_asked_once_and_different_ones_never_mixed(
    plain_segmenter, image, prompts
):
    memory = RememberingSegmenter(plain_segmenter)
    for _ in range(2):
        for given in prompts:
            found = memory.predict(memory.embed(image), given)
            alone = plain_segmenter.predict(plain_segmenter.embed(image), given)
            plain_segmenter.asked.pop()
            np.testing.assert_array_equal(found.masks, alone.masks)
    assert len(plain_segmenter.asked) == len(prompts)


def test_another_image_is_looked_at_anew(plain_segmenter, prompts):
    memory = RememberingSegmenter(plain_segmenter)
    small = memory.embed(np.zeros((60, 80, 3), np.uint8))
    memory.predict(small, prompts[0])
    memory.forget()
    large = memory.embed(np.zeros((90, 80, 3), np.uint8))
    assert memory.predict(large, prompts[0]).masks.shape == (1, 90, 80)
    assert memory.predict(small, prompts[0]).masks.shape == (1, 60, 80), "an older embedding"


def test_scribbles_are_always_asked(plain_segmenter, image):
    memory = RememberingSegmenter(plain_segmenter)
    line = np.array([[5, 5], [20, 20]], np.float32)
    for _ in range(2):
        memory.predict(memory.embed(image), Prompts(box=BOX, scribbles=((line, 1),)))
    assert len(plain_segmenter.asked) == 2


def test_a_phrase_is_asked_once_for_each_threshold(make_detector, image):
    detector = make_detector([("cyst", (1, 1, 5, 5), 0.5)])
    memory = RememberingDetector(detector)
    for _ in range(2):
        for prompt in (TextPrompt("cyst"), TextPrompt("cyst", 0.5), TextPrompt("vessel")):
            found = memory.detect(image, prompt)
            assert len(found) == (1 if "cyst" in prompt.text else 0)
    assert len(detector.asked) == 3
    memory.forget()
    memory.detect(image, TextPrompt("cyst"))
    assert len(detector.asked) == 4
