"""Matching with one reference image, on pictures whose features are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_usgseg.core.errors import DatasetError
from napari_usgseg.core.metrics import dice
from napari_usgseg.io.datasets import read_dataset
from napari_usgseg.lab.evaluation.evaluate import Asked, EvaluationRequest, load_scorer
from napari_usgseg.lab.evaluation.matching import match, target_feature
from napari_usgseg.models.registry import load_segmenter
from napari_usgseg.phantoms.phantom import write_phantom_dataset


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets") / "heads"
    write_phantom_dataset(folder, 4, 3, "fetal-head", (192, 256))
    return read_dataset(folder)


def test_the_reference_is_not_scored_and_the_others_are(phantoms):
    scorer = load_scorer(Asked(None, baseline="persam"), EvaluationRequest("none"))
    scores = scorer.score(phantoms).scores
    assert len(scores) == len(phantoms.items) - 1
    assert all(score.detected == 1 for score in scores), "nothing says that it is absent"


def test_an_object_is_found_in_its_own_image():
    segmenter = load_segmenter("nano")
    image = np.full((192, 256, 3), 60, np.uint8)
    rows, columns = np.ogrid[:192, :256]
    disc = (rows - 120) ** 2 + (columns - 60) ** 2 <= 35**2
    image[disc] = 200
    embedding = segmenter.embed(image)
    found = match(segmenter, embedding, target_feature(embedding, disc))
    assert dice(found, disc) > 0.7


def test_a_label_that_is_nowhere_has_no_reference(phantoms):
    scorer = load_scorer(Asked(None, baseline="persam"), EvaluationRequest("none"))
    with pytest.raises(DatasetError, match="no image shows moon"):
        scorer.score(replace(phantoms, labels={**phantoms.labels, 9: "moon"}))
