"""Writing the history of one annotator, and what it makes of images, classes and settings."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.errors import DatasetError
from .arrays import Decoder, Encoder, patched, table_from_json, table_to_json, unpack
from .database import Database
from .records import (
    ClassTable,
    Edit,
    Event,
    EventKind,
    ImageProposal,
    ImageState,
    LabelMap,
    LabelPatch,
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
        proposal: document of what is proposed, or None.
        proposed: True where that has masks.
        label_seq: of the last event that changed the label map or the state; 0 where none did.
        written_seq: of the event up to which the label file is written.
        fingerprint: (mtime in ns, bytes) of the label file as written or taken in, or None.
    """

    image_id: str
    state: ImageState = ImageState.UNTOUCHED
    proposal: str | None = None
    proposed: bool = False
    label_seq: int = 0
    written_seq: int = 0
    fingerprint: tuple[int, int] | None = None


_COLUMNS = (
    "image_id, state, draft, proposed, label_seq, written_seq, png_mtime_ns, png_size "
    "FROM image_state WHERE annotator = ?"
)


def _image_row(values: tuple[Any, ...]) -> ImageRow:
    image_id, state, proposal, proposed, label_seq, written_seq, mtime_ns, size = values
    fingerprint = None if mtime_ns is None else (mtime_ns, size)
    return ImageRow(
        image_id, ImageState(state), proposal, bool(proposed), label_seq, written_seq, fingerprint
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
        proposals = None
        if "draft" in body:
            before, after = body["draft"]
            proposals = (
                self.decoder.proposal(self._answered(image_id, before, seq)),
                self.decoder.proposal(self._answered(image_id, after)),
            )
        tables = body.get("table")
        states = body.get("state")
        return Edit(
            body["name"],
            image_id,
            proposals,
            self.decoder.patch(body["patch"]) if "patch" in body else None,
            None if states is None else (ImageState(states[0]), ImageState(states[1])),
            None if tables is None else (table_from_json(tables[0]), table_from_json(tables[1])),
        )

    def _answered(
        self, image_id: str | None, document: str | None, before: int = END
    ) -> str | None:
        """The document of the answered proposal where a pending one had an answer."""
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

    def proposal(self, document: str | None) -> ImageProposal:
        """The proposal of a document."""
        return self.decoder.proposal(document)

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


KEPT_BLOB_NAMES = 4096

SizeOf = Callable[[str], tuple[int, int]]
Change = tuple[ImageState, ImageState]


class Journal(HistoryReader):
    """One annotator's history, to be read and added to.

    Args:
        database: of the project.
        annotator: whose history.
        size_of: (H, W) of an image by its id.
    """

    def __init__(self, database: Database, annotator: str, size_of: SizeOf) -> None:
        super().__init__(database, annotator)
        self.size_of = size_of
        self._encoder = Encoder()
        self._changed: dict[str, tuple[int, LabelMap | None]] = {}

    def record(self, events: Sequence[Event]) -> list[str]:
        """Add events in one transaction; those that are there already are passed over.

        Returns:
            The images whose label map or state changed, and whether classes did: "" among them.
        """
        last = self.serial
        new = [event for event in events if event.serial > last]
        if not new:
            return []

        def work() -> None:
            for event in new:
                self._add(event)

        return self.together(work)

    def take(
        self,
        kind: EventKind,
        image_id: str | None = None,
        *,
        patch: LabelPatch | None = None,
        state: Change | None = None,
        table: ClassTable | None = None,
        body: dict[str, Any] | None = None,
    ) -> None:
        """Add an event of the store's own, within ``together``."""
        body = dict(body or {})
        if patch is not None and image_id is not None:
            body["patch"] = self._encoder.patch(patch, self.size_of(image_id))
        if state is not None:
            body["state"] = list(state)
        if table is not None:
            before = self.table()
            tables = (table if before is None else before, table)
            body["table"] = [table_to_json(item) for item in tables]
        seq = self._insert(time.time(), None, kind, image_id, None, body)
        self._follow(seq, None, kind, image_id, None, body)

    def together(self, work: Callable[[], object]) -> list[str]:
        """Do what ``work`` does with ``take`` in one transaction; gives what ``record`` gives."""
        self._changed = {}
        try:
            with self.database.transaction():
                work()
        except BaseException:
            self._encoder = Encoder()  # its blobs were not kept
            self._changed = {}
            raise
        if len(self._encoder.blobs) > KEPT_BLOB_NAMES:
            self._encoder = Encoder()
        for image_id, (seq, labels) in self._changed.items():
            if image_id:
                self.keep_map(image_id, seq, labels)
        changed, self._changed = list(self._changed), {}
        return changed

    def rebuild(self) -> None:
        """Make everything that follows from the history anew, from the first event."""

        def work() -> None:
            for name in ("image_state", "class_table", "setting", "step"):
                self.database.execute(f"DELETE FROM {name} WHERE annotator = ?", (self.annotator,))
            for seq, serial, kind, image_id, step, text in self.database.rows(
                "SELECT seq, serial, kind, image_id, step, body FROM event "
                "WHERE annotator = ? ORDER BY seq",
                (self.annotator,),
            ):
                body = json.loads(text)
                self._follow(seq, serial, EventKind(kind), image_id, step, body, maps=False)

        self.together(work)

    # -- events --------------------------------------------------------------------------------

    def _add(self, event: Event) -> None:
        body = dict(event.body)
        kind, image_id, edit = event.kind, event.image_id, event.edit
        if edit is not None:
            body["name"] = edit.name
            if edit.proposal is not None:
                body["draft"] = [self._encoder.proposal(proposal) for proposal in edit.proposal]
                body["proposed"] = edit.proposal[1].has_masks
            if edit.patch is not None and image_id is not None:
                body["patch"] = self._encoder.patch(edit.patch, self.size_of(image_id))
            if edit.state is not None:
                body["state"] = list(edit.state)
            if edit.table is not None:
                body["table"] = [table_to_json(table) for table in edit.table]
        elif event.proposal is not None:
            body["draft"] = self._encoder.proposal(event.proposal)
            body["proposed"] = event.proposal.has_masks
        if kind is EventKind.ANSWER and event.step is not None:
            body["pending"] = self.edit_body(event.step)[2]["draft"][1]
        seq = self._insert(event.at, event.serial, kind, image_id, event.step, body)
        self._follow(seq, event.serial, kind, image_id, event.step, body)

    def _follow(
        self,
        seq: int,
        serial: int | None,
        kind: EventKind,
        image_id: str | None,
        step: int | None,
        body: dict[str, Any],
        *,
        maps: bool = True,
    ) -> None:
        """Bring the tables that are made from the history up to date with one event.

        ``maps`` False leaves the label maps, which need memory for every image, for later.
        """
        match kind:
            case EventKind.EDIT:
                self._mark("status = 'undone'", (), "gone")
                self.database.execute(
                    "INSERT INTO step VALUES (?, ?, ?, ?, 'done')",
                    (self.annotator, serial, body["name"], image_id),
                )
                self._change(seq, body, image_id, 1, maps)
                if "draft" in body and image_id is not None:
                    self._set_proposal(image_id, body["draft"][1], body["proposed"])
            case EventKind.UNDO | EventKind.REDO:
                assert step is not None
                after = kind is EventKind.REDO
                self._mark("number = ?", (step,), "done" if after else "undone")
                self._change(seq, self.edit_body(step)[2], image_id, int(after), maps)
            case EventKind.WRITTEN | EventKind.EXTERNAL | EventKind.IMPORT:
                self._change(seq, body, image_id, 1, maps)
            case EventKind.TAKEN_BACK:
                self._mark("number = ?", (step,), "gone")
            case EventKind.FORGET:
                self._mark("image_id = ?", (image_id,), "gone")
            case EventKind.OPEN:
                self._set_settings({"last": image_id})
            case EventKind.SETTINGS:
                self._set_settings(body)
            case _:
                pass
        if kind is not EventKind.EDIT and "draft" in body and image_id is not None:
            if kind is EventKind.ANSWER and self.image(image_id).proposal != body["pending"]:
                return  # the prompt that it answers is not the last one any more
            self._set_proposal(image_id, body["draft"], body["proposed"])

    def _insert(
        self,
        at: float,
        serial: int | None,
        kind: EventKind,
        image_id: str | None,
        step: int | None,
        body: dict[str, Any],
    ) -> int:
        for name, blob in self._encoder.blobs.items():
            if blob:
                self.database.execute("INSERT OR IGNORE INTO blob VALUES (?, ?)", (name, blob))
                self._encoder.blobs[name] = b""
        return self.database.execute(
            "INSERT INTO event (at, annotator, serial, kind, image_id, step, body) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (at, self.annotator, serial, str(kind), image_id, step, json.dumps(body)),
        )

    # -- what follows from them ----------------------------------------------------------------

    def _change(
        self, seq: int, body: dict[str, Any], image_id: str | None, side: int, maps: bool
    ) -> None:
        """Take what a body says: ``side`` 1 is what was after the event, 0 what was before it."""
        if "table" in body:
            self._set_table(body["table"][side])
        if image_id is None or ("patch" not in body and "state" not in body):
            return
        if maps:
            if image_id in self._changed:
                labels = self._changed[image_id][1]
            else:
                labels = self.labels_before(image_id, seq)
            self._changed[image_id] = (seq, self.with_patch(labels, body.get("patch"), side == 0))
        if "state" in body:
            self._set(image_id, "state", str(body["state"][side]))
        self._set(image_id, "label_seq", seq)

    def labels_before(self, image_id: str, seq: int) -> LabelMap | None:
        """The label map before the event ``seq``, which is in the table already."""
        row = self.image(image_id)
        kept = self._maps.get(image_id)
        if kept is not None and kept[0] == row.label_seq:
            return kept[1]
        labels = self.shortcut(row)
        return self.replayed(image_id, before=seq) if labels is None else labels

    def _set_proposal(self, image_id: str, document: str | None, proposed: bool) -> None:
        self._set(image_id, "draft", document)
        self._set(image_id, "proposed", int(proposed))

    def _set(self, image_id: str, column: str, value: object) -> None:
        self.database.execute(
            f"INSERT INTO image_state (annotator, image_id, {column}) VALUES (?, ?, ?) "
            f"ON CONFLICT DO UPDATE SET {column} = excluded.{column}",
            (self.annotator, image_id, value),
        )

    def _set_table(self, body: dict[str, Any]) -> None:
        self._changed.setdefault("", (0, None))
        self.database.execute(
            "INSERT INTO class_table VALUES (?, ?) ON CONFLICT DO UPDATE SET body = excluded.body",
            (self.annotator, json.dumps(body)),
        )

    def _set_settings(self, values: dict[str, Any]) -> None:
        for key, value in values.items():
            self.database.execute(
                "INSERT INTO setting VALUES (?, ?, ?) "
                "ON CONFLICT DO UPDATE SET value = excluded.value",
                ("" if key in OF_THE_PROJECT else self.annotator, key, json.dumps(value)),
            )

    def _mark(self, which: str, values: Iterable[object], status: str) -> None:
        self.database.execute(
            f"UPDATE step SET status = ? WHERE annotator = ? AND {which}",
            (status, self.annotator, *values),
        )

    def written(self, row: ImageRow, fingerprint: tuple[int, int] | None) -> None:
        """Note that the label file shows the history up to ``row.label_seq``."""
        mtime_ns, size = fingerprint or (None, None)
        self.database.execute(
            "INSERT INTO image_state "
            "(annotator, image_id, written_seq, png_mtime_ns, png_size) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET written_seq = excluded.written_seq, "
            "png_mtime_ns = excluded.png_mtime_ns, png_size = excluded.png_size",
            (self.annotator, row.image_id, row.label_seq, mtime_ns, size),
        )
