"""Records of what was trained in a project, in versions; see ``shelf``.

Two kinds: prompt predictors (PPNs), and LoRA adapters of the detector.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ModelKind = Literal["ppn", "lora"]
TITLES: dict[ModelKind, str] = {"ppn": "PPN", "lora": "Tuned"}
"""How a person reads a version: "PPN v3", "Tuned v1"."""

_PPN = re.compile(r"ppn-v(\d+)@")
_TUNED = re.compile(r"\+lora-v(\d+)-")


def number_in(model_id: str) -> int:
    """The number of the PPN that a proposal's ``model_id`` names; 0 where it is no PPN's."""
    found = _PPN.match(model_id)
    return int(found[1]) if found else 0


def tuned_number_in(model_id: str) -> int:
    """The number of the tuned detector in a proposal's ``model_id``; 0 where none was asked."""
    found = _TUNED.search(model_id)
    return int(found[1]) if found else 0


def readable(model_id: str) -> str:
    """A ``model_id`` for the status line: of a tuned detector, which version it is."""
    return re.sub(r"\S+\+lora-v0*(\d+)-\w+", rf"{TITLES['lora']} v\1", model_id)


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One trained prompt predictor, or one adapter of the detector.

    Attributes:
        kind: which of the two.
        number: 1, 2, ...
        folder: that holds it.
        classes: label value -> name.
        images: how many it was trained on.
        per_class: label value -> on how many accepted images that class was then, learnt or not.
        base: what it belongs to: a PPN's segmenter by its ``model_id``, an adapter's detector by
            its name or folder.
        held_out_dice: mean Dice on images that were not learnt from.
        measured: the sentence that says what it was compared with, and how that ended.
        promoted: it was better.
        created: seconds since 1970, UTC.
    """

    kind: ModelKind
    number: int
    folder: Path
    classes: dict[int, str]
    images: int
    per_class: dict[int, int]
    base: str
    held_out_dice: float
    measured: str
    promoted: bool
    created: float

    @property
    def name(self) -> str:
        """As in the history: "ppn-v3", "lora-v1"."""
        return f"{self.kind}-v{self.number}"

    @property
    def title(self) -> str:
        """In a sentence: "PPN v3", "Tuned v1"."""
        return title_of(self.kind, self.number)

    @property
    def badge(self) -> str:
        """What a person reads: "PPN v3, held-out Dice 0.84, 24 images"."""
        images = "1 image" if self.images == 1 else f"{self.images} images"
        return f"{self.title}, held-out Dice {self.held_out_dice:.2f}, {images}"


def title_of(kind: ModelKind, number: int) -> str:
    """How a person reads a version, whether it is there or not."""
    return f"{TITLES[kind]} v{number}"


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A training that has no result yet.

    Attributes:
        folder: of the training.
        images: how many it learns from.
        paused: the person stopped it to go on later; it does not go on by itself.
    """

    folder: Path
    images: int
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Versions:
    """All of a kind in a project, oldest first.

    Attributes:
        items: the versions that can be used.
        current: number of the one in use, or None.
        chosen: the person chose that; otherwise it is the newest that was promoted.
        unfinished: a training to go on with, or None.
        problems: sentences about what is damaged or missing.
    """

    items: tuple[ModelVersion, ...] = ()
    current: int | None = None
    chosen: bool = False
    unfinished: Unfinished | None = None
    problems: tuple[str, ...] = ()

    def get(self, number: int | None) -> ModelVersion | None:
        """A version by its number."""
        return next((item for item in self.items if item.number == number), None)

    @property
    def last(self) -> ModelVersion | None:
        """The newest one, in use or not."""
        return self.items[-1] if self.items else None
