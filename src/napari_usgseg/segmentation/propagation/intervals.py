"""Intervals of a loop: the frames that are asked for, between the keyframes around them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

from ...core.errors import PromptError
from ...core.types import BoolArray
from ...models.interfaces import RgbFrames

Objects = Mapping[int, BoolArray]
"""The masks (H, W) of a frame by the number of their object."""


def intervals(
    frames: RgbFrames, keyframes: Mapping[int, Objects], wanted: Iterable[int]
) -> Iterator[tuple[int | None, int | None, list[int]]]:
    """The wanted frames, grouped by the keyframes before and after them.

    Args:
        frames: the loop.
        keyframes: the masks that are known, by frame; these frames are never among the answer.
        wanted: frames in any order.

    Returns:
        (keyframe before or None, keyframe after or None, frames between them in ascending order).

    Raises:
        PromptError: there is no keyframe, a frame is not of the loop, or a mask is not of the
            frames' size.
    """
    count = len(frames)
    keys = sorted(keyframes)
    asked = sorted(set(wanted) - set(keys))
    if not keys:
        raise PromptError("nothing to propagate: label at least one frame of the loop first")
    for frame in (*keys, *asked):
        if not 0 <= frame < count:
            raise PromptError(
                f"frame {frame} is not of this loop, which has frames 0 to {count - 1}"
            )
    size_hw = frames[keys[0]].shape[:2]
    for key, objects in keyframes.items():
        for number, mask in objects.items():
            if mask.shape != size_hw:
                raise PromptError(
                    f"object {number} of frame {key} has {mask.shape} pixels, the loop {size_hw}"
                )
    ends: list[int | None] = [None, *keys, None]
    for before, after in pairwise(ends):
        low = -1 if before is None else before
        high = count if after is None else after
        if group := [frame for frame in asked if low < frame < high]:
            yield before, after, group
