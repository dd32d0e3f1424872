"""Search results: what was found of a phrase becomes proposed objects of the classes it names.

An object belongs to the class that its phrase names, and to a new one where there is none, never to
the picked one. Only what was found makes a class.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from ...core.metrics import iou
from ...core.types import Prompts
from ...io.labels import semantic, values_in
from ...jobs.inference import Found
from ...project.records import ClassTable, Edit, ImageProposal, ProposedObject
from ...segmentation.propose import SAME_OBJECT, Proposal
from .. import class_table
from ..state import AnnotationState, Change


@dataclass(frozen=True, slots=True)
class Search:
    """Search that was made.

    Attributes:
        text: as it was typed.
        phrases: in it.
        picks: the class of the one phrase is to be the picked one.
        active: the class that was picked when the search began.
    """

    text: str
    phrases: tuple[str, ...]
    picks: bool
    active: int


def propose_found(
    state: AnnotationState, search: Search, found: Found, nameless_is_free: bool
) -> Change:
    """Propose what a search found, in the place of what was found of the same classes before.

    What a person pointed at or made stays, and so does all of other classes; a search that finds
    nothing takes nothing away.

    Args:
        search: what was looked for.
        found: what came of it.
        nameless_is_free: no image has the nameless class of a new folder, so that the first new
            phrase may name it.
    """
    before, names = state.table, class_names(state.table, search, found)
    wanted = tuple(dict.fromkeys(names.values()))
    table, ids = class_table.classes_for_phrases(before, wanted, nameless_is_free)
    if search.picks and ids and before.active == search.active:
        table = table.picking(ids[wanted[0]])
    objects = _objects(found, names, ids)
    edit = None
    if objects:
        tables = None if table.classes == before.classes else (before, table)
        proposal = beside(state.proposal, objects, found.model_id, found.notes)
        edit = Edit("find", state.image_id, (state.proposal, proposal), table=tables)
        state = replace(state, begins_new=False)
        if tables is None:
            state = replace(state, table=table)
    else:
        state = replace(state, proposal=replace(state.proposal, notes=found.notes))
    class_ids = [item.class_id for item in objects]
    said = [_summary(found.proposals, class_ids, before, table)] if objects else []
    said += found.notes
    drawn = table.get(table.active)
    named = drawn is not None and drawn.name != class_table.FIRST_CLASS
    if not objects and search.picks and drawn is not None and named:
        said.append(f"What you draw now is '{drawn.name}'.")
    return Change(edit, state, " ".join(said))


def propose_on(
    table: ClassTable, search: Search, found: Found, before: ImageProposal
) -> ImageProposal:
    """What is proposed on an image once a search found something there, as `propose_found` does.

    Args:
        table: with all classes that the search names.
        search: what was looked for.
        found: what came of it.
        before: what is proposed on the image.
    """
    names = class_names(table, search, found)
    _, ids = class_table.classes_for_phrases(table, tuple(names.values()), False)
    return beside(before, _objects(found, names, ids), found.model_id, found.notes)


def _objects(
    found: Found, names: dict[str, str], ids: dict[str, int]
) -> tuple[ProposedObject, ...]:
    return tuple(
        ProposedObject(ids[names[item.phrase]], Prompts(), item) for item in found.proposals
    )


def class_names(table: ClassTable, search: Search, found: Found) -> dict[str, str]:
    """The name of the class that each found phrase stands for.

    What was typed may be the name of one class though it has several phrases ("n. medianus").
    """
    whole = class_table.named(table, search.text)
    phrases = dict.fromkeys(item.phrase for item in found.proposals)
    if whole is not None:
        return dict.fromkeys(phrases, whole.name)
    if len(search.phrases) == 1:
        return dict.fromkeys(phrases, search.phrases[0])
    order = [phrase for phrase in search.phrases if phrase in phrases]
    return {phrase: phrase for phrase in dict.fromkeys((*order, *phrases))}


def nameless_in_question(state: AnnotationState, search: Search, found: Found) -> int | None:
    """The nameless class of a new folder, where a found phrase may name it if no image has it.

    What is labelled so is not to be renamed; None where there is no such class, or no new phrase,
    or where the shown image has the class already.
    """
    first = class_table.nameless(state.table)
    names = class_names(state.table, search, found).values()
    if first is None or all(class_table.named(state.table, name) for name in names):
        return None
    kept = kept_by_person(state.proposal)
    if state.labels is None or any(item.class_id == first.class_id for item in kept):
        return None
    used = first.class_id in values_in(semantic(state.labels, state.labelling))
    return None if used else first.class_id


def kept_by_person(proposal: ImageProposal) -> tuple[ProposedObject, ...]:
    """The objects that a person pointed at or made; a new search does not replace them."""
    return tuple(item for item in proposal.objects if item.by_hand or not item.prompts.is_empty)


def beside(
    proposal: ImageProposal,
    objects: tuple[ProposedObject, ...],
    model_id: str,
    notes: tuple[str, ...] = (),
) -> ImageProposal:
    """A proposal of ``objects`` beside those of another one that they do not replace.

    They replace what a model found of their classes, and what a prompt predictor proposed where
    they are one's, too. What shows an object of its class that a person has already is left out. A
    prompt that came meanwhile goes on asking for its own object.
    """
    mine, classes = kept_by_person(proposal), {item.class_id for item in objects}
    anew = any(item.ppn for item in objects) or not objects
    kept = tuple(
        item
        for item in proposal.objects
        if item in mine or not (item.class_id in classes or (anew and item.ppn))
    )
    made = tuple(item for item in objects if not any(_is_same(item, other) for other in mine))
    active = next(
        (n for n, item in enumerate(kept) if item is proposal.current and item.is_asked), None
    )
    return ImageProposal((*kept, *made), active, model_id, notes)


def _is_same(item: ProposedObject, other: ProposedObject) -> bool:
    """Whether two show one object of one class."""
    a, b = item.proposal, other.proposal
    same = item.class_id == other.class_id and a is not None and b is not None
    return same and a is not None and b is not None and iou(a.mask, b.mask) > SAME_OBJECT


def _summary(
    proposals: tuple[Proposal, ...], class_ids: list[int], before: ClassTable, after: ClassTable
) -> str:
    """What was found of each class, in a few words: "found 2 'cyst' (a new class), best 0.83"."""
    words: list[str] = []
    for class_id, count in Counter(class_ids).items():
        item, old = after.get(class_id), before.get(class_id)
        assert item is not None
        new = " (a new class)" if old is None or old.name != item.name else ""
        words.append(f"{count} '{item.name}'{new}")
    best = max(item.score for item in proposals)
    return f"found {', '.join(words)}, best {best:.2f}"
