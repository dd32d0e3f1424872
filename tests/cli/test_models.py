from __future__ import annotations

from napari_usgseg.models import registry


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
