"""LoRA adapters (PEFT, arXiv 2106.09685) of a detector: putting on, checking, merging, importing.

Two things about transformers' Grounding DINO have to be known by whoever loads an adapter outside
this project; `USE` says them, and every adapter's README.md does.

The heads: all box heads share one set of tensors. LoRA gives each head matrices of its own, and
merging would add all of their differences to the one tensor, so they are untied first.

GroundingDINO-US-SAM (arXiv 2506.23903) publishes adapters of the original Grounding DINO code:
PyTorch dictionaries whose ``model`` entry holds PEFT's keys over the names of that implementation.
transformers has other names for the same layers, and a box head for every decoder layer, twice,
where the original has one.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ...core.errors import CheckpointError, ModelError
from ...io.outputs import check_model_folder
from ..checkpoints import read_tensors, sha256_of
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
    # After get_peft_model, which would put the model's own name there.
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
    # PEFT loads what fits and only warns of the rest, so an adapter of another model would change
    # nothing and nobody would know.
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
    # A copy: merging changes the weights in place, and the base goes on answering what the adapter
    # was not taught.
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


NAMES = (
    (r"feat_map", r"model.text_projection"),
    (
        r"transformer\.decoder\.layers\.(\d+)\.cross_attn\."
        r"(sampling_offsets|attention_weights|value_proj|output_proj)",
        r"model.decoder.layers.\1.encoder_attn.\2",
    ),
    (
        r"transformer\.decoder\.layers\.(\d+)\.ca_text\.out_proj",
        r"model.decoder.layers.\1.encoder_attn_text.out_proj",
    ),
    (
        r"transformer\.decoder\.layers\.(\d+)\.self_attn\.out_proj",
        r"model.decoder.layers.\1.self_attn.out_proj",
    ),
    (r"transformer\.decoder\.layers\.(\d+)\.linear([12])", r"model.decoder.layers.\1.fc\2"),
    (
        r"transformer\.encoder\.layers\.(\d+)\.linear([12])",
        r"model.encoder.layers.\1.deformable_layer.fc\2",
    ),
    (
        r"transformer\.encoder\.text_layers\.(\d+)\.linear([12])",
        r"model.encoder.layers.\1.text_enhancer_layer.fc\2",
    ),
    (
        r"transformer\.encoder\.text_layers\.(\d+)\.self_attn\.out_proj",
        r"model.encoder.layers.\1.text_enhancer_layer.self_attn.out_proj",
    ),
    (r"(?:transformer\.decoder\.)?bbox_embed\.(\d+)\.layers\.(\d+)", r"bbox_embed.\1.layers.\2"),
)
"""Layers of the original (full match) and of transformers."""

TWIN = "model.decoder."
"""transformers keeps a second copy of every box head below this name."""
LAYERS = 6
"""Decoder layers of the published models, where a file has none itself."""
_KEY = re.compile(
    r"(?P<layer>.+?)\.(?P<kind>lora_[AB]|modules_to_save)?\.?(default\.)?(weight|bias)"
)


def import_lora(file: Path, out: Path, base: str, alpha: float | None = None) -> str:
    """Convert a published adapter into a PEFT folder for transformers' Grounding DINO.

    Args:
        file: the PyTorch file; only tensors are read from it, no code is run.
        out: the adapter's folder, new or empty.
        base: name or folder of the Grounding DINO that it belongs to.
        alpha: LoRA's alpha, which such a file does not hold; None takes the rank.

    Returns:
        The preset whose layers it tunes: "decoder" or "paper".

    Raises:
        LabelWriteError: ``out`` holds something.
        ModelNotFoundError: there is no such file.
        CheckpointError: it is not such an adapter, or has layers without a counterpart, each named.
    """
    from peft import LoraConfig
    from safetensors.torch import save_file

    check_model_folder(out)
    state = read_tensors(file, "model")
    lora, whole = _converted(file, state)
    ranks = {int(t.shape[0]) for name, t in lora.items() if name.endswith("lora_A.weight")}
    # PEFT's configuration has one rank for all layers.
    if len(ranks) != 1:
        raise CheckpointError(f"{file}: matrices of ranks {sorted(ranks)}; expected one rank")
    (rank,) = ranks
    tuned = sorted({name.rsplit(".lora_", 1)[0] for name in lora})
    saved = sorted({name.rsplit(".", 1)[0] for name in whole})
    config = LoraConfig(
        r=rank,
        lora_alpha=rank if alpha is None else alpha,
        target_modules="|".join(re.escape(name) for name in tuned),
        modules_to_save=saved or None,
        base_model_name_or_path=base,
        inference_mode=True,
    )
    out.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(str(out))
    tensors = {f"base_model.model.{k}": v.contiguous().clone() for k, v in (lora | whole).items()}
    save_file(tensors, out / ADAPTER_WEIGHTS, {"format": "pt"})
    (out / "README.md").write_text(USE, encoding="utf-8")
    inside = all(re.fullmatch(DINO_PRESETS["decoder"].targets, name) for name in tuned)
    return "decoder" if inside else "paper"


def _converted(file: Path, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """LoRA matrices, and layers saved whole, by transformers' names."""
    lora: dict[str, Tensor] = {}
    whole: dict[str, Tensor] = {}
    strangers = []
    for key, tensor in state.items():
        if ".original_module." in key:
            continue
        plain = key.removeprefix("base_model.model.")
        match = _KEY.fullmatch(plain)
        layer = _renamed(match["layer"]) if match else None
        if match is None or layer is None:
            strangers.append(key)
            continue
        kind, leaf = match["kind"], match[4]
        if kind in ("lora_A", "lora_B"):
            lora[f"{layer}.{kind}.{leaf}"] = tensor.float()
        else:
            whole[f"{layer}.{leaf}"] = tensor.float()
    if strangers:
        raise CheckpointError(
            f"{file}: {len(strangers)} tensors have no counterpart in transformers' Grounding "
            f"DINO: {', '.join(sorted(strangers)[:4])}"
        )
    halves = {name.replace("lora_A", "lora_B") for name in lora if "lora_A" in name}
    lone = halves ^ {name for name in lora if "lora_B" in name}
    if not lora or lone:
        cause = f"no other half for {min(lone)}" if lone else "it has no LoRA matrices"
        raise CheckpointError(f"{file}: not a LoRA adapter: {cause}")
    numbers = [int(n) for name in lora for n in re.findall(r"^model\.decoder\.layers\.(\d+)", name)]
    layers = max(numbers) + 1 if numbers else LAYERS
    return _on_all_heads(lora, layers), _on_all_heads(whole, layers)


def _renamed(layer: str) -> str | None:
    for pattern, name in NAMES:
        if re.fullmatch(pattern, layer):
            return re.sub(pattern, name, layer)
    return None


def _on_all_heads(tensors: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """With what one box head learned on all of them and on their twins; the original has one."""
    spread = {k: v for k, v in tensors.items() if not k.startswith("bbox_embed.")}
    heads = {k: v for k, v in tensors.items() if k.startswith("bbox_embed.")}
    for key in heads:
        rest = key.split(".", 2)[2]
        first = min(k for k in heads if k.split(".", 2)[2] == rest)
        for number in range(layers):
            name = f"bbox_embed.{number}.{rest}"
            spread[name] = spread[f"{TWIN}{name}"] = heads.get(name, heads[first])
    return spread
