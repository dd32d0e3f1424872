"""What the small embedded Grounding DINO learns from: the same questions, answered with boxes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..geometry import components, mask_to_box
from .dino_loss import Truth, box_ious, dino_loss, phrase_of_tokens
from .images import normalise
from .questions import Question, Questioner

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


class DinoTask:
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
