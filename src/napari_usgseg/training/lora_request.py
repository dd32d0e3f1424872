"""What a tuning's folder is of (``resuming``), and whether it was ended there."""

from __future__ import annotations

from pathlib import Path

from ..models.lora_card import is_adapter
from . import resuming
from .resuming import DONE, is_same, write_request

__all__ = ["DONE", "is_done", "is_same", "write_request"]


def is_done(out: Path) -> bool:
    """True where the same training was ended by itself; one that was killed has more to do."""
    return resuming.is_done(out) and is_adapter(out)
