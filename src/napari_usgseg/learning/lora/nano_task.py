"""Task of the `nano` detector: questions about images, answered with masks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...models.grounding.nano_detector import PhraseNet, SentenceEncoder
from ..augmentation import normalise
from ..trainer import Task
from .data import Questioner


def soft_iou(logits: Tensor, target: Tensor) -> Tensor:
    """IoU of the thresholded logits (N, M, h, w) with (N, 1, h, w) targets: (N, M)."""
    predicted, truth = logits > 0, (target > 0.5).expand_as(logits)
    union = (predicted | truth).sum((-2, -1))
    return (predicted & truth).sum((-2, -1)) / union.clamp(min=1)


class PhraseVectors:
    """Phrase vectors of the frozen text encoder, each computed once."""

    def __init__(self, encoder: SentenceEncoder) -> None:
        self.encoder = encoder
        self.known: dict[str, Tensor] = {}

    @torch.no_grad()
    def __call__(self, phrases: Sequence[str]) -> Tensor:
        """(N, 384)."""
        for phrase in phrases:
            if phrase not in self.known:
                self.known[phrase] = self.encoder([phrase])[0]
        return torch.stack([self.known[phrase] for phrase in phrases])


class NanoTask(Task):
    """Dense masks and presence for phrases that are and are not in the image."""

    def __init__(
        self,
        net: PhraseNet,
        encoder: SentenceEncoder,
        questioner: Questioner,
    ) -> None:
        self.model: nn.Module = net
        self.net = net
        self.vectors = PhraseVectors(encoder)
        self.questioner = questioner

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        """New layers at the full rate, the trunk at a third, its stem and batch norms frozen."""
        self.net.trunk.eval()
        for name, parameter in self.net.trunk.named_parameters():
            parameter.requires_grad_(not name.startswith(("conv_stem", "bn1", "blocks.0.")))
        trunk = [p for p in self.net.trunk.parameters() if p.requires_grad]
        rest = [p for n, p in self.net.named_parameters() if not n.startswith("trunk.")]
        return [{"params": rest, "lr_scale": 1.0}, {"params": trunk, "lr_scale": 0.3}]

    def loss(self, step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy and Dice on masks, cross-entropy on presence."""
        images, questions = self.questioner.draw(rng)
        self.net.trunk.eval()
        pixels = normalise(torch.stack(images)).contiguous(memory_format=torch.channels_last)
        pyramid = self.net.encode(pixels)
        owner = torch.tensor([question.owner for question in questions])
        vectors = self.vectors([question.phrase for question in questions])
        logits, presence = self.net.ask([level[owner] for level in pyramid], vectors)
        truth = torch.stack([question.mask for question in questions])[:, None]
        target = F.interpolate(truth, logits.shape[-2:], mode="area")[:, 0]
        there = torch.tensor([question.present for question in questions])
        entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        probability = logits.sigmoid()
        overlap = (probability * target).sum((1, 2))
        dice = 1 - (2 * overlap + 1) / (probability.sum((1, 2)) + target.sum((1, 2)) + 1)
        mask_loss = entropy.mean((1, 2)) + torch.where(there, dice, torch.zeros(()))
        seen = F.binary_cross_entropy_with_logits(presence, there.float())
        figures = {
            "iou": float(soft_iou(logits[there, None], target[there, None]).mean()),
            "presence": float(((presence > 0) == there).float().mean()),
        }
        return mask_loss.mean() + 0.5 * seen, figures
