"""What the small embedded Grounding DINO learns from: the same questions, answered with boxes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..geometry import components, mask_to_box
from .images import normalise
from .questions import Question, Questioner


def question_boxes(question: Question) -> list[list[float]]:
    """Boxes of the question's objects as (cx, cy, w, h) in fractions of the image."""
    side = question.mask.shape[-1]
    found = []
    for part in components(question.mask.numpy() > 0.5):
        box = mask_to_box(part)
        if box is not None:
            x0, y0, x1, y1 = (float(v) / side for v in box + np.array([0, 0, 1, 1]))
            found.append([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0])
    return found


class DinoTask:
    """Grounding DINO's own losses (Hungarian matching, focal, L1, generalised IoU) per image.

    One image at a time: transformers' loss misplaces the phrases of a batch of different prompts.
    """

    def __init__(self, model: Any, tokenizer: Any, questioner: Questioner) -> None:
        self.model: nn.Module = model
        self.tokenizer = tokenizer
        self.questioner = questioner

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        """New layers at the full rate, trunk at a fifth; the text encoder is frozen."""
        trunk, rest = [], []
        for name, parameter in self.model.named_parameters():
            if ".text_backbone." in name:
                parameter.requires_grad_(False)
            elif ".backbone." in name:
                if "conv_stem" not in name and "blocks.0." not in name:
                    trunk.append(parameter)
            else:
                rest.append(parameter)
        return [{"params": rest, "lr_scale": 1.0}, {"params": trunk, "lr_scale": 0.2}]

    def loss(self, step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """The mean loss of a small batch, and how often the best-scored box hits (IoU > 0.5)."""
        images, questions = self.questioner.draw(rng)
        total, hits = torch.zeros(()), []
        for index, image in enumerate(images):
            asked = [q for q in questions if q.owner == index]
            order = rng.permutation(len(asked))
            asked = [asked[int(i)] for i in order]
            text = " ".join(f"{question.phrase}." for question in asked)
            tokens = self.tokenizer([text], return_tensors="pt")
            labels, boxes = [], []
            for number, question in enumerate(asked):
                for box in question_boxes(question):
                    labels.append(number)
                    boxes.append(box)
            target = {
                "class_labels": torch.tensor(labels, dtype=torch.long),
                "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            }
            output = self.model(pixel_values=normalise(image[None]), **tokens, labels=[target])
            total = total + output.loss / len(images)
            if boxes:
                best = int(output.logits[0].amax(-1).argmax())
                hits.append(float(best_iou(output.pred_boxes[0, best], target["boxes"]) > 0.5))
        return total, {"hit": float(np.mean(hits)) if hits else float("nan")}


@torch.no_grad()
def best_iou(box: Tensor, boxes: Tensor) -> float:
    """The best IoU of ``box`` (4,) with ``boxes`` (N, 4), all (cx, cy, w, h)."""

    def corners(b: Tensor) -> Tensor:
        return torch.cat([b[..., :2] - b[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2], -1)

    a, b = corners(box[None]), corners(boxes)
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    inter = (high - low).clamp(min=0).prod(-1)
    return float((inter / (box[2:].prod() + boxes[:, 2:].prod(-1) - inter)).max())
