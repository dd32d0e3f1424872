"""MobileSAM (arXiv 2306.14289) from checkpoints in its authors' format (``mobile_sam.pt``).

SAM's first version with a TinyViT (arXiv 2207.10666) in the place of its image encoder. The trunk
is timm's; prompt encoder and mask decoder are SAM's, in the ``sam2`` package's modules as those of
``sam1`` are. All sizes but the square's are read from the tensors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from math import isqrt
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ...core.errors import CheckpointError
from ..checkpoints import read_tensors, sha256_of
from .sam import SamNet
from .sam1 import Sam1Segmenter

IMAGE_SIZE = 1024
STRIDE = 16
"""Of the trunk: its last step downwards does not reduce."""
TRUNK, NECK, PROMPTS, DECODER = "image_encoder.", "neck.", "prompt_encoder.", "mask_decoder."
SIGN = "image_encoder.patch_embed.seq.0.c.weight"
"""A tensor that a MobileSAM has, and no other SAM."""
RENAMED = (
    (r"^patch_embed\.seq\.0\.", "patch_embed.conv1."),
    (r"^patch_embed\.seq\.2\.", "patch_embed.conv2."),
    (r"^layers\.", "stages."),
    (r"\.c\.weight$", ".conv.weight"),
)
"""The authors' names of the trunk's tensors, and timm's."""


class MobileSamNet(SamNet):
    """A MobileSAM as `SamSegmenter` wants it.

    Args:
        state: tensors under the authors' names.
        image_size: side of the square, in pixels.
    """

    def __init__(self, state: Mapping[str, Tensor], image_size: int = IMAGE_SIZE) -> None:
        super().__init__()
        self.image_size = image_size
        self.trunk = _trunk(_below(state, TRUNK))
        self.neck = _neck(_below(state, TRUNK + NECK))
        prompts, decoder = _below(state, PROMPTS), _below(state, DECODER)
        self.prompt_encoder = _prompt_encoder(prompts, image_size)
        self.mask_decoder = _mask_decoder(decoder)

    def encode(self, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Normalised pixels (B, 3, S, S) to the image embedding; there are no finer features."""
        features = self.trunk.stages(self.trunk.patch_embed(pixels))
        return self.neck(features), []


def is_mobile_sam_file(path: Path) -> bool:
    """Whether a torch file holds a MobileSAM, by the names in it; no tensor is read."""
    import torch

    with suppress(Exception):  # damaged, or another format: who loads it says so
        return SIGN in torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return False


def load_mobile_sam(
    path: str | Path,
    device: str = "cpu",
    name: str | None = None,
    image_size: int = IMAGE_SIZE,
) -> Sam1Segmenter:
    """MobileSAM from a torch file of tensors; only tensors are unpickled (``weights_only``).

    Args:
        path: such as ``mobile_sam.pt``.
        device: "cpu", "cuda", ...
        name: for its ``model_id``; else that of the file.
        image_size: side of the square that it was trained with.

    Raises:
        ModelNotFoundError: there is no such file.
        CheckpointError: it is damaged, or of another model.
    """
    path = Path(path)
    state = read_tensors(path)
    if SIGN not in state:
        raise CheckpointError(f"{path}: not a MobileSAM; expected {SIGN} among its tensors")
    try:
        net = MobileSamNet(state, image_size)
    except (RuntimeError, KeyError, ValueError, IndexError) as error:
        raise CheckpointError(
            f"{path}: looks like MobileSAM but its tensors do not fit: "
            f"{' '.join(str(error).split())[:300]}"
        ) from error
    return Sam1Segmenter(net.eval(), f"{name or path.stem}-{sha256_of(path)[:8]}", device)


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): tensor for n, tensor in state.items() if n.startswith(prefix)}


def _trunk(state: Mapping[str, Tensor]) -> Any:
    """TinyViT of timm with the authors' tensors, whose last step downwards keeps the size."""
    from timm.models.tiny_vit import TinyVit

    kept = ("patch_embed.", "layers.")
    named = {
        _renamed(name): tensor
        for name, tensor in state.items()
        if name.startswith(kept) and not name.endswith("attention_bias_idxs")
    }
    stages = 1 + max(int(name.split(".")[1]) for name in named if name.startswith("stages."))
    depths = [_count(named, f"stages.{stage}.blocks.") for stage in range(stages)]
    biases = [named[f"stages.{s}.blocks.0.attn.attention_biases"] for s in range(1, stages)]
    widths = [named["patch_embed.conv2.conv.weight"].shape[0]]
    widths += [named[f"stages.{s}.downsample.conv1.conv.weight"].shape[0] for s in range(1, stages)]
    expanded = named["stages.0.blocks.0.conv1.conv.weight"].shape[0]
    trunk = TinyVit(
        num_classes=0,
        embed_dims=tuple(widths),
        depths=tuple(depths),
        num_heads=(1, *(bias.shape[0] for bias in biases)),
        window_sizes=(1, *(isqrt(bias.shape[1]) for bias in biases)),
        mbconv_expand_ratio=expanded / widths[0],
        drop_path_rate=0.0,
    )
    trunk.stages[-1].downsample.conv2.conv.stride = (1, 1)
    trunk.head = nn.Identity()
    trunk.load_state_dict(named)
    return trunk


def _renamed(name: str) -> str:
    for pattern, there in RENAMED:
        name = re.sub(pattern, there, name)
    found = re.match(r"^stages\.(\d+)\.downsample\.(.*)$", name)  # timm has it in the next stage
    return f"stages.{int(found[1]) + 1}.downsample.{found[2]}" if found else name


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    return 1 + max(int(n[len(prefix) :].split(".")[0]) for n in state if n.startswith(prefix))


def _neck(state: Mapping[str, Tensor]) -> nn.Module:
    from sam2.modeling.sam2_utils import LayerNorm2d

    width, channels = state["0.weight"].shape[:2]
    made = nn.Sequential(
        nn.Conv2d(channels, width, 1, bias=False),
        LayerNorm2d(width),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        LayerNorm2d(width),
    )
    made.load_state_dict(dict(state))
    return made


def _prompt_encoder(state: Mapping[str, Tensor], image_size: int) -> nn.Module:
    from sam2.modeling.sam.prompt_encoder import PromptEncoder

    width = state["no_mask_embed.weight"].shape[1]
    grid = (image_size // STRIDE,) * 2
    channels = state["mask_downscaling.3.weight"].shape[0]
    made = PromptEncoder(width, grid, (image_size,) * 2, channels)
    made.load_state_dict(dict(state))
    return made


def _mask_decoder(state: Mapping[str, Tensor]) -> nn.Module:
    from sam2.modeling.sam.mask_decoder import MaskDecoder
    from sam2.modeling.sam.transformer import TwoWayTransformer

    tokens, width = state["mask_tokens.weight"].shape
    layer = "transformer.layers.0."
    inner = state[f"{layer}cross_attn_token_to_image.q_proj.weight"].shape[0]
    transformer = TwoWayTransformer(
        depth=_count(state, "transformer.layers."),
        embedding_dim=width,
        num_heads=8,
        mlp_dim=state[f"{layer}mlp.lin1.weight"].shape[0],
        attention_downsample_rate=width // inner,
    )
    head = "iou_prediction_head.layers."
    made = MaskDecoder(
        transformer_dim=width,
        transformer=transformer,
        num_multimask_outputs=tokens - 1,
        iou_head_depth=_count(state, head),
        iou_head_hidden_dim=state[f"{head}0.weight"].shape[0],
    )
    named = {name.replace(".mlp.lin1.", ".mlp.layers.0."): t for name, t in state.items()}
    named = {name.replace(".mlp.lin2.", ".mlp.layers.1."): t for name, t in named.items()}
    made.load_state_dict(named)
    return made
