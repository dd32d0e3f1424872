"""Prompts: what a click, a box, a scribble or a lasso makes of the proposal.

``docs/objects.md`` has the rules as a table. A positive prompt is of the picked class: it corrects
an object of that class where it can be meant, and else begins one. A negative prompt takes away
from what it meets, whatever is picked. No prompt changes another object than the one that it means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ...core.geometry import box_from_points, box_within, stroke_mask, value_at
from ...core.types import BoolArray, FloatArray, Prompts
from ...project.records import ImageProposal, ProposedObject
from ...segmentation.propose import as_logits
from .. import regions
from ..class_table import title
from ..regions import box_of, deepest, lasso_mask
from ..state import AnnotationState, Change, Refused
from .objects import by_hand

REDRAWN = 0.8
"""A lasso round this share of an object draws it anew instead of adding to it."""
LEAST_SIDE = 2.0
"""A box with a shorter side, in pixels, is a slip of the hand."""
NOTHING_TO_TAKE = "There is nothing proposed here to take away from: find or draw an object first."
WAIT = "Wait for the proposal, then do that again."
NO_OBJECT = "There is no proposed object here."

Asking = Callable[[ProposedObject], ProposedObject]
"""What a prompt makes of the object that it means."""


# -- prompts that a model answers --------------------------------------------------------------


def add_point(state: AnnotationState, x: float, y: float, positive: bool = True) -> Change:
    """Click at XY pixels: on the object, or on what is not the object.

    A positive click into an object of the picked class takes that one to work on.
    """
    height, width = state.shown_labels().shape
    if not (-0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5):
        raise Refused(regions.OUTSIDE)
    index, proposal = _meant(state, [(x, y)], positive), state.proposal
    if positive and index is not None:
        item = proposal.objects[index]
        if item.mask_at(x, y) and not item.is_asked:
            return pick_object(state, index)
    return _ask(state, "click", index, lambda item: _clicked(item, x, y, positive))


def add_box(
    state: AnnotationState, a: tuple[float, float], b: tuple[float, float], anew: bool = False
) -> Change:
    """A box between two opposite corners in XY pixels: of a new object.

    Args:
        state: with the picked class.
        a: a corner.
        b: the opposite corner.
        anew: it is the box of the object under work, whose mask is made anew; of a new object
            where none is.
    """
    size_hw = state.shown_labels().shape
    drawn = box_from_points(a, b)
    if reason := regions.why_no_box(drawn, size_hw, LEAST_SIDE):
        raise Refused(reason)
    box = box_within(drawn, size_hw)
    assert box is not None
    index = state.proposal.active if anew else None
    return _ask(state, "box", index, lambda item: replace(item, prompts=_boxed(item.prompts, box)))


def add_scribble(state: AnnotationState, line: FloatArray, positive: bool = True) -> Change:
    """A scribble (M, 2) in XY pixels; it means the object that most of it lies on."""
    part = regions.line_within(line, state.shown_labels().shape)
    if min(len(part), len(line)) < 2:
        raise Refused(regions.OUTSIDE if len(line) > 1 else regions.NO_LINE)
    index = _meant(state, regions.along(part), positive)
    return _ask(state, "scribble", index, lambda item: _scribbled(item, part, positive))


def add_lasso(state: AnnotationState, polygon: FloatArray, positive: bool = True) -> Change:
    """A closed line (M, 2) in XY pixels round an object, or round a part of it.

    A new object is its inside as ``mask_input`` and its box. To the object that it covers most of
    it adds a part, or draws it anew where it goes round nearly all of it. What a negative one goes
    round is taken away as it is drawn.
    """
    inside = _inside(state, polygon)
    if not positive:
        return _draw(state, "lasso", inside, positive)
    index = _covered(state, inside, positive)
    return _ask(state, "lasso", index, lambda item: _lassoed(item, inside))


def _ask(state: AnnotationState, name: str, index: int | None, asking: Asking) -> Change:
    """Ask for an object, or for a new one of the picked class (``index`` None)."""
    proposal = state.proposal
    if index is None:
        item, place = ProposedObject(state.table.active, Prompts()), len(proposal.objects)
    else:
        item, place = _standing(proposal.objects[index]), index
    asked = asking(item)
    if asked is item:
        raise Refused
    new = proposal.with_object(place, replace(asked, is_asked=True))
    return Change(state.propose(name, new), _begun(state, index))


def _begun(state: AnnotationState, index: int | None) -> AnnotationState:
    """The state once a prompt for an object has come: one for a new one (None) was waited for."""
    return replace(state, begins_new=state.begins_new and index is not None)


def _standing(item: ProposedObject) -> ProposedObject:
    """The object with those of its prompts that were not overruled by a later one.

    The mask tells: it follows the newest prompt. What contradicts it would be corrected again with
    every prompt to come, so that a negative click would add what one before it took away.
    """
    item = replace(item, drawn=None)
    if item.is_asked or item.proposal is None:  # it is not known yet what stands
        return item
    prompts, mask = item.prompts, item.proposal.mask
    pairs = zip(prompts.point_coords, prompts.point_labels, strict=True)
    stands = np.array([value_at(mask, x, y) == label for (x, y), label in pairs], bool)
    prompts = replace(
        prompts,
        point_coords=prompts.point_coords[stands],
        point_labels=prompts.point_labels[stands],
        scribbles=tuple(
            (part, label)
            for line, label in prompts.scribbles
            for part in regions.parts_on(line, mask == bool(label))
        ),
    )
    return replace(item, prompts=prompts)


def _clicked(item: ProposedObject, x: float, y: float, positive: bool) -> ProposedObject:
    """The object with one more click, which corrects its mask."""
    prompts = _seeded(item, [(x, y)], positive)
    point = np.array([[x, y]], np.float32)
    prompts = replace(
        prompts,
        point_coords=np.concatenate([prompts.point_coords, point]),
        point_labels=np.append(prompts.point_labels, np.int32(positive)).astype(np.int32),
    )
    return replace(item, prompts=prompts)


def _scribbled(item: ProposedObject, line: FloatArray, positive: bool) -> ProposedObject:
    """The object with one more scribble (M, 2), which corrects its mask."""
    prompts = _seeded(item, [(float(x), float(y)) for x, y in line], positive)
    scribbles = (*prompts.scribbles, (np.asarray(line, np.float32), int(positive)))
    return replace(item, prompts=replace(prompts, scribbles=scribbles))


def _seeded(item: ProposedObject, at: Sequence[tuple[float, float]], positive: bool) -> Prompts:
    """The object's prompts with its last mask as ``mask_input``.

    Where none of them says where the object is, for a phrase found it or all that did were
    overruled, its box does. A positive prompt beyond the box says that the object goes on there, so
    that the box goes.
    """
    prompts = item.prompts
    if item.proposal is not None:
        signs = [*prompts.point_labels, *(label for _, label in prompts.scribbles)]
        box = prompts.box
        if box is None and not any(signs) and item.has_mask:
            box = item.proposal.box
        prompts = replace(prompts, box=box, mask_input=item.proposal.low_res_logits)
    box = prompts.box
    if positive and box is not None and not all(_is_in(box, x, y) for x, y in at):
        prompts = replace(prompts, box=None)
    return prompts


def _boxed(prompts: Prompts, box: FloatArray) -> Prompts:
    """The prompts with another box; what lies outside of it is no longer pointed at."""
    kept = np.array([_is_in(box, x, y) for x, y in prompts.point_coords], bool)
    lines = prompts.scribbles
    return replace(
        prompts,
        point_coords=prompts.point_coords[kept],
        point_labels=prompts.point_labels[kept],
        scribbles=tuple(one for one in lines if all(_is_in(box, x, y) for x, y in one[0])),
        box=box,
        mask_input=None,
    )


def _lassoed(item: ProposedObject, inside: BoolArray) -> ProposedObject:
    """The object drawn round, as a whole or in part, (H, W) bool."""
    if item.proposal is None or _is_redrawn(item, inside):
        prompts = Prompts(box=box_of(inside), mask_input=as_logits(inside))
        return replace(item, prompts=prompts, drawn=inside)
    old = item.proposal.mask
    mask, added = old | inside, inside & ~old
    if not added.any():
        return item
    prompts = item.prompts
    prompts = replace(
        prompts,
        point_coords=np.concatenate([prompts.point_coords, deepest(added)[None]]),
        point_labels=np.append(prompts.point_labels, np.int32(1)).astype(np.int32),
        box=box_of(mask),
        mask_input=as_logits(mask),
    )
    proposal = replace(item.proposal, low_res_logits=prompts.mask_input)
    return replace(item, prompts=prompts, proposal=proposal, drawn=inside)


def _is_redrawn(item: ProposedObject, inside: BoolArray) -> bool:
    assert item.proposal is not None
    old = item.proposal.mask
    return bool(np.count_nonzero(old & inside) > REDRAWN * np.count_nonzero(old))


# -- what is drawn is taken as it is -----------------------------------------------------------


def draw_lasso(state: AnnotationState, polygon: FloatArray, positive: bool = True) -> Change:
    """The inside of a closed line (M, 2) XY as it is drawn, no model asked.

    It is a new object, a part that is added to the object that it covers most of or taken away, or
    that object anew where it goes round nearly all of it.
    """
    return _draw(state, "lasso as drawn", _inside(state, polygon), positive)


def draw_stroke(
    state: AnnotationState, line: FloatArray, width: float, positive: bool = True
) -> Change:
    """A stroke (M, 2) XY of a width in pixels as it is drawn, no model asked."""
    return _draw_band(state, "stroke as drawn", line, width, positive)


def draw_trace(
    state: AnnotationState, line: FloatArray, width: float, positive: bool = True
) -> Change:
    """A traced line (M, 2) XY, a band of a width in pixels along it: as ``draw_stroke``."""
    return _draw_band(state, "trace", line, width, positive)


def _draw_band(
    state: AnnotationState, name: str, line: FloatArray, width: float, positive: bool
) -> Change:
    inside = stroke_mask(np.asarray(line, np.float32), width, state.shown_labels().shape)
    if not inside.any():
        raise Refused(regions.OUTSIDE)
    return _draw(state, name, inside, positive, redraws=False)


def _draw(
    state: AnnotationState, name: str, inside: BoolArray, positive: bool, redraws: bool = True
) -> Change:
    if state.is_waiting:
        raise Refused(WAIT)
    proposal, index = state.proposal, _covered(state, inside, positive)
    item, mask, place = ProposedObject(state.table.active, Prompts()), inside, len(proposal.objects)
    if index is not None:
        item, place = proposal.objects[index], index
        assert item.proposal is not None
        if not positive:
            mask = item.proposal.mask & ~inside
        elif not (redraws and _is_redrawn(item, inside)):
            mask = item.proposal.mask | inside
    if not mask.any():
        return Change(state.propose(name, proposal.without(place)))
    edit = state.propose(name, proposal.with_object(place, by_hand(item, mask)))
    return Change(edit, _begun(state, index))


# -- which object is meant ---------------------------------------------------------------------


def _meant(state: AnnotationState, at: Sequence[tuple[float, float]], positive: bool) -> int | None:
    """Which object a prompt at points corrects; None is a new one.

    Raises:
        Refused: a negative prompt has nothing to take away from.
    """
    objects, size_hw = state.proposal.objects, state.shown_labels().shape
    order = _eligible(state, positive)
    on = {n: sum(objects[n].mask_at(x, y) for x, y in at) for n in order}
    if best := max(on.values(), default=0):
        return next(n for n in order if on[n] == best)
    for index in order:
        near = any(objects[index].is_near(x, y, size_hw) for x, y in at)
        if near and (positive or objects[index].proposal is None):
            return index
    if not positive:
        raise Refused(NOTHING_TO_TAKE)
    return None


def _covered(state: AnnotationState, inside: BoolArray, positive: bool) -> int | None:
    """The object that a drawn region (H, W) covers most of; None is a new one.

    Raises:
        Refused: a negative region has nothing to take away from.
    """
    objects = state.proposal.objects
    shares = dict.fromkeys(_eligible(state, positive), 0)
    for index in shares:
        proposal = objects[index].proposal
        if proposal is not None:
            shares[index] = int(np.count_nonzero(proposal.mask & inside))
    if best := max(shares.values(), default=0):
        return next(n for n, share in shares.items() if share == best)
    if not positive:
        raise Refused(NOTHING_TO_TAKE)
    return None


def _eligible(state: AnnotationState, positive: bool) -> list[int]:
    """The objects that a prompt can mean, the active one first, then the smallest first."""
    proposal = state.proposal

    def place(index: int) -> tuple[bool, int]:
        item = proposal.objects[index].proposal
        return index != proposal.active, 0 if item is None else int(np.count_nonzero(item.mask))

    if positive and state.begins_new:
        return []
    picked = state.table.active
    mine = [n for n, item in enumerate(proposal.objects) if not positive or item.class_id == picked]
    return sorted(mine, key=place)


def _inside(state: AnnotationState, polygon: FloatArray) -> BoolArray:
    """The inside (H, W) of a closed line (M, 2) XY.

    Raises:
        Refused: it has none in the image.
    """
    size_hw = state.shown_labels().shape
    polygon = np.asarray(polygon, np.float32)
    if reason := regions.why_no_lasso(polygon):
        raise Refused(reason)
    inside = lasso_mask(polygon, size_hw)
    if not inside.any():
        raise Refused(regions.OUTSIDE)
    return inside


def _is_in(box: FloatArray, x: float, y: float) -> bool:
    return bool(box[0] <= x <= box[2] and box[1] <= y <= box[3])


# -- objects as a whole ------------------------------------------------------------------------


def pick_object(state: AnnotationState, index: int) -> Change:
    """Take a proposed object to work on; its class is the picked one from now on."""
    proposal = state.proposal
    if not 0 <= index < len(proposal.objects):
        raise Refused(NO_OBJECT)
    if index == proposal.active:
        return Change(state=replace(state, begins_new=False))
    class_id = proposal.objects[index].class_id
    state = replace(
        state,
        proposal=replace(proposal, active=index),
        table=state.table.picking(class_id),
        begins_new=False,
    )
    return Change(state=state, said=f"Under work: {title(state.table, class_id)}.")


def pick_object_at(state: AnnotationState, x: float, y: float) -> Change:
    """Take the proposed object at XY pixels to work on, of whatever class it is.

    Of several it is the smallest that is not under work already.
    """
    objects, active = state.proposal.objects, state.proposal.active
    here = [n for n in _eligible(state, False) if objects[n].mask_at(x, y)]
    if not here:
        raise Refused(NO_OBJECT)
    return pick_object(state, next((n for n in here if n != active), here[0]))


def next_object(state: AnnotationState) -> Change:
    """Take the proposed object after the active one to work on, round the end."""
    proposal = state.proposal
    if not proposal.objects:
        raise Refused("Nothing is proposed on this image.")
    at = -1 if proposal.active is None else proposal.active
    return pick_object(state, (at + 1) % len(proposal.objects))


def drop_object(state: AnnotationState, x: float, y: float) -> Change:
    """Take away the one proposed object at XY pixels; of several the active one."""
    objects = state.proposal.objects
    index = next((n for n in _eligible(state, False) if objects[n].mask_at(x, y)), None)
    if index is None:
        raise Refused(NO_OBJECT)
    return drop(state, index)


def drop(state: AnnotationState, index: int | None = None) -> Change:
    """Take away a proposed object; None is the active one."""
    proposal = state.proposal
    index = proposal.active if index is None else index
    if index is None:
        raise Refused("Which object? Pick it first.")
    if proposal.objects[index].is_asked:
        raise Refused(WAIT)
    return Change(state.propose("drop object", proposal.without(index)))


def new_object(state: AnnotationState) -> Change:
    """The next prompt begins another object, and so does the next stroke of a brush."""
    proposal = replace(state.proposal, active=None)
    said = f"The next prompt begins a new {title(state.table, state.table.active)}."
    return Change(state=replace(state, proposal=proposal, picked=0, begins_new=True), said=said)


def clear(state: AnnotationState) -> Change:
    """Take back everything that is proposed on this image."""
    if not state.proposal.objects:
        raise Refused
    return Change(state.propose("clear", ImageProposal()))


def unasked(proposal: ImageProposal, *items: ProposedObject) -> ImageProposal:
    """What is proposed when prompts are called off, and nothing is known of what was before.

    Args:
        proposal: with them.
        items: their objects; none are all that are asked for.
    """
    for item in items or proposal.objects:
        if item.is_asked:
            former = None if item.proposal is None else replace(item, is_asked=False)
            proposal = proposal.putting(item, former)
    return proposal
