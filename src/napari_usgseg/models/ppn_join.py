"""A person's prompts beside learned ones: where a mask prompt ends, and whether an answer obeys."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..types import Prediction, Prompts
from .sam_prompts import LOGIT_LIMIT


def person_points(prompts: Prompts) -> list[tuple[int, int, int]]:
    """(column, row, label) of every click, and of every vertex of a scribble."""
    lines = [(prompts.point_coords, prompts.point_labels)]
    lines += [(line, np.full(len(line), label)) for line, label in prompts.scribbles]
    return [
        (round(float(x)), round(float(y)), int(label))
        for coords, labels in lines
        for (x, y), label in zip(coords, labels, strict=True)
    ]


def agreement(prediction: Prediction, points: Sequence[tuple[int, int, int]]) -> float:
    """The share of points that the best mask agrees with: in it where positive, else out of it."""
    mask = prediction.masks[0]
    height, width = mask.shape
    right = [
        bool(mask[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]) == bool(label)
        for x, y, label in points
    ]
    return float(np.mean(right)) if right else 1.0


def within_box(logits: Tensor, box: Tensor, margin: float = 0.05) -> Tensor:
    """Mask prompts (R, 1, g, g) that end at a box (R, 4) of fractions, ``margin`` of it around."""
    side = torch.tensor(logits.shape[-2:], device=logits.device).flip(0).repeat(2)
    size = (box[:, 2:] - box[:, :2]).repeat(1, 2) * torch.tensor([-1, -1, 1, 1], device=box.device)
    low_high = (box + margin * size) * side
    rows = torch.arange(logits.shape[-2], device=logits.device) + 0.5
    columns = torch.arange(logits.shape[-1], device=logits.device) + 0.5
    x0, y0, x1, y1 = low_high.T[:, :, None]
    inside = ((y0 <= rows) & (rows <= y1))[:, :, None] & ((x0 <= columns) & (columns <= x1))[
        :, None
    ]
    return torch.where(inside[:, None], logits, logits.clamp(max=-LOGIT_LIMIT / 4))
