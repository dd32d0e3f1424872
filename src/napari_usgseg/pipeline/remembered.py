"""Models that remember their answers to one image, so that many ways to use them cost one call."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..models.base import Detector, Segmenter
from ..types import Detections, ImageEmbedding, Prediction, Prompts, TextPrompt


class RememberingSegmenter:
    """A ``Segmenter`` that answers equal prompts on the same image from memory.

    Args:
        segmenter: the one that is asked. Call ``forget`` before another image.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self._embedding: ImageEmbedding | None = None
        self._answers: dict[tuple[Any, ...], Prediction] = {}

    @property
    def model_id(self) -> str:
        """The segmenter's own."""
        return self._segmenter.model_id

    def forget(self) -> None:
        """Another image follows."""
        self._embedding = None
        self._answers.clear()

    def embed(self, image: NDArray[np.uint8], image_id: str = "") -> ImageEmbedding:
        """Encode the image, (H, W, 3) RGB uint8, once."""
        if self._embedding is None:
            self._embedding = self._segmenter.embed(image, image_id)
        return self._embedding

    def predict(
        self, embedding: ImageEmbedding, prompts: Prompts, multimask: bool | None = None
    ) -> Prediction:
        """Masks for one object."""
        arrays = (prompts.point_coords, prompts.point_labels, prompts.box, prompts.mask_input)
        key = (
            multimask,
            *(None if part is None else np.asarray(part).tobytes() for part in arrays),
        )
        if prompts.scribbles or embedding is not self._embedding:
            return self._segmenter.predict(embedding, prompts, multimask)
        if key not in self._answers:
            self._answers[key] = self._segmenter.predict(embedding, prompts, multimask)
        return self._answers[key]


class RememberingDetector:
    """A ``Detector`` that answers equal phrases on the same image from memory.

    Args:
        detector: the one that is asked. Call ``forget`` before another image.
    """

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self._answers: dict[tuple[Any, ...], Detections] = {}

    @property
    def model_id(self) -> str:
        """The detector's own."""
        return self._detector.model_id

    def forget(self) -> None:
        """Another image follows."""
        self._answers.clear()

    def detect(self, image: NDArray[np.uint8], prompt: TextPrompt) -> Detections:
        """Boxes for every phrase of ``prompt``."""
        key = (prompt.text, prompt.box_threshold, prompt.text_threshold)
        if key not in self._answers:
            self._answers[key] = self._detector.detect(image, prompt)
        return self._answers[key]
