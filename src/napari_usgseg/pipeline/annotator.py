"""The simulated annotator of the interactive-segmentation literature.

The next click goes to the deepest point of the larger error region, positive in missed parts,
negative in excess parts; the previous low-resolution mask is fed back with all clicks so far
(RITM, arXiv 2102.06583, section 5; NoC@q = clicks to reach IoU q, at most ``MAX_CLICKS``). Every
click is answered as a person's is, by ``propose_prompts`` with the mask so far.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..metrics import dice, iou, next_click
from ..models.base import Segmenter
from ..types import BoolArray, ImageEmbedding, Prompts
from .postprocess import PostprocessSettings
from .propose import propose_prompts

MAX_CLICKS = 20
REPORTED_CLICKS = (1, 3, 5)
NOC_TARGETS = (0.85, 0.90)


@dataclass(frozen=True, slots=True, eq=False)
class ClickTrace:
    """What a series of clicks on one object gave.

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
    mask = np.zeros_like(truth)
    reported = mask
    points: list[tuple[float, float]] = []
    labels: list[int] = []
    dices: list[float] = []
    ious: list[float] = []
    low_res = None
    for count in range(1, MAX_CLICKS + 1):
        click = next_click(truth, mask)
        if click is None:
            break
        points.append(click[0])
        labels.append(click[1])
        prompts = Prompts(
            point_coords=np.array(points, np.float32).reshape(-1, 2),
            point_labels=np.array(labels, np.int32),
            mask_input=low_res,
        )
        proposal, _ = propose_prompts(
            segmenter, embedding, prompts, settings, previous=mask if count > 1 else None
        )
        mask, low_res = proposal.mask, proposal.low_res_logits
        dices.append(dice(truth, mask))
        ious.append(iou(truth, mask))
        if count <= max(REPORTED_CLICKS):
            reported = mask
        if count >= max(REPORTED_CLICKS) and ious[-1] >= max(NOC_TARGETS):
            break
    return ClickTrace(tuple(dices), tuple(ious), reported)
