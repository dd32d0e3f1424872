"""Measuring of a detector by its boxes, and the choice of an adapter's thresholds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ...core.geometry import components, mask_to_box
from ...core.metrics import dice
from ...core.types import BoolArray, FloatArray, TextPrompt
from ...models.interfaces import Detector
from .data import CheckImage

THRESHOLDS: FloatArray = (np.arange(1, 19) / 20).astype(np.float32)
"""Least scores of a box among which an adapter's own is chosen: 0.05, 0.1, ... 0.9."""
NEAR = 0.5
"""A threshold that costs no more than this share of an image is as good as the best."""
LEAST = 0.3
"""Of the detector's own threshold: an adapter's is not lower."""


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


@dataclass(frozen=True, slots=True, eq=False)
class AskedImage:
    """All boxes that a detector gives for one phrase in one image, whatever their scores.

    Attributes:
        image: which.
        phrase: what was asked.
        found: (N, 4) XYXY boxes.
        scores: (N,) theirs.
        wanted: (M, 4) boxes of the true objects.
        dice: (T,) what `Checked.score` is at each of ``THRESHOLDS``.
    """

    image: CheckImage
    phrase: str
    found: FloatArray
    scores: FloatArray
    wanted: FloatArray
    dice: FloatArray

    def at(self, place: int) -> Checked:
        """With the boxes that pass one of ``THRESHOLDS``."""
        kept = self.found[self.scores >= THRESHOLDS[place]]
        return Checked(self.image, self.phrase, kept, self.wanted, float(self.dice[place]))


def ask(detector: Detector, images: Sequence[CheckImage]) -> list[AskedImage]:
    """Ask for every target of every image."""
    return [
        _ask(detector, image, label, phrase)
        for image in images
        for label, phrase in image.phrases.items()
    ]


def choose_threshold(dice_at: FloatArray, images: int, own: float) -> int:
    """The place in ``THRESHOLDS`` that an adapter should use for a target.

    A target that is small, faint or often missing gets lower scores than those for which the
    detector's own threshold was chosen. That one stays where it is as good as any; else it is the
    middle of those that are, for few images say little about where they end.

    Args:
        dice_at: (T,) mean score at each of ``THRESHOLDS``.
        images: so many were asked.
        own: the detector's own threshold.
    """
    usual = int(np.abs(THRESHOLDS - own).argmin())
    allowed = np.where(LEAST * own <= THRESHOLDS, dice_at, -np.inf)
    good = allowed >= allowed.max() - NEAR / images
    if good[usual]:
        return usual
    best = int(allowed.argmax())
    first = last = best
    while first > 0 and good[first - 1]:
        first -= 1
    while last + 1 < len(good) and good[last + 1]:
        last += 1
    return (first + last) // 2


def thresholds(answers: Iterable[AskedImage], own: float) -> dict[str, float]:
    """Phrase -> the least score of a box that suits it best."""
    rows: dict[str, list[FloatArray]] = {}
    for answer in answers:
        rows.setdefault(answer.phrase, []).append(answer.dice)
    return {
        phrase: round(float(THRESHOLDS[choose_threshold(np.mean(some, 0), len(some), own)]), 2)
        for phrase, some in sorted(rows.items())
    }


def _ask(detector: Detector, image: CheckImage, label: int, phrase: str) -> AskedImage:
    least = float(THRESHOLDS[0])
    detections = detector.detect(image.image, TextPrompt(phrase, least, least))
    found, scores = detections.boxes, detections.scores
    parts = (mask_to_box(part) for part in components(image.labels == label))
    boxes = [box for box in parts if box is not None]
    wanted = np.asarray(boxes, np.float32).reshape(-1, 4)
    size = image.labels.shape[:2]
    truth = _covered(wanted, size)
    by_count: dict[int, float] = {}
    counts = [int((scores >= threshold).sum()) for threshold in THRESHOLDS]
    for count in set(counts):  # detections come best first
        by_count[count] = dice(truth, _covered(found[:count], size))
    values = np.array([by_count[count] for count in counts], np.float32)
    return AskedImage(image, phrase, found, scores, wanted, values)


def _covered(boxes: FloatArray, size_hw: tuple[int, ...]) -> BoolArray:
    area = np.zeros(size_hw, bool)
    for x0, y0, x1, y1 in boxes:
        area[int(y0) : int(np.ceil(y1)) + 1, int(x0) : int(np.ceil(x1)) + 1] = True
    return area
