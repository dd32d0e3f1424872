"""The classes: adding, naming and picking them, giving one to an object, deleting one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ...core.types import BoolArray, Prompts
from ...io.labels import class_of, instance_of, semantic, values_in
from ...jobs import Lane, Scope, files
from ...project.records import ClassTable, Edit, ProposedObject
from . import commit

if TYPE_CHECKING:
    from ..session import AnnotationSession


WHICH = "Which object? Point at it with the mouse and press the key of 'class of the object'."
NOT_YET = "Wait for the proposal, then give it the class."


class Classes:
    """The part of ``session.editing`` that is about classes."""

    def __init__(self, session: AnnotationSession) -> None:
        self._session = session

    def add_class(self, name: str) -> None:
        """Add a class and pick it; one that is there already is picked."""
        session = self._session
        name = " ".join(name.split()) or f"class {commit.with_class(session.table, '').active}"
        there = commit.named(session.table, name)
        if there is not None:
            self.pick_class(there.class_id)
            session.say(f"There is a class '{there.name}' already; it is picked.")
            return
        table = commit.with_class(session.table, name)
        session.do(Edit("add class", table=(session.table, table)))
        self._picked()

    def rename_class(self, class_id: int, name: str) -> None:
        """Give a class another name, which no other class has."""
        session = self._session
        old = session.table.get(class_id)
        other = commit.named(session.table, name)
        if other is not None and other.class_id != class_id:
            session.say(
                f"Class {other.class_id} is called '{other.name}' already; choose another name.",
                "warning",
            )
            return
        if old is not None and name.strip() and name.strip() != old.name:
            table = commit.with_name(session.table, class_id, name.strip())
            session.do(Edit("rename class", table=(session.table, table)))

    def pick_class(self, class_id: int, say: bool = True) -> None:
        """Take a class for what is proposed or painted next; what is there keeps its own.

        Args:
            class_id: of the class.
            say: a word on the object under work, where that is of another class.
        """
        session = self._session
        if session.table.get(class_id) is not None:
            session.set_table(session.table.picking(class_id))
            self._picked(say)

    def _picked(self, say: bool = True) -> None:
        session = self._session
        session.prompting.class_is_new = True
        current, table = session.proposal.current, session.table
        if say and current is not None and current.class_id != table.active:
            session.say(
                f"{_name(table, table.active)} is for the next object; the one under work stays "
                f"{_name(table, current.class_id)} (Shift+click a class gives it that one)."
            )

    def give_class(self, class_id: int, at: tuple[float, float] | None = None) -> None:
        """Give another class to an object that is there, proposed or accepted.

        Args:
            class_id: of the class; the picked one stays.
            at: a point (x, y) of the object; None means the one under work: the active one, the
                only one that is proposed, or the accepted one that was pointed at last.
        """
        session = self._session
        session.flushing.emit()
        if session.labels is None or session.table.get(class_id) is None:
            return
        if session.is_waiting:
            session.say(NOT_YET)
            return
        index = session.objects.proposed_under_work(at)
        found = None if index is not None else session.objects.accepted_under_work(at)
        if index is not None:
            old = session.proposal.objects[index].class_id
        elif found is not None:
            old = class_of(int(session.labels[found][0]), session.settings.labelling)
        else:
            session.say(WHICH)
            return
        name = _name(session.table, class_id)
        if old == class_id:
            session.say(f"This object is {name} already.")
        elif self._give(class_id, index, found):
            session.say(f"This object is {name} now; it was {_name(session.table, old)}.")

    def _give(self, class_id: int, index: int | None, found: BoolArray | None) -> bool:
        """Give a class to a proposed object, or to an accepted one; False where it is refused."""
        session, labels = self._session, self._session.labels
        if index is not None:
            item = session.proposal.objects[index]
            item = replace(item, class_id=class_id, by_hand=True, number=0)
            proposal = session.proposal.with_object(index, item)
            session.prompting.edit_proposal(
                "class", replace(proposal, active=session.proposal.active)
            )
            return True
        assert labels is not None
        assert found is not None
        code = class_id
        if instance_of(int(labels[found][0]), session.settings.labelling):
            (code,) = commit.numbered([ProposedObject(class_id, Prompts())], values_in(labels))
        after = labels.astype(np.promote_types(labels.dtype, np.min_scalar_type(code)))
        after[found] = code
        session.editing.relabel("class", after)
        return session.labels is not labels

    def delete_class(self, class_id: int) -> None:
        """Delete a class that no image has, in its labels or its proposals; undo brings it back."""
        session = self._session
        session.flushing.emit()
        item = session.table.get(class_id)
        if item is None or session.store is None or session.is_waiting:
            return
        if session.read_only or session.unsaved:
            reason = session.read_only or session.unsaved
            session.say(f"Nothing was changed: {reason}.", "warning")
        elif len(session.table.classes) == 1:
            session.say("The only class cannot be deleted; double-click it to rename it.")
        elif not self._says_used(class_id):
            session.ask(
                files.find_use,
                session.store,
                class_id,
                "" if session.record is None else session.record.image_id,
                lane=Lane.FILES,
                key="delete class",
                scope=Scope.PROPOSAL,
                text=f"Looking whether an image has '{item.name}'...",
                done=lambda used: self._delete_unused(class_id, used),
            )

    def _delete_unused(self, class_id: int, used: str) -> None:
        """Delete a class where no image (``used``) has it."""
        session = self._session
        if session.table.get(class_id) is None or self._says_used(class_id, used):
            return
        name = _name(session.table, class_id)
        table = commit.without_class(session.table, class_id)
        session.do(Edit("delete class", table=(session.table, table)))
        session.say(f"{name} is deleted; undo brings it back.")

    def _says_used(self, class_id: int, elsewhere: str = "") -> bool:
        """True where the shown image, or the one named, has the class; then that is said."""
        session = self._session
        where = elsewhere
        if session.record is not None and session.labels is not None:
            labels = semantic(session.labels, session.settings.labelling)
            proposed = any(item.class_id == class_id for item in session.proposal.objects)
            if proposed or class_id in values_in(labels):
                where = session.record.image_id
        if where:
            session.say(
                f"{_name(session.table, class_id)} is on image {where}, so it is not deleted. Give "
                "its objects another class there (Shift+click a class), or take them away.",
                "warning",
            )
        return bool(where)


def _name(table: ClassTable, class_id: int) -> str:
    item = table.get(class_id)
    return f"class {class_id}" if item is None else f"'{item.name}'"
