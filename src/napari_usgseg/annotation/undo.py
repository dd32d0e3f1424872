"""Undo, redo, and any step of the history, on whatever image it was done."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING

from ..jobs import Lane, Scope, files
from ..project.records import Edit, EventKind, ImageProposal, Step, Steps

if TYPE_CHECKING:
    from .session import AnnotationSession


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

    def answer(self, pending: ImageProposal, answered: ImageProposal) -> int | None:
        """Put the answered proposal in the place of the pending one; gives the step behind it."""
        found = None
        for number, edit in self._content.items():
            if edit.proposal is None or pending not in edit.proposal:
                continue
            if edit.proposal[1] is pending:
                found = number
            before, after = (
                answered if proposal is pending else proposal for proposal in edit.proposal
            )
            self._content[number] = replace(edit, proposal=(before, after))
        return found

    def take_back(self, pending: ImageProposal) -> tuple[int, ImageProposal] | None:
        """Forget the step that led to a proposal; gives its number and the one before, if known."""
        for index in reversed(range(self._position)):
            edit = self._content.get(self._steps[index].number)
            if edit is not None and edit.proposal is not None and edit.proposal[1] is pending:
                number = self._steps.pop(index).number
                del self._content[number]
                self._position -= 1
                return number, edit.proposal[0]
        return None

    def forget(self, image_id: str) -> None:
        """Drop the steps of an image, for its labels were changed by somebody else."""
        done = [step for step in self._steps[: self._position] if step.image_id != image_id]
        undone = [step for step in self._steps[self._position :] if step.image_id != image_id]
        self._steps, self._position = [*done, *undone], len(done)


NOTHING = "Nothing to take back or do again."


class Travel:
    """``session.travel``: the way through the history, one step at a time.

    A step on another image opens that image, and an old step is read from the store; the way goes
    on when that has come. So presses of the key add up while something is awaited.
    """

    def __init__(self, session: AnnotationSession) -> None:
        self._session = session
        self._going = False

    def undo(self) -> None:
        """Take back the last edit; where it was on another image, go there first."""
        self._by(-1)

    def redo(self) -> None:
        """Do again what was undone last; where it was on another image, go there first."""
        self._by(1)

    def go_to(self, position: int) -> None:
        """Undo or redo until so many steps are done."""
        session = self._session
        session.flushing.emit()
        if not 0 <= position <= session.history.count:
            session.say(NOTHING)
            return
        session.target = position
        self.go_on()

    def _by(self, steps: int) -> None:
        session = self._session
        session.flushing.emit()
        here = session.history.position if session.target is None else session.target
        self.go_to(here + steps)

    def stop(self) -> None:
        """Stay at this step."""
        self._session.target = None
        if self.go_on in self._session.after_load:
            self._session.after_load.remove(self.go_on)

    def go_on(self) -> None:
        """Go as far as can be gone without waiting."""
        if self._going:
            return
        self._going = True
        try:
            while self._step():
                pass
        finally:
            self._going = False

    def _take(self, number: int, edit: Edit) -> None:
        """Take an edit that was read from the store, and go on."""
        self._session.history.keep(number, edit)
        self.go_on()

    def _step(self) -> bool:
        """Take one step; False where there is none, or where something is awaited first."""
        session, history = self._session, self._session.history
        if session.target is None or session.target == history.position:
            session.target = None
            return False
        back = session.target < history.position
        step = history.next_undo if back else history.next_redo
        if step is None:
            session.target = None
            return False
        if not self._arrive(step):
            return False
        edit = history.content(step.number)
        if edit is None:
            assert session.store is not None
            session.ask(
                files.read_step,
                session.store,
                step.number,
                lane=Lane.FILES,
                key="step",
                scope=Scope.FOLDER,
                text=f"Reading '{step.name}'...",
                done=lambda edit: self._take(step.number, edit),
            )
            return history.content(step.number) is not None  # answered at once
        return self._apply(edit, step, back)

    def _arrive(self, step: Step) -> bool:
        """Go to the image of a step; False while it is read, or where it is gone."""
        session = self._session
        if step.image_id is None:
            return True
        if step.image_id not in session.browser:
            session.target = None
            session.say(
                f"The image of {step.image_id} is gone; put it back to take this step.", "warning"
            )
            return False
        if session.record is None or session.record.image_id != step.image_id:
            session.after_load.append(self.go_on)
            session.walk.open_image(step.image_id)
        elif session.labels is None and self.go_on not in session.after_load:
            session.after_load.append(self.go_on)
        return session.labels is not None

    def _apply(self, edit: Edit, step: Step, back: bool) -> bool:
        session = self._session
        change = edit.inverse() if back else edit
        if session.read_only and (change.patch is not None or change.state is not None):
            session.target = None
            session.say(f"Nothing was changed: {session.read_only}.", "warning")
            return False
        labels = session.labels
        if change.patch is not None and labels is not None and not change.patch.fits(labels):
            session.history.forget(step.image_id or "")
            session.note(EventKind.FORGET, step.image_id)
            session.target = None
            session.say("The labels were changed elsewhere; this step cannot be taken.", "warning")
            return False
        session.jobs.cancel(Scope.PROPOSAL)
        if back:
            session.history.back()
        else:
            session.history.forth()
        session.note(
            EventKind.UNDO if back else EventKind.REDO,
            step.image_id,
            step=step.number,
            proposal=None if change.proposal is None else change.proposal[1],
            saving=change.patch is not None or change.state is not None,
        )
        session.apply(change)
        return True
