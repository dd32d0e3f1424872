"""Do prompts steer? Two measurements on images whose objects are known.

A network that finds the one salient object of an image scores well on data sets with one object
per image while it ignores what a person points at; these figures show it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...core.geometry import mask_to_box
from ...core.metrics import dice, next_click
from ...core.types import BoolArray, ImageEmbedding, Prompts
from ...models.interfaces import Segmenter
from ...segmentation.postprocess import PostprocessSettings
from ...segmentation.propose import propose_prompts


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


def prompt_for(truth: BoolArray, kind: str) -> Prompts:
    """The tight box of an object, or a positive click at its deepest point."""
    if kind == "box":
        return Prompts(box=mask_to_box(truth))
    click = next_click(truth, np.zeros_like(truth))
    if click is None:
        raise ValueError("an empty object cannot be pointed at")
    return add_click(Prompts(), click)


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
    before, _ = propose_prompts(segmenter, embedding, prompts, settings)
    click = next_click(truth, before.mask)
    if click is None:
        return None
    prompts = add_click(prompts, click, before.low_res_logits)
    after, _ = propose_prompts(segmenter, embedding, prompts, settings, previous=before.mask)
    return dice(truth, after.mask) - dice(truth, before.mask)


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
