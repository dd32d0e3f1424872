"""Proposals on the current image, not yet accepted: immutable, so undo is a swap."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..core.geometry import box_iou, box_within
from ..core.types import FloatArray, Prompts
from ..project.records import ImageProposal, ProposedObject
from .commands.regions import as_logits, box_of, deepest, lasso_mask

REDRAWN = 0.8
"""A lasso round this share of an object draws it anew instead of adding to it."""


def add_point(
    proposal: ImageProposal, x: float, y: float, positive: bool, class_id: int
) -> ImageProposal:
    """The proposal after a click: it corrects the object that it means, or begins a new one."""
    meant = _meant_or_new(proposal, x, y, positive, class_id)
    if meant is None:
        return proposal
    index, item = meant
    prompts = _correction(item, x, y, positive)
    return replace(proposal.with_object(index, replace(item, prompts=prompts)), pending=True)


def without_object_at(proposal: ImageProposal, x: float, y: float) -> ImageProposal:
    """The proposal without the object under a point (the active one first); the same if none is."""
    order = sorted(range(len(proposal.objects)), key=lambda index: index != proposal.active)
    index = next((index for index in order if proposal.objects[index].mask_at(x, y)), None)
    if index is None:
        return proposal
    return _without(proposal, index)


def add_scribble(
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


def add_box(
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


def add_lasso(
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
            return _without(proposal, index)
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
        return _without(proposal, proposal.active)
    return replace(proposal, pending=False)


def _without(proposal: ImageProposal, index: int) -> ImageProposal:
    objects = (*proposal.objects[:index], *proposal.objects[index + 1 :])
    return replace(proposal, objects=objects, active=None, pending=False)


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
