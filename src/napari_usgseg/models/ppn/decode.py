"""The frozen half of a segmenter that a prompt predictor speaks to, with LoRA where it is tuned."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...core.errors import ModelError
from ..interfaces import Segmenter
from ..sam.sam import SamSegmenter

LORA_LAYERS = r".*\.(q_proj|v_proj|k_proj|out_proj)"
"""The decoder's attention projections."""

PRESENCE_SLOPE = 10.0
"""Logits for an IoU of 1: a sure mask counts as present with a probability of 0.99."""


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """What the mask decoder's single-mask output says.

    Attributes:
        logits: (R, 1, g, g).
        iou: (R, 1), its own estimate.
        object_score: (R, 1) logits; below 0 the object is not in the image. A decoder without such
            an output (SAM's first version) answers by its IoU estimate (`presence`).
    """

    logits: Tensor
    iou: Tensor
    object_score: Tensor


class FrozenDecoder:
    """Copies of a segmenter's prompt encoder and mask decoder that no gradient changes.

    Gradients flow through them to the prompts; the segmenter itself is only read.

    Raises:
        ModelError: the segmenter is not of SAM's kind.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        net = sam_net(segmenter)
        self.image_size = int(net.image_size)
        self.prompt_encoder: Any = copy.deepcopy(net.prompt_encoder).requires_grad_(False).eval()
        self.mask_decoder: Any = copy.deepcopy(net.mask_decoder).requires_grad_(False).eval()
        with torch.no_grad():
            self._dense_pe = self.prompt_encoder.get_dense_pe().clone()

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._dense_pe.device

    def __call__(self, features: Sequence[Tensor], sparse: Tensor, dense: Tensor) -> Decoded:
        """Decode R rows of prompts for I images, R a multiple of I, image by image.

        Args:
            features: (I, C_l, h_l, w_l), finest first, the image embedding last.
            sparse: (R, N, C).
            dense: (R, C, h, w).
        """
        repeats = len(sparse) // len(features[-1])
        levels = [f.repeat_interleave(repeats, dim=0) if repeats > 1 else f for f in features]
        logits, iou, _, score = self.mask_decoder.predict_masks(
            image_embeddings=levels[-1],
            image_pe=self._dense_pe,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            repeat_image=False,
            high_res_features=levels[:-1],
        )
        if not self.mask_decoder.pred_obj_scores:
            score = presence(iou[:, :1])
        return Decoded(logits[:, :1], iou[:, :1], score)

    def embed_boxes(self, boxes: Tensor) -> Tensor:
        """(R, 4) XYXY pixels of the network's square -> (R, 2, C)."""
        return self.prompt_encoder(points=None, boxes=boxes, masks=None)[0]

    def embed_masks(self, logits: Tensor) -> Tensor:
        """(R, 1, g, g) -> (R, C, h, w)."""
        return self.prompt_encoder(points=None, boxes=None, masks=logits)[1]

    def embed_points(self, coords: Tensor, labels: Tensor) -> Tensor:
        """(R, P, 2) pixels of the network's square and (R, P) labels -> (R, P + 1, C)."""
        return self.prompt_encoder(points=(coords, labels), boxes=None, masks=None)[0]

    def add_lora(self, rank: int, state: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Put trainable LoRA matrices (arXiv 2106.09685) on the mask decoder's attention.

        Args:
            rank: of the matrices; they start as "no change".
            state: trained matrices by name, as an earlier call's result names them.

        Returns:
            The matrices by name, as they stand in the decoder.
        """
        from peft import LoraConfig, inject_adapter_in_model

        config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=LORA_LAYERS)
        self.mask_decoder = inject_adapter_in_model(config, self.mask_decoder).eval()
        if state is not None:
            self.mask_decoder.load_state_dict(dict(state), strict=False)
        return self.lora()

    def lora(self) -> dict[str, Tensor]:
        """The LoRA matrices by name; {} where there are none."""
        named = self.mask_decoder.named_parameters()
        return {name: tensor for name, tensor in named if ".lora_" in name}


def presence(iou: Tensor) -> Tensor:
    """A logit that the object is there from the decoder's estimate of its mask's IoU.

    It is 0 at an IoU of one half. In training the cross-entropy of absent classes makes the
    prompts such that the estimate falls below that, as it does with a true object score.
    """
    return PRESENCE_SLOPE * (iou - 0.5)


def sam_net(segmenter: Segmenter) -> Any:
    """The network behind a segmenter.

    Raises:
        ModelError: the segmenter is not of SAM's kind.
    """
    if not isinstance(segmenter, SamSegmenter):
        raise ModelError(
            f"a prompt predictor needs a segmenter of SAM's kind, {segmenter.model_id} is not: "
            "take nano, a SAM 2.1 or a SAM"
        )
    return segmenter.net
