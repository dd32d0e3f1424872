"""Models whose answers are known beforehand, so that a score can be checked by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from napari_usgseg.core.types import Detections, ImageEmbedding, Prediction, Prompts, TextPrompt
from napari_usgseg.models.ppn.card import PpnCard

RADIUS = 12


class PlainSegmenter:
    """A box gives its rectangle, clicks give discs (negative ones cut out of the mask so far)."""

    model_id = "plain-1"

    def __init__(self) -> None:
        self.asked: list[Prompts] = []

    def embed(self, image, image_id=""):
        return ImageEmbedding(image_id, self.model_id, image.shape[:2], {})

    def predict(self, embedding, prompts, multimask=None):
        self.asked.append(prompts)
        height, width = embedding.size_hw
        rows, columns = np.mgrid[:height, :width]
        mask = np.zeros((height, width), bool)
        if prompts.box is not None:
            x0, y0, x1, y1 = prompts.box
            mask = (rows >= y0) & (rows <= y1) & (columns >= x0) & (columns <= x1)
        for (x, y), label in zip(prompts.point_coords, prompts.point_labels, strict=True):
            disc = (rows - y) ** 2 + (columns - x) ** 2 <= RADIUS**2
            mask = mask | disc if label else mask & ~disc
        logits = np.where(mask[::4, ::4], 6.0, -6.0).astype(np.float32)
        return Prediction(mask[None], np.array([0.9], np.float32), logits[None])


class PlainDetector:
    """Finds the boxes that it was given, for the phrases that it was given."""

    model_id = "detector-1"

    def __init__(
        self,
        found: Sequence[tuple[str, Sequence[float], float]] = (),
        priors: np.ndarray | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.found, self.priors, self.notes = list(found), priors, notes
        self.asked: list[TextPrompt] = []

    def detect(self, image, prompt):
        self.asked.append(prompt)
        found = [entry for entry in self.found if entry[0] in prompt.text.lower()]
        return Detections(
            np.array([box for _, box, _ in found], np.float32).reshape(-1, 4),
            np.array([score for _, _, score in found], np.float32),
            tuple(phrase for phrase, _, _ in found),
            self.priors,
            self.notes,
        )


@pytest.fixture
def plain_segmenter() -> PlainSegmenter:
    return PlainSegmenter()


@pytest.fixture
def make_detector() -> type[PlainDetector]:
    return PlainDetector


@pytest.fixture
def image() -> np.ndarray:
    """A black image of 60 x 80 pixels."""
    return np.zeros((60, 80, 3), np.uint8)


KNOWN_HW = (60, 80)


def prediction(top, left, bottom, right, score=5.0) -> Prediction:
    mask = np.zeros(KNOWN_HW, bool)
    mask[top:bottom, left:right] = True
    logits = np.where(mask[::4, ::4], 6.0, -6.0).astype(np.float32)
    return Prediction(mask[None], np.array([0.8], np.float32), logits[None], score)


class KnownAnswers:
    """Two classes at known places; a box given to a class answers with its rectangle."""

    def __init__(self, plain, answers, classes=None, source="", images=()) -> None:
        self._plain, self._answers, self.segmenter = plain, answers, plain
        self.card = PpnCard(
            classes or {1: "cyst", 2: "nerve"}, plain.model_id, {}, source=source, images=images
        )
        self.model_id = "plain-1+ppn-1"
        self.asked: list[int] = []

    def predict(self, embedding):
        return self._answers

    def for_class(self, class_id):
        self.asked.append(class_id)
        return self._plain


@pytest.fixture
def answers():
    return {1: prediction(10, 10, 30, 40), 2: prediction(40, 50, 50, 70)}
