"""The embedded segmenter ``nano``: SAM 2's prompt encoder and mask decoder on a light trunk.

EfficientNet-Lite0 (timm's ``tf_efficientnet_lite0``) looks at the image squashed to a square;
its strides 16 and 32 become the image embedding, its strides 4 and 8 the decoder's
high-resolution features (SAM 2, arXiv 2408.00714, appendix C: mask decoder). Prompt encoder, mask
decoder and two-way transformer are the ``sam2`` package's own classes.
"""

from __future__ import annotations

import timm
import torch.nn.functional as F
from sam2.modeling.sam.mask_decoder import MaskDecoder
from sam2.modeling.sam.prompt_encoder import PromptEncoder
from sam2.modeling.sam.transformer import TwoWayTransformer
from sam2.modeling.sam2_utils import LayerNorm2d
from torch import Tensor, nn

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


class NanoSam(nn.Module):
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
