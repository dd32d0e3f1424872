"""Tasks of the two detectors: a Grounding DINO answers questions with boxes, `nano` with masks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.geometry import components, mask_to_box
from ...models.grounding.nano_detector import PhraseNet, SentenceEncoder
from ...models.grounding.phrases import DELIMITERS
from ...models.sam.sam import normalise
from ..trainer import Task
from .data import Question, Questioner

# -- Grounding DINO --------------------------------------------------------------------------------

STRIDES = (8, 16, 32, 64)
"""Of the encoder's feature levels; the small model has the first three."""
COVERED, TOUCHED = 0.3, 0.03
"""A cell covered by more than the first fraction is positive, up to the second negative."""
MATCHES = 4
"""Queries that learn an object in each decoder layer."""
GOOD_IOU = 0.6
"""A query whose box is this good is never taught that it is none."""
BOX_WEIGHT, GIOU_WEIGHT = 5.0, 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """The objects of one image.

    Attributes:
        boxes: (M, 4) centre and size in fractions of the image.
        phrases: (M,) which phrase of the prompt each answers.
        masks: (M, S, S) in [0, 1].
    """

    boxes: Tensor
    phrases: Tensor
    masks: Tensor

    def to(self, device: torch.device) -> Truth:
        """The same on another device."""
        return Truth(self.boxes.to(device), self.phrases.to(device), self.masks.to(device))


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """Answers of the encoder or of a decoder layer: logits (B, N, T), boxes (B, N, 4)."""

    logits: Tensor
    boxes: Tensor


def stages(model: Any, output: Any, attention_mask: Tensor) -> tuple[Stage, list[Stage]]:
    """The encoder's answers for every cell, and those of each decoder layer."""
    length = attention_mask.shape[1]
    encoder = Stage(
        output.enc_outputs_class[..., :length].float(),
        output.enc_outputs_coord_logits.float().sigmoid(),
    )
    decoder = []
    references = [output.init_reference_points, *output.intermediate_reference_points.unbind(1)]
    for level, hidden in enumerate(output.intermediate_hidden_states.unbind(1)):
        logits = model.class_embed[level](
            vision_hidden_state=hidden,
            text_hidden_state=output.encoder_last_hidden_state_text,
            text_token_mask=attention_mask.bool(),
        )
        offset = torch.special.logit(references[level].float(), eps=1e-5)
        boxes = (model.bbox_embed[level](hidden).float() + offset).sigmoid()
        decoder.append(Stage(logits[..., :length].float(), boxes))
    return encoder, decoder


def phrase_of_tokens(token_ids: Tensor) -> Tensor:
    """(B, T) token ids to the number of the phrase that each belongs to, -1 for none."""
    numbers = torch.full_like(token_ids, -1)
    for row, ids in enumerate(token_ids.tolist()):
        number, inside = -1, False
        for column, token in enumerate(ids):
            if token in DELIMITERS or token == 0:
                inside = False
                continue
            number += not inside
            inside = True
            numbers[row, column] = number
    return numbers


def dino_loss(
    model: Any,
    output: Any,
    token_ids: Tensor,
    attention_mask: Tensor,
    truths: Sequence[Truth],
) -> tuple[Tensor, dict[str, float]]:
    """The loss of a batch and its parts for the log.

    Args:
        model: the GroundingDinoForObjectDetection.
        output: its answer.
        token_ids: (B, T) prompts, each phrase followed by a full stop.
        attention_mask: (B, T), 0 for padding.
        truths: of each image.
    """
    encoder, decoder = stages(model, output, attention_mask)
    phrases = phrase_of_tokens(token_ids)
    weights = _token_weights(phrases, attention_mask)
    found = {"enc": _encoder_loss(encoder, phrases, weights, truths)}
    for number, stage in enumerate(decoder):
        found[f"dec{number}"] = _decoder_loss(stage, phrases, weights, truths)
    figures = {
        f"{name}_{part}": float(value.detach())
        for name, parts in found.items()
        for part, value in zip(("score", "box"), parts, strict=True)
    }
    return torch.stack([score + box for score, box in found.values()]).sum(), figures


def _token_weights(phrases: Tensor, attention_mask: Tensor) -> Tensor:
    """(B, T): the tokens of a phrase share a weight of 1; so do all signs between the phrases."""
    same = (phrases[:, :, None] == phrases[:, None, :]) & attention_mask[:, None, :].bool()
    return attention_mask / same.sum(-1).clamp(min=1)


def _encoder_loss(
    stage: Stage, phrases: Tensor, weights: Tensor, truths: Sequence[Truth]
) -> tuple[Tensor, Tensor]:
    targets, ignored, ours, theirs = [], [], [], []
    for row, truth in enumerate(truths):
        target = torch.zeros_like(stage.logits[row])
        if not len(truth.boxes):
            targets.append(target)
            ignored.append(torch.zeros(len(target), dtype=torch.bool, device=target.device))
            continue
        cover = _covers(truth.masks, len(target))
        best, owner = cover.max(0)
        positive = best > COVERED
        best_cells = cover[:, : _cells(truth.masks, STRIDES[0])].argmax(1)
        positive[best_cells] = True  # also for what is thinner than a cell
        boxes = stage.boxes[row, positive]
        wanted = truth.boxes[owner[positive]]
        overlap = box_ious(boxes.detach(), wanted)
        quality = torch.zeros(len(target), device=target.device)
        quality[positive] = 0.5 + 0.5 * overlap
        mine = phrases[row][None] == truth.phrases[owner][:, None]
        targets.append(torch.where(mine, quality[:, None], target))
        ignored.append((best > TOUCHED) & ~positive)
        ours.append(boxes)
        theirs.append(wanted)
    score = _quality_focal(
        stage.logits, torch.stack(targets), weights[:, None] * ~torch.stack(ignored)[:, :, None]
    )
    return score / max(1, sum(map(len, ours))), _box_loss(ours, theirs)


def _decoder_loss(
    stage: Stage, phrases: Tensor, weights: Tensor, truths: Sequence[Truth]
) -> tuple[Tensor, Tensor]:
    targets, ours, theirs = [], [], []
    for row, truth in enumerate(truths):
        target = torch.zeros_like(stage.logits[row])
        if len(truth.boxes):
            boxes = stage.boxes[row]
            overlap, matched, nearest = _match(stage.logits[row], boxes, phrases[row], truth)
            counted = torch.where(matched | (overlap > GOOD_IOU), overlap, torch.zeros(()))
            for number in truth.phrases.unique():
                quality = counted[:, truth.phrases == number].amax(1)
                # All tokens of a phrase learn the same quality: a box's score for a phrase is the
                # best of its tokens.
                target = torch.where(phrases[row] == number, quality[:, None], target)
            taught = matched.any(1)
            ours.append(boxes[taught])
            theirs.append(truth.boxes[nearest[taught]])
        targets.append(target)
    score = _quality_focal(stage.logits, torch.stack(targets), weights[:, None])
    return score / max(1, sum(map(len, ours))), _box_loss(ours, theirs)


@torch.no_grad()
def _match(
    logits: Tensor, boxes: Tensor, phrases: Tensor, truth: Truth
) -> tuple[Tensor, Tensor, Tensor]:
    """IoU (N, M), which queries learn which objects (N, M) bool, and each query's own object."""
    overlap, general = pairwise_ious(boxes, truth.boxes)
    own = (phrases[:, None] == truth.phrases[None]).float()
    probability = logits.sigmoid().nan_to_num() @ (own / own.sum(0).clamp(min=1))
    # DETR's matching cost (arXiv 2005.12872) with the same weights as the loss.
    cost = BOX_WEIGHT * torch.cdist(boxes, truth.boxes, p=1) - GIOU_WEIGHT * general - probability
    nearest = cost.argmin(1)
    matched = torch.zeros_like(overlap, dtype=torch.bool)
    for number in range(len(truth.boxes)):
        matched[cost[:, number].topk(min(MATCHES, len(boxes)), largest=False).indices, number] = (
            True
        )
    cheapest = F.one_hot(nearest, len(truth.boxes)).bool()
    # A query among the best of two objects learns the one that costs it less.
    return overlap, matched & cheapest, nearest


def _covers(masks: Tensor, cells: int) -> Tensor:
    """(M, S, S) to the fraction of each of the encoder's cells that is covered, (M, cells)."""
    levels: list[Tensor] = []
    for stride in STRIDES:
        if sum(level.shape[1] for level in levels) < cells:
            levels.append(F.avg_pool2d(masks[:, None], stride, ceil_mode=True).flatten(1))
    return torch.cat(levels, 1)


def _cells(masks: Tensor, stride: int) -> int:
    return (-(-masks.shape[-1] // stride)) ** 2


def _quality_focal(logits: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Quality focal loss, summed; padding (minus infinity) does not count."""
    # transformers fills logits of padding with minus infinity, and 0 * inf is NaN even where the
    # weight is 0.
    finite = logits.isfinite()
    logits = torch.where(finite, logits, torch.zeros(()))
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    # Quality focal loss (arXiv 2006.04388): the target is the box's IoU, so the score comes to mean
    # how good the box is.
    return (entropy * (target - logits.sigmoid()) ** 2 * weights * finite).sum()


def _box_loss(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Tensor:
    """L1 and generalised IoU, the mean over pairs."""
    if not sum(map(len, ours)):
        return torch.zeros(())
    given, wanted = torch.cat(list(ours)), torch.cat(list(theirs))
    general = _general_iou(given, wanted)
    distance = (given - wanted).abs().sum(-1)
    return (BOX_WEIGHT * distance + GIOU_WEIGHT * (1 - general)).mean()


def corners(boxes: Tensor) -> Tensor:
    """(..., 4) centre and size to XYXY."""
    half = boxes[..., 2:] / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], -1)


def box_ious(a: Tensor, b: Tensor) -> Tensor:
    """IoU of pairs of boxes, both (..., 4) centre and size."""
    return _overlap(a, b)[0]


def pairwise_ious(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU of (N, 4) with (M, 4), each (N, M)."""
    first, second = a[:, None].expand(-1, len(b), -1), b[None].expand(len(a), -1, -1)
    return box_ious(first, second), _general_iou(first, second)


def _overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    low = torch.maximum(corners(a)[..., :2], corners(b)[..., :2])
    high = torch.minimum(corners(a)[..., 2:], corners(b)[..., 2:])
    common = (high - low).clamp(min=0).prod(-1)
    union = a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - common
    return common / union.clamp(min=1e-8), union


def _general_iou(a: Tensor, b: Tensor) -> Tensor:
    """Rezatofighi et al., arXiv 1902.09630."""
    overlap, union = _overlap(a, b)
    low = torch.minimum(corners(a)[..., :2], corners(b)[..., :2])
    high = torch.maximum(corners(a)[..., 2:], corners(b)[..., 2:])
    hull = (high - low).prod(-1).clamp(min=1e-8)
    return overlap - (hull - union) / hull


LATER_ALONE = 0.4
"""Share of prompts of a single phrase once prompts of several have begun."""
ASK_PRESENT = 0.75
"""Share of single phrases that are in the image."""


def truth_of(questions: Sequence[Question], side: int) -> Truth:
    """The objects that a prompt of these questions asks for; ``side`` is the image's in pixels."""
    boxes, phrases, masks = [], [], []
    for number, question in enumerate(questions):
        for part in components(question.mask.numpy() > 0.5):
            box = mask_to_box(part)
            if box is not None:
                x0, y0, x1, y1 = (float(v) / side for v in box + np.array([0, 0, 1, 1]))
                boxes.append([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0])
                phrases.append(number)
                masks.append(torch.from_numpy(part).float())
    return Truth(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(phrases, dtype=torch.long),
        torch.stack(masks) if masks else torch.zeros(0, side, side),
    )


class DinoTask(Task):
    """The losses of ``dino_loss`` on batches in which every image has a prompt of its own.

    Args:
        model: a GroundingDinoForObjectDetection.
        tokenizer: its tokenizer.
        questioner: draws images and asks for phrases in them.
        alone_until: up to this step every prompt is a single phrase.
    """

    def __init__(
        self, model: Any, tokenizer: Any, questioner: Questioner, alone_until: int = 0
    ) -> None:
        self.model: nn.Module = model
        self.tokenizer = tokenizer
        self.questioner = questioner
        self.alone_until = alone_until

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        """New layers at the full rate, trunk and sampling offsets slower, text side frozen."""
        trunk, offsets, rest = [], [], []
        for name, parameter in self.model.named_parameters():
            if ".text_backbone." in name:
                parameter.requires_grad_(False)
            elif ".backbone." in name:
                first = "conv_stem" in name or "blocks.0." in name or "blocks.1." in name
                parameter.requires_grad_(not first)
                trunk += [] if first else [parameter]
            elif "sampling_offsets" in name:
                offsets.append(parameter)
            else:
                rest.append(parameter)
        return [
            {"params": rest, "lr_scale": 1.0},
            {"params": trunk, "lr_scale": 0.15},
            {"params": offsets, "lr_scale": 0.2},
        ]

    def loss(self, step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch, its parts, and how often the best box of a phrase hits."""
        images, questions = self.questioner.draw(rng)
        asked = [
            self._asked([q for q in questions if q.owner == index], step, rng)
            for index in range(len(images))
        ]
        texts = [" ".join(f"{question.phrase}." for question in prompt) for prompt in asked]
        device = next(self.model.parameters()).device
        tokens = self.tokenizer(texts, return_tensors="pt", padding=True).to(device)
        output = self.model(pixel_values=normalise(torch.stack(images)).to(device), **tokens)
        side = self.questioner.image_size
        truths = [truth_of(prompt, side).to(device) for prompt in asked]
        ids = tokens["input_ids"]
        loss, figures = dino_loss(self.model, output, ids, tokens["attention_mask"], truths)
        hits = [
            hit
            for row, truth in enumerate(truths)
            for hit in hits_of(output.logits[row], output.pred_boxes[row], ids[row], truth)
        ]
        return loss, {**figures, "hit": float(np.mean(hits)) if hits else float("nan")}

    def _asked(
        self, questions: list[Question], step: int, rng: np.random.Generator
    ) -> list[Question]:
        """The prompt of one image: a single one of its questions, or all of them, shuffled."""
        shuffled = [questions[int(i)] for i in rng.permutation(len(questions))]
        if step >= self.alone_until and rng.random() >= LATER_ALONE:
            return shuffled
        shuffled.sort(key=lambda question: question.present, reverse=rng.random() < ASK_PRESENT)
        return shuffled[:1]


@torch.no_grad()
def hits_of(logits: Tensor, boxes: Tensor, token_ids: Tensor, truth: Truth) -> list[bool]:
    """For every phrase that has objects: has its best-scored box IoU > 0.5 with one of them?

    Args:
        logits: (N, T') of one image.
        boxes: (N, 4) centre and size.
        token_ids: (T,) of its prompt.
        truth: its objects.
    """
    numbers = phrase_of_tokens(token_ids[None])[0]
    found = []
    for number in truth.phrases.unique():
        best = int(logits[:, : len(numbers)][:, numbers == number].amax(1).argmax())
        wanted = truth.boxes[truth.phrases == number]
        found.append(bool((box_ious(boxes[best].expand_as(wanted), wanted) > 0.5).any()))
    return found


# -- nano ------------------------------------------------------------------------------------------


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
