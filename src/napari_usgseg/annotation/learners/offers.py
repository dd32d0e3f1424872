"""When a training of a prompt predictor is offered, or begins by itself."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...io.labels import semantic, values_in
from ...jobs import Lane, Scope, files
from ...project.records import ImageState

if TYPE_CHECKING:
    from ..session import AnnotationSession


READ_AT_ONCE = 16
"""Label maps in one request, so that saving and opening wait a moment at most."""


class Counting:
    """``session.predictor.offers.counting``.

    What was committed before the folder was opened is read a few label maps at a time; what is
    committed since then is seen as it happens.
    """

    def __init__(self, session: AnnotationSession) -> None:
        self._session = session
        self.forget()

    def forget(self) -> None:
        """Nothing is known of the images."""
        self._present: dict[str, tuple[int, ...]] = {}
        self._counts: Counter[int] = Counter()
        self._unread: list[str] = []
        self._seen: tuple[str, ImageState, int] | None = None

    @property
    def counts(self) -> dict[int, int]:
        """Class id -> in how many committed images it is; classes that are in none have 0."""
        return {item.class_id: self._counts[item.class_id] for item in self._session.table.classes}

    @property
    def is_complete(self) -> bool:
        """True once all images were counted that were committed when the folder was opened."""
        return not self._unread

    def opened(self, committed: Sequence[str]) -> None:
        """Begin to read the label maps of the committed images."""
        self._unread = list(committed)
        self._read_on()

    def look(self) -> bool:
        """Look at the shown image, after anything happened; True where the counts changed."""
        session = self._session
        if session.record is None or session.labels is None:
            return False
        image_id = session.record.image_id
        state = session.browser.decided(image_id)
        seen = image_id, state, id(session.labels)
        if seen == self._seen:
            return False
        self._seen = seen
        found: tuple[int, ...] = ()
        if state is ImageState.ACCEPTED:
            found = tuple(values_in(semantic(session.labels, session.settings.labelling)))
        return self._set(image_id, found)

    def _read_on(self) -> None:
        session = self._session
        some = tuple(self._unread[:READ_AT_ONCE])
        if session.store is not None and some:
            session.ask(
                files.classes_present,
                session.store,
                some,
                lane=Lane.FILES,
                key="present",
                scope=Scope.FOLDER,
                done=lambda found: self._take(some, found),
                failed=lambda _: self._take(some, {}),
            )

    def _take(self, images: tuple[str, ...], present: dict[str, tuple[int, ...]]) -> None:
        """Count a few images that were accepted before, and read on."""
        session = self._session
        del self._unread[: len(images)]
        here = None if session.record is None else session.record.image_id
        for image_id, found in present.items():
            if session.browser.decided(image_id) is ImageState.ACCEPTED and image_id != here:
                self._set(image_id, found)
        self._read_on()
        session.predictor.counted()

    def _set(self, image_id: str, found: tuple[int, ...]) -> bool:
        before = self._present.pop(image_id, ())
        if found:
            self._present[image_id] = found
        self._counts.subtract(before)
        self._counts.update(found)
        return before != found


class Offers:
    """``session.predictor.offers``.

    A training is offered at ``train_after`` images of a class, and again after as many new ones; a
    dismissed offer comes again after half as many.

    Attributes:
        counting: in how many committed images each class is.
    """

    def __init__(self, session: AnnotationSession) -> None:
        self._session = session
        self.counting = Counting(session)
        self.forget()

    def forget(self) -> None:
        """Another folder is shown."""
        self.counting.forget()
        self._dismissed: dict[int, int] = {}

    @property
    def until_offer(self) -> int:
        """How many more images of one class have to be committed until a training is offered."""
        return min((self._left(value) for value in self.counting.counts), default=0)

    @property
    def offer(self) -> str:
        """The sentence that offers a training, or ""."""
        if self._session.predictor.cannot_train:
            return ""
        counts = self.counting.counts
        due = [value for value in counts if not self._left(value)]
        if not due:
            return ""
        most = max(due, key=lambda value: counts[value])
        item = self._session.table.get(most)
        images = "1 image" if counts[most] == 1 else f"{counts[most]} images"
        name = f" with '{item.name}'" if item is not None else ""
        return f"{images}{name} {'is' if counts[most] == 1 else 'are'} accepted: train?"

    def _left(self, value: int) -> int:
        after = self._session.settings.train_after
        last = self._session.predictor.last
        before = 0 if last is None else last.per_class.get(value, 0)
        if last is not None and value not in last.classes and before < after:
            before = 0  # too few to be learnt then
        target = after + before
        if value in self._dismissed:
            target = max(target, self._dismissed[value] + math.ceil(after / 2))
        return max(0, target - self.counting.counts[value])

    def dismiss(self) -> None:
        """No training now."""
        counts = self.counting.counts
        self._dismissed = {value: n for value, n in counts.items() if not self._left(value)}
        self._session.predictor.changed.emit()

    def begin_if_wanted(self) -> None:
        """Train, where the person chose that it begins by itself and it is time."""
        session = self._session
        wanted = session.settings.train_by_itself and not session.predictor.paused
        if wanted and self.counting.is_complete and self.offer:
            session.predictor.train()
