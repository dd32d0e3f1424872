"""A LoRA adapter and its detector made one: a folder that needs no adapter any more."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..errors import LabelWriteError
from .grounding_dino import GroundingDino
from .lora_card import base_of
from .phrase_grounder import PhraseGrounder, save_phrase_grounder
from .registry import load_detector

TEXT_FILES = ("text.json", "tokenizer.json", "text.safetensors")


def merge_to_folder(adapter: Path, out: Path, base: str | None = None) -> Path:
    """Write the detector with ``adapter`` merged, in single precision, to ``out``.

    Args:
        adapter: folder of the adapter.
        out: a new folder, or an empty one.
        base: name or folder of its detector; None takes the one that it says.

    Raises:
        LabelWriteError: ``out`` holds something.
        ModelNotFoundError: the adapter or its detector is not there.
        CheckpointError: they do not belong together.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise LabelWriteError(out, "exists already; choose another place")
    name = base or base_of(adapter)
    detector = load_detector(name, adapter)
    if isinstance(detector, PhraseGrounder):
        save_phrase_grounder(detector, out, half=False)
        for file in TEXT_FILES:
            shutil.copyfile(_folder_of(name) / file, out / file)
    elif isinstance(detector, GroundingDino):
        detector.model.save_pretrained(out)
        detector.tokenizer.save_pretrained(out)
        detector.image_processor.save_pretrained(out)
    return out


def _folder_of(name: str) -> Path:
    from .catalogue import EMBEDDED

    embedded = (m.path for m in EMBEDDED if m.kind == "detector" and m.name == name)
    return next(embedded, Path(name))
