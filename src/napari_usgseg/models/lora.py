"""LoRA adapters (PEFT, arXiv 2106.09685) for Grounding DINO: reading, checking, merging."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import CheckpointError, ModelNotFoundError

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"


def merge_adapter(model: Any, adapter: str | Path) -> Any:
    """A Grounding DINO with a PEFT LoRA adapter merged into its weights.

    Raises:
        ModelNotFoundError: the folder or one of its two files is missing.
        CheckpointError: the adapter is damaged, or was made for another model.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import SafetensorError, safe_open

    folder = Path(adapter)
    for file in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (folder / file).is_file():
            raise ModelNotFoundError(
                f"{folder / file}: missing; a LoRA adapter is a folder with {ADAPTER_CONFIG} and "
                f"{ADAPTER_WEIGHTS}, as `usgseg train lora` writes it"
            )
    add_input_embeddings(model)
    try:
        with safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as handle:
            stored = set(handle.keys())
        tuned = PeftModel.from_pretrained(model, str(folder), local_files_only=True)
    except (SafetensorError, RuntimeError, ValueError, KeyError, TypeError, OSError) as error:
        raise CheckpointError(
            f"{folder}: not an adapter of this model: {' '.join(str(error).split())[:300]}"
        ) from error
    strangers = stored ^ set(get_peft_model_state_dict(tuned))
    if strangers:
        raise CheckpointError(
            f"{folder}: {len(strangers)} adapter tensors do not fit this model, for instance "
            f"{min(strangers)}; an adapter works on the model that it was trained on"
        )
    return tuned.merge_and_unload()


def add_input_embeddings(model: Any) -> None:
    """Tell PEFT where a Grounding DINO's word embeddings are; the class itself does not say."""
    model.get_input_embeddings = model.model.text_backbone.get_input_embeddings
