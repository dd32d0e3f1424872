from __future__ import annotations

import torch
from PIL import Image

from napari_usgseg.models import registry
from napari_usgseg.models.ppn.network import ClassPrompter, PpnShape


def test_the_list_has_every_model_and_says_what_is_here(usgseg):
    outcome = usgseg("models", "list")
    assert (outcome.code, outcome.err) == (0, "")
    for info in registry.list_models():
        (line,) = (
            line for line in outcome.out.splitlines()
            if line.split()[:2] == [info.name, info.kind]
        )  # fmt: skip
        assert ("yes" in line.split()) == info.present


def test_the_embedded_models_are_whole(usgseg):
    outcome = usgseg("models", "verify")
    assert (outcome.code, outcome.err) == (0, "")
    assert "nano (segmenter): ok" in outcome.out
    assert "nano (detector): ok" in outcome.out


def test_a_download_without_a_network_says_so_in_one_line(usgseg, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    outcome = usgseg("models", "download", "sam2.1-hiera-tiny")
    assert outcome.code == 1
    assert len(outcome.err_lines) == 1
    assert "sam2.1-hiera-tiny" in outcome.err


def test_a_folder_that_is_not_there_or_holds_no_adapter_is_said(usgseg, tmp_path):
    for command in ("list", "adapters"):
        outcome = usgseg("models", command, tmp_path / "nowhere")
        assert outcome.code == 1
        assert "nowhere: no such folder" in outcome.err
        outcome = usgseg("models", command, tmp_path)
        assert outcome.code == 0
        assert "no adapter here" in outcome.out


def test_weights_of_sam2rads_own_code_become_a_prompt_predictor(usgseg, checkpoint, tmp_path):
    prompter = ClassPrompter(PpnShape((256, 64, 32), mlp_dim=48), 2, 6)
    tensors = {f"model.prompt_learner.{n}": t for n, t in prompter.predictor.state_dict().items()}
    tensors["learnable_prompts.hip"] = prompter.queries.detach()
    torch.save({"state_dict": tensors}, tmp_path / "hip.ckpt")
    words = ["models", "import-ppn", tmp_path / "hip.ckpt", "--model", checkpoint]
    out = tmp_path / "ppn"
    outcome = usgseg(*words, "--out", out, "--classes", "femur, acetabulum")
    assert outcome.code == 0, outcome.err
    assert outcome.out.strip() == f"{out}: femur, acetabulum; use it with --ppn {out}"
    Image.new("L", (40, 30)).save(tmp_path / "hip.png")
    words[2:3] = ["--ppn", out, "--out", tmp_path / "labels"]
    outcome = usgseg("segment", tmp_path / "hip.png", *words[2:])
    assert (outcome.code, outcome.err) == (0, "")
    again = usgseg("models", "import-ppn", tmp_path / "hip.ckpt", "--out", out)
    assert (again.code, len(again.err_lines)) == (1, 1)
    assert "choose an empty or a new folder" in again.err
