"""A LoRA adapter and its detector made one: a folder that needs no adapter any more."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..io.outputs import check_model_folder
from .grounding_dino import GroundingDino
from .lora_card import base_of
from .lora_routing import RoutedDetector
from .phrase_grounder import PhraseGrounder, save_phrase_grounder
from .registry import embedded_grounder, load_detector

TEXT_FILES = ("text.json", "tokenizer.json", "text.safetensors")


def merge_to_folder(adapter: Path, out: Path, base: str | None = None) -> Path:
    """Write the detector with ``adapter`` merged, in single precision, to ``out``.

    A merged detector answers every phrase with the tuned weights; what that costs the other phrases
    is measured in docs/lora-study.md.

    Args:
        adapter: folder of the adapter.
        out: a new folder, or an empty one.
        base: name or folder of its detector; None takes the one that it says.

    Raises:
        LabelWriteError: ``out`` holds something.
        ModelNotFoundError: the adapter or its detector is not there.
        CheckpointError: they do not belong together.
    """
    check_model_folder(out)
    name = base or base_of(adapter)
    detector = load_detector(name, adapter)
    if isinstance(detector, RoutedDetector):
        detector = detector.tuned
    if isinstance(detector, PhraseGrounder):
        save_phrase_grounder(detector, out, half=False)
        folder = embedded_grounder() if name == "nano" else Path(name)
        for file in TEXT_FILES:
            shutil.copyfile(folder / file, out / file)
    elif isinstance(detector, GroundingDino):
        detector.model.save_pretrained(out)
        detector.tokenizer.save_pretrained(out)
        detector.image_processor.save_pretrained(out)
    return out
