"""Views of labelled images, as a frozen encoder sees them: a prompt predictor learns from these.

A view is an image, bent in one of ``views`` ways and embedded once. View 0 is the image as it is,
and its embedding may be given, so that without augmentation the encoder never runs. A view depends
on (seed, image, view) alone and not on when it is made: an interrupted training sees the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from cachetools import LRUCache
from numpy.typing import NDArray
from torch import Tensor

from ...models.interfaces import Segmenter
from ...models.ppn.network import MASK_GRID
from ...models.sam.sam import feature_list, square_masks
from ..augmentation import Augmentation, bend_intensities, random_affine, warp
from ..labelled import LabelledImage

PPN_AUGMENTATION = Augmentation(zoom=1.35, stretch=1.2, degrees=15.0, shift=0.12, vertical_flip=0.0)
"""Flips, translations, rotations and resized crops, as in the paper; ultrasound has a top."""

CACHE_BYTES = 600 * 2**20
"""Views beyond this are made again when they are wanted."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Features (1, C, h, w) in half precision, finest first, and targets (K, g, g) uint8 0..255.

    Targets are the share of each cell that a class covers, on the grid of the mask decoder.
    """

    features: tuple[Tensor, ...]
    targets: Tensor

    @property
    def nbytes(self) -> int:
        """Memory that it holds."""
        return sum(t.nbytes for t in (*self.features, self.targets))


class ViewCache:
    """Makes views and keeps the last used ones, up to ``limit`` bytes.

    Args:
        segmenter: whose encoder sees them.
        images: to learn from.
        values: label values of the K classes, in the order of the queries.
        seed: of the augmentation.
        how: how far views are bent.
        limit: of the memory.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        images: Sequence[LabelledImage],
        values: Sequence[int],
        seed: int,
        how: Augmentation = PPN_AUGMENTATION,
        limit: int = CACHE_BYTES,
    ) -> None:
        self.images = list(images)
        self.encoded = 0
        self._segmenter, self._seed, self._how = segmenter, seed, how
        self._values = list(values)
        self._kept: LRUCache[tuple[int, int], View] = LRUCache(
            limit,
            lambda view: min(view.nbytes, limit),  # one that is above the limit is kept alone
        )

    def get(self, index: int, view: int) -> View:
        """View ``view`` of image ``index``."""
        key = (index, view)
        found = self._kept.get(key)
        if found is None:
            found = self._make(index, view)
            self._kept[key] = found
        return found

    def part(self, indices: Sequence[int], values: Sequence[int]) -> ViewPart:
        """Some of the images and classes; what one part has encoded, all have."""
        return ViewPart(self, tuple(indices), [self._values.index(value) for value in values])

    def _make(self, index: int, view: int) -> View:
        sample = self.images[index]
        masks = torch.from_numpy(np.stack([sample.labels == value for value in self._values]))
        embedding = sample.embedding if view == 0 else None
        if embedding is None:
            image = sample.image
            if view > 0:
                image, masks = self._bent(
                    image, masks, np.random.default_rng([self._seed, index, view])
                )
            embedding = self._segmenter.embed(image, sample.image_id)
            self.encoded += 1
        features = tuple(f.half().cpu().clone() for f in feature_list(embedding))
        height, width = features[-1].shape[-2:]
        grid = (MASK_GRID * height, MASK_GRID * width)
        cover = square_masks(masks.float(), grid, embedding.covered)
        return View(features, (cover * 255).round().to(torch.uint8))

    def _bent(
        self, image: NDArray[np.uint8], masks: Tensor, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], Tensor]:
        """A square crop of image and masks, bent; in the image's shape again where that matters."""
        picture = torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255
        side = min(512, max(image.shape[:2]))
        stack = F.interpolate(torch.cat((picture, masks.float()))[None], (side, side), mode="area")[
            0
        ]
        bent = warp(stack, random_affine(rng, self._how), side)
        if getattr(self._segmenter, "pads", False):
            size = [max(8, round(side * n / max(image.shape[:2]))) for n in image.shape[:2]]
            bent = F.interpolate(bent[None], size, mode="area")[0]
        bright = bend_intensities(bent[:3], rng).permute(1, 2, 0).mul(255).round()
        return bright.to(torch.uint8).numpy(), bent[3:]


class ViewPart:
    """Some images and classes of a `ViewCache`, numbered by themselves."""

    def __init__(self, whole: ViewCache, indices: Sequence[int], rows: list[int]) -> None:
        self.images = [whole.images[index] for index in indices]
        self._whole, self._indices, self._rows = whole, indices, rows

    def get(self, index: int, view: int) -> View:
        """View ``view`` of image ``index``."""
        made = self._whole.get(self._indices[index], view)
        return View(made.features, made.targets[self._rows])


Views = ViewCache | ViewPart


def present_targets(views: Views, most: int = 64) -> Tensor:
    """Masks (M, 1, g, g) in [0, 1] of the classes in up to ``most`` images as they are."""
    taken = [views.get(index, 0).targets for index in range(min(most, len(views.images)))]
    masks = torch.cat(taken)[:, None].float() / 255
    return masks[(masks > 0.5).flatten(1).any(1)]
