"""EdgeTAM (arXiv 2501.07256) from folders in transformers' format (``EdgeTamVideoModel``).

A SAM 2 with a light image encoder, whose memory of a frame is a few hundred tokens. As with SAM's
first version the prompt encoder and the mask decoder are the ``sam2`` package's modules with these
weights, which transformers' own modules share; image encoder and memory stay transformers'.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..checkpoints import folder_id, read_pretrained
from .sam import WHOLE, SamNet, SamSegmenter, to_pixels_by_bytes
from .sam1 import filled


class EdgeTamNet(SamNet):
    """An ``EdgeTamVideoModel`` as `SamSegmenter` wants it.

    Attributes:
        video: the model, for propagation through loops.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.video = model
        self.image_size = int(model.config.image_size)
        self.prompt_encoder = _prompt_encoder(model)
        self.mask_decoder = _mask_decoder(model)

    def encode(self, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Normalised pixels (B, 3, S, S) to image embedding and [stride 4, stride 8] features.

        An image without a past gets the "no memory" embedding.
        """
        *fine, image_embed = self.video.get_image_embeddings(pixels)
        return image_embed, fine

    def session(self, count: int, pixels_of: Callable[[int], Tensor]) -> Any:
        """An inference session of transformers' over a loop that is read frame by frame.

        Args:
            count: frames of the loop.
            pixels_of: normalised pixels (1, 3, S, S) of a frame.
        """
        from transformers.models.edgetam_video.modeling_edgetam_video import (
            EdgeTamVideoInferenceSession,
        )

        class Streamed(EdgeTamVideoInferenceSession):
            """Transformers' own holds the pixels of all frames."""

            @property
            def num_frames(self) -> int:
                return count

            def get_frame(self, frame_idx: int) -> Tensor:
                return pixels_of(frame_idx)[0].to(self.inference_device)

        device = self.video.device
        return Streamed(inference_device=device, inference_state_device=device, dtype=torch.float32)


class EdgeTamSegmenter(SamSegmenter):
    """A `Segmenter` over an EdgeTAM."""

    def _on_square(self, image: NDArray[np.uint8]) -> tuple[Tensor, tuple[float, float]]:
        """Squashed to the square, on 8 bits as transformers' ``Sam2ImageProcessor``."""
        return to_pixels_by_bytes(image, (self._net.image_size,) * 2), WHOLE

    def _encode_prompts(
        self, points: tuple[Tensor, Tensor] | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """As in the base class; a mask alone comes with a point that is none."""
        if points is None:
            device = self._device
            points = (
                torch.zeros(1, 1, 2, device=device),
                -torch.ones(1, 1, dtype=torch.int32, device=device),
            )
        return super()._encode_prompts(points, mask)


def load_edgetam(folder: str | Path, device: str = "cpu", name: str | None = None) -> SamSegmenter:
    """EdgeTAM from a folder in transformers' format.

    Args:
        folder: with ``config.json`` and ``model.safetensors``.
        device: "cpu", "cuda", ...
        name: for its ``model_id``; else that of the folder.

    Raises:
        ModelNotFoundError: there is no such folder.
        CheckpointError: files are missing, damaged, or of another model.
    """
    from transformers import EdgeTamVideoModel

    folder = Path(folder)
    (model,) = read_pretrained(folder, EdgeTamVideoModel)
    model_id = folder_id(folder, name)
    return EdgeTamSegmenter(EdgeTamNet(model.eval()), model_id, device)


def _prompt_encoder(model: Any) -> nn.Module:
    from sam2.modeling.sam.prompt_encoder import PromptEncoder

    config, source = model.config.prompt_encoder_config, model.prompt_encoder
    made = PromptEncoder(
        config.hidden_size,
        source.image_embedding_size,
        (config.image_size,) * 2,
        config.mask_input_channels,
    )
    state = source.state_dict()
    points = state.pop("point_embed.weight")
    state |= {f"point_embed.{n}.weight": points[n : n + 1] for n in range(len(points))}
    return filled(made, state)


def _mask_decoder(model: Any) -> nn.Module:
    from sam2.modeling.sam.mask_decoder import MaskDecoder
    from sam2.modeling.sam.transformer import TwoWayTransformer

    config = model.config.mask_decoder_config
    made = MaskDecoder(
        transformer_dim=config.hidden_size,
        transformer=TwoWayTransformer(
            depth=config.num_hidden_layers,
            embedding_dim=config.hidden_size,
            num_heads=config.num_attention_heads,
            mlp_dim=config.mlp_dim,
            attention_downsample_rate=config.attention_downsample_rate,
        ),
        num_multimask_outputs=config.num_multimask_outputs,
        iou_head_depth=config.iou_head_depth,
        iou_head_hidden_dim=config.iou_head_hidden_dim,
        use_high_res_features=True,
        iou_prediction_use_sigmoid=True,
        dynamic_multimask_via_stability=config.dynamic_multimask_via_stability,
        dynamic_multimask_stability_delta=config.dynamic_multimask_stability_delta,
        dynamic_multimask_stability_thresh=config.dynamic_multimask_stability_thresh,
        pred_obj_scores=True,
        pred_obj_scores_mlp=True,
    )
    return filled(made, model.mask_decoder.state_dict())
