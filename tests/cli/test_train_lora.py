"""``usgseg train lora``, and the commands that use what it makes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from napari_usgseg.models.lora.card import read_adapter_card
from napari_usgseg.phantoms.phantom import write_phantom_dataset

TWO = """
import sys
from napari_usgseg.cli.main import run
from tests.support.forks import import_what_trainings_need, in_two_processes
import_what_trainings_need()
sys.exit(in_two_processes(lambda: run(sys.argv[1:])))
"""
FEW = ("--steps", 2, "--batch", 2, "--image-size", 64, "--rank", 4, "--no-pictures")


@pytest.fixture(scope="module")
def kidneys(tmp_path_factory):
    """Seven small phantoms as a data set of an organ that nobody was taught."""
    folder = write_phantom_dataset(
        tmp_path_factory.mktemp("data") / "kidneys", 7, 3, size_hw=(96, 128)
    )
    path = folder / "dataset.json"
    card = json.loads(path.read_text()) | {"name": "kidneys", "organ": "kidney", "target": "kidney"}
    path.write_text(json.dumps(card))
    return folder


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, kidneys):
    from napari_usgseg.cli.main import run

    out = tmp_path_factory.mktemp("adapters") / "kidney"
    assert run([str(word) for word in ("train", "lora", kidneys, "--out", out, *FEW)]) == 0
    return out


def test_a_tuning_says_what_it_learns_and_how_to_use_it(usgseg, kidneys, tmp_path):
    outcome = usgseg("train", "lora", kidneys, "--images", 6, "--out", tmp_path / "a", *FEW)
    assert (outcome.code, outcome.err) == (0, "")
    first, *_, last = outcome.out.splitlines()
    assert "3 images to learn kidney" in first
    assert "3 to stop by" in first
    assert f"--detector {tmp_path / 'a'}" in last
    assert len(read_adapter_card(tmp_path / "a").images) == 6


def test_two_processes_share_an_epoch_and_speak_once(kidneys, tmp_path):
    words = ("train", "lora", kidneys, "--out", tmp_path / "a", "--no-pictures")
    words += ("--device", "cpu", "--epochs", 1, "--batch", 1, "--image-size", 64, "--rank", 4)
    done = subprocess.run(
        [sys.executable, "-c", TWO, *map(str, words)],
        capture_output=True, text=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, *_, last = done.stdout.splitlines()
    assert "4 images to learn" in first
    assert "step 2 of 2" in done.stdout
    assert done.stdout.count("adapter of nano") == 1
    assert f"--detector {tmp_path / 'a'}" in last
    assert read_adapter_card(tmp_path / "a").rank == 4


def test_an_adapter_is_evaluated_as_a_detector_or_on_top_of_its_base(usgseg, kidneys, adapter):
    for options in (("--detector", adapter), ("--adapter", adapter)):
        outcome = usgseg("evaluate", kidneys, "--prompt", "text", "--limit", 2, *options)
        assert outcome.code == 0, outcome.err
        assert outcome.out.startswith("kidneys: 2 images, Dice")


def test_adapters_are_listed_and_merged(usgseg, adapter, tmp_path):
    outcome = usgseg("models", "adapters", adapter.parent)
    assert outcome.code == 0
    line = f"{adapter}: adapter for nano: kidney, cyst, rib; decoder, rank 4, 7 images"
    assert line in outcome.out
    merged = tmp_path / "merged"
    assert usgseg("models", "merge-lora", adapter, "--out", merged).code == 0
    assert (merged / "grounder.json").is_file()
    again = usgseg("models", "merge-lora", adapter, "--out", merged)
    assert again.code == 1
    assert "choose an empty or a new folder" in again.err
    assert "no adapter here" in usgseg("models", "adapters", merged).out


def test_the_list_of_models_has_the_adapters_of_a_folder_and_of_the_project_that_one_is_in(
    usgseg, adapter, tmp_path, monkeypatch
):
    line = "adapter for nano: kidney"
    assert f"{adapter}: {line}" in usgseg("models", "list", adapter.parent).out
    mine = tmp_path / "usgseg" / "models" / "lora-v0001"
    shutil.copytree(adapter, mine)
    assert line not in usgseg("models", "list").out
    monkeypatch.chdir(tmp_path)
    outcome = usgseg("models")
    assert f"{mine.relative_to(tmp_path)}: {line}" in outcome.out
    assert "sam2.1-hiera-tiny" in outcome.out


def test_a_damaged_adapter_does_not_hide_the_others(usgseg, adapter, tmp_path):
    for name in ("first", "second"):
        shutil.copytree(adapter, tmp_path / name)
    (tmp_path / "first" / "usgseg.json").write_text("{")
    outcome = usgseg("models", "list", tmp_path)
    assert outcome.code == 3
    assert f"{tmp_path / 'second'}: adapter for nano" in outcome.out
    assert len(outcome.err_lines) == 1
    assert "train it again" in outcome.err


def test_a_published_file_is_imported_or_refused_in_one_line(usgseg, tmp_path):
    names = ("feat_map", "transformer.encoder.layers.0.linear1")
    shapes = {"A": (4, 256), "B": (256, 4)}
    state = {
        f"base_model.model.{name}.lora_{half}.weight": torch.ones(shape)
        for name in names
        for half, shape in shapes.items()
    }
    torch.save({"model": state}, tmp_path / "lora.pth")
    outcome = usgseg("models", "import-lora", tmp_path / "lora.pth", "--out", tmp_path / "peft")
    assert outcome.code == 0, outcome.err
    assert "--preset paper" in outcome.out
    config = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "grounding-dino-tiny"
    assert (config["r"], config["lora_alpha"]) == (4, 4)
    torch.save({"model": {"unheard.of.lora_A.weight": torch.ones(4, 4)}}, tmp_path / "bad.pth")
    outcome = usgseg("models", "import-lora", tmp_path / "bad.pth", "--out", tmp_path / "no")
    assert outcome.code == 1
    assert len(outcome.err_lines) == 1
    assert "unheard.of" in outcome.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--preset", "paper"), "no preset 'paper'"),
        (("--decay", "linear"), "--decay 'linear': expected one of cosine, step"),
        (("--detector", "nothing"), "no detector or folder 'nothing'"),
        (("--images", 80), "80 were asked for"),
    ],
)
def test_what_cannot_be_tuned_is_said_in_one_line(usgseg, kidneys, tmp_path, options, message):
    outcome = usgseg("train", "lora", kidneys, "--out", tmp_path / "a", *FEW, *options)
    assert outcome.code == 1
    assert message in outcome.err
    assert not (tmp_path / "a" / "adapter_config.json").exists()
