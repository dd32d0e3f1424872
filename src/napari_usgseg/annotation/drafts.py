"""Proposals on the current image, not yet accepted: immutable, so undo is a swap."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..core.geometry import box_iou, box_within
from ..core.types import FloatArray, Prompts
from ..project.records import Draft, DraftObject
from .commands.regions import as_logits, box_of, deepest, lasso_mask

REDRAWN = 0.8
"""A lasso round this share of an object draws it anew instead of adding to it."""


def add_point(draft: Draft, x: float, y: float, positive: bool, class_id: int) -> Draft:
    """The draft after a click: it corrects the object that it means, or begins a new one."""
    meant = _meant_or_new(draft, x, y, positive, class_id)
    if meant is None:
        return draft
    index, item = meant
    prompts = _correction(item, x, y, positive)
    return replace(draft.with_object(index, replace(item, prompts=prompts)), pending=True)


def without_object_at(draft: Draft, x: float, y: float) -> Draft:
    """The draft without the object under a point (the active one first); the same if none is."""
    order = sorted(range(len(draft.objects)), key=lambda index: index != draft.active)
    index = next((index for index in order if draft.objects[index].mask_at(x, y)), None)
    if index is None:
        return draft
    return _without(draft, index)


def add_scribble(draft: Draft, line: FloatArray, positive: bool, class_id: int) -> Draft:
    """The draft after a scribble (M, 2) XY; its middle says which object it means."""
    x, y = (float(value) for value in line[len(line) // 2])
    meant = _meant_or_new(draft, x, y, positive, class_id)
    if meant is None:
        return draft
    index, item = meant
    prompts = _seeded(item)
    box = prompts.box
    if positive and box is not None and not all(_inside(box, px, py) for px, py in line):
        box = None
    scribbles = (*prompts.scribbles, (np.asarray(line, np.float32), int(positive)))
    prompts = replace(prompts, scribbles=scribbles, box=box)
    return replace(draft.with_object(index, replace(item, prompts=prompts)), pending=True)


def add_box(draft: Draft, box: FloatArray, size_hw: tuple[int, int], class_id: int) -> Draft:
    """The draft after a box: over the active object it is that one's new box, else a new object.

    The same draft where the box has no area or covers none of the image.
    """
    part = box_within(box, size_hw)
    if part is None or min(part[2] - part[0], part[3] - part[1]) <= 0:
        return draft
    box = part
    index, current = draft.active, draft.current
    anchor = None
    if current is not None:
        anchor = current.prompts.box
        if anchor is None and current.proposal is not None:
            anchor = current.proposal.box
    elsewhere = anchor is None or float(box_iou(box[None], anchor[None])[0, 0]) <= 0
    if index is None or current is None or elsewhere:
        index = len(draft.objects)
        item = DraftObject(class_id, Prompts(box=box))
    else:
        item = replace(current, prompts=replace(current.prompts, box=box, mask_input=None))
    return replace(draft.with_object(index, item), pending=True)


def add_lasso(
    draft: Draft, polygon: FloatArray, positive: bool, size_hw: tuple[int, int], class_id: int
) -> Draft:
    """The draft after a lasso (M, 2) XY; the object that it covers most of is the one it means.

    A new object is its inside as ``mask_input`` and its box. Of an object that is there it adds or
    takes away a part, or draws it anew where it goes round nearly all of it.
    """
    inside = lasso_mask(polygon, size_hw)
    shares = [
        0 if item.proposal is None else int(np.count_nonzero(item.proposal.mask & inside))
        for item in draft.objects
    ]
    index = shares.index(max(shares)) if any(shares) else None
    if not inside.any() or (index is None and not positive):
        return draft
    item = DraftObject(class_id, Prompts()) if index is None else draft.objects[index]
    index = len(draft.objects) if index is None else index
    mask = inside
    prompts = replace(item.prompts, box=None, mask_input=None)
    if item.proposal is not None and not (
        positive and shares[index] > REDRAWN * np.count_nonzero(item.proposal.mask)
    ):
        old = item.proposal.mask
        mask = old | inside if positive else old & ~inside
        if not mask.any():
            return _without(draft, index)
        changed = mask ^ old
        if not changed.any():
            return draft
        prompts = replace(
            prompts,
            point_coords=np.concatenate([prompts.point_coords, deepest(changed)[None]]),
            point_labels=np.append(prompts.point_labels, np.int32(positive)).astype(np.int32),
        )
    elif item.proposal is not None:
        prompts = Prompts()
    prompts = replace(prompts, box=box_of(mask), mask_input=as_logits(mask))
    return replace(draft.with_object(index, replace(item, prompts=prompts)), pending=True)


def unasked(draft: Draft) -> Draft:
    """A pending draft when its prompt is called off and what was there before is not known."""
    if draft.active is not None and draft.objects[draft.active].proposal is None:
        return _without(draft, draft.active)
    return replace(draft, pending=False)


def _without(draft: Draft, index: int) -> Draft:
    objects = (*draft.objects[:index], *draft.objects[index + 1 :])
    return replace(draft, objects=objects, active=None, pending=False)


def _meant_or_new(
    draft: Draft, x: float, y: float, positive: bool, class_id: int
) -> tuple[int, DraftObject] | None:
    """The object that a person means, or a new one; None where there is nothing to take from."""
    index = _meant(draft, x, y, positive)
    if index is not None:
        return index, draft.objects[index]
    return (len(draft.objects), DraftObject(class_id, Prompts())) if positive else None


def _meant(draft: Draft, x: float, y: float, positive: bool) -> int | None:
    """Which object a prompt at a point corrects; None is a new one (or none, if negative)."""
    order = list(range(len(draft.objects)))
    if draft.active is not None:
        order = [draft.active, *(index for index in order if index != draft.active)]
    for index in order:
        if draft.objects[index].mask_at(x, y):
            return index
    for index in order:
        if draft.objects[index].is_near(x, y):
            return index
    if draft.active is not None and not draft.objects[draft.active].prompts.is_empty:
        return draft.active
    return None if positive or not order else order[0]


def _seeded(item: DraftObject) -> Prompts:
    """The object's prompts with its last mask as ``mask_input``, and a phrase's box as its box."""
    prompts = item.prompts
    if item.proposal is None:
        return prompts
    box = item.proposal.box if prompts.is_empty and item.has_mask else prompts.box
    return replace(prompts, box=box, mask_input=item.proposal.low_res_logits)


def _correction(item: DraftObject, x: float, y: float, positive: bool) -> Prompts:
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
