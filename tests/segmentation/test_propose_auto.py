"""A prompt predictor in the pipeline: proposals by class."""

from __future__ import annotations

import numpy as np
import pytest

from napari_usgseg.segmentation.postprocess import PostprocessSettings
from napari_usgseg.segmentation.propose import propose_auto
from tests.support.plain_models import KNOWN_HW, KnownAnswers, prediction


@pytest.fixture
def embedding(plain_segmenter):
    return plain_segmenter.embed(np.zeros((*KNOWN_HW, 3), np.uint8))


def test_each_class_is_proposed_by_its_name(plain_segmenter, answers, embedding):
    found = propose_auto(KnownAnswers(plain_segmenter, answers), embedding, PostprocessSettings())
    assert {item.phrase for item in found.items} == {"cyst", "nerve"}
    (cyst,) = (item for item in found.items if item.phrase == "cyst")
    np.testing.assert_array_equal(cyst.box, [10, 10, 39, 29])
    assert cyst.iou_prediction == pytest.approx(0.8)
    assert found.notes == ()


def test_a_class_with_a_negative_object_score_is_not_in_the_image(
    plain_segmenter, answers, embedding
):
    answers[2] = prediction(40, 50, 50, 70, score=-0.1)
    found = propose_auto(KnownAnswers(plain_segmenter, answers), embedding, PostprocessSettings())
    assert [item.phrase for item in found.items] == ["cyst"]
    assert found.notes == ("No 'nerve' found in this image.",)
