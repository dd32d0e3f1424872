"""Simulated people: first prompts for a mask, and corrections of a prediction.

The prompts of a batch are two tensors: coordinates (N, P, 2) XY pixels of the network's square
input, and labels (N, P): 1 positive, 0 negative, 2 and 3 the corners of a box, -1 nothing. That is
how ``SAM2ImagePredictor`` hands them to the prompt encoder.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from ..core.geometry import jitter_box, mask_to_box

Point = tuple[float, float, int]
MAX_CLICKS = 6
BOX_SHARE = 0.4
"""How often a first prompt is a box; the others are clicks."""


def inside_point(mask: NDArray[np.bool_], rng: np.random.Generator) -> tuple[float, float]:
    """A point in ``mask`` (H, W): the deepest one in six of ten cases, else any."""
    if rng.random() < 0.6:
        depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
        row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    else:
        index = rng.choice(np.flatnonzero(mask))
        row, column = np.unravel_index(int(index), mask.shape)
    return float(column), float(row)


def first_prompt(mask: NDArray[np.bool_], rng: np.random.Generator) -> list[Point]:
    """A box (shaken by up to a tenth of its sides), a click, or both, for ``mask`` (H, W)."""
    draw = rng.random()
    points: list[Point] = []
    if draw < BOX_SHARE:
        box = mask_to_box(mask)
        if box is not None:
            amount = 0.0 if rng.random() < 0.3 else float(rng.uniform(0.0, 0.1))
            x0, y0, x1, y1 = jitter_box(box, amount, mask.shape, rng)
            points += [(float(x0), float(y0), 2), (float(x1), float(y1), 3)]
    if not points or draw < 0.1:
        points.append((*inside_point(mask, rng), 1))
    return points


def correction(
    truth: NDArray[np.bool_], predicted: NDArray[np.bool_], rng: np.random.Generator
) -> Point | None:
    """A click in the larger error region: positive where missed, negative in excess."""
    missed, excess = truth & ~predicted, predicted & ~truth
    if not missed.any() and not excess.any():
        return None
    region, label = (missed, 1) if missed.sum() >= excess.sum() else (excess, 0)
    parts, count = ndimage.label(region, structure=np.ones((3, 3)))
    if count > 1:
        region = parts == 1 + int(np.bincount(parts.ravel())[1:].argmax())
    return (*inside_point(region, rng), label)


def empty_box(image: Tensor, rng: np.random.Generator) -> list[Point] | None:
    """A box of (3, H, W) in which there is nothing to see (all but black), or None."""
    height, width = image.shape[1:]
    for _ in range(8):
        h, w = rng.integers(height // 16, height // 4), rng.integers(width // 16, width // 4)
        y, x = int(rng.integers(0, height - h)), int(rng.integers(0, width - w))
        if float(image[:, y : y + h, x : x + w].mean()) < 0.02:
            return [(float(x), float(y), 2), (float(x + w - 1), float(y + h - 1), 3)]
    return None


def coarse_logits(mask: Tensor, rng: np.random.Generator) -> Tensor:
    """A poor guess at ``mask`` (1, h, w) in [0, 1]: blurred, shifted, rescaled; as logits.

    Stands for the prior of a dense detector, so that ``mask_input`` may come from one.
    """
    kernel = int(rng.choice([3, 5, 9, 13]))
    guess = torch.nn.functional.avg_pool2d(mask[None], kernel, 1, kernel // 2)[0]
    shift = rng.integers(-3, 4, 2)
    guess = torch.roll(guess, (int(shift[0]), int(shift[1])), (1, 2))
    return (guess - float(rng.uniform(0.2, 0.6))) * float(rng.uniform(6, 16))


def to_tensors(prompts: list[list[Point]]) -> tuple[Tensor, Tensor]:
    """Pad lists of points to one (coordinates, labels) pair."""
    length = max(len(points) for points in prompts)
    coords = torch.zeros(len(prompts), length, 2)
    labels = torch.full((len(prompts), length), -1.0)
    for row, points in enumerate(prompts):
        for column, (x, y, label) in enumerate(points):
            coords[row, column] = torch.tensor([x, y])
            labels[row, column] = label
    return coords, labels
