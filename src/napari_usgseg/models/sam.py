"""Prompts to masks with any network of SAM 2's shape: one `Segmenter` for nano and for SAM 2.1.

The arithmetic is the ``sam2`` package's own (``SAM2ImagePredictor``, arXiv 2408.00714), so that the
same weights give the same logits; what differs is that nothing is remembered between two calls.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ModelError, PromptError
from ..types import ImageEmbedding, Prediction, Prompts
from .sam_prompts import LOGIT_LIMIT, prompt_logits, prompt_points
from .sam_square import WHOLE, image_logits

PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)
MASK_THRESHOLD = 0.0


class SamNet(Protocol):
    """What a network needs in order to stand behind `SamSegmenter`.

    ``prompt_encoder`` and ``mask_decoder`` are called as the ``sam2`` package's modules are;
    ``encode`` takes normalised pixels (B, 3, S, S) with S = ``image_size``, and gives the image
    embedding (B, C, S/16, S/16) and the decoder's high-resolution features, finest first.
    """

    image_size: int

    @property
    def prompt_encoder(self) -> Any:
        """``sam2``'s PromptEncoder."""
        ...

    @property
    def mask_decoder(self) -> Any:
        """``sam2``'s MaskDecoder."""
        ...

    def encode(self, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Pixels to image embedding and high-resolution features."""
        ...

    def to(self, device: str) -> Any:
        """Move the network, as `torch.nn.Module.to` does."""
        ...

    def eval(self) -> Any:
        """Switch to inference, as `torch.nn.Module.eval` does."""
        ...


class SamSegmenter:
    """A `Segmenter` over a `SamNet`.

    The network is moved to ``device``, switched to evaluation and only read from then on, so that
    ``embed`` and ``predict`` may run in several threads at once. Whoever goes on training the
    network must switch it back, and make a new segmenter for the new weights.

    Args:
        net: the network.
        model_id: name and content hash of its weights; embeddings carry it.
        device: "cpu", "cuda", "cuda:1", ...

    Attributes:
        pads: images keep their shape on the network's square; otherwise they are squashed to it.
    """

    pads = False

    def __init__(self, net: SamNet, model_id: str, device: str = "cpu") -> None:
        self._net = net.to(device).eval()
        self._device = torch.device(device)
        self._model_id = model_id
        with torch.inference_mode():
            self._dense_pe = self._net.prompt_encoder.get_dense_pe()

    @property
    def model_id(self) -> str:
        """Name and content hash of the weights: the key of an embedding."""
        return self._model_id

    @property
    def net(self) -> SamNet:
        """The network itself, for a prompt predictor or a benchmark; do not change it."""
        return self._net

    @torch.inference_mode()
    def embed(self, image: NDArray[np.uint8], image_id: str = "") -> ImageEmbedding:
        """Encode an image, (H, W, 3) RGB uint8.

        Raises:
            ModelError: the array is not such an image.
        """
        pixels, covered = self._on_square(image)
        image_embed, high_res = self._net.encode(pixels.to(self._device))
        features = {"image_embed": image_embed}
        features.update({f"high_res_{level}": tensor for level, tensor in enumerate(high_res)})
        return ImageEmbedding(image_id, self._model_id, image.shape[:2], features, covered)

    def _on_square(self, image: NDArray[np.uint8]) -> tuple[Tensor, tuple[float, float]]:
        """Normalised pixels (1, 3, S, S), and the share of them that the image covers."""
        return to_pixels(image, self._net.image_size), WHOLE

    @torch.inference_mode()
    def predict(
        self, embedding: ImageEmbedding, prompts: Prompts, multimask: bool | None = None
    ) -> Prediction:
        """Masks for one object, best first by ``iou_predictions``.

        Args:
            embedding: from this segmenter's ``embed``.
            prompts: points, box, scribbles, previous logits, in any combination. A box that
                reaches over the image's border is cut off there, and so is a scribble.
            multimask: True gives the three candidates; False the single-mask output; None gives
                one mask, the best of three where the prompt is ambiguous (a single point and
                nothing else), the single-mask output elsewhere.

        Raises:
            ModelError: the embedding is another model's.
            PromptError: there is neither a point, a box, a scribble nor a mask, or one of them is
                malformed, not finite or outside the image.
        """
        self._check_is_mine(embedding)
        covered = embedding.covered
        points = prompt_points(prompts, embedding.size_hw, self._net.image_size, covered)
        mask = prompt_logits(prompts.mask_input, self._net.prompt_encoder.mask_input_size, covered)
        if points is None and mask is None:
            raise PromptError("nothing to go by: give a point, a box, a scribble or a mask_input")
        ambiguous = points is not None and points[1].shape[1] == 1 and mask is None
        low_res, iou, object_score = self._decode(
            embedding, points, mask, multimask is True or (multimask is None and ambiguous)
        )
        order = iou.argsort(descending=True, stable=True)
        if multimask is not True:
            order = order[:1]
        low_res, iou = low_res[order], iou[order]
        full = image_logits(low_res, embedding, self._net.image_size)
        return Prediction(
            masks=(full > MASK_THRESHOLD).cpu().numpy(),
            iou_predictions=iou.cpu().numpy(),
            low_res_logits=low_res.clamp(-LOGIT_LIMIT, LOGIT_LIMIT).cpu().numpy(),
            object_score=float(object_score),
        )

    def _decode(
        self,
        embedding: ImageEmbedding,
        points: tuple[Tensor, Tensor] | None,
        mask: Tensor | None,
        multimask: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (N, h, w), IoU predictions (N,) and object score (1, 1)."""
        features = [feature.to(self._device) for feature in feature_list(embedding)]
        if points is not None:
            points = points[0].to(self._device), points[1].to(self._device)
        sparse, dense = self._encode_prompts(
            points, None if mask is None else mask.to(self._device)
        )
        low_res, iou, _, object_score = self._net.mask_decoder(
            image_embeddings=features[-1],
            image_pe=self._dense_pe,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
            repeat_image=False,
            high_res_features=features[:-1],
        )
        return low_res[0].float(), iou[0].float(), object_score

    def _encode_prompts(
        self, points: tuple[Tensor, Tensor] | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Sparse (1, K, C) and dense (1, C, h, w) prompts of points (1, N, 2) with their labels."""
        return self._net.prompt_encoder(points=points, boxes=None, masks=mask)

    def _check_is_mine(self, embedding: ImageEmbedding) -> None:
        if embedding.model_id != self._model_id:
            raise ModelError(
                f"the embedding of image {embedding.image_id!r} was made by {embedding.model_id}, "
                f"this segmenter is {self._model_id}: embed the image again with it"
            )


def feature_list(embedding: ImageEmbedding) -> list[Tensor]:
    """An embedding's features (1, C, h, w), finest level first, the image embedding last."""
    levels = range(len(embedding.features) - 1)
    fine = [embedding.features[f"high_res_{level}"] for level in levels]
    return [*fine, embedding.features["image_embed"]]


def to_pixels(image: NDArray[np.uint8], image_size: int) -> Tensor:
    """What the encoders see: (H, W, 3) RGB uint8 squashed to (1, 3, S, S), ImageNet-normalised.

    The same arithmetic in the same order as the ``sam2`` package's transform (ToTensor, Resize
    with antialias, Normalize).

    Raises:
        ModelError: the array is not (H, W, 3) uint8, or is empty.
    """
    check_image(image)
    # A copy: the caller's array may be read-only or have negative strides, which torch refuses.
    pixels = torch.from_numpy(image.transpose(2, 0, 1).copy()).float().div_(255)[None]
    pixels = F.interpolate(
        pixels, (image_size, image_size), mode="bilinear", align_corners=False, antialias=True
    )
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    return pixels.sub_(mean).div_(std)


def check_image(image: NDArray[np.uint8]) -> None:
    """Refuse what is not an image.

    Raises:
        ModelError: the array is not (H, W, 3) uint8, or is empty.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ModelError(
            f"a model needs an image of shape (H, W, 3) and type uint8, got {image.shape} "
            f"{image.dtype}: napari_usgseg.io.images.to_rgb_uint8 makes one"
        )
