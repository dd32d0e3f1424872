"""Event log of one annotator, and what it makes of images, classes and settings.

A table that follows from the events is brought up to date in the transaction that adds an event.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cachetools import LRUCache

from ..core.errors import DatasetError, LabelWriteError
from .arrays import Decoder, Encoder, table_from_json, table_to_json, unpack
from .database import Database
from .records import (
    BY_RUNS,
    ClassTable,
    Edit,
    Event,
    EventKind,
    FileStat,
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
LABEL_KINDS = (
    EventKind.EDIT,
    EventKind.UNDO,
    EventKind.REDO,
    EventKind.WRITTEN,
    EventKind.EXTERNAL,
    EventKind.IMPORT,
)
"""The kinds that can change a label map."""


@dataclass(frozen=True, slots=True)
class ImageRow:
    """State of one image, as the events make it.

    Attributes:
        image_id: of the image.
        state: that was decided, never ``proposed``.
        document: of what is proposed, or None.
        proposed: True where that has masks.
        label_seq: of the last event that changed the label map or the state; 0 where none did.
        written_seq: of the event up to which the label file is written.
        fingerprint: of the label file as written or taken in, or None.
        blank: True where nothing is labelled on it.
    """

    image_id: str
    state: ImageState = ImageState.UNTOUCHED
    document: str | None = None
    proposed: bool = False
    label_seq: int = 0
    written_seq: int = 0
    fingerprint: FileStat | None = None
    blank: bool = True


_COLUMNS = (
    "image_id, state, draft, proposed, label_seq, written_seq, png_mtime_ns, png_size, "
    "blank "
    "FROM image_state WHERE annotator = ?"
)


def _image_row(values: tuple[Any, ...]) -> ImageRow:
    image_id, state, document, proposed, label_seq, written_seq, mtime_ns, size, blank = values
    fingerprint = None if mtime_ns is None else (size, mtime_ns)
    return ImageRow(
        image_id,
        ImageState(state),
        document,
        bool(proposed),
        label_seq,
        written_seq,
        fingerprint,
        bool(blank),
    )


class EventLog:
    """Events of one annotator, to be read and added to.

    Args:
        database: of the project.
        annotator: whose events.
        size_of: (H, W) of an image by its id.

    Attributes:
        from_file: gives an image's label map where a file shows it, so that nothing is replayed.
    """

    def __init__(
        self, database: Database, annotator: str, size_of: Callable[[str], tuple[int, int]]
    ) -> None:
        self.from_file: Callable[[ImageRow], LabelMap | None] = lambda row: None
        self.database, self.annotator, self.size_of = database, annotator, size_of
        self.decoder = Decoder(database.blob)
        self._encoder = Encoder(database.keep_blob)
        self._maps: LRUCache[str, tuple[int, LabelMap | None]] = LRUCache(KEPT_MAPS)
        self._changed: dict[str, tuple[int, LabelMap | None]] = {}

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

    def unflagged(self, image_id: str) -> tuple[ImageState, ...]:
        """The states of an image before each flag that is not undone, the newest last."""
        found = self.database.rows(
            "SELECT kind, serial, step, body FROM event WHERE annotator = ? AND image_id = ? "
            "AND kind IN ('edit', 'undo', 'redo') ORDER BY seq",
            (self.annotator, image_id),
        )
        flags: dict[int, ImageState] = {}
        before: dict[int, ImageState] = {}
        for kind, serial, step, text in found:
            states = json.loads(text).get("state") if kind == EventKind.EDIT else None
            if states and states[1] == ImageState.FLAGGED:
                flags[serial] = before[serial] = ImageState(states[0])
            elif kind == EventKind.UNDO:
                before.pop(step, None)
            elif kind == EventKind.REDO and step in flags:
                before[step] = flags[step]
        return tuple(before.values())

    def labels(self, image_id: str, before: int = END) -> LabelMap | None:
        """The label map that the events make; None where no event ever touched it.

        ``before`` leaves out the event that is about to be followed, which is in its table already.
        """
        row = self.image(image_id)
        seq, labels = self._maps.get(image_id, (-1, None))
        # The number of the event that changed it last is the version of a map that was kept.
        if seq != row.label_seq:
            labels = self.from_file(row)
            if labels is None:
                labels = self.replayed(image_id, before)
            self._maps[image_id] = row.label_seq, labels
        return labels

    def replayed(self, image_id: str, before: int = END) -> LabelMap | None:
        """The label map, from the first event to the last one ahead of ``before``."""
        marks = ", ".join("?" * len(LABEL_KINDS))
        found = self.database.rows(
            "SELECT kind, serial, step, body FROM event WHERE annotator = ? AND image_id = ? "
            f"AND kind IN ({marks}) AND seq < ? ORDER BY seq",
            (self.annotator, image_id, *map(str, LABEL_KINDS), before),
        )
        labels: LabelMap | None = None
        edits: dict[int, dict[str, Any]] = {}
        for kind, serial, step, text in found:
            body = json.loads(text)
            if kind == EventKind.EDIT:
                edits[serial] = body
            elif kind in (EventKind.UNDO, EventKind.REDO):
                # An undo has no patch of its own; it takes the one of the edit that it names, the
                # other way round.
                body = edits.get(step, body)
            labels = self._with_patch(labels, body, kind == EventKind.UNDO)
        return labels

    def _with_patch(
        self, labels: LabelMap | None, body: dict[str, Any], back: bool
    ) -> LabelMap | None:
        """A label map with the patch of an event's body in it, or with it taken back."""
        if "patch" not in body:
            return labels
        patch = self.decoder.patch(body["patch"])
        return (patch.inverse() if back else patch).applied(labels)

    def written(self, row: ImageRow, fingerprint: FileStat | None) -> None:
        """Note that the label file shows the events up to ``row.label_seq``."""
        size, mtime_ns = fingerprint or (None, None)
        self._set(row.image_id, written_seq=row.label_seq, png_mtime_ns=mtime_ns, png_size=size)

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
        """The greatest serial of the events; 0 where there is none."""
        found = self.database.row(
            "SELECT max(serial) FROM event WHERE annotator = ?", (self.annotator,)
        )
        return 0 if found is None or found[0] is None else int(found[0])

    def _edit(self, number: int) -> tuple[int, str | None, dict[str, Any]]:
        """The seq, the image and the body of an edit."""
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
        seq, image_id, body = self._edit(number)
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
            tuple(self.read_step(part) for part in self._parts(number)),
            number,
        )

    def accepted_proposal(self, image_id: str) -> ImageProposal:
        """What was proposed on an image when it was accepted last, alone or with others."""
        found = self.database.rows(
            "SELECT event.serial, event.body FROM event JOIN step "
            "ON step.annotator = event.annotator AND step.number = coalesce(event.step, serial) "
            "WHERE event.annotator = ? AND event.image_id = ? AND kind = 'edit' "
            "AND status = 'done' ORDER BY seq DESC",
            (self.annotator, image_id),
        )
        accepts = (serial for serial, body in found if json.loads(body)["name"] == "accept")
        proposals = next((self.read_step(serial).proposal for serial in accepts), None)
        return ImageProposal() if proposals is None else proposals[0]

    def unasked(self, image_id: str) -> dict[str, Any] | None:
        """The body of the event that brought what is proposed on an image, nobody asking there.

        That may be nothing. None where a person has had a part in it since, or nobody proposed.
        """
        made = self.made(image_id)
        objects = self._objects(self.image(image_id).document) if made else []
        return next((body for name, body in made if self._objects(name) == objects), None)

    def made(self, image_id: str) -> list[tuple[str | None, dict[str, Any]]]:
        """What models proposed on an image, nobody asking there: documents, and bodies of events.

        The newest first. Such are proposals of prompt predictors, and what was propagated.
        """
        found = self.database.rows(
            "SELECT kind, body FROM event WHERE annotator = ? AND image_id = ? "
            "AND kind IN ('proposal', 'edit') ORDER BY seq DESC",
            (self.annotator, image_id),
        )
        bodies = ((kind, json.loads(text)) for kind, text in found)
        return [
            (body["draft"] if kind == EventKind.PROPOSAL else body["draft"][1], body)
            for kind, body in bodies
            if kind == EventKind.PROPOSAL or body["name"] in BY_RUNS
        ]

    def _objects(self, document: str | None) -> Any:
        """What a document says of its objects, whichever of them is under work."""
        return [] if document is None else unpack(self.database.blob(document))["objects"]

    def _parts(self, number: int) -> list[int]:
        """The serials of the parts of an edit of several images."""
        found = self.database.rows(
            "SELECT serial FROM event WHERE annotator = ? AND kind = 'edit' AND step = ? "
            "AND serial > ? ORDER BY serial",
            (self.annotator, number, number),
        )
        return [int(values[0]) for values in found]

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
        for seq, at, annotator, serial, kind, image_id, step, body in self.database.each(
            "SELECT seq, at, annotator, serial, kind, image_id, step, body FROM event "
            "WHERE seq > ? ORDER BY seq",
            (after,),
        ):
            yield StoredEvent(
                seq, at, annotator, EventKind(kind), image_id, step, json.loads(body), serial
            )

    # -- adding events -------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[list[str]]:
        """Add all events of a block, or none.

        Gives a list that holds, after the block, the images whose label map or state changed, and
        "" where the classes did.
        """
        changed: list[str] = []
        try:
            with self.database.transaction():
                yield changed
            changed += self._changed
            # Only after the commit: a rolled back transaction must leave no map that never was.
            self._maps.update((key, kept) for key, kept in self._changed.items() if key)
        except BaseException:
            self._encoder = Encoder(self.database.keep_blob)  # its blobs were not kept
            raise
        finally:
            self._changed = {}

    def record(self, events: Sequence[Event]) -> list[str]:
        """Add events in one transaction; those that are there already are passed over.

        Returns:
            What ``transaction`` gives.
        """
        last = self.serial
        # Serials only grow, so one comparison tells what is there: a batch that was sent twice is
        # kept once.
        new = [event for event in events if event.serial > last]
        if not new:
            return []
        with self.transaction() as changed:
            for event in new:
                self._record(event)
        return changed

    def _record(self, event: Event) -> None:
        body = dict(event.body)
        image_id, edit = event.image_id, event.edit
        if edit is not None:
            body["name"] = edit.name
            if edit.proposal is not None:
                body["draft"] = [self._encoder.proposal(each) for each in edit.proposal]
                body["proposed"] = edit.proposal[1].has_masks
            if edit.patch is not None and image_id is not None:
                body["patch"] = self._patch(image_id, edit.patch)
            if edit.state is not None:
                body["state"] = list(edit.state)
            if edit.table is not None:
                body["table"] = [table_to_json(table) for table in edit.table]
        elif event.proposal is not None:
            body["draft"] = self._encoder.proposal(event.proposal)
            body["proposed"] = event.proposal.has_masks
        if event.kind is EventKind.ANSWER and event.step is not None:
            # Names the document that the answer belongs to. If the person has pointed again
            # meanwhile, the image shows another document by then, and the answer is kept in the
            # history but not shown.
            body["pending"] = self._edit(event.step)[2]["draft"][1]
        self._insert(event.kind, image_id, body, event.serial, event.step, event.at)

    def add(
        self,
        kind: EventKind,
        image_id: str | None = None,
        *,
        patch: LabelPatch | None = None,
        state: tuple[ImageState, ImageState] | None = None,
        table: ClassTable | None = None,
        body: dict[str, Any] | None = None,
    ) -> None:
        """Add an event of the program's own, within ``transaction``."""
        body = dict(body or {})
        if patch is not None and image_id is not None:
            body["patch"] = self._patch(image_id, patch)
        if state is not None:
            body["state"] = list(state)
        if table is not None:
            before = self.table()
            tables = (table if before is None else before, table)
            body["table"] = [table_to_json(item) for item in tables]
        self._insert(kind, image_id, body)

    def _patch(self, image_id: str, patch: LabelPatch) -> dict[str, Any]:
        """The body of a patch, whose label map must be as large as the image."""
        if patch.size_hw != self.size_of(image_id):
            raise LabelWriteError(
                self.database.path or Path(image_id),
                f"a label map of shape {patch.size_hw} for the image {image_id} of "
                f"{self.size_of(image_id)}; reload the image",
            )
        return self._encoder.patch(patch)

    def _insert(
        self,
        kind: EventKind,
        image_id: str | None,
        body: dict[str, Any],
        serial: int | None = None,
        step: int | None = None,
        at: float | None = None,
    ) -> None:
        at = time.time() if at is None else at
        seq = self.database.execute(
            "INSERT INTO event (at, annotator, serial, kind, image_id, step, body) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (at, self.annotator, serial, str(kind), image_id, step, json.dumps(body)),
        )
        self.follow(StoredEvent(seq, at, self.annotator, kind, image_id, step, body, serial))

    # -- what follows from them ----------------------------------------------------------------

    def follow(self, event: StoredEvent) -> None:
        """Bring the tables that follow from the events up to date with one of this annotator."""
        kind, image_id, body = event.kind, event.image_id, event.body
        match kind:
            case EventKind.EDIT:
                if event.step is None:  # a part is no step of its own
                    # A new edit ends the redo list. What was undone stays in the log as events.
                    self._mark("gone", "status = 'undone'")
                    self.database.execute(
                        "INSERT INTO step VALUES (?, ?, ?, ?, 'done')",
                        (self.annotator, event.serial, body["name"], image_id),
                    )
                self._change(event.seq, body, image_id, 1)
                if "draft" in body and image_id is not None:
                    self._set(image_id, draft=body["draft"][1], proposed=int(body["proposed"]))
            case EventKind.UNDO | EventKind.REDO:
                assert event.step is not None
                again = kind is EventKind.REDO
                self._mark("done" if again else "undone", "number = ?", event.step)
                self._change(event.seq, self._edit(event.step)[2], image_id, int(again))
            case EventKind.WRITTEN | EventKind.EXTERNAL | EventKind.IMPORT:
                self._change(event.seq, body, image_id, 1)
            case EventKind.TAKEN_BACK:
                self._mark("gone", "number = ?", event.step)
            case EventKind.FORGET:
                self._mark("gone", "image_id = ?", image_id)
            case EventKind.OPEN:
                self._set_settings({"last": image_id})
            case EventKind.SETTINGS:
                self._set_settings(body)
            case _:
                pass
        if kind is not EventKind.EDIT and "draft" in body and image_id is not None:
            if kind is EventKind.ANSWER:
                awaited = self._answered(image_id, body["pending"], event.seq)  # by several
                if self.image(image_id).document not in (body["pending"], awaited):
                    return  # the prompt that it answers is not the last one any more
            self._set(image_id, draft=body["draft"], proposed=int(body["proposed"]))

    def _change(self, seq: int, body: dict[str, Any], image_id: str | None, side: int) -> None:
        """Take what a body says: ``side`` 1 is what was after the event, 0 what was before it."""
        if "table" in body:
            self._changed.setdefault("", (0, None))
            self.database.execute(
                "INSERT OR REPLACE INTO class_table VALUES (?, ?)",
                (self.annotator, json.dumps(body["table"][side])),
            )
        if image_id is None or ("patch" not in body and "state" not in body):
            return
        if image_id in self._changed:
            labels = self._changed[image_id][1]
        else:
            # The event itself is in its table already (its seq was needed), so replaying must stop
            # ahead of it.
            labels = self.labels(image_id, before=seq)
        after = self._with_patch(labels, body, side == 0)
        self._changed[image_id] = seq, after
        state = {"state": str(body["state"][side])} if "state" in body else {}
        self._set(image_id, label_seq=seq, blank=int(after is None or not after.any()), **state)

    def _set(self, image_id: str, **values: object) -> None:
        changes = ", ".join(f"{name} = excluded.{name}" for name in values)
        self.database.execute(
            # The names of the columns are this module's own, never a person's; values are bound.
            f"INSERT INTO image_state (annotator, image_id, {', '.join(values)}) "
            f"VALUES (?, ?{', ?' * len(values)}) ON CONFLICT DO UPDATE SET {changes}",
            (self.annotator, image_id, *values.values()),
        )

    def _set_settings(self, values: dict[str, Any]) -> None:
        for key, value in values.items():
            self.database.execute(
                "INSERT OR REPLACE INTO setting VALUES (?, ?, ?)",
                ("" if key in OF_THE_PROJECT else self.annotator, key, json.dumps(value)),
            )

    def _mark(self, status: str, which: str, *values: object) -> None:
        self.database.execute(
            f"UPDATE step SET status = ? WHERE annotator = ? AND {which}",
            (status, self.annotator, *values),
        )
