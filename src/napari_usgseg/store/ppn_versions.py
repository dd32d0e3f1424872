"""Records of the prompt predictors (PPNs) that were trained in a project; see ``ppn_shelf``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

_NAME = re.compile(r"ppn-v(\d+)@")


def number_in(model_id: str) -> int:
    """The number of the version that a proposal's ``model_id`` names; 0 where it is no PPN's."""
    found = _NAME.match(model_id)
    return int(found[1]) if found else 0


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
