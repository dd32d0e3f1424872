"""Reading the history of one annotator: steps, edits, label maps, drafts, states."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import DatasetError
from .codec import Decoder, patched, table_from_json, unpack
from .database import Database
from .records import (
    ClassTable,
    Draft,
    Edit,
    EventKind,
    ImageState,
    LabelMap,
    Step,
    Steps,
    StoredEvent,
)

OF_THE_PROJECT = ("labelling",)
"""Settings that are the same for all annotators."""
KEPT_MAPS = 16
END = 1 << 62
"""Beyond any event."""
LABEL_KINDS = tuple(
    str(kind)
    for kind in (
        EventKind.EDIT,
        EventKind.UNDO,
        EventKind.REDO,
        EventKind.WRITTEN,
        EventKind.EXTERNAL,
        EventKind.IMPORT,
    )
)
"""The kinds that can change a label map."""


@dataclass(frozen=True, slots=True)
class ImageRow:
    """What the history makes of one image.

    Attributes:
        image_id: of the image.
        state: that was decided, never ``proposed``.
        draft: document of what is proposed, or None.
        proposed: True where that has masks.
        label_seq: of the last event that changed the label map or the state; 0 where none did.
        written_seq: of the event up to which the label file is written.
        fingerprint: (mtime in ns, bytes) of the label file as written or taken in, or None.
    """

    image_id: str
    state: ImageState = ImageState.UNTOUCHED
    draft: str | None = None
    proposed: bool = False
    label_seq: int = 0
    written_seq: int = 0
    fingerprint: tuple[int, int] | None = None


_COLUMNS = (
    "image_id, state, draft, proposed, label_seq, written_seq, png_mtime_ns, png_size "
    "FROM image_state WHERE annotator = ?"
)


def _image_row(values: tuple[Any, ...]) -> ImageRow:
    image_id, state, draft, proposed, label_seq, written_seq, mtime_ns, size = values
    fingerprint = None if mtime_ns is None else (mtime_ns, size)
    return ImageRow(
        image_id, ImageState(state), draft, bool(proposed), label_seq, written_seq, fingerprint
    )


class HistoryReader:
    """One annotator's history, as it is in the database.

    Args:
        database: of the project.
        annotator: whose history.

    Attributes:
        shortcut: gives an image's label map where it is at hand without replaying, else None.
    """

    def __init__(self, database: Database, annotator: str) -> None:
        self.shortcut: Callable[[ImageRow], LabelMap | None] = lambda row: None
        self.database = database
        self.annotator = annotator
        self.decoder = Decoder(database.blob)
        self._maps: OrderedDict[str, tuple[int, LabelMap | None]] = OrderedDict()

    # -- images --------------------------------------------------------------------------------

    def image(self, image_id: str) -> ImageRow:
        """What is known of an image."""
        found = self.database.row(f"SELECT {_COLUMNS} AND image_id = ?", (self.annotator, image_id))
        return ImageRow(image_id) if found is None else _image_row(found)

    def images(self) -> dict[str, ImageRow]:
        """What is known of all images that were ever touched."""
        found = self.database.rows(f"SELECT {_COLUMNS}", (self.annotator,))
        return {values[0]: _image_row(values) for values in found}

    def annotators(self) -> tuple[str, ...]:
        """Those who decided about an image or labelled one; "" ahead."""
        found = self.database.rows(
            "SELECT DISTINCT annotator FROM image_state WHERE label_seq > 0 ORDER BY annotator"
        )
        return tuple(values[0] for values in found)

    def unflagged(self, image_id: str) -> ImageState:
        """The state of a flagged image before it was flagged last."""
        found = self.database.rows(
            "SELECT body FROM event WHERE annotator = ? AND image_id = ? ORDER BY seq DESC",
            (self.annotator, image_id),
        )
        states = (json.loads(values[0]).get("state") for values in found)
        flagged = (pair[0] for pair in states if pair and pair[1] == ImageState.FLAGGED)
        return ImageState(next(flagged, ImageState.UNTOUCHED))

    def labels(self, image_id: str) -> LabelMap | None:
        """The label map that the events make; None where no event ever touched it."""
        row = self.image(image_id)
        kept = self._maps.get(image_id)
        if kept is not None and kept[0] == row.label_seq:
            self._maps.move_to_end(image_id)
            return kept[1]
        labels = self.shortcut(row)
        if labels is None:
            labels = self.replayed(image_id)
        self.keep_map(image_id, row.label_seq, labels)
        return labels

    def keep_map(self, image_id: str, seq: int, labels: LabelMap | None) -> None:
        """Remember the label map that the events up to ``seq`` make."""
        self._maps[image_id] = (seq, labels)
        self._maps.move_to_end(image_id)
        while len(self._maps) > KEPT_MAPS:
            self._maps.popitem(last=False)

    def replayed(self, image_id: str, before: int = END) -> LabelMap | None:
        """The label map, from the first event to the last one ahead of ``before``."""
        marks = ", ".join("?" * len(LABEL_KINDS))
        found = self.database.rows(
            "SELECT kind, serial, step, body FROM event WHERE annotator = ? AND image_id = ? "
            f"AND kind IN ({marks}) AND seq < ? ORDER BY seq",
            (self.annotator, image_id, *LABEL_KINDS, before),
        )
        labels: LabelMap | None = None
        edits: dict[int, dict[str, Any]] = {}
        for kind, serial, step, text in found:
            body = json.loads(text)
            if kind == EventKind.EDIT:
                edits[serial] = body
            elif kind in (EventKind.UNDO, EventKind.REDO):
                body = edits.get(step, body)
            labels = self.with_patch(labels, body.get("patch"), kind == EventKind.UNDO)
        return labels

    def with_patch(
        self, labels: LabelMap | None, body: dict[str, Any] | None, back: bool
    ) -> LabelMap | None:
        """A label map with the patch of an event's body in it, or with it taken back."""
        if body is None:
            return labels
        patch = self.decoder.patch(body)
        return patched(labels, patch.inverse() if back else patch, tuple(body["size"]))

    # -- edits ---------------------------------------------------------------------------------

    def steps(self) -> Steps:
        """The edits that can be undone and redone."""
        found = self.database.rows(
            "SELECT number, name, image_id, status FROM step "
            "WHERE annotator = ? AND status != 'gone' ORDER BY number",
            (self.annotator,),
        )
        done = tuple(Step(*values[:3]) for values in found if values[3] == "done")
        undone = tuple(Step(*values[:3]) for values in found if values[3] == "undone")
        return Steps(done, undone, self.serial)

    @property
    def serial(self) -> int:
        """The greatest serial in the history; 0 where there is none."""
        found = self.database.row(
            "SELECT max(serial) FROM event WHERE annotator = ?", (self.annotator,)
        )
        return 0 if found is None or found[0] is None else int(found[0])

    def edit_body(self, number: int) -> tuple[int, str | None, dict[str, Any]]:
        """The seq, the image and the body of an edit.

        Raises:
            DatasetError: there is no such edit.
        """
        found = self.database.row(
            "SELECT seq, image_id, body FROM event "
            "WHERE annotator = ? AND serial = ? AND kind = 'edit'",
            (self.annotator, number),
        )
        if found is None:
            raise DatasetError(
                self.database.path or "project", f"has no step {number}; restore a copy of it"
            )
        return int(found[0]), found[1], json.loads(found[2])

    def read_step(self, number: int) -> Edit:
        """An edit with all its content; a prompt with the answer that it had since.

        Raises:
            DatasetError: there is no such edit.
        """
        seq, image_id, body = self.edit_body(number)
        drafts = None
        if "draft" in body:
            before, after = body["draft"]
            drafts = (
                self.decoder.draft(self._answered(image_id, before, seq)),
                self.decoder.draft(self._answered(image_id, after)),
            )
        tables = body.get("table")
        states = body.get("state")
        return Edit(
            body["name"],
            image_id,
            drafts,
            self.decoder.patch(body["patch"]) if "patch" in body else None,
            None if states is None else (ImageState(states[0]), ImageState(states[1])),
            None if tables is None else (table_from_json(tables[0]), table_from_json(tables[1])),
        )

    def _answered(
        self, image_id: str | None, document: str | None, before: int = END
    ) -> str | None:
        """The document of the answered draft where a pending one had an answer, else the same."""
        if document is None or not unpack(self.database.blob(document))["pending"]:
            return document
        found = self.database.rows(
            "SELECT body FROM event WHERE annotator = ? AND image_id = ? AND kind = 'answer' "
            "AND seq < ? ORDER BY seq DESC",
            (self.annotator, image_id, before),
        )
        bodies = (json.loads(values[0]) for values in found)
        answers = (body["draft"] for body in bodies if body["pending"] == document)
        return next(answers, document)

    # -- the rest ------------------------------------------------------------------------------

    def draft(self, document: str | None) -> Draft:
        """The draft of a document."""
        return self.decoder.draft(document)

    def table(self) -> ClassTable | None:
        """The classes; a new annotator begins with the first one's."""
        for annotator in dict.fromkeys((self.annotator, "")):
            found = self.database.row(
                "SELECT body FROM class_table WHERE annotator = ?", (annotator,)
            )
            if found is not None:
                return table_from_json(json.loads(found[0]))
        return None

    def settings(self) -> dict[str, Any]:
        """The settings; a new annotator begins with the first one's, but not at their image."""
        values: dict[str, Any] = {}
        for annotator in dict.fromkeys(("", self.annotator)):
            found = self.database.rows(
                "SELECT key, value FROM setting WHERE annotator = ?", (annotator,)
            )
            own = {key: json.loads(value) for key, value in found}
            if annotator:
                values.pop("last", None)
                own = {key: value for key, value in own.items() if key not in OF_THE_PROJECT}
            values.update(own)
        return values

    def events(self, after: int = 0) -> Iterator[StoredEvent]:
        """The events of all annotators in order, from the one that follows ``after``."""
        for seq, at, annotator, kind, image_id, step, body in self.database.each(
            "SELECT seq, at, annotator, kind, image_id, step, body FROM event "
            "WHERE seq > ? ORDER BY seq",
            (after,),
        ):
            yield StoredEvent(seq, at, annotator, EventKind(kind), image_id, step, json.loads(body))
