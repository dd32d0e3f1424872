"""Propagation over a loop, as a run that goes on beside the person's work.

Each frame is put where it belongs as soon as it is known, as a part of one edit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from psygnal import Signal

from ...core.errors import FileError
from ...core.types import ImageRecord
from ...io.labels import Labelling, LabelMap, class_of
from ...jobs import Lane, Scope, inference
from ...jobs.inference import Propagated
from ...project.project import LabelStore
from ...project.records import PROPAGATE, Edit, ImageProposal, ImageState
from ...segmentation.propagation.reach import EVERYWHERE, Reach
from ..commands import propagate
from ..commands.accept import merged
from ..commands.propagate import Plan, Standing
from ..document import AnnotationDocument
from ..state import Refused
from .frames import Loops

WRITING = "propagated frames"
"""Key of the jobs that look how frames stand, before something is proposed on them."""


@dataclass(eq=False, slots=True)
class Run:
    """A propagation that goes on.

    Attributes:
        frames: of the loop.
        plan: what it begins from and where it goes.
        step: the number of its edit, once there is something on a frame.
        done: frames that are propagated to.
        seen: on which frames each object was found, by its number.
        waiting: what was found and is not yet put on its frame.
        writes: a part of that is being put.
        has_ended: nothing more will be found.
        broken: how many frames could not be decoded.
    """

    frames: tuple[ImageRecord, ...]
    plan: Plan
    step: int | None = None
    done: list[int] = field(default_factory=list)
    seen: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    waiting: list[Propagated] = field(default_factory=list)
    writes: bool = False
    has_ended: bool = False
    broken: int = 0


class Propagation:
    """``session.propagation``: one run at a time, of the loop that is shown or of another.

    ``changed`` says that a run has begun, or ended.

    Args:
        document: whose images they are.
        loops: the loop that is shown.

    Attributes:
        run: the propagation that goes on; None where none does.
    """

    changed = Signal()

    def __init__(self, document: AnnotationDocument, loops: Loops) -> None:
        self._document, self._loops = document, loops
        self.run: Run | None = None
        document.opened.connect(self._on_opened)

    def propagate(
        self,
        within: range | None = None,
        reach: Reach = EVERYWHERE,
    ) -> None:
        """Carry what is on the keyframes to the frames around them, in the background.

        What a person accepted, drew or has a part in stays. Undo takes a whole run back.

        Args:
            within: the frames to go to; None is all.
            reach: how far from the keyframes, and which way.
        """
        document = self._document
        document.flush()
        if not self._loops.frames or document.store is None or document.record is None:
            document.say("This image is not a frame of a loop.")
        elif reason := document.read_only or document.unsaved:
            document.say(f"Nothing was changed: {reason}.", "warning")
        elif self.is_running:
            document.say("A propagation goes on already.")
        elif document.is_waiting:
            document.say("Wait for the answer to the last prompt, then propagate.")
        else:
            frames, settings = self._loops.frames, document.settings
            document.ask(
                plan_of,
                document.store,
                frames,
                frames.index(document.record),
                settings.labelling,
                settings.overwrite,
                within or range(len(frames)),
                reach,
                lane=Lane.FILES,
                key=PROPAGATE,
                scope=Scope.FOLDER,
                text="Looking at the keyframes...",
                done=lambda plan: self._begin(frames, plan),
            )

    @property
    def is_running(self) -> bool:
        """True while a propagation is prepared or goes on."""
        return self.run is not None or self._document.jobs.awaits(PROPAGATE)

    def stop(self) -> None:
        """End the propagation that goes on, if one does; what it has proposed stays."""
        run, self.run = self.run, None
        self._document.jobs.cancel(PROPAGATE, WRITING)
        if run is not None:
            self._document.say(f"Stopped: {in_frames(len(run.done))} of {len(run.plan.wanted)}.")
            self.changed.emit()

    def _begin(self, frames: tuple[ImageRecord, ...], plan: Plan | str) -> None:
        document = self._document
        if isinstance(plan, str):
            document.say(plan, "warning")
            return
        run = self.run = Run(frames, plan)
        numbers = [0 if record.frame is None else record.frame for record in frames]
        job = document.ask(
            inference.propagate,
            frames[0].path,
            document.settings.segmenter,
            {numbers[key]: masks for key, masks in plan.keyframes.items()},
            tuple(numbers[frame] for frame in plan.wanted),
            lane=Lane.LOOPS,
            key=PROPAGATE,
            scope=Scope.FOLDER,
            text="Propagating...",
            aside=True,
            told=lambda word: self._take(run, word),
            done=lambda broken: self._end(run, broken),
            failed=lambda error: self._fail(run, error),
        )
        if self.run is run and job.is_awaited:
            self.changed.emit()

    def _take(self, run: Run, word: Propagated) -> None:
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
            self._document.jobs.cancel(PROPAGATE, WRITING)
            self._document.fail(error, PROPAGATE)
            self.changed.emit()

    def _write(self, run: Run) -> None:
        """Put what was found on its frames, once it is known how they stand now."""
        document = self._document
        if run.writes:
            return
        if not run.waiting:
            if run.has_ended:
                self._finish(run)
            return
        some, run.waiting, run.writes = run.waiting, [], True
        document.ask(
            arrive,
            document.store,
            run.frames,
            tuple(some),
            document.settings.labelling,
            lane=Lane.FILES,
            key=WRITING,
            scope=Scope.FOLDER,
            done=lambda arrivals: self._put(run, arrivals),
            failed=lambda error: self._fail(run, error),
        )

    def _put(self, run: Run, arrivals: list[Arrival]) -> None:
        """Propose what was found on frames in which nobody has had a part meanwhile."""
        document, parts = self._document, []
        if run is not self.run:
            return
        if document.unsaved:
            self._fail(run, document.unsaved)
            return
        unsaved = set() if document.store is None else document.outbox.changed(document.store)
        for arrival in arrivals:
            frame, standing, before = arrival.frame, arrival.standing, arrival.before
            record, came_from = run.frames[frame], run.plan.came_from[frame]
            run.done.append(frame)
            for number in arrival.word.found.masks:
                run.seen[number].add(frame)
            if record is document.record and document.labels is not None:
                before = document.proposal
            if standing.is_fixed or not standing.is_open or before.pending:
                continue
            if record.image_id in unsaved:  # done since the file thread has looked
                continue
            objects = enumerate(arrival.after.objects)
            gone = [n for n, item in objects if document.table.get(item.class_id) is None]
            after = arrival.after.without(*gone)  # of a class that was deleted meanwhile
            part = Edit(PROPAGATE, record.image_id, proposal=(before, after))
            parts.append((part, arrival.body | {"from": came_from}))
        if parts:
            run.step = document.begin(PROPAGATE) if run.step is None else run.step
            for part, body in parts:
                self._loops.note_score(part.image_id or "", body)
            document.add_parts(run.step, parts)
        run.writes = False
        text = f"Propagating: {len(run.done)} of {in_frames(len(run.plan.wanted))}..."
        document.jobs.retell(PROPAGATE, text)
        document.tell()
        self._write(run)

    def _on_opened(self) -> None:
        """Another folder: what goes on in the one before is dropped."""
        self.run = None
        self.changed.emit()

    def _finish(self, run: Run) -> None:
        """Say what came of a run, and where objects were lost sight of."""
        document, self.run = self._document, None
        known = in_frames(len(run.plan.keyframes))
        said = f"Propagated to {in_frames(len(run.done))} from {known}."
        for number in sorted({n for masks in run.plan.keyframes.values() for n in masks}):
            lost = sorted(set(run.done) - run.seen[number])
            if lost:
                item = document.table.get(class_of(number, document.settings.labelling))
                name = str(number) if item is None else item.name
                said += f" '{name}' is not seen on {_spans(lost)}."
        if run.broken:
            said += f" {in_frames(run.broken)} cannot be read."
        document.say(said)
        self.changed.emit()


def plan_of(
    store: LabelStore,
    frames: Sequence[ImageRecord],
    here: int,
    labelling: Labelling,
    overwrite: bool,
    within: range,
    reach: Reach,
) -> Plan | str:
    """The run that is due in a loop, or a sentence that says why there is none."""
    if len({record.size_hw for record in frames}) > 1:
        return propagate.SIZES_DIFFER

    def labels_of(frame: int) -> LabelMap:
        return as_accepted(store, frames[frame], labelling, overwrite)

    standings = [standing_of(store, record) for record in frames]
    try:
        return propagate.plan(standings, here, labels_of, within, reach)
    except (Refused, FileError) as error:
        return str(error)


def as_accepted(
    store: LabelStore, record: ImageRecord, labelling: Labelling, overwrite: bool
) -> LabelMap:
    """The label map (H, W) that a frame would have if what is proposed on it were accepted now."""
    labels = store.read_labels(record, take_in=False)
    if labels is None:
        labels = np.zeros(record.size_hw, np.uint8)
    objects = store.read_proposal(record.image_id).objects
    return merged(labels, objects, overwrite, labelling)[0]


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


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """What was found on a frame, beside what is on it.

    Attributes:
        frame: index in the loop.
        word: what was found.
        standing: how the frame stands.
        before: what is proposed on it.
        after: what is to be proposed on it.
        body: what is noted beside that.
    """

    frame: int
    word: Propagated
    standing: Standing
    before: ImageProposal
    after: ImageProposal
    body: dict[str, Any]


def arrive(
    store: LabelStore,
    frames: Sequence[ImageRecord],
    words: Sequence[Propagated],
    labelling: Labelling,
) -> list[Arrival]:
    """Bring what was found on some frames of a loop together with what is on them."""
    by_number = {record.frame or 0: n for n, record in enumerate(frames)}
    found = []
    for word in words:
        frame = by_number[word.found.frame]
        standing = standing_of(store, frames[frame])
        before = store.read_proposal(frames[frame].image_id)
        after = propagate.proposed(word.found, labelling, word.model_id)
        body = propagate.note(word.found, word.model_id, word.change)
        found.append(Arrival(frame, word, standing, before, after, body))
    return found


def in_frames(count: int) -> str:
    """A number of frames in words: "1 frame"."""
    return "1 frame" if count == 1 else f"{count} frames"


def _spans(frames: Sequence[int]) -> str:
    """Ascending frames in words, counted from 1: "frames 3 to 9, 12"."""
    spans: list[list[int]] = []
    for frame in frames:
        if spans and spans[-1][1] == frame:
            spans[-1][1] = frame + 1
        else:
            spans.append([frame + 1, frame + 1])
    words = [f"{low} to {high}" if high > low else str(low) for low, high in spans]
    return f"frame{'' if len(frames) == 1 else 's'} {', '.join(words)}"
