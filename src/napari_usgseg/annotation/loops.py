"""Loops: the frames of one file, what is on each, a look at them as they go by, and propagation.

A loop is images that share a path. Each frame stays an image with labels, proposals and a state of
its own; a keyframe is one that a person accepted, drew on, or has something proposed on that is not
just as a model left it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from psygnal import Signal

from ..core.errors import FileError
from ..core.types import ImageRecord
from ..io.atomic import write_new
from ..io.labels import Labelling, LabelMap, class_of
from ..jobs import Lane, Scope, files, inference
from ..jobs.files import Loaded
from ..jobs.inference import Propagated
from ..project.project import LabelStore
from ..project.records import PROPAGATE, Edit, ImageProposal, ImageState
from ..segmentation.propagation.areas import Area, area_table, areas_on
from .commands import propagate
from .commands.accept import merged
from .commands.propagate import Plan, Standing
from .document import AnnotationDocument
from .navigation import Navigation
from .overview import Overview
from .prefetch import warn_of
from .state import Refused

RATE = 20.0
"""Frames per second of a loop whose file does not say it."""
MEASURED_AT_ONCE = 16
"""Frames in one job, so that saving and opening wait a moment at most."""
SURE = 0.8
"""A proposal with this score, or a greater one, is no frame to look at first."""


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


class Loops:
    """``session.loops``: the loop that the current image is a frame of, if it is of one.

    ``changed`` says that its frames, or what is on them, are others now; ``peeked_at`` that another
    frame is looked at in passing, or none any more; ``measured`` carries the areas that were asked
    for.

    Args:
        document: whose images they are.
        navigation: opens frames.
        overview: accepts many.

    Attributes:
        frames: of the loop, in order; () where there is none.
        run: the propagation that goes on, of this loop or of another; None where none does.
        peeked: the frame that is looked at in passing; nothing is done to it, and it is opened
            before anything is done at all. None where the current image is shown.
    """

    changed = Signal()
    peeked_at = Signal()
    measured = Signal(list)

    def __init__(
        self, document: AnnotationDocument, navigation: Navigation, overview: Overview
    ) -> None:
        self._document, self._navigation, self._overview = document, navigation, overview
        self.frames: tuple[ImageRecord, ...] = ()
        self.run: Run | None = None
        self.peeked: Loaded | None = None
        self._wanted: int | None = None
        self._scores: dict[str, float] = {}  # of what stands as a model made it
        self._is_unread = False
        self._queue = document.image_queue
        document.opened.connect(self._on_opened)
        document.image_changed.connect(self._on_image)
        document.image_loaded.connect(self._on_loaded)
        document.proposal_changed.connect(self._on_proposal)
        document.images_changed.connect(self._on_images)
        document.flushing.connect(self.land)

    # -- where we are --------------------------------------------------------------------------

    @property
    def here(self) -> int | None:
        """Index in the loop of the frame that is shown, in passing or for good."""
        record = self._document.record if self.peeked is None else self.peeked.record
        return self.frames.index(record) if record in self.frames else None

    @property
    def rate(self) -> float:
        """Frames per second, as the file says it."""
        loaded = self._document.loaded
        about = None if loaded is None else loaded.about
        return (about.rate if about is not None else None) or RATE

    def state_of(self, frame: int) -> ImageState:
        """The state of a frame of the loop."""
        return self._queue.state_of(self.frames[frame].image_id)

    def is_keyframe(self, frame: int) -> bool:
        """True where what is on a frame is a person's."""
        state = self.state_of(frame)
        if state is ImageState.PROPOSED:
            return self.frames[frame].image_id not in self._scores
        return state in (ImageState.ACCEPTED, ImageState.EMPTY)

    def count(self, state: ImageState, frames: range) -> int:
        """How many of some frames are in a state."""
        first = self._queue.index_of(self.frames[0].image_id) if self.frames else 0
        return self._queue.count(state, range(first + frames.start, first + frames.stop))

    def score(self, frame: int) -> float | None:
        """How far a model trusts what it proposes on a frame, 0 to 1; None where it did not."""
        is_proposed = self.state_of(frame) is ImageState.PROPOSED
        return self._scores.get(self.frames[frame].image_id) if is_proposed else None

    @property
    def least_sure(self) -> int | None:
        """The frame whose proposal a model trusts least, below ``SURE``: the next to look at."""
        scores = {n: self.score(n) for n in range(len(self.frames))}
        known = {n: score for n, score in scores.items() if score is not None and score < SURE}
        return min(known, key=lambda n: known[n], default=None)

    # -- from frame to frame -------------------------------------------------------------------

    def go(self, frame: int) -> None:
        """Open a frame of the loop."""
        self._navigation.open_image(self.frames[frame].image_id)
        self._end_peek()

    def go_to_least_sure(self) -> bool:
        """Open the frame whose proposal is least sure; False where there is no unsure one."""
        self._document.flush()
        frame = self.least_sure
        if frame is None:
            self._document.say("No frame of this loop has an unsure proposal.")
            return False
        self.go(frame)
        return True

    def step_keyframe(self, by: int) -> bool:
        """Open the next (1) or previous (-1) keyframe; False where there is none."""
        self._document.flush()
        here = self.here
        if here is None:
            self._document.say("This image is not a frame of a loop.")
            return False
        way = range(here + 1, len(self.frames)) if by > 0 else range(here - 1, -1, -1)
        found = next((frame for frame in way if self.is_keyframe(frame)), None)
        if found is None:
            where = "after" if by > 0 else "before"
            self._document.say(f"There is no keyframe {where} this frame.")
            return False
        self.go(found)
        return True

    # -- in passing ----------------------------------------------------------------------------

    def peek(self, frame: int) -> None:
        """Look at a frame in passing; of those that are wanted meanwhile only the last is read."""
        document = self._document
        if document.store is None or document.labels is None or not self.frames:
            return
        if not self.peeks:
            document.flush()
        reads, self._wanted = self.peeks and document.jobs.awaits("peek"), frame
        if not reads:
            self._read()

    @property
    def peeks(self) -> bool:
        """True while frames are looked at in passing."""
        return self._wanted is not None

    def land(self) -> None:
        """Open the frame that is looked at in passing, if there is one."""
        if self.peeks:
            here = self.here
            self._wanted = None
            if here is not None:
                self.go(here)

    def _read(self) -> None:
        wanted = self._wanted
        assert wanted is not None
        assert self._document.store is not None

        def take(loaded: Loaded) -> None:
            warn_of(self._document, loaded)
            self.peeked = loaded
            self.peeked_at.emit()
            if self._wanted not in (None, wanted):
                self._read()

        self._document.ask(
            files.load_image,
            self._document.store,
            self.frames[wanted],
            lane=Lane.FILES,
            key="peek",
            scope=Scope.IMAGE,
            done=take,
            failed=lambda _: None,  # said where the frame is opened
            late=lambda loaded: warn_of(self._document, loaded),
        )

    def _end_peek(self) -> None:
        self._wanted = None
        self._document.jobs.cancel("peek")
        if self.peeked is not None:
            self.peeked = None
            self.peeked_at.emit()

    # -- propagation ---------------------------------------------------------------------------

    def propagate(self, within: range | None = None) -> None:
        """Carry what is on the keyframes to the frames around them, in the background.

        What a person accepted, drew or has a part in stays. Undo takes a whole run back.

        Args:
            within: the frames to go to; None is all.
        """
        document = self._document
        document.flush()
        if not self.frames or document.store is None or document.record is None:
            document.say("This image is not a frame of a loop.")
        elif reason := document.read_only or document.unsaved:
            document.say(f"Nothing was changed: {reason}.", "warning")
        elif self.is_running:
            document.say("A propagation goes on already.")
        elif document.is_waiting:
            document.say("Wait for the answer to the last prompt, then propagate.")
        else:
            frames, settings = self.frames, document.settings
            document.ask(
                plan_of,
                document.store,
                frames,
                frames.index(document.record),
                settings.labelling,
                settings.overwrite,
                within or range(len(frames)),
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
            self._document.say(f"Stopped: {_frames(len(run.done))} of {len(run.plan.wanted)}.")
            self.changed.emit()

    def accept(self, frames: range) -> None:
        """Accept what is proposed or drawn on some frames and not accepted yet, as one step."""
        waiting = [n for n in frames if self.state_of(n) is ImageState.PROPOSED]
        self._overview.accept([self.frames[n].image_id for n in waiting])

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
                self._scores[part.image_id or ""] = least_score(body)
            document.add_parts(run.step, parts)
        run.writes = False
        text = f"Propagating: {len(run.done)} of {_frames(len(run.plan.wanted))}..."
        document.jobs.retell(PROPAGATE, text)
        document.tell()
        self._write(run)

    def _finish(self, run: Run) -> None:
        """Say what came of a run, and where objects were lost sight of."""
        document, self.run = self._document, None
        said = f"Propagated to {_frames(len(run.done))} from {_frames(len(run.plan.keyframes))}."
        for number in sorted({n for masks in run.plan.keyframes.values() for n in masks}):
            lost = sorted(set(run.done) - run.seen[number])
            if lost:
                item = document.table.get(class_of(number, document.settings.labelling))
                name = str(number) if item is None else item.name
                said += f" '{name}' is not seen on {_spans(lost)}."
        if run.broken:
            said += f" {_frames(run.broken)} cannot be read."
        document.say(said)
        self.changed.emit()

    # -- areas over time -----------------------------------------------------------------------

    def measure(self) -> None:
        """Measure what is on each frame, accepted or proposed; ``measured`` tells."""
        self._document.flush()
        self._measure_on([], 0)

    def save_areas(self, path: Path, areas: Sequence[Area]) -> None:
        """Write areas as a table into a new file."""
        document = self._document
        about = None if document.loaded is None else document.loaded.about
        rate, spacing = (None, None) if about is None else (about.rate, about.spacing_mm)
        document.ask(
            write_new,
            path,
            area_table(areas, rate, spacing),
            lane=Lane.FILES,
            key="save areas",
            text=f"Writing {path.name}...",
            done=lambda _: document.say(f"The areas are in {path}"),
        )

    def _measure_on(self, areas: list[Area], frame: int) -> None:
        """Measure some frames from one on, and come back for the next."""
        document, frames = self._document, self.frames
        if frame >= len(frames) or document.store is None:
            self.measured.emit(areas)
            return

        def take(found: list[Area]) -> None:
            if frames is self.frames:
                self._measure_on([*areas, *found], frame + MEASURED_AT_ONCE)

        document.ask(
            areas_of,
            document.store,
            tuple(enumerate(frames))[frame : frame + MEASURED_AT_ONCE],
            document.settings.labelling,
            document.settings.overwrite,
            lane=Lane.FILES,
            key="areas",
            scope=Scope.FOLDER,
            text=f"Measuring {_frames(len(frames))}...",
            aside=True,
            done=take,
        )

    # -- what is on the frames -----------------------------------------------------------------

    def _on_opened(self) -> None:
        """Another folder: what goes on in the one before is dropped."""
        self.run = None
        self._on_image()

    def _on_image(self) -> None:
        """Another image is shown, perhaps of another loop."""
        self._end_peek()
        queue, frames = self._document.image_queue, self._document.image_queue.loop
        if queue is not self._queue:
            self._queue.state_changed.disconnect(self._on_state, missing_ok=True)
            self._queue = queue
            queue.state_changed.connect(self._on_state)
        if frames != self.frames:
            self.frames = frames
            self._scores.clear()
            self._is_unread = True
        self.changed.emit()

    def _on_loaded(self) -> None:
        """The frame is shown: now there is time for the others."""
        if self._is_unread:
            self._is_unread = False
            self._look(self.frames)

    def _on_state(self, image_id: str) -> None:
        if self.frames and self._queue.get(image_id).path == self.frames[0].path:
            self.changed.emit()

    def _on_proposal(self) -> None:
        record = self._document.record
        if record in self.frames and self._document.labels is not None and not self._is_unread:
            assert record is not None
            self._look((record,))

    def _on_images(self, images: Sequence[str]) -> None:
        if self.frames:
            changed = set(images)
            self._look(tuple(r for r in self.frames if r.image_id in changed))

    def _look(self, frames: Sequence[ImageRecord]) -> None:
        """See on which frames that which is proposed stands as a model made it."""
        document = self._document
        if not frames or document.store is None:
            return

        def take(scores: dict[str, float]) -> None:
            for record in frames:
                self._scores.pop(record.image_id, None)
            self._scores.update(scores)
            self.changed.emit()

        images = tuple(record.image_id for record in frames)
        document.ask(
            scores_of, document.store, images, lane=Lane.FILES, scope=Scope.FOLDER, done=take
        )


def scores_of(store: LabelStore, images: Sequence[str]) -> dict[str, float]:
    """The least score on each of some images where what is proposed stands as a model made it."""
    found = ((image_id, store.log.unasked(image_id)) for image_id in images)
    return {image_id: least_score(body) for image_id, body in found if body is not None}


def least_score(body: dict[str, Any]) -> float:
    """Of the objects that an event brought; 1 where it does not say how sure they are."""
    return min(body.get("scores", {}).values(), default=1.0)


WRITING = "propagated frames"
"""Key of the jobs that look how frames stand, before something is proposed on them."""


def plan_of(
    store: LabelStore,
    frames: Sequence[ImageRecord],
    here: int,
    labelling: Labelling,
    overwrite: bool,
    within: range,
) -> Plan | str:
    """The run that is due in a loop, or a sentence that says why there is none."""
    if len({record.size_hw for record in frames}) > 1:
        return propagate.SIZES_DIFFER

    def labels_of(frame: int) -> LabelMap:
        return as_accepted(store, frames[frame], labelling, overwrite)

    standings = [standing_of(store, record) for record in frames]
    try:
        return propagate.plan(standings, here, labels_of, within)
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


def areas_of(
    store: LabelStore,
    frames: Sequence[tuple[int, ImageRecord]],
    labelling: Labelling,
    overwrite: bool,
) -> list[Area]:
    """The areas of what is on some frames, each with its index; those that cannot be read lack."""
    found: list[Area] = []
    for frame, record in frames:
        with suppress(FileError):  # said when the frame is opened
            labels = as_accepted(store, record, labelling, overwrite)
            body = store.log.unasked(record.image_id) or {}
            scores = {int(value): score for value, score in body.get("scores", {}).items()}
            found += areas_on(frame, labels, scores)
    return found


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
        body = propagate.note(word.found, word.model_id)
        found.append(Arrival(frame, word, standing, before, after, body))
    return found


def _frames(count: int) -> str:
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
