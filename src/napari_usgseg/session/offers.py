"""When a training of a prompt predictor is offered, or begins by itself."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .counting import Counting

if TYPE_CHECKING:
    from .annotator import AnnotationSession


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
