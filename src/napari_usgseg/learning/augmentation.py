"""Augmentation: images and label maps are squashed and bent, a person's prompts are simulated.

The prompts of a batch are two tensors: coordinates (N, P, 2) XY pixels of the network's square
input, and labels (N, P): 1 positive, 0 negative, 2 and 3 the corners of a box, -1 nothing. That is
how ``SAM2ImagePredictor`` hands them to the prompt encoder.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch import Tensor

from ..core.geometry import jitter_box, mask_to_box


def squash(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """(H, W, 3) RGB to (side, side, 3), antialiased, aspect not kept, as SAM 2's transform does."""
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))


def squash_labels(labels: NDArray[np.integer], side: int) -> NDArray[np.uint8]:
    """(H, W) labels to (side, side), nearest neighbour."""
    picture = Image.fromarray(labels.astype(np.uint8))
    return np.asarray(picture.resize((side, side), Image.Resampling.NEAREST))


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Augmentation: how far an image is bent. All ranges are symmetric in log or about zero.

    Attributes:
        zoom: largest magnification and reduction.
        stretch: largest change of aspect ratio.
        degrees: largest rotation.
        shift: largest translation, as a fraction of the image.
        vertical_flip: probability; ultrasound has a top, so it is small.
        crop: least part of the image's sides that is seen, magnified.
        share: how often each of rotation, translation and crop happens at all.
    """

    zoom: float = 1.6
    stretch: float = 1.35
    degrees: float = 20.0
    shift: float = 0.2
    vertical_flip: float = 0.05
    crop: float = 1.0
    share: float = 1.0


def random_affine(rng: np.random.Generator, how: Augmentation) -> NDArray[np.float32]:
    """(2, 3) matrix from output to input coordinates in [-1, 1]."""
    # Uniform in the logarithm: twice as large is as likely as half as large.
    zoom = np.exp(rng.uniform(-1, 1) * np.log(how.zoom))
    stretch = np.exp(rng.uniform(-0.5, 0.5) * np.log(how.stretch))
    angle = np.deg2rad(rng.uniform(-1, 1) * how.degrees)
    flip_x = -1.0 if rng.random() < 0.5 else 1.0
    flip_y = -1.0 if rng.random() < how.vertical_flip else 1.0
    if how.crop < 1 and rng.random() < how.share:
        zoom = zoom / rng.uniform(how.crop, 1)
    if how.share < 1 and rng.random() >= how.share:
        angle = 0.0
    # The matrix goes from output to input (torch's affine_grid), so a magnification divides.
    scale = np.diag([flip_x * stretch / zoom, flip_y / (stretch * zoom)])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shift = rng.uniform(-1, 1, 2) * how.shift * 2
    if how.share < 1 and rng.random() >= how.share:
        shift = shift * 0
    return np.concatenate([scale @ turn, shift[:, None]], axis=1).astype(np.float32)


def warp(stack: Tensor, matrix: NDArray[np.float32], side: int) -> Tensor:
    """Resample (C, H, W) to (C, side, side) by ``matrix`` (``random_affine``); outside is 0."""
    grid = F.affine_grid(
        torch.from_numpy(matrix)[None], [1, stack.shape[0], side, side], align_corners=False
    )
    return F.grid_sample(stack[None], grid, mode="bilinear", align_corners=False)[0]


def bend_intensities(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Gamma, gain, offset, blur and speckle on (3, H, W) in [0, 1]; scanners differ in all five."""
    image = image.clamp(1e-4, 1) ** float(np.exp(rng.uniform(-0.5, 0.5)))
    if rng.random() < 0.7:
        image = image * float(rng.uniform(0.7, 1.3)) + float(rng.uniform(-0.08, 0.08))
    if rng.random() < 0.2:
        kernel = int(rng.choice([3, 5]))
        image = F.avg_pool2d(image[None], kernel, 1, kernel // 2, count_include_pad=False)[0]
    if rng.random() < 0.3:
        noise = torch.from_numpy(rng.normal(1, rng.uniform(0.03, 0.2), image.shape[1:]))
        image = image * noise.float()
    if rng.random() < 0.1:
        image = image * torch.tensor(rng.uniform(0.8, 1.0, 3)).float().view(3, 1, 1)
    return image.clamp(0, 1)


# -- simulated prompts -----------------------------------------------------------------------------

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
    found = _largest_error(truth, predicted)
    return None if found is None else (*inside_point(found[0], rng), found[1])


SCRIBBLE_POINTS = 4


def corrective_scribble(
    truth: NDArray[np.bool_], predicted: NDArray[np.bool_], rng: np.random.Generator
) -> list[Point]:
    """Points along a line in the larger error region, as scribbles are sampled; [] for none."""
    found = _largest_error(truth, predicted)
    if found is None:
        return []
    region, label = found
    a, b = np.array(inside_point(region, rng)), np.array(inside_point(region, rng))
    line = np.rint(a + np.linspace(0, 1, SCRIBBLE_POINTS)[:, None] * (b - a)).astype(int)
    return [(float(x), float(y), label) for x, y in line if region[y, x]]


def _largest_error(
    truth: NDArray[np.bool_], predicted: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], int] | None:
    """The largest piece of what is missed (1) or in excess (0), whichever is more, or None."""
    missed, excess = truth & ~predicted, predicted & ~truth
    if not missed.any() and not excess.any():
        return None
    region, label = (missed, 1) if missed.sum() >= excess.sum() else (excess, 0)
    parts, count = ndimage.label(region, structure=np.ones((3, 3)))
    if count > 1:
        region = parts == 1 + int(np.bincount(parts.ravel())[1:].argmax())
    return region, label


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
    guess = F.avg_pool2d(mask[None], kernel, 1, kernel // 2)[0]
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
