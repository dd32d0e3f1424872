"""Every edit has an inverse; the history is a list of them."""

from __future__ import annotations

from dataclasses import replace

from ..store.records import ClassTable, Draft, Edit, LabelPatch, difference

__all__ = ["ClassTable", "Edit", "History", "LabelPatch", "difference"]

LIMIT = 500


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
