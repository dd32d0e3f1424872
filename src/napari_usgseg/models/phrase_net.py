"""A network that answers "where is PHRASE in this image?" densely.

A light trunk looks at the image; the phrase, as a vector, scales and shifts its feature pyramid
(FiLM, arXiv 1709.07871) and becomes the query whose dot product with the finest level is the mask,
as the learned class queries of Sam2Rad (arXiv 2409.06821, section 3.2), but chosen by text. A
presence logit says whether the phrase is in the image at all.
"""

from __future__ import annotations

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .nano import TRUNK, TRUNK_CHANNELS

WIDTH = 96
FINE_WIDTH = 48
TEXT_DIM = 384


class FilmBlock(nn.Module):
    """A 3 x 3 convolution, group norm, scale and shift by the phrase, GELU."""

    def __init__(self, channels: int, out_channels: int, condition: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(8, out_channels)
        self.film = nn.Linear(condition, 2 * out_channels)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(N, C, h, w) and (N, D) to (N, C', h, w)."""
        scale, shift = self.film(condition)[:, :, None, None].chunk(2, dim=1)
        return F.gelu(self.norm(self.conv(x)) * (1 + scale) + shift)


class PhraseNet(nn.Module):
    """Trunk, text-conditioned pyramid, mask query and presence.

    Args:
        image_size: side in pixels of the square that an image is squashed to; a multiple of 32.
    """

    def __init__(self, image_size: int = 256) -> None:
        super().__init__()
        self.image_size = image_size
        self.trunk = timm.create_model(TRUNK, features_only=True, out_indices=(1, 2, 3, 4))
        s4, s8, s16, s32 = TRUNK_CHANNELS
        self.laterals = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, w, 1, bias=False), nn.GroupNorm(8, w))
            for c, w in ((s4, FINE_WIDTH), (s8, WIDTH), (s16, WIDTH), (s32, WIDTH))
        )
        self.text = nn.Sequential(
            nn.Linear(TEXT_DIM, WIDTH * 2), nn.GELU(), nn.LayerNorm(WIDTH * 2)
        )
        condition = WIDTH * 2
        self.block32 = FilmBlock(WIDTH, WIDTH, condition)
        self.block16 = FilmBlock(WIDTH, WIDTH, condition)
        self.context = FilmBlock(WIDTH, WIDTH, condition)
        self.block8 = FilmBlock(WIDTH, WIDTH, condition)
        self.narrow = nn.Conv2d(WIDTH, FINE_WIDTH, 1)
        self.block4 = FilmBlock(FINE_WIDTH, FINE_WIDTH, condition)
        self.query = nn.Linear(condition, FINE_WIDTH + 1)
        self.presence = nn.Sequential(
            nn.Linear(2 * WIDTH + condition, WIDTH), nn.GELU(), nn.Linear(WIDTH, 1)
        )
        nn.init.constant_(self.query.bias[-1:], -2.0)

    def encode(self, pixels: Tensor) -> list[Tensor]:
        """Normalised pixels (B, 3, S, S) to the pyramid at strides 4, 8, 16, 32."""
        return [
            lateral(feature)
            for lateral, feature in zip(self.laterals, self.trunk(pixels), strict=True)
        ]

    def ask(self, pyramid: list[Tensor], phrases: Tensor) -> tuple[Tensor, Tensor]:
        """Pyramid of N images and N phrase vectors (N, 384) to mask logits and presence logits.

        Returns:
            (N, S/4, S/4) mask logits and (N,) presence logits.
        """
        s4, s8, s16, s32 = pyramid
        condition = self.text(phrases)
        top = self.block32(s32, condition)
        middle = self.block16(s16 + _up(top, s16), condition)
        middle = middle + self.context(middle, condition)
        fine = self.block8(s8 + _up(middle, s8), condition)
        finest = self.block4(s4 + _up(self.narrow(fine), s4), condition)
        query = self.query(condition)
        masks = torch.einsum("nchw,nc->nhw", finest, query[:, :-1]) / FINE_WIDTH**0.5
        masks = masks + query[:, -1][:, None, None]
        pooled = torch.cat([top.mean((2, 3)), middle.amax((2, 3)), condition], dim=1)
        return masks, self.presence(pooled)[:, 0]


def _up(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear")
