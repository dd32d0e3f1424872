"""SAM's first version (arXiv 2304.02643) from folders in transformers' format (``SamModel``).

Its prompt encoder and mask decoder are those that SAM 2 took over, so the weights go into the
``sam2`` package's modules under their names there, and whatever works on a SAM 2 (prompts, prompt
predictor, LoRA) works on it. The image encoder stays transformers' own.

It differs in three things. Its square holds the image with the longer side at full length and zeros
right and below. A box is not followed by the "not a point" token, a click alone is. And it has no
object score: a person's prompt is always answered, and for a prompt predictor the IoU estimate
stands in (``ppn.model.presence``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..checkpoints import folder_id, read_pretrained
from .sam import BOX_CORNER_LABELS, SamNet, SamSegmenter, check_image, to_pixels_by_bytes

RENAMED = (
    (r"^shared_embedding\.positional_embedding$", "pe_layer.positional_encoding_gaussian_matrix"),
    (r"^point_embed\.", "point_embeddings."),
    (r"^mask_embed\.conv1\.", "mask_downscaling.0."),
    (r"^mask_embed\.layer_norm1\.", "mask_downscaling.1."),
    (r"^mask_embed\.conv2\.", "mask_downscaling.3."),
    (r"^mask_embed\.layer_norm2\.", "mask_downscaling.4."),
    (r"^mask_embed\.conv3\.", "mask_downscaling.6."),
    (r"^upscale_conv1\.", "output_upscaling.0."),
    (r"^upscale_layer_norm\.", "output_upscaling.1."),
    (r"^upscale_conv2\.", "output_upscaling.3."),
    (r"\.layer_norm_final_attn\.", ".norm_final_attn."),
    (r"\.layer_norm(\d)\.", r".norm\1."),
    (r"\.o_proj\.", ".out_proj."),
    (r"\.mlp\.(lin1|proj_in)\.", ".mlp.layers.0."),
    (r"\.mlp\.(lin2|proj_out)\.", ".mlp.layers.1."),
)
"""transformers' names of the prompt encoder's and mask decoder's tensors, and ``sam2``'s."""

PERCEPTRON = re.compile(
    r"^(output_hypernetworks_mlps\.\d+|iou_prediction_head|pred_obj_score_head)"
    r"\.(proj_in|proj_out|layers\.\d+)\.(\w+)$"
)
"""transformers keeps a perceptron's first and last layer apart from those between."""


class Sam1Net(SamNet):
    """A ``SamModel`` as `SamSegmenter` wants it.

    Args:
        model: transformers' ``SamModel``; its image encoder is taken over.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.vision_encoder = model.vision_encoder
        self.image_size = int(model.config.vision_config.image_size)
        self.prompt_encoder = _prompt_encoder(model)
        self.mask_decoder = _mask_decoder(model)

    def encode(self, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Normalised pixels (B, 3, S, S) to the image embedding; there are no finer features."""
        return self.vision_encoder(pixels).last_hidden_state, []


class Sam1Segmenter(SamSegmenter):
    """A `Segmenter` over a SAM of the first version: images padded to the square."""

    pads = True

    def _on_square(self, image: NDArray[np.uint8]) -> tuple[Tensor, tuple[float, float]]:
        """Longer side at the square's, on 8 bits as transformers' ``SamProcessor``, then zeros."""
        check_image(image)
        side = self._net.image_size
        scale = side / max(image.shape[:2])
        rows, columns = (max(1, int(length * scale + 0.5)) for length in image.shape[:2])
        pixels = to_pixels_by_bytes(image, (rows, columns))
        padding = (0, side - columns, 0, side - rows)
        # Padded after normalising, so the border is 0 there, the mean colour, and not black.
        return nn.functional.pad(pixels, padding), (rows / side, columns / side)

    def _encode_prompts(
        self, points: tuple[Tensor, Tensor] | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """As in the base class; a box goes in as one, not as two points."""
        box = None
        if points is not None:
            coords, labels = points
            corners = torch.isin(labels[0], torch.tensor(BOX_CORNER_LABELS, device=labels.device))
            if corners.any():
                box = coords[:, corners].reshape(1, 4)
                coords, labels = coords[:, ~corners], labels[:, ~corners]
            points = (coords, labels) if labels.shape[1] else None
        return self._net.prompt_encoder(points=points, boxes=box, masks=mask)


def load_sam1(folder: str | Path, device: str = "cpu", name: str | None = None) -> Sam1Segmenter:
    """SAM's first version from a folder in transformers' format.

    Args:
        folder: with ``config.json`` and ``model.safetensors``.
        device: "cpu", "cuda", ...
        name: for its ``model_id``; else that of the folder.

    Raises:
        ModelNotFoundError: there is no such folder.
        CheckpointError: files are missing, damaged, or of another model.
    """
    from transformers import SamModel

    folder = Path(folder)
    (model,) = read_pretrained(folder, SamModel)
    model_id = folder_id(folder, name)
    return Sam1Segmenter(Sam1Net(model.eval()), model_id, device)


def _prompt_encoder(model: Any) -> nn.Module:
    from sam2.modeling.sam.prompt_encoder import PromptEncoder

    config = model.config.prompt_encoder_config
    grid, side = (int(config.image_embedding_size),) * 2, (int(config.image_size),) * 2
    made = PromptEncoder(config.hidden_size, grid, side, config.mask_input_channels)
    return filled(made, model.prompt_encoder.state_dict())


def _mask_decoder(model: Any) -> nn.Module:
    from sam2.modeling.sam.mask_decoder import MaskDecoder
    from sam2.modeling.sam.transformer import TwoWayTransformer

    config = model.config.mask_decoder_config
    transformer = TwoWayTransformer(
        depth=config.num_hidden_layers,
        embedding_dim=config.hidden_size,
        num_heads=config.num_attention_heads,
        mlp_dim=config.mlp_dim,
        attention_downsample_rate=config.attention_downsample_rate,
    )
    for module in transformer.modules():
        if isinstance(module, nn.LayerNorm):
            # transformers' SAM has 1e-6 where sam2's transformer has torch's 1e-5.
            module.eps = config.layer_norm_eps
    made = MaskDecoder(
        transformer_dim=config.hidden_size,
        transformer=transformer,
        num_multimask_outputs=config.num_multimask_outputs,
        iou_head_depth=config.iou_head_depth,
        iou_head_hidden_dim=config.iou_head_hidden_dim,
    )
    return filled(made, model.mask_decoder.state_dict())


def filled(made: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """``made``, of the ``sam2`` package, with transformers' tensors, shared and not copied."""
    renamed = {_renamed(name, state): value for name, value in state.items()}
    # assign: the tensors themselves and no copies.
    made.load_state_dict(renamed, assign=True)
    return made


def _renamed(name: str, state: Mapping[str, Tensor]) -> str:
    for pattern, there in RENAMED:
        name = re.sub(pattern, there, name)
    match = PERCEPTRON.match(name)
    if match is None:
        return name
    head, place, end = match.groups()
    if place == "proj_in":
        number = 0
    elif place == "proj_out":
        number = 1 + sum(key.startswith(f"{head}.layers.") and key.endswith(end) for key in state)
    else:
        number = 1 + int(place.removeprefix("layers."))
    return f"{head}.layers.{number}.{end}"
