"""Sam2Rad's prompt predictor network (PPN): learned prompts from a frozen encoder's features.

Class queries attend to the image's features through one two-way attention block for each level,
coarse to fine; each level starts from its features plus the tokens of the level before. Of the
updated queries the first two give a box, the others stay prompts; the updated image tokens give a
mask prompt (arXiv 2409.06821, section 3.2; the published ``HighResPPN``, whose state dicts
``ppn.published`` reads). The prompt encoder that embeds box and mask is the segmenter's: it is an
argument, never a part of the network, so that nothing of it can be trained or saved by mistake.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from sam2.modeling.position_encoding import PositionEmbeddingSine
from sam2.modeling.sam.transformer import TwoWayAttentionBlock
from sam2.modeling.sam2_utils import MLP
from torch import Tensor, nn

BOX_TOKENS = 2
"""So many of the queries become the box."""

MASK_GRID = 4
"""A mask prompt has so many times the side of the image embedding, in every SAM."""


@dataclass(frozen=True, slots=True)
class PpnShape:
    """Sizes of a network; all but ``num_heads`` can be read from its state dict.

    Attributes:
        channels: of the feature levels, coarse to fine; one attention block for each.
        embed_dim: of the queries, and of the segmenter's prompts.
        mlp_dim: hidden size of the blocks' MLPs (2048 in the paper).
        downsample: how much narrower the attention between queries and image is.
        mask_hidden: channels of the mask prompt's convolutions.
        mask_layers: number of those convolutions.
        box_hidden: hidden size of the box head.
        box_layers: number of the box head's layers.
        num_heads: of every attention.
    """

    channels: tuple[int, ...]
    embed_dim: int = 256
    mlp_dim: int = 2048
    downsample: int = 2
    mask_hidden: int = 64
    mask_layers: int = 2
    box_hidden: int = 256
    box_layers: int = 2
    num_heads: int = 8


@dataclass(frozen=True, slots=True, eq=False)
class LearnedPrompts:
    """Prompts that the network predicts for each query set, as SAM's mask decoder wants it.

    Attributes:
        sparse: (B, N, C): two box corners as the prompt encoder embeds them, then N - 2 tokens.
        dense: (B, C, h, w), the embedded mask prompt.
        mask_logits: (B, 1, 4 h, 4 w), the mask prompt.
        boxes: (B, 4) XYXY as fractions of the network's square; x1 and y1 may pass 1.
    """

    sparse: Tensor
    dense: Tensor
    mask_logits: Tensor
    boxes: Tensor

    @property
    def tokens(self) -> Tensor:
        """(B, N - 2, C): the sparse prompts that are no box."""
        return self.sparse[:, BOX_TOKENS:]


class OrdinalEncoding(nn.Module):
    """Sines and cosines of a token's number, alternating: (N, C)."""

    inv_freq: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        exponents = torch.arange(0, channels, 2).float() / channels
        self.register_buffer("inv_freq", 10000.0**-exponents)

    def forward(self, count: int) -> Tensor:
        """Encodings of the numbers 0 .. ``count`` - 1."""
        angles = torch.arange(count, device=self.inv_freq.device)[:, None] * self.inv_freq
        return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)


class BoxHead(nn.Module):
    """Two tokens to a box: corner and size, each in (0, 1)."""

    def __init__(self, shape: PpnShape) -> None:
        super().__init__()
        self.mlp = MLP(BOX_TOKENS * shape.embed_dim, shape.box_hidden, 4, shape.box_layers)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, 2, C) -> (B, 4) XYXY fractions."""
        corner, size = self.mlp(tokens.flatten(1)).sigmoid().chunk(2, dim=1)
        return torch.cat((corner, corner + size), dim=1)


class MaskHead(nn.Module):
    """Image tokens to the logits of a mask prompt."""

    def __init__(self, shape: PpnShape, dropout: float = 0.1) -> None:
        super().__init__()
        widths = [shape.embed_dim, *[shape.mask_hidden] * shape.mask_layers]
        self.layers = nn.ModuleList(
            nn.Conv2d(wide, narrow, 3, padding=1) for wide, narrow in pairwise(widths)
        )
        self.dropout = nn.Dropout2d(dropout)
        self.final_conv = nn.Conv2d(shape.mask_hidden, 1, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, C, h, w) -> (B, 1, *size)."""
        for layer in self.layers:
            features = self.dropout(F.relu(layer(features)))
        logits = self.final_conv(features)
        if logits.shape[-2:] == size:
            return logits
        return F.interpolate(logits, size, mode="bilinear", align_corners=False)


class PromptPredictor(nn.Module):
    """The network without its queries; state dicts are the published implementation's."""

    def __init__(self, shape: PpnShape) -> None:
        super().__init__()
        self.shape = shape
        self.pos_encoding2d = PositionEmbeddingSine(shape.embed_dim, warmup_cache=False)
        self.pos_encoding1d = OrdinalEncoding(shape.embed_dim)
        self.box_regression_head = BoxHead(shape)
        self.mask_classifier = MaskHead(shape)
        self.channel_adapters = nn.ModuleList(
            nn.Identity()
            if channels == shape.embed_dim
            else nn.Conv2d(channels, shape.embed_dim, 1)
            for channels in shape.channels
        )
        self.layers = nn.ModuleList(
            TwoWayAttentionBlock(
                shape.embed_dim,
                shape.num_heads,
                mlp_dim=shape.mlp_dim,
                attention_downsample_rate=shape.downsample,
                skip_first_layer_pe=level == 0,
            )
            for level in range(len(shape.channels))
        )

    def forward(
        self, prompt_encoder: Any, features: Sequence[Tensor], queries: Tensor
    ) -> LearnedPrompts:
        """Predict prompts.

        Args:
            prompt_encoder: the segmenter's; ``sam2``'s PromptEncoder or one that is called alike.
            features: (I, C_l, h_l, w_l) of I images, finest level first, the image embedding last.
                The list is only read. A network of fewer levels than there are features takes the
                coarsest ones.
            queries: (I * K, N, C): K sets of queries for the first image, then for the next.
        """
        coarse_first = list(reversed(features))[: len(self.layers)]
        repeats = len(queries) // len(coarse_first[0])
        query_pe = self.pos_encoding1d(queries.shape[1])
        dense = prompt_encoder.no_mask_embed.weight[..., None, None]
        for block, adapt, level in zip(
            self.layers, self.channel_adapters, coarse_first, strict=True
        ):
            image = adapt(level).repeat_interleave(repeats, dim=0)
            if dense.shape[-2:] != (1, 1):
                dense = F.interpolate(dense, image.shape[-2:], mode="nearest")
            image_pe = self.pos_encoding2d(image[:1]).flatten(2).transpose(1, 2)
            queries, tokens = block(
                queries=queries,
                keys=(image + dense).flatten(2).transpose(1, 2),
                query_pe=query_pe,
                key_pe=image_pe,
            )
            dense = tokens.transpose(1, 2).unflatten(2, image.shape[-2:])
        height, width = coarse_first[0].shape[-2:]
        mask_logits = self.mask_classifier(dense, (MASK_GRID * height, MASK_GRID * width))
        boxes = self.box_regression_head(queries[:, :BOX_TOKENS])
        corners, dense = prompt_encoder(
            points=None, boxes=boxes * prompt_encoder.input_image_size[0], masks=mask_logits
        )
        sparse = torch.cat((corners, queries[:, BOX_TOKENS:]), dim=1)
        return LearnedPrompts(sparse, dense, mask_logits, boxes)


class ClassPrompter(nn.Module):
    """A `PromptPredictor` with the queries of K classes.

    Args:
        shape: of the network.
        classes: K.
        tokens: N queries for each class, the box's two among them.
    """

    def __init__(self, shape: PpnShape, classes: int, tokens: int) -> None:
        super().__init__()
        self.predictor = PromptPredictor(shape)
        self.queries = nn.Parameter(torch.randn(classes, tokens, shape.embed_dim))

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.queries)

    def forward(
        self, prompt_encoder: Any, features: Sequence[Tensor], rows: Tensor | None = None
    ) -> LearnedPrompts:
        """Prompts of every class for I images: row i * K + k is class k in image i.

        ``rows`` (R,) asks for some classes only, the same ones in every image.
        """
        chosen = self.queries if rows is None else self.queries[rows]
        images = len(features[-1])
        return self.predictor(prompt_encoder, features, chosen.repeat(images, 1, 1))
