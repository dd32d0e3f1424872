"""Long work as immutable records, and their answers.

A request carries the generation in which it was asked; its answer carries it back, and the session
drops an answer whose generation is no longer awaited. ``engine`` answers the model requests,
``files`` the file requests; both are pure functions of the request and of what is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..core.types import BoolArray, ImageRecord, LabelClass, Prompts, TextPrompt
from ..models.embedding_cache import CachePlace
from ..project.records import (
    ClassTable,
    Draft,
    Edit,
    Event,
    ImageState,
    LabelMap,
    LabelStore,
    SaveReport,
    Steps,
)
from ..project.versions import ModelKind, Versions
from ..segmentation.postprocess import PostprocessSettings
from ..segmentation.propose import Proposal


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


__all__ = [
    "Answer",
    "CloseRequest",
    "EmbedRequest",
    "ExportRequest",
    "FileAnswer",
    "FileRequest",
    "ImageSource",
    "LearnedPrompts",
    "LoadRequest",
    "Loaded",
    "ModelAnswer",
    "ModelRequest",
    "ObjectsRequest",
    "OpenArrayRequest",
    "OpenFolderRequest",
    "Opened",
    "PhantomRequest",
    "PresentRequest",
    "Prior",
    "PriorRequest",
    "Priority",
    "PromptRequest",
    "ProposeRequest",
    "Request",
    "SaveRequest",
    "ShelfAction",
    "ShelfRequest",
    "StepRequest",
    "StopRequest",
    "TextRequest",
    "TrainRequest",
    "TrainingAnswer",
    "TrainingRequest",
    "UseRequest",
    "WarmRequest",
]


@dataclass(frozen=True, slots=True, eq=False)
class OpenFolderRequest:
    """Look through a folder of images, for an annotator: "" is the first, who needs no name."""

    generation: int
    folder: Path
    labels_root: Path | None = None
    annotator: str = ""


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
    """Add events to the history of a store, and bring its label files up to date.

    ``events`` are all that the store is not known to have; ``loud`` where a label map, a state or
    a class is among them.
    """

    generation: int
    store: LabelStore
    events: tuple[Event, ...]
    loud: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class StepRequest:
    """Read the content of an old step of the history."""

    generation: int
    store: LabelStore
    number: int


@dataclass(frozen=True, slots=True, eq=False)
class PriorRequest:
    """Read what a person made of another image, to begin with it on the current one."""

    generation: int
    store: LabelStore
    record: ImageRecord


@dataclass(frozen=True, slots=True, eq=False)
class UseRequest:
    """Find an image, other than ``but``, that has a class in its labels or its proposals."""

    generation: int
    store: LabelStore
    class_id: int
    but: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class CloseRequest:
    """Let others have a store."""

    generation: int
    store: LabelStore


@dataclass(frozen=True, slots=True, eq=False)
class PresentRequest:
    """Read which classes are in the label maps of a few images."""

    generation: int
    store: LabelStore
    images: tuple[str, ...]


ShelfAction = Literal["settle", "choose", "begin", "pause", "resume", "discard"]


@dataclass(frozen=True, slots=True, eq=False)
class ShelfRequest:
    """Change what is kept of what was trained here (``store.shelf``).

    ``number`` is chosen; ``values`` are a training's request, or what is in use as it goes on.
    """

    generation: int
    store: LabelStore
    action: ShelfAction
    number: int | None = None
    kind: ModelKind = "ppn"
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class ExportRequest:
    """Write a data set of everything that is committed; ``groups`` as in ``io.groups``."""

    generation: int
    store: LabelStore
    out: Path
    organ: str
    target: str
    classes: tuple[LabelClass, ...]
    overwrite: bool = False
    groups: str | None = None


FileRequest = (
    OpenFolderRequest
    | OpenArrayRequest
    | LoadRequest
    | SaveRequest
    | StepRequest
    | PriorRequest
    | PresentRequest
    | UseRequest
    | ShelfRequest
    | CloseRequest
    | ExportRequest
)


@dataclass(frozen=True, slots=True, eq=False)
class TrainRequest:
    """Begin, or go on with, the training whose request is in ``folder``."""

    generation: int
    folder: Path
    kind: ModelKind = "ppn"


@dataclass(frozen=True, slots=True, eq=False)
class StopRequest:
    """Have the training end; what it has learnt stays in its folder."""

    generation: int


TrainingRequest = TrainRequest | StopRequest
Request = ModelRequest | FileRequest | TrainingRequest


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """An image as read.

    Attributes:
        record: of the image.
        key: names this content for good.
        pixels: (H, W, 3) RGB uint8.
        labels: (H, W).
        draft: what was proposed on it when it was read.
        state: what was decided about it, by whoever wrote its labels last.
        unflagged: the state that it has again when its flag is taken away.
        warning: a sentence for the person who looks at it, or "".
    """

    record: ImageRecord
    key: str
    pixels: NDArray[np.uint8]
    labels: LabelMap
    draft: Draft = field(default_factory=Draft)
    state: ImageState = ImageState.UNTOUCHED
    unflagged: ImageState = ImageState.UNTOUCHED
    warning: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A store with all that the session shows of it at once.

    ``others`` are the other annotators who labelled here, "" the first one; ``versions`` are the
    prompt predictors that were trained here, ``adapters`` the tuned detectors; ``drawn`` are the
    images with labels that nobody accepted; ``left_out`` says what else is in the folder.
    """

    store: LabelStore
    states: dict[str, ImageState]
    table: ClassTable | None
    settings: dict[str, Any]
    steps: Steps
    others: tuple[str, ...] = ()
    versions: Versions = field(default_factory=Versions)
    adapters: Versions = field(default_factory=Versions)
    drawn: frozenset[str] = frozenset()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Prior:
    """What a person made of an image: its label map (H, W) or None, and the draft behind it.

    The draft is what is proposed there, or else what was accepted last.
    """

    labels: LabelMap | None
    draft: Draft


@dataclass(frozen=True, slots=True, eq=False)
class FileAnswer:
    """What the file worker has to say: one of the results, or an error with its cure.

    ``used`` is the id of an image that has the class that was asked for, or "". ``warning`` goes
    with a save that needs a word; an image that was read has its own.
    """

    generation: int
    request: FileRequest
    opened: Opened | None = None
    loaded: Loaded | None = None
    saved: SaveReport | None = None
    exported: Path | None = None
    edit: Edit | None = None
    prior: Prior | None = None
    present: dict[str, tuple[int, ...]] | None = None
    used: str = ""
    versions: Versions | None = None
    warning: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class TrainingAnswer:
    """What a training says; ``message`` is as in ``training_process``, or ``background.ENDED``."""

    generation: int
    message: dict[str, Any]


Answer = ModelAnswer | FileAnswer | TrainingAnswer
