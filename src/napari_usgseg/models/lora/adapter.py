"""LoRA adapters (PEFT, arXiv 2106.09685) of a detector: putting on, checking, merging.

Two things about transformers' Grounding DINO have to be known by whoever loads an adapter outside
this project; `USE` says them, and every adapter's README.md does.

The heads: all box heads share one set of tensors. LoRA gives each head matrices of its own, and
merging would add all of their differences to the one tensor, so they are untied first.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ...core.errors import CheckpointError, ModelError
from ..checkpoints import sha256_of
from .card import ADAPTER_WEIGHTS, AdapterCard, check_adapter, read_adapter_card

GUARDED = "phrase"
"""The preset that forgets nothing, whatever is done with the adapter."""


@dataclass(frozen=True, slots=True)
class Preset:
    """Layers by name.

    Attributes:
        targets: those that get LoRA matrices.
        saved: those that are trained and saved whole.
    """

    targets: str
    saved: str

    def saved_names(self, names: Iterable[str]) -> list[str]:
        """Those of ``names`` that are saved whole (PEFT's ``modules_to_save``)."""
        return [name for name in names if name and re.fullmatch(self.saved, name)]


_DECODER = (
    r"model\.text_projection"
    r"|model\.decoder\.layers\.\d+\.("
    r"encoder_attn\.(sampling_offsets|attention_weights|value_proj|output_proj)"
    r"|encoder_attn_text\.out_proj|self_attn\.out_proj|fc[12])"
    r"|(model\.decoder\.)?bbox_embed\.\d+\.layers\.[01]"
)
_ENCODER = (
    r"model\.encoder\.layers\.\d+\."
    r"(deformable_layer\.fc[12]|text_enhancer_layer\.(fc[12]|self_attn\.out_proj))"
)
_LAST_BOX_LAYER = r"(model\.decoder\.)?bbox_embed\.\d+\.layers\.2"

DINO_PRESETS = {
    "decoder": Preset(_DECODER, _LAST_BOX_LAYER),
    "paper": Preset(f"{_DECODER}|{_ENCODER}", _LAST_BOX_LAYER),
}
"""For Grounding DINO. "decoder" is what GroundingDINO-US-SAM (arXiv 2506.23903) says that it tunes;
"paper" is what its list of suffixes caught: the feed-forward layers of the encoder and of the text
enhancer, and the text enhancer's attention output, too."""

_PHRASE = r"text\.0|(block(32|16|8|4)|context)\.film|query|presence\.0"
_CONVOLUTIONS = r"(block(32|16|8|4)|context)\.conv|narrow|laterals\.[0-3]\.0"

NANO_PRESETS = {
    "decoder": Preset(f"{_PHRASE}|{_CONVOLUTIONS}", r"presence\.2"),
    "phrase": Preset(_PHRASE, ""),
}
"""For the `nano` detector, which has no attention. "decoder": the layers of neck and head; merged
for good it forgets what was known, so an adapter answers its own phrases only
(``grounding.routing``). "phrase": only where the phrase steers the image's features, and held
where old phrases do not feel it (``learning.lora``): weaker, but it may be merged."""


def find_preset(name: str, presets: dict[str, Preset]) -> Preset:
    """A preset by name.

    Raises:
        ModelError: this kind of detector has no such preset.
    """
    if name not in presets:
        raise ModelError(f"no preset {name!r} for this detector: use {' or '.join(presets)}")
    return presets[name]


USE = """\
---
library_name: peft
---

# A LoRA adapter for ultrasound

Made by `usgseg train lora` of napari-usgseg. There: `--detector BASE --adapter THIS_FOLDER`, or
`--detector THIS_FOLDER`. `usgseg.json` says what it was trained on.

Elsewhere, where the base is a Grounding DINO in transformers' format:

```python
import torch
from peft import PeftModel
from transformers import GroundingDinoForObjectDetection

model = GroundingDinoForObjectDetection.from_pretrained(BASE)
# PEFT asks for the word embeddings, and the class does not say where they are
model.get_input_embeddings = model.model.text_backbone.get_input_embeddings
# all box heads share their tensors, and each has matrices of its own: part them before merging
for head in (*model.bbox_embed, *model.model.decoder.bbox_embed):
    for layer in head.layers:
        layer.weight = torch.nn.Parameter(layer.weight.detach().clone())
        layer.bias = torch.nn.Parameter(layer.bias.detach().clone())
model = PeftModel.from_pretrained(model, THIS_FOLDER).merge_and_unload()
```
"""


def add_adapter(model: Any, preset: Preset, rank: int, alpha: float, base: str) -> Any:
    """Put LoRA matrices that change nothing yet on ``model``, freeze the rest, untie its heads.

    Args:
        model: a GroundingDinoForObjectDetection or a PhraseNet; its layers are wrapped in place.
        preset: which layers.
        rank: of the matrices.
        alpha: their product is scaled by this over ``rank``.
        base: name or folder of the detector, for ``adapter_config.json``.

    Returns:
        PEFT's model around ``model``.
    """
    from peft import LoraConfig, get_peft_model

    prepare_for_lora(model)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=preset.targets,
        modules_to_save=preset.saved_names(n for n, _ in model.named_modules()) or None,
    )
    tuned = get_peft_model(model, config)
    config.base_model_name_or_path = base
    if _is_dino(model):
        _share_twins(model)
    return tuned


def save_adapter(tuned: Any, folder: Path) -> None:
    """Write PEFT's two files and a README.md that says how to use them elsewhere."""
    folder.mkdir(parents=True, exist_ok=True)
    tuned.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").write_text(USE, encoding="utf-8")


def load_adapter(model: Any, adapter: str | Path) -> Any:
    """PEFT's model: ``model`` with an adapter applied beside its weights, not merged.

    Raises:
        ModelNotFoundError: the folder or one of its two files is missing.
        CheckpointError: the adapter is damaged, or was made for another model.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import SafetensorError, safe_open

    folder = Path(adapter)
    check_adapter(folder)
    prepare_for_lora(model)
    try:
        with safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as handle:
            stored = set(handle.keys())
        tuned = PeftModel.from_pretrained(model, str(folder), local_files_only=True)
    except (SafetensorError, RuntimeError, ValueError, KeyError, TypeError, OSError) as error:
        raise CheckpointError(
            f"{folder}: not an adapter of this model: {' '.join(str(error).split())[:300]}"
        ) from error
    strangers = stored ^ set(get_peft_model_state_dict(tuned, save_embedding_layers=False))
    if strangers:
        raise CheckpointError(
            f"{folder}: {len(strangers)} adapter tensors do not fit this model, for instance "
            f"{min(strangers)}; an adapter works on the model that it was trained on"
        )
    return tuned.eval()


def merge_adapter(model: Any, adapter: str | Path) -> Any:
    """A detector's network with a PEFT LoRA adapter merged into its weights.

    Raises:
        ModelNotFoundError: the folder or one of its two files is missing.
        CheckpointError: the adapter is damaged, or was made for another model.
    """
    return load_adapter(model, adapter).merge_and_unload()


def merged_copy(model: Any, model_id: str, adapter: Path) -> tuple[Any, str, AdapterCard | None]:
    """A copy of a detector's network with an adapter merged, its ``model_id``, the adapter's card.

    Raises:
        ModelNotFoundError: the folder or one of its two files is missing.
        CheckpointError: the adapter is damaged, or was trained on other weights.
    """
    check_adapter(adapter)
    card = read_adapter_card(adapter)
    if card is not None and card.base_id != model_id:
        raise CheckpointError(
            f"{adapter}: was trained on {card.base_id}, this is {model_id}; "
            "an adapter works on the model that it was trained on"
        )
    merged = merge_adapter(copy.deepcopy(model), adapter)
    return merged, f"{model_id}+{adapter.name}-{sha256_of(adapter / ADAPTER_WEIGHTS)[:8]}", card


def prepare_for_lora(model: Any) -> None:
    """What a Grounding DINO needs before PEFT takes it; any other network is left as it is."""
    if _is_dino(model):
        add_input_embeddings(model)
        untie_box_heads(model)


def add_input_embeddings(model: Any) -> None:
    """Tell PEFT where a Grounding DINO's word embeddings are; the class itself does not say."""
    model.get_input_embeddings = model.model.text_backbone.get_input_embeddings


def untie_box_heads(model: Any) -> None:
    """Give every box head of a Grounding DINO tensors of its own, with the values that it had.

    The configuration is told too: what is saved afterwards is loaded untied.
    """
    seen: set[int] = set()
    for head in (*model.bbox_embed, *model.model.decoder.bbox_embed):
        for layer in head.modules():
            if isinstance(layer, nn.Linear):
                for name in ("weight", "bias"):
                    tensor = getattr(layer, name)
                    if id(tensor) in seen:
                        tensor = nn.Parameter(tensor.detach().clone(), tensor.requires_grad)
                        setattr(layer, name, tensor)
                    seen.add(id(tensor))
    model.config.tie_word_embeddings = False
    model.all_tied_weights_keys = {}


def _is_dino(model: Any) -> bool:
    return hasattr(getattr(model, "model", None), "text_backbone")


def _share_twins(model: Any) -> None:
    """Let a decoder layer's two copies of a box head learn as one.

    The copy inside the decoder only moves reference points, which the next layer takes detached:
    alone it would get no gradient and stay behind.
    """
    twins = zip(model.bbox_embed, model.model.decoder.bbox_embed, strict=True)
    for learning, following in twins:
        source = dict(learning.named_parameters())
        for name, tensor in list(following.named_parameters()):
            if tensor.requires_grad:
                owner, _, leaf = name.rpartition(".")
                setattr(following.get_submodule(owner), leaf, source[name])
