"""What a scored model was trained on, as far as this project knows it."""

from __future__ import annotations

from pathlib import Path

from ..models.lora_card import read_adapter_card

EMBEDDED = frozenset({"busi", "camus_sample", "ddti_crops", "dltrack_apo", "hc18", "usgra"})
"""Whose training sides taught the embedded models (MODEL_CARD.md)."""
PHOTOGRAPHS = ("sam2.1-", "sam-vit-", "grounding-dino-")
"""Models that learned from photographs and from no ultrasound data set."""


def trained_on(
    segmenter: str, grounder: str | None = None, adapter: Path | None = None, ppn: str = ""
) -> frozenset[str] | None:
    """Names of the data sets, in lower case; None where a part's training is not known.

    Args:
        segmenter: its name.
        grounder: the detector's, or None.
        adapter: folder of a LoRA adapter on the grounder.
        ppn: the data set or project that taught a prompt predictor.

    Raises:
        CheckpointError: the adapter's card is damaged.
    """
    names = frozenset({ppn.casefold()} if ppn else ())
    for model in (segmenter, grounder):
        if model in ("nano", "nano-dino"):
            names |= EMBEDDED
        elif model is not None and not model.startswith(PHOTOGRAPHS):
            return None
    if adapter is not None:
        card = read_adapter_card(adapter)
        if card is None or not card.source:
            return None
        names |= {name.strip().casefold() for name in card.source.split(",")}
    return names
