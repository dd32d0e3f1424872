"""Prompts: what a click, a box, a scribble or a lasso makes of the proposal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ...core.geometry import box_from_points, box_iou, box_within
from ...core.types import FloatArray, Prompts
from ...project.records import ImageProposal, ProposedObject
from ...segmentation.propose import as_logits
from .. import regions
from ..regions import box_of, deepest, lasso_mask
from ..state import AnnotationState, Change, Refused

REDRAWN = 0.8
"""A lasso round this share of an object draws it anew instead of adding to it."""
LEAST_SIDE = 2.0
"""A box with a shorter side, in pixels, is a slip of the hand."""
NO_PROPOSAL = "A negative prompt takes away from a proposal: find or click an object first."


def add_point(state: AnnotationState, x: float, y: float, positive: bool = True) -> Change:
    """Click at XY pixels: on the object, or on what is not the object."""
    height, width = state.shown_labels().shape
    if not (-0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5):
        raise Refused(regions.OUTSIDE)
    class_id = state.table.active
    return _prompt(
        state, "click", lambda proposal: with_point(proposal, x, y, positive, class_id), positive
    )


def add_box(state: AnnotationState, a: tuple[float, float], b: tuple[float, float]) -> Change:
    """A box between two opposite corners in XY pixels."""
    size_hw, class_id = state.shown_labels().shape, state.table.active
    box = box_from_points(a, b)
    if reason := regions.why_no_box(box, size_hw, LEAST_SIDE):
        raise Refused(reason)
    return _prompt(state, "box", lambda proposal: with_box(proposal, box, size_hw, class_id))


def add_scribble(state: AnnotationState, line: FloatArray, positive: bool = True) -> Change:
    """A scribble (M, 2) in XY pixels."""
    part = regions.line_within(line, state.shown_labels().shape)
    if min(len(part), len(line)) < 2:
        raise Refused(regions.OUTSIDE if len(line) > 1 else regions.NO_LINE)
    class_id = state.table.active
    return _prompt(
        state,
        "scribble",
        lambda proposal: with_scribble(proposal, part, positive, class_id),
        positive,
    )


def add_lasso(state: AnnotationState, polygon: FloatArray, positive: bool = True) -> Change:
    """A closed line (M, 2) in XY pixels round an object, or round a part of it."""
    size_hw, class_id = state.shown_labels().shape, state.table.active
    polygon = np.asarray(polygon, np.float32)
    if reason := regions.why_no_lasso(polygon, size_hw):
        raise Refused(reason)
    return _prompt(
        state,
        "lasso",
        lambda proposal: with_lasso(proposal, polygon, positive, size_hw, class_id),
        positive,
    )


def drop_object(state: AnnotationState, x: float, y: float) -> Change:
    """Take away the one proposed object at XY pixels; of several the active one."""
    proposal = state.proposal
    order = sorted(range(len(proposal.objects)), key=lambda index: index != proposal.active)
    index = next((index for index in order if proposal.objects[index].mask_at(x, y)), None)
    if index is None or proposal.pending:
        raise Refused
    return Change(state.propose("drop object", proposal.without(index)))


def new_object(state: AnnotationState) -> Change:
    """The next prompt begins another object, and so does the next stroke of a brush."""
    edit = None
    if state.proposal.active is not None and not state.proposal.pending:
        edit = state.propose("new object", replace(state.proposal, active=None))
    return Change(edit, replace(state, picked=0))


def clear(state: AnnotationState) -> Change:
    """Take back everything that is proposed on this image."""
    if not state.proposal.objects:
        raise Refused
    return Change(state.propose("clear", ImageProposal()))


def _prompt(
    state: AnnotationState,
    name: str,
    add: Callable[[ImageProposal], ImageProposal],
    positive: bool = True,
) -> Change:
    """Do what ``add`` does to the proposal, or to the part of it that the prompt can mean."""
    proposal, picked = state.proposal, state.table.active
    others: tuple[ProposedObject, ...] = ()
    if state.class_is_new and positive:
        others = tuple(item for item in proposal.objects if item.class_id != picked)
    meant = proposal
    if others:
        same = tuple(item for item in proposal.objects if item.class_id == picked)
        meant = replace(proposal, objects=same, active=None, pending=False)
    new = add(meant)
    if new is meant:
        raise Refused(NO_PROPOSAL)
    if others:
        active = None if new.active is None else len(others) + new.active
        new = replace(new, objects=(*others, *new.objects), active=active)
    class_is_new = state.class_is_new and not positive
    return Change(state.propose(name, new), replace(state, class_is_new=class_is_new))


def with_point(
    proposal: ImageProposal, x: float, y: float, positive: bool, class_id: int
) -> ImageProposal:
    """The proposal after a click: it corrects the object that it means, or begins a new one."""
    meant = _meant_or_new(proposal, x, y, positive, class_id)
    if meant is None:
        return proposal
    index, item = meant
    prompts = _correction(item, x, y, positive)
    return replace(proposal.with_object(index, replace(item, prompts=prompts)), pending=True)


def with_scribble(
    proposal: ImageProposal, line: FloatArray, positive: bool, class_id: int
) -> ImageProposal:
    """The proposal after a scribble (M, 2) XY; its middle says which object it means."""
    x, y = (float(value) for value in line[len(line) // 2])
    meant = _meant_or_new(proposal, x, y, positive, class_id)
    if meant is None:
        return proposal
    index, item = meant
    prompts = _seeded(item)
    box = prompts.box
    if positive and box is not None and not all(_inside(box, px, py) for px, py in line):
        box = None
    scribbles = (*prompts.scribbles, (np.asarray(line, np.float32), int(positive)))
    prompts = replace(prompts, scribbles=scribbles, box=box)
    return replace(proposal.with_object(index, replace(item, prompts=prompts)), pending=True)


def with_box(
    proposal: ImageProposal, box: FloatArray, size_hw: tuple[int, int], class_id: int
) -> ImageProposal:
    """The proposal after a box: over the active object it is that one's new box, else a new object.

    The same proposal where the box has no area or covers none of the image.
    """
    part = box_within(box, size_hw)
    if part is None or min(part[2] - part[0], part[3] - part[1]) <= 0:
        return proposal
    box = part
    index, current = proposal.active, proposal.current
    anchor = None
    if current is not None:
        anchor = current.prompts.box
        if anchor is None and current.proposal is not None:
            anchor = current.proposal.box
    elsewhere = anchor is None or float(box_iou(box[None], anchor[None])[0, 0]) <= 0
    if index is None or current is None or elsewhere:
        index = len(proposal.objects)
        item = ProposedObject(class_id, Prompts(box=box))
    else:
        item = replace(current, prompts=replace(current.prompts, box=box, mask_input=None))
    return replace(proposal.with_object(index, item), pending=True)


def with_lasso(
    proposal: ImageProposal,
    polygon: FloatArray,
    positive: bool,
    size_hw: tuple[int, int],
    class_id: int,
) -> ImageProposal:
    """The proposal after a lasso (M, 2) XY; the object that it covers most of is the one it means.

    A new object is its inside as ``mask_input`` and its box. Of an object that is there it adds or
    takes away a part, or draws it anew where it goes round nearly all of it.
    """
    inside = lasso_mask(polygon, size_hw)
    shares = [
        0 if item.proposal is None else int(np.count_nonzero(item.proposal.mask & inside))
        for item in proposal.objects
    ]
    index = shares.index(max(shares)) if any(shares) else None
    if not inside.any() or (index is None and not positive):
        return proposal
    item = ProposedObject(class_id, Prompts()) if index is None else proposal.objects[index]
    index = len(proposal.objects) if index is None else index
    mask = inside
    prompts = replace(item.prompts, box=None, mask_input=None)
    if item.proposal is not None and not (
        positive and shares[index] > REDRAWN * np.count_nonzero(item.proposal.mask)
    ):
        old = item.proposal.mask
        mask = old | inside if positive else old & ~inside
        if not mask.any():
            return proposal.without(index)
        changed = mask ^ old
        if not changed.any():
            return proposal
        prompts = replace(
            prompts,
            point_coords=np.concatenate([prompts.point_coords, deepest(changed)[None]]),
            point_labels=np.append(prompts.point_labels, np.int32(positive)).astype(np.int32),
        )
    elif item.proposal is not None:
        prompts = Prompts()
    prompts = replace(prompts, box=box_of(mask), mask_input=as_logits(mask))
    return replace(proposal.with_object(index, replace(item, prompts=prompts)), pending=True)


def unasked(proposal: ImageProposal) -> ImageProposal:
    """A pending proposal when its prompt is called off and what was there before is not known."""
    if proposal.active is not None and proposal.objects[proposal.active].proposal is None:
        return proposal.without(proposal.active)
    return replace(proposal, pending=False)


def _meant_or_new(
    proposal: ImageProposal, x: float, y: float, positive: bool, class_id: int
) -> tuple[int, ProposedObject] | None:
    """The object that a person means, or a new one; None where there is nothing to take from."""
    index = _meant(proposal, x, y, positive)
    if index is not None:
        return index, proposal.objects[index]
    return (len(proposal.objects), ProposedObject(class_id, Prompts())) if positive else None


def _meant(proposal: ImageProposal, x: float, y: float, positive: bool) -> int | None:
    """Which object a prompt at a point corrects; None is a new one (or none, if negative)."""
    order = list(range(len(proposal.objects)))
    if proposal.active is not None:
        order = [proposal.active, *(index for index in order if index != proposal.active)]
    for index in order:
        if proposal.objects[index].mask_at(x, y):
            return index
    for index in order:
        if proposal.objects[index].is_near(x, y):
            return index
    if proposal.active is not None and not proposal.objects[proposal.active].prompts.is_empty:
        return proposal.active
    return None if positive or not order else order[0]


def _seeded(item: ProposedObject) -> Prompts:
    """The object's prompts with its last mask as ``mask_input``, and a phrase's box as its box."""
    prompts = item.prompts
    if item.proposal is None:
        return prompts
    box = item.proposal.box if prompts.is_empty and item.has_mask else prompts.box
    return replace(prompts, box=box, mask_input=item.proposal.low_res_logits)


def _correction(item: ProposedObject, x: float, y: float, positive: bool) -> Prompts:
    prompts = _seeded(item)
    box = prompts.box
    if positive and box is not None and not _inside(box, x, y):
        box = None  # the person says that the object goes on beyond the box
    point = np.array([[x, y]], np.float32)
    return replace(
        prompts,
        point_coords=np.concatenate([prompts.point_coords, point]),
        point_labels=np.append(prompts.point_labels, np.int32(positive)).astype(np.int32),
        box=box,
    )


def _inside(box: FloatArray, x: float, y: float) -> bool:
    return bool(box[0] <= x <= box[2] and box[1] <= y <= box[3])
