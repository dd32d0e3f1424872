"""``usgseg compare``: a table of models, baselines and predictions."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.io.datasets import read_dataset, read_mask
from napari_usgseg.lab.evaluation.league import FILES
from napari_usgseg.phantoms.phantom import write_phantom_dataset


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets") / "phantoms"
    write_phantom_dataset(folder, 5, 9, "breast")
    return folder


@pytest.fixture(scope="module")
def truth(phantoms, tmp_path_factory):
    """Predictions that are the truth, and others of which none is right."""
    root = tmp_path_factory.mktemp("predictions")
    for item in read_dataset(phantoms).items:
        labels = read_mask(item)
        for name, values in (("right", labels), ("wrong", np.zeros_like(labels))):
            (root / name).mkdir(exist_ok=True)
            Image.fromarray(values.astype(np.uint8)).save(root / name / f"{item.item_id}.png")
    return root


def test_models_baselines_and_predictions_stand_in_one_table(
    usgseg, phantoms, truth, tmp_path, checkpoint
):
    out = tmp_path / "out"
    asked = ("compare", phantoms, "--prompt", "box", "--model", checkpoint, "--baseline",
             "box-blob", "--predictions", f"mine={truth / 'right'}", "--out", out)  # fmt: skip
    outcome = usgseg(*asked)
    assert (outcome.code, outcome.err) == (0, "")
    for name in (str(checkpoint), "box-blob", "mine"):
        assert name in outcome.out
    result = json.loads((out / "compare.json").read_text())
    (row,) = result["datasets"].values()
    assert {name: entry["images"] for name, entry in row.items()} == dict.fromkeys(row, 5)
    assert row["mine"]["dice"] == 1
    assert {path.name for path in out.iterdir()} >= set(FILES)
    assert "**1.000**" in (out / "compare.md").read_text()
    assert "mine" in (out / "compare.svg").read_text()


def test_what_is_scored_is_not_scored_again_and_another_limit_is(
    usgseg, phantoms, tmp_path, checkpoint, monkeypatch
):
    from napari_usgseg.lab.evaluation import league

    out, loaded, load = tmp_path / "out", [], league.load_scorer

    def counted(asked, request):
        loaded.append(asked.baseline or asked.model)
        return load(asked, request)

    monkeypatch.setattr(league, "load_scorer", counted)
    asked = ("compare", phantoms, "--prompt", "box", "--model", checkpoint, "--baseline",
             "box-blob", "--out", out)  # fmt: skip
    first = usgseg(*asked)
    assert len(loaded) == 2
    again = usgseg(*asked)
    assert again.code == 0
    assert len(loaded) == 2
    assert (out / "compare.md").read_text() in first.out + "\n"
    assert usgseg(*asked, "--limit", "2").code == 0
    assert len(loaded) == 4


def test_equal_answers_have_no_best(usgseg, phantoms, truth, tmp_path):
    file = tmp_path / "report.json"
    asked = ("compare", phantoms, "--prompt", "box", "--json", file)
    both = ("--predictions", f"a={truth / 'right'}", "--predictions", f"b={truth / 'right'}")
    assert "**" not in usgseg(*asked, *both).out
    (best, _) = json.loads(file.read_text())["best"].values()
    assert not best["dice"]["is_real"]


def test_a_folder_that_lacks_images_is_named_and_the_others_are_compared(
    usgseg, phantoms, truth, tmp_path
):
    outcome = usgseg("compare", phantoms, "--prompt", "box", "--predictions",
                     f"mine={truth / 'right'}", "--predictions", f"gone={tmp_path}", "--baseline",
                     "dark-blob")  # fmt: skip
    assert outcome.code == 3
    assert "gone: " in outcome.err
    assert "mine: 5 images" in outcome.out


@pytest.mark.parametrize(
    "given",
    [
        ("--model", "nano"),
        ("--model", "nano", "--model", "nano"),
        ("--model", "nano", "--predictions", "=x"),
        ("--model", "nano", "--baseline", "no-such"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(usgseg, phantoms, given):
    outcome = usgseg("compare", phantoms, "--prompt", "box", *given)
    assert (outcome.code, len(outcome.err_lines)) == (1, 1)
