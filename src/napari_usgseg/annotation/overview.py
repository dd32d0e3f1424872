"""Overview of a folder: what is on each image in a few words, and accepting many at once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

from psygnal import Signal

from ..core.types import ImageRecord
from ..jobs import Lane, Scope, files
from ..jobs.files import Summary
from ..project.project import LabelStore
from ..project.records import Edit, ImageState
from .commands import accept
from .document import AnnotationDocument
from .state import AnnotationState


class Overview:
    """``session.overview``: summaries of the images, read a few at a time while they are looked at.

    ``changed`` carries the id of an image whose summary is another now.

    Args:
        document: whose images they are.
    """

    changed = Signal(str)

    def __init__(self, document: AnnotationDocument) -> None:
        self._document = document
        self._known: dict[str, Summary] = {}
        self._unread: OrderedDict[str, None] = OrderedDict()
        self._is_open = False
        self._queue = document.image_queue
        self._queue.state_changed.connect(self._on_state)
        document.opened.connect(self._on_opened)
        document.labels_changed.connect(self._on_image)
        document.proposal_changed.connect(self._on_image)
        document.images_changed.connect(self._on_images)

    def begin(self) -> None:
        """Read what is not known yet, in the order of the images, until ``end``."""
        self._is_open = True
        self._on_opened()

    def end(self) -> None:
        """Nobody looks any more: what changes from now on is read when somebody does again."""
        self._is_open = False
        self._unread.clear()
        self._document.jobs.cancel("overview")

    def get(self, image_id: str) -> Summary | None:
        """What is on an image; None as long as it is not read."""
        return self._known.get(image_id)

    @property
    def left(self) -> int:
        """How many images are not read yet."""
        return len(self._unread)

    def accept(self, images: Sequence[str]) -> None:
        """Accept what is proposed or drawn on some images, as one step.

        Those without anything stay as they are: that an image is empty is said one by one.
        """
        document = self._document
        document.flush()
        if document.store is None or not images:
            return
        if self._is_refused():
            return

        store, queue = document.store, document.image_queue
        marked = queue.records_of(images)

        def take(edits: dict[str, Edit | None]) -> None:
            changed = document.outbox.changed(store)  # since the file thread has looked
            document.flush()
            if self._is_refused():  # a save ahead of the reading may have failed
                return
            edits |= dict.fromkeys(changed & edits.keys())
            if document.record is not None and document.record.image_id in edits:
                edits[document.record.image_id] = accept.accept_among(document.state)
            document.do(accept.accept_all, list(edits.values()))

        document.ask(
            acceptances,
            store,
            document.state,
            [
                (each, queue.decided(each.image_id), queue.unflagged(each.image_id))
                for each in marked
            ],
            lane=Lane.FILES,
            key="accept marked",
            scope=Scope.FOLDER,
            text=f"Accepting {len(images)} images...",
            done=take,
        )

    def _is_refused(self) -> bool:
        """True where nothing can be saved, or the store lacks what was done; it is said why."""
        reason = self._document.read_only or self._document.unsaved
        if reason:
            self._document.say(f"Nothing was changed: {reason}.", "warning")
        return bool(reason)

    # -- reading -------------------------------------------------------------------------------

    def _on_opened(self) -> None:
        """Another folder is shown, or the overview is."""
        queue = self._document.image_queue
        if queue is not self._queue:
            self._queue.state_changed.disconnect(self._on_state, missing_ok=True)
            self._queue = queue
            queue.state_changed.connect(self._on_state)
            self._known.clear()
            self._unread.clear()
        if self._is_open:
            ids = (record.image_id for record in queue.records)
            self._unread = OrderedDict.fromkeys(one for one in ids if one not in self._known)
            self._read_on()

    def _on_state(self, image_id: str) -> None:
        """An image is decided about otherwise, or something else is proposed on it."""
        self._known.pop(image_id, None)
        if self._is_open:
            self._unread[image_id] = None
            self._unread.move_to_end(image_id, last=False)
            self._read_on()

    def _on_images(self, images: tuple[str, ...]) -> None:
        """One edit has changed several images."""
        for image_id in images:
            self._on_state(image_id)

    def _on_image(self) -> None:
        """Something is otherwise on the image that is shown."""
        if self._document.record is not None and self._document.labels is not None:
            self._on_state(self._document.record.image_id)

    def _read_on(self) -> None:
        document = self._document
        if document.store is None or document.jobs.awaits("overview"):
            return
        count = min(files.AT_ONCE, len(self._unread))
        some = [self._unread.popitem(last=False)[0] for _ in range(count)]
        if not some:
            return

        def take(found: dict[str, Summary]) -> None:
            self._known.update(found)
            for image_id in found:
                self.changed.emit(image_id)
            self._read_on()

        document.ask(
            files.summarise,
            document.store,
            document.image_queue.records_of(some),
            lane=Lane.FILES,
            key="overview",
            scope=Scope.FOLDER,
            done=take,
            failed=lambda _: self._read_on(),
        )


def acceptances(
    store: LabelStore,
    state: AnnotationState,
    images: Sequence[tuple[ImageRecord, ImageState, ImageState]],
) -> dict[str, Edit | None]:
    """The edits that accept some images, by image, each as it is in a store.

    Args:
        store: of the images; those whose labels cannot be read are left out.
        state: of the document, whose settings and classes are meant.
        images: each with what was decided about it, and what was before it was flagged.
    """
    edits: dict[str, Edit | None] = {}
    for record, decided, unflagged in images:
        for content in files.read_contents(store, (record,)).values():
            image = replace(
                state,
                record=record,
                labels=content.labels,
                proposal=content.proposal,
                decided=decided,
                unflagged=unflagged,
                awaits_proposal=False,
            )
            edits[record.image_id] = accept.accept_among(image)
    return edits


def passes(
    summary: Summary | None,
    state: ImageState,
    only: ImageState | None = None,
    class_id: int | None = None,
    is_empty: bool | None = None,
    below: float | None = None,
) -> bool:
    """Whether a filter lets an image through; what is not read yet passes where nothing is asked.

    Args:
        summary: of the image, or None.
        state: of the image.
        only: the state to be shown; None shows all.
        class_id: a class that must be on it.
        is_empty: whether it must have nothing on it, or something.
        below: its least sure proposal must have a lower score.
    """
    if only is not None and state is not only:
        return False
    if class_id is None and is_empty is None and below is None:
        return True
    if summary is None:
        return False
    return (
        (class_id is None or class_id in summary.classes)
        and (is_empty is None or is_empty is not bool(summary.classes))
        and (below is None or (summary.score is not None and summary.score < below))
    )
