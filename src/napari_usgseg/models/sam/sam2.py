"""SAM 2.1 from its official checkpoints, through the ``sam2`` package's own modules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ...core.errors import CheckpointError
from ..checkpoints import read_tensors, sha256_of
from .sam import SamNet, SamSegmenter

DYNAMIC_MULTIMASK = {
    "dynamic_multimask_via_stability": True,
    "dynamic_multimask_stability_delta": 0.05,
    "dynamic_multimask_stability_thresh": 0.98,
}
"""What ``sam2.build_sam`` adds to the configuration: an unstable single mask gives way to the best
of three."""


SAM2_SIZE, MEDSAM2_SIZE = 1024, 512
"""Sides in pixels of the square that SAM 2.1 sees, and MedSAM2; no tensor tells them apart."""


@dataclass(frozen=True, slots=True)
class Sam2Variant:
    """One size of SAM 2.1: the package's configuration, and what tells its checkpoint from others.

    ``embed_dim`` is the trunk's width and ``blocks`` its depth.
    """

    name: str
    config: str
    embed_dim: int
    blocks: int


SAM2_VARIANTS = {
    variant.name: variant
    for variant in (
        Sam2Variant("sam2.1-hiera-tiny", "sam2.1_hiera_t.yaml", 96, 12),
        Sam2Variant("sam2.1-hiera-small", "sam2.1_hiera_s.yaml", 96, 16),
        Sam2Variant("sam2.1-hiera-base-plus", "sam2.1_hiera_b+.yaml", 112, 24),
        Sam2Variant("sam2.1-hiera-large", "sam2.1_hiera_l.yaml", 144, 48),
    )
}


class Sam2Net(SamNet):
    """The image side of a ``sam2`` SAM2Base, as `SamSegmenter` wants it.

    It takes ``sam`` over: the neck's positional encodings, which only the memory of loops reads,
    are no longer computed with every image (at 1024 pixels they are 90 MB to copy).

    Attributes:
        sam: the network.
        frame_positions: positional encoding (1, C, h, w) of a feature map (1, C, h, w).
    """

    def __init__(self, sam: Any) -> None:
        super().__init__()
        self.sam = sam
        self.frame_positions = sam.image_encoder.neck.position_encoding
        self.sam.image_encoder.neck.position_encoding = nn.Identity()
        self.image_size = int(sam.image_size)

    @property
    def prompt_encoder(self) -> Any:
        """Of ``sam``: a module that is registered once has its tensors once in a state dict."""
        return self.sam.sam_prompt_encoder

    @property
    def mask_decoder(self) -> Any:
        """Of ``sam``, likewise."""
        return self.sam.sam_mask_decoder

    def encode(self, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Normalised pixels (B, 3, S, S) to image embedding and [stride 4, stride 8] features.

        As SAM2ImagePredictor does, an image without a past gets the "no memory" embedding; the
        feature sizes are the model's own, so any ``image_size`` works.
        """
        levels = self.sam.forward_image(pixels)["backbone_fpn"][-self.sam.num_feature_levels :]
        image_embed = levels[-1]
        if self.sam.directly_add_no_mem_embed:
            image_embed = image_embed + self.sam.no_mem_embed.view(1, -1, 1, 1)
        return image_embed, list(levels[:-1])


def build_sam2(variant: Sam2Variant, image_size: int = SAM2_SIZE) -> Any:
    """A ``sam2`` SAM2Base with random weights, on the CPU, from the package's configuration.

    The YAML file is read and instantiated directly: `hydra.compose` would depend on whichever
    part of the process initialised Hydra's global state first.

    Args:
        variant: the size.
        image_size: side in pixels of the square that it sees; official checkpoints want 1024.
    """
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    text = resources.files("sam2").joinpath("configs", "sam2.1", variant.config).read_text()
    config: Any = OmegaConf.create(text)
    config.model.image_size = image_size
    config.model.sam_mask_decoder_extra_args = DYNAMIC_MULTIMASK
    # As ``sam2.build_sam`` does for videos: masks of clicked frames go into the memory as 0 and 1.
    config.model.binarize_mask_from_pts_for_mem_enc = True
    return instantiate(config.model, _recursive_=True)


def load_sam2_checkpoint(
    path: str | Path, device: str = "cpu", image_size: int = SAM2_SIZE
) -> SamSegmenter:
    """SAM 2.1 from an official checkpoint file (a torch file with the key "model"), or MedSAM2.

    The size is read from the tensors. Only tensors are unpickled (``weights_only``).

    Args:
        path: the file.
        device: "cpu", "cuda", ...
        image_size: side in pixels of the square that it sees.

    Raises:
        ModelNotFoundError: there is no such file.
        CheckpointError: the file is damaged, or is not a SAM 2.1 checkpoint.
    """
    path = Path(path)
    state = read_tensors(path, "model")
    variant = infer_variant(state, path)
    sam = build_sam2(variant, image_size)
    try:
        sam.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: looks like {variant.name} but its tensors do not fit: "
            f"{' '.join(str(error).split())[:300]}"
        ) from error
    name = "medsam2" if image_size == MEDSAM2_SIZE else variant.name
    return SamSegmenter(Sam2Net(sam), f"{name}-{sha256_of(path)[:8]}", device)


def infer_variant(state: Mapping[str, Tensor], path: str | Path = "checkpoint") -> Sam2Variant:
    """Which SAM 2.1 a state dict belongs to, by width and depth of its trunk.

    Raises:
        CheckpointError: to none of them.
    """
    trunk = "image_encoder.trunk."
    stem = state.get(f"{trunk}patch_embed.proj.weight")
    blocks = {key.split(".")[3] for key in state if key.startswith(f"{trunk}blocks.")}
    found = (0 if stem is None else stem.shape[0], len(blocks))
    for variant in SAM2_VARIANTS.values():
        if found == (variant.embed_dim, variant.blocks):
            if "no_obj_embed_spatial" not in state:
                raise CheckpointError(
                    f"{path}: a checkpoint of SAM 2.0; take the one of {variant.name}, "
                    f"https://huggingface.co/facebook/{variant.name}"
                )
            return variant
    raise CheckpointError(
        f"{path}: not a SAM 2.1 checkpoint (trunk width {found[0]}, {found[1]} blocks); expected "
        f"the official file of one of {', '.join(SAM2_VARIANTS)}"
    )
