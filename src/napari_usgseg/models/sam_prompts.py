"""A person's prompts as SAM 2's prompt encoder wants them, checked first."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..errors import PromptError
from ..geometry import clip_box, covered_cells, scribble_to_points
from ..types import BoolArray, FloatArray, Prompts
from .sam_square import WHOLE

LOGIT_LIMIT = 32.0
"""Low-resolution logits are clamped to this, when they are returned and when they are fed back."""

BOX_CORNER_LABELS = (2, 3)
"""SAM's point labels of a box's top-left and bottom-right corner."""

SCRIBBLE_SPACING = 1 / 16
"""Distance between two points of a scribble, as a fraction of the image's longer side."""

SCRIBBLE_LIMIT = 8
"""The most points that one scribble becomes."""


def scale_points(
    points: FloatArray,
    size_hw: tuple[int, int],
    image_size: int,
    covered: tuple[float, float] = WHOLE,
) -> Tensor:
    """Points (N, 2) XY pixels of an image of ``size_hw`` to the network's square, as SAM 2 does."""
    height, width = size_hw
    scaled = torch.as_tensor(np.ascontiguousarray(points), dtype=torch.float32).clone()
    scaled[:, 0] *= covered[1]
    scaled[:, 1] *= covered[0]
    scaled[:, 0] /= width
    scaled[:, 1] /= height
    return scaled * image_size


def prompt_points(
    prompts: Prompts,
    size_hw: tuple[int, int],
    image_size: int,
    covered: tuple[float, float] = WHOLE,
) -> tuple[Tensor, Tensor] | None:
    """Box corners, clicks and scribbles, in this order, on the network's square.

    Args:
        prompts: in pixels of the image.
        size_hw: (H, W) of the image.
        image_size: side in pixels of the network's square.
        covered: share of the square that the image covers (``ImageEmbedding.covered``).

    Returns:
        (1, N, 2) coordinates and (1, N) labels, or None where nothing is pointed at.

    Raises:
        PromptError: something is malformed, not finite or outside the image.
    """
    parts = [_clicks(prompts, size_hw)]
    if prompts.box is not None:
        corners = _checked_box(prompts.box, size_hw).reshape(2, 2)
        parts.insert(0, (corners, np.array(BOX_CORNER_LABELS, np.int32)))
    parts.extend(_scribble(line, label, size_hw) for line, label in prompts.scribbles)
    coords = np.concatenate([part[0] for part in parts])
    if len(coords) == 0:
        return None
    labels = torch.from_numpy(np.concatenate([part[1] for part in parts]))
    return scale_points(coords, size_hw, image_size, covered)[None], labels[None]


def _clicks(prompts: Prompts, size_hw: tuple[int, int]) -> tuple[FloatArray, NDArray[np.int32]]:
    coords = np.asarray(prompts.point_coords, np.float32)
    labels = np.asarray(prompts.point_labels)
    if coords.ndim != 2 or coords.shape[1] != 2 or labels.shape != coords.shape[:1]:
        raise PromptError(
            f"points must be (N, 2) with (N,) labels, got {coords.shape} and {labels.shape}"
        )
    outside = ~_inside(coords, size_hw)
    if outside.any():
        x, y = coords[outside][0]
        raise PromptError(
            f"point ({x:g}, {y:g}) is outside the image of {size_hw[1]} x {size_hw[0]} pixels: "
            "click inside it"
        )
    return coords, _checked_labels(labels)


def _scribble(
    line: FloatArray, label: int, size_hw: tuple[int, int]
) -> tuple[FloatArray, NDArray[np.int32]]:
    line = np.asarray(line, np.float32)
    if line.ndim != 2 or line.shape[1] != 2 or not np.isfinite(line).all():
        raise PromptError(f"a scribble must be (M, 2) finite XY pixels, got shape {line.shape}")
    points = scribble_to_points(line, SCRIBBLE_SPACING * max(size_hw), SCRIBBLE_LIMIT)
    points = points[_inside(points, size_hw)]
    if len(points) == 0:
        raise PromptError(
            f"the scribble lies outside the image of {size_hw[1]} x {size_hw[0]} pixels: "
            "draw inside it"
        )
    return points, _checked_labels(np.full(len(points), label))


def _inside(points: FloatArray, size_hw: tuple[int, int]) -> BoolArray:
    """Which of (N, 2) XY points lie on a pixel of the image; NaN and infinity do not."""
    limit = np.array(size_hw[::-1], np.float32) - 0.5
    inside: BoolArray = (points >= -0.5) & (points <= limit)
    return np.all(inside, axis=1)


def _checked_labels(labels: NDArray[Any]) -> NDArray[np.int32]:
    if not np.isin(labels, (0, 1)).all():
        raise PromptError(f"labels must be 1 (positive) or 0 (negative), got {labels.tolist()}")
    return labels.astype(np.int32)


def _checked_box(box: FloatArray, size_hw: tuple[int, int]) -> FloatArray:
    box = np.asarray(box, np.float32)
    if box.shape != (4,) or not np.isfinite(box).all():
        raise PromptError(f"a box must be four finite numbers x0,y0,x1,y1, got {box.tolist()}")
    x0, y0, x1, y1 = box
    if x1 < x0 or y1 < y0:
        raise PromptError(
            f"box {box.tolist()} has its corners swapped: top-left first, then bottom-right"
        )
    height, width = size_hw
    if x1 < -0.5 or y1 < -0.5 or x0 > width - 0.5 or y0 > height - 0.5:
        raise PromptError(
            f"box {box.tolist()} is outside the image of {width} x {height} pixels: draw inside it"
        )
    return clip_box(box, size_hw)


def prompt_logits(
    mask: FloatArray | None, grid_hw: tuple[int, int], covered: tuple[float, float] = WHOLE
) -> Tensor | None:
    """A previous prediction's logits (h, w) on the network's grid, as (1, 1, H, W).

    Logits of another size than the grid's are those of the whole image, and are put where the
    image is (``covered``); what is beside it is not the object.

    Raises:
        PromptError: they are malformed or not finite.
    """
    if mask is None:
        return None
    logits = np.array(mask, np.float32)
    if logits.ndim != 2 or logits.size == 0 or not np.isfinite(logits).all():
        raise PromptError(
            f"mask_input must be (h, w) finite logits, got shape {logits.shape}: "
            "take one of a Prediction's low_res_logits"
        )
    tensor = torch.from_numpy(logits)[None, None]
    if logits.shape != tuple(grid_hw):
        size = covered_cells(covered, grid_hw)
        tensor = F.interpolate(tensor, size, mode="bilinear", align_corners=False, antialias=True)
        beside = (0, grid_hw[1] - size[1], 0, grid_hw[0] - size[0])
        tensor = F.pad(tensor, beside, value=min(0.0, float(logits.min())))
    return tensor.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
