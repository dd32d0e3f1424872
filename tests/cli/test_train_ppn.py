"""``usgseg train ppn``, and the commands that use what it makes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.io.labels import read_classes, read_labels
from napari_usgseg.phantoms.phantom import write_phantom_dataset


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """Seven small phantoms as a data set."""
    folder = tmp_path_factory.mktemp("data") / "phantoms"
    return write_phantom_dataset(folder, 7, 3, size_hw=(96, 128))


@pytest.fixture(scope="module")
def ppn(tmp_path_factory, phantoms, checkpoint):
    """A prompt predictor of three of them, after three steps."""
    from napari_usgseg.cli.main import run

    out = tmp_path_factory.mktemp("ppn") / "tumor"
    words = ["train", "ppn", phantoms, "--images", 3, "--seed", 4, "--out", out, "--steps", 3]
    assert run([str(word) for word in [*words, "--model", checkpoint]]) == 0
    return out


def test_training_says_what_it_learns_from_and_writes_a_card(
    usgseg, phantoms, checkpoint, tmp_path
):
    out = tmp_path / "out"
    words = ["train", "ppn", phantoms, "--images", 3, "--held-out", 2, "--seed", 4]
    outcome = usgseg(*words, "--out", out, "--steps", 2, "--model", checkpoint)
    assert (outcome.code, outcome.err) == (0, "")
    assert "3 images, breast tumor" in outcome.out
    assert "held-out Dice" in outcome.out
    card = json.loads((out / "ppn.json").read_text())
    assert card["source"] == "phantoms-breast"
    assert (len(card["images"]), card["seed"]) == (3, 4)
    assert card["scores"]["held_out_images"] == 2


def test_a_data_set_of_other_habits_is_learnt_from_and_scored(usgseg, checkpoint, tmp_path):
    folder = write_phantom_dataset(tmp_path / "data", 6, 3, size_hw=(96, 128))
    path = folder / "dataset.json"
    card = json.loads(path.read_text())
    names = [card["labels"][value] for value in sorted(card["labels"])][:1]
    ids = [item["id"] for item in card["items"]]
    path.write_text(json.dumps({**card, "labels": ["background", *names], "items": ids}))
    for image_id in ids:
        image, mask = (folder / part / f"{image_id}.png" for part in ("images", "masks"))
        Image.open(image).convert("RGB").save(image.with_suffix(".JPG"), format="JPEG")
        image.unlink()
        shown = (read_labels(mask) > 0).astype(np.uint8) * 255
        Image.fromarray(shown).convert("RGB").save(mask)
    mask.unlink()
    out, report = tmp_path / "ppn", tmp_path / "report.json"
    words = ["--model", checkpoint]
    outcome = usgseg("train", "ppn", folder, "--images", 3, "--out", out, "--steps", 2, *words)
    assert outcome.code == 3
    assert len(outcome.err_lines) == 1
    assert f"{mask.name}: listed in the data set but missing" in outcome.err
    assert len(json.loads((out / "ppn.json").read_text())["images"]) == 3
    words += ["--per-image", "--json", report]
    outcome = usgseg("evaluate", folder, "--prompt", "ppn", "--ppn", out, *words)
    assert outcome.code == 3
    assert len(outcome.err_lines) == 1
    assert f"{mask.name}: no such file" in outcome.err
    (entry,) = json.loads(report.read_text())["datasets"].values()
    assert entry["images"] == 2
    assert entry["detection_rate"] in (0, 0.5, 1), "no mask of 0 and 255 is an empty one"


def test_the_papers_losses_are_an_option(usgseg, phantoms, checkpoint, tmp_path):
    words = ["train", "ppn", phantoms, "--images", 3, "--steps", 1, "--model", checkpoint]
    assert usgseg(*words, "--out", tmp_path, "--paper-losses").code == 0
    task = json.loads((tmp_path / "ppn.json").read_text())["training"]["task"]
    assert (task["mask_weight"], task["entropy_weight"], task["dice_weight"]) == (10, 0, 0)


def test_the_same_seed_draws_the_same_images(usgseg, phantoms, ppn, checkpoint, tmp_path):
    words = ["train", "ppn", phantoms, "--images", 3, "--seed", 4, "--steps", 3]
    assert usgseg(*words, "--out", tmp_path / "again", "--model", checkpoint).code == 0
    again = json.loads((tmp_path / "again" / "ppn.json").read_text())
    first = json.loads((ppn / "ppn.json").read_text())
    assert again["images"] == first["images"]
    assert again["weights_sha256"] == first["weights_sha256"]


@pytest.mark.parametrize("prompt", ["ppn", "ppn+box"])
def test_what_was_not_learnt_from_is_scored(usgseg, phantoms, ppn, checkpoint, tmp_path, prompt):
    report = tmp_path / "report.json"
    outcome = usgseg(
        "evaluate", phantoms, "--prompt", prompt, "--ppn", ppn, "--per-image", "--json", report,
        "--model", checkpoint,
    )  # fmt: skip
    assert (outcome.code, outcome.err) == (0, "")
    written = json.loads(report.read_text())
    (entry,) = written["datasets"].values()
    learnt = set(json.loads((ppn / "ppn.json").read_text())["images"])
    assert entry["images"] == 4
    assert not learnt & {image["id"] for image in entry["per_image"]}
    assert written["prompt"] == prompt
    assert written["ppn"]["images"] == 3


def test_images_segment_themselves(usgseg, phantoms, ppn, checkpoint, tmp_path):
    out = tmp_path / "labels"
    outcome = usgseg(
        "segment", phantoms / "images", "--ppn", ppn, "--out", out, "--model", checkpoint
    )
    assert (outcome.code, outcome.err) == (0, "")
    classes = read_classes(out / "classes.json")
    assert (classes[0].class_id, classes[0].name) == (1, "breast tumor")
    for image in (phantoms / "images").iterdir():
        assert read_labels(out / image.name).shape == (96, 128)
    assert "+ppn-" in json.loads((out / "run.json").read_text())["request"]["ppn"]


def test_requests_that_make_no_sense_are_one_line(usgseg, phantoms, ppn, checkpoint, tmp_path):
    for words, said in (
        (["evaluate", phantoms, "--prompt", "ppn"], "--prompt ppn needs --ppn DIR"),
        (["evaluate", phantoms, "--prompt", "box", "--ppn", ppn], "give --prompt ppn or"),
        (["segment", phantoms / "images", "--ppn", ppn, "--text", "cyst", "--out", tmp_path / "o"],
         "needs no prompt"),
        (["segment", phantoms / "images", "--ppn", ppn, "--out", tmp_path / "o"], "choose that"),
        (["evaluate", phantoms, "--prompt", "ppn", "--ppn", tmp_path], "no prompt predictor here"),
        (["train", "ppn", phantoms, "--images", 99, "--out", tmp_path / "p"], "99 were asked for"),
        (["train", "ppn", tmp_path, "--out", tmp_path / "p"], "usgseg"),
    ):  # fmt: skip
        outcome = usgseg(*words)
        assert outcome.code == 1, words
        assert len(outcome.err_lines) == 1, outcome.err
        assert said in outcome.err


def test_a_labelled_folder_is_learnt_from_as_it_is(usgseg, labelled, checkpoint, tmp_path):
    out = tmp_path / "ppn"
    outcome = usgseg("train", "ppn", labelled, "--out", out, "--steps", 2, "--model", checkpoint)
    assert (outcome.code, outcome.err) == (0, "")
    card = json.loads((out / "ppn.json").read_text())
    assert len(card["images"]) == 2
    assert [c["name"] for c in card["classes"]] == ["cyst", "wall"]


KILLED_AT_STEP_26 = """
import os, signal, sys
from napari_usgseg.cli.main import run
from napari_usgseg.learning.ppn import PpnTask

loss = PpnTask.loss
def killed(self, step, rng):
    if step == 26:
        os.kill(os.getpid(), signal.SIGKILL)
    return loss(self, step, rng)
PpnTask.loss = killed
run(sys.argv[1:])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_a_killed_training_goes_on_and_ends_as_if_nothing_had_happened(
    usgseg, phantoms, checkpoint, tmp_path
):
    words = ["train", "ppn", phantoms, "--images", 2, "--steps", 28, "--model", checkpoint]
    words = [str(word) for word in [*words, "--no-augment", "--out"]]
    out = tmp_path / "killed"
    command = [sys.executable, "-c", KILLED_AT_STEP_26, *words, str(out)]
    child = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    assert child.returncode == -signal.SIGKILL
    assert (out / "training.pt").exists()
    assert not (out / "ppn.json").exists(), "it was killed too late to show anything"
    assert usgseg(*words, out, "--resume").code == 0
    assert usgseg(*words, tmp_path / "whole").code == 0
    cards = [json.loads((f / "ppn.json").read_text()) for f in (out, tmp_path / "whole")]
    assert cards[0]["weights_sha256"] == cards[1]["weights_sha256"]
    assert not (out / "training.pt").exists()


def test_the_published_recipe_is_trained_by_its_name_and_stands_in_the_card(
    usgseg, phantoms, checkpoint, tmp_path
):
    out = tmp_path / "paper"
    words = ["train", "ppn", phantoms, "--images", 3, "--steps", 2, "--model", checkpoint]
    assert usgseg(*words, "--recipe", "paper", "--out", out).code == 0
    card = json.loads((out / "ppn.json").read_text())
    training, task = card["training"], card["training"]["task"]
    assert (training["lr"], training["decoder_lr"], training["weight_decay"]) == (1e-4, 1e-5, 0.1)
    losses = ("mask_weight", "box_weight", "object_weight", "focal_gamma", "focal_alpha")
    assert [task[name] for name in losses] == [10, 1, 1, 3, 0.7]
    assert training["augmentation"]["degrees"] == 90
    assert training["box_from"] == "tokens"
    assert len(card["shape"]["channels"]) > 1, "all feature levels"
    assert usgseg("segment", phantoms / "images", "--ppn", out, "--model", checkpoint, "--out",
                  tmp_path / "maps").code == 0  # fmt: skip
    outcome = usgseg(*words, "--recipe", "soup", "--out", tmp_path / "no")
    assert (outcome.code, len(outcome.err_lines)) == (1, 1)
