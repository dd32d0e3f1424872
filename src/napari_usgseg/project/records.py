"""Records of a project: proposals, patches, classes, edits and the events of the history.

The history is a list of events that is only added to. The label maps, the states of the images, the
classes and the proposals are what the events make of them. ``docs/format.md`` says what each kind
of event holds.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from ..core.geometry import value_at
from ..core.types import BoolArray, LabelClass, Prompts
from ..io.labels import LabelMap
from ..segmentation.propose import Proposal

FileStat = tuple[int, int]
"""Of a file: its bytes, and when it was written last (ns). As it was, it has the same content."""

ROWS_AT_ONCE = 32
NEAR, LEAST_NEAR = 0.25, 0.03
"""A click outside an object's box still means it within this fraction of the box's side, and within
this fraction of the image's longer side."""
AWAITED_NEAR = 0.1
"""The second of these, where nothing is known of the object but what was pointed at."""

PROPAGATE = "propagate"
"""Name of the edit that proposes on frames of a loop what is on others; nobody asked on each."""
FIND_ON_FRAMES = "find on frames"
"""Name of the edit that proposes on frames of a loop what a phrase finds, or what was learned."""
BY_RUNS = (PROPAGATE, FIND_ON_FRAMES)
"""Names of the edits of runs over a loop."""


class ImageState(StrEnum):
    """State of an image; ``proposed`` and ``empty`` follow from others and are never stored."""

    UNTOUCHED = "untouched"
    PROPOSED = "proposed"
    ACCEPTED = "committed"
    EMPTY = "empty"
    SKIPPED = "skipped"
    FLAGGED = "flagged"


@dataclass(frozen=True, slots=True, eq=False)
class ProposedObject:
    """One object in the making.

    Attributes:
        class_id: the class that it will have when accepted.
        prompts: what the person pointed at; empty where a phrase found it.
        proposal: the mask and its score, or None while the first answer is awaited.
        by_hand: the person merged, cut or took over its mask; a new search does not replace it.
        number: of the object in an instance map that it wants to keep; 0 takes the next free one.
        ppn: number of the prompt predictor that made the mask, or joined the person's prompts;
            below 0 a weak proposal's (``versions.weak_number``); 0 where none did.
        drawn: (H, W) bool, where the newest prompt is a lasso: its inside, out of which the answer
            does not go; else None.
        is_asked: its newest prompt has no answer yet.
    """

    class_id: int
    prompts: Prompts
    proposal: Proposal | None = None
    by_hand: bool = False
    number: int = 0
    ppn: int = 0
    drawn: BoolArray | None = None
    is_asked: bool = False

    @property
    def has_mask(self) -> bool:
        """True where there is something to accept."""
        return self.proposal is not None and bool(self.proposal.mask.any())

    @property
    def corrected(self) -> BoolArray | None:
        """The mask (H, W) that the newest prompt corrects; None where it asks for another one."""
        # By identity: a correction feeds back the very logits of the proposal; imported or copied
        # ones are no answer that is corrected.
        if self.proposal is None or self.prompts.mask_input is not self.proposal.low_res_logits:
            return None
        return self.proposal.mask

    def mask_at(self, x: float, y: float) -> bool:
        """True where the object's mask covers a point (XY pixels)."""
        return self.proposal is not None and bool(value_at(self.proposal.mask, x, y))

    def is_near(self, x: float, y: float, size_hw: tuple[int, int]) -> bool:
        """True where a point (XY pixels) lies within the object's reach in an image of (H, W)."""
        least = max(size_hw) * (LEAST_NEAR if self.has_mask else AWAITED_NEAR)
        if self.proposal is not None and self.has_mask:
            low, high = self.proposal.box[:2], self.proposal.box[2:]
        else:
            box = self.prompts.box
            corners = np.zeros((0, 2)) if box is None else box.reshape(2, 2)
            lines = [line for line, _ in self.prompts.scribbles]
            at = np.concatenate([self.prompts.point_coords, corners, *lines])
            if not len(at):
                return False
            low, high = at.min(0), at.max(0)
        reach = np.maximum(NEAR * (high - low + 1), least)
        return bool(((low - reach <= (x, y)) & (np.array((x, y)) <= high + reach)).all())


@dataclass(frozen=True, slots=True, eq=False)
class ImageProposal:
    """All proposed objects of an image.

    Attributes:
        objects: in the order in which they came.
        active: index of the object that the next prompt corrects, or None.
        model_id: who made the masks.
        notes: sentences for the person ("No 'cyst' found in this image ...").
    """

    objects: tuple[ProposedObject, ...] = ()
    active: int | None = None
    model_id: str = ""
    notes: tuple[str, ...] = ()

    @property
    def pending(self) -> bool:
        """True while the newest prompt of an object has no answer yet."""
        return any(item.is_asked for item in self.objects)

    @property
    def has_masks(self) -> bool:
        """True where there is something to accept."""
        return any(item.has_mask for item in self.objects)

    @property
    def current(self) -> ProposedObject | None:
        """The active object."""
        return None if self.active is None else self.objects[self.active]

    def with_object(self, index: int, item: ProposedObject) -> ImageProposal:
        """The same with object ``index`` (or a new one, at the end) replaced and active."""
        objects = (*self.objects[:index], item, *self.objects[index + 1 :])
        return replace(self, objects=objects, active=index)

    def without(self, *gone: int) -> ImageProposal:
        """The same without some objects; the active one stays if it is there."""
        kept = [n for n in range(len(self.objects)) if n not in gone]
        active = kept.index(self.active) if self.active in kept else None
        return replace(self, objects=tuple(self.objects[n] for n in kept), active=active)

    def index_of(self, item: ProposedObject) -> int | None:
        """Where an object is, this very one; None where it is not."""
        return next((n for n, other in enumerate(self.objects) if other is item), None)

    def putting(self, item: ProposedObject, other: ProposedObject | None) -> ImageProposal:
        """The same with another object, or none, in the place of one; itself where that is not."""
        index = self.index_of(item)
        if index is None:
            return self
        if other is None:
            return self.without(index)
        return replace(self.with_object(index, other), active=self.active)


@dataclass(frozen=True, slots=True, eq=False)
class LabelPatch:
    """The part of a label map that changed.

    ``before`` and ``after`` are of one shape; their first pixel is at (``row``, ``column``) of a
    map of ``size_hw``.
    """

    row: int
    column: int
    before: LabelMap
    after: LabelMap
    size_hw: tuple[int, int]

    def inverse(self) -> LabelPatch:
        """The patch that takes this one back."""
        return replace(self, before=self.after, after=self.before)

    def applied(self, labels: LabelMap | None) -> LabelMap:
        """A label map (H, W) with the patch in it; None or another size begins as zeros."""
        if labels is None or labels.shape != self.size_hw:
            labels = np.zeros(self.size_hw, np.uint8)
        height, width = self.after.shape
        # A new instance may pass 255, and the map then becomes uint16.
        changed = labels.astype(np.promote_types(labels.dtype, self.after.dtype))
        changed[self.row : self.row + height, self.column : self.column + width] = self.after
        return changed

    def fits(self, labels: LabelMap) -> bool:
        """True where the map still holds what the patch expects to replace."""
        height, width = self.before.shape
        here = labels[self.row : self.row + height, self.column : self.column + width]
        return here.shape == self.before.shape and bool(np.array_equal(here, self.before))


def difference(before: LabelMap, after: LabelMap) -> LabelPatch | None:
    """The smallest patch from one label map to another of the same shape; None if equal."""
    height, width = after.shape
    changed = [  # by parts: a person waits for it
        (before[row : row + ROWS_AT_ONCE] != after[row : row + ROWS_AT_ONCE]).any(axis=1)
        for row in range(0, height, ROWS_AT_ONCE)
    ]
    rows = np.flatnonzero(np.concatenate(changed))
    if len(rows) == 0:
        return None
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero((before[top:bottom] != after[top:bottom]).any(axis=0))
    left = int(columns[0])
    part = np.s_[top:bottom, left : int(columns[-1]) + 1]
    return LabelPatch(top, left, before[part].copy(), after[part].copy(), (height, width))


@dataclass(frozen=True, slots=True)
class ClassTable:
    """The classes and which one is picked.

    ``last`` is the greatest id that a class that is gone has had; no other class gets it, for what
    was learned of the one would be taken for the other.
    """

    classes: tuple[LabelClass, ...]
    active: int
    last: int = 0

    def get(self, class_id: int) -> LabelClass | None:
        """The class with an id, or None."""
        return next((item for item in self.classes if item.class_id == class_id), None)

    def picking(self, class_id: int) -> ClassTable:
        """The same classes with another one picked; the same table where it is that one."""
        return self if class_id == self.active else replace(self, active=class_id)


@dataclass(frozen=True, slots=True, eq=False)
class Edit:
    """One thing that a person did; each part is (before, after), or None where not touched.

    ``image_id`` is the image on which it was done, or None for classes and for an edit of several
    images; ``parts`` are what such a one does on each, and ``number`` is the serial of the event of
    a part.
    """

    name: str
    image_id: str | None = None
    proposal: tuple[ImageProposal, ImageProposal] | None = None
    patch: LabelPatch | None = None
    state: tuple[ImageState, ImageState] | None = None
    table: tuple[ClassTable, ClassTable] | None = None
    parts: tuple[Edit, ...] = ()
    number: int | None = None

    def inverse(self) -> Edit:
        """The edit that takes this one back."""
        return Edit(
            self.name,
            self.image_id,
            None if self.proposal is None else self.proposal[::-1],
            None if self.patch is None else self.patch.inverse(),
            None if self.state is None else self.state[::-1],
            None if self.table is None else self.table[::-1],
            tuple(part.inverse() for part in self.parts),
            self.number,
        )


class EventKind(StrEnum):
    """Kind of an event of the history; ``docs/format.md`` says what each holds."""

    EDIT = "edit"
    ANSWER = "answer"
    UNDO = "undo"
    REDO = "redo"
    TAKEN_BACK = "taken back"
    FORGET = "forget"
    OPEN = "open"
    LEAVE = "leave"
    SEARCH = "search"
    PROPOSAL = "proposal"
    EXPORT = "export"
    SETTINGS = "settings"
    WRITTEN = "written"
    EXTERNAL = "external"
    IMPORT = "import"
    IMAGE = "image"


@dataclass(frozen=True, slots=True, eq=False)
class Event:
    """One thing to be written into the history.

    Attributes:
        serial: a number that grows with every event of an annotator, so that an event that is sent
            twice is kept once. An edit's serial is the number of its step.
        kind: what it is.
        image_id: of the image that it belongs to, or None.
        edit: of kind ``edit``.
        step: the serial of the edit that is answered, undone, redone or taken back, or that an edit
            is a part of.
        proposal: what is proposed on the image from now on (``answer``, ``undo``, ``redo``,
            ``taken back``, ``proposal``), or None where the event does not touch it.
        body: anything else, JSON values.
        at: seconds since 1970, UTC.
    """

    serial: int
    kind: EventKind
    image_id: str | None = None
    edit: Edit | None = None
    step: int | None = None
    proposal: ImageProposal | None = None
    body: dict[str, Any] = field(default_factory=dict)
    at: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class Step:
    """An edit of the history as it is listed: ``number`` is the serial of its event."""

    number: int
    name: str
    image_id: str | None


@dataclass(frozen=True, slots=True)
class Steps:
    """The edits of an annotator: ``done`` in order, ``undone`` in the order of redoing.

    ``serial`` is the last number that was given to an event.
    """

    done: tuple[Step, ...] = ()
    undone: tuple[Step, ...] = ()
    serial: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class StoredEvent:
    """An event as it is read back: ``body`` is the JSON that ``docs/format.md`` describes.

    ``seq`` orders the events of all annotators; ``annotator`` is "" for the first; ``serial`` is
    None for events of the program's own.
    """

    seq: int
    at: float
    annotator: str
    kind: EventKind
    image_id: str | None
    step: int | None
    body: dict[str, Any]
    serial: int | None = None


@dataclass(frozen=True, slots=True)
class SaveReport:
    """Report of a save: where the label map is, and where a version that was not ours went.

    Attributes:
        path: of the label map that was written last, or None where none is (any more).
        backup: of the version that somebody else had written there meanwhile, or None.
    """

    path: Path | None
    backup: Path | None = None
