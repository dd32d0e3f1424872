"""What is proposed for the current image and not yet accepted: immutable, so undo is a swap."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..geometry import box_iou, clip_box
from ..pipeline.propose import Proposal
from ..types import FloatArray, Prompts

NEAR = 0.25
"""A click this fraction of a box's side outside it still means that object."""


@dataclass(frozen=True, slots=True, eq=False)
class DraftObject:
    """One object in the making.

    Attributes:
        class_id: the class that it will have when accepted.
        prompts: what the person pointed at; empty where a phrase found it.
        proposal: the mask and its score, or None while the first answer is awaited.
        by_hand: the person merged, cut or took over its mask; a new search does not replace it.
        number: of the object in an instance map that it wants to keep; 0 takes the next free one.
    """

    class_id: int
    prompts: Prompts
    proposal: Proposal | None = None
    by_hand: bool = False
    number: int = 0

    @property
    def has_mask(self) -> bool:
        """True where there is something to accept."""
        return self.proposal is not None and bool(self.proposal.mask.any())

    def mask_at(self, x: float, y: float) -> bool:
        """True where the object's mask covers a point (XY pixels)."""
        if self.proposal is None:
            return False
        height, width = self.proposal.mask.shape
        column, row = round(x), round(y)
        inside = 0 <= row < height and 0 <= column < width
        return inside and bool(self.proposal.mask[row, column])

    def is_near(self, x: float, y: float) -> bool:
        """True where a point (XY pixels) lies in the object's box, a little enlarged."""
        if self.proposal is None:
            return False
        x0, y0, x1, y1 = (float(value) for value in self.proposal.box)
        dx, dy = NEAR * (x1 - x0 + 1), NEAR * (y1 - y0 + 1)
        return x0 - dx <= x <= x1 + dx and y0 - dy <= y <= y1 + dy


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """All proposed objects of an image.

    Attributes:
        objects: in the order in which they came.
        active: index of the object that the next prompt corrects, or None.
        pending: True while the active object's newest prompt has no answer yet.
        model_id: who made the masks.
        notes: sentences for the person ("No 'cyst' found in this image ...").
    """

    objects: tuple[DraftObject, ...] = ()
    active: int | None = None
    pending: bool = False
    model_id: str = ""
    notes: tuple[str, ...] = ()

    @property
    def has_masks(self) -> bool:
        """True where there is something to accept."""
        return any(item.has_mask for item in self.objects)

    @property
    def current(self) -> DraftObject | None:
        """The active object."""
        return None if self.active is None else self.objects[self.active]

    def with_object(self, index: int, item: DraftObject) -> Draft:
        """The same draft with object ``index`` (or a new one, at the end) replaced and active."""
        objects = (*self.objects[:index], item, *self.objects[index + 1 :])
        return replace(self, objects=objects, active=index)


def add_point(draft: Draft, x: float, y: float, positive: bool, class_id: int) -> Draft:
    """The draft after a click: it corrects the object that it means, or begins a new one."""
    index = _meant(draft, x, y, positive)
    if index is None:
        if not positive:
            return draft
        index, item = len(draft.objects), DraftObject(class_id, Prompts())
    else:
        item = draft.objects[index]
    prompts = _correction(item, x, y, positive)
    return replace(draft.with_object(index, replace(item, prompts=prompts)), pending=True)


def without_object_at(draft: Draft, x: float, y: float) -> Draft:
    """The draft without the object under a point (the active one first); the same if none is."""
    order = sorted(range(len(draft.objects)), key=lambda index: index != draft.active)
    index = next((index for index in order if draft.objects[index].mask_at(x, y)), None)
    if index is None:
        return draft
    return replace(
        draft,
        objects=(*draft.objects[:index], *draft.objects[index + 1 :]),
        active=None,
        pending=False,
    )


def add_scribble(draft: Draft, line: FloatArray, positive: bool, class_id: int) -> Draft:
    """The draft after a scribble (M, 2) XY; its middle says which object it means."""
    x, y = (float(value) for value in line[len(line) // 2])
    index = _meant(draft, x, y, positive)
    if index is None:
        if not positive:
            return draft
        index, item = len(draft.objects), DraftObject(class_id, Prompts())
    else:
        item = draft.objects[index]
    prompts = _seeded(item)
    box = prompts.box
    if positive and box is not None and not all(_inside(box, px, py) for px, py in line):
        box = None
    scribbles = (*prompts.scribbles, (np.asarray(line, np.float32), int(positive)))
    prompts = replace(prompts, scribbles=scribbles, box=box)
    return replace(draft.with_object(index, replace(item, prompts=prompts)), pending=True)


def add_box(draft: Draft, box: FloatArray, size_hw: tuple[int, int], class_id: int) -> Draft:
    """The draft after a box: over the active object it is that one's new box, else a new object."""
    box = clip_box(box, size_hw)
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
