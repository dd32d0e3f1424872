"""Loops: the frames of one file, what is on each of them, and a look at them as they go by.

A loop is images that share a path. Each frame stays an image with labels, proposals and a state of
its own; a keyframe is one that a person accepted, drew on, or has something proposed on that is not
just as a model left it.
"""

from __future__ import annotations

from collections.abc import Sequence

from psygnal import Signal

from ..core.types import ImageRecord
from ..jobs import Lane, Scope, files
from ..jobs.files import Loaded
from ..project.project import LabelStore
from ..project.records import ImageState
from .document import AnnotationDocument
from .navigation import Navigation

RATE = 20.0
"""Frames per second of a loop whose file does not say it."""
LEFT_ALONE = (ImageState.SKIPPED, ImageState.FLAGGED)


class Loops:
    """``session.loops``: the loop that the current image is a frame of, if it is of one.

    ``changed`` says that its frames, or what is on them, are others now; ``peeked_at`` that another
    frame is looked at in passing, or none any more.

    Args:
        document: whose images they are.
        navigation: opens frames.

    Attributes:
        frames: of the loop, in order; () where there is none.
        peeked: the frame that is looked at in passing; nothing is done to it, and it is opened
            before anything is done at all. None where the current image is shown.
    """

    changed = Signal()
    peeked_at = Signal()

    def __init__(self, document: AnnotationDocument, navigation: Navigation) -> None:
        self._document, self._navigation = document, navigation
        self.frames: tuple[ImageRecord, ...] = ()
        self.peeked: Loaded | None = None
        self._wanted: int | None = None
        self._unasked: set[str] = set()
        self._queue = document.image_queue
        document.opened.connect(self._on_image)
        document.image_changed.connect(self._on_image)
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
        return self._document.state_of(self.frames[frame].image_id)

    def is_keyframe(self, frame: int) -> bool:
        """True where what is on a frame is a person's."""
        state = self.state_of(frame)
        if state is ImageState.PROPOSED:
            return self.frames[frame].image_id not in self._unasked
        return state in (ImageState.ACCEPTED, ImageState.EMPTY)

    # -- from frame to frame -------------------------------------------------------------------

    def go(self, frame: int) -> None:
        """Open a frame of the loop."""
        self._navigation.open_image(self.frames[frame].image_id)
        self._end_peek()

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
        )

    def _end_peek(self) -> None:
        self._wanted = None
        if self.peeked is not None:
            self._document.jobs.cancel("peek")
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
            self._unasked.clear()
            self._look(frames)
        self.changed.emit()

    def _on_state(self, image_id: str) -> None:
        if self.frames and self._queue.get(image_id).path == self.frames[0].path:
            self.changed.emit()

    def _on_proposal(self) -> None:
        record = self._document.record
        if record in self.frames and self._document.labels is not None:
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

        def take(unasked: frozenset[str]) -> None:
            self._unasked.difference_update(record.image_id for record in frames)
            self._unasked.update(unasked)
            self.changed.emit()

        images = tuple(record.image_id for record in frames)
        document.ask(
            unasked_on, document.store, images, lane=Lane.FILES, scope=Scope.FOLDER, done=take
        )


def unasked_on(store: LabelStore, images: Sequence[str]) -> frozenset[str]:
    """Those of some images on which what is proposed stands as a model made it, nobody asking."""
    return frozenset(image for image in images if store.log.unasked(image) is not None)
