"""The embedded segmenter ``nano``: SAM 2's prompt encoder and mask decoder on a light trunk.

EfficientNet-Lite0 (timm's ``tf_efficientnet_lite0``) looks at the image squashed to a square;
its strides 16 and 32 become the image embedding, its strides 4 and 8 the decoder's
high-resolution features (SAM 2, arXiv 2408.00714, appendix C: mask decoder). Prompt encoder, mask
decoder and two-way transformer are the ``sam2`` package's own classes.

Its file is safetensors in half precision, whose header says which network it belongs to ("arch")
and at which size it was trained ("image_size").
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import timm
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save
from sam2.modeling.sam.mask_decoder import MaskDecoder
from sam2.modeling.sam.prompt_encoder import PromptEncoder
from sam2.modeling.sam.transformer import TwoWayTransformer
from sam2.modeling.sam2_utils import LayerNorm2d
from torch import Tensor, nn

from ...core.errors import CheckpointError, ModelNotFoundError
from ...io.atomic import write_atomically
from ..checkpoints import read_tensors, sha256_of
from .sam import SamNet, SamSegmenter

ARCH = "nano-sam-1"
EMBED_DIM = 256
STRIDE = 16
TRUNK = "tf_efficientnet_lite0"
TRUNK_CHANNELS = (24, 40, 112, 320)
"""Channels of the trunk at strides 4, 8, 16 and 32."""


def _from_zero(channels: int, out_channels: int) -> nn.Sequential:
    """Normalise, then a 3 x 3 convolution that starts at zero."""
    conv = nn.Conv2d(channels, out_channels, 3, padding=1)
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return nn.Sequential(LayerNorm2d(channels), conv)


class NanoNeck(nn.Module):
    """Trunk features to (image embedding, high-resolution features).

    The two high-resolution convolutions start at zero: random ones make first losses that wreck a
    pretrained decoder's attention to its prompts (measured; MODEL_CARD.md).
    """

    def __init__(self) -> None:
        super().__init__()
        s4, s8, s16, s32 = TRUNK_CHANNELS
        self.lateral16 = nn.Sequential(
            nn.Conv2d(s16, EMBED_DIM, 1, bias=False), LayerNorm2d(EMBED_DIM)
        )
        self.lateral32 = nn.Sequential(
            nn.Conv2d(s32, EMBED_DIM, 1, bias=False), LayerNorm2d(EMBED_DIM)
        )
        self.lateral8 = nn.Sequential(
            nn.Conv2d(s8, EMBED_DIM, 3, stride=2, padding=1, bias=False), LayerNorm2d(EMBED_DIM)
        )
        self.fuse = nn.Sequential(
            nn.GELU(),
            nn.Conv2d(EMBED_DIM, EMBED_DIM, 3, padding=1, bias=False),
            LayerNorm2d(EMBED_DIM),
            nn.GELU(),
            nn.Conv2d(EMBED_DIM, EMBED_DIM, 3, padding=1, bias=False),
            LayerNorm2d(EMBED_DIM),
        )
        self.high_res_0 = _from_zero(s4, EMBED_DIM // 8)
        self.high_res_1 = _from_zero(s8, EMBED_DIM // 4)

    def forward(self, features: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Features at strides 4, 8, 16, 32 -> ((B, 256, S/16, S/16), [stride 4, stride 8])."""
        s4, s8, s16, s32 = features
        coarse = F.interpolate(self.lateral32(s32), size=s16.shape[-2:], mode="bilinear")
        embedding = self.fuse(self.lateral16(s16) + coarse + self.lateral8(s8))
        return embedding, [self.high_res_0(s4), self.high_res_1(s8)]


class NanoSam(SamNet):
    """SAM 2 for still images on a light trunk.

    Args:
        image_size: side in pixels of the square that an image is squashed to; a multiple of 32.
    """

    def __init__(self, image_size: int = 384) -> None:
        super().__init__()
        self.image_size = image_size
        grid = image_size // STRIDE
        self.trunk = timm.create_model(TRUNK, features_only=True, out_indices=(1, 2, 3, 4))
        self.neck = NanoNeck()
        self.prompt_encoder = PromptEncoder(
            embed_dim=EMBED_DIM,
            image_embedding_size=(grid, grid),
            input_image_size=(image_size, image_size),
            mask_in_chans=16,
        )
        self.mask_decoder = MaskDecoder(
            transformer_dim=EMBED_DIM,
            transformer=TwoWayTransformer(
                depth=2, embedding_dim=EMBED_DIM, mlp_dim=2048, num_heads=8
            ),
            num_multimask_outputs=3,
            use_high_res_features=True,
            iou_prediction_use_sigmoid=True,
            pred_obj_scores=True,
            pred_obj_scores_mlp=True,
        )
        # The neck already gives the decoder's channels, so these two would have nothing to do.
        self.mask_decoder.conv_s0 = nn.Identity()
        self.mask_decoder.conv_s1 = nn.Identity()

    def encode(self, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Normalised pixels (B, 3, S, S) -> image embedding and [stride 4, stride 8] features."""
        return self.neck(self.trunk(pixels))


def save_nano_segmenter(net: NanoSam, path: str | Path, metadata: Mapping[str, str]) -> None:
    """Write the network in half precision; an existing file is replaced.

    Args:
        net: on any device.
        path: where to.
        metadata: what to keep in the header beside "arch" and "image_size" (command, seed, ...).

    Raises:
        CheckpointError: a weight is not finite, or too large for half precision.
        LabelWriteError: the file cannot be written.
    """
    tensors = {name: _to_half(name, tensor) for name, tensor in net.state_dict().items()}
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise CheckpointError(f"{path}: {name} is not finite in half precision; not written")
    header = {**metadata, "arch": ARCH, "image_size": str(net.image_size)}
    write_atomically(path, save(tensors, metadata=header), overwrite=True)


def load_nano_segmenter(path: str | Path, device: str = "cpu") -> SamSegmenter:
    """The nano segmenter from its file.

    Raises:
        ModelNotFoundError: there is no such file.
        CheckpointError: the file is damaged, or belongs to another network.
    """
    file = Path(path)
    if not file.is_file():
        raise ModelNotFoundError(
            f"{file}: no such file; the embedded models come with the package: reinstall "
            "napari-usgseg, or give the path of a nano segmenter"
        )
    tensors = read_tensors(file)
    with safe_open(file, framework="pt") as handle:
        header = handle.metadata() or {}
    arch, size = header.get("arch"), header.get("image_size", "")
    if arch != ARCH:
        raise CheckpointError(f"{file}: expected a {ARCH}, its header says {arch!r}")
    if not size.isdecimal() or int(size) == 0 or int(size) % 32:
        raise CheckpointError(f"{file}: image_size {size!r} is not a positive multiple of 32")
    net = NanoSam(int(size))
    try:
        net.load_state_dict(tensors, strict=True)  # copies into single precision
    except RuntimeError as error:
        raise CheckpointError(
            f"{file}: its tensors do not fit {ARCH}: {' '.join(str(error).split())[:300]}"
        ) from error
    return SamSegmenter(net, f"nano-{sha256_of(file)[:8]}", device)


def _to_half(name: str, tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    # Batch-norm statistics are few, and half precision would lose the small ones.
    is_statistic = name.endswith((".running_mean", ".running_var"))
    return tensor.half() if tensor.is_floating_point() and not is_statistic else tensor
