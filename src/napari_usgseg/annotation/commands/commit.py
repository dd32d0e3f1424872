"""From a proposal to the label map: what an accept does to pixels and classes."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...core.types import LabelClass
from ...io.labels import (
    MAX_CLASS,
    MAX_LABEL,
    Labelling,
    class_of,
    code_of,
    default_color,
    free_numbers,
    values_in,
)
from ...project.records import ClassTable, ImageProposal, LabelMap, ProposedObject
from ...segmentation.propose import compose

FIRST_CLASS = "object"
"""Name of the class that a new folder begins with, until a phrase gives it a better one."""


def first_table() -> ClassTable:
    """The classes of a folder that has none yet."""
    return ClassTable((LabelClass(1, FIRST_CLASS, default_color(1)),), 1)


def merged(
    labels: LabelMap,
    objects: Sequence[ProposedObject],
    overwrite: bool = False,
    labelling: Labelling = "semantic",
) -> tuple[LabelMap, int]:
    """A label map with accepted objects in it.

    Args:
        labels: (H, W).
        objects: those with a mask are drawn; where two overlap, the higher score wins.
        overwrite: let them replace other labels under them.
        labelling: draw each object with its class, or with a code of its own.

    Returns:
        The new map, and how many pixels of the objects gave way to labels that were there.
    """
    drawn = [item for item in objects if item.has_mask]
    proposals = [item.proposal for item in drawn if item.proposal is not None]
    values = [item.class_id for item in drawn]
    if labelling == "instance":
        values = numbered(drawn, values_in(labels))
    new = compose(proposals, values, labels.shape)
    free = (new > 0) if overwrite else (new > 0) & ((labels == 0) | (labels == new))
    dtype = np.promote_types(labels.dtype, new.dtype)
    return np.where(free, new, labels).astype(dtype), int(np.count_nonzero((new > 0) & ~free))


def numbered(objects: Sequence[ProposedObject], used: Sequence[int]) -> list[int]:
    """A code for each object: with the number that it wants, if that is free, else the next one.

    An object beyond the 999th of its class, or of a class above 64, gets the bare class number:
    a region of its class.
    """
    taken = set(used)
    codes: list[int] = []
    for item in objects:
        code = item.class_id
        if item.class_id <= MAX_CLASS:
            wanted = [item.number] if item.number else []
            wanted += free_numbers(taken, item.class_id)
            free = (code_of(item.class_id, number) for number in wanted)
            code = next((value for value in free if value not in taken), item.class_id)
        taken.add(code)
        codes.append(code)
    return codes


def with_values(
    table: ClassTable, values: Sequence[int], labelling: Labelling = "semantic"
) -> ClassTable:
    """The classes with one added for each label value that has none ("class 7")."""
    known = {item.class_id for item in table.classes}
    missing = sorted({class_of(int(value), labelling) for value in values} - known - {0})
    if not missing:
        return table
    added = tuple(LabelClass(value, f"class {value}", default_color(value)) for value in missing)
    classes = tuple(sorted((*table.classes, *added), key=lambda item: item.class_id))
    return replace(table, classes=classes)


def with_labels(table: ClassTable, labels: LabelMap | None, labelling: Labelling) -> ClassTable:
    """The classes with one added for each value of a label map that has none."""
    return table if labels is None else with_values(table, values_in(labels), labelling)


def with_class(table: ClassTable, name: str) -> ClassTable:
    """The classes with a new one at the end, picked."""
    ids = {item.class_id for item in table.classes}
    class_id = 1 + max((table.last, *ids))
    if class_id > MAX_LABEL:
        class_id = next(value for value in range(1, MAX_LABEL) if value not in ids)
    added = LabelClass(class_id, name, default_color(class_id))
    return replace(table, classes=(*table.classes, added), active=class_id)


def without_class(table: ClassTable, class_id: int) -> ClassTable:
    """The classes without one of several; where it was picked, the one before it is."""
    kept = tuple(item for item in table.classes if item.class_id != class_id)
    active = table.active
    if active == class_id:
        before = [item.class_id for item in kept if item.class_id < class_id]
        active = before[-1] if before else kept[0].class_id
    return ClassTable(kept, active, max(table.last, class_id))


def named(table: ClassTable, name: str) -> LabelClass | None:
    """The class of a name, in whatever case it is written; None where there is none."""
    wanted = _key(name)
    return next((item for item in table.classes if _key(item.name) == wanted), None)


def _key(name: str) -> str:
    """What two ways to write one name have in common."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def with_name(table: ClassTable, class_id: int, name: str) -> ClassTable:
    """The classes with one renamed."""
    renamed = (
        LabelClass(item.class_id, name, item.color) if item.class_id == class_id else item
        for item in table.classes
    )
    return replace(table, classes=tuple(renamed))


def nameless(table: ClassTable) -> LabelClass | None:
    """The class that a new folder begins with, where it is the only one and has no name yet."""
    first = table.classes[0]
    return first if len(table.classes) == 1 and first.name == FIRST_CLASS else None


def classes_for_phrases(
    table: ClassTable, phrases: Sequence[str], nameless_is_free: bool
) -> tuple[ClassTable, dict[str, int]]:
    """Which class each phrase stands for: the one of its name, or a new one.

    Args:
        table: the classes; which one is picked stays.
        phrases: that something was found for.
        nameless_is_free: nothing has the nameless first class of a new folder, so that the first
            new phrase may name it.
    """
    found: dict[str, int] = {}
    for phrase in phrases:
        same, first = named(table, phrase), nameless(table)
        if same is not None:
            found[phrase] = same.class_id
        elif first is not None and nameless_is_free:
            found[phrase] = first.class_id
            table = with_name(table, first.class_id, phrase)
        else:
            added = with_class(table, phrase)
            found[phrase] = added.active
            table = replace(added, active=table.active)
    return table, found


def kept_by_person(proposal: ImageProposal) -> tuple[ProposedObject, ...]:
    """The objects that a person pointed at or made; a new search does not replace them."""
    return tuple(item for item in proposal.objects if item.by_hand or not item.prompts.is_empty)
