"""Where prompt predictors start from: one trained on many data sets at once.

Attention blocks, box head and mask head are shared by the classes of all data sets, each class has
queries of its own. A new class starts from those weights and from the mean of the queries, so that
ten images have to teach it what it looks for, and no longer how to look.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ..models.base import Segmenter
from ..models.ppn import ClassPrompter, PpnShape
from ..models.ppn_decode import FrozenDecoder, sam_net
from ..models.sam import feature_list
from .ppn_losses import boxes_of
from .ppn_task import PpnTask, PpnTraining, choose_rows, collate
from .ppn_views import ViewCache

TOKENS = 10
"""Queries of a class, the two of the box among them."""

MLP_DIM = 512
"""Of the attention blocks; the paper's 2048 was no better here."""


class StartTask(PpnTask):
    """Batches of one data set at a time, drawn by weight.

    Args:
        prompter: with queries for the classes of all data sets, in their order.
        decoder: of the segmenter.
        sources: for each data set its views, its number of classes, and its weight.
        how: as for one data set.
    """

    def __init__(
        self,
        prompter: ClassPrompter,
        decoder: FrozenDecoder,
        sources: Sequence[tuple[ViewCache, int, float]],
        how: PpnTraining,
    ) -> None:
        super().__init__(prompter, decoder, sources[0][0], how)
        self.sources = list(sources)
        counts = [count for _, count, _ in sources]
        self.first_rows = np.cumsum([0, *counts[:-1]])
        weights = np.array([weight for _, _, weight in sources])
        self.weights = weights / weights.sum()

    def loss(self, step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch of one data set."""
        which = int(rng.choice(len(self.sources), p=self.weights))
        views = self.sources[which][0]
        picked = [
            (int(rng.integers(len(views.images))), int(rng.integers(0, self.how.views + 1)))
            for _ in range(self.how.batch)
        ]
        features, targets = collate(views, picked)
        chosen = choose_rows(targets, self.how.rows, rng)
        rows = chosen + int(self.first_rows[which])
        return self.prompt_loss(features, targets[:, chosen], rows, rng)


def start_from(prompter: ClassPrompter, start: ClassPrompter, spread: float = 0.1) -> None:
    """Give ``prompter`` the weights of ``start``; its classes begin at the mean query, told apart.

    ``spread`` is the deviation by which the classes differ, over that of the queries themselves.
    """
    prompter.predictor.load_state_dict(start.predictor.state_dict())
    with torch.no_grad():
        mean = start.queries.mean(0, keepdim=True)
        noise = torch.randn_like(prompter.queries) * start.queries.std() * spread
        prompter.queries.copy_(mean + noise)


def new_prompter(
    segmenter: Segmenter, classes: int, levels: int, start: ClassPrompter | None = None
) -> ClassPrompter:
    """An untrained prompt predictor of a segmenter's sizes, or one that begins at ``start``."""
    if start is not None:
        prompter = ClassPrompter(start.predictor.shape, classes, start.queries.shape[1])
        start_from(prompter, start)
        return prompter
    return ClassPrompter(shape_for(segmenter, levels), classes, TOKENS)


def shape_for(segmenter: Segmenter, levels: int) -> PpnShape:
    """Sizes for a segmenter, read from what it makes of a grey image."""
    grey = np.full((8, 8, 3), 128, np.uint8)
    channels = [int(f.shape[1]) for f in reversed(feature_list(segmenter.embed(grey)))]
    width = int(sam_net(segmenter).prompt_encoder.no_mask_embed.weight.shape[1])
    return PpnShape(tuple(channels[:levels]), width, mlp_dim=MLP_DIM)


def begin_at_the_mean(prompter: ClassPrompter, targets: Tensor) -> None:
    """Let an untrained network begin with the mean box and the mean share of object pixels.

    Args:
        prompter: changed in the biases of its box and mask heads only.
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
        nn.init.constant_(last.bias, float(targets.mean().clamp(0.01, 0.5).logit()))  # type: ignore[arg-type]
