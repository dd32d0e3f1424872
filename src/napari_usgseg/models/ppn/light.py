"""Light head: a few convolutions on a segmenter's frozen features that give box and mask prompt.

It stands where the prompt predictor network stands (`network.ClassPrompter`), learns a class from
one image in a few seconds, and has no tokens: its logits are the mask prompt, the box is around
them, and the segmenter's own decoder draws the border. A class of which no pixel is likely is not
in the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from .network import MASK_GRID, LearnedPrompts

GROUPS = 8
"""Of the group norms: they need no batch, and ten images make no good batch norm."""


@dataclass(frozen=True, slots=True)
class LightShape:
    """Sizes of a light head.

    Attributes:
        channels: of the feature levels, coarse to fine.
        width: channels inside, a multiple of `GROUPS`.
        dropout: share of channels that are left out in training.
    """

    channels: tuple[int, ...]
    width: int = 64
    dropout: float = 0.3


class LightHead(nn.Module):
    """A `ClassPrompter` without tokens, for K classes.

    Args:
        shape: of the network.
        classes: K.
    """

    def __init__(self, shape: LightShape, classes: int) -> None:
        super().__init__()
        self.shape, self.classes = shape, classes
        self.lateral = nn.ModuleList(nn.Conv2d(c, shape.width, 1) for c in shape.channels)
        self.smooth = nn.ModuleList(
            nn.Sequential(*self._norm(), nn.Conv2d(shape.width, shape.width, 3, padding=1))
            for _ in shape.channels
        )
        self.last = nn.Sequential(*self._norm(), nn.Conv2d(shape.width, classes, 1))

    def _norm(self) -> tuple[nn.Module, ...]:
        norm = nn.GroupNorm(GROUPS, self.shape.width)
        return norm, nn.ReLU(), nn.Dropout2d(self.shape.dropout)

    def logits(self, features: Sequence[Tensor]) -> Tensor:
        """(I, C_l, h_l, w_l) of I images, finest first, to mask prompts (I, K, 4 h, 4 w)."""
        coarse_first = list(reversed(features))[: len(self.lateral)]
        height, width = coarse_first[0].shape[-2:]
        seen: Tensor | None = None
        for level, lateral, smooth in zip(coarse_first, self.lateral, self.smooth, strict=True):
            here = lateral(level)
            if seen is not None:
                here = here + F.interpolate(seen, here.shape[-2:], mode="bilinear")
            seen = smooth(here)
        assert seen is not None
        grid = (MASK_GRID * height, MASK_GRID * width)
        return F.interpolate(self.last(seen), grid, mode="bilinear")

    def forward(
        self, prompt_encoder: Any, features: Sequence[Tensor], rows: Tensor | None = None
    ) -> LearnedPrompts:
        """Prompts as of `ClassPrompter`: row i * K + k is class k in image i; boxes of all of it.

        `model.box_of_mask` puts them around the mask prompt.
        """
        logits = self.logits(features)
        if rows is not None:
            logits = logits[:, rows]
        logits = logits.flatten(0, 1)[:, None]
        boxes = logits.new_tensor([[0.0, 0.0, 1.0, 1.0]]).expand(len(logits), 4)
        corners, dense = prompt_encoder(
            points=None, boxes=boxes * prompt_encoder.input_image_size[0], masks=logits
        )
        return LearnedPrompts(corners, dense, logits, boxes)


def likeliest(logits: Tensor) -> Tensor:
    """(R, 1): the greatest of each row's logits (R, 1, h, w), below 0 where no pixel is likely."""
    return logits.flatten(1).amax(1, keepdim=True)
