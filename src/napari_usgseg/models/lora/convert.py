"""Adapters of the original Grounding DINO code, as GroundingDINO-US-SAM publishes them.

Such a file (arXiv 2506.23903) is a PyTorch dictionary whose ``model`` entry holds PEFT's keys over
the names of the original implementation. transformers has other names for the same layers, and a
box head for every decoder layer, twice, where the original has one.
"""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor

from ...core.errors import CheckpointError
from ...io.outputs import check_model_folder
from ..checkpoints import read_tensors
from .adapter import DINO_PRESETS, USE
from .card import ADAPTER_WEIGHTS

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
