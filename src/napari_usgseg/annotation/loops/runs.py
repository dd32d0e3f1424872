"""Runs over a loop, which go on beside the person's work: propagation, and searches.

Each frame is put where it belongs as soon as it is known, as a part of one edit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from psygnal import Signal

from ...core.types import ImageRecord
from ...jobs import Lane, Scope
from ...project.project import LabelStore
from ...project.records import ClassTable, Edit, ImageProposal, ImageState
from ..commands import propagate
from ..commands.propagate import Standing
from ..document import AnnotationDocument
from .frames import RUN, Loops

ARRIVING = "frames of a run"
"""Key of the jobs that look how frames stand, before something is proposed on them."""


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """Answer of a run for a frame, beside what is on it.

    Attributes:
        frame: index in the loop.
        word: what the job told of it.
        standing: how the frame stands.
        before: what is proposed on it.
    """

    frame: int
    word: Any
    standing: Standing
    before: ImageProposal


class Run(ABC):
    """A run over a loop.

    Args:
        frames: of the loop.
        wanted: those that it goes to.

    Attributes:
        step: the number of its edit, once there is something on a frame.
        done: frames that it went to.
        broken: how many frames could not be decoded.
    """

    name: ClassVar[str]
    """Of its edit."""
    doing: ClassVar[str]

    def __init__(self, frames: tuple[ImageRecord, ...], wanted: tuple[int, ...]) -> None:
        self.frames, self.wanted = frames, wanted
        self.step: int | None = None
        self.done: list[int] = []
        self.broken = 0
        self.waiting: list[Any] = []
        self.writes = self.has_ended = False

    @abstractmethod
    def frame_in(self, word: Any) -> int:
        """The number that a word's frame has in its file."""

    @abstractmethod
    def proposed(
        self, document: AnnotationDocument, arrival: Arrival
    ) -> tuple[ImageProposal, dict[str, Any]] | None:
        """What is to be proposed on a frame, and what is noted beside that; None changes nothing.

        It is asked on the session's thread.
        """

    @abstractmethod
    def summary(self, document: AnnotationDocument) -> str:
        """What came of it, in a sentence or two."""

    def tables(
        self, document: AnnotationDocument, arrivals: Sequence[Arrival]
    ) -> tuple[ClassTable, ClassTable] | None:
        """The classes before and after it, where it brings new ones; asked until it has a step."""
        return None


class Runs:
    """``session.runs``: one run at a time, over the loop that is shown or over another.

    ``changed`` says that a run has begun, or ended.

    Args:
        document: whose images they are.
        loops: the loop that is shown.

    Attributes:
        run: that goes on; None where none does.
    """

    changed = Signal()

    def __init__(self, document: AnnotationDocument, loops: Loops) -> None:
        self._document, self._loops = document, loops
        self.run: Run | None = None
        document.opened.connect(self._on_opened)

    @property
    def is_running(self) -> bool:
        """True while a run is prepared or goes on."""
        return self.run is not None or self._document.jobs.awaits(RUN)

    def can_begin(self) -> bool:
        """Whether a run over the loop that is shown can begin now; where not, it is said why."""
        document = self._document
        document.flush()
        if not self._loops.frames or document.store is None or document.record is None:
            document.say("This image is not a frame of a loop.")
        elif reason := document.read_only or document.unsaved:
            document.say(f"Nothing was changed: {reason}.", "warning")
        elif self.is_running:
            document.say("Another run over a loop goes on: stop it, or wait until it has ended.")
        elif document.is_waiting:
            document.say("Wait for the answer to the last prompt, then try again.")
        else:
            return True
        return False

    def prepare(self, look: Callable[..., Any], *args: Any, then: Callable[[Any], None]) -> None:
        """Look at the frames before a run begins."""
        self._document.ask(
            look,
            *args,
            lane=Lane.FILES,
            key=RUN,
            scope=Scope.FOLDER,
            text="Looking at the frames...",
            done=then,
        )

    def begin(self, run: Run, work: Callable[..., Any], *args: Any) -> None:
        """Have the work of a run done in the background; it tells of frame by frame."""
        document, self.run = self._document, run
        job = document.ask(
            work,
            *args,
            lane=Lane.LOOPS,
            key=RUN,
            scope=Scope.FOLDER,
            text=f"{run.doing}...",
            aside=True,
            told=lambda word: self._take(run, word),
            done=lambda broken: self._end(run, broken),
            failed=lambda error: self._fail(run, error),
        )
        if self.run is run and job.is_awaited:
            self.changed.emit()

    def stop(self) -> None:
        """End the run that goes on, if one does; what it has proposed stays."""
        run, self.run = self.run, None
        self._document.jobs.cancel(RUN, ARRIVING)
        if run is not None:
            self._document.say(f"Stopped: {in_frames(len(run.done))} of {len(run.wanted)}.")
            self._loops.compare()
            self.changed.emit()

    def _take(self, run: Run, word: Any) -> None:
        if run is self.run:
            run.waiting.append(word)
            self._write(run)

    def _end(self, run: Run, broken: dict[int, str]) -> None:
        if run is self.run:
            run.has_ended, run.broken = True, len(broken)
            self._write(run)

    def _fail(self, run: Run, error: str) -> None:
        if run is self.run:
            self.run = None
            self._document.jobs.cancel(RUN, ARRIVING)
            self._document.fail(error, RUN)
            self.changed.emit()

    def _write(self, run: Run) -> None:
        """Put what was found on its frames, once it is known how they stand now."""
        document = self._document
        # One look at the frames at a time; what is told meanwhile waits and goes together in the
        # next.
        if run.writes:
            return
        if not run.waiting:
            if run.has_ended:
                self._finish(run)
            return
        some, run.waiting, run.writes = run.waiting, [], True
        by_number = {record.frame or 0: n for n, record in enumerate(run.frames)}
        document.ask(
            arrive,
            document.store,
            run.frames,
            tuple((by_number[run.frame_in(word)], word) for word in some),
            lane=Lane.FILES,
            key=ARRIVING,
            scope=Scope.FOLDER,
            done=lambda arrivals: self._put(run, arrivals),
            failed=lambda error: self._fail(run, error),
        )

    def _put(self, run: Run, arrivals: list[Arrival]) -> None:
        """Propose what was found on frames in which nobody has had a part meanwhile."""
        document, parts = self._document, []
        if run is not self.run:
            return
        # What cannot be saved must not pile up in memory, frame after frame.
        if document.unsaved:
            self._fail(run, document.unsaved)
            return
        unsaved = set() if document.store is None else document.outbox.changed(document.store)
        tables = run.tables(document, arrivals) if run.step is None else None
        if tables is not None:
            run.step = document.begin(run.name, tables)
        for arrival in arrivals:
            standing, before = arrival.standing, arrival.before
            record = run.frames[arrival.frame]
            run.done.append(arrival.frame)
            if record is document.record and document.labels is not None:
                before = document.proposal
            made = run.proposed(document, Arrival(arrival.frame, arrival.word, standing, before))
            if made is None or standing.is_fixed or not standing.is_open or before.pending:
                continue
            if record.image_id in unsaved:  # done since the file thread has looked
                continue
            after, body = made
            objects = enumerate(after.objects)
            gone = [n for n, item in objects if document.table.get(item.class_id) is None]
            after = after.without(*gone)  # of a class that was deleted meanwhile
            parts.append((Edit(run.name, record.image_id, proposal=(before, after)), body))
        if parts:
            run.step = document.begin(run.name) if run.step is None else run.step
            for part, body in parts:
                self._loops.note_score(part.image_id or "", body)
            document.add_parts(run.step, parts)
        run.writes = False
        text = f"{run.doing}: {len(run.done)} of {in_frames(len(run.wanted))}..."
        document.jobs.retell(RUN, text)
        document.tell()
        self._write(run)

    def _on_opened(self) -> None:
        """Another folder: what goes on in the one before is dropped."""
        self.run = None
        self.changed.emit()

    def _finish(self, run: Run) -> None:
        """Say what came of a run."""
        document, self.run = self._document, None
        said = run.summary(document)
        if run.broken:
            said += f" {in_frames(run.broken)} cannot be read."
        document.say(said)
        self._loops.compare()
        self.changed.emit()


def standing_of(store: LabelStore, record: ImageRecord) -> Standing:
    """How a frame stands, by the event log."""
    row, made = store.log.image(record.image_id), store.log.made(record.image_id)
    unasked = store.log.unasked(record.image_id)
    accepted = row.state is ImageState.ACCEPTED
    came_from = None
    if unasked is not None and "from" in unasked:
        came_from = {int(key): content for key, content in unasked["from"].items()}
    is_open = row.state not in propagate.LEFT_ALONE
    has_part = accepted or not row.blank or (row.proposed and unasked is None)
    was = frozenset(body["content"] for _, body in made if "content" in body)
    return Standing(is_open and has_part, is_open, came_from, was)


def arrive(
    store: LabelStore, frames: Sequence[ImageRecord], words: Sequence[tuple[int, Any]]
) -> list[Arrival]:
    """Bring what was found on some frames of a loop together with what is on them.

    Args:
        store: of the loop.
        frames: of it.
        words: what was told, each with its frame's index in the loop.
    """
    return [
        Arrival(
            frame,
            word,
            standing_of(store, frames[frame]),
            store.read_proposal(frames[frame].image_id),
        )
        for frame, word in words
    ]


def in_frames(count: int) -> str:
    """A number of frames in words: "1 frame"."""
    return "1 frame" if count == 1 else f"{count} frames"


def spans(frames: Sequence[int]) -> str:
    """Ascending frames in words, counted from 1: "frames 3 to 9, 12"."""
    found: list[list[int]] = []
    for frame in frames:
        if found and found[-1][1] == frame:
            found[-1][1] = frame + 1
        else:
            found.append([frame + 1, frame + 1])
    words = [f"{low} to {high}" if high > low else str(low) for low, high in found]
    return f"frame{'' if len(frames) == 1 else 's'} {', '.join(words)}"
