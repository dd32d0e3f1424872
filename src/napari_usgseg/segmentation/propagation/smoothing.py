"""Smoothing over time of what models propose on the frames of a loop, each looked at by itself.

The neighbours' masks are moved to a frame by optical flow, and their border is the median of all:
what is on one frame alone goes, and a gap is filled (docs/loops.md has the trials).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.geometry import mask_to_box
from ...core.types import BoolArray, FloatArray
from ..propose import Proposal, as_logits
from .flow import DisFlow, composed, grey_of, looked_up, signed_distance

NEIGHBOURS = 4
"""On each side of a frame."""

Found = tuple[Proposal, ...]


@dataclass(slots=True, eq=False)
class _Seen:
    """A frame in the window.

    Attributes:
        size_hw: of the frame.
        grey: the frame as the flow sees it.
        items: what is proposed on it.
        distances: of each phrase of which it has one object: signed distances to its border.
        to_before, to_after: flow to the frames next to it.
        rest: what the caller wants back.
    """

    size_hw: tuple[int, int]
    grey: NDArray[np.uint8]
    items: Found
    rest: Any
    distances: dict[str, FloatArray]
    to_before: FloatArray | None = None
    to_after: FloatArray | None = None


def smoothed(
    frames: Iterable[tuple[int, NDArray[np.uint8], Found, Any]],
) -> Iterator[tuple[int, Found, Any]]:
    """The frames again in their order, a few frames later, with proposals that agree over time.

    A phrase of which a frame in the window has several objects is left as it is there.

    Args:
        frames: index in the loop, picture (H, W, 3), proposals, and whatever is to be given back.
            Frames that do not follow one another are not neighbours.
    """
    window: deque[tuple[int, _Seen]] = deque()
    flow = DisFlow()
    given = 0  # of the window, how many were given out

    def out(waiting: int) -> Iterator[tuple[int, Found, Any]]:
        nonlocal given
        while len(window) - given > waiting:
            frame, seen = window[given]
            yield frame, _agreed([one for _, one in window], given), seen.rest
            given += 1
            if given > NEIGHBOURS:
                window.popleft()
                given -= 1

    for item in chain(frames, [None]):
        # A gap in the frames: what waits is given out with the neighbours that it has.
        if item is None or (window and item[0] != window[-1][0] + 1):
            yield from out(0)
            window.clear()
            given = 0
        if item is None:
            return
        frame, picture, items, rest = item
        grey = grey_of(picture)
        size_hw = picture.shape[0], picture.shape[1]
        seen = _Seen(size_hw, grey, items, rest, _distances(items, grey.shape))
        if window:
            before = window[-1][1]
            seen.to_before = flow(grey, before.grey)
            before.to_after = flow(before.grey, grey)
        window.append((frame, seen))
        yield from out(NEIGHBOURS)


def _agreed(window: list[_Seen], at: int) -> Found:
    """What is proposed on a frame of the window, once its neighbours are asked."""
    seen = window[at]
    near = window[max(at - NEIGHBOURS, 0) : at + NEIGHBOURS + 1]
    phrases = dict.fromkeys(item.phrase for one in near for item in one.items)
    several = {
        phrase
        for one in near
        for phrase in phrases
        if sum(item.phrase == phrase for item in one.items) > 1
    }
    kept = [item for item in seen.items if item.phrase in several]
    ways = [*_ways(window, at, -1), *_ways(window, at, 1)]
    for phrase in phrases:
        if phrase in several:
            continue
        # A frame without the object votes "far outside".
        nothing = np.full(seen.grey.shape, -float(max(seen.grey.shape)), np.float32)
        stack = [seen.distances.get(phrase, nothing)]
        for other, way in ways:
            there = other.distances.get(phrase)
            stack.append(nothing if there is None else looked_up(there, way))
        # The median of signed distances is a border between the neighbours' borders; a vote by
        # pixels would leave ragged ones.
        mask = _enlarged(np.median(np.stack(stack), axis=0).astype(np.float32), seen.size_hw)
        box = mask_to_box(mask)
        if box is None:
            continue
        own = next((item for item in seen.items if item.phrase == phrase), None)
        others = [item for one in near for item in one.items if item.phrase == phrase]
        score = float(np.mean([item.score for item in others])) if own is None else own.score
        made = own or replace(others[0], score=score, iou_prediction=score)
        kept.append(replace(made, mask=mask, box=box, low_res_logits=as_logits(mask)))
    return tuple(sorted(kept, key=lambda item: -item.score))


def _ways(window: list[_Seen], at: int, step: int) -> Iterator[tuple[_Seen, FloatArray]]:
    """The neighbours on one side, nearest first, each with the flow from the frame to it."""
    way: FloatArray | None = None
    for n in range(at, at + step * NEIGHBOURS, step):
        if not 0 <= n + step < len(window):
            return
        next_one = window[n].to_after if step > 0 else window[n].to_before
        assert next_one is not None
        way = next_one if way is None else composed(way, next_one)
        yield window[n + step], way


def _distances(items: Found, size_hw: tuple[int, ...]) -> dict[str, FloatArray]:
    import cv2

    found = {}
    for item in items:
        size = (size_hw[1], size_hw[0])
        small = cv2.resize(item.mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        found[item.phrase] = signed_distance(np.asarray(small) > 0)
    return found


def _enlarged(distances: FloatArray, size_hw: tuple[int, int]) -> BoolArray:
    import cv2

    return np.asarray(cv2.resize(distances, size_hw[::-1], interpolation=cv2.INTER_LINEAR)) > 0
