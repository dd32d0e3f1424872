"""Frames of the loop that is shown: what is on each, the way about, and a look as they go by.

A keyframe is a frame that a person accepted, drew on, or has something proposed on that is not just
as a model left it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psygnal import Signal

from ...core.types import ImageRecord
from ...jobs import Lane, Scope, files, inference
from ...jobs.files import Loaded
from ...project.project import LabelStore
from ...project.records import ImageState
from ...segmentation.propagation.suggest import Looks, suggested
from ..document import AnnotationDocument
from ..navigation import Navigation
from ..overview import Overview
from ..prefetch import warn_of

RUN = "run"
"""Key of the job of a run over a loop, and of the one that prepares it."""
COMPARING = "compare frames"
"""Key of the job that compares the frames of a loop."""
RATE = 20.0
"""Frames per second of a loop whose file does not say it."""


class Loops:
    """``session.loops``: the loop that the current image is a frame of, if it is of one.

    ``changed`` says that its frames, or what is on them, are others now; ``peeked_at`` that another
    frame is looked at in passing, or none any more.

    Args:
        document: whose images they are.
        navigation: opens frames.
        overview: accepts many.

    Attributes:
        frames: of the loop, in order; () where there is none.
        peeked: the frame that is looked at in passing; nothing is done to it, and it is opened
            before anything is done at all. None where the current image is shown.
    """

    changed = Signal()
    peeked_at = Signal()

    def __init__(
        self, document: AnnotationDocument, navigation: Navigation, overview: Overview
    ) -> None:
        self._document, self._navigation, self._overview = document, navigation, overview
        self.frames: tuple[ImageRecord, ...] = ()
        self.peeked: Loaded | None = None
        self._wanted: int | None = None
        self._scores: dict[str, float] = {}  # of what stands as a model made it
        self._looks: Looks | None = None
        self._suggested: tuple[tuple[int, ...], ...] = ((), (), ())
        self._is_unread = False
        self._queue = document.image_queue
        document.opened.connect(self._on_image)
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
    def before(self) -> Loaded | None:
        """The frame before the current one, where it is kept; None where one is seen in passing."""
        here = self.here
        if not here or self.peeks:
            return None
        return self._queue.take_loaded(self.frames[here - 1].image_id)

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
    def suggested(self) -> tuple[int, ...]:
        """The frames whose label would help most, the one that would help most first.

        Of those on which a model proposes something; () until they were compared.
        """
        if self._looks is None:
            return ()
        frames = range(len(self.frames))
        keys = tuple(n for n in frames if self.is_keyframe(n))
        free = tuple(n for n in frames if self.score(n) is not None)
        if (keys, free) != self._suggested[:2]:
            self._suggested = keys, free, suggested(self._looks, keys, free)
        return self._suggested[2]

    # -- from frame to frame -------------------------------------------------------------------

    def go(self, frame: int) -> None:
        """Open a frame of the loop."""
        self._navigation.open_image(self.frames[frame].image_id)
        self._end_peek()

    def go_to_suggested(self) -> bool:
        """Open the frame whose label would help most, or the next such; False: there is none."""
        self._document.flush()
        frames, here = self.suggested, self.here
        if not frames:
            self._document.say("No frame of this loop has an unsure proposal.")
            return False
        at = frames.index(here) + 1 if here in frames else 0
        self.go(frames[at % len(frames)])
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

    def accept(self, frames: range) -> None:
        """Accept what is proposed or drawn on some frames and not accepted yet, as one step."""
        waiting = [n for n in frames if self.state_of(n) is ImageState.PROPOSED]
        self._overview.accept([self.frames[n].image_id for n in waiting])

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
            go_on()

        def go_on(_: str = "") -> None:
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
            failed=go_on,  # said where the frame is opened
            late=lambda loaded: warn_of(self._document, loaded),
        )

    def _end_peek(self) -> None:
        self._wanted = None
        self._document.jobs.cancel("peek")
        if self.peeked is not None:
            self.peeked = None
            self.peeked_at.emit()

    # -- what is on the frames -----------------------------------------------------------------

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
            self._looks, self._suggested = None, ((), (), ())
            self._document.jobs.cancel(COMPARING)
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

    def note_score(self, image_id: str, body: dict[str, Any]) -> None:
        """A model has proposed on a frame: the body of the event says how sure it is."""
        self._scores[image_id] = least_score(body)

    def compare(self) -> None:
        """Have the frames compared, where a model has proposed something and no run goes on."""
        document, frames = self._document, self.frames
        if self._looks is not None or not self._scores or document.jobs.awaits(COMPARING, RUN):
            return

        def take(looks: Looks) -> None:
            numbers = {record.frame or 0: n for n, record in enumerate(frames)}
            here = tuple(numbers.get(number, -1) for number in looks.frames)
            self._looks = Looks(here, looks.differences)
            self.changed.emit()

        document.ask(
            inference.compare_frames,
            frames[0].path,
            lane=Lane.LOOPS,
            key=COMPARING,
            scope=Scope.FOLDER,
            done=take,
        )

    def _look(self, frames: Sequence[ImageRecord]) -> None:
        """See on which frames that which is proposed stands as a model made it."""
        document = self._document
        if not frames or document.store is None:
            return

        def take(scores: dict[str, float]) -> None:
            for record in frames:
                self._scores.pop(record.image_id, None)
            self._scores.update(scores)
            self.compare()
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
