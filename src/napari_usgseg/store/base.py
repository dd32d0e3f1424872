"""What the session asks of a place that keeps images, labels and the history.

The history is a list of events that is only added to. The label maps, the states of the images, the
classes and the proposals are what the events make of them, and can be made anew from the events.

==============  ==================================================================================
kind            what it is, and what its ``body`` holds beside that
==============  ==================================================================================
``edit``        something a person did: a prompt, a find, an accept, a stroke, a skip, a class.
                ``name``, and what it changed: ``draft`` [before, after] as documents (see below),
                ``patch``, ``state`` [before, after], ``table`` [before, after]
``answer``      a model's answer to the prompt of edit ``step``: ``pending`` and ``draft`` are
                documents, ``model``, ``seconds``
``undo``        edit ``step`` taken back; ``draft`` is what is proposed since then
``redo``        edit ``step`` done again; ``draft``
``taken back``  a prompt (edit ``step``) that never had an answer is gone; ``draft``
``forget``      the steps on this image can no longer be undone: its labels changed elsewhere
``open``        an image is shown
``leave``       it is left: ``active_s``, the seconds in which the person was at work on it
``search``      a phrase was looked for: ``phrase``, ``found``, ``phrases`` (of what was found),
                ``segmenter``, ``detector``, ``seconds``
``proposal``    a prompt predictor segmented the image, nobody having asked: ``draft``,
                ``proposed``, ``model``, ``seconds``; not an edit, for nobody did it
``export``      a data set was written: ``to``, its folder's name
``settings``    settings kept: their values by name
``written``     labels, state or classes kept by a program through this store: ``patch``,
                ``state`` and ``table`` as in ``edit``
``external``    a label file changed by another program, taken in: the same
``import``      labels, state or classes that were there before this history began (the first
                version's, or another program's): the same
``image``       an image's file changed or was renamed: ``path``, ``sha256``, ``was``
==============  ==================================================================================

A ``patch`` is ``{"size": [H, W], "row", "column", "before", "after"}``, the last two being blobs
of label values. A map begins as zeros of ``size``; a patch of another size begins a new map. A
``table`` is ``{"active": 1, "classes": [[1, "cyst", "#e69f00"]]}``, with ``last`` where the class
of a higher id was deleted. A document (a draft) and a blob
are named by the SHA-256 of their content; None is the empty draft. ``LabelStore.draft`` reads one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..types import ImageRecord, LabelClass
from .records import (
    ClassTable,
    Draft,
    Edit,
    Event,
    EventKind,
    ImageState,
    LabelMap,
    Step,
    Steps,
    StoredEvent,
)

__all__ = [
    "Event",
    "EventKind",
    "ImageState",
    "LabelMap",
    "LabelStore",
    "SaveReport",
    "Step",
    "Steps",
    "StoredEvent",
]


@dataclass(frozen=True, slots=True)
class SaveReport:
    """What a save did: where the label map is, and where a version that was not ours went.

    Attributes:
        path: of the label map that was written last, or None where none is (any more).
        backup: of the version that somebody else had written there meanwhile, or None.
    """

    path: Path | None
    backup: Path | None = None


class LabelStore(Protocol):
    """Images, label maps, classes, a person's settings, and the history of all of it.

    One thread at a time calls the methods (the file worker); the properties are fixed once the
    store is open.
    """

    @property
    def name(self) -> str:
        """What a person calls it: the folder's or the layer's name."""
        ...

    @property
    def annotator(self) -> str:
        """Whose labels these are; "" for the first annotator, who needs no name."""
        ...

    @property
    def read_only(self) -> str:
        """Why nothing can be written here, and the cure; "" where it can."""
        ...

    @property
    def cache_folder(self) -> Path | None:
        """Where what can be made anew (embeddings) may be kept; None where nothing may."""
        ...

    @property
    def models_folder(self) -> Path | None:
        """Where this annotator's prompt predictors are; None where there can be none."""
        ...

    @property
    def records(self) -> tuple[ImageRecord, ...]:
        """The images, in the order in which they are labelled."""
        ...

    @property
    def problems(self) -> tuple[str, ...]:
        """Sentences about files that cannot be used."""
        ...

    # -- what the history makes of it ------------------------------------------------------------

    def states(self) -> dict[str, ImageState]:
        """The state of every image by its id.

        An untouched one with a proposal, or with labels that nobody accepted, is proposed.
        """
        ...

    def drawn(self) -> frozenset[str]:
        """The images with labels that nobody accepted."""
        ...

    def table(self) -> ClassTable | None:
        """The classes and the picked one; None where none are written down yet."""
        ...

    def classes(self) -> tuple[LabelClass, ...]:
        """The classes of the label maps; () where none are written down yet."""
        ...

    def settings(self) -> dict[str, Any]:
        """The settings that were kept, and ``last``: the image that was shown last."""
        ...

    def read_image(self, record: ImageRecord) -> NDArray[np.uint8]:
        """(H, W, 3) RGB uint8."""
        ...

    def annotators(self) -> tuple[str, ...]:
        """The names of those who labelled here, "" (the first, who needs none) ahead."""
        ...

    def read_labels(self, record: ImageRecord, *, take_in: bool = True) -> LabelMap | None:
        """The label map, or None where there is none yet.

        What another program wrote is taken into the history, unless ``take_in`` is False: for a
        reader beside the person who has the image open and would not see it change.
        """
        ...

    def read_state(self, image_id: str) -> tuple[ImageState, ImageState]:
        """What was decided about an image, and what is decided without its flag."""
        ...

    def read_draft(self, image_id: str) -> Draft:
        """What is proposed on an image and not yet accepted."""
        ...

    def take_warnings(self) -> tuple[str, ...]:
        """Sentences about what was found amiss since the last call (a label file taken in, ...)."""
        ...

    # -- the history -----------------------------------------------------------------------------

    def record(self, events: Sequence[Event]) -> SaveReport:
        """Add events to the history, in one transaction, and bring the label files up to date.

        Events that are in the history already (by their serial) are passed over, so that a batch
        that failed can be sent again with what came after it.

        Raises:
            LabelWriteError: it cannot be written; nothing of the batch is lost by sending it again.
        """
        ...

    def steps(self) -> Steps:
        """The edits that can be undone and redone."""
        ...

    def read_step(self, number: int) -> Edit:
        """An edit with all its content."""
        ...

    def events(self, after: int = 0) -> Iterator[StoredEvent]:
        """The events of all annotators in order, from the one that follows ``after``."""
        ...

    def draft(self, document: str | None) -> Draft:
        """The draft that an event names by its document."""
        ...

    # -- for programs without a session ----------------------------------------------------------

    def write_labels(self, record: ImageRecord, labels: LabelMap | None) -> SaveReport:
        """Keep a label map as committed; None takes it back, so that the image is untouched."""
        ...

    def write_state(self, image_id: str, state: ImageState) -> None:
        """Keep the state of an image."""
        ...

    def write_classes(self, classes: tuple[LabelClass, ...]) -> None:
        """Keep the classes."""
        ...

    def remember(self, values: dict[str, Any]) -> None:
        """Keep settings (JSON values) beside those that are there."""
        ...

    def close(self) -> None:
        """Let others have it; nothing can be read or written here any more."""
        ...
