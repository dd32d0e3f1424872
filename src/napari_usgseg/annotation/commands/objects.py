"""Whole objects, proposed or accepted: merging, splitting, filling, deleting, taking up again.

A line (M, 2) or a point in XY pixels names them. ``accepted`` says whether objects of the label map
are meant, or proposed ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ...core.types import BoolArray, FloatArray, Prompts
from ...io.labels import LabelMap, class_of, instance_of, next_code, values_in
from ...project.records import Edit, ImageProposal, ProposedObject
from ...segmentation.postprocess import PostprocessSettings, postprocess
from ...segmentation.propose import Proposal, as_logits
from .. import regions
from ..state import AnnotationState, Change, Refused

TWO_OBJECTS = "Draw the line from one object to another; all that it touches become one."
NOT_ACROSS = "Draw the line right across the object, from outside to outside."
ONE_PIECE = "This object is in one piece; draw a line across it to split it."
NOTHING_HERE = "There is no object here."
NO_OVERLAP = "These two do not overlap, so there is nothing to take away."
NO_HOLE = "This object has no hole to fill."
NO_ROOM = "This object cannot grow here, or would be gone."
SMOOTH = "This object's border is as smooth already."
GROWN = 1
"""Pixels of a rim."""
SMOOTHED = 2.0
"""Pixels over which a border is rounded."""


def merge(state: AnnotationState, line: FloatArray, accepted: bool = False) -> Change:
    """Make one object of all that a line touches; the first gives class and number."""
    labels = state.settled_labels()
    if accepted:
        found = regions.objects_along(labels, line, state.labelling)
        values = [int(labels[mask][0]) for mask in found]
        if len(found) < 2:
            raise Refused(TWO_OBJECTS)
        if len(set(values)) < 2:
            raise Refused("Pieces of one class are one label already; nothing to merge.")
        after = labels.copy()
        after[np.any(found, axis=0)] = values[0]
        return Change(state.relabel("merge", after))
    touched = _proposed_along(state.proposal, line)
    if len(touched) < 2:
        raise Refused(TWO_OBJECTS)
    items = [state.proposal.objects[index] for index in touched]
    whole = by_hand(items[0], np.any([_mask(item) for item in items], axis=0))
    return Change(_replaced(state, "merge", touched, (whole,)))


def subtract(
    state: AnnotationState, line: FloatArray, accepted: bool = False, keep: bool = False
) -> Change:
    """Take the object at a line's beginning away from the one at its end.

    Args:
        line: from what is taken away to what it is taken from.
        accepted: the second is an object of the label map; the first is a proposed one.
        keep: leave the first where it is proposed; else it goes.
    """
    labels, proposal = state.settled_labels(), state.proposal
    start = (float(line[0, 0]), float(line[0, 1]))
    end = (float(line[-1, 0]), float(line[-1, 1]))
    target = None if accepted else _proposed_at(proposal, *end)
    taken = _proposed_at(proposal, *start, other_than=target)
    away = None if taken is None else _mask(proposal.objects[taken])
    if accepted:
        whole = regions.object_at(labels, *end, state.labelling)
    else:
        whole = None if target is None else _mask(proposal.objects[target])
        if away is None:
            away = regions.object_at(labels, *start, state.labelling)
    if whole is None or away is None:
        raise Refused("Draw from the object that is taken away to the one that it is taken from.")
    if not (whole & away).any():
        raise Refused(NO_OVERLAP)
    gone = () if taken is None or keep else (taken,)
    if target is not None:
        rest = by_hand(proposal.objects[target], whole & ~away)
        return Change(_replaced(state, "cut out", (target, *gone), (rest,)))
    after = labels.copy()
    after[whole & away] = 0
    return Change(state.relabel("cut out", after, proposal.without(*gone) if gone else None))


def split(state: AnnotationState, line: FloatArray, accepted: bool = False) -> Change:
    """Cut an object along a line; at a single point, take its pieces apart.

    Pieces of an accepted object get numbers of their own in instance labelling. In semantic
    labelling a gap of one pixel tells them apart from then on.
    """
    labels = state.settled_labels()
    if accepted:
        return Change(_split_accepted(state, labels, line))
    touched = _proposed_along(state.proposal, line)
    if not touched:
        raise Refused(NOTHING_HERE)
    made: list[ProposedObject] = []
    severed: list[int] = []
    for index in touched:
        item = state.proposal.objects[index]
        parts = _parts(_mask(item), line)
        if len(parts) > 1:
            severed.append(index)
            made.append(by_hand(item, parts[0]))
            made.extend(replace(by_hand(item, part), number=0) for part in parts[1:])
    if not severed:
        raise Refused(NOT_ACROSS if len(line) > 1 else ONE_PIECE)
    return Change(_replaced(state, "split", tuple(severed), tuple(made)))


def _split_accepted(state: AnnotationState, labels: LabelMap, line: FloatArray) -> Edit | None:
    found = regions.objects_along(labels, line, state.labelling)
    if not found:
        raise Refused(NOTHING_HERE)
    after = labels.copy()
    for mask in found:
        parts = _parts(mask, line)
        if len(parts) < 2:
            continue
        value = int(labels[mask][0])
        if state.labelling == "semantic":
            after[mask & ~regions.with_gap(parts)] = 0
            continue
        class_id = class_of(value, state.labelling)
        for part in parts[1:] if instance_of(value, state.labelling) else parts:
            code = next_code(values_in(after), class_id)
            after = after.astype(np.promote_types(after.dtype, np.min_scalar_type(code)))
            after[part] = code
    if np.array_equal(after, labels):
        raise Refused(NOT_ACROSS if len(line) > 1 else ONE_PIECE)
    return state.relabel("split", after)


def fill_holes(state: AnnotationState, at: tuple[float, float] | None = None) -> Change:
    """Fill the holes of an object, proposed or accepted; other labels in an accepted one stay.

    Args:
        state: with the object.
        at: a point (x, y) of the object; None means the one under work.
    """
    return _reshaped(state, "fill holes", at, lambda mask: mask | _holes(mask), NO_HOLE)


def grow(
    state: AnnotationState, at: tuple[float, float] | None = None, pixels: int = GROWN
) -> Change:
    """Grow an object by a rim of some pixels, or shrink it (below 0); arguments as above.

    An accepted one grows over no other label, and none shrinks to nothing.
    """
    name = "grow" if pixels > 0 else "shrink"
    return _reshaped(state, name, at, lambda mask: _grown(mask, pixels), NO_ROOM)


def smooth(state: AnnotationState, at: tuple[float, float] | None = None) -> Change:
    """Round the border of an object, proposed or accepted; arguments as above."""
    settings = PostprocessSettings(keep="all", fill_holes=0, smoothing=SMOOTHED)
    return _reshaped(state, "smooth", at, lambda mask: postprocess(mask, settings), SMOOTH)


def _reshaped(
    state: AnnotationState,
    name: str,
    at: tuple[float, float] | None,
    shape: Callable[[BoolArray], BoolArray],
    unchanged: str,
) -> Change:
    """Give an object another shape (H, W) bool; ``unchanged`` is said where it has it already."""
    labels, proposal = state.settled_labels(), state.proposal
    index = proposed_under_work(state, at)
    if index is not None:
        item = proposal.objects[index]
        mask = shape(_mask(item)) if item.has_mask else None
        if mask is None or not mask.any() or np.array_equal(mask, _mask(item)):
            raise Refused(unchanged)
        made = proposal.with_object(index, by_hand(item, mask))
        return Change(state.propose(name, replace(made, active=proposal.active)))
    found = accepted_under_work(state, at)
    if found is None:
        raise Refused(NOTHING_HERE)
    mask = shape(found)
    more, less = mask & ~found & (labels == 0), found & ~mask
    if not mask.any() or not (more.any() or less.any()):
        raise Refused(unchanged)
    after = labels.copy()
    after[less] = 0
    after[more] = labels[found][0]
    return Change(state.relabel(name, after))


def _grown(mask: BoolArray, pixels: int) -> BoolArray:
    """A mask with a rim of some pixels more, or less; the picture's edge takes nothing off it."""
    if pixels > 0:
        return postprocess(mask, PostprocessSettings(keep="all", fill_holes=0, dilation=pixels))
    padded = np.pad(mask, -pixels, mode="edge")
    around = postprocess(~padded, PostprocessSettings(keep="all", fill_holes=0, dilation=-pixels))
    return np.asarray(~around)[-pixels:pixels, -pixels:pixels]


def delete(state: AnnotationState, x: float, y: float) -> Change:
    """Take one accepted object (in semantic labelling: one component) out of the labels."""
    found = _accepted_at(state, x, y)
    after = state.shown_labels().copy()
    after[found] = 0
    return Change(state.relabel("delete object", after))


def lift(state: AnnotationState, x: float, y: float) -> Change:
    """Make an accepted object a proposed one again, so that prompts can correct it."""
    found, labels = _accepted_at(state, x, y), state.shown_labels()
    value = int(labels[found][0])
    class_id = class_of(value, state.labelling)
    item = ProposedObject(class_id, Prompts(), number=instance_of(value, state.labelling))
    after = labels.copy()
    after[found] = 0
    objects = (*state.proposal.objects, by_hand(item, found))
    proposal = replace(state.proposal, objects=objects, active=len(objects) - 1)
    return Change(state.relabel("take up again", after, proposal, reopen=True))


def proposed_under_work(state: AnnotationState, at: tuple[float, float] | None) -> int | None:
    """The index of the proposed object that a person means.

    At a point it is the one there, or the active one where that is near; without a point it is the
    active one, or the only one.
    """
    proposal = state.proposal
    if at is None:
        return 0 if proposal.active is None and len(proposal.objects) == 1 else proposal.active
    index, current, size_hw = (
        _proposed_at(proposal, *at),
        proposal.current,
        state.shown_labels().shape,
    )
    near = current is not None and current.is_near(*at, size_hw)
    if index is None and near and accepted_under_work(state, at) is None:
        return proposal.active
    return index


def accepted_under_work(state: AnnotationState, at: tuple[float, float] | None) -> BoolArray | None:
    """The accepted object (H, W) that a person means, or None.

    It is the one at a point; without a point, and with nothing proposed, the one that was pointed
    at last, or the only one.
    """
    labels = state.shown_labels()
    if at is None and not state.proposal.objects:
        at = state.pointed
        if at is None and labels.any():
            row, column = np.argwhere(labels)[0]
            only = regions.object_at(labels, column, row, state.labelling)
            return None if only is None or (labels[~only] > 0).any() else only
    return None if at is None else regions.object_at(labels, *at, state.labelling)


def by_hand(item: ProposedObject, mask: BoolArray) -> ProposedObject:
    """A proposed object with another mask (H, W), as a person cut or merged it."""
    old = item.proposal
    score, phrase = (1.0, "") if old is None else (old.score, old.phrase)
    proposal = Proposal(mask, regions.box_of(mask), score, phrase, score, as_logits(mask))
    return ProposedObject(item.class_id, Prompts(), proposal, by_hand=True, number=item.number)


def _accepted_at(state: AnnotationState, x: float, y: float) -> BoolArray:
    found = regions.object_at(state.settled_labels(), x, y, state.labelling)
    if found is None:
        raise Refused(NOTHING_HERE)
    return found


def _proposed_at(
    proposal: ImageProposal, x: float, y: float, other_than: int | None = None
) -> int | None:
    """The proposed object at a point; of several the smallest, which lies within the others."""
    objects = proposal.objects
    hit = [n for n, item in enumerate(objects) if n != other_than and item.mask_at(x, y)]
    return min(hit, key=lambda n: np.count_nonzero(_mask(objects[n])), default=None)


def _proposed_along(proposal: ImageProposal, line: FloatArray) -> tuple[int, ...]:
    """The proposed objects that a line touches, in the order in which it meets them."""
    met: dict[int, None] = {}
    for x, y in regions.along(line):
        met.update({n: None for n, item in enumerate(proposal.objects) if item.mask_at(x, y)})
    return tuple(met)


def _replaced(
    state: AnnotationState, name: str, gone: tuple[int, ...], made: tuple[ProposedObject, ...]
) -> Edit:
    """Put objects that have pixels in the place of others; a single new one is the active."""
    proposal = state.proposal.without(*gone)
    objects = (*proposal.objects, *(item for item in made if item.has_mask))
    active = len(objects) - 1 if len(made) == 1 and made[0].has_mask else None
    return state.propose(name, replace(proposal, objects=objects, active=active))


def _mask(item: ProposedObject) -> BoolArray:
    assert item.proposal is not None
    return item.proposal.mask


def _holes(mask: BoolArray) -> BoolArray:
    return postprocess(mask, PostprocessSettings(keep="all", fill_holes=1)) & ~mask


def _parts(mask: BoolArray, line: FloatArray) -> list[BoolArray]:
    return regions.cut(mask, line) if len(line) > 1 else regions.pieces(mask)
