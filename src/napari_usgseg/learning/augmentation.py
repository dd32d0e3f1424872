"""Squashing of images and label maps to a square, and the augmentation of both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..models.sam.sam import PIXEL_MEAN, PIXEL_STD


def squash(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """(H, W, 3) RGB to (side, side, 3), antialiased, aspect not kept, as SAM 2's transform does."""
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))


def squash_labels(labels: NDArray[np.integer], side: int) -> NDArray[np.uint8]:
    """(H, W) labels to (side, side), nearest neighbour."""
    picture = Image.fromarray(labels.astype(np.uint8))
    return np.asarray(picture.resize((side, side), Image.Resampling.NEAREST))


def normalise(images: Tensor) -> Tensor:
    """(B, 3, H, W) in [0, 1] to ImageNet statistics."""
    mean = torch.tensor(PIXEL_MEAN).view(1, 3, 1, 1)
    std = torch.tensor(PIXEL_STD).view(1, 3, 1, 1)
    return (images - mean) / std


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How far an image is bent. All ranges are symmetric in log or about zero.

    Attributes:
        zoom: largest magnification and reduction.
        stretch: largest change of aspect ratio.
        degrees: largest rotation.
        shift: largest translation, as a fraction of the image.
        vertical_flip: probability; ultrasound has a top, so it is small.
    """

    zoom: float = 1.6
    stretch: float = 1.35
    degrees: float = 20.0
    shift: float = 0.2
    vertical_flip: float = 0.05


def random_affine(rng: np.random.Generator, how: Augmentation) -> NDArray[np.float32]:
    """(2, 3) matrix from output to input coordinates in [-1, 1]."""
    zoom = np.exp(rng.uniform(-1, 1) * np.log(how.zoom))
    stretch = np.exp(rng.uniform(-0.5, 0.5) * np.log(how.stretch))
    angle = np.deg2rad(rng.uniform(-1, 1) * how.degrees)
    flip_x = -1.0 if rng.random() < 0.5 else 1.0
    flip_y = -1.0 if rng.random() < how.vertical_flip else 1.0
    scale = np.diag([flip_x * stretch / zoom, flip_y / (stretch * zoom)])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shift = rng.uniform(-1, 1, 2) * how.shift * 2
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
