"""A prompt predictor in the pipeline: proposals by class, scoring, label maps."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.core.errors import DatasetError, PromptError
from napari_usgseg.core.types import Prediction, Prompts
from napari_usgseg.io.datasets import read_dataset
from napari_usgseg.lab.evaluation.evaluate import EvaluationRequest, evaluate_dataset
from napari_usgseg.lab.evaluation.methods import classes_for
from napari_usgseg.models.ppn.card import PpnCard
from napari_usgseg.segmentation.postprocess import PostprocessSettings
from napari_usgseg.segmentation.propose import propose_auto

SIZE = (60, 80)


def prediction(top, left, bottom, right, score=5.0) -> Prediction:
    mask = np.zeros(SIZE, bool)
    mask[top:bottom, left:right] = True
    logits = np.where(mask[::4, ::4], 6.0, -6.0).astype(np.float32)
    return Prediction(mask[None], np.array([0.8], np.float32), logits[None], score)


class KnownAnswers:
    """Two classes at known places; a box given to a class answers with its rectangle."""

    def __init__(self, plain, answers, classes=None, source="", images=()) -> None:
        self._plain, self._answers, self.segmenter = plain, answers, plain
        self.card = PpnCard(
            classes or {1: "cyst", 2: "nerve"}, plain.model_id, {}, source=source, images=images
        )
        self.model_id = "plain-1+ppn-1"
        self.asked: list[int] = []

    def predict(self, embedding):
        return self._answers

    def for_class(self, class_id):
        self.asked.append(class_id)
        return self._plain


@pytest.fixture
def answers():
    return {1: prediction(10, 10, 30, 40), 2: prediction(40, 50, 50, 70)}


@pytest.fixture
def embedding(plain_segmenter):
    return plain_segmenter.embed(np.zeros((*SIZE, 3), np.uint8))


@pytest.fixture
def dataset(tmp_path):
    """Two images; "b" holds no nerve."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    labels = np.zeros(SIZE, np.uint8)
    labels[10:30, 10:40] = 1
    for name in "ab":
        Image.new("L", SIZE[::-1]).save(tmp_path / "images" / f"{name}.png")
        if name == "a":
            labels[40:50, 50:70] = 2
        else:
            labels[40:50, 50:70] = 0
        Image.fromarray(labels).save(tmp_path / "masks" / f"{name}.png")
    card = {"name": "made", "organ": "x", "target": "cyst", "labels": {"1": "cyst", "2": "nerve"}}
    items = [{"id": "a", "group": "a"}, {"id": "b", "group": "b"}]
    (tmp_path / "dataset.json").write_text(json.dumps(card | {"items": items}))
    return read_dataset(tmp_path)


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
