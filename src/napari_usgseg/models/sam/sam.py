"""Prompts to masks with any network of SAM 2's shape: one `Segmenter` for nano and for SAM 2.1.

The arithmetic is the ``sam2`` package's own (``SAM2ImagePredictor``, arXiv 2408.00714), so that the
same weights give the same logits; what differs is that nothing is remembered between two calls.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ...core.errors import ModelError, PromptError
from ...core.geometry import clip_box, covered_cells, scribble_to_points
from ...core.types import BoolArray, FloatArray, ImageEmbedding, Prediction, Prompts

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
    # A padded image ends within a cell. On a grid FINE times as dense it ends on a border nearly,
    # and the mean over FINE x FINE gives the share of that cell.
    placed = F.interpolate(masks[None], (rows, columns), mode="area")
    placed = F.pad(placed, (0, fine[1] - columns, 0, fine[0] - rows))
    return F.avg_pool2d(placed, FINE)[0]


def _resized(logits: Tensor, size_hw: tuple[int, int]) -> Tensor:
    return F.interpolate(logits, size_hw, mode="bilinear", align_corners=False)


LOGIT_LIMIT = 32.0
"""Low-resolution logits are clamped to this, when they are returned and when they are fed back."""

BOX_CORNER_LABELS = (2, 3)
"""SAM's point labels of a box's top-left and bottom-right corner."""

SCRIBBLE_SPACING = 1 / 16
"""Distance between two points of a scribble, as a fraction of the image's longer side."""

SCRIBBLE_LIMIT = 8
"""The most points that one scribble becomes."""


def scale_points(
    points: FloatArray,
    size_hw: tuple[int, int],
    image_size: int,
    covered: tuple[float, float] = WHOLE,
) -> Tensor:
    """Points (N, 2) XY pixels of an image of ``size_hw`` to the network's square, as SAM 2 does."""
    height, width = size_hw
    scaled = torch.as_tensor(np.ascontiguousarray(points), dtype=torch.float32).clone()
    scaled[:, 0] *= covered[1]
    scaled[:, 1] *= covered[0]
    # Divided by the length and not by the length - 1, and without half a pixel's shift: SAM 2's own
    # transform, with which the weights were trained.
    scaled[:, 0] /= width
    scaled[:, 1] /= height
    return scaled * image_size


def prompt_points(
    prompts: Prompts,
    size_hw: tuple[int, int],
    image_size: int,
    covered: tuple[float, float] = WHOLE,
) -> tuple[Tensor, Tensor] | None:
    """Box corners, clicks and scribbles, in this order, on the network's square.

    Args:
        prompts: in pixels of the image.
        size_hw: (H, W) of the image.
        image_size: side in pixels of the network's square.
        covered: share of the square that the image covers (``ImageEmbedding.covered``).

    Returns:
        (1, N, 2) coordinates and (1, N) labels, or None where nothing is pointed at.

    Raises:
        PromptError: something is malformed, not finite or outside the image.
    """
    parts = [_clicks(prompts, size_hw)]
    if prompts.box is not None:
        corners = _checked_box(prompts.box, size_hw).reshape(2, 2)
        # SAM 2 puts a box ahead of the points; the order is part of what the weights know.
        parts.insert(0, (corners, np.array(BOX_CORNER_LABELS, np.int32)))
    parts.extend(_scribble(line, label, size_hw) for line, label in prompts.scribbles)
    coords = np.concatenate([part[0] for part in parts])
    if len(coords) == 0:
        return None
    labels = torch.from_numpy(np.concatenate([part[1] for part in parts]))
    return scale_points(coords, size_hw, image_size, covered)[None], labels[None]


def _clicks(prompts: Prompts, size_hw: tuple[int, int]) -> tuple[FloatArray, NDArray[np.int32]]:
    coords = np.asarray(prompts.point_coords, np.float32)
    labels = np.asarray(prompts.point_labels)
    if coords.ndim != 2 or coords.shape[1] != 2 or labels.shape != coords.shape[:1]:
        raise PromptError(
            f"points must be (N, 2) with (N,) labels, got {coords.shape} and {labels.shape}"
        )
    outside = ~_inside(coords, size_hw)
    if outside.any():
        x, y = coords[outside][0]
        raise PromptError(
            f"point ({x:g}, {y:g}) is outside the image of {size_hw[1]} x {size_hw[0]} pixels: "
            "click inside it"
        )
    return coords, _checked_labels(labels)


def _scribble(
    line: FloatArray, label: int, size_hw: tuple[int, int]
) -> tuple[FloatArray, NDArray[np.int32]]:
    line = np.asarray(line, np.float32)
    if line.ndim != 2 or line.shape[1] != 2 or not np.isfinite(line).all():
        raise PromptError(f"a scribble must be (M, 2) finite XY pixels, got shape {line.shape}")
    points = scribble_to_points(line, SCRIBBLE_SPACING * max(size_hw), SCRIBBLE_LIMIT)
    points = points[_inside(points, size_hw)]
    if len(points) == 0:
        raise PromptError(
            f"the scribble lies outside the image of {size_hw[1]} x {size_hw[0]} pixels: "
            "draw inside it"
        )
    return points, _checked_labels(np.full(len(points), label))


def _inside(points: FloatArray, size_hw: tuple[int, int]) -> BoolArray:
    """Which of (N, 2) XY points lie on a pixel of the image; NaN and infinity do not."""
    limit = np.array(size_hw[::-1], np.float32) - 0.5
    inside: BoolArray = (points >= -0.5) & (points <= limit)
    return np.all(inside, axis=1)


def _checked_labels(labels: NDArray[Any]) -> NDArray[np.int32]:
    if not np.isin(labels, (0, 1)).all():
        raise PromptError(f"labels must be 1 (positive) or 0 (negative), got {labels.tolist()}")
    return labels.astype(np.int32)


def _checked_box(box: FloatArray, size_hw: tuple[int, int]) -> FloatArray:
    box = np.asarray(box, np.float32)
    if box.shape != (4,) or not np.isfinite(box).all():
        raise PromptError(f"a box must be four finite numbers x0,y0,x1,y1, got {box.tolist()}")
    x0, y0, x1, y1 = box
    if x1 < x0 or y1 < y0:
        raise PromptError(
            f"box {box.tolist()} has its corners swapped: top-left first, then bottom-right"
        )
    height, width = size_hw
    if x1 < -0.5 or y1 < -0.5 or x0 > width - 0.5 or y0 > height - 0.5:
        raise PromptError(
            f"box {box.tolist()} is outside the image of {width} x {height} pixels: draw inside it"
        )
    return clip_box(box, size_hw)


def prompt_logits(
    mask: FloatArray | None, grid_hw: tuple[int, int], covered: tuple[float, float] = WHOLE
) -> Tensor | None:
    """A previous prediction's logits (h, w) on the network's grid, as (1, 1, H, W).

    Logits of another size than the grid's are those of the whole image, and are put where the
    image is (``covered``); what is beside it is not the object.

    Raises:
        PromptError: they are malformed or not finite.
    """
    if mask is None:
        return None
    logits = np.array(mask, np.float32)
    if logits.ndim != 2 or logits.size == 0 or not np.isfinite(logits).all():
        raise PromptError(
            f"mask_input must be (h, w) finite logits, got shape {logits.shape}: "
            "take one of a Prediction's low_res_logits"
        )
    tensor = torch.from_numpy(logits)[None, None]
    if logits.shape != tuple(grid_hw):
        size = covered_cells(covered, grid_hw)
        tensor = F.interpolate(tensor, size, mode="bilinear", align_corners=False, antialias=True)
        beside = (0, grid_hw[1] - size[1], 0, grid_hw[0] - size[0])
        tensor = F.pad(tensor, beside, value=min(0.0, float(logits.min())))
    return tensor.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)


PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)
MASK_THRESHOLD = 0.0


class SamNet(nn.Module, ABC):
    """Network of a `SamSegmenter`: an image encoder, SAM 2's prompt encoder and mask decoder.

    Attributes:
        image_size: side S in pixels of the square that the encoder sees.
        prompt_encoder: called as the ``sam2`` package's PromptEncoder.
        mask_decoder: called as the ``sam2`` package's MaskDecoder.
    """

    image_size: int
    prompt_encoder: Any
    mask_decoder: Any

    @abstractmethod
    def encode(self, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Normalised pixels (B, 3, S, S) to image embedding and high-resolution features.

        The embedding is (B, C, S/16, S/16); of the features the finest comes first.
        """


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
        self.model_id = model_id
        with torch.inference_mode():
            # Depends on the grid only; made once and not at each click.
            self._dense_pe = self._net.prompt_encoder.get_dense_pe()

    @property
    def net(self) -> SamNet:
        """The network itself, for a prompt predictor or a benchmark; do not change it."""
        return self._net

    @torch.inference_mode()
    def embed(self, image: NDArray[np.uint8], image_id: str = "") -> ImageEmbedding:
        """As `Segmenter.embed`."""
        pixels, covered = self._on_square(image)
        image_embed, high_res = self._net.encode(pixels.to(self._device))
        features = {"image_embed": image_embed}
        features.update({f"high_res_{level}": tensor for level, tensor in enumerate(high_res)})
        return ImageEmbedding(image_id, self.model_id, image.shape[:2], features, covered)

    def pixels(self, image: NDArray[np.uint8]) -> Tensor:
        """What the network sees of an image: normalised pixels (1, 3, S, S)."""
        return self._on_square(image)[0]

    def _on_square(self, image: NDArray[np.uint8]) -> tuple[Tensor, tuple[float, float]]:
        """Normalised pixels (1, 3, S, S), and the share of them that the image covers."""
        return to_pixels(image, self._net.image_size), WHOLE

    @torch.inference_mode()
    def predict(
        self, embedding: ImageEmbedding, prompts: Prompts, multimask: bool | None = None
    ) -> Prediction:
        """As `Segmenter.predict`; what reaches over the image's border is cut off there."""
        self._check_is_mine(embedding)
        covered = embedding.covered
        points = prompt_points(prompts, embedding.size_hw, self._net.image_size, covered)
        mask = prompt_logits(prompts.mask_input, self._net.prompt_encoder.mask_input_size, covered)
        if points is None and mask is None:
            raise PromptError("nothing to go by: give a point, a box, a scribble or a mask_input")
        # One point may mean the part or the whole, so SAM is asked for three masks and the best is
        # taken. With more to go by the single mask is better (Segment Anything, arXiv 2304.02643,
        # section 3).
        ambiguous = points is not None and points[1].shape[1] == 1 and mask is None
        low_res, iou, object_score = self._decode(
            embedding, points, mask, multimask is True or (multimask is None and ambiguous)
        )
        # stable, so that equal estimates give the same mask on every machine.
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
        if embedding.model_id != self.model_id:
            raise ModelError(
                f"the embedding of image {embedding.image_id!r} was made by {embedding.model_id}, "
                f"this segmenter is {self.model_id}: embed the image again with it"
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
    return normalise(pixels)


def to_pixels_by_bytes(image: NDArray[np.uint8], size_hw: tuple[int, int]) -> Tensor:
    """Pixels (1, 3, *size_hw) of an (H, W, 3) RGB uint8 image, resized as transformers does it.

    Its processors of SAM and SAM 2 round to 8 bits after resizing, and weights answer otherwise to
    pixels that were resized as floats (``to_pixels``).

    Raises:
        ModelError: the array is not (H, W, 3) uint8, or is empty.
    """
    check_image(image)
    # A copy: the caller's array may be read-only or have negative strides, which torch refuses.
    pixels = torch.from_numpy(image.transpose(2, 0, 1).copy())[None]
    pixels = F.interpolate(pixels, size_hw, mode="bilinear", antialias=True)
    return normalise(pixels.float().div_(255))


def normalise(pixels: Tensor) -> Tensor:
    """Pixels (B, 3, H, W) in [0, 1] by ImageNet's mean and deviation."""
    mean, std = (
        torch.tensor(values, device=pixels.device).view(1, 3, 1, 1)
        for values in (PIXEL_MEAN, PIXEL_STD)
    )
    return (pixels - mean) / std


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
