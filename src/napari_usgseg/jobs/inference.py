"""Work for the inference process: each function is a job, the loaded models its first argument.

To add one, write it here and submit it where its result is used. Torch is imported by what the
functions call, so that the window can name them without it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.errors import UsgsegError
from ..core.types import BoolArray, FieldOfView, FrameObjects, Prompts, TextPrompt
from ..models.interfaces import Detector, RgbFrames
from ..segmentation.field_of_view import crop, field_of
from ..segmentation.postprocess import PostprocessSettings
from ..segmentation.propagation.suggest import Looks
from ..segmentation.propose import Proposal, propose_auto, propose_prompts, propose_text
from .loaded_models import ImageSource, LoadedModels

PHANTOMS = 6
"""To try the window on."""


@dataclass(frozen=True, slots=True)
class LearnedPrompts:
    """A prompt predictor (PPN) to use: its folder, and its name in the history, "ppn-v3".

    ``class_id`` is the class whose learned prompts join a person's; 0 where all are asked for.
    """

    folder: Path
    name: str
    class_id: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Proposals of the models, and how they came about.

    Attributes:
        proposals: one for each object, best first, or in the order of what was asked.
        model_id: of the models.
        seconds: that the work took.
        notes: sentences for the person.
        fell_back: why the fallback of a detector was asked, or "".
    """

    proposals: tuple[Proposal, ...]
    model_id: str
    seconds: float
    notes: tuple[str, ...] = ()
    fell_back: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Propagated:
    """Objects on a frame of a loop, and the model that carried them there."""

    found: FrameObjects
    model_id: str


@dataclass(frozen=True, slots=True)
class PhraseSearch:
    """A phrase with its thresholds, the detector to ask, and which one where that fails, or ""."""

    prompt: TextPrompt
    detector: str
    fallback: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class FoundOn:
    """Proposals of the models on a frame of a loop."""

    frame: int
    found: Found


def load_segmenter(models: LoadedModels, name: str) -> str:
    """Load a segmenter before it is needed; gives its model id."""
    return models.segmenter(name).model_id


def load_detector(models: LoadedModels, name: str) -> None:
    """Load a detector before it is needed."""
    models.detector(name)


def embed(models: LoadedModels, source: ImageSource, segmenter: str) -> str:
    """Encode an image, so that the first click waits for nothing; gives the model id."""
    return models.embeddings(source, segmenter)[0].model_id


def segment_prompt(
    models: LoadedModels,
    source: ImageSource,
    segmenter: str,
    prompts: Prompts,
    cleaning: PostprocessSettings,
    previous: BoolArray | None = None,
    drawn: BoolArray | None = None,
    learned: LearnedPrompts | None = None,
) -> Found:
    """Segment the one object that a person points at.

    Args:
        models: that are loaded.
        source: the image.
        segmenter: by name.
        prompts: of the person.
        cleaning: of the mask.
        previous: its mask (H, W), where that is corrected.
        drawn: (H, W), the inside of a lasso, where that is the newest prompt.
        learned: prompts of its class, which join the person's; without them where they fail, and
            where a lasso says all by itself.
    """
    network = models.segmenter(segmenter)
    # Only the region that is pointed at is encoded; a phrase (below) needs them all.
    embedding = models.embedding(source, segmenter, field_of(source.fields, prompts))
    model_id = network.model_id
    notes: tuple[str, ...] = ()
    if learned is not None and drawn is None:  # a lasso says all by itself
        try:
            ppn = models.ppn(learned.folder, network)
        except UsgsegError as error:  # a click works all the same
            notes = (str(error),)
        else:
            # The class may be newer than the training. The model id names who made the mask, which
            # the effort ledger and the retraining read.
            if learned.class_id in ppn.card.classes:
                network = ppn.for_class(learned.class_id)
                model_id = f"{learned.name}@{model_id}"
    proposal = propose_prompts(network, embedding, prompts, cleaning, previous, drawn)
    return Found((proposal,), model_id, models.elapsed(), notes)


def segment_objects(
    models: LoadedModels,
    source: ImageSource,
    segmenter: str,
    prompts: tuple[Prompts, ...],
    cleaning: PostprocessSettings,
) -> Found:
    """Segment several objects, each by its own prompts; one proposal for each in their order."""
    network = models.segmenter(segmenter)
    found = []
    for each in prompts:
        embedding = models.embedding(source, segmenter, field_of(source.fields, each))
        found.append(propose_prompts(network, embedding, each, cleaning))
    return Found(tuple(found), network.model_id, models.elapsed())


def segment_text(
    models: LoadedModels,
    source: ImageSource,
    segmenter: str,
    detector: str,
    prompt: TextPrompt,
    cleaning: PostprocessSettings,
    fallback: str = "",
) -> Found:
    """Find and segment everything that a phrase names.

    Args:
        models: that are loaded.
        source: the image.
        segmenter: by name.
        detector: by name, or the folder of a tuned one.
        prompt: the phrase, with its thresholds.
        cleaning: of the masks.
        fallback: the detector to ask where ``detector`` cannot be loaded; "" is none.
    """
    network = models.segmenter(segmenter)
    phrase_model, fell_back = _detector(models, detector, fallback)
    embeddings = models.embeddings(source, segmenter)
    found = propose_text(network, phrase_model, models.pixels(source), prompt, cleaning, embeddings)
    model_id = f"{phrase_model.model_id} + {network.model_id}"
    return Found(found.items, model_id, models.elapsed(), found.notes, fell_back)


def _detector(models: LoadedModels, name: str, fallback: str) -> tuple[Detector, str]:
    """A detector, or the fallback and why."""
    try:
        return models.detector(name), ""
    except UsgsegError as error:
        if not fallback:
            raise
        return models.detector(fallback), str(error)


def segment_learned(
    models: LoadedModels,
    source: ImageSource,
    segmenter: str,
    learned: LearnedPrompts,
    cleaning: PostprocessSettings,
) -> Found:
    """Segment what a prompt predictor has learned; one proposal for each class that is there.

    A proposal's ``phrase`` is the name that its class had in the training.
    """
    network = models.segmenter(segmenter)
    embeddings = models.embeddings(source, segmenter)
    found = propose_auto(models.ppn(learned.folder, network), embeddings, cleaning)
    model_id = f"{learned.name}@{network.model_id}"
    return Found(found.items, model_id, models.elapsed(), found.notes)


def propagate(
    models: LoadedModels,
    path: Path,
    segmenter: str,
    keyframes: Mapping[int, Mapping[int, BoolArray]],
    wanted: tuple[int, ...],
) -> dict[int, str]:
    """Carry the objects of some frames of a loop to others; each is told as soon as it is known.

    Args:
        models: that are loaded.
        path: of the loop.
        segmenter: by name.
        keyframes: masks (H, W) by the number of their object, by frame.
        wanted: the other frames.

    Returns:
        What is wrong with frames that could not be decoded, and were not told, by frame.
    """
    from ..io.images import Loop
    from ..io.reading.files import open_frames
    from ..segmentation.propagation import propagator_for

    propagator = propagator_for(models.segmenter(segmenter))
    with open_frames(path) as file, models.giving_way():
        frames = Loop(file)
        # Also before a frame is read: optical flow runs no part of torch, where it would stand
        # still.
        patient = _GivingWay(frames, models)
        for found in propagator.propagate(patient, keyframes, wanted):
            if found.frame not in frames.broken:
                models.tell(Propagated(found, propagator.model_id))
    return {frame: frames.broken[frame] for frame in wanted if frame in frames.broken}


def compare_frames(models: LoadedModels, path: Path) -> Looks:
    """How unlike one another the frames of a loop look."""
    from ..io.images import Loop
    from ..io.reading.files import open_frames
    from ..segmentation.propagation.suggest import looks_of

    with open_frames(path) as file:
        return looks_of(_GivingWay(Loop(file), models))


def search_loop(
    models: LoadedModels,
    path: Path,
    segmenter: str,
    search: PhraseSearch | LearnedPrompts,
    wanted: tuple[int, ...],
    fields: tuple[FieldOfView, ...],
    cleaning: PostprocessSettings,
) -> dict[int, str]:
    """Look for a phrase, or for what was learned, on frames of a loop, smoothed over time.

    Each frame is told as soon as a few behind it are known.

    Args:
        models: that are loaded.
        path: of the loop.
        segmenter: by name.
        search: what is looked for.
        wanted: the frames, in the order in which they are told.
        fields: what models look at in each frame, () all of it.
        cleaning: of the masks.

    Returns:
        What is wrong with frames that could not be decoded, and were not told, by frame.
    """
    from ..io.images import Loop
    from ..io.reading.files import open_frames
    from ..segmentation.propagation.smoothing import smoothed

    network, fell_back = models.segmenter(segmenter), ""
    if isinstance(search, PhraseSearch):
        detector, fell_back = _detector(models, search.detector, search.fallback)
        model_id = f"{detector.model_id} + {network.model_id}"
    else:
        ppn = models.ppn(search.folder, network)
        model_id = f"{search.name}@{network.model_id}"

    def each(frames: Loop) -> Iterator[tuple[int, NDArray[np.uint8], tuple[Proposal, ...], Found]]:
        for frame in wanted:
            models.give_way()
            start, pixels = time.perf_counter(), frames[frame]
            if frame in frames.broken:
                continue
            embeddings = []  # not kept: they would drive out those of the image that is shown
            for field in fields or (None,):
                seen = pixels if field is None else crop(field, pixels)
                embeddings.append(replace(network.embed(seen), field=field))
            if isinstance(search, PhraseSearch):
                proposals = propose_text(
                    network, detector, pixels, search.prompt, cleaning, embeddings
                )
            else:
                proposals = propose_auto(ppn, embeddings, cleaning)
            seconds = time.perf_counter() - start
            found = Found((), model_id, seconds, proposals.notes, fell_back)
            yield frame, pixels, proposals.items, found

    with open_frames(path) as file, models.giving_way():
        frames = Loop(file)
        for frame, items, found in smoothed(each(frames)):
            models.tell(FoundOn(frame, replace(found, proposals=items)))
    return {frame: frames.broken[frame] for frame in wanted if frame in frames.broken}


class _GivingWay:
    """Frames that are read while nobody waits for anything else, and as long as they are wanted."""

    def __init__(self, frames: RgbFrames, models: LoadedModels) -> None:
        self._frames, self._models = frames, models

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, frame: int) -> NDArray[np.uint8]:
        self._models.give_way()
        return self._frames[frame]


def make_phantoms(models: LoadedModels, folder: Path) -> None:
    """Write a few phantoms with their truth into a folder."""
    from ..phantoms.phantom import write_phantom_dataset

    write_phantom_dataset(folder, PHANTOMS, seed=0)
