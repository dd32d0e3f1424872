"""Work for the inference worker as immutable records, and its answer; see ``requests``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..models.embedding_cache import CachePlace
from ..pipeline.postprocess import PostprocessSettings
from ..pipeline.propose import Proposal
from ..types import BoolArray, Prompts, TextPrompt


class Priority(IntEnum):
    """What goes first in the queue of the inference worker."""

    CLICK = 0
    TEXT = 1
    EMBED = 2
    PREFETCH = 3


@dataclass(frozen=True, slots=True, eq=False)
class ImageSource:
    """Pixels to work on: ``key`` names this content for good, ``pixels`` are (H, W, 3) uint8.

    ``pixels`` is None on a later request, when the worker has the image already. ``cache`` is where
    its embedding may be kept on disk, or None.
    """

    key: str
    pixels: NDArray[np.uint8] | None
    cache: CachePlace | None = None


@dataclass(frozen=True, slots=True)
class LearnedPrompts:
    """A prompt predictor (PPN) to use: its folder, and its name in the history, "ppn-v3".

    ``class_id`` is the class whose learned prompts join a person's; 0 where all are asked for.
    """

    folder: Path
    name: str
    class_id: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class WarmRequest:
    """Load a segmenter or a detector, or both, before they are needed."""

    generation: int
    segmenter: str | None = None
    detector: str | None = None
    priority: Priority = Priority.EMBED


@dataclass(frozen=True, slots=True, eq=False)
class EmbedRequest:
    """Encode an image, so that the first click waits for nothing."""

    generation: int
    source: ImageSource
    segmenter: str
    priority: Priority = Priority.EMBED


@dataclass(frozen=True, slots=True, eq=False)
class PromptRequest:
    """Segment the one object that a person points at; ``previous`` is its mask, if corrected.

    ``learned`` prompts of its class join the person's.
    """

    generation: int
    source: ImageSource
    segmenter: str
    prompts: Prompts
    settings: PostprocessSettings
    previous: BoolArray | None = None
    priority: Priority = Priority.CLICK
    learned: LearnedPrompts | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ObjectsRequest:
    """Segment several objects, each by its own prompts; one proposal for each in their order."""

    generation: int
    source: ImageSource
    segmenter: str
    prompts: tuple[Prompts, ...]
    settings: PostprocessSettings
    priority: Priority = Priority.CLICK


@dataclass(frozen=True, slots=True, eq=False)
class TextRequest:
    """Find and segment everything that a phrase names.

    ``fallback`` is the detector to ask where ``detector``, a tuned one, cannot be loaded.
    """

    generation: int
    source: ImageSource
    segmenter: str
    detector: str
    prompt: TextPrompt
    settings: PostprocessSettings
    priority: Priority = Priority.TEXT
    fallback: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class ProposeRequest:
    """Segment what a prompt predictor has learned; one proposal for each class that is there.

    A proposal's ``phrase`` is the name that its class had in the training.
    """

    generation: int
    source: ImageSource
    segmenter: str
    learned: LearnedPrompts
    settings: PostprocessSettings
    priority: Priority = Priority.TEXT


@dataclass(frozen=True, slots=True, eq=False)
class PhantomRequest:
    """Write a few phantoms with their truth into a folder."""

    generation: int
    folder: Path
    priority: Priority = Priority.TEXT


ModelRequest = (
    WarmRequest
    | EmbedRequest
    | PromptRequest
    | ObjectsRequest
    | TextRequest
    | ProposeRequest
    | PhantomRequest
)


@dataclass(frozen=True, slots=True, eq=False)
class ModelAnswer:
    """What the inference worker has to say about a request.

    Attributes:
        generation: of the request.
        kind: name of the request's class.
        proposals: one for each object, best first.
        notes: sentences for the person.
        model_id: of the segmenter.
        seconds: that the work took.
        fell_back: why the fallback was asked, or "".
        error: what went wrong and the cure, or "".
        missing_image: the worker does not hold the image; ask again with its pixels.
        dropped: a newer request or a cancel came before the work began.
    """

    generation: int
    kind: str
    proposals: tuple[Proposal, ...] = ()
    notes: tuple[str, ...] = ()
    model_id: str = ""
    seconds: float = 0.0
    fell_back: str = ""
    error: str = ""
    missing_image: bool = False
    dropped: bool = False
