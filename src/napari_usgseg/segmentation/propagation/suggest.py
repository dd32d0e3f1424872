"""Suggested keyframes of a loop: the frames whose label would help the others most.

A keyframe helps the frames that look like it. Suggested is the frame that is most like those which
no keyframe is like (facility location, greedily); docs/loops.md has the trials.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from ...core.types import FloatArray
from ...models.interfaces import RgbFrames
from .flow import grey_of

BLUR, SIDE = 3.0, 16
"""Frames are compared without their speckle, as pictures of so many pixels a side."""
MOST_LOOKS = 300
"""Of longer loops every second, third, ... frame is compared."""


@dataclass(frozen=True, slots=True, eq=False)
class Looks:
    """Looks of a loop's frames: how unlike one another they are.

    Attributes:
        frames: that were compared, in order.
        differences: (N, N) mean difference of each two of them, in grey levels.
    """

    frames: tuple[int, ...]
    differences: FloatArray


def look_of(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A frame (H, W, 3) as it is compared: (SIDE * SIDE,) grey."""
    import cv2

    blurred = cv2.GaussianBlur(grey_of(image), (0, 0), BLUR)
    small = cv2.resize(blurred, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8).ravel()


def looks_of(frames: RgbFrames) -> Looks:
    """Compare the frames of a loop, each read once."""
    from scipy.spatial.distance import cdist

    numbers = tuple(range(0, len(frames), ceil(len(frames) / MOST_LOOKS) or 1))
    seen = np.stack([look_of(frames[number]) for number in numbers]).astype(np.float32)
    differences = cdist(seen, seen, "cityblock") / seen.shape[1]
    return Looks(numbers, differences.astype(np.float32))


def suggested(
    looks: Looks, keyframes: Collection[int], candidates: Collection[int], most: int = 3
) -> tuple[int, ...]:
    """The frames to label next, the one that would help most first.

    Args:
        looks: of the loop.
        keyframes: the frames that are labelled.
        candidates: the frames that may be suggested.
        most: how many to suggest.
    """
    differences, frames = looks.differences, np.array(looks.frames)
    is_key = np.isin(frames, list(keyframes))
    unlike = np.full(len(frames), differences.max(initial=0.0), np.float32)
    if is_key.any():
        unlike = differences[:, is_key].min(axis=1)
    free = np.isin(frames, list(candidates)) & ~is_key
    found: list[int] = []
    while free.any() and len(found) < most:
        # How much closer all frames come to their nearest keyframe if this one were labelled;
        # greedy is within 1 - 1/e of the best choice (Nemhauser et al. 1978).
        gains = np.maximum(unlike[:, None] - differences, 0).sum(axis=0)
        best = int(np.argmax(np.where(free, gains, -1)))
        found.append(int(frames[best]))
        unlike = np.minimum(unlike, differences[:, best])
        free[best] = False
    return tuple(found)
