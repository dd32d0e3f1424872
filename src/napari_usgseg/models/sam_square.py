"""Where an image lies on the square that an encoder sees, and the way there and back.

SAM 2 squashes an image to the square; SAM's first version scales its longer side and pads the rest,
on the right and below. An embedding says which share of the square its image covers.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ..types import ImageEmbedding

WHOLE = (1.0, 1.0)
"""The share of the square that a squashed image covers."""

FINE = 4
"""So many parts of a cell's side are told apart where an image ends within a cell."""


def image_logits(low_res: Tensor, embedding: ImageEmbedding, image_size: int) -> Tensor:
    """Logits (N, h, w) over the square to (N, H, W) over the image.

    A padded square is enlarged to the encoder's own size and cut before it becomes the image, as
    SAM's ``postprocess_masks`` does.
    """
    logits = low_res[None]
    if embedding.covered != WHOLE:
        rows, columns = (round(share * image_size) for share in embedding.covered)
        logits = _resized(logits, (image_size, image_size))[..., :rows, :columns]
    return _resized(logits, embedding.size_hw)[0]


def square_masks(
    masks: Tensor, grid_hw: tuple[int, int], covered: tuple[float, float] = WHOLE
) -> Tensor:
    """Masks (K, H, W) over an image as the share (K, h, w) of each of the square's cells."""
    if covered == WHOLE:
        return F.interpolate(masks[None], grid_hw, mode="area")[0]
    fine = [FINE * side for side in grid_hw]
    rows, columns = (round(share * side) for share, side in zip(covered, fine, strict=True))
    placed = F.interpolate(masks[None], (rows, columns), mode="area")
    placed = F.pad(placed, (0, fine[1] - columns, 0, fine[0] - rows))
    return F.avg_pool2d(placed, FINE)[0]


def _resized(logits: Tensor, size_hw: tuple[int, int]) -> Tensor:
    return F.interpolate(logits, size_hw, mode="bilinear", align_corners=False)
