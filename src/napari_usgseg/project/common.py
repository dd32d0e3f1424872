"""What a project on disk and a layer in memory have in common: a history and what it makes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import LabelWriteError
from ..core.types import ImageRecord, LabelClass
from ..io.labels import as_label_map
from .event_log import ImageRow, Journal
from .records import (
    ClassTable,
    Edit,
    Event,
    EventKind,
    ImageProposal,
    ImageState,
    LabelMap,
    SaveReport,
    Steps,
    StoredEvent,
    difference,
)


def has_file(row: ImageRow, labels: LabelMap | None) -> bool:
    """True where an image has a label file: it is committed, or something is labelled on it."""
    return row.state is ImageState.ACCEPTED or (labels is not None and bool(labels.any()))


class JournalStore:
    """The part of a ``LabelStore`` that is the same wherever the history is kept."""

    records: tuple[ImageRecord, ...]
    read_only: str = ""
    _journal: Journal

    def _follow(self, changed: Sequence[str]) -> SaveReport:
        """Bring up to date what is kept beside the history."""
        return SaveReport(None)

    def _check_writable(self) -> None:
        if self.read_only:
            raise LabelWriteError(self._place(), self.read_only)

    def _place(self) -> Path:
        return Path(self._journal.database.path or "memory")

    def states(self) -> dict[str, ImageState]:
        """The state of every image by its id; see ``LabelStore.states``."""
        rows, drawn = self._journal.images(), self.drawn()

        def state(image_id: str) -> ImageState:
            row = rows.get(image_id)
            if row is None:
                return ImageState.UNTOUCHED
            waits = row.proposed or image_id in drawn
            proposed = waits and row.state is ImageState.UNTOUCHED
            return ImageState.PROPOSED if proposed else row.state

        return {record.image_id: state(record.image_id) for record in self.records}

    def drawn(self) -> frozenset[str]:
        """The images with labels that nobody accepted, by their label files."""
        rows = self._journal.images().values()
        kept = (row for row in rows if row.fingerprint is not None)
        return frozenset(row.image_id for row in kept if row.state is not ImageState.ACCEPTED)

    def table(self) -> ClassTable | None:
        """The classes and the picked one; None where none are written down yet."""
        return self._journal.table()

    def classes(self) -> tuple[LabelClass, ...]:
        """The classes of the label maps; () where none are written down yet."""
        table = self._journal.table()
        return () if table is None else table.classes

    def settings(self) -> dict[str, Any]:
        """The settings that were kept, and ``last``: the image that was shown last."""
        return self._journal.settings()

    def annotators(self) -> tuple[str, ...]:
        """The names of those who labelled here, "" (the first, who needs none) ahead."""
        return self._journal.annotators()

    def read_state(self, image_id: str) -> tuple[ImageState, ImageState]:
        """What was decided about an image, and what is decided without its flag."""
        state = self._journal.image(image_id).state
        return state, self._journal.unflagged(image_id) if state is ImageState.FLAGGED else state

    def read_proposal(self, image_id: str) -> ImageProposal:
        """What is proposed on an image and not yet accepted."""
        return self._journal.proposal(self._journal.image(image_id).proposal)

    def record(self, events: Sequence[Event]) -> SaveReport:
        """Add events to the history; see ``LabelStore.record``.

        Raises:
            LabelWriteError: it cannot be written.
        """
        self._check_writable()
        return self._follow(self._journal.record(events))

    def steps(self) -> Steps:
        """The edits that can be undone and redone."""
        return self._journal.steps()

    def read_step(self, number: int) -> Edit:
        """An edit with all its content.

        Raises:
            DatasetError: there is no such edit.
        """
        return self._journal.read_step(number)

    def events(self, after: int = 0) -> Iterator[StoredEvent]:
        """The events of all annotators in order, from the one that follows ``after``."""
        return self._journal.events(after)

    def proposal(self, document: str | None) -> ImageProposal:
        """The proposal that an event names by its document."""
        return self._journal.proposal(document)

    def write_labels(self, record: ImageRecord, labels: LabelMap | None) -> SaveReport:
        """Keep a label map as committed; None takes it back, so that the image is untouched.

        Raises:
            LabelWriteError: it cannot be written, or the map has another size than the image.
        """
        self._check_writable()
        image_id = record.image_id
        if labels is not None and labels.shape != record.size_hw:
            raise LabelWriteError(
                self._place(),
                f"a label map of shape {labels.shape} for the image {image_id} of "
                f"{record.size_hw}; reload the image",
            )
        if labels is not None:
            labels = as_label_map(self._place(), labels)
        before = self._journal.labels(image_id)
        if before is None or before.shape != record.size_hw:
            before = np.zeros(record.size_hw, np.uint8)
        after = np.zeros_like(before) if labels is None else labels
        state = ImageState.UNTOUCHED if labels is None else ImageState.ACCEPTED
        states = (self._journal.image(image_id).state, state)
        patch = difference(before, after)

        def work() -> None:
            self._journal.take(EventKind.WRITTEN, image_id, patch=patch, state=states)

        return self._follow(self._journal.together(work))

    def write_state(self, image_id: str, state: ImageState) -> None:
        """Keep the state of an image.

        Raises:
            LabelWriteError: it cannot be written.
        """
        self._check_writable()
        states = (self._journal.image(image_id).state, state)
        if states[0] is not state:
            self._follow(
                self._journal.together(
                    lambda: self._journal.take(EventKind.WRITTEN, image_id, state=states)
                )
            )

    def write_classes(self, classes: tuple[LabelClass, ...]) -> None:
        """Keep the classes.

        Raises:
            LabelWriteError: they cannot be written.
        """
        self._check_writable()
        before = self._journal.table()
        if not classes or (before is not None and before.classes == classes):
            return
        ids = [item.class_id for item in classes]
        active = before.active if before is not None and before.active in ids else ids[0]
        table = ClassTable(classes, active, 0 if before is None else before.last)
        self._follow(
            self._journal.together(lambda: self._journal.take(EventKind.WRITTEN, table=table))
        )

    def remember(self, values: dict[str, Any]) -> None:
        """Keep settings beside those that are there.

        Raises:
            LabelWriteError: they cannot be written.
        """
        self._check_writable()
        old = self.settings()
        new = {key: value for key, value in values.items() if old.get(key, ...) != value}
        if new:
            self._journal.together(lambda: self._journal.take(EventKind.SETTINGS, body=new))
