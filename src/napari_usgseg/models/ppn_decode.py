"""The frozen half of a segmenter that a prompt predictor speaks to."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .sam import SamSegmenter


class FrozenDecoder:
    """Copies of a segmenter's prompt encoder and mask decoder that no gradient changes.

    Gradients flow through them to the prompts; the segmenter itself is only read.
    """

    def __init__(self, segmenter: SamSegmenter) -> None:
        net = segmenter.net
        self.image_size = int(net.image_size)
        self.prompt_encoder: Any = copy.deepcopy(net.prompt_encoder).requires_grad_(False).eval()
        self.mask_decoder: Any = copy.deepcopy(net.mask_decoder).requires_grad_(False).eval()
        with torch.no_grad():
            self._dense_pe = self.prompt_encoder.get_dense_pe().clone()

    def __call__(
        self, features: Sequence[Tensor], sparse: Tensor, dense: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Decode R rows of prompts for I images, R a multiple of I, image by image.

        Args:
            features: (I, C_l, h_l, w_l), finest first, the image embedding last.
            sparse: (R, N, C).
            dense: (R, C, h, w).

        Returns:
            Logits (R, 1, g, g) of the single-mask output, and object scores (R, 1).
        """
        repeats = len(sparse) // len(features[-1])
        levels = [f.repeat_interleave(repeats, dim=0) if repeats > 1 else f for f in features]
        logits, _, _, score = self.mask_decoder.predict_masks(
            image_embeddings=levels[-1],
            image_pe=self._dense_pe,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            repeat_image=False,
            high_res_features=levels[:-1],
        )
        return logits[:, :1], score

    def embed_boxes(self, boxes: Tensor) -> Tensor:
        """(R, 4) XYXY pixels of the network's square -> (R, 2, C)."""
        return self.prompt_encoder(points=None, boxes=boxes, masks=None)[0]

    def embed_masks(self, logits: Tensor) -> Tensor:
        """(R, 1, g, g) -> (R, C, h, w)."""
        return self.prompt_encoder(points=None, boxes=None, masks=logits)[1]

    def embed_points(self, coords: Tensor, labels: Tensor) -> Tensor:
        """(R, P, 2) pixels of the network's square and (R, P) labels -> (R, P + 1, C)."""
        return self.prompt_encoder(points=(coords, labels), boxes=None, masks=None)[0]
