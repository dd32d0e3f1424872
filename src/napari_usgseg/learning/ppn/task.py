"""Task of a prompt predictor on a frozen segmenter: batches, prompts and losses.

What is asked of the decoder is mixed: mostly the learned prompts as they are, sometimes with a true
box in place of the predicted one, a coarse true mask in place of the mask prompt, or a corrective
click beside both, so that what a person adds later corrects a prediction instead of fighting it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ...models.ppn.model import FrozenDecoder, boxes_of
from ...models.ppn.network import BOX_TOKENS, ClassPrompter, LearnedPrompts
from ..augmentation import coarse_logits, correction
from ..trainer import Task
from .views import Views

GAMMA, ALPHA = 3.0, 0.7
"""Of the focal loss; ALPHA weighs the pixels of the object."""


def focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Focal loss of (R, 1, h, w) logits against soft targets in [0, 1], mean over pixels: (R,)."""
    probability = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    weight = ALPHA * target + (1 - ALPHA) * (1 - target)
    return (weight * entropy * (probability - target).abs() ** GAMMA).mean((1, 2, 3))


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of (R, 1, h, w) logits against soft targets, mean over pixels: (R,)."""
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return entropy.mean((1, 2, 3))


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """1 - soft Dice of (R, 1, h, w) logits against soft targets: (R,)."""
    probability = logits.sigmoid()
    overlap = (probability * target).sum((1, 2, 3))
    total = probability.sum((1, 2, 3)) + target.sum((1, 2, 3))
    return 1 - (2 * overlap + 1) / (total + 1)


def box_loss(boxes: Tensor, truth: Tensor) -> Tensor:
    """L1 plus 1 - generalised IoU (arXiv 1902.09630) of (R, 4) XYXY boxes: (R,)."""
    low = torch.maximum(boxes[:, :2], truth[:, :2])
    high = torch.minimum(boxes[:, 2:], truth[:, 2:])
    overlap = (high - low).clamp(min=0).prod(1)
    union = _area(boxes) + _area(truth) - overlap
    hull = (
        torch.maximum(boxes[:, 2:], truth[:, 2:]) - torch.minimum(boxes[:, :2], truth[:, :2])
    ).prod(1)
    giou = overlap / union.clamp(min=1e-6) - (hull - union) / hull.clamp(min=1e-6)
    return (boxes - truth).abs().mean(1) + 1 - giou


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)


BOX_NOISE = 0.08
"""A box's edges are shaken by up to this part of its sides."""


@dataclass(frozen=True, slots=True)
class PpnTraining:
    """How to train.

    Attributes:
        batch: images a step.
        views: augmented views of an image, beside the image itself; 0 switches augmentation off.
        rows: classes asked of a batch at most.
        mask_weight: of the focal losses of mask prompt and final mask (10 in the paper).
        entropy_weight: of the cross-entropies of both, which stand in for the focal losses (0 in
            the paper): from ten images they learn better, see ``docs/ppn-losses.md``.
        dice_weight: of the Dice terms of both, the paper's option.
        box_weight: of L1 and generalised IoU (1 in the paper).
        object_weight: of the object score's cross-entropy (1 in the paper).
        box_share: how often a true, shaken box stands in for the predicted one.
        mask_share: how often a coarse true mask stands in for the mask prompt.
        click_share: how often a corrective click is added.
    """

    batch: int = 4
    views: int = 12
    rows: int = 2
    mask_weight: float = 0.0
    entropy_weight: float = 3.0
    dice_weight: float = 1.0
    box_weight: float = 1.0
    object_weight: float = 1.0
    box_share: float = 0.15
    mask_share: float = 0.1
    click_share: float = 0.15

    def with_paper_losses(self) -> PpnTraining:
        """The weights of the paper: focal 10, box 1, object score 1, nothing else."""
        return replace(
            self,
            mask_weight=10.0,
            entropy_weight=0.0,
            dice_weight=0.0,
            box_weight=1.0,
            object_weight=1.0,
        )


class PpnTask(Task):
    """Learned prompts of a class in, masks out; everything of the segmenter frozen."""

    def __init__(
        self,
        prompter: ClassPrompter,
        decoder: FrozenDecoder,
        views: Views,
        how: PpnTraining,
        decoder_lr_scale: float = 0.0,
    ) -> None:
        lora = nn.ParameterDict({name.replace(".", "/"): p for name, p in decoder.lora().items()})
        self.model: nn.Module = nn.ModuleDict({"ppn": prompter, "lora": lora})
        self.decoder_lr_scale = decoder_lr_scale
        self.prompter, self.decoder, self.views, self.how = prompter, decoder, views, how

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        """The prompt predictor (biases, norms and queries without decay), and LoRA if any."""
        decayed: list[nn.Parameter] = []
        plain: list[nn.Parameter] = []
        for name, parameter in self.prompter.named_parameters():
            (plain if parameter.ndim < 2 or name == "queries" else decayed).append(parameter)
        return [
            {"params": decayed, "lr_scale": 1.0},
            {"params": plain, "lr_scale": 1.0, "weight_decay": 0.0},
            {"params": list(self.decoder.lora().values()), "lr_scale": self.decoder_lr_scale},
        ]

    def loss(self, step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch of views."""
        features, targets = collate(self.views, self._deal(step, rng))
        chosen = choose_rows(targets, self.how.rows, rng)
        return self.prompt_loss(features, targets[:, chosen], chosen, rng)

    def prompt_loss(
        self, features: list[Tensor], targets: Tensor, rows: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        """The loss for images and the masks of some classes.

        Args:
            features: (B, C_l, h_l, w_l), finest first.
            targets: (B, R, g, g) in [0, 1].
            rows: (R,), whose queries these classes are.
            rng: of the mixing.
        """
        how = self.how
        self.prompter.train()
        device = self.decoder.device
        features = [level.to(device) for level in features]
        target = targets.flatten(0, 1)[:, None].to(device)
        learned = self.prompter(self.decoder.prompt_encoder, features, rows)
        present = (target > 0.5).flatten(1).any(1).float()
        truth = boxes_of(target)
        sparse, dense = self._mixed(learned, target, truth, present, rng)
        decoded = self.decoder(features, sparse, dense)
        logits = decoded.logits
        share = present / present.sum().clamp(min=1)
        masks = focal_loss(learned.mask_logits, target).mean()
        masks = masks + (focal_loss(logits, target) * share).sum()
        entropy = cross_entropy(learned.mask_logits, target).mean()
        entropy = entropy + (cross_entropy(logits, target) * share).sum()
        dice = dice_loss(learned.mask_logits, target) + dice_loss(logits, target)
        parts = {
            "mask": masks,
            "entropy": entropy,
            "dice": (dice * share).sum(),
            "box": (box_loss(learned.boxes, truth) * share).sum(),
            "object": F.binary_cross_entropy_with_logits(decoded.object_score[:, 0], present),
        }
        loss = (
            how.mask_weight * parts["mask"]
            + how.entropy_weight * parts["entropy"]
            + how.dice_weight * parts["dice"]
            + how.box_weight * parts["box"]
            + how.object_weight * parts["object"]
        )
        return loss, {name: float(value.detach()) for name, value in parts.items()}

    def _deal(self, step: int, rng: np.random.Generator) -> list[tuple[int, int]]:
        """(image, view) pairs; images are dealt round by round, each as often as the others."""
        count, picked = len(self.views.images), []
        for place in range(step * self.how.batch, (step + 1) * self.how.batch):
            turn, index = divmod(place, count)
            order = np.random.default_rng([count, turn]).permutation(count)
            picked.append((int(order[index]), int(rng.integers(0, self.how.views + 1))))
        return picked

    def _mixed(
        self,
        learned: LearnedPrompts,
        target: Tensor,
        truth: Tensor,
        present: Tensor,
        rng: np.random.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Some rows' prompts replaced by, or joined with, what a person might give."""
        sparse, dense = learned.sparse, learned.dense
        how, device = self.how, target.device
        draws = np.where(present.cpu().numpy() > 0, rng.random(len(target)), 1.0)
        limits = np.cumsum([how.box_share, how.mask_share, how.click_share])
        kind = np.searchsorted(limits, draws, side="right")  # 0 box, 1 mask, 2 click, 3 nothing
        if (kind == 0).any():
            size = (truth[:, 2:] - truth[:, :2]).repeat(1, 2)
            noise = torch.from_numpy(rng.uniform(-BOX_NOISE, BOX_NOISE, truth.shape)).float()
            shaken = truth + noise.to(device) * size
            corners = self.decoder.embed_boxes(shaken * self.decoder.image_size)
            boxed = torch.from_numpy(kind == 0).to(device)[:, None, None]
            own = torch.where(boxed, corners, sparse[:, :BOX_TOKENS])
            sparse = torch.cat((own, learned.tokens), dim=1)
        if (kind == 1).any():
            guess = torch.stack([coarse_logits(mask, rng) for mask in target])
            masked = torch.from_numpy(kind == 1).to(device)[:, None, None, None]
            dense = torch.where(masked, self.decoder.embed_masks(guess), dense)
        if (kind == 2).any():
            predicted = learned.mask_logits.detach().cpu()
            coords, labels = self._clicks(predicted, target.cpu(), np.flatnonzero(kind == 2), rng)
            clicks = self.decoder.embed_points(coords.to(device), labels.to(device))
            sparse = torch.cat((sparse, clicks), dim=1)
        return sparse, dense

    def _clicks(
        self, predicted: Tensor, target: Tensor, rows: NDArray[np.intp], rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """A corrective click for each of ``rows``, none for the others: (R, 1, 2) and (R, 1)."""
        coords = torch.zeros(len(target), 1, 2)
        labels = torch.full((len(target), 1), -1.0)
        scale = self.decoder.image_size / target.shape[-1]
        for row in rows.tolist():
            click = correction(target[row, 0].numpy() > 0.5, predicted[row, 0].numpy() > 0, rng)
            if click is not None:
                x, y, label = click
                coords[row, 0] = torch.tensor([(x + 0.5) * scale - 0.5, (y + 0.5) * scale - 0.5])
                labels[row, 0] = label
        return coords, labels


def collate(views: Views, picked: Iterable[tuple[int, int]]) -> tuple[list[Tensor], Tensor]:
    """Features (B, C, h, w), finest first, and targets (B, K, g, g) in [0, 1]."""
    chosen = [views.get(index, view) for index, view in picked]
    levels = zip(*(view.features for view in chosen), strict=True)
    features = [torch.cat(level).float() for level in levels]
    return features, torch.stack([view.targets for view in chosen]).float() / 255


def choose_rows(targets: Tensor, most: int, rng: np.random.Generator) -> Tensor:
    """Up to ``most`` of the K classes of ``targets`` (B, K, g, g), ascending.

    Three times in four those come first that are in one of the images.
    """
    order = rng.permutation(targets.shape[1])
    if rng.random() < 0.75:
        there = (targets > 0.5).flatten(2).any(2).any(0).numpy()
        order = order[np.argsort(~there[order], kind="stable")]
    return torch.from_numpy(np.sort(order[:most]))
