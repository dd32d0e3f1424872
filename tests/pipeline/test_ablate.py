from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from napari_usgseg.io.datasets import read_dataset
from napari_usgseg.io.phantoms import write_phantom_dataset
from napari_usgseg.pipeline.ablate import run_ablation, variants, write_ablation
from napari_usgseg.pipeline.methods import EvaluationRequest


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablate") / "phantoms"
    write_phantom_dataset(folder, 3, 5, "breast")
    return read_dataset(folder)


def test_everything_is_varied_one_thing_at_a_time():
    base = EvaluationRequest("text", seed=4)
    made = variants(base, ["rank-8"], {"busi": ["lump"]}, thresholds=(0.3,))
    groups = [item.group for item in made]
    assert groups[0] == "as it is"
    assert set(groups) == {"as it is", "post-processing", "threshold", "adapter", "phrasing"}
    assert all(item.request.seed == 4 for item in made)
    assert [item.detector for item in made if item.group == "adapter"] == ["rank-8"]
    assert [(item.dataset, item.request.text) for item in made if item.group == "phrasing"] == [
        ("busi", "lump")
    ]
    changed = [item.request for item in made if item.group == "post-processing"]
    assert all(request != base for request in changed)


def test_real_models_are_scored_and_the_change_is_against_the_defaults(phantoms, tmp_path):
    from napari_usgseg.models.registry import load_detector, load_segmenter

    detector = load_detector("nano")
    asked = variants(EvaluationRequest("text"), ["same"], {phantoms.name: ["breast lump"]}, (1.0,))
    asked = [item for item in asked if item.name in ("defaults", "box 1", "same", "breast lump")]
    said: list[str] = []
    result = run_ablation(
        [phantoms], load_segmenter("nano"), {"": detector, "same": detector}, asked, said.append
    )
    by_name = {row["variant"]: row for row in result["rows"]}
    assert by_name["same"]["change"] == 0
    assert by_name["box 1"]["detection_rate"] == 0, "no box is scored above one"
    assert by_name["box 1"]["change"] < 0
    assert result["phrasing_spread"][phantoms.name]["phrasings"] == 1
    assert len(said) == len(asked)

    write_ablation(result, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "ablation.json").read_text()) == result
    assert "box 1" in (tmp_path / "out" / "ablation.md").read_text()
    assert ElementTree.parse(tmp_path / "out" / "ablation.svg").getroot().tag.endswith("svg")
    assert (tmp_path / "out" / "ablation.csv").read_text().count("\n") == 1 + len(asked)
