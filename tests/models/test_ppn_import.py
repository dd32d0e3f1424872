"""Checkpoints of Sam2Rad's own training become folders of ours, or an error that says why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from napari_usgseg.core.errors import (
    CheckpointError,
    LabelWriteError,
    ModelError,
    ModelNotFoundError,
)
from napari_usgseg.core.notes import listening
from napari_usgseg.models.ppn.card import read_card
from napari_usgseg.models.ppn.model import load_ppn, sam_net
from napari_usgseg.models.ppn.network import ClassPrompter, PpnShape
from napari_usgseg.models.ppn.published import import_published
from napari_usgseg.models.sam.nano import NanoSam
from napari_usgseg.models.sam.sam import SamSegmenter, feature_list

NETWORK = "model.model.prompt_sampler.prompt_learner."
QUERIES = "model.learnable_prompts."


@pytest.fixture(scope="module")
def segmenter() -> SamSegmenter:
    torch.manual_seed(1)
    return SamSegmenter(NanoSam(128), "nano-00000001")


@pytest.fixture(scope="module")
def prompter() -> ClassPrompter:
    torch.manual_seed(2)
    return ClassPrompter(PpnShape((256, 64, 32), mlp_dim=48), 2, 6).eval()


@pytest.fixture
def published(segmenter, prompter) -> Callable[..., dict[str, torch.Tensor]]:
    """The tensors of a checkpoint by the names of Sam2Rad's training, with changes."""

    def make(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
        encoder = sam_net(segmenter).prompt_encoder.state_dict()
        tensors = {f"{NETWORK}{n}": t for n, t in prompter.predictor.state_dict().items()}
        tensors |= {f"{NETWORK}prompt_encoder.{n}": t for n, t in encoder.items()}
        tensors[f"{QUERIES}hip"] = prompter.queries.detach()
        tensors["model.model.no_mem_embed"] = torch.zeros(1, 1, 256)
        return {name: tensor.clone() for name, tensor in (tensors | changes).items()}

    return make


def lightning(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    torch.save({"epoch": 3, "state_dict": tensors}, path)
    return path


def test_it_answers_as_the_network_in_the_file_does(tmp_path, segmenter, prompter, published):
    with listening() as notes:
        card = import_published(
            lightning(tmp_path / "hip.ckpt", published()),
            tmp_path / "ppn",
            segmenter,
            ("femur", "acetabulum"),
        )
    assert notes.lines() == []
    assert card == read_card(tmp_path / "ppn")
    assert card.classes == {1: "femur", 2: "acetabulum"}
    assert (card.segmenter, card.source) == ("nano-00000001", "hip")
    model = load_ppn(tmp_path / "ppn", segmenter)
    embedding = segmenter.embed(np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8))
    features = feature_list(embedding)
    with torch.inference_mode():
        expected = prompter(sam_net(segmenter).prompt_encoder, features)
        learned = model._prompter(sam_net(segmenter).prompt_encoder, features)
    torch.testing.assert_close(learned.sparse, expected.sparse)
    torch.testing.assert_close(learned.mask_logits, expected.mask_logits)
    assert list(model.predict(embedding)) == [1, 2]


def test_a_safetensors_file_of_the_same_tensors_will_do(tmp_path, segmenter, published):
    save_file(published(), tmp_path / "hip.safetensors")
    card = import_published(tmp_path / "hip.safetensors", tmp_path / "ppn", segmenter)
    assert card.classes == {1: "class 1", 2: "class 2"}


def test_a_changed_sam_is_remarked_on_and_kept_in_the_card(tmp_path, segmenter, published):
    tensors = published()
    tensors[f"{NETWORK}prompt_encoder.no_mask_embed.weight"] += 1
    tensors["model.model.image_encoder.blocks.0.MLP_Adapter.weight"] = torch.zeros(2)
    tensors["model.model.sam_mask_decoder.layers.0.q_proj.w_a.weight"] = torch.zeros(2)
    with listening() as notes:
        card = import_published(lightning(tmp_path / "a.ckpt", tensors), tmp_path / "b", segmenter)
    (line,) = notes.lines()
    for change in ("another prompt encoder", "adapters in the image encoder", "LoRA in the mask"):
        assert change in line
    assert len(card.training["changed"]) == 3


def test_queries_of_several_data_sets_are_chosen_among(tmp_path, segmenter, prompter, published):
    other = torch.randn(1, 4, 256)
    file = lightning(tmp_path / "joint.ckpt", published(**{f"{QUERIES}heart": other}))
    with pytest.raises(ModelError, match="hip, heart"):
        import_published(file, tmp_path / "ppn", segmenter)
    assert not (tmp_path / "ppn").exists()
    card = import_published(file, tmp_path / "ppn", segmenter, ("ventricle",), dataset="heart")
    assert (card.classes, card.source) == ({1: "ventricle"}, "heart")
    assert card.shape["tokens"] == 4


def test_nothing_is_written_over(tmp_path, segmenter, published):
    file = lightning(tmp_path / "hip.ckpt", published())
    (tmp_path / "ppn").mkdir()
    (tmp_path / "ppn" / "mine.txt").write_text("mine")
    with pytest.raises(LabelWriteError, match="ppn"):
        import_published(file, tmp_path / "ppn", segmenter)
    assert [path.name for path in (tmp_path / "ppn").iterdir()] == ["mine.txt"]


class Runs:
    def __reduce__(self):
        return print, ("code of the file",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {"conv.weight": torch.zeros(1)}, "no prompt predictor in it"),
        (lambda t: {n: v for n, v in t.items() if "learnable" not in n}, "no class queries"),
        (lambda t: t | {f"{QUERIES}hip": torch.zeros(2, 6, 32)}, r"\(classes, tokens, 256\)"),
        (lambda t: t | {f"{QUERIES}hip": torch.zeros(2, 1, 256)}, "2 tokens at least"),
        (
            lambda t: t | {f"{NETWORK}channel_adapters.1.weight": torch.zeros(256, 48, 1, 1)},
            r"\(256, 48, 32\) channels, nano-00000001 has 256 and \(256, 64, 32\)",
        ),
        (
            lambda t: t | {f"{NETWORK}layers.0.norm1.weight": torch.zeros(3)},
            r"do not fit.*layers\.0\.norm1\.weight",
        ),
        (lambda t: t | {"hyper_parameters": Runs()}, "file of tensors alone"),
        (lambda t: t | {"number": 3}, "expected a dictionary with tensors"),
    ],
)
def test_what_does_not_fit_is_told(tmp_path, segmenter, published, change, message):
    file = lightning(tmp_path / "hip.ckpt", change(published()))
    with pytest.raises(CheckpointError, match=message):
        import_published(file, tmp_path / "ppn", segmenter)
    assert not (tmp_path / "ppn").exists()


def test_a_missing_file_and_a_wrong_number_of_names_are_told(tmp_path, segmenter, published):
    with pytest.raises(ModelNotFoundError, match="no such file"):
        import_published(tmp_path / "none.ckpt", tmp_path / "ppn", segmenter)
    file = lightning(tmp_path / "hip.ckpt", published())
    with pytest.raises(ModelError, match="2 classes, 1 names"):
        import_published(file, tmp_path / "ppn", segmenter, ("femur",))
