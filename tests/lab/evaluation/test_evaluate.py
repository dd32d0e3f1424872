from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.core.errors import DatasetError, PromptError
from napari_usgseg.io.datasets import read_dataset
from napari_usgseg.lab.evaluation.evaluate import EvaluationRequest, Scorer, evaluate_dataset
from napari_usgseg.lab.evaluation.methods import predictions_method
from napari_usgseg.lab.evaluation.report import dataset_report, evaluation_report


@pytest.fixture
def make_dataset(tmp_path):
    """Write a data set of 60 x 80 images from label maps by id."""

    def make(masks, labels=None, spacing=None, name="made"):
        folder = tmp_path / name
        (folder / "images").mkdir(parents=True)
        (folder / "masks").mkdir()
        items = []
        for item_id, mask in masks.items():
            Image.new("L", (80, 60)).save(folder / "images" / f"{item_id}.png")
            Image.fromarray(mask).save(folder / "masks" / f"{item_id}.png")
            entry = {"id": item_id, "group": item_id[0]}
            items.append(entry | ({"pixel_size_mm": spacing} if spacing else {}))
        card = {
            "name": name,
            "organ": "x",
            "target": "cyst",
            "labels": labels or {"1": "simple cyst"},
            "items": items,
        }
        (folder / "dataset.json").write_text(json.dumps(card))
        return read_dataset(folder)

    return make


def _map(*rectangles):
    """A label map from (label, top, left, bottom, right) with exclusive ends."""
    labels = np.zeros((60, 80), np.uint8)
    for label, top, left, bottom, right in rectangles:
        labels[top:bottom, left:right] = label
    return labels


def _scores(dataset, segmenter, request, detector=None):
    return evaluate_dataset(dataset, segmenter, detector, request).scores


def test_a_tight_box_on_a_rectangle_scores_one(make_dataset, plain_segmenter):
    dataset = make_dataset({"a": _map((1, 10, 10, 30, 40)), "b": _map((1, 0, 0, 20, 20))})
    scores = _scores(dataset, plain_segmenter, EvaluationRequest("box"))
    assert [score.dice for score in scores] == [1.0, 1.0]
    assert [score.hd95_px for score in scores] == [0.0, 0.0]


def test_each_object_has_its_own_box_and_specks_are_no_objects(make_dataset, plain_segmenter):
    labels = _map((1, 0, 0, 10, 10), (1, 30, 30, 50, 50), (2, 0, 60, 10, 80), (1, 58, 0, 59, 2))
    dataset = make_dataset({"a": labels}, {"1": "cyst", "2": "wall"})
    _scores(dataset, plain_segmenter, EvaluationRequest("box"))
    boxes = {tuple(prompts.box.tolist()) for prompts in plain_segmenter.asked}
    assert boxes == {(0, 0, 9, 9), (30, 30, 49, 49), (60, 0, 79, 9)}


def test_images_without_an_object_are_left_out_of_box_prompts(make_dataset, plain_segmenter):
    dataset = make_dataset({"a": _map(), "b": _map((1, 0, 0, 20, 20))})
    scores = _scores(dataset, plain_segmenter, EvaluationRequest("box"))
    assert [score.item.item_id for score in scores] == ["b"]


def test_boxes_of_other_images_make_dice_collapse(make_dataset, plain_segmenter):
    dataset = make_dataset({"a": _map((1, 0, 0, 15, 15)), "b": _map((1, 40, 50, 60, 80))})
    request = EvaluationRequest("box", shuffle_prompts=True)
    assert [score.dice for score in _scores(dataset, plain_segmenter, request)] == [0.0, 0.0]


def test_jitter_moves_the_box_and_repeats_with_its_seed(make_dataset, plain_segmenter):
    dataset = make_dataset({"a": _map((1, 10, 10, 40, 50))})
    runs = []
    for seed in (1, 1, 2):
        plain_segmenter.asked.clear()
        _scores(dataset, plain_segmenter, EvaluationRequest("box", jitter=0.2, seed=seed))
        runs.append(plain_segmenter.asked[0].box.tolist())
    assert runs[0] == runs[1] != runs[2]
    assert runs[0] != [10, 10, 49, 39]


def test_a_limit_draws_the_same_images_with_the_same_scores(make_dataset, plain_segmenter):
    masks = {f"{i}": _map((1, i, i, i + 20, i + 30)) for i in range(8)}
    dataset = make_dataset(masks)
    whole = _scores(dataset, plain_segmenter, EvaluationRequest("box", jitter=0.3, seed=3))
    some = _scores(dataset, plain_segmenter, EvaluationRequest("box", jitter=0.3, seed=3, limit=3))
    again = _scores(dataset, plain_segmenter, EvaluationRequest("box", jitter=0.3, seed=3, limit=3))
    assert len(some) == 3
    assert [s.dice for s in some] == [s.dice for s in again]
    by_id = {score.item.item_id: score.dice for score in whole}
    assert all(by_id[score.item.item_id] == score.dice for score in some)


def test_text_asks_the_target_for_label_one_and_names_for_others(
    make_dataset, plain_segmenter, make_detector
):
    labels = _map((1, 0, 0, 10, 10), (2, 30, 30, 50, 50))
    dataset = make_dataset({"a": labels}, {"1": "simple cyst", "2": "septum"})
    detector = make_detector([("cyst", (0, 0, 9, 9), 0.9), ("septum", (30, 30, 49, 39), 0.5)])
    (score,) = _scores(dataset, plain_segmenter, EvaluationRequest("text"), detector)
    assert [prompt.text for prompt in detector.asked] == ["cyst", "septum"]
    assert score.dice == pytest.approx((1.0 + 2 / 3) / 2)


def test_a_phrase_of_ones_own_replaces_the_target(make_dataset, plain_segmenter, make_detector):
    dataset = make_dataset({"a": _map((1, 0, 0, 10, 10))})
    detector = make_detector()
    _scores(dataset, plain_segmenter, EvaluationRequest("text", text="nodule"), detector)
    assert detector.asked[0].text == "nodule"


def test_an_empty_image_where_nothing_is_found_scores_one(
    make_dataset, plain_segmenter, make_detector
):
    dataset = make_dataset({"a": _map(), "b": _map((1, 0, 0, 10, 10))})
    scores = _scores(dataset, plain_segmenter, EvaluationRequest("text"), make_detector())
    assert [score.dice for score in scores] == [1.0, 0.0]
    report = dataset_report(scores)
    assert (report["empty_images"], report["empty_kept"]) == (1, 1.0)


def test_text_without_a_detector_is_a_wrong_request(make_dataset, plain_segmenter):
    dataset = make_dataset({"a": _map()})
    with pytest.raises(PromptError, match="need a detector"):
        evaluate_dataset(dataset, plain_segmenter, None, EvaluationRequest("text"))


@pytest.mark.parametrize("prompt", ["predictions", "telepathy", ""])
def test_a_prompt_that_no_model_takes_is_a_wrong_request(make_dataset, plain_segmenter, prompt):
    dataset = make_dataset({"a": _map((1, 0, 0, 20, 20))})
    with pytest.raises(PromptError, match="no prompt of a model"):
        evaluate_dataset(dataset, plain_segmenter, None, EvaluationRequest(prompt))


def test_a_damaged_image_is_named_and_the_others_are_scored(make_dataset, plain_segmenter):
    square = _map((1, 0, 0, 20, 20))
    dataset = make_dataset({"a": square, "b": square, "c": square})
    dataset.items[1].image_path.write_bytes(b"no image")
    wrong_size = np.ones((30, 30), np.uint8)
    Image.fromarray(wrong_size).save(dataset.items[2].mask_path)
    result = evaluate_dataset(dataset, plain_segmenter, None, EvaluationRequest("box"))
    assert [score.item.item_id for score in result.scores] == ["a"]
    messages = {item.item_id: str(error) for item, error in result.failures}
    assert str(dataset.items[1].image_path) in messages["b"]
    assert "30x30 pixels, its image 80x60" in messages["c"]


def test_a_value_that_no_label_has_is_named(make_dataset, plain_segmenter, make_detector):
    square, stranger = _map((1, 0, 0, 20, 20)), _map((1, 0, 0, 20, 20), (77, 30, 30, 50, 50))
    dataset = make_dataset({"a": square, "b": stranger})
    for prompt in ("text", "box"):
        request = EvaluationRequest(prompt)
        result = evaluate_dataset(dataset, plain_segmenter, make_detector(), request)
        assert [score.item.item_id for score in result.scores] == ["a"]
        ((item, error),) = result.failures
        assert item.item_id == "b"
        assert f"holds the values 77 ({int((stranger == 77).sum())} pixels)" in str(error)


def test_a_data_set_without_any_object_says_so(make_dataset, plain_segmenter):
    dataset = make_dataset({"a": _map()})
    with pytest.raises(DatasetError, match="no mask has an object"):
        evaluate_dataset(dataset, plain_segmenter, None, EvaluationRequest("clicks"))


def _scorer(request):
    return Scorer(request, "nano", lambda dataset: pytest.fail("nothing is scored here"))


def test_the_report_has_the_protocols_keys_for_clicks(make_dataset, plain_segmenter):
    dataset = make_dataset({"a": _map((1, 10, 10, 30, 40))}, spacing=0.5)
    request = EvaluationRequest("clicks")
    scores = _scores(dataset, plain_segmenter, request)
    entry = dataset_report(scores, per_image=True)
    report = evaluation_report(_scorer(request), {"made": entry})
    assert {"schema", "prompt", "segmenter", "grounder", "datasets", "mean"} <= set(report)
    assert report["schema"] == 1
    assert set(entry["dice_at_clicks"]) == {"1", "3", "5"}
    assert entry["dice"] == entry["dice_at_clicks"]["5"]
    assert 1 <= entry["noc85"] <= entry["noc90"] <= 20
    assert entry["hd95_mm"] == pytest.approx(0.5 * entry["hd95_px"])
    flat = make_dataset({"a": _map((1, 10, 10, 30, 40))}, spacing=[0.5, 2.0], name="flat")
    image = dataset_report(_scores(flat, plain_segmenter, request), per_image=True)["per_image"][0]
    assert image["hd95_px"] == entry["hd95_px"]
    assert 0.5 * image["hd95_px"] < image["hd95_mm"] <= 2 * image["hd95_px"]
    image = entry["per_image"][0]
    assert (image["id"], image["group"]) == ("a", "a")
    assert {"dice", "iou", "hd95_px"} <= set(image)
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_the_mean_is_over_data_sets_and_not_over_images():
    entries = {"big": {"images": 99, "dice": 0.2, "iou": 0.1}, "small": {"dice": 0.8, "iou": 0.5}}
    report = evaluation_report(_scorer(EvaluationRequest("box")), entries)
    assert report["mean"] == {"dice": 0.5, "iou": 0.3}


def test_each_class_is_reported_over_the_images_that_hold_it(make_dataset, plain_segmenter):
    dataset = make_dataset(
        {
            "a": _map((1, 0, 0, 10, 10), (1, 30, 30, 50, 50), (2, 0, 60, 10, 80)),
            "b": _map((1, 10, 10, 30, 40)),
        },
        {"1": "cyst", "2": "wall", "3": "vessel"},
    )
    scores = _scores(dataset, plain_segmenter, EvaluationRequest("box"))
    entry = dataset_report(scores, labels=dataset.labels, per_image=True)
    classes = entry["classes"]
    assert {value: found["images"] for value, found in classes.items()} == {"1": 2, "2": 1, "3": 0}
    assert (classes["1"]["name"], classes["1"]["dice"], "dice" in classes["3"]) == (
        "cyst",
        1,
        False,
    )
    assert [list(image["classes"]) for image in entry["per_image"]] == [["1", "2"], ["1"]]


def test_a_class_that_is_missed_shows_though_the_mean_is_fair(make_dataset, tmp_path):
    dataset = make_dataset(
        {"a": _map((1, 10, 10, 30, 40), (2, 40, 40, 60, 80))}, {"1": "cyst", "2": "wall"}
    )
    folder = tmp_path / "found"
    folder.mkdir()
    Image.fromarray(_map((1, 10, 10, 30, 40))).save(folder / "a.png")
    request = EvaluationRequest("predictions")
    method = predictions_method(folder)
    entry = dataset_report(
        Scorer(request, "found", lambda dataset: method).score(dataset).scores,
        labels=dataset.labels,
    )
    assert [found["dice"] for found in entry["classes"].values()] == [1.0, 0.0]
    assert entry["dice"] == 0.5


def test_one_class_alone_is_the_data_set(make_dataset, plain_segmenter):
    dataset = make_dataset({"a": _map((1, 10, 10, 30, 40))})
    scores = _scores(dataset, plain_segmenter, EvaluationRequest("box"))
    entry = dataset_report(scores, labels=dataset.labels, per_image=True)
    assert "classes" not in entry
    assert "classes" not in entry["per_image"][0]
