"""The interfaces behind which every model stands: segmenters, detectors and propagators."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # so that a list of the models needs no numpy
    import numpy as np
    from numpy.typing import NDArray

    from ..core.types import (
        BoolArray,
        Detections,
        FrameObjects,
        ImageEmbedding,
        Prediction,
        Prompts,
        TextPrompt,
    )


class Segmenter(Protocol):
    """Prompts to masks: promptable segmentation as SAM defines it (arXiv 2304.02643, section 2).

    ``embed`` and ``predict`` are pure: no image is held between calls, so that several threads may
    use one segmenter. Coordinates are XY pixels of the original image.
    """

    @property
    def model_id(self) -> str:
        """Name and content hash of the weights ("nano-1a2b3c4d"): the key of an embedding."""
        ...

    def embed(self, image: NDArray[np.uint8], image_id: str = "") -> ImageEmbedding:
        """Encode an image once, for any number of prompts.

        Args:
            image: (H, W, 3) RGB uint8, as `read_image` gives it.
            image_id: kept in the embedding, for messages and caches.

        Raises:
            ModelError: the array is not such an image.
        """
        ...

    def predict(
        self, embedding: ImageEmbedding, prompts: Prompts, multimask: bool | None = None
    ) -> Prediction:
        """Masks (N, H, W) for one object, best first by the model's own estimate of their IoU.

        Args:
            embedding: from this segmenter's ``embed``.
            prompts: points, box, scribbles and previous logits, in any combination.
            multimask: True gives three candidates, False one. None gives one, too: the best of
                three where the prompt is ambiguous (a single point and nothing else), as SAM's
                authors advise.

        Raises:
            ModelError: the embedding is another model's.
            PromptError: there is neither a point, a box, a scribble nor a mask, or one of them is
                malformed or outside the image.
        """
        ...


class Detector(Protocol):
    """Phrases to boxes: open-vocabulary detection (Grounding DINO, arXiv 2303.05499)."""

    @property
    def model_id(self) -> str:
        """Name and content hash of the weights, and of an adapter on them."""
        ...

    def detect(self, image: NDArray[np.uint8], prompt: TextPrompt) -> Detections:
        """Boxes (N, 4) XYXY pixels for every phrase of a prompt, best first.

        Args:
            image: (H, W, 3) RGB uint8.
            prompt: phrases, separated by full stops or commas; thresholds in [0, 1] where they
                are not to be the detector's own.

        Raises:
            PromptError: the prompt has no phrase, or more than the model takes.
            ModelError: the array is not such an image.
        """
        ...


class RgbFrames(Protocol):
    """The frames of a loop, each read when it is asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, frame: int, /) -> NDArray[np.uint8]:
        """Frame 0.. as (H, W, 3) RGB uint8; all have one size."""
        ...


class Propagator(Protocol):
    """Objects of some frames of a loop to its other frames."""

    @property
    def model_id(self) -> str:
        """Name of the way, and content hash of the weights where it has any."""
        ...

    def propagate(
        self,
        frames: RgbFrames,
        keyframes: Mapping[int, Mapping[int, BoolArray]],
        wanted: Iterable[int],
    ) -> Iterator[FrameObjects]:
        """The objects on the wanted frames, one frame after the other, as soon as each is known.

        Args:
            frames: the loop; only a few frames are held at a time.
            keyframes: the frames that are labelled: masks (H, W) by the number of their object,
                which is one object on all frames. They are fixed: no answer is given for them.
            wanted: frames, in any order. Those before the first keyframe come last frame first.

        Raises:
            PromptError: there is no keyframe, a frame is not of the loop, or a mask is not of the
                frames' size.
        """
        ...
