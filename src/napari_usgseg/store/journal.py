"""Writing the history of one annotator, and what it makes of images, classes and settings."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .codec import Encoder, table_to_json
from .database import Database
from .history import OF_THE_PROJECT, HistoryReader, ImageRow
from .records import (
    ClassTable,
    Event,
    EventKind,
    ImageState,
    LabelMap,
    LabelPatch,
)

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
            if edit.draft is not None:
                body["draft"] = [self._encoder.draft(draft) for draft in edit.draft]
                body["proposed"] = edit.draft[1].has_masks
            if edit.patch is not None and image_id is not None:
                body["patch"] = self._encoder.patch(edit.patch, self.size_of(image_id))
            if edit.state is not None:
                body["state"] = list(edit.state)
            if edit.table is not None:
                body["table"] = [table_to_json(table) for table in edit.table]
        elif event.draft is not None:
            body["draft"] = self._encoder.draft(event.draft)
            body["proposed"] = event.draft.has_masks
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
                    self._set_draft(image_id, body["draft"][1], body["proposed"])
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
            if kind is EventKind.ANSWER and self.image(image_id).draft != body["pending"]:
                return  # the prompt that it answers is not the last one any more
            self._set_draft(image_id, body["draft"], body["proposed"])

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

    def _set_draft(self, image_id: str, document: str | None, proposed: bool) -> None:
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
