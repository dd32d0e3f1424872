"""Training of the embedded segmenter ``nano``: its stages, their tasks, and how it is judged.

Two kinds of stage:

1. ``DistillTask``: trunk and neck learn LiteMedSAM's image embedding (decoupled distillation,
   MobileSAM, arXiv 2306.14289), so that LiteMedSAM's decoder already understands them;
2. ``PromptTask``: everything learns from simulated people on many objects per image, as SAM 2 does
   (arXiv 2408.00714, appendix D.2): a first prompt, then corrective clicks with the previous mask.

The losses are SAM's: focal and Dice on masks, L1 on the predicted IoU, cross-entropy on the object
score; of three candidates only the best learns.

A stage that is done leaves ``NAME.safetensors`` and is not run again, so the same command with
``--resume`` goes on after an interruption. The learning images are small at first, for speed, then
at the final size.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ...core.geometry import mask_to_box
from ...io.datasets import read_splits
from ...learning.augmentation import (
    MAX_CLICKS,
    Augmentation,
    Point,
    bend_intensities,
    coarse_logits,
    correction,
    empty_box,
    first_prompt,
    random_affine,
    to_tensors,
    warp,
)
from ...learning.lora.data import POOL_SIDE, PoolImage, draw
from ...learning.lora.tasks import soft_iou
from ...learning.trainer import Task, TrainerSettings
from ...models.sam.nano import NanoSam, save_nano_segmenter
from ...models.sam.sam import normalise, to_pixels
from .materials import (
    EMA,
    TaughtImage,
    fill_cache,
    imagenet_trunk,
    items_of_side,
    lite_medsam_decoder,
    load_pool,
    phantom_pool,
    read_teaching,
    run_stage,
)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: ``kind`` is "distill" or "prompts"; ``minutes`` 0 means no limit but ``steps``."""

    name: str
    kind: str
    image_size: int
    steps: int
    lr: float
    minutes: float = 0.0


STAGES = (
    Stage("distill", "distill", 256, 700, 6e-4),
    Stage("prompts-256", "prompts", 256, 2440, 2e-4),
    Stage("prompts-384", "prompts", 384, 1020, 1e-4),
)
"""The schedule of the shipped weights."""


def train(
    data: Sequence[Path],
    out: Path,
    *,
    splits: Path,
    seed: int = 0,
    teacher_cache: Path | None = None,
    stages: Sequence[Stage] = STAGES,
    teacher_images: int = 718,
    phantoms: int = 300,
    organs: int = 300,
    resume: bool = False,
    study: bool = False,
    say: Say = print,
) -> Path:
    """Train the embedded segmenter and return the path of its half-precision weights.

    Args:
        data: data set folders in the protocol's layout; only training sides of ``splits`` are used.
        out: folder for checkpoints, ``log.jsonl`` and ``nano-segmenter.safetensors``.
        splits: the split file in the repository.
        seed: of the order, the phantoms, the teacher's boxes and all that bends images.
        stages: one after the other, each from the weights of the one before.
        teacher_cache: where LiteMedSAM's targets are kept (default: ``out``/teacher).
        teacher_images: how many training images LiteMedSAM is asked about.
        phantoms: number of phantoms in the pool.
        organs: number of phantoms of organs and lines without data (``phantoms.organs``).
        resume: go on from the checkpoints in ``out``.
        study: the weights never ship, so data sets of any licence teach (``read_teaching``).
    """
    out.mkdir(parents=True, exist_ok=True)
    datasets = read_teaching(data, study)
    split = read_splits(splits)
    cache = teacher_cache or out / "teacher"
    asked = items_of_side(datasets, split, "train")
    random.Random(seed).shuffle(asked)
    fill_cache(asked[:teacher_images], cache, seed)
    pool = load_pool(datasets, split, "train", cache) + phantom_pool(phantoms, seed + 1, organs)
    held_out = load_pool(datasets, split, "val")
    say(f"{len(pool)} training images, {len(held_out)} for validation")

    weights: dict[str, torch.Tensor] | None = None
    torch.manual_seed(seed)  # what starts at random
    for stage in stages:
        net = _network(stage.image_size, weights)
        done = out / f"{stage.name}.safetensors"
        if not (resume and done.exists()):
            task = (DistillTask if stage.kind == "distill" else PromptTask)(net, pool)
            settings = TrainerSettings(
                stage.steps, stage.lr, minutes=stage.minutes, ema=EMA, check_every=500, seed=seed
            )
            run_stage(
                stage.name, task, settings, out, partial(validate, net, held_out), resume, say
            )
            save_file({k: v.contiguous() for k, v in net.state_dict().items()}, done)
        weights = load_file(done)
    final = _network(stages[-1].image_size, weights)
    target = out / "nano-segmenter.safetensors"
    save_nano_segmenter(final, target, {"seed": str(seed)})
    say(f"wrote {target.name}: {json.dumps(validate(final, held_out))}")
    return target


def _network(image_size: int, weights: dict[str, torch.Tensor] | None) -> NanoSam:
    net = NanoSam(image_size)
    if weights is None:
        imagenet_trunk(net.trunk)
        lite_medsam_decoder(net)
    else:
        net.load_state_dict(weights)
    return net.to(memory_format=torch.channels_last)


@torch.inference_mode()
def validate(net: NanoSam, pool: Sequence[PoolImage], limit: int = 25) -> dict[str, float]:
    """Mean Dice of one object per image for its tight box and for one click, by data set.

    ``sensitivity`` is the mean change of the logits when the box moves by a fifth of the image,
    over their mean size: near 0 for a network that ignores its prompt.
    """
    was_training = net.training
    net.eval()
    sums: dict[str, list[float]] = {}
    seen: dict[str, int] = {}
    for sample in pool:
        numbers = [int(n) for n in np.unique(sample.objects) if n > 0]
        seen[sample.dataset] = seen.get(sample.dataset, 0) + 1
        if not numbers or seen[sample.dataset] > limit:
            continue
        mask = sample.objects == max(numbers, key=lambda n: int((sample.objects == n).sum()))
        embedding, (fine, middle) = net.encode(to_pixels(sample.image, net.image_size))
        box = mask_to_box(mask)
        if box is None:
            continue
        x0, y0, x1, y1 = (float(v) * net.image_size / mask.shape[0] for v in box)
        rows, columns = np.nonzero(mask)
        middle_row = int(np.argsort(rows)[len(rows) // 2])
        click = (
            float(columns[middle_row]) * net.image_size / mask.shape[0],
            float(rows[middle_row]) * net.image_size / mask.shape[0],
        )
        away = 0.2 * net.image_size
        prompts: list[list[Point]] = [
            [(x0, y0, 2), (x1, y1, 3)],
            [(*click, 1)],
            [((x0 + away) % net.image_size, y0, 2), ((x1 + away) % net.image_size, y1, 3)],
        ]
        features = (
            embedding.expand(3, -1, -1, -1),
            [fine.expand(3, -1, -1, -1), middle.expand(3, -1, -1, -1)],
        )
        none = torch.zeros(3, dtype=torch.bool)
        logits, _, _ = decode(net, features, prompts, torch.zeros(3, 1, 1, 1), none)
        whole = F.interpolate(logits[:, :1], mask.shape, mode="bilinear")
        iou = soft_iou(whole, torch.from_numpy(mask)[None, None].float().expand(3, -1, -1, -1))
        dice = 2 * iou / (1 + iou)
        change = (logits[2, 0] - logits[0, 0]).abs().mean() / logits[:1, 0].abs().mean()
        for name, value in (
            (f"box/{sample.dataset}", dice[0]),
            (f"click/{sample.dataset}", dice[1]),
            ("sensitivity", change),
        ):
            sums.setdefault(name, []).append(float(value))
    net.train(was_training)
    return {name: round(float(np.mean(values)), 4) for name, values in sorted(sums.items())}


DISTILL_IMAGES = 12
"""Images of a step towards the teacher's features."""
IMAGES, PROMPTS, ROUNDS = 4, 5, 3
"""Images of a step, prompts of an image, and rounds of correction at most."""
EMPTY_SHARE = 0.06
"""So many of the prompts point at nothing (a box in the black): the object score learns."""
ONE_CLICK = 2.5
"""Weight of the answer to a single click beside others: it is the weakest one."""
CLICK_SHARE, CLICK_JITTER = 0.4, 0.012
"""So many clicks are shaken, with this deviation in parts of the network's square."""
LEAST_PIXELS = 40
"""Objects below this area of the network's square are not asked for."""


def mask_loss(logits: Tensor, target: Tensor) -> Tensor:
    """SAM's mask loss for (N, M, h, w) logits and (N, 1, h, w) soft targets: (N, M).

    Twenty parts focal (gamma 2) to one part Dice (arXiv 2304.02643, appendix A).
    """
    target = target.expand_as(logits)
    probability = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    focal = (entropy * (probability - target).abs() ** 2).mean((-2, -1))
    overlap = (probability * target).sum((-2, -1))
    total = probability.sum((-2, -1)) + target.sum((-2, -1))
    return 20 * focal + 1 - (2 * overlap + 1) / (total + 1)


def shaken(prompt: list[Point], side: int, rng: np.random.Generator) -> list[Point]:
    """A first prompt whose clicks may be a little beside what they mean, as people's are."""
    if rng.random() >= CLICK_SHARE:
        return prompt
    moved: list[Point] = []
    for x, y, label in prompt:
        if label in (0, 1):
            dx, dy = rng.normal(0, CLICK_JITTER * side, 2)
            x, y = float(np.clip(x + dx, 0, side - 1)), float(np.clip(y + dy, 0, side - 1))
        moved.append((x, y, label))
    return moved


class DistillTask(Task):
    """Trunk and neck towards the teacher's features; flips and intensities only."""

    def __init__(self, net: NanoSam, pool: Sequence[PoolImage]) -> None:
        self.model: nn.Module = net
        self.net = net
        self.pool = [i for i in pool if isinstance(i, TaughtImage) and i.teacher is not None]

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        """The neck at the full rate, the trunk at a third, its first stages frozen."""
        return [
            {"params": list(self.net.neck.parameters()), "lr_scale": 1.0},
            {"params": unfrozen_trunk(self.net), "lr_scale": 0.3},
        ]

    def loss(self, step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """Mean squared error and cosine distance to the teacher's features."""
        images, targets = [], []
        for sample in draw(self.pool, rng, DISTILL_IMAGES):
            if not isinstance(sample, TaughtImage) or sample.teacher is None:
                continue
            image = torch.from_numpy(sample.image).permute(2, 0, 1).float() / 255
            target = torch.from_numpy(sample.teacher.features).float()
            if rng.random() < 0.5:
                image, target = image.flip(-1), target.flip(-1)
            image = F.interpolate(
                image[None], (self.net.image_size,) * 2, mode="bilinear", antialias=True
            )[0]
            images.append(bend_intensities(image, rng))
            targets.append(target)
        embedding, _ = encode(self.net, torch.stack(images))
        target = F.interpolate(torch.stack(targets), size=embedding.shape[-2:], mode="area")
        error = F.mse_loss(embedding, target)
        cosine = 1 - F.cosine_similarity(embedding, target, dim=1).mean()
        return error + cosine, {"mse": float(error), "cosine": float(cosine)}


class PromptTask(Task):
    """Masks for simulated prompts."""

    def __init__(self, net: NanoSam, pool: Sequence[PoolImage]) -> None:
        self.model: nn.Module = net
        self.net = net
        self.pool = pool
        self.augmentation = Augmentation()

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        """Neck and the decoder's new parts at the full rate, the rest at a third."""
        fresh = list(self.net.neck.parameters())
        decoder = [*self.net.mask_decoder.parameters(), *self.net.prompt_encoder.parameters()]
        return [
            {"params": fresh, "lr_scale": 1.0},
            {"params": decoder, "lr_scale": 0.5},
            {"params": unfrozen_trunk(self.net), "lr_scale": 0.5},
        ]

    def loss(self, step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """One batch of images, each with several prompts and rounds of correction."""
        images, masks, owners, weights = self._samples(rng)
        embedding, (fine, middle) = encode(self.net, torch.stack(images))
        owner = torch.tensor(owners)
        features = embedding[owner], [fine[owner], middle[owner]]
        truth = torch.stack(masks)[:, None]
        grid = fine.shape[-1]
        target = F.interpolate(truth, (grid, grid), mode="area")
        weight = torch.tensor(weights)
        hard = truth[:, 0].numpy() > 0.5
        prompts: list[list[Point]] = [
            shaken(first_prompt(mask, rng), self.net.image_size, rng) for mask in hard
        ]
        present = torch.ones(len(prompts))
        for index in np.flatnonzero(rng.random(len(prompts)) < EMPTY_SHARE).tolist():
            box = empty_box(images[owners[index]], rng)
            if box is not None:
                prompts[index], present[index] = box, 0.0
                # Nothing to segment there: no mask loss, only the object score learns from it.
                target[index], weight[index], hard[index] = 0.0, 0.0, False
        mask_input = torch.zeros_like(target)
        has_mask = torch.zeros(len(prompts), dtype=torch.bool)
        for index in np.flatnonzero(rng.random(len(prompts)) < 0.15).tolist():
            if present[index]:
                mask_input[index] = coarse_logits(target[index], rng)
                has_mask[index] = True
        clicked = torch.tensor([[label for *_, label in some] == [1] for some in prompts])
        first = torch.where(clicked & ~has_mask, weight * ONE_CLICK, weight)
        rounds = int(rng.integers(2, ROUNDS + 1))
        total, figures = torch.zeros(()), {}
        for number in range(rounds):
            logits, ious, score = decode(self.net, features, prompts, mask_input, has_mask)
            part, best = self._round_loss(
                logits, ious, score, target, weight if number else first, present
            )
            total = total + part
            figures[f"iou{number}"] = float(soft_iou(best, target).mean())
            if number + 1 < rounds:
                predicted = F.interpolate(best.detach(), hard.shape[-2:], mode="bilinear")
                for index, shown in enumerate(predicted[:, 0].numpy() > 0):
                    click = correction(hard[index], shown, rng)
                    if click is not None and len(prompts[index]) < MAX_CLICKS:
                        prompts[index] = [*prompts[index], click]
                # As in use: ``LOGIT_LIMIT`` of models.sam.sam.
                mask_input = best.detach().clamp(-32, 32)
                has_mask = torch.ones(len(prompts), dtype=torch.bool)
        return total / rounds, figures

    def _round_loss(
        self,
        logits: Tensor,
        ious: Tensor,
        score: Tensor,
        target: Tensor,
        weight: Tensor,
        present: Tensor,
    ) -> tuple[Tensor, Tensor]:
        losses = mask_loss(logits, target)
        # Of the three masks only the best learns (SAM's minimum loss), or all would become the
        # mean; a little for the others keeps them alive.
        best = losses[:, 1:].argmin(1)
        rows = torch.arange(len(losses))
        chosen = losses[:, 0] + 0.5 * losses[rows, 1 + best] + 0.02 * losses[:, 1:].mean(1)
        with torch.no_grad():
            measured = soft_iou(logits, target)
        quality = (ious - measured).abs().mean(1)
        presence = F.binary_cross_entropy_with_logits(score[:, 0], present)
        loss = (weight * (chosen + 0.5 * quality)).sum() / weight.sum() + 0.1 * presence
        return loss, logits[:, :1]

    def _samples(
        self, rng: np.random.Generator
    ) -> tuple[list[Tensor], list[Tensor], list[int], list[float]]:
        """Images (3, S, S), masks (S, S), which image each mask is of, and its weight."""
        images: list[Tensor] = []
        masks: list[Tensor] = []
        owners: list[int] = []
        weights: list[float] = []
        while len(images) < IMAGES:
            sample = draw(self.pool, rng, 1)[0]
            stack, soft = self._objects(sample, rng)
            picture = torch.from_numpy(sample.image).permute(2, 0, 1).float() / 255
            whole = torch.cat([picture, stack])
            bent = warp(whole, random_affine(rng, self.augmentation), self.net.image_size)
            kept = [
                (mask, heavy)
                for mask, heavy in zip(bent[3:], soft, strict=True)
                if (mask > 0.5).sum() >= LEAST_PIXELS
            ][:PROMPTS]
            if not kept:
                continue
            images.append(bend_intensities(bent[:3], rng))
            owners += [len(images) - 1] * len(kept)
            masks += [mask for mask, _ in kept]
            weights += [heavy for _, heavy in kept]
        return images, masks, owners, weights

    def _objects(self, sample: PoolImage, rng: np.random.Generator) -> tuple[Tensor, list[float]]:
        """Up to ``PROMPTS`` + 2 masks (N, 448, 448) of one image: its objects, then the teacher's.

        True objects weigh 1, the teacher's guesses 0.4.
        """
        numbers = [int(n) for n in np.unique(sample.objects) if n > 0]
        rng.shuffle(numbers)
        true = numbers[: PROMPTS - 1]
        if true and len(true) < 2:
            true = true * 2  # the same object twice, pointed at in two ways
        stack = [torch.from_numpy(sample.objects == n).float() for n in true]
        weights = [1.0] * len(stack)
        teacher = sample.teacher if isinstance(sample, TaughtImage) else None
        if teacher is not None and len(teacher.masks):
            order = rng.permutation(len(teacher.masks))[: PROMPTS + 2 - len(stack)]
            guesses = torch.from_numpy(teacher.masks[order]).float()
            size = (POOL_SIDE, POOL_SIDE)
            stack += list(F.interpolate(guesses[None], size, mode="bilinear")[0])
            weights += [0.4] * len(order)
        if not stack:
            return torch.zeros(0, POOL_SIDE, POOL_SIDE), []
        return torch.stack(stack), weights


def unfrozen_trunk(net: NanoSam) -> list[nn.Parameter]:
    """The trunk's trainable parameters; its stem, first two stages and batch norms stay frozen."""
    net.trunk.eval()
    for name, parameter in net.trunk.named_parameters():
        first = name.startswith(("conv_stem", "bn1", "blocks.0.", "blocks.1."))
        parameter.requires_grad_(not first)
    return [p for p in net.trunk.parameters() if p.requires_grad]


def encode(net: NanoSam, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Encode (B, 3, S, S) in [0, 1]; batch norms in evaluation mode."""
    net.trunk.eval()
    pixels = normalise(images).contiguous(memory_format=torch.channels_last)
    return net.encode(pixels)


def decode(
    net: NanoSam,
    features: tuple[Tensor, list[Tensor]],
    prompts: list[list[Point]],
    mask_input: Tensor,
    has_mask: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """All four masks of every prompt: logits (N, 4, h, w), IoU predictions (N, 4), scores (N, 1).

    Rows of ``mask_input`` (N, 1, h, w) count where ``has_mask`` (N,) says so.
    """
    coords, labels = to_tensors(prompts)
    sparse, nothing = net.prompt_encoder(points=(coords, labels), boxes=None, masks=None)
    dense = nothing
    if bool(has_mask.any()):
        _, given = net.prompt_encoder(points=None, boxes=None, masks=mask_input)
        dense = torch.where(has_mask[:, None, None, None], given, nothing)
    embedding, high_res = features
    logits, ious, _, score = net.mask_decoder.predict_masks(
        image_embeddings=embedding,
        image_pe=net.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        repeat_image=False,
        high_res_features=high_res,
    )
    return logits, ious, score
