"""Long work as immutable records, and their answers.

A request carries the generation in which it was asked; its answer carries it back, and the session
drops an answer whose generation is no longer awaited. ``engine`` answers the model requests,
``files`` the file requests; both are pure functions of the request and of what is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..models.embedding_cache import CachePlace
from ..pipeline.postprocess import PostprocessSettings
from ..pipeline.propose import Proposal
from ..store.base import ImageState, LabelMap, LabelStore, SaveReport
from ..types import ImageRecord, LabelClass, Prompts, TextPrompt


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
    """Segment the one object that a person points at."""

    generation: int
    source: ImageSource
    segmenter: str
    prompts: Prompts
    settings: PostprocessSettings
    priority: Priority = Priority.CLICK


@dataclass(frozen=True, slots=True, eq=False)
class TextRequest:
    """Find and segment everything that a phrase names."""

    generation: int
    source: ImageSource
    segmenter: str
    detector: str
    prompt: TextPrompt
    settings: PostprocessSettings
    priority: Priority = Priority.TEXT


@dataclass(frozen=True, slots=True, eq=False)
class PhantomRequest:
    """Write a few phantoms with their truth into a folder."""

    generation: int
    folder: Path
    count: int = 6
    seed: int = 0
    priority: Priority = Priority.TEXT


ModelRequest = WarmRequest | EmbedRequest | PromptRequest | TextRequest | PhantomRequest


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
    error: str = ""
    missing_image: bool = False
    dropped: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class OpenFolderRequest:
    """Look through a folder of images."""

    generation: int
    folder: Path
    labels_root: Path | None = None


@dataclass(frozen=True, slots=True, eq=False)
class OpenArrayRequest:
    """Take an image that is in memory already: any array of one image."""

    generation: int
    name: str
    array: NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class LoadRequest:
    """Read an image and its label map."""

    generation: int
    store: LabelStore
    record: ImageRecord


@dataclass(frozen=True, slots=True, eq=False)
class SaveRequest:
    """Keep labels, state and classes of an image, and which image is the current one.

    ``labels`` is written where ``state`` is committed, taken back where it is untouched.
    """

    generation: int
    store: LabelStore
    record: ImageRecord
    labels: LabelMap
    state: ImageState
    classes: tuple[LabelClass, ...]


@dataclass(frozen=True, slots=True, eq=False)
class RememberRequest:
    """Keep settings and classes."""

    generation: int
    store: LabelStore
    values: dict[str, Any]
    classes: tuple[LabelClass, ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ExportRequest:
    """Write a data set of everything that is committed."""

    generation: int
    store: LabelStore
    out: Path
    organ: str
    target: str
    classes: tuple[LabelClass, ...]
    overwrite: bool = False


FileRequest = (
    OpenFolderRequest
    | OpenArrayRequest
    | LoadRequest
    | SaveRequest
    | RememberRequest
    | ExportRequest
)
Request = ModelRequest | FileRequest


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """An image as read: ``pixels`` (H, W, 3) RGB uint8, ``labels`` (H, W), a ``key`` of its own."""

    record: ImageRecord
    key: str
    pixels: NDArray[np.uint8]
    labels: LabelMap


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A store with all that the session shows of it at once."""

    store: LabelStore
    states: dict[str, ImageState]
    classes: tuple[LabelClass, ...]
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class FileAnswer:
    """What the file worker has to say: one of the results, or an error with its cure.

    ``warning`` goes with a result that needs a word (a label map of the wrong size).
    """

    generation: int
    request: FileRequest
    opened: Opened | None = None
    loaded: Loaded | None = None
    saved: SaveReport | None = None
    exported: Path | None = None
    warning: str = ""
    error: str = ""


Answer = ModelAnswer | FileAnswer
