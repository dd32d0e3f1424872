"""The simulated annotator of the interactive-segmentation literature: boxes, clicks, corrections.

The next click goes to the deepest point of the larger error region. ``aims`` and
``correction_gain`` ask whether prompts steer: a network that finds the one salient object of an
image scores well on data sets with one object per image while it ignores what a person points at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...core.geometry import components, mask_to_box
from ...core.metrics import dice, iou, next_click
from ...core.types import BoolArray, FloatArray, ImageEmbedding, Prompts
from ...io.datasets import DatasetItem, read_mask
from ...models.interfaces import Segmenter
from ...segmentation.postprocess import PostprocessSettings
from ...segmentation.propose import propose_prompts

MAX_CLICKS = 20
REPORTED_CLICKS = (1, 3, 5)
NOC_TARGETS = (0.85, 0.90)


def objects_of(labels: NDArray[np.integer]) -> Iterator[BoolArray]:
    """Every object of a label map (H, W): label by label, its components in reading order."""
    for value in np.unique(labels[labels > 0]):
        yield from components(labels == value)


def tight_box(truth: BoolArray) -> FloatArray:
    """The box (4,) XYXY of an object (H, W) that has pixels."""
    return np.asarray(mask_to_box(truth), np.float32)


def foreign_boxes(other: DatasetItem, size_hw: tuple[int, int], count: int) -> list[FloatArray]:
    """``count`` boxes of another image's objects, scaled to this image's size."""
    labels = read_mask(other)
    height, width = size_hw
    scale = np.array([width / labels.shape[1], height / labels.shape[0]] * 2, np.float32)
    boxes = [tight_box(truth) * scale for truth in objects_of(labels)]
    return [boxes[index % len(boxes)] for index in range(count)] if boxes else []


@dataclass(frozen=True, slots=True, eq=False)
class ClickTrace:
    """Scores of a series of clicks on one object.

    Attributes:
        dice: after click 1, 2, ...
        iou: after click 1, 2, ...
        mask: (H, W) bool after the last of ``REPORTED_CLICKS``.
    """

    dice: tuple[float, ...]
    iou: tuple[float, ...]
    mask: BoolArray

    def dice_at(self, clicks: int) -> float:
        """Dice after so many clicks; a trace that ended early (nothing left to mend) stays."""
        return self.dice[min(clicks, len(self.dice)) - 1]

    def noc(self, target: float) -> int:
        """Clicks needed to reach IoU ``target``; ``MAX_CLICKS`` where it was never reached."""
        reached = (i for i, value in enumerate(self.iou, start=1) if value >= target)
        return next(reached, MAX_CLICKS)


def simulate_clicks(
    segmenter: Segmenter,
    embedding: ImageEmbedding,
    truth: BoolArray,
    settings: PostprocessSettings,
) -> ClickTrace:
    """Click an object until IoU 0.90 is reached, at least 5 and at most ``MAX_CLICKS`` times.

    Args:
        segmenter: the model that answers the clicks.
        embedding: of the image.
        truth: (H, W) bool, the object; not empty.
        settings: cleaning of each answer.
    """
    reported = mask = np.zeros_like(truth)
    prompts, low_res, previous = Prompts(), None, None
    dices: list[float] = []
    ious: list[float] = []
    for count in range(1, MAX_CLICKS + 1):
        click = next_click(truth, mask)
        if click is None:
            break
        prompts = add_click(prompts, click, low_res)
        proposal = propose_prompts(segmenter, embedding, prompts, settings, previous)
        mask = previous = proposal.mask
        low_res = proposal.low_res_logits
        dices.append(dice(truth, mask))
        ious.append(iou(truth, mask))
        if count <= max(REPORTED_CLICKS):
            reported = mask
        if count >= max(REPORTED_CLICKS) and ious[-1] >= max(NOC_TARGETS):
            break
    return ClickTrace(tuple(dices), tuple(ious), reported)


def prompt_for(truth: BoolArray, kind: str) -> Prompts:
    """The tight box of an object, or a positive click at its deepest point."""
    if kind == "box":
        return Prompts(box=mask_to_box(truth))
    click = next_click(truth, np.zeros_like(truth))
    if click is None:
        raise ValueError("an empty object cannot be pointed at")
    return add_click(Prompts(), click)


def add_click(
    prompts: Prompts,
    click: tuple[tuple[float, float], int],
    mask_input: np.ndarray | None = None,
) -> Prompts:
    """The prompts with one more click ((x, y), label), going on from ``mask_input``."""
    (x, y), label = click
    return Prompts(
        point_coords=np.vstack([prompts.point_coords, [[x, y]]]).astype(np.float32),
        point_labels=np.append(prompts.point_labels, label).astype(np.int32),
        box=prompts.box,
        mask_input=mask_input,
    )


@dataclass(frozen=True, slots=True)
class Aim:
    """Dice of one prompt's mask against the object pointed at, and the best against another."""

    own: float
    other: float


def aims(
    segmenter: Segmenter, embedding: ImageEmbedding, objects: Sequence[BoolArray], kind: str
) -> list[Aim]:
    """Prompt each of several objects (H, W) bool by its ``kind``: tight "box" or one "click"."""
    found = []
    for index, truth in enumerate(objects):
        mask = segmenter.predict(embedding, prompt_for(truth, kind)).masks[0]
        others = [dice(o, mask) for i, o in enumerate(objects) if i != index]
        found.append(Aim(dice(truth, mask), max(others, default=0.0)))
    return found


def correction_gain(
    segmenter: Segmenter,
    embedding: ImageEmbedding,
    truth: BoolArray,
    kind: str,
    settings: PostprocessSettings,
) -> float | None:
    """How much Dice one corrective click adds to the answer to ``kind``; None if it was perfect.

    The click goes where the simulated annotator would click (``metrics.next_click``), and is
    answered as in the window: the previous mask is fed back and corrected, not replaced.
    """
    prompts = prompt_for(truth, kind)
    before = propose_prompts(segmenter, embedding, prompts, settings)
    click = next_click(truth, before.mask)
    if click is None:
        return None
    prompts = add_click(prompts, click, before.low_res_logits)
    after = propose_prompts(segmenter, embedding, prompts, settings, previous=before.mask)
    return dice(truth, after.mask) - dice(truth, before.mask)
