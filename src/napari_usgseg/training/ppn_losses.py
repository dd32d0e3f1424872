"""The losses of Sam2Rad's prompt predictor (arXiv 2409.06821, section 3.3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

GAMMA, ALPHA = 3.0, 0.7
"""Of the focal loss; ALPHA weighs the pixels of the object."""


def focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Focal loss of (R, 1, h, w) logits against soft targets in [0, 1], mean over pixels: (R,)."""
    probability = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    weight = ALPHA * target + (1 - ALPHA) * (1 - target)
    return (weight * entropy * (probability - target).abs() ** GAMMA).mean((1, 2, 3))


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of (R, 1, h, w) logits against soft targets, mean over pixels: (R,)."""
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return entropy.mean((1, 2, 3))


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """1 - soft Dice of (R, 1, h, w) logits against soft targets: (R,)."""
    probability = logits.sigmoid()
    overlap = (probability * target).sum((1, 2, 3))
    total = probability.sum((1, 2, 3)) + target.sum((1, 2, 3))
    return 1 - (2 * overlap + 1) / (total + 1)


def box_loss(boxes: Tensor, truth: Tensor) -> Tensor:
    """L1 plus 1 - generalised IoU (arXiv 1902.09630) of (R, 4) XYXY boxes: (R,)."""
    low = torch.maximum(boxes[:, :2], truth[:, :2])
    high = torch.minimum(boxes[:, 2:], truth[:, 2:])
    overlap = (high - low).clamp(min=0).prod(1)
    union = _area(boxes) + _area(truth) - overlap
    hull = (
        torch.maximum(boxes[:, 2:], truth[:, 2:]) - torch.minimum(boxes[:, :2], truth[:, :2])
    ).prod(1)
    giou = overlap / union.clamp(min=1e-6) - (hull - union) / hull.clamp(min=1e-6)
    return (boxes - truth).abs().mean(1) + 1 - giou


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)
