from __future__ import annotations

import csv
import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from napari_usgseg.core.errors import DatasetError
from napari_usgseg.io.datasets import read_dataset
from napari_usgseg.io.outputs import OutputFolder
from napari_usgseg.lab.evaluation.ablation import (
    GROUPS,
    UNCHANGED,
    run_ablation,
    variants,
    write_ablation,
)
from napari_usgseg.lab.evaluation.evaluate import evaluate_dataset
from napari_usgseg.lab.evaluation.methods import EvaluationRequest
from napari_usgseg.phantoms.phantom import write_phantom_dataset

BASE = EvaluationRequest("text", seed=4)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablate") / "phantoms"
    write_phantom_dataset(folder, 3, 5, "breast")
    dataset = read_dataset(folder)
    return replace(dataset, labels={1: dataset.labels[1]})


@pytest.fixture(scope="module")
def nerves(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablate") / "nerves"
    write_phantom_dataset(folder, 2, 3, "nerve")
    return read_dataset(folder)


def only(asked, *names):
    return [item for item in asked if item.name in ("defaults", *names)]


def test_everything_is_varied_one_thing_at_a_time():
    phrasings = {"busi": {1: ["lump", "mass"]}}
    made = variants(BASE, ["rank-8"], phrasings, (0.3,), (0.1,))
    assert made[0].group == UNCHANGED
    assert {item.group for item in made[1:]} == set(GROUPS)
    assert all(item.request.seed == 4 for item in made)
    assert [item.detector for item in made if item.group == "adapter"] == ["rank-8"]
    asked = [(item.dataset, item.label, item.name) for item in made if item.group == "phrasing"]
    assert asked == [("busi", 1, "lump"), ("busi", 1, "mass")]
    changed = [item for item in made if item.group in ("post-processing", "threshold")]
    assert len({repr(item.request) for item in changed} - {repr(BASE)}) == len(changed)


def test_scores_are_those_of_an_evaluation(phantoms, nano_segmenter, nano_detector):
    asked = only(variants(BASE, box_thresholds=(0.3,)), "box 0.3", "none at all", "dilation 2")
    result = run_ablation([phantoms], nano_segmenter, {"": nano_detector}, asked)
    assert len(result["rows"]) == 4
    for variant, row in zip(asked, result["rows"], strict=True):
        alone = evaluate_dataset(phantoms, nano_segmenter, nano_detector, variant.request).scores
        expected = sum(score.dice for score in alone) / len(alone)
        assert row["dice"] == pytest.approx(expected, abs=1e-6), variant.name
        assert row["change"] == pytest.approx(row["dice"] - result["rows"][0]["dice"], abs=2e-6)


def test_real_models_are_scored_and_the_files_say_it(
    phantoms, nano_segmenter, nano_detector, tmp_path
):
    phrasings = {phantoms.name: {1: [phantoms.target, "breast lump"]}}
    asked = variants(BASE, ["same"], phrasings, (1.0,))
    asked = only(asked, "box 1", "same", phantoms.target, "breast lump", "all labels in one")
    seen: list[str] = []
    result = run_ablation(
        [phantoms], nano_segmenter, {"": nano_detector, "same": nano_detector}, asked, seen.append
    )
    by_name = {row["variant"]: row for row in result["rows"]}
    assert seen == [phantoms.name] * 3
    assert "all labels in one" not in by_name, "there is one label only"
    assert (by_name["same"]["change"], by_name["same"]["p"]) == (0, 1)
    assert by_name["box 1"]["detection_rate"] == 0, "no box is scored above one"
    assert by_name["box 1"]["change"] < 0
    (spread,) = result["phrasing_spread"].values()
    assert spread["phrasings"] == 2
    assert spread["lowest"] <= spread["mean"] <= spread["highest"]

    write_ablation(result, OutputFolder(tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "ablation.json").read_text()) == result
    text = " ".join((tmp_path / "out" / "ablation.md").read_text().split())
    assert "| threshold | box 1 |" in text
    words = " ".join(ElementTree.parse(tmp_path / "out" / "ablation.svg").getroot().itertext())
    assert "threshold: box 1" in words
    assert f"{spread['lowest']:.3f} to {spread['highest']:.3f}" in words
    with (tmp_path / "out" / "ablation.csv").open() as file:
        assert [row["variant"] for row in csv.DictReader(file)] == list(by_name)


def test_a_phrasing_is_scored_on_its_label_alone(nerves, nano_segmenter, nano_detector):
    names = {label: nerves.phrase(label) for label in nerves.labels}
    phrasings = {nerves.name: {label: [name, "zebra"] for label, name in names.items()}}
    asked = [v for v in variants(BASE, (), phrasings) if v.group in (UNCHANGED, "phrasing")]
    rows = run_ablation([nerves], nano_segmenter, {"": nano_detector}, asked)["rows"]
    own = [row["dice"] for row in rows if row["variant"] in names.values()]
    assert len(own) == len(names) == 2
    assert rows[0]["dice"] == pytest.approx(sum(own) / 2, abs=1e-6)
    for row in rows:
        if row["variant"] == "zebra":
            assert row["detection_rate"] == 0
            assert row["change"] == pytest.approx(row["dice"] - own[row["label"] - 1], abs=2e-6), (
                "against the first phrasing of that label"
            )


def test_a_damaged_image_is_named_and_left_out_of_every_variant(
    tmp_path, nano_segmenter, nano_detector
):
    write_phantom_dataset(tmp_path / "p", 2, 5, "breast")
    dataset = read_dataset(tmp_path / "p")
    asked = only(variants(BASE), "holes left")
    dataset.items[0].image_path.write_bytes(b"no image")
    result = run_ablation([dataset], nano_segmenter, {"": nano_detector}, asked)
    assert [row["images"] for row in result["rows"]] == [1, 1]
    assert len(result["failures"]) == 1
    assert dataset.items[0].image_path.name in result["failures"][0]
    dataset.items[1].image_path.write_bytes(b"no image")
    with pytest.raises(DatasetError, match="no image to score"):
        run_ablation([dataset], nano_segmenter, {"": nano_detector}, asked)
