"""How an untrained prompt predictor begins: sizes read from its segmenter, the mean box, few masks.

Starting from one that had learnt from other data sets (500 steps) was tried and gave nothing: on
ten images of a data set that was new to it, it was no better than an untrained one.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..interfaces import Segmenter
from ..sam.sam import feature_list
from .decode import sam_net
from .model import boxes_of
from .network import ClassPrompter, PpnShape

TOKENS = 10
"""Queries of a class, the two of the box among them."""

LEVELS = 1
"""Feature levels that the network looks at, from the coarsest on."""

MLP_DIM = 512
"""Of the attention blocks; the paper's 2048 makes the files three times as large."""


def new_prompter(segmenter: Segmenter, classes: int, levels: int = LEVELS) -> ClassPrompter:
    """An untrained prompt predictor of a segmenter's sizes, for its ``levels`` coarsest levels.

    Raises:
        ModelError: the segmenter is not of SAM's kind.
    """
    return ClassPrompter(shape_for(segmenter, levels), classes, TOKENS)


def shape_for(segmenter: Segmenter, levels: int) -> PpnShape:
    """Sizes for a segmenter, read from what it makes of a grey image."""
    width = int(sam_net(segmenter).prompt_encoder.no_mask_embed.weight.shape[1])
    grey = np.full((8, 8, 3), 128, np.uint8)
    channels = [int(f.shape[1]) for f in reversed(feature_list(segmenter.embed(grey)))]
    return PpnShape(tuple(channels[:levels]), width, mlp_dim=MLP_DIM)


def begin_at_the_mean(prompter: ClassPrompter, targets: Tensor) -> None:
    """Let an untrained network begin with the mean box and the mean share of object pixels.

    Args:
        prompter: changed in its box and mask heads' last layers only.
        targets: (M, 1, g, g), masks in [0, 1] of the training images' classes, where present.
    """
    corners = boxes_of(targets).mean(0)
    box = torch.cat((corners[:2], corners[2:] - corners[:2]))
    with torch.no_grad():
        head = prompter.predictor.box_regression_head.mlp.layers[-1]
        head.weight.mul_(0.1)
        head.bias.copy_(box.clamp(0.02, 0.98).logit())
        last = prompter.predictor.mask_classifier.final_conv
        last.weight.mul_(0.1)
        share = float(targets.mean().clamp(0.01, 0.5).logit())
        nn.init.constant_(last.bias, share)  # type: ignore[arg-type]
