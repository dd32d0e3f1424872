"""The steps that can be undone and redone, without limit, and the content of the last of them.

A step is light: a number, a name, an image. The content of the newest few dozen edits is kept here;
that of older ones, and of those from before a restart, is read from the store when it is needed.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

from ..store.records import Draft, Edit, Step, Steps

KEPT = 48


class History:
    """What was done, in order, and how far of it is undone.

    Args:
        steps: from before; those that were undone can be redone.
        kept: so many edits keep their content in memory.
    """

    def __init__(self, steps: Steps | None = None, kept: int = KEPT) -> None:
        steps = steps or Steps()
        self._steps: list[Step] = [*steps.done, *steps.undone]
        self._position = len(steps.done)
        self._serial = steps.serial
        self._kept = kept
        self._content: OrderedDict[int, Edit] = OrderedDict()

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps in order; those from ``position`` on are undone."""
        return tuple(self._steps)

    @property
    def position(self) -> int:
        """How many of the steps are done."""
        return self._position

    @property
    def count(self) -> int:
        """How many steps there are, done and undone."""
        return len(self._steps)

    @property
    def next_undo(self) -> Step | None:
        """The step that undo would take back."""
        return self._steps[self._position - 1] if self._position else None

    @property
    def next_redo(self) -> Step | None:
        """The step that redo would do again."""
        return self._steps[self._position] if self._position < len(self._steps) else None

    def next_serial(self) -> int:
        """A number for an event of the store's history, greater than any before."""
        self._serial += 1
        return self._serial

    def push(self, edit: Edit) -> int:
        """Add what was just done; what was undone before is gone. Gives the number of the step."""
        number = self.next_serial()
        for step in self._steps[self._position :]:
            self._content.pop(step.number, None)
        del self._steps[self._position :]
        self._steps.append(Step(number, edit.name, edit.image_id))
        self._position += 1
        self.keep(number, edit)
        return number

    def content(self, number: int) -> Edit | None:
        """The edit of a step, or None where it has to be read from the store."""
        return self._content.get(number)

    def keep(self, number: int, edit: Edit) -> None:
        """Keep the content of a step; the one that was kept first goes."""
        self._content[number] = edit
        while len(self._content) > self._kept:
            self._content.popitem(last=False)

    def back(self) -> Step:
        """Move the last step to the undone ones."""
        self._position -= 1
        return self._steps[self._position]

    def forth(self) -> Step:
        """Move the step that was undone last back to those that are done."""
        self._position += 1
        return self._steps[self._position - 1]

    def answer(self, pending: Draft, answered: Draft) -> int | None:
        """Put the answered draft in the place of the pending one; gives the step that led to it."""
        found = None
        for number, edit in self._content.items():
            if edit.draft is None or pending not in edit.draft:
                continue
            if edit.draft[1] is pending:
                found = number
            before, after = (answered if draft is pending else draft for draft in edit.draft)
            self._content[number] = replace(edit, draft=(before, after))
        return found

    def take_back(self, pending: Draft) -> tuple[int, Draft] | None:
        """Forget the step that led to a draft; gives its number and the draft before, if known."""
        for index in reversed(range(self._position)):
            edit = self._content.get(self._steps[index].number)
            if edit is not None and edit.draft is not None and edit.draft[1] is pending:
                number = self._steps.pop(index).number
                del self._content[number]
                self._position -= 1
                return number, edit.draft[0]
        return None

    def forget(self, image_id: str) -> None:
        """Drop the steps of an image, for its labels were changed by somebody else."""
        done = [step for step in self._steps[: self._position] if step.image_id != image_id]
        undone = [step for step in self._steps[self._position :] if step.image_id != image_id]
        self._steps, self._position = [*done, *undone], len(done)
