"""Suggested keyframes of a loop: the frames whose label would help the others most.

A label helps where a propagation is in doubt, and where the picture is another than at the frames
that are labelled (docs/loops.md has the trials).
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from ...core.types import BoolArray, FloatArray, FrameObjects
from ...models.interfaces import RgbFrames
from .flow import grey_of
from .intervals import Objects

BLUR, REACH = 3.0, 6
"""Frames are compared without their speckle, in the objects and so many pixels around them."""
SURE = 0.9
"""A frame with this score, or a greater one, needs no label."""
APART = 1 / 8
"""No two suggested frames are nearer to one another than this part of the loop."""
USUAL_CHANGE = 0.05
"""Where it was not measured: about what a heart that beats has."""


class Appearance:
    """How unlike the keyframes next to it a frame looks around the objects.

    Args:
        frames: the loop; read once more for each frame, when that was just read.
        keyframes: masks (H, W) by the number of their object, by frame.
    """

    def __init__(self, frames: RgbFrames, keyframes: Mapping[int, Objects]) -> None:
        self._frames, self._keyframes = frames, keyframes
        self._keys = sorted(keyframes)
        self._known: LRUCache[int, tuple[FloatArray, NDArray[np.uint8]]] = LRUCache(3)

    def change(self, found: FrameObjects) -> float:
        """Mean difference to the keyframe that is most like the frame, of white's 1."""
        import cv2

        at = bisect(self._keys, found.frame)
        picture = _without_speckle(self._frames[found.frame])
        here = _region(found.masks, picture.shape)
        differences = []
        for key in self._keys[max(at - 1, 0) : at + 1]:
            if key not in self._known:
                known = _without_speckle(self._frames[key])
                self._known[key] = known, _region(self._keyframes[key], known.shape)
            known, there = self._known[key]
            reach = np.ones((2 * REACH + 1, 2 * REACH + 1), np.uint8)
            around = cv2.dilate(here | there, reach) > 0
            differs = np.abs(picture - known)
            differences.append(float((differs[around] if around.any() else differs).mean()) / 255)
        return min(differences)


def need(score: float, change: float) -> float:
    """How much a frame's label would help.

    Args:
        score: how far the propagation trusts the frame, 0 to 1.
        change: as `Appearance` measures it.
    """
    return (1.0 - score) * change


def suggested(needs: Mapping[int, float], count: int, most: int = 3) -> tuple[int, ...]:
    """The frames whose label would help most, the one that would help most first.

    Args:
        needs: of the frames that come into question.
        count: frames of the loop.
        most: how many to suggest.
    """
    found: list[int] = []
    for frame in sorted(needs, key=lambda frame: -needs[frame]):
        if all(abs(frame - other) >= APART * count for other in found):
            found.append(frame)
        if len(found) == most:
            break
    return tuple(found)


def _without_speckle(image: NDArray[np.uint8]) -> FloatArray:
    import cv2

    return np.asarray(cv2.GaussianBlur(grey_of(image), (0, 0), BLUR), np.float32)


def _region(objects: Mapping[int, BoolArray], size_hw: tuple[int, ...]) -> NDArray[np.uint8]:
    """Where any of the objects is, on a reduced frame."""
    import cv2

    region = np.zeros(size_hw, np.uint8)
    for mask in objects.values():
        size = (size_hw[1], size_hw[0])
        small = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        region |= np.asarray(small, np.uint8)
    return region
