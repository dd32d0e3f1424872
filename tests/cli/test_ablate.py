from __future__ import annotations

import json

import pytest

from napari_usgseg.cli.evaluate import phrasings_of
from napari_usgseg.phantoms.phantom import write_phantom_dataset


@pytest.fixture
def phantoms(tmp_path):
    folder = tmp_path / "phantoms"
    write_phantom_dataset(folder, 2, 9, "breast")
    return folder


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def test_an_ablation_of_phrasings_is_written(usgseg, phantoms, out):
    words = ["--vary", "phrasing", "--phrase", "breast lump", "--phrase", "tumour of the breast"]
    outcome = usgseg("ablate", phantoms, "--out", out, *words)
    assert (outcome.code, outcome.err) == (0, "")
    assert "3 phrasings" in outcome.out, "with the data set's own"
    target = json.loads((phantoms / "dataset.json").read_text())["target"]
    rows = json.loads((out / "ablation.json").read_text())["rows"]
    assert [row["variant"] for row in rows] == [
        "defaults", target, "breast lump", "tumour of the breast",
    ]  # fmt: skip


def test_phrasings_may_come_from_a_file(usgseg, phantoms, out, tmp_path):
    target = json.loads((phantoms / "dataset.json").read_text())["target"]
    file = tmp_path / "words.json"
    file.write_text(json.dumps({target.upper(): ["lump in the breast"]}))
    words = ["--vary", "phrasing", "--phrases", file]
    assert usgseg("ablate", phantoms, "--out", out, *words).code == 0
    rows = json.loads((out / "ablation.json").read_text())["rows"]
    assert [row["variant"] for row in rows] == ["defaults", target, "lump in the breast"]
    for damaged in ('{"a": "b"}', "[1]", "no json"):
        file.write_text(damaged)
        outcome = usgseg("ablate", phantoms, "--out", out, *words)
        assert (outcome.code, len(outcome.err_lines)) == (1, 1)
        assert "words.json" in outcome.err


def test_thresholds_are_those_that_are_given(usgseg, phantoms, out):
    words = ["--vary", "threshold", "--box-threshold", 0.4, "--text-threshold", 0.1]
    assert usgseg("ablate", phantoms, "--out", out, *words).code == 0
    rows = json.loads((out / "ablation.json").read_text())["rows"]
    assert [row["variant"] for row in rows] == ["defaults", "box 0.4", "token 0.1"]


def test_a_damaged_image_is_named_and_gives_code_3(usgseg, phantoms, out):
    broken = sorted((phantoms / "images").iterdir())[0]
    broken.write_bytes(b"no image")
    outcome = usgseg("ablate", phantoms, "--out", out, "--vary", "sentence")
    assert outcome.code == 3
    assert broken.name in outcome.err


def test_what_cannot_be_varied_is_refused(usgseg, tmp_path):
    outcome = usgseg("ablate", tmp_path, "--out", tmp_path, "--vary", "weather")
    assert outcome.code == 1
    assert "weather" in outcome.err


def test_phrasings_hold_the_target_and_words_never_trained_with():
    found = phrasings_of("breast tumor")
    assert found[0] == "breast tumor"
    assert len(found) == len(set(found)) > 6
