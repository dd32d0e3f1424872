"""A prompt predictor that is scored: whole labels, boxes, images that it learnt from."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.core.errors import DatasetError, PromptError
from napari_usgseg.core.types import Prompts
from napari_usgseg.io.datasets import read_dataset
from napari_usgseg.lab.evaluation.evaluate import EvaluationRequest, evaluate_dataset
from napari_usgseg.lab.evaluation.methods import classes_for
from tests.support.plain_models import KNOWN_HW, KnownAnswers, prediction


@pytest.fixture
def dataset(tmp_path):
    """Two images; "b" holds no nerve."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    labels = np.zeros(KNOWN_HW, np.uint8)
    labels[10:30, 10:40] = 1
    for name in "ab":
        Image.new("L", KNOWN_HW[::-1]).save(tmp_path / "images" / f"{name}.png")
        if name == "a":
            labels[40:50, 50:70] = 2
        else:
            labels[40:50, 50:70] = 0
        Image.fromarray(labels).save(tmp_path / "masks" / f"{name}.png")
    card = {"name": "made", "organ": "x", "target": "cyst", "labels": {"1": "cyst", "2": "nerve"}}
    items = [{"id": "a", "group": "a"}, {"id": "b", "group": "b"}]
    (tmp_path / "dataset.json").write_text(json.dumps(card | {"items": items}))
    return read_dataset(tmp_path)


def test_whole_labels_are_scored_and_an_absent_class_counts(plain_segmenter, answers, dataset):
    auto = KnownAnswers(plain_segmenter, answers)
    request = EvaluationRequest("ppn")
    scores = evaluate_dataset(dataset, plain_segmenter, None, request, auto=auto).scores
    assert [score.dice for score in scores] == [1.0, 0.5]  # in "b" the nerve is a false alarm
    answers[2] = prediction(0, 0, 1, 1, score=-3)
    scores = evaluate_dataset(dataset, plain_segmenter, None, request, auto=auto).scores
    assert [score.dice for score in scores] == [0.5, 1.0]


def test_with_boxes_each_object_is_asked_of_its_class(plain_segmenter, answers, dataset):
    auto = KnownAnswers(plain_segmenter, answers, {7: "nerve", 8: "cyst"})
    request = EvaluationRequest("ppn+box")
    scores = evaluate_dataset(dataset, plain_segmenter, None, request, auto=auto).scores
    assert [score.dice for score in scores] == [1.0, 1.0]
    assert sorted(auto.asked) == [7, 8, 8]
    assert all(isinstance(p, Prompts) and p.box is not None for p in plain_segmenter.asked)


def test_a_label_that_was_never_learnt_counts_as_not_found(plain_segmenter, answers, dataset):
    del answers[2]
    auto = KnownAnswers(plain_segmenter, answers, {1: "cyst"})
    for prompt, expected in (("ppn", [0.5, 1.0]), ("ppn+box", [1.0, 1.0])):
        request = EvaluationRequest(prompt)
        scores = evaluate_dataset(dataset, plain_segmenter, None, request, auto=auto).scores
        assert [score.dice for score in scores] == expected


def test_images_that_were_learnt_from_are_left_out(plain_segmenter, answers, dataset):
    auto = KnownAnswers(plain_segmenter, answers, source="made", images=("a",))
    scores = evaluate_dataset(
        dataset, plain_segmenter, None, EvaluationRequest("ppn"), auto=auto
    ).scores
    assert [score.item.item_id for score in scores] == ["b"]
    everything = EvaluationRequest("ppn", include_trained=True)
    assert len(evaluate_dataset(dataset, plain_segmenter, None, everything, auto=auto).scores) == 2
    auto = KnownAnswers(plain_segmenter, answers, source="made", images=("a", "b"))
    with pytest.raises(DatasetError, match="no image to score"):
        evaluate_dataset(dataset, plain_segmenter, None, EvaluationRequest("ppn"), auto=auto)


def test_classes_are_matched_by_name_before_label_value(plain_segmenter, dataset):
    def matched(classes):
        return classes_for(KnownAnswers(plain_segmenter, {}, classes), dataset)

    assert matched({1: "nerve", 2: "Cyst"}) == {1: 2, 2: 1}
    assert matched({1: "blob", 2: "string"}) == {1: 1, 2: 2}
    assert matched({1: "cyst"}) == {1: 1, 2: None}
    with pytest.raises(PromptError, match="none of its labels, only 5 \\(blob\\)"):
        matched({5: "blob"})


def test_without_a_prompt_predictor_it_is_asked_for(plain_segmenter, dataset):
    with pytest.raises(PromptError, match="need a prompt predictor"):
        evaluate_dataset(dataset, plain_segmenter, None, EvaluationRequest("ppn"))
