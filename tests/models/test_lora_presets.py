"""The layers that LoRA tunes, on the real classes: a renamed layer must not go unnoticed."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from napari_usgseg.core.errors import ModelError
from napari_usgseg.models.grounding.nano_detector import PhraseNet
from napari_usgseg.models.lora.adapter import (
    DINO_PRESETS,
    NANO_PRESETS,
    add_adapter,
    find_preset,
)

DECODER = {
    "model.text_projection": 1,
    "model.decoder.layers.N.encoder_attn.sampling_offsets": 6,
    "model.decoder.layers.N.encoder_attn.attention_weights": 6,
    "model.decoder.layers.N.encoder_attn.value_proj": 6,
    "model.decoder.layers.N.encoder_attn.output_proj": 6,
    "model.decoder.layers.N.encoder_attn_text.out_proj": 6,
    "model.decoder.layers.N.self_attn.out_proj": 6,
    "model.decoder.layers.N.fc1": 6,
    "model.decoder.layers.N.fc2": 6,
    "bbox_embed.N.layers.N": 12,
    "model.decoder.bbox_embed.N.layers.N": 12,
}
PAPER = DECODER | {
    "model.encoder.layers.N.deformable_layer.fc1": 6,
    "model.encoder.layers.N.deformable_layer.fc2": 6,
    "model.encoder.layers.N.text_enhancer_layer.fc1": 6,
    "model.encoder.layers.N.text_enhancer_layer.fc2": 6,
    "model.encoder.layers.N.text_enhancer_layer.self_attn.out_proj": 6,
}


@pytest.fixture(scope="module")
def real_dino():
    """transformers' own class at its default (tiny) shape, without memory for the weights."""
    from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection

    with torch.device("meta"):
        return GroundingDinoForObjectDetection(GroundingDinoConfig())


def layers_of(model: nn.Module, pattern: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name, module in model.named_modules():
        if name and re.fullmatch(pattern, name):
            assert isinstance(module, nn.Linear | nn.Conv2d), name
            kind = re.sub(r"(?<=\.)\d+", "N", name)
            counts[kind] = counts.get(kind, 0) + 1
    return counts


@pytest.mark.parametrize(("preset", "expected"), [("decoder", DECODER), ("paper", PAPER)])
def test_a_preset_is_exactly_these_layers_of_the_real_grounding_dino(real_dino, preset, expected):
    assert layers_of(real_dino, DINO_PRESETS[preset].targets) == expected


def test_the_last_layer_of_every_box_head_and_of_its_twin_is_saved_whole(real_dino):
    for preset in DINO_PRESETS.values():
        names = preset.saved_names(name for name, _ in real_dino.named_modules())
        heads = [f"bbox_embed.{n}.layers.2" for n in range(6)]
        assert sorted(names) == sorted([*heads, *(f"model.decoder.{name}" for name in heads)])
        last = {real_dino.get_submodule(name).out_features for name in names}
        assert last == {4}


def test_the_phrase_preset_holds_only_layers_that_the_phrase_goes_through():
    net = PhraseNet()
    found = layers_of(net, NANO_PRESETS["phrase"].targets)
    films = {f"{name}.film": 1 for name in ("block32", "block16", "context", "block8", "block4")}
    # digits at the end of a name are no list index
    assert found == {**films, "query": 1, "text.N": 1, "presence.N": 1}
    wide = layers_of(net, NANO_PRESETS["decoder"].targets)
    assert set(found) < set(wide)
    assert not any(name.startswith("trunk") for name in wide)


def test_everything_else_is_frozen_and_nothing_has_changed_yet(dino_folder):
    from transformers import GroundingDinoForObjectDetection

    model = GroundingDinoForObjectDetection.from_pretrained(dino_folder).eval()
    inputs = {
        "pixel_values": torch.randn(1, 3, 128, 128),
        "input_ids": torch.tensor([[101, 200, 1012, 102]]),
    }
    with torch.no_grad():
        before = model(**inputs).pred_boxes
    add_adapter(model, DINO_PRESETS["decoder"], 4, 4, "tiny-dino")
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).pred_boxes, before)
    tuned = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert all(re.search(r"\.lora_[AB]\.|\.modules_to_save\.", name) for name in tuned)
    layers = {re.split(r"\.lora_|\.modules_to_save", name)[0] for name in tuned}
    pattern = f"{DINO_PRESETS['decoder'].targets}|{DINO_PRESETS['decoder'].saved}"
    assert all(re.fullmatch(pattern, layer) for layer in layers)


def test_a_preset_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(ModelError, match=r"'paper'.*decoder or phrase"):
        find_preset("paper", NANO_PRESETS)
