"""Merging, subtracting, splitting: what a person does to whole objects, proposed or accepted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ...core.types import BoolArray, FloatArray, Prompts
from ...io.labels import STEP, class_of, code_of, free_numbers, values_in
from ...project.records import ImageProposal, LabelMap, ProposedObject
from ...segmentation.propose import Proposal
from . import regions

if TYPE_CHECKING:
    from ..session import AnnotationSession


TWO_OBJECTS = "Draw the line from one object to another; all that it touches become one."
NOT_ACROSS = "Draw the line right across the object, from outside to outside."
ONE_PIECE = "This object is in one piece; draw a line across it to split it."
NOTHING_HERE = "There is no object here."
NO_OVERLAP = "These two do not overlap, so there is nothing to take away."


class Objects:
    """``session.objects``: whole objects, named by a line (M, 2) or a point in XY pixels.

    ``accepted`` says whether objects of the label map are meant, or proposed ones. Each action is
    one edit; where it cannot be done, a sentence says why and nothing changes.
    """

    def __init__(self, session: AnnotationSession) -> None:
        self._session = session

    def merge(self, line: FloatArray, accepted: bool = False) -> None:
        """Make one object of all that a line touches; the first gives class and number."""
        self._session.flushing.emit()
        labels = self._session.labels
        if labels is None or self._session.is_waiting:
            return
        if accepted:
            found = regions.objects_along(labels, line, self._session.settings.labelling)
            values = [int(labels[mask][0]) for mask in found]
            if len(found) < 2:
                self._session.say(TWO_OBJECTS)
            elif len(set(values)) < 2:
                self._session.say("Pieces of one class are one label already; nothing to merge.")
            else:
                after = labels.copy()
                after[np.any(found, axis=0)] = values[0]
                self._session.editing.relabel("merge", after)
            return
        touched = self._proposed_along(line)
        if len(touched) < 2:
            self._session.say(TWO_OBJECTS)
            return
        items = [self._session.proposal.objects[index] for index in touched]
        whole = by_hand(items[0], np.any([_mask(item) for item in items], axis=0))
        self._propose_anew("merge", touched, (whole,))

    def subtract(self, line: FloatArray, accepted: bool = False, keep: bool = False) -> None:
        """Take the object at a line's beginning away from the one at its end.

        Args:
            line: from what is taken away to what it is taken from.
            accepted: the second is an object of the label map; the first is a proposed one.
            keep: leave the first where it is proposed; else it goes.
        """
        self._session.flushing.emit()
        session, labels = self._session, self._session.labels
        if labels is None or session.is_waiting:
            return
        start = (float(line[0, 0]), float(line[0, 1]))
        end = (float(line[-1, 0]), float(line[-1, 1]))
        labelling = session.settings.labelling
        if accepted:
            taken = self._proposed_at(*start)
            whole = regions.object_at(labels, *end, labelling)
            away = None if taken is None else _mask(session.proposal.objects[taken])
        else:
            target = self._proposed_at(*end)
            taken = self._proposed_at(*start, other_than=target)
            whole = None if target is None else _mask(session.proposal.objects[target])
            away = (
                regions.object_at(labels, *start, labelling)
                if taken is None
                else _mask(session.proposal.objects[taken])
            )
        if whole is None or away is None:
            session.say("Draw from the object that is taken away to the one that it is taken from.")
            return
        if not (whole & away).any():
            session.say(NO_OVERLAP)
            return
        gone = () if taken is None or keep else (taken,)
        if accepted:
            after = labels.copy()
            after[whole & away] = 0
            session.editing.relabel("subtract", after, self._without(gone))
        else:
            assert target is not None
            rest = by_hand(session.proposal.objects[target], whole & ~away)
            self._propose_anew("subtract", (target, *gone), (rest,))

    def split(self, line: FloatArray, accepted: bool = False) -> None:
        """Cut an object along a line; at a single point, take its pieces apart.

        Pieces of an accepted object get numbers of their own in instance labelling. In semantic
        labelling a gap of one pixel tells them apart from then on.
        """
        self._session.flushing.emit()
        session, labels = self._session, self._session.labels
        if labels is None or session.is_waiting:
            return
        if accepted:
            self._split_accepted(labels, line)
            return
        touched = self._proposed_along(line)
        if not touched:
            session.say(NOTHING_HERE)
            return
        made: list[ProposedObject] = []
        severed: list[int] = []
        for index in touched:
            item = session.proposal.objects[index]
            parts = _parts(_mask(item), line)
            if len(parts) > 1:
                severed.append(index)
                made.append(by_hand(item, parts[0]))
                made.extend(replace(by_hand(item, part), number=0) for part in parts[1:])
        if not severed:
            session.say(NOT_ACROSS if len(line) > 1 else ONE_PIECE)
        else:
            self._propose_anew("split", tuple(severed), tuple(made))

    def _split_accepted(self, labels: LabelMap, line: FloatArray) -> None:
        session, labelling = self._session, self._session.settings.labelling
        found = regions.objects_along(labels, line, labelling)
        if not found:
            session.say(NOTHING_HERE)
            return
        after = labels.copy()
        for mask in found:
            parts = _parts(mask, line)
            if len(parts) < 2:
                continue
            value = int(labels[mask][0])
            if labelling == "semantic":
                after[mask & ~regions.with_gap(parts)] = 0
                continue
            class_id = class_of(value, labelling)
            rest = parts if value < STEP else parts[1:]
            for part, number in zip(
                rest, free_numbers(values_in(after), class_id, len(rest)), strict=False
            ):
                code = code_of(class_id, number)
                after = after.astype(np.promote_types(after.dtype, np.min_scalar_type(code)))
                after[part] = code
        if np.array_equal(after, labels):
            session.say(NOT_ACROSS if len(line) > 1 else ONE_PIECE)
        else:
            session.editing.relabel("split", after)

    def delete(self, x: float, y: float) -> None:
        """Take one accepted object (in semantic labelling: one component) out of the labels."""
        found = self._accepted_at(x, y)
        if found is not None and self._session.labels is not None:
            after = self._session.labels.copy()
            after[found] = 0
            self._session.editing.relabel("delete object", after)

    def lift(self, x: float, y: float) -> None:
        """Make an accepted object a proposed one again, so that prompts can correct it."""
        session, found = self._session, self._accepted_at(x, y)
        if found is None or session.labels is None:
            return
        value, labelling = int(session.labels[found][0]), session.settings.labelling
        item = taken_over(class_of(value, labelling), found, value % STEP if value >= STEP else 0)
        after = session.labels.copy()
        after[found] = 0
        objects = (*session.proposal.objects, item)
        proposal = replace(session.proposal, objects=objects, active=len(objects) - 1)
        session.editing.relabel("take up again", after, proposal, reopen=True)

    def proposed_under_work(self, at: tuple[float, float] | None) -> int | None:
        """The index of the proposed object that a person means.

        At a point it is the one there, or the active one where that is near; without a point it is
        the active one, or the only one.
        """
        proposal = self._session.proposal
        if at is None:
            return 0 if proposal.active is None and len(proposal.objects) == 1 else proposal.active
        index = self._proposed_at(*at)
        near = proposal.current is not None and proposal.current.is_near(*at)
        if index is None and near and self.accepted_under_work(at) is None:
            return proposal.active
        return index

    def accepted_under_work(self, at: tuple[float, float] | None) -> BoolArray | None:
        """The accepted object (H, W) that a person means, or None.

        It is the one at a point; without a point, and with nothing proposed, the one that was
        pointed at last, or the only one.
        """
        session = self._session
        if session.labels is None:
            return None
        labels, labelling = session.labels, session.settings.labelling
        if at is None and not session.proposal.objects:
            at = session.painting.pointed
            if at is None and labels.any():
                row, column = np.argwhere(labels)[0]
                only = regions.object_at(labels, column, row, labelling)
                return None if only is None or (labels[~only] > 0).any() else only
        return None if at is None else regions.object_at(labels, *at, labelling)

    def _accepted_at(self, x: float, y: float) -> BoolArray | None:
        session = self._session
        if session.labels is None or session.is_waiting:
            return None
        session.flushing.emit()
        found = regions.object_at(session.labels, x, y, session.settings.labelling)
        if found is None:
            session.say(NOTHING_HERE)
        return found

    def _proposed_at(self, x: float, y: float, other_than: int | None = None) -> int | None:
        """The proposed object at a point; of several the smallest, which lies within the others."""
        objects = self._session.proposal.objects
        hit = [n for n, item in enumerate(objects) if n != other_than and item.mask_at(x, y)]
        return min(hit, key=lambda n: np.count_nonzero(_mask(objects[n])), default=None)

    def _proposed_along(self, line: FloatArray) -> tuple[int, ...]:
        """The proposed objects that a line touches, in the order in which it meets them."""
        objects = self._session.proposal.objects
        met: dict[int, None] = {}
        for x, y in regions.along(line):
            met.update({n: None for n, item in enumerate(objects) if item.mask_at(x, y)})
        return tuple(met)

    def _without(self, gone: tuple[int, ...]) -> ImageProposal | None:
        """The proposal without some of its objects, or None where it stays."""
        if not gone:
            return None
        objects = self._session.proposal.objects
        kept = tuple(item for n, item in enumerate(objects) if n not in gone)
        return replace(self._session.proposal, objects=kept, active=None)

    def _propose_anew(
        self, name: str, gone: tuple[int, ...], made: tuple[ProposedObject, ...]
    ) -> None:
        """Put objects that have pixels in the place of others; a single new one is the active."""
        proposal = self._without(gone)
        assert proposal is not None
        objects = (*proposal.objects, *(item for item in made if item.has_mask))
        active = len(objects) - 1 if len(made) == 1 and made[0].has_mask else None
        self._session.prompting.edit_proposal(
            name, replace(proposal, objects=objects, active=active)
        )


def by_hand(item: ProposedObject, mask: BoolArray) -> ProposedObject:
    """A proposed object with another mask, as a person cut or merged it."""
    old = item.proposal
    score, phrase = (1.0, "") if old is None else (old.score, old.phrase)
    proposal = Proposal(mask, regions.box_of(mask), score, phrase, score, regions.as_logits(mask))
    return ProposedObject(item.class_id, Prompts(), proposal, by_hand=True, number=item.number)


def taken_over(class_id: int, mask: BoolArray, number: int = 0) -> ProposedObject:
    """A mask that was there before as a proposed object; it keeps its number if that is free."""
    return by_hand(ProposedObject(class_id, Prompts(), number=number), mask)


def _mask(item: ProposedObject) -> BoolArray:
    assert item.proposal is not None
    return item.proposal.mask


def _parts(mask: BoolArray, line: FloatArray) -> list[BoolArray]:
    return regions.cut(mask, line) if len(line) > 1 else regions.pieces(mask)
