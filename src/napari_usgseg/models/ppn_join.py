"""Prompts beside each other: box and mask that were learned, and a person's beside learned ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..types import ImageEmbedding, Prediction, Prompts
from .ppn import BOX_TOKENS, LearnedPrompts
from .ppn_decode import Decoded, FrozenDecoder
from .sam import MASK_THRESHOLD
from .sam_prompts import LOGIT_LIMIT, prompt_logits, prompt_points
from .sam_square import image_logits


def box_of_mask(learned: LearnedPrompts, decoder: FrozenDecoder) -> LearnedPrompts:
    """The same prompts with the box around the mask prompt, where that has a pixel.

    The box that the two tokens give is the weaker one after a few images; the decoder is surer of
    an object when box and mask prompt agree (measured; MODEL_CARD.md).
    """
    inside = learned.mask_logits > 0
    some = inside.flatten(1).any(1)[:, None]
    boxes = torch.where(some, boxes_of(inside.to(learned.boxes.dtype)), learned.boxes)
    corners = decoder.embed_boxes(boxes * decoder.image_size)
    sparse = torch.cat((corners, learned.sparse[:, BOX_TOKENS:]), dim=1)
    return replace(learned, sparse=sparse, boxes=boxes)


def blended(decoded: Decoded, mask_logits: Tensor) -> Decoded:
    """The decoder's answer with the mask prompt (R, 1, g, g) beside it where the two disagree.

    Of the mean of the probabilities, the mask prompt has half where the two masks have nothing in
    common and no share where they are the same: it knows the place, the decoder the border.
    """
    ours = F.interpolate(
        mask_logits, decoded.logits.shape[-2:], mode="bilinear", align_corners=False
    )
    first, second = decoded.logits > 0, ours > 0
    overlap = 2.0 * (first & second).sum((1, 2, 3), keepdim=True)
    total = first.sum((1, 2, 3), keepdim=True) + second.sum((1, 2, 3), keepdim=True)
    share = 0.5 * (1 - overlap / total.clamp(min=1))
    probability = (1 - share) * decoded.logits.sigmoid() + share * ours.sigmoid()
    return replace(decoded, logits=probability.logit(eps=1e-6))


def mean_of(
    first: Prediction, second: Prediction, embedding: ImageEmbedding, image_size: int
) -> Prediction:
    """The mean of the logits of two answers' best masks, with the first one's scores."""
    low_res = np.float32(0.5) * (first.low_res_logits[:1] + second.low_res_logits[:1])
    full = image_logits(torch.from_numpy(low_res).float(), embedding, image_size)
    return replace(
        first,
        masks=(full > MASK_THRESHOLD).numpy(),
        iou_predictions=first.iou_predictions[:1],
        low_res_logits=low_res,
    )


def boxes_of(targets: Tensor) -> Tensor:
    """Tight boxes (R, 4) XYXY, as fractions, of (R, 1, h, w) masks; (0, 0, 1, 1) for empty ones."""
    inside = targets[:, 0] > 0.5
    boxes = []
    for axis in (1, 2):  # columns, then rows
        line = inside.any(axis)
        size = line.shape[1]
        first = line.int().argmax(1)
        last = size - line.flip(1).int().argmax(1)
        boxes.append((first / size, last / size))
    (x0, x1), (y0, y1) = boxes
    return torch.stack((x0, y0, x1, y1), dim=1)


def join(
    decoder: FrozenDecoder, learned: LearnedPrompts, prompts: Prompts, embedding: ImageEmbedding
) -> tuple[Tensor, Tensor, Tensor]:
    """Learned prompts and a person's: sparse, dense, and the mask prompt, which ends at a box."""
    side, device = decoder.image_size, decoder.device
    size_hw, covered = embedding.size_hw, embedding.covered
    sparse, dense, logits = learned.sparse, learned.dense, learned.mask_logits
    if prompts.box is not None:
        corners = prompt_points(Prompts(box=prompts.box), size_hw, side, covered)
        box = corners[0].reshape(1, 4).to(device)  # type: ignore[index]
        sparse = torch.cat((decoder.embed_boxes(box), sparse[:, BOX_TOKENS:]), dim=1)
        logits = within_box(logits, box / side)
        dense = decoder.embed_masks(logits)
    grid_hw = decoder.prompt_encoder.mask_input_size
    given = prompt_logits(prompts.mask_input, grid_hw, covered)
    if given is not None:
        dense = decoder.embed_masks(given.to(device))
    others = replace(prompts, box=None, mask_input=None)
    points = prompt_points(others, size_hw, side, covered)
    if points is not None:
        clicks = decoder.embed_points(points[0].to(device), points[1].to(device))
        sparse = torch.cat((sparse, clicks), dim=1)
    return sparse, dense, logits


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
