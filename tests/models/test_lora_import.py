"""A published adapter's file, made here in its format, becomes a PEFT folder that works."""

from __future__ import annotations

import pytest
import torch

from napari_usgseg.core.errors import CheckpointError, ModelNotFoundError
from napari_usgseg.models.lora.adapter import import_lora, load_adapter, merge_adapter

RANK, WIDTH = 4, 32
PREFIX = "base_model.model."
DECODER_LAYERS = (
    *(f"cross_attn.{n}" for n in ("sampling_offsets", "attention_weights", "value_proj")),
    *("cross_attn.output_proj", "ca_text.out_proj", "self_attn.out_proj", "linear1", "linear2"),
)
SHAPES = {"sampling_offsets": 2 * 4 * 4 * 2, "attention_weights": 2 * 4 * 4}
"""Outputs where they are not the model's width: heads, levels, points (and x, y)."""


@pytest.fixture
def model(dino_folder):
    from transformers import GroundingDinoForObjectDetection

    return GroundingDinoForObjectDetection.from_pretrained(dino_folder).eval()


def published(encoder: bool, default: str = "", heads=("bbox_embed.0",)) -> dict:
    """A state as the source system saves it, for the small model of these tests."""
    torch.manual_seed(3)
    names = [f"transformer.decoder.layers.{n}.{part}" for n in (0, 1) for part in DECODER_LAYERS]
    names += ["feat_map", *(f"{head}.layers.{n}" for head in heads for n in (0, 1))]
    if encoder:
        names += [
            "transformer.encoder.layers.0.linear1",
            "transformer.encoder.layers.0.linear2",
            "transformer.encoder.text_layers.0.linear1",
            "transformer.encoder.text_layers.0.linear2",
            "transformer.encoder.text_layers.0.self_attn.out_proj",
        ]
    state = {}
    for name in names:
        out = SHAPES.get(name.rsplit(".", 1)[-1], WIDTH)
        inside = 16 if "text_layers" in name and "linear2" in name else WIDTH
        if "text_layers" in name and "linear1" in name:
            out = 16
        state[f"{PREFIX}{name}.lora_A.{default}weight"] = torch.randn(RANK, inside)
        state[f"{PREFIX}{name}.lora_B.{default}weight"] = torch.randn(out, RANK) * 0.3
    for head in heads:
        last = f"{PREFIX}{head}.layers.2.modules_to_save.{default}"
        state[f"{last}weight"] = torch.randn(4, WIDTH)
        state[f"{last}bias"] = torch.randn(4)
        state[f"{PREFIX}{head}.layers.2.original_module.weight"] = torch.zeros(4, WIDTH)
    return state


def save(state, path):
    torch.save({"model": state, "epoch": 3}, path)
    return path


def boxes_of(model):
    torch.manual_seed(0)
    inputs = {
        "pixel_values": torch.randn(1, 3, 128, 128),
        "input_ids": torch.tensor([[101, 200, 1012, 102]]),
    }
    with torch.no_grad():
        return model(**inputs).pred_boxes


@pytest.mark.parametrize(("encoder", "preset"), [(False, "decoder"), (True, "paper")])
@pytest.mark.parametrize("default", ["", "default."])
def test_a_published_adapter_is_converted_and_changes_the_boxes(
    model, tmp_path, encoder, preset, default
):
    before = boxes_of(model)
    file = save(published(encoder, default), tmp_path / "lora.pth")
    assert import_lora(file, tmp_path / "adapter", "tiny-dino") == preset
    tuned = load_adapter(model, tmp_path / "adapter")
    assert float((boxes_of(tuned) - before).abs().max()) > 0.01


def test_each_matrix_arrives_at_its_own_layer(model, tmp_path):
    state = published(True)
    import_lora(save(state, tmp_path / "lora.pth"), tmp_path / "adapter", "tiny-dino")
    old = {name: tensor.clone() for name, tensor in model.named_parameters(remove_duplicate=False)}
    merged = dict(merge_adapter(model, tmp_path / "adapter").named_parameters())

    def delta(name):
        a, b = (state[f"{PREFIX}{name}.lora_{half}.weight"] for half in "AB")
        return b @ a

    for theirs, ours in (
        ("feat_map", "model.text_projection"),
        (
            "transformer.decoder.layers.1.cross_attn.value_proj",
            "model.decoder.layers.1.encoder_attn.value_proj",
        ),
        (
            "transformer.decoder.layers.0.ca_text.out_proj",
            "model.decoder.layers.0.encoder_attn_text.out_proj",
        ),
        ("transformer.decoder.layers.1.linear2", "model.decoder.layers.1.fc2"),
        ("transformer.encoder.layers.0.linear1", "model.encoder.layers.0.deformable_layer.fc1"),
        (
            "transformer.encoder.text_layers.0.self_attn.out_proj",
            "model.encoder.layers.0.text_enhancer_layer.self_attn.out_proj",
        ),
        # one head in the original, one for every layer and its twin here
        ("bbox_embed.0.layers.1", "bbox_embed.1.layers.1"),
        ("bbox_embed.0.layers.0", "model.decoder.bbox_embed.0.layers.0"),
    ):
        change = merged[f"{ours}.weight"] - old[f"{ours}.weight"]
        torch.testing.assert_close(change, delta(theirs), msg=ours, rtol=1e-4, atol=1e-5)
    last = state[f"{PREFIX}bbox_embed.0.layers.2.modules_to_save.weight"]
    for ours in ("bbox_embed.0", "model.decoder.bbox_embed.1"):
        torch.testing.assert_close(merged[f"{ours}.layers.2.weight"], last)


def test_heads_that_the_original_lists_under_the_decoder_are_the_same_heads(model, tmp_path):
    heads = [f"transformer.decoder.bbox_embed.{n}" for n in (0, 1)]
    state = published(False, heads=heads)
    import_lora(save(state, tmp_path / "lora.pth"), tmp_path / "adapter", "tiny-dino")
    load_adapter(model, tmp_path / "adapter")


def test_what_has_no_counterpart_is_named(tmp_path):
    state = published(False)
    state[f"{PREFIX}transformer.level_embed.lora_A.weight"] = torch.zeros(RANK, WIDTH)
    state[f"{PREFIX}backbone.0.blocks.lora_B.weight"] = torch.zeros(WIDTH, RANK)
    with pytest.raises(CheckpointError, match=r"2 tensors.*backbone\.0.*level_embed"):
        import_lora(save(state, tmp_path / "lora.pth"), tmp_path / "adapter", "tiny-dino")
    assert not (tmp_path / "adapter").exists()


def test_half_an_adapter_is_refused(tmp_path):
    state = published(False)
    del state[f"{PREFIX}feat_map.lora_B.weight"]
    with pytest.raises(CheckpointError, match=r"other half.*text_projection"):
        import_lora(save(state, tmp_path / "lora.pth"), tmp_path / "adapter", "tiny-dino")


def test_a_file_that_would_run_code_or_is_none_is_refused(tmp_path):
    class Runs:
        def __reduce__(self):
            return print, ("code of the file",)

    torch.save({"model": Runs()}, tmp_path / "evil.pth")
    (tmp_path / "text.pth").write_text("no tensors")
    for name in ("evil.pth", "text.pth"):
        with pytest.raises(CheckpointError, match="tensors alone"):
            import_lora(tmp_path / name, tmp_path / "adapter", "tiny-dino")
    with pytest.raises(ModelNotFoundError, match="no such file"):
        import_lora(tmp_path / "none.pth", tmp_path / "adapter", "tiny-dino")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="expected a dictionary"):
        import_lora(tmp_path / "list.pth", tmp_path / "adapter", "tiny-dino")
