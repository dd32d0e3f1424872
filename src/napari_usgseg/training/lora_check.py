"""How good a detector under training is: the boxes that a person would get, and the true ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..geometry import components, mask_to_box
from ..metrics import dice
from ..models.base import Detector
from ..types import BoolArray, FloatArray, TextPrompt
from .lora_data import CheckImage


@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """One phrase asked of one image.

    Attributes:
        image: which.
        phrase: what was asked.
        found: (N, 4) XYXY boxes that a person would get.
        wanted: (M, 4) boxes of the true objects.
        score: Dice of what the boxes cover; 1 where there is nothing and nothing is found.
    """

    image: CheckImage
    phrase: str
    found: FloatArray
    wanted: FloatArray
    score: float


def check_image(detector: Detector, image: CheckImage) -> list[Checked]:
    """Ask for every target of an image, with the detector's own thresholds."""
    answers = []
    for label, phrase in image.phrases.items():
        found = detector.detect(image.image, TextPrompt(phrase)).boxes
        parts = (mask_to_box(part) for part in components(image.labels == label))
        boxes = [box for box in parts if box is not None]
        wanted = np.asarray(boxes, np.float32).reshape(-1, 4)
        size = image.labels.shape[:2]
        score = dice(_covered(wanted, size), _covered(found, size))
        answers.append(Checked(image, phrase, found, wanted, score))
    return answers


def check_images(detector: Detector, images: Sequence[CheckImage]) -> list[Checked]:
    """``check_image`` for each."""
    return [answer for image in images for answer in check_image(detector, image)]


def _covered(boxes: FloatArray, size_hw: tuple[int, ...]) -> BoolArray:
    area = np.zeros(size_hw, bool)
    for x0, y0, x1, y1 in boxes:
        area[int(y0) : int(np.ceil(y1)) + 1, int(x0) : int(np.ceil(x1)) + 1] = True
    return area
