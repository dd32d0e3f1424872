"""The rows of the ledger: what one annotator did on one image, and how its labels came about."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ..project.records import ImageState

IDLE_SECONDS = 30.0
"""The longest pause that counts as work, here and for the session's own stopwatch."""

BY_PHRASE = "phrase"
"""The source of a proposal that a phrase found; others are named by the edit: "click", "box"."""

BY_PPN = "prompt predictor"
"""The source of a proposal that a prompt predictor made by itself."""


class Way(StrEnum):
    """How what is committed came about."""

    UNCHANGED = "unchanged"
    CHANGED = "changed"
    DISCARDED = "thrown away"
    BY_HAND = "by hand"
    EMPTY = "nothing there"


@dataclass(frozen=True, slots=True)
class First:
    """The first proposal on an image.

    Attributes:
        source: what it came from: "phrase", "click", "box", ...
        model: that made it.
        document: of the draft, to be read with ``LabelStore.draft``.
    """

    source: str
    model: str
    document: str

    @property
    def name(self) -> str:
        """Model and source, as a report names them."""
        return f"{self.source}: {self.model}" if self.model else self.source


@dataclass(frozen=True, slots=True)
class Search:
    """Phrases that were looked for together, which of them found something, and how many objects.

    Phrases are in lower case; ``document`` is of the draft with what was found, or None.
    """

    phrases: tuple[str, ...]
    found: int
    found_phrases: tuple[str, ...] = ()
    document: str | None = None


@dataclass(frozen=True, slots=True)
class ImageEffort:
    """What one annotator did on one image.

    Attributes:
        image_id: of the image.
        annotator: "" for the first.
        began_at: seconds since 1970 of the first event.
        committed_at: of the last commit, or None.
        active_s: seconds at work, over all visits.
        waited_s: seconds that the models took for what was asked here.
        visits: how often the image was opened.
        edits: how often each kind of edit was done, by its name, undone ones too.
        undone: how often one was taken back.
        models: that answered.
        searches: phrases that were looked for.
        first: the first proposal, or None.
        way: how the committed labels came about; None where nothing is committed.
        labels_seq: of the last event that touched the labels.
        state: of the image now.
    """

    image_id: str
    annotator: str
    began_at: float
    committed_at: float | None = None
    active_s: float = 0.0
    waited_s: float = 0.0
    visits: int = 0
    edits: tuple[tuple[str, int], ...] = ()
    undone: int = 0
    models: tuple[str, ...] = ()
    searches: tuple[Search, ...] = ()
    first: First | None = None
    way: Way | None = None
    labels_seq: int = 0
    state: ImageState = ImageState.UNTOUCHED

    def count(self, *names: str) -> int:
        """How many edits of these names."""
        return sum(number for name, number in self.edits if name in names)

    @property
    def clicks(self) -> int:
        """Clicks, positive and negative."""
        return self.count("click")
