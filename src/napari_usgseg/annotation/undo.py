"""Undo stack of a session, and the outbox of events that are not yet known to be in a store.

An edit's step has the serial of its event, and the stack gives out all serials.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

from ..project.project import LabelStore
from ..project.records import Edit, Event, EventKind, ImageProposal, ProposedObject, Step, Steps

KEPT = 48


class UndoStack:
    """Edits in order, and how many of them are undone; kept in memory and in the event log.

    Args:
        steps: from before; those that were undone can be redone.
        kept: so many edits keep their content in memory.

    Attributes:
        target: the position that undo and redo are on their way to, or None.
    """

    def __init__(self, steps: Steps | None = None, kept: int = KEPT) -> None:
        steps = steps or Steps()
        self._steps: list[Step] = [*steps.done, *steps.undone]
        self._position = len(steps.done)
        self._serial = steps.serial
        self._kept = kept
        self.target: int | None = None
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

    def reserve(self, count: int) -> int:
        """Leave so many serials to events from elsewhere; gives the last one before them."""
        before, self._serial = self._serial, self._serial + count
        return before

    def push(self, edit: Edit) -> int:
        """Add what was just done; what was undone before is gone. Gives the number of the step."""
        self.target, number = None, self.next_serial()
        for step in self._steps[self._position :]:
            self._content.pop(step.number, None)
        del self._steps[self._position :]
        self._steps.append(Step(number, edit.name, edit.image_id))
        self._position += 1
        parts = enumerate(edit.parts, start=number + 1)  # the serials that their events will have
        self.keep(number, replace(edit, parts=tuple(replace(part, number=n) for n, part in parts)))
        return number

    def let_go(self, number: int) -> None:
        """Keep the content of a step no more: it is in the store."""
        self._content.pop(number, None)

    def content(self, number: int) -> Edit | None:
        """The edit of a step, or None where it has to be read from the store."""
        return self._content.get(number)

    def recent(self) -> list[Edit]:
        """The edits that are done and whose content is in memory."""
        last = self.next_undo
        done = -1 if last is None else last.number
        return [edit for number, edit in self._content.items() if number <= done]

    def has_steps_of(self, image_id: str) -> bool:
        """True where something was done on an image and is not undone."""
        return any(step.image_id == image_id for step in self._steps[: self._position])

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

    def change(
        self, changed: Callable[[ImageProposal], ImageProposal], shown: ImageProposal
    ) -> ImageProposal:
        """Change all that was proposed, and what is ``shown``; gives that. The same stays the same.

        The step of a prompt gets the answer to it that way.
        """
        made: dict[int, tuple[ImageProposal, ImageProposal]] = {}

        def once(proposal: ImageProposal) -> ImageProposal:
            # Steps share proposals (one's after is the next one's before) and compare them by
            # identity: each must be changed once and stay one object.
            if id(proposal) not in made:
                made[id(proposal)] = proposal, changed(proposal)
            return made[id(proposal)][1]

        for number, edit in self._content.items():
            if edit.proposal is not None:
                before, after = edit.proposal
                self._content[number] = replace(edit, proposal=(once(before), once(after)))
        return once(shown)

    def last_with(self, item: ProposedObject) -> int | None:
        """The newest step that is done after which an object is proposed; None if not known."""
        for step in reversed(self._steps[: self._position]):
            edit = self._content.get(step.number)
            if edit and edit.proposal and edit.proposal[1].index_of(item) is not None:
                return step.number
        return None

    def take_back(
        self, item: ProposedObject
    ) -> tuple[int, tuple[ImageProposal, ImageProposal]] | None:
        """Forget the step that asked for an object; gives its number and what it did."""
        for place in reversed(range(self._position)):
            number = self._steps[place].number
            edit = self._content.get(number)
            if edit is None or edit.proposal is None:
                continue
            before, after = edit.proposal
            if before.index_of(item) is None and after.index_of(item) is not None:
                del self._steps[place], self._content[number]
                self._position -= 1
                return number, (before, after)
        return None

    def forget(self, image_id: str) -> None:
        """Drop the steps of an image, for its labels were changed by somebody else."""
        done = [step for step in self._steps[: self._position] if step.image_id != image_id]
        undone = [step for step in self._steps[self._position :] if step.image_id != image_id]
        self._steps, self._position = [*done, *undone], len(done)


CHANGES = (
    EventKind.EDIT,
    EventKind.ANSWER,
    EventKind.UNDO,
    EventKind.REDO,
    EventKind.TAKEN_BACK,
    EventKind.PROPOSAL,
)
"""What changes labels, states or proposals."""


class Outbox:
    """Events on their way to the store; each stays here until the store says that it has it.

    So when a save fails (a full disk), nothing is lost: the next save, or a retry, sends it again
    with all that came after it, in order. The store passes over what it has.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[LabelStore, list[Event]]] = {}

    def put(self, store: LabelStore, event: Event) -> None:
        """Add an event."""
        self._waiting.setdefault(id(store), (store, []))[1].append(event)

    def of(self, store: LabelStore) -> tuple[Event, ...]:
        """What a store is not known to have, in order."""
        return tuple(self._waiting.get(id(store), (store, []))[1])

    def changed(self, store: LabelStore) -> set[str]:
        """The images of which a store is not known to have everything that was done."""
        return {
            event.image_id for event in self.of(store) if event.image_id and event.kind in CHANGES
        }

    def arrived(self, store: LabelStore, serial: int) -> None:
        """A store has everything up to an event."""
        kept = [event for event in self.of(store) if event.serial > serial]
        self._waiting.pop(id(store), None)
        if kept:
            self._waiting[id(store)] = (store, kept)

    def inherit(self, store: LabelStore, serial: int) -> None:
        """A store has taken the place of another of the same annotator's labels.

        Args:
            store: that was opened.
            serial: of the last event in it.
        """
        here = getattr(store, "root", store), store.annotator
        for former in self.stores():
            if (getattr(former, "root", former), former.annotator) == here:
                self.arrived(former, serial)

    def stores(self) -> tuple[LabelStore, ...]:
        """The stores that are not known to have everything."""
        return tuple(store for store, _ in self._waiting.values())
