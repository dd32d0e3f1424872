"""Training trigger: when a training of a prompt predictor is offered, or begins by itself."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

from ...io.labels import semantic, values_in
from ...jobs import Lane, Scope, files
from ...project.records import ImageState
from ...project.versions import ModelVersion
from ..document import AnnotationDocument

READ_AT_ONCE = 16
"""Label maps in one job, so that saving and opening wait a moment at most."""


class ClassCounts:
    """In how many accepted images each class is.

    What was accepted before the folder was opened is read a few label maps at a time; what is
    accepted since then is seen as it happens.

    Args:
        document: whose images are counted.
        counted: called when more is known.
    """

    def __init__(self, document: AnnotationDocument, counted: Callable[[], None]) -> None:
        self._document, self._counted = document, counted
        self.begin(())

    def begin(self, accepted: tuple[str, ...]) -> None:
        """Count anew: begin to read the label maps of the accepted images of another folder."""
        self._present: dict[str, tuple[int, ...]] = {}
        self._counts: Counter[int] = Counter()
        self._seen: tuple[str, ImageState, int] | None = None
        self._unread = list(accepted)
        self._read_on()

    @property
    def by_class(self) -> dict[int, int]:
        """Class id -> number of accepted images; classes that are in none have 0."""
        return {item.class_id: self._counts[item.class_id] for item in self._document.table.classes}

    @property
    def is_complete(self) -> bool:
        """True once all images were counted that were accepted when the folder was opened."""
        return not self._unread

    def look(self) -> None:
        """Look at the shown image, after anything happened."""
        document = self._document
        if document.record is None or document.labels is None:
            return
        image_id = document.record.image_id
        state = document.image_queue.decided(image_id)
        seen = image_id, state, id(document.labels)
        if seen == self._seen:
            return
        self._seen = seen
        found: tuple[int, ...] = ()
        if state is ImageState.ACCEPTED:
            found = tuple(values_in(semantic(document.labels, document.settings.labelling)))
        if self._set(image_id, found):
            self._counted()

    def _read_on(self) -> None:
        document, some = self._document, tuple(self._unread[:READ_AT_ONCE])
        if document.store is not None and some:
            document.ask(
                files.classes_present,
                document.store,
                some,
                lane=Lane.FILES,
                key="present",
                scope=Scope.FOLDER,
                done=lambda found: self._take(some, found),
                failed=lambda _: self._take(some, {}),
            )

    def _take(self, images: tuple[str, ...], present: dict[str, tuple[int, ...]]) -> None:
        """Count a few images that were accepted before, and read on."""
        document = self._document
        del self._unread[: len(images)]
        here = None if document.record is None else document.record.image_id
        for image_id, found in present.items():
            if document.image_queue.decided(image_id) is ImageState.ACCEPTED and image_id != here:
                self._set(image_id, found)
        self._read_on()
        self._counted()

    def _set(self, image_id: str, found: tuple[int, ...]) -> bool:
        before = self._present.pop(image_id, ())
        if found:
            self._present[image_id] = found
        self._counts.subtract(before)
        self._counts.update(found)
        return before != found


class TrainingTrigger:
    """Offers a training at ``train_after`` images of a class, and again after as many new ones.

    A dismissed offer comes again after half as many.

    Args:
        document: whose settings say how many.
        counts: of the accepted images.
        last: gives the newest version.
    """

    def __init__(
        self,
        document: AnnotationDocument,
        counts: ClassCounts,
        last: Callable[[], ModelVersion | None],
    ) -> None:
        self._document, self._counts, self._last = document, counts, last
        self._dismissed: dict[int, int] = {}

    def forget(self) -> None:
        """Another folder is shown."""
        self._dismissed.clear()

    @property
    def left(self) -> int:
        """How many more images of one class have to be accepted until a training is offered."""
        return min((self._left(value) for value in self._counts.by_class), default=0)

    @property
    def offer(self) -> str:
        """The sentence that offers a training, or ""."""
        counts = self._counts.by_class
        due = [value for value in counts if not self._left(value)]
        if not due:
            return ""
        most = max(due, key=lambda value: counts[value])
        item = self._document.table.get(most)
        images = "1 image" if counts[most] == 1 else f"{counts[most]} images"
        name = f" with '{item.name}'" if item is not None else ""
        return f"{images}{name} {'is' if counts[most] == 1 else 'are'} accepted: train?"

    def _left(self, value: int) -> int:
        after, last = self._document.settings.train_after, self._last()
        before = 0 if last is None else last.per_class.get(value, 0)
        if last is not None and value not in last.classes and before < after:
            before = 0  # too few to be learnt then
        target = after + before
        if value in self._dismissed:
            target = max(target, self._dismissed[value] + math.ceil(after / 2))
        return max(0, target - self._counts.by_class[value])

    def dismiss(self) -> None:
        """No training now."""
        counts = self._counts.by_class
        self._dismissed = {value: n for value, n in counts.items() if not self._left(value)}
