"""Propagation of objects through a loop by optical flow, anchored at the frames that are labelled.

What is taken from the frame before adds its error to all that follow, and a keyframe compared with
a frame far from it finds no way through a large motion. Here the small steps from frame to frame
only say where to begin, and the flow straight to the keyframe, begun there, moves the mask (DIS
optical flow, arXiv 1603.03590, by OpenCV; docs/loops.md has the trials). Where steps and anchored
flow part, the object has left. It needs no network and three frames in memory.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...core.metrics import iou
from ...core.types import BoolArray, FloatArray, FrameObjects
from ...models.interfaces import RgbFrames
from .intervals import Objects, intervals

LARGEST_SIDE = 320
"""Flow is found on frames reduced to this longer side: what moves is larger than speckle."""

SMALLEST_SIDE = 48
"""OpenCV's flow wants so many pixels at least; smaller frames are enlarged."""

LEAST_AGREEMENT = 0.4
"""IoU of anchored flow and steps below which an object has left the frame: where it has, the two
soon have nothing in common (the phantoms whose probe slides past, in the tests)."""

REACH = 6
"""Pixels around an object within which a keyframe is compared with a frame."""


class FlowPropagator:
    """A `Propagator` by anchored optical flow, for grey or colour frames of any size."""

    model_id = "flow"

    def propagate(
        self, frames: RgbFrames, keyframes: Mapping[int, Objects], wanted: Iterable[int]
    ) -> Iterator[FrameObjects]:
        """As `Propagator.propagate`."""
        for before, after, group in intervals(frames, keyframes, wanted):
            if before is not None and after is not None:
                yield from _between(frames, keyframes, before, after, group)
                continue
            key = after if before is None else before
            assert key is not None
            for frame, moved in _follow(frames, key, keyframes[key], group):
                masks = {number: one.mask for number, one in moved.items()}
                yield FrameObjects(frame, masks, {n: one.score for n, one in moved.items()})


class _Moved(NamedTuple):
    """An object of a keyframe on another frame.

    ``score`` is the IoU of its mask by the anchored flow and by the steps alone, ``residual`` what
    keyframe and frame differ by around it once the flow is undone, in grey levels.
    """

    mask: BoolArray
    score: float
    residual: float


def _between(
    frames: RgbFrames, keyframes: Mapping[int, Objects], before: int, after: int, wanted: list[int]
) -> Iterator[FrameObjects]:
    """The frames between two keyframes, from both.

    The border is where the signed distances to both borders cancel out, and that keyframe counts
    more which looks more like the frame: a heart is nearer to the same phase of another beat than
    to the frame before. An object that one of them lacks ends, or begins, half way. The score is
    the agreement of the two.
    """
    # The way back is gone first and its masks are kept packed: a bit a pixel and deflated, for
    # intervals may have hundreds of frames.
    later = {
        frame: {n: (_packed(one.mask), one.score, one.residual) for n, one in moved.items()}
        for frame, moved in _follow(frames, after, keyframes[after], wanted)
    }
    numbers = dict.fromkeys([*keyframes[before], *keyframes[after]])
    for frame, forward in _follow(frames, before, keyframes[before], wanted):
        backward = {
            n: _Moved(_unpacked(*packed), score, residual)
            for n, (packed, score, residual) in later.pop(frame).items()
        }
        nearer = forward if 2 * frame < before + after else backward
        masks: dict[int, BoolArray] = {}
        scores: dict[int, float] = {}
        for number in numbers:
            pair = [moved[number] for moved in (forward, backward) if number in moved]
            if len(pair) == 2:
                # The fourth power all but chooses between the two; the floor keeps identical frames
                # from dividing by 0.
                weights = [max(one.residual, 0.1) ** -4 for one in pair]
                first, second = (
                    w * signed_distance(o.mask) for w, o in zip(weights, pair, strict=True)
                )
                masks[number] = first + second > 0
                scores[number] = iou(pair[0].mask, pair[1].mask)
            elif number in nearer:
                masks[number], scores[number] = nearer[number].mask, nearer[number].score
        masks = {number: mask for number, mask in masks.items() if mask.any()}
        yield FrameObjects(frame, masks, {number: scores[number] for number in masks})


def _follow(
    frames: RgbFrames, key: int, objects: Objects, wanted: list[int]
) -> Iterator[tuple[int, dict[int, _Moved]]]:
    """A keyframe's objects on the wanted frames, all on one side of it, nearest first."""
    import cv2

    size_hw = frames[key].shape[:2]
    anchor = previous = grey_of(frames[key])
    # one of each: a DIS object that was given a flow to begin with keeps some of it
    stepwise, anchored = (DisFlow() for _ in range(2))
    walked: FloatArray = np.zeros((*anchor.shape, 2), np.float32)
    step = 1 if wanted[-1] > key else -1
    last = wanted[-1] if step == 1 else wanted[0]
    asked = set(wanted)
    for frame in range(key + step, last + step, step):
        current = grey_of(frames[frame])
        # From the frame to the one before, and from there to the keyframe.
        walked = composed(stepwise(current, previous), walked)
        flow = anchored(current, anchor, walked)
        previous = current
        if frame not in asked:
            continue
        masks, by_steps = (moved_masks(objects, way, size_hw) for way in (flow, walked))
        differs = np.abs(looked_up(anchor.astype(np.float32), flow) - current)
        differs = cv2.resize(cv2.GaussianBlur(differs, (0, 0), 1), size_hw[::-1])
        reach = np.ones((2 * REACH + 1, 2 * REACH + 1), np.uint8)
        empty = np.zeros(size_hw, bool)
        found = {}
        for number, mask in masks.items():
            agreement = iou(mask, by_steps.get(number, empty))
            if agreement >= LEAST_AGREEMENT:
                around = cv2.dilate(mask.astype(np.uint8), reach) > 0
                found[number] = _Moved(mask, agreement, float(differs[around].mean()))
        yield frame, found


class DisFlow:
    """DIS optical flow (h, w, 2): XY pixels from ``current`` to the same tissue in ``other``."""

    def __init__(self) -> None:
        import cv2

        self._dis = cv2.DISOpticalFlow.create(cv2.DISOpticalFlow_PRESET_MEDIUM)

    def __call__(
        self, current: NDArray[np.uint8], other: NDArray[np.uint8], start: FloatArray | None = None
    ) -> FloatArray:
        """The flow between two grey frames (h, w), begun at ``start`` (h, w, 2)."""
        # OpenCV writes the result into the flow that it is given.
        begun: Any = None if start is None else start.copy()
        return np.asarray(self._dis.calc(current, other, begun), np.float32)


def grey_of(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A frame as the flow sees it."""
    import cv2

    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    factor = min(1.0, LARGEST_SIDE / max(grey.shape))
    factor = max(factor, SMALLEST_SIDE / min(grey.shape))
    if factor == 1:
        return np.asarray(grey)
    size = (round(factor * grey.shape[1]), round(factor * grey.shape[0]))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA))


def composed(first: FloatArray, then: FloatArray) -> FloatArray:
    """Flow (h, w, 2) of XY pixels by ``first``, and from there by ``then``."""
    return first + looked_up(then, first)


def looked_up(values: NDArray[Any], flow: FloatArray) -> NDArray[Any]:
    """``values`` (h, w) or (h, w, 2) where the flow points to."""
    import cv2

    rows, columns = np.mgrid[: flow.shape[0], : flow.shape[1]].astype(np.float32)
    x, y = columns + flow[..., 0], rows + flow[..., 1]
    return np.asarray(cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def moved_masks(
    objects: Objects, flow: FloatArray, size_hw: tuple[int, int]
) -> dict[int, BoolArray]:
    """The objects where the flow to their keyframe says, in full size.

    Where two overlap the surer takes it; what left the picture is left out.
    """
    import cv2

    height, width = size_hw
    if flow.shape[:2] != size_hw:
        scale = np.array([width / flow.shape[1], height / flow.shape[0]], np.float32)
        flow = np.asarray(cv2.resize(flow, (width, height), interpolation=cv2.INTER_LINEAR)) * scale
    # Inside is where more than half of a pixel comes from the mask.
    best = np.full(size_hw, 0.5, np.float32)
    owner = np.zeros(size_hw, np.int32)
    for index, mask in enumerate(objects.values(), start=1):
        inside = looked_up(mask.astype(np.float32), flow)
        owner[inside > best] = index
        np.maximum(best, inside, out=best)
    masks = {number: owner == index for index, number in enumerate(objects, start=1)}
    return {number: mask for number, mask in masks.items() if mask.any()}


def signed_distance(mask: BoolArray) -> FloatArray:
    """Distance (H, W) to the border in pixels, positive inside."""
    import cv2

    inside, outside = mask.astype(np.uint8), (~mask).astype(np.uint8)
    near, far = (cv2.distanceTransform(part, cv2.DIST_L2, 5) for part in (inside, outside))
    return np.asarray(near - far)


def _packed(mask: BoolArray) -> tuple[bytes, tuple[int, int]]:
    return zlib.compress(np.packbits(mask).tobytes(), 1), (mask.shape[0], mask.shape[1])


def _unpacked(data: bytes, size_hw: tuple[int, int]) -> BoolArray:
    bits = np.frombuffer(zlib.decompress(data), np.uint8)
    return np.unpackbits(bits, count=size_hw[0] * size_hw[1]).reshape(size_hw).astype(bool)
