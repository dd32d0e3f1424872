"""What the embedded segmenter ``nano`` learns from.

``nano_segmenter.train`` runs two kinds of stage:

1. ``DistillTask``: trunk and neck learn LiteMedSAM's image embedding (decoupled distillation,
   MobileSAM, arXiv 2306.14289), so that LiteMedSAM's decoder already understands them;
2. ``PromptTask``: everything learns from simulated people on many objects per image, as SAM 2 does
   (arXiv 2408.00714, appendix D.2): a first prompt, then corrective clicks with the previous mask.

The losses are SAM's: focal and Dice on masks, L1 on the predicted IoU, cross-entropy on the object
score; of three candidates only the best learns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.sam.nano import NanoSam
from .images import Augmentation, bend_intensities, normalise, random_affine, warp
from .pool import POOL_SIDE, PoolImage, draw
from .prompts import (
    MAX_CLICKS,
    Point,
    coarse_logits,
    correction,
    empty_box,
    first_prompt,
    to_tensors,
)

DISTILL_IMAGES = 12
"""Images of a step towards the teacher's features."""
IMAGES, PROMPTS, ROUNDS = 4, 5, 3
"""Images of a step, prompts of an image, and rounds of correction at most."""
EMPTY_SHARE = 0.06
"""So many of the prompts point at nothing (a box in the black): the object score learns."""
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


def soft_iou(logits: Tensor, target: Tensor) -> Tensor:
    """IoU of the thresholded logits (N, M, h, w) with (N, 1, h, w) targets: (N, M)."""
    predicted, truth = logits > 0, (target > 0.5).expand_as(logits)
    union = (predicted | truth).sum((-2, -1))
    return (predicted & truth).sum((-2, -1)) / union.clamp(min=1)


class DistillTask:
    """Trunk and neck towards the teacher's features; flips and intensities only."""

    def __init__(self, net: NanoSam, pool: Sequence[PoolImage]) -> None:
        self.model: nn.Module = net
        self.net = net
        self.pool = [image for image in pool if image.teacher is not None]

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
            if sample.teacher is None:
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


class PromptTask:
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
        prompts: list[list[Point]] = [first_prompt(mask, rng) for mask in hard]
        present = torch.ones(len(prompts))
        for index in np.flatnonzero(rng.random(len(prompts)) < EMPTY_SHARE).tolist():
            box = empty_box(images[owners[index]], rng)
            if box is not None:
                prompts[index], present[index] = box, 0.0
                target[index], weight[index], hard[index] = 0.0, 0.0, False
        mask_input = torch.zeros_like(target)
        has_mask = torch.zeros(len(prompts), dtype=torch.bool)
        for index in np.flatnonzero(rng.random(len(prompts)) < 0.15).tolist():
            if present[index]:
                mask_input[index] = coarse_logits(target[index], rng)
                has_mask[index] = True
        rounds = int(rng.integers(2, ROUNDS + 1))
        total, figures = torch.zeros(()), {}
        for number in range(rounds):
            logits, ious, score = decode(self.net, features, prompts, mask_input, has_mask)
            part, best = self._round_loss(logits, ious, score, target, weight, present)
            total = total + part
            figures[f"iou{number}"] = float(soft_iou(best, target).mean())
            if number + 1 < rounds:
                predicted = F.interpolate(best.detach(), hard.shape[-2:], mode="bilinear")
                for index, shown in enumerate(predicted[:, 0].numpy() > 0):
                    click = correction(hard[index], shown, rng)
                    if click is not None and len(prompts[index]) < MAX_CLICKS:
                        prompts[index] = [*prompts[index], click]
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
        if sample.teacher is not None and len(sample.teacher.masks):
            order = rng.permutation(len(sample.teacher.masks))[: PROMPTS + 2 - len(stack)]
            guesses = torch.from_numpy(sample.teacher.masks[order]).float()
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
