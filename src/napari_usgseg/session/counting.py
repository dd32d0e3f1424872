"""In how many committed images each class is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..io.instances import semantic, values_in
from ..store.base import ImageState
from .requests import FileAnswer, PresentRequest

if TYPE_CHECKING:
    from .annotator import AnnotationSession

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
        if state is ImageState.COMMITTED:
            found = tuple(values_in(semantic(session.labels, session.settings.labelling)))
        return self._set(image_id, found)

    def take(self, answer: FileAnswer) -> None:
        """Count a few images that were committed before, and read on."""
        session = self._session
        assert isinstance(answer.request, PresentRequest)
        if answer.request.store is not session.store:
            return
        del self._unread[: len(answer.request.images)]
        here = None if session.record is None else session.record.image_id
        for image_id, found in (answer.present or {}).items():
            if session.browser.decided(image_id) is ImageState.COMMITTED and image_id != here:
                self._set(image_id, found)
        self._read_on()

    def _read_on(self) -> None:
        session = self._session
        if session.store is not None and self._unread:
            some = tuple(self._unread[:READ_AT_ONCE])
            generation = session.progress.begin("present")
            session.ask(PresentRequest(generation, session.store, some))

    def _set(self, image_id: str, found: tuple[int, ...]) -> bool:
        before = self._present.pop(image_id, ())
        if found:
            self._present[image_id] = found
        self._counts.subtract(before)
        self._counts.update(found)
        return before != found
