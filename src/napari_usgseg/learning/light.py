"""Light head fitted to a few accepted images in seconds, for proposals from the first one on.

The network is ``models.ppn.light``; what it gives goes through the segmenter's own decoder, and its
folder is a prompt predictor's.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..models.interfaces import Segmenter
from ..models.ppn.card import PpnCard
from ..models.ppn.light import LightHead, LightShape
from ..models.ppn.model import FrozenDecoder, PpnModel, channels_of, save_ppn
from .cross_validation import partitions
from .labelled import LabelledImage
from .ppn import ViewCache, class_dice, collate, cross_entropy, dice_loss
from .trainer import Task, TrainerSettings, train


@dataclass(frozen=True, slots=True)
class LightTraining:
    """Settings of a light head's fit.

    Attributes:
        steps: of the optimiser.
        batch: views of a step.
        views: bent views of each image, beside the image itself; each is flipped at random, too.
        levels: feature levels, from the coarsest on.
        lr: at its peak.
        seed: of everything random.
    """

    steps: int = 150
    batch: int = 4
    views: int = 2
    levels: int = 1
    lr: float = 2e-3
    seed: int = 0


class LightTask(Task):
    """Masks of all classes from frozen features, on the grid of the mask prompt."""

    def __init__(self, head: LightHead, views: ViewCache, how: LightTraining) -> None:
        self.model: torch.nn.Module = head.train()
        self._head, self._views, self._how = head, views, how

    def loss(self, step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy of all pixels, and Dice of the classes that are there."""
        size = self._how.batch
        images = rng.integers(len(self._views.images), size=size)
        picked = zip(
            images.tolist(), rng.integers(self._how.views + 1, size=size).tolist(), strict=True
        )
        features, targets = collate(self._views, picked)
        if rng.random() < 0.5:  # of the features, which costs nothing
            features, targets = [level.flip(-1) for level in features], targets.flip(-1)
        target = targets.flatten(0, 1)[:, None]
        logits = self._head.logits(features).flatten(0, 1)[:, None]
        there = (target > 0.5).flatten(1).any(1).float()
        # Soft Dice of an absent class is near 0 whatever is predicted: it would teach nothing but
        # to predict less, which the cross-entropy does already.
        overlap = (dice_loss(logits, target) * there).sum() / there.sum().clamp(min=1)
        return 3 * cross_entropy(logits, target).mean() + overlap, {}


def train_light(
    images: Sequence[LabelledImage],
    classes: Mapping[int, str],
    segmenter: Segmenter,
    out: Path,
    how: LightTraining = LightTraining(),
    *,
    source: str = "",
    wait: Callable[[], None] = lambda: None,
) -> PpnModel:
    """Fit a light head and write its folder, which is a prompt predictor's.

    Args:
        images: to learn from.
        classes: label value -> name.
        segmenter: of SAM's kind; it is only read.
        out: folder of the result.
        how: it is fitted.
        source: name of the data set or project, for the card.
        wait: called before each step.
    """
    decoder = FrozenDecoder(segmenter)
    torch.manual_seed(how.seed)
    shape = LightShape(channels_of(segmenter, how.levels))
    head = LightHead(shape, len(classes))
    task = LightTask(head, ViewCache(segmenter, images, list(classes), how.seed), how)
    settings = TrainerSettings(
        # save_every is beyond the last step: it takes seconds, and nobody resumes it.
        how.steps,
        how.lr,
        warmup=how.steps // 5,
        save_every=how.steps + 1,
        seed=how.seed,
    )
    train(task, settings, out, progress=lambda step, steps, figures: wait())
    card = PpnCard(
        classes=dict(classes),
        segmenter=segmenter.model_id,
        shape={},
        source=source,
        images=tuple(image.image_id for image in images),
        seed=how.seed,
        training=asdict(how),
    )
    for scrap in ("training.pt", "log.jsonl"):
        (out / scrap).unlink(missing_ok=True)
    card = save_ppn(out, head, card, decoder)
    return PpnModel(segmenter, head, card, decoder)


def out_of_fold_dice(
    images: Sequence[LabelledImage],
    classes: Mapping[int, str],
    segmenter: Segmenter,
    folder: Path,
    wait: Callable[[], None] = lambda: None,
) -> dict[str, dict[int, float]]:
    """Image id -> label value -> Dice of light heads that learned from none of its group."""
    scores = {}
    for number, part in enumerate(partitions(images)):
        learned = [images[index] for index in part.train]
        there = {v: n for v, n in classes.items() if any((i.labels == v).any() for i in learned)}
        place = folder / f"light-{number}"
        model = train_light(learned, there, segmenter, place, wait=wait) if there else None
        for index in part.test:
            found = {} if model is None else class_dice(model, images[index])
            empty = {v: float(not (images[index].labels == v).any()) for v in classes}
            scores[images[index].image_id] = empty | found
        shutil.rmtree(place, ignore_errors=True)
    return scores
