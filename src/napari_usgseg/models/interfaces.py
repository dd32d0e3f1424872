"""The two interfaces behind which every model with a name stands."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..core.types import Detections, ImageEmbedding, Prediction, Prompts, TextPrompt


class Segmenter(Protocol):
    """Prompts to masks. ``embed`` and ``predict`` are pure: no image is held between calls."""

    @property
    def model_id(self) -> str:
        """Name and content hash of the weights ("nano-1a2b3c4d"): the key of an embedding."""
        ...

    def embed(self, image: NDArray[np.uint8], image_id: str = "") -> ImageEmbedding:
        """Encode an image, (H, W, 3) RGB uint8."""
        ...

    def predict(
        self, embedding: ImageEmbedding, prompts: Prompts, multimask: bool | None = None
    ) -> Prediction:
        """Masks for one object, best first by ``iou_predictions``.

        ``multimask`` asks for three candidates; None asks for them where the prompt is ambiguous
        (a single point and nothing else), as SAM's authors advise.

        Raises:
            ModelError: the embedding is another model's.
            PromptError: there is neither a point, a box, a scribble nor a mask.
        """
        ...


class Detector(Protocol):
    """Phrases to boxes."""

    @property
    def model_id(self) -> str:
        """Name and content hash of the weights."""
        ...

    def detect(self, image: NDArray[np.uint8], prompt: TextPrompt) -> Detections:
        """Boxes for every phrase of ``prompt`` in an image, (H, W, 3) RGB uint8, best first.

        Raises:
            PromptError: the prompt has no phrase.
        """
        ...
