"""Prompt predictor trained on a few labelled images: views of them, the task, the training.

A view is an image, bent in one of ``views`` ways and embedded once by the frozen encoder. View 0 is
the image as it is, and its embedding may be given, so that without augmentation the encoder never
runs. A view depends on (seed, image, view) alone and not on when it is made: an interrupted
training sees the same ones.

What is asked of the decoder is mixed: the learned prompts as they are, or with a true box in place
of the predicted one, a coarse true mask in place of the mask prompt, corrective clicks or a
scribble beside both, so that what a person adds later corrects a prediction instead of fighting it.

<out>/ppn.json, ppn.safetensors   the result (``models.ppn.card``)
<out>/training.json, training.pt, log.jsonl   the run (``learning.trainer``)
<out>/fold-N/                     the trainings of a cross-validation, the same again
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from cachetools import LRUCache
from numpy.typing import NDArray
from torch import Tensor, nn

from ..core.errors import Cancelled, DatasetError
from ..core.metrics import dice
from ..models.interfaces import Segmenter
from ..models.ppn.card import CARD_FILE, PpnCard, write_card
from ..models.ppn.model import (
    FrozenDecoder,
    PpnModel,
    begin_at_the_mean,
    boxes_of,
    load_ppn,
    new_prompter,
    save_ppn,
    within_box,
)
from ..models.ppn.network import BOX_TOKENS, MASK_GRID, ClassPrompter, LearnedPrompts
from ..models.sam.sam import feature_list, square_masks
from .augmentation import (
    Augmentation,
    Point,
    bend_intensities,
    coarse_logits,
    correction,
    corrective_scribble,
    random_affine,
    to_tensors,
    warp,
)
from .cross_validation import Fold, cross_validate, folds
from .joining import Measured, means, measure_ways
from .labelled import LabelledImage
from .trainer import Progress, Task, TrainerSettings, begin, finish, is_same, train

# -- views -----------------------------------------------------------------------------------------

PPN_AUGMENTATION = Augmentation(zoom=1.35, stretch=1.2, degrees=15.0, shift=0.12, vertical_flip=0.0)
"""Flips, translations, rotations and resized crops, as in the paper; ultrasound has a top."""

PAPER_AUGMENTATION = Augmentation(
    zoom=1.0, stretch=1.0, degrees=90.0, shift=0.2, vertical_flip=0.5, crop=0.8, share=0.5
)
"""The published one: flips both ways, shifts of 20 %, turns of 90 degrees, crops from 0.8 on."""
RECIPES = ("ours", "paper")
ALL_LEVELS = 9

CACHE_BYTES = 600 * 2**20
"""Views beyond this are made again when they are wanted."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Features (1, C, h, w) in half precision, finest first, and targets (K, g, g) uint8 0..255.

    Targets are the share of each cell that a class covers, on the grid of the mask decoder.
    """

    features: tuple[Tensor, ...]
    targets: Tensor

    @property
    def nbytes(self) -> int:
        """Memory that it holds."""
        return sum(t.nbytes for t in (*self.features, self.targets))


class ViewCache:
    """Makes views and keeps the last used ones, up to ``limit`` bytes.

    Args:
        segmenter: whose encoder sees them.
        images: to learn from.
        values: label values of the K classes, in the order of the queries.
        seed: of the augmentation.
        how: how far views are bent.
        limit: of the memory.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        images: Sequence[LabelledImage],
        values: Sequence[int],
        seed: int,
        how: Augmentation = PPN_AUGMENTATION,
        limit: int = CACHE_BYTES,
    ) -> None:
        self.images = list(images)
        self.encoded = 0
        self._segmenter, self._seed, self._how = segmenter, seed, how
        self._values = list(values)
        self._kept: LRUCache[tuple[int, int], View] = LRUCache(
            limit,
            lambda view: min(view.nbytes, limit),  # one that is above the limit is kept alone
        )

    def get(self, index: int, view: int) -> View:
        """View ``view`` of image ``index``."""
        key = (index, view)
        found = self._kept.get(key)
        if found is None:
            found = self._make(index, view)
            self._kept[key] = found
        return found

    def part(self, indices: Sequence[int], values: Sequence[int]) -> ViewPart:
        """Some of the images and classes; what one part has encoded, all have."""
        return ViewPart(self, tuple(indices), [self._values.index(value) for value in values])

    def _make(self, index: int, view: int) -> View:
        sample = self.images[index]
        masks = torch.from_numpy(np.stack([sample.labels == value for value in self._values]))
        embedding = sample.embedding if view == 0 else None
        if embedding is None:
            image = sample.image
            if view > 0:
                image, masks = self._bent(
                    image, masks, np.random.default_rng([self._seed, index, view])
                )
            embedding = self._segmenter.embed(image, sample.image_id)
            self.encoded += 1
        # Half precision: views are most of a training's memory. clone, or a view of a larger tensor
        # would keep that alive.
        features = tuple(f.half().cpu().clone() for f in feature_list(embedding))
        height, width = features[-1].shape[-2:]
        grid = (MASK_GRID * height, MASK_GRID * width)
        # The share of a cell and no nearest pixel, so that thin objects do not vanish on a coarse
        # grid.
        cover = square_masks(masks.float(), grid, embedding.covered)
        return View(features, (cover * 255).round().to(torch.uint8))

    def _bent(
        self, image: NDArray[np.uint8], masks: Tensor, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], Tensor]:
        """A square crop of image and masks, bent; in the image's shape again where that matters."""
        picture = torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255
        side = min(512, max(image.shape[:2]))
        stack = F.interpolate(torch.cat((picture, masks.float()))[None], (side, side), mode="area")[
            0
        ]
        bent = warp(stack, random_affine(rng, self._how), side)
        if getattr(self._segmenter, "pads", False):
            size = [max(8, round(side * n / max(image.shape[:2]))) for n in image.shape[:2]]
            bent = F.interpolate(bent[None], size, mode="area")[0]
        bright = bend_intensities(bent[:3], rng).permute(1, 2, 0).mul(255).round()
        return bright.to(torch.uint8).numpy(), bent[3:]


class ViewPart:
    """Some images and classes of a `ViewCache`, numbered by themselves."""

    def __init__(self, whole: ViewCache, indices: Sequence[int], rows: list[int]) -> None:
        self.images = [whole.images[index] for index in indices]
        self._whole, self._indices, self._rows = whole, indices, rows

    def get(self, index: int, view: int) -> View:
        """View ``view`` of image ``index``."""
        made = self._whole.get(self._indices[index], view)
        return View(made.features, made.targets[self._rows])


Views = ViewCache | ViewPart


def present_targets(views: Views, most: int = 64) -> Tensor:
    """Masks (M, 1, g, g) in [0, 1] of the classes in up to ``most`` images as they are."""
    taken = [views.get(index, 0).targets for index in range(min(most, len(views.images)))]
    masks = torch.cat(taken)[:, None].float() / 255
    return masks[(masks > 0.5).flatten(1).any(1)]


# -- task ------------------------------------------------------------------------------------------


def focal_loss(logits: Tensor, target: Tensor, gamma: float = 3.0, alpha: float = 0.7) -> Tensor:
    """Focal loss of (R, 1, h, w) logits against soft targets in [0, 1], mean over pixels: (R,).

    ``alpha`` weighs the pixels of the object.
    """
    probability = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    weight = alpha * target + (1 - alpha) * (1 - target)
    return (weight * entropy * (probability - target).abs() ** gamma).mean((1, 2, 3))


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of (R, 1, h, w) logits against soft targets, mean over pixels: (R,)."""
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return entropy.mean((1, 2, 3))


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """1 - soft Dice of (R, 1, h, w) logits against soft targets: (R,)."""
    probability = logits.sigmoid()
    overlap = (probability * target).sum((1, 2, 3))
    total = probability.sum((1, 2, 3)) + target.sum((1, 2, 3))
    # The ones keep it defined where both are empty.
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
    # Plain IoU has no gradient where two boxes do not touch.
    giou = overlap / union.clamp(min=1e-6) - (hull - union) / hull.clamp(min=1e-6)
    return (boxes - truth).abs().mean(1) + 1 - giou


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)


BOX_NOISE = 0.08
"""A box's edges are shaken by up to this part of its sides."""


@dataclass(frozen=True, slots=True)
class PpnTraining:
    """Settings of a prompt predictor's losses and batches.

    Attributes:
        batch: images a step.
        views: augmented views of an image, beside the image itself; 0 switches augmentation off.
        rows: classes asked of a batch at most.
        mask_weight: of the focal losses of mask prompt and final mask (10 in the paper).
        focal_gamma: of those; how little what is nearly right counts.
        focal_alpha: the same; the weight of an object's pixels.
        entropy_weight: of the cross-entropies of both, which stand in for the focal losses (0 in
            the paper): from ten images they learn better, see ``docs/ppn-losses.md``.
        dice_weight: of the Dice terms of both, the paper's option.
        box_weight: of L1 and generalised IoU (1 in the paper).
        object_weight: of the object score's cross-entropy (1 in the paper).
        box_share: how often a true, shaken box stands in for the predicted one, and ends the mask
            prompt at its border.
        mask_share: how often a coarse true mask stands in for the mask prompt.
        click_share: how often one to three corrective clicks are added.
        scribble_share: how often a corrective scribble is added.
    """

    batch: int = 4
    views: int = 12
    rows: int = 2
    mask_weight: float = 0.0
    focal_gamma: float = 3.0
    focal_alpha: float = 0.7
    entropy_weight: float = 3.0
    dice_weight: float = 1.0
    box_weight: float = 1.0
    object_weight: float = 1.0
    box_share: float = 0.25
    mask_share: float = 0.1
    click_share: float = 0.15
    scribble_share: float = 0.05

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
        focal = partial(focal_loss, gamma=how.focal_gamma, alpha=how.focal_alpha)
        masks = focal(learned.mask_logits, target).mean()
        masks = masks + (focal(logits, target) * share).sum()
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
            # From the round alone, so that a resumed training deals the same images.
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
        # Nobody points at what is not there: absent classes learn from the learned prompts alone.
        draws = np.where(present.cpu().numpy() > 0, rng.random(len(target)), 1.0)
        limits = np.cumsum([how.box_share, how.mask_share, how.click_share, how.scribble_share])
        kind = np.searchsorted(limits, draws, side="right")  # in this order; 4 is nothing
        if (kind == 0).any():
            size = (truth[:, 2:] - truth[:, :2]).repeat(1, 2)
            noise = torch.from_numpy(rng.uniform(-BOX_NOISE, BOX_NOISE, truth.shape)).float()
            shaken = truth + noise.to(device) * size
            corners = self.decoder.embed_boxes(shaken * self.decoder.image_size)
            boxed = torch.from_numpy(kind == 0).to(device)[:, None, None]
            own = torch.where(boxed, corners, sparse[:, :BOX_TOKENS])
            sparse = torch.cat((own, learned.tokens), dim=1)
            ended = self.decoder.embed_masks(within_box(learned.mask_logits, shaken))
            dense = torch.where(boxed[..., None], ended, dense)
        if (kind == 1).any():
            guess = torch.stack([coarse_logits(mask, rng) for mask in target])
            masked = torch.from_numpy(kind == 1).to(device)[:, None, None, None]
            dense = torch.where(masked, self.decoder.embed_masks(guess), dense)
        if ((kind == 2) | (kind == 3)).any():
            predicted = learned.mask_logits.detach().cpu()
            coords, labels = self._points(predicted, target.cpu(), kind, rng)
            clicks = self.decoder.embed_points(coords.to(device), labels.to(device))
            sparse = torch.cat((sparse, clicks), dim=1)
        return sparse, dense

    def _points(
        self, predicted: Tensor, target: Tensor, kind: NDArray[np.intp], rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Corrective clicks where the kind is 2, a scribble's points where it is 3, else none.

        Returns:
            (R, P, 2) pixels of the network's square and (R, P) labels, -1 for no point.
        """
        scale = self.decoder.image_size / target.shape[-1]
        rows: list[list[Point]] = []
        for row, what in enumerate(kind.tolist()):
            truth, guess = target[row, 0].numpy() > 0.5, predicted[row, 0].numpy() > 0
            points: list[Point] = []
            if what == 2:
                drawn = [correction(truth, guess, rng) for _ in range(int(rng.integers(1, 4)))]
                points = [point for point in drawn if point is not None]
            elif what == 3:
                points = corrective_scribble(truth, guess, rng)
            rows.append(
                # Between the middles of cells, as everywhere: pixel 0 of a grid lies half a cell
                # in.
                [((x + 0.5) * scale - 0.5, (y + 0.5) * scale - 0.5, z) for x, y, z in points]
            )
        return to_tensors(rows)


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


# -- training --------------------------------------------------------------------------------------

CHECK_EVERY = 50
"""Steps between two measurements of the held-out images."""

STEPS_FOR_TEN = 450
"""Steps for ten images, or fewer."""

VIEWS_IN_ALL = 200
"""Views that are encoded at most, where there are so few images."""


@dataclass(frozen=True, slots=True)
class PpnSettings:
    """Everything about a training but its images.

    Attributes:
        steps: optimiser steps.
        lr: of the prompt predictor, at its peak.
        decoder_lr: of the LoRA on the mask decoder, at its peak.
        lora_rank: 0 keeps all of SAM frozen.
        seed: of everything random.
        task: batches, views and losses.
        levels: feature levels that the network looks at, from the coarsest on; more than there are
            takes all.
        augmentation: how far the views are bent.
        box_from: the box prompt goes around the mask prompt ("mask"), or is the two box tokens' own
            ("tokens", as in the paper).
        weight_decay: of the optimiser (AdamW).
        ema: decay of the moving average of the weights; 0 for none.
    """

    steps: int = 450
    lr: float = 1.5e-3
    decoder_lr: float = 3e-4
    lora_rank: int = 0
    seed: int = 0
    task: PpnTraining = field(default_factory=PpnTraining)
    levels: int = 1
    augmentation: Augmentation = PPN_AUGMENTATION
    box_from: Literal["mask", "tokens"] = "mask"
    weight_decay: float = 0.1
    ema: float = 0.98

    def with_recipe(self, name: str) -> PpnSettings:
        """The same as another recipe has it: "ours", or Sam2Rad's published one, "paper".

        The paper's steps are not stated: as many are taken as without it. Its images are padded to
        a square and its SAM 1 has an object head; here a segmenter encodes an image once, as it
        always does, for clicks and learned prompts alike, and SAM 1 answers by its IoU estimate.

        Raises:
            ValueError: there is no such recipe.
        """
        if name not in RECIPES:
            raise ValueError(f"recipe {name!r}: expected one of {', '.join(RECIPES)}")
        if name == "ours":
            return self
        return replace(
            self,
            lr=1e-4,
            decoder_lr=1e-5,
            task=replace(
                self.task.with_paper_losses(),
                box_share=0.0,
                mask_share=0.0,
                click_share=0.0,
                scribble_share=0.0,
            ),
            levels=ALL_LEVELS,
            augmentation=PAPER_AUGMENTATION,
            box_from="tokens",
            ema=0.0,
        )

    @classmethod
    def for_images(cls, count: int, seed: int = 0, lora_rank: int = 0) -> PpnSettings:
        """Steps and views that suit so many images: more images, more steps and fewer views."""
        steps = int(np.clip(STEPS_FOR_TEN * np.sqrt(count / 10), STEPS_FOR_TEN, 4 * STEPS_FOR_TEN))
        views = int(np.clip(VIEWS_IN_ALL // count, 1, 12))
        return cls(steps, seed=seed, lora_rank=lora_rank, task=PpnTraining(views=views))

    def trainer(self) -> TrainerSettings:
        """The part that the trainer asks for."""
        return TrainerSettings(
            self.steps,
            self.lr,
            warmup=min(30, max(1, self.steps // 5)),
            weight_decay=self.weight_decay,
            ema=self.ema,
            save_every=25,
            check_every=CHECK_EVERY,
            seed=self.seed,
        )


def train_ppn(
    images: Sequence[LabelledImage],
    classes: Mapping[int, str],
    segmenter: Segmenter,
    out: Path,
    settings: PpnSettings,
    *,
    source: str = "",
    held_out: Sequence[LabelledImage] = (),
    resume: bool = False,
    views: Views | None = None,
    progress: Progress = lambda step, steps, figures: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> PpnModel:
    """Train, save and return a prompt predictor.

    Args:
        images: to learn from; those of ``held_out`` must not be among them.
        classes: label value -> name.
        segmenter: of SAM's kind; it is only read.
        out: folder of the result.
        settings: how.
        source: name of the data set or project, for the card.
        held_out: to measure on while training and afterwards.
        resume: go on from ``out`` where the same training was interrupted or finished there.
        views: of these images and classes in this order, where another training shares them.
        progress: called after each step with (step, steps, figures); "held_out_dice" is among the
            figures now and then.
        cancelled: asked after each step.

    Raises:
        DatasetError: there is no image, or a class is in none of them.
        CheckpointError: ``out`` holds another training, and ``resume`` is asked for.
        Cancelled: ``cancelled()`` turned true; the state is saved.
    """
    _check(images, classes, source)
    request = {
        "source": source,
        "segmenter": segmenter.model_id,
        "classes": [[value, name] for value, name in classes.items()],
        "images": [image.image_id for image in images],
        "settings": asdict(settings),
    }
    if resume and is_same(out, request) and (out / CARD_FILE).exists():
        return load_ppn(out, segmenter)
    begin(out, request, resume=resume)

    decoder = FrozenDecoder(segmenter)
    torch.manual_seed(settings.seed)
    if settings.lora_rank:
        decoder.add_lora(settings.lora_rank)
    prompter = new_prompter(segmenter, len(classes), settings.levels).to(decoder.device)
    if views is None:
        views = ViewCache(segmenter, images, list(classes), settings.seed, settings.augmentation)
    present = present_targets(views)
    if len(present):
        begin_at_the_mean(prompter, present)
    held_out = [_embedded(segmenter, image) for image in held_out]
    task = PpnTask(prompter, decoder, views, settings.task, settings.decoder_lr / settings.lr)
    card = PpnCard(
        classes=dict(classes),
        segmenter=segmenter.model_id,
        shape={},
        source=source,
        images=tuple(image.image_id for image in images),
        seed=settings.seed,
        training=asdict(settings),
        lora_rank=settings.lora_rank,
    )

    def check(step: int) -> dict[str, float]:
        now = PpnModel(segmenter, prompter, card, decoder)
        return {"held_out_dice": mean_dice(now, held_out)}

    trained = train(
        task,
        settings.trainer(),
        out,
        check=check if held_out else None,
        resume=resume,
        progress=progress,
        cancelled=cancelled,
    )
    task.model.load_state_dict(trained.weights)
    model = PpnModel(segmenter, prompter, card, decoder)
    if held_out:
        scores = {"held_out_dice": mean_dice(model, held_out), "held_out_images": len(held_out)}
        card = replace(card, scores=scores)
    saved = save_ppn(out, prompter, card, decoder)
    finish(out, request)
    return PpnModel(segmenter, prompter, saved, decoder)


def mean_dice(model: PpnModel, images: Sequence[LabelledImage]) -> float:
    """Mean over images of the mean Dice over classes, nobody having pointed at anything."""
    return float(np.mean([np.mean(list(class_dice(model, image).values())) for image in images]))


def class_dice(model: PpnModel, image: LabelledImage) -> dict[int, float]:
    """Label value -> Dice; a class that is said to be absent has an empty mask."""
    embedding = image.embedding or model.segmenter.embed(image.image, image.image_id)
    scores = {}
    for value, prediction in model.predict(embedding).items():
        mask = prediction.masks[0] & (prediction.object_score >= 0)
        scores[value] = dice(image.labels == value, mask)
    return scores


def _embedded(segmenter: Segmenter, image: LabelledImage) -> LabelledImage:
    if image.embedding is not None:
        return image
    return replace(image, embedding=segmenter.embed(image.image, image.image_id))


def _check(images: Sequence[LabelledImage], classes: Mapping[int, str], source: str) -> None:
    if not images or not classes:
        raise DatasetError(source or "training", "no labelled image; label and accept some first")
    for value, name in classes.items():
        if not any((image.labels == value).any() for image in images):
            raise DatasetError(
                source or "training",
                f"class {value} ({name}) is in none of the {len(images)} training images; "
                "label one with it, or leave the class out",
            )


def cross_validate_ppn(
    images: Sequence[LabelledImage],
    classes: Mapping[int, str],
    segmenter: Segmenter,
    out: Path,
    settings: PpnSettings,
    *,
    source: str = "",
    progress: Progress = lambda step, steps, figures: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> PpnModel:
    """Train in ``out``, with out-of-fold scores in the card.

    The same call goes on where an earlier one was stopped or killed.

    Args:
        images: all that are accepted.
        out: folder of the result; the trainings of a cross-validation are in ``fold-N`` in it.
        settings: of the training on all; those of a cross-validation have fewer steps.
        progress: (step, steps, figures) over all trainings together.
        classes, segmenter, source, cancelled: as in `train_ppn`.

    Raises:
        DatasetError: all images are of one group, or a class is in none to learn from.
        Cancelled: ``cancelled()`` turned true.
    """
    views = ViewCache(segmenter, images, list(classes), settings.seed, settings.augmentation)

    def train_fold(fold: Fold, told: Progress) -> PpnModel:
        return train_ppn(
            [images[index] for index in fold.train],
            fold.classes,
            segmenter,
            fold.folder,
            replace(settings, steps=fold.steps),
            source=source,
            held_out=[images[index] for index in fold.test],
            resume=True,
            views=views.part(fold.train, list(fold.classes)),
            progress=told,
            cancelled=cancelled,
        )

    measured: list[Measured] = []

    def score(fold_model: PpnModel, image: LabelledImage) -> dict[int, float]:
        if cancelled():
            raise Cancelled("stopped while the result was measured")
        measured.append(measure_ways(fold_model, image))
        return class_dice(fold_model, image)

    needed = folds(images, classes, out, settings.steps)
    model, scores = cross_validate(images, classes, needed, train_fold, score, progress)
    card = replace(model.card, scores={**scores, "ways": means(measured)})
    write_card(out, card)
    return model.with_card(card)
