"""The prompt predictors (PPNs) that were trained in a project, and which of them is in use.

    <project>/models/ppn-v0003/        one version: ppn.json, ppn.safetensors, version.json
    <project>/models/current.json      which is in use
    <project>/models/training/         a training that goes on, or went on when the window closed
    <project>/models/by-<name>/...     the same of another annotator

A training writes into ``training`` only. When it is done the one who has the project open moves the
result to its place (`Shelf.keep`), notes which is in use, and removes ``training``; each of the
three is whole or not done, and the next opening does what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class PpnVersion:
    """One trained prompt predictor.

    Attributes:
        number: 1, 2, ...
        folder: that holds it.
        classes: label value -> name.
        images: how many it was trained on.
        per_class: label value -> how many of them have that class.
        segmenter: ``model_id`` of the segmenter that it belongs to.
        held_out_dice: mean Dice on images that were not learnt from.
        measured: the sentence that says what it was compared with, and how that ended.
        promoted: it was better.
        created: seconds since 1970, UTC.
    """

    number: int
    folder: Path
    classes: dict[int, str]
    images: int
    per_class: dict[int, int]
    segmenter: str
    held_out_dice: float
    measured: str
    promoted: bool
    created: float

    @property
    def name(self) -> str:
        """As in the history: "ppn-v3"."""
        return f"ppn-v{self.number}"

    @property
    def badge(self) -> str:
        """What a person reads: "PPN v3, held-out Dice 0.84, 24 images"."""
        images = "1 image" if self.images == 1 else f"{self.images} images"
        return f"PPN v{self.number}, held-out Dice {self.held_out_dice:.2f}, {images}"


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
    """All of a project, oldest first.

    Attributes:
        items: the versions that can be used.
        current: number of the one in use, or None.
        unfinished: a training to go on with, or None.
        problems: sentences about what is damaged or missing.
    """

    items: tuple[PpnVersion, ...] = ()
    current: int | None = None
    unfinished: Unfinished | None = None
    problems: tuple[str, ...] = field(default=())

    def get(self, number: int | None) -> PpnVersion | None:
        """A version by its number."""
        return next((item for item in self.items if item.number == number), None)

    @property
    def last(self) -> PpnVersion | None:
        """The newest one, in use or not."""
        return self.items[-1] if self.items else None
