"""Score a segmenter and a detector on data sets, by the project's protocol.

Metrics are per image, then the mean over images. ``text`` scores whole labels, phrase by phrase;
``box`` and ``clicks`` prompt one object (``geometry.components``) at a time, score it against
that object alone and take the mean over an image's objects.
"""

from __future__ import annotations

import random
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError, FileError, PromptError, UsgsegError
from ..geometry import jitter_box
from ..io.datasets import Dataset, DatasetItem
from ..io.images import read_image
from ..io.labels import read_labels
from ..metrics import dice, hd95, iou
from ..models.base import AutoSegmenter, Detector, Segmenter
from ..types import BoolArray, ImageEmbedding, Prompts, TextPrompt
from .annotator import NOC_TARGETS, REPORTED_CLICKS, simulate_clicks
from .postprocess import PostprocessSettings, postprocess
from .propose import propose_text
from .propose_auto import auto_box_masks, auto_masks, classes_for, untrained_items
from .true_objects import foreign_boxes, objects_of, tight_box

PromptKind = Literal["text", "box", "clicks", "ppn", "ppn+box"]
PROMPT_KINDS: tuple[PromptKind, ...] = ("text", "box", "clicks", "ppn", "ppn+box")


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationRequest:
    """What to measure.

    Attributes:
        prompt: "text", "box", "clicks", "ppn" or "ppn+box".
        text: phrase for label 1 instead of the data set's target.
        box_threshold: see ``TextPrompt``.
        text_threshold: see ``TextPrompt``.
        jitter: each edge of a box is shaken by up to this fraction of its side.
        shuffle_prompts: prompt with a box of another image; Dice must collapse, or the prompt
            does not matter.
        settings: cleaning of every mask.
        use_priors: see ``propose_text``.
        include_trained: also score images that the prompt predictor was trained on.
        limit: at most this many images of each data set, drawn by ``seed``.
        seed: of the draw, of the jitter and of the shuffling.
    """

    prompt: PromptKind
    text: str | None = None
    box_threshold: float | None = None
    text_threshold: float | None = None
    jitter: float = 0.0
    shuffle_prompts: bool = False
    settings: PostprocessSettings = field(default_factory=PostprocessSettings)
    use_priors: bool = True
    include_trained: bool = False
    limit: int | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class ImageScore:
    """Scores of one image.

    ``dice_at_clicks`` and ``noc`` are by number of clicks and by IoU target, for "clicks" only.
    ``empty`` says that the true mask is empty, ``proposed_nothing`` that the answer was.
    """

    item: DatasetItem
    dice: float
    iou: float
    hd95_px: float
    seconds: float
    dice_at_clicks: dict[int, float] | None = None
    noc: dict[float, float] | None = None
    empty: bool = False
    proposed_nothing: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _Scene:
    """One image read and embedded, and the random numbers that belong to it alone."""

    item: DatasetItem
    image: NDArray[np.uint8]
    labels: NDArray[np.integer]
    embedding: ImageEmbedding
    rng: np.random.Generator


@dataclass(frozen=True, slots=True, eq=False)
class DatasetEvaluation:
    """Scores in the order of ``item_id``; ``failures`` are the items not scored, and why."""

    scores: tuple[ImageScore, ...]
    failures: tuple[tuple[DatasetItem, UsgsegError], ...] = ()


def evaluate_dataset(
    dataset: Dataset,
    segmenter: Segmenter,
    detector: Detector | None,
    request: EvaluationRequest,
    on_image: Callable[[DatasetItem], None] = lambda item: None,
    auto: AutoSegmenter | None = None,
) -> DatasetEvaluation:
    """Score every image of a data set, in an order drawn by ``request.seed``.

    ``box``, ``clicks`` and ``ppn+box`` leave out images without an object; ``ppn`` and ``ppn+box``
    those that the prompt predictor was trained on; ``limit`` counts the scored ones.

    Args:
        dataset: what to score on.
        segmenter: turns prompts into masks.
        detector: turns phrases into boxes; for "text" only.
        request: what to measure.
        on_image: called after each image, for a progress bar.
        auto: prompt predictor on ``segmenter``; for "ppn" and "ppn+box".

    Raises:
        PromptError: "text" without a detector, "ppn" without a prompt predictor or without one
            of the classes.
        DatasetError: nothing can be scored.
    """
    if request.prompt == "text" and detector is None:
        raise PromptError("text prompts need a detector: name a grounder")
    classes: dict[int, int | None] = {}
    if request.prompt in ("ppn", "ppn+box"):
        if auto is None:
            raise PromptError(f"{request.prompt} prompts need a prompt predictor: name its folder")
        classes = classes_for(auto, dataset)
    items = list(dataset.items)
    if auto is not None and not request.include_trained:
        items = untrained_items(auto, dataset)
    random.Random(request.seed).shuffle(items)
    scores: list[ImageScore] = []
    failures: list[tuple[DatasetItem, UsgsegError]] = []
    for item, other in zip(items, items[1:] + items[:1], strict=True):
        if request.limit is not None and len(scores) >= request.limit:
            break
        try:
            score = _score_item(dataset, item, other, segmenter, detector, request, auto, classes)
        except FileError as error:
            failures.append((item, error))
        else:
            scores.extend([score] if score is not None else [])
        on_image(item)
    if not scores:
        cause = str(failures[0][1]) if failures else "no mask has an object to prompt"
        raise DatasetError(dataset.name, f"no image to score with {request.prompt}: {cause}")
    return DatasetEvaluation(
        tuple(sorted(scores, key=lambda score: score.item.item_id)), tuple(failures)
    )


def _score_item(
    dataset: Dataset,
    item: DatasetItem,
    other: DatasetItem,
    segmenter: Segmenter,
    detector: Detector | None,
    request: EvaluationRequest,
    auto: AutoSegmenter | None,
    classes: dict[int, int | None],
) -> ImageScore | None:
    labels = read_labels(item.mask_path)
    whole = request.prompt in ("text", "ppn")
    objects = [] if whole else list(objects_of(labels))
    if not whole and not objects:
        return None
    image = read_image(item.image_path)
    if image.shape[:2] != labels.shape:
        raise DatasetError(
            item.mask_path,
            f"is {labels.shape[1]}x{labels.shape[0]} pixels, its image "
            f"{image.shape[1]}x{image.shape[0]}; a mask has exactly its image's size",
        )
    started = time.perf_counter()
    # Images differ by name, not by their place in the order: --limit changes no image's score.
    key = zlib.crc32(f"{dataset.name}/{item.item_id}".encode())
    rng = np.random.default_rng([request.seed, key])
    scene = _Scene(item, image, labels, segmenter.embed(image, item.item_id), rng)
    if request.prompt == "text" and detector is not None:
        score = _score_text(dataset, scene, segmenter, detector, request)
    elif request.prompt == "ppn" and auto is not None:
        answers = auto_masks(auto, scene.embedding, classes, request.settings)
        score = _whole_labels(scene, [labels == label for label in classes], answers)
    elif request.prompt == "ppn+box" and auto is not None:
        boxes = [tight_box(truth) for truth in objects]
        answers = auto_box_masks(
            auto, scene.embedding, labels, objects, boxes, classes, request.settings
        )
        score = _mean_score(item, objects, answers)
    elif request.prompt == "box":
        score = _score_boxes(scene, objects, other, segmenter, request)
    else:
        score = _score_clicks(scene, objects, segmenter, request)
    return replace(score, seconds=time.perf_counter() - started)


def _score_text(
    dataset: Dataset,
    scene: _Scene,
    segmenter: Segmenter,
    detector: Detector,
    request: EvaluationRequest,
) -> ImageScore:
    truths, answers = [], []
    for label in dataset.labels:
        phrase = request.text if request.text and label == 1 else dataset.phrase(label)
        prompt = TextPrompt(phrase, request.box_threshold, request.text_threshold)
        found = propose_text(
            segmenter,
            detector,
            scene.image,
            prompt,
            request.settings,
            scene.embedding,
            use_priors=request.use_priors,
        )
        answer = np.zeros(scene.labels.shape, bool)
        for proposal in found.items:
            answer |= proposal.mask
        truths.append(scene.labels == label)
        answers.append(answer)
    return _whole_labels(scene, truths, answers)


def _whole_labels(
    scene: _Scene, truths: Sequence[BoolArray], answers: Sequence[BoolArray]
) -> ImageScore:
    return replace(
        _mean_score(scene.item, truths, answers),
        empty=not scene.labels.any(),
        proposed_nothing=not any(answer.any() for answer in answers),
    )


def _score_boxes(
    scene: _Scene,
    objects: Sequence[BoolArray],
    other: DatasetItem,
    segmenter: Segmenter,
    request: EvaluationRequest,
) -> ImageScore:
    size_hw = (scene.labels.shape[0], scene.labels.shape[1])
    boxes = [tight_box(truth) for truth in objects]
    if request.shuffle_prompts:
        boxes = foreign_boxes(other, size_hw, len(objects)) or boxes
    answers = []
    for box in boxes:
        if request.jitter:
            box = jitter_box(box, request.jitter, size_hw, scene.rng)
        prompts = Prompts(box=box)
        mask = segmenter.predict(scene.embedding, prompts).masks[0]
        answers.append(postprocess(mask, request.settings, prompts))
    return _mean_score(scene.item, objects, answers)


def _score_clicks(
    scene: _Scene, objects: Sequence[BoolArray], segmenter: Segmenter, request: EvaluationRequest
) -> ImageScore:
    traces = [
        simulate_clicks(segmenter, scene.embedding, truth, request.settings) for truth in objects
    ]
    score = _mean_score(scene.item, objects, [trace.mask for trace in traces])
    return replace(
        score,
        dice_at_clicks={
            count: float(np.mean([trace.dice_at(count) for trace in traces]))
            for count in REPORTED_CLICKS
        },
        noc={
            target: float(np.mean([trace.noc(target) for trace in traces]))
            for target in NOC_TARGETS
        },
    )


def _mean_score(
    item: DatasetItem, truths: Sequence[BoolArray], answers: Sequence[BoolArray]
) -> ImageScore:
    pairs = list(zip(truths, answers, strict=True))
    return ImageScore(
        item=item,
        dice=float(np.mean([dice(truth, answer) for truth, answer in pairs])),
        iou=float(np.mean([iou(truth, answer) for truth, answer in pairs])),
        hd95_px=float(np.mean([hd95(truth, answer) for truth, answer in pairs])),
        seconds=0.0,
    )
