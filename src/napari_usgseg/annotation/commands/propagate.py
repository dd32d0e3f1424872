"""Propagation: what a run over a loop begins from, which frames it goes to, and what it proposes.

Frames that a person accepted, drew on or has a part in are fixed points. Of the others those are
wanted on which nothing was propagated yet, and those that lie next to a fixed point which is
another than it was then: so a correction goes as far as the next fixed points, and no farther.
"""

from __future__ import annotations

import hashlib
from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...core.types import BoolArray, FrameObjects, Prompts
from ...io.labels import Labelling, LabelMap, class_of, instance_of, values_in
from ...project.records import ImageProposal, ImageState, ProposedObject
from ...segmentation.propagation.reach import EVERYWHERE, Reach
from ...segmentation.propose import Proposal, as_logits
from .. import regions
from ..state import Refused

NO_KEYFRAME = (
    "Nothing to propagate: label an object on one frame of this loop first, by a click, a box or a "
    "phrase."
)
UP_TO_DATE = (
    "Every frame is labelled, or propagated from the keyframes as they are. Correct a frame, then "
    "propagate again."
)
SIZES_DIFFER = "The frames of this loop differ in size, so that nothing can be propagated."
LEAST_SHARE = 0.0005
"""A piece with a smaller share of the image is no object of its own; the protocol's figure."""
LEFT_ALONE = (ImageState.SKIPPED, ImageState.FLAGGED)


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """Standing of a frame before a run.

    Attributes:
        is_fixed: a person has a part in what is on it.
        is_open: it may be proposed on; not where a person set it aside, or flagged it.
        came_from: where that came from which is propagated on it: the content of each keyframe
            (``content_key``) by its frame; None where nothing was.
        was: contents that were propagated to it at some time.
    """

    is_fixed: bool
    is_open: bool
    came_from: Mapping[int, str] | None = None
    was: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A run that is to be made.

    Attributes:
        keyframes: masks (H, W) by the number of their object, by frame. The number is a value of
            the label map that the frame has, or would have if it were accepted.
        wanted: the frames to go to, in order.
        came_from: of each wanted frame: the content of the keyframes next to it, by frame.
    """

    keyframes: dict[int, dict[int, BoolArray]] = field(default_factory=dict)
    wanted: tuple[int, ...] = ()
    came_from: dict[int, dict[int, str]] = field(default_factory=dict)


def plan(
    standings: Sequence[Standing],
    here: int,
    labels_of: Callable[[int], LabelMap],
    within: range | None = None,
    reach: Reach = EVERYWHERE,
) -> Plan:
    """The run that is due in a loop.

    Args:
        standings: of all frames.
        here: the frame that is shown; where a person has a part in none, it is what to begin from.
        labels_of: the label map (H, W) that a frame would have if it were accepted now.
        within: the frames that may be gone to; None is all.
        reach: how far from the frames that a person has a part in, and which way.

    Raises:
        Refused: there is nothing to propagate, or nowhere to.
    """
    known: dict[int, LabelMap] = {}
    keys: dict[int, str] = {}

    def key_of(frame: int) -> str:
        if frame not in keys:
            known[frame] = labels_of(frame)
            keys[frame] = content_key(known[frame])
        return keys[frame]

    fixed = [frame for frame, standing in enumerate(standings) if standing.is_fixed] or [here]
    points, near = set(fixed), reach.frames(fixed, len(standings))
    wanted: list[int] = []
    came_from: dict[int, dict[int, str]] = {}
    for frame, standing in enumerate(standings):
        if frame in points or not standing.is_open or frame not in near:
            continue
        if within and frame not in within:
            continue
        at = bisect(fixed, frame)
        # The fixed points on both sides: what lies beyond them has no part in this frame.
        around = {key: key_of(key) for key in fixed[max(at - 1, 0) : at + 1]}
        if _is_due(standing, around, standings):
            wanted.append(frame)
            came_from[frame] = around
    used = {key for around in came_from.values() for key in around}
    keyframes = {key: _objects(known[key]) for key in sorted(used)}
    if not any(keyframes.values()):
        nothing = not wanted and any(standing.is_fixed for standing in standings)
        raise Refused(UP_TO_DATE if nothing else NO_KEYFRAME, "info" if nothing else "warning")
    return Plan(keyframes, tuple(wanted), came_from)


def _is_due(standing: Standing, around: Mapping[int, str], standings: Sequence[Standing]) -> bool:
    """Whether a frame is to be propagated to, with the contents of the keyframes next to it.

    A keyframe that was accepted just as it was propagated is no news.
    """
    before = standing.came_from
    if before is None:
        return True
    if any(before.get(key) != now and now not in standings[key].was for key, now in around.items()):
        return True
    low, high = min(around), max(around)
    gone = (key for key in before if key < len(standings) and not standings[key].is_fixed)
    return any(low < key < high or len(around) == 1 for key in gone)


def content_key(labels: LabelMap) -> str:
    """A short name for what is in a label map: the same for the same values only, "" for none."""
    if not labels.any():
        return ""
    return hashlib.blake2b(labels.astype("<u2").tobytes(), digest_size=8).hexdigest()


def _objects(labels: LabelMap) -> dict[int, BoolArray]:
    return {value: labels == value for value in values_in(labels)}


def proposed(found: FrameObjects, labelling: Labelling, model_id: str) -> ImageProposal:
    """What was found on a frame as a proposal; an object's number is a value of the label map.

    Where a value is a class, each piece of it is an object, to be corrected by itself.
    """
    objects = []
    for value, whole in found.masks.items():
        score = float(np.clip(found.scores.get(value, 0.0), 0.0, 1.0))
        class_id, number = class_of(value, labelling), instance_of(value, labelling)
        for mask in (whole,) if number else _pieces(whole):
            item = Proposal(mask, regions.box_of(mask), score, "", score, as_logits(mask))
            objects.append(ProposedObject(class_id, Prompts(), item, number=number))
    return ImageProposal(tuple(objects), model_id=model_id)


def _pieces(mask: BoolArray) -> list[BoolArray]:
    """The pieces of a mask (H, W), the largest first; specks are left with it."""
    others = regions.pieces(mask)[1:]
    large = [piece for piece in others if np.count_nonzero(piece) >= LEAST_SHARE * mask.size]
    rest = mask & ~np.any(large, axis=0) if large else mask
    return [rest, *large]


def note(found: FrameObjects, model_id: str) -> dict[str, Any]:
    """What is written down of a frame beside its proposal, and beside what that came from."""
    labels = np.zeros(next(iter(found.masks.values())).shape if found.masks else (1, 1), np.uint16)
    for value, mask in found.masks.items():
        labels[mask] = value
    scores = {str(value): round(float(score), 4) for value, score in found.scores.items()}
    return {
        "model": model_id,
        "content": content_key(labels),
        "scores": scores,
    }
