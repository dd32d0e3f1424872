"""Class table: adding, naming and finding classes; pure functions of a ``ClassTable``."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import replace

from ..core.types import LabelClass
from ..io.labels import MAX_LABEL, Labelling, LabelMap, class_of, default_color, values_in
from ..project.records import ClassTable

FIRST_CLASS = "object"
"""Name of the class that a new folder begins with, until a phrase gives it a better one."""


def first_table() -> ClassTable:
    """The classes of a folder that has none yet."""
    return ClassTable((LabelClass(1, FIRST_CLASS, default_color(1)),), 1)


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


def title(table: ClassTable, class_id: int) -> str:
    """A class as a sentence names it."""
    item = table.get(class_id)
    return f"class {class_id}" if item is None else f"'{item.name}'"
