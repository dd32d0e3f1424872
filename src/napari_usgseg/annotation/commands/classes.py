"""Classes: adding, naming, picking and deleting them, and giving one to an object."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...core.types import BoolArray
from ...io.labels import class_of, instance_of, next_code, semantic, values_in
from ...project.records import Edit
from .. import class_table
from ..class_table import title
from ..state import AnnotationState, Change, Refused
from .objects import accepted_under_work, proposed_under_work

WHICH = "Which object? Point at it with the mouse and press the key of 'class of the object'."
NOT_YET = "Wait for the proposal, then give it the class."


def add_class(state: AnnotationState, name: str) -> Change:
    """Add a class and pick it; one that is there already is picked."""
    table = state.table
    name = " ".join(name.split()) or f"class {class_table.with_class(table, '').active}"
    there = class_table.named(table, name)
    if there is not None:
        said = f"There is a class '{there.name}' already; it is picked."
        return replace(pick_class(state, there.class_id), said=said)
    new = class_table.with_class(table, name)
    edit = Edit("add class", table=(table, new))
    return Change(edit, said=_said_of_work(replace(state, table=new)))


def rename_class(state: AnnotationState, class_id: int, name: str) -> Change:
    """Give a class another name, which no other class has."""
    table, name = state.table, name.strip()
    old, other = table.get(class_id), class_table.named(table, name)
    if other is not None and other.class_id != class_id:
        raise Refused(
            f"Class {other.class_id} is called '{other.name}' already; choose another name.",
            "warning",
        )
    if old is None or name in ("", old.name):
        raise Refused
    new = class_table.with_name(table, class_id, name)
    return Change(Edit("rename class", table=(table, new)))


def pick_class(state: AnnotationState, class_id: int, say: bool = True) -> Change:
    """Take a class for what is proposed or painted next; what is there keeps its own.

    Args:
        class_id: of the class.
        say: a word on the object under work, where that is of another class.
    """
    if state.table.get(class_id) is None:
        raise Refused
    state = replace(state, table=state.table.picking(class_id))
    return Change(state=state, said=_said_of_work(state) if say else "")


def _said_of_work(state: AnnotationState) -> str:
    current, table = state.proposal.current, state.table
    if current is None or current.class_id == table.active:
        return ""
    return (
        f"{title(table, table.active)} is for the next object; the one under work stays "
        f"{title(table, current.class_id)} (Shift+click a class gives it that one)."
    )


def give_class(
    state: AnnotationState, class_id: int, at: tuple[float, float] | None = None
) -> Change:
    """Give another class to an object that is there, proposed or accepted.

    Args:
        class_id: of the class; the picked one stays.
        at: a point (x, y) of the object; None means the one under work: the active one, the only
            one that is proposed, or the accepted one that was pointed at last.
    """
    labels, table, proposal = state.shown_labels(), state.table, state.proposal
    if table.get(class_id) is None:
        raise Refused
    if state.is_waiting:
        raise Refused(NOT_YET)
    index = proposed_under_work(state, at)
    found = None if index is not None else accepted_under_work(state, at)
    if index is not None:
        old = proposal.objects[index].class_id
    elif found is not None:
        old = class_of(int(labels[found][0]), state.labelling)
    else:
        raise Refused(WHICH)
    if old == class_id:
        raise Refused(f"This object is {title(table, class_id)} already.")
    if index is not None:
        item = replace(proposal.objects[index], class_id=class_id, by_hand=True, number=0)
        new = replace(proposal.with_object(index, item), active=proposal.active)
        edit: Edit | None = state.propose("class", new)
    else:
        assert found is not None
        edit = _relabelled(state, class_id, found)
    said = f"This object is {title(table, class_id)} now; it was {title(table, old)}."
    return Change(edit, said=said)


def _relabelled(state: AnnotationState, class_id: int, found: BoolArray) -> Edit | None:
    """Give an accepted object (H, W) another class, with the next free number of that."""
    labels, code = state.shown_labels(), class_id
    if instance_of(int(labels[found][0]), state.labelling):
        code = next_code(values_in(labels), class_id)
    after = labels.astype(np.promote_types(labels.dtype, np.min_scalar_type(code)))
    after[found] = code
    return state.relabel("class", after)


def check_deletable(state: AnnotationState, class_id: int) -> Change:
    """See whether a class can be deleted, as far as the shown image tells; changes nothing."""
    if state.table.get(class_id) is None:
        raise Refused
    if len(state.table.classes) == 1:
        raise Refused("The only class cannot be deleted; double-click it to rename it.")
    if state.labels is not None:
        proposed = any(item.class_id == class_id for item in state.proposal.objects)
        if proposed or class_id in values_in(semantic(state.labels, state.labelling)):
            raise _in_use(state, class_id, state.image_id)
    return Change()


def delete_class(state: AnnotationState, class_id: int, used_on: str) -> Change:
    """Delete a class that no image has; ``used_on`` is another image that has it, or ""."""
    check_deletable(state, class_id)
    if used_on:
        raise _in_use(state, class_id, used_on)
    table = class_table.without_class(state.table, class_id)
    said = f"{title(state.table, class_id)} is deleted; undo brings it back."
    return Change(Edit("delete class", table=(state.table, table)), said=said)


def _in_use(state: AnnotationState, class_id: int, image_id: str) -> Refused:
    return Refused(
        f"{title(state.table, class_id)} is on image {image_id}, so it is not deleted. Give its "
        "objects another class there (Shift+click a class), or take them away.",
        "warning",
    )
