"""Every edit has an inverse; the history is a list of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..store.base import ImageState, LabelMap
from ..types import LabelClass
from .draft import Draft

LIMIT = 500


@dataclass(frozen=True, slots=True, eq=False)
class LabelPatch:
    """The part of a label map that changed.

    ``before`` and ``after`` are of one shape; their first pixel is at (``row``, ``column``).
    """

    row: int
    column: int
    before: LabelMap
    after: LabelMap

    def inverse(self) -> LabelPatch:
        """The patch that takes this one back."""
        return LabelPatch(self.row, self.column, self.after, self.before)

    def applied(self, labels: LabelMap) -> LabelMap:
        """A label map (H, W) with the patch in it."""
        height, width = self.after.shape
        changed = labels.astype(np.promote_types(labels.dtype, self.after.dtype))
        changed[self.row : self.row + height, self.column : self.column + width] = self.after
        return changed

    def fits(self, labels: LabelMap) -> bool:
        """True where the map still holds what the patch expects to replace."""
        height, width = self.before.shape
        here = labels[self.row : self.row + height, self.column : self.column + width]
        return here.shape == self.before.shape and bool(np.array_equal(here, self.before))


def difference(before: LabelMap, after: LabelMap) -> LabelPatch | None:
    """The smallest patch from one label map to another of the same shape; None if equal."""
    changed = before != after
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    if len(rows) == 0:
        return None
    top, left = int(rows[0]), int(columns[0])
    part = (slice(top, int(rows[-1]) + 1), slice(left, int(columns[-1]) + 1))
    return LabelPatch(top, left, before[part].copy(), after[part].copy())


@dataclass(frozen=True, slots=True)
class ClassTable:
    """The classes and which one is picked."""

    classes: tuple[LabelClass, ...]
    active: int

    def get(self, class_id: int) -> LabelClass | None:
        """The class with an id, or None."""
        return next((item for item in self.classes if item.class_id == class_id), None)


@dataclass(frozen=True, slots=True, eq=False)
class Edit:
    """One thing that a person did; each part is (before, after), or None where not touched.

    ``image_id`` is the image on which it was done, or None for classes.
    """

    name: str
    image_id: str | None = None
    draft: tuple[Draft, Draft] | None = None
    patch: LabelPatch | None = None
    state: tuple[ImageState, ImageState] | None = None
    table: tuple[ClassTable, ClassTable] | None = None

    def inverse(self) -> Edit:
        """The edit that takes this one back."""
        return Edit(
            self.name,
            self.image_id,
            None if self.draft is None else self.draft[::-1],
            None if self.patch is None else self.patch.inverse(),
            None if self.state is None else self.state[::-1],
            None if self.table is None else self.table[::-1],
        )


class History:
    """Edits that were done and can be undone, and edits that were undone and can be redone."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._done: list[Edit] = []
        self._undone: list[Edit] = []
        self._limit = limit

    @property
    def next_undo(self) -> Edit | None:
        """The edit that undo would take back."""
        return self._done[-1] if self._done else None

    @property
    def next_redo(self) -> Edit | None:
        """The edit that redo would do again."""
        return self._undone[-1] if self._undone else None

    def push(self, edit: Edit) -> None:
        """Add what was just done; what was undone before is gone."""
        self._done.append(edit)
        self._undone.clear()
        del self._done[: -self._limit]

    def answer(self, pending: Draft, answered: Draft) -> None:
        """Put the answered draft in the place of the pending one that it answers."""
        self._done = [_answered(edit, pending, answered) for edit in self._done]

    def take_back(self, pending: Draft) -> Draft | None:
        """Forget the edit that led to a draft; gives the draft before it, or None if unknown."""
        for index in reversed(range(len(self._done))):
            drafts = self._done[index].draft
            if drafts is not None and drafts[1] is pending:
                del self._done[index]
                return drafts[0]
        return None

    def pop_undo(self) -> Edit:
        """Move the last edit to the undone ones; gives its inverse, to be applied."""
        edit = self._done.pop()
        self._undone.append(edit)
        return edit.inverse()

    def pop_redo(self) -> Edit:
        """Move the last undone edit back; gives the edit, to be applied."""
        edit = self._undone.pop()
        self._done.append(edit)
        return edit

    def forget(self, image_id: str) -> None:
        """Drop the edits of an image, for its labels were changed by somebody else."""
        self._done = [edit for edit in self._done if edit.image_id != image_id]
        self._undone = [edit for edit in self._undone if edit.image_id != image_id]


def _answered(edit: Edit, pending: Draft, answered: Draft) -> Edit:
    if edit.draft is None or pending not in edit.draft:
        return edit
    before, after = (answered if draft is pending else draft for draft in edit.draft)
    return replace(edit, draft=(before, after))
