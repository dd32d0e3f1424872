"""Score a method on data sets, by the project's protocol.

Metrics are per image, then the mean over images. ``text`` scores whole labels, phrase by phrase;
``box`` and ``clicks`` prompt one object (``geometry.components``) at a time, score it against
that object alone and take the mean over an image's objects.
"""

from __future__ import annotations

import random
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...core.errors import DatasetError, FileError, PromptError, UsgsegError
from ...core.metrics import dice, hd95, iou
from ...io.datasets import Dataset, DatasetItem, read_mask
from ...io.images import image_size, read_image
from ...models.interfaces import AutoSegmenter, Detector, Segmenter
from ...segmentation.propose import classes_for, untrained_items
from .methods import (
    Answer,
    EvaluationRequest,
    Method,
    Scene,
    box_method,
    clicks_method,
    objects_of,
    ppn_box_method,
    ppn_method,
    text_method,
)


@dataclass(frozen=True, slots=True, eq=False)
class ImageScore:
    """Scores of one image.

    Attributes:
        item: of the data set.
        dice: see ``metrics``; the mean over what was scored.
        iou: likewise.
        hd95_px: likewise, in pixels.
        seconds: that the method took, from the pixels to the masks; reading and scoring excluded.
        dice_at_clicks: by number of clicks, for "clicks" only.
        noc: clicks by IoU target, for "clicks" only.
        empty: the true mask is empty.
        proposed_nothing: the answer is empty.
        detected: share of the labels in the image for which anything was found; None where objects
            were prompted or nothing is in the image.
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
    detected: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class DatasetEvaluation:
    """Scores in the order of ``item_id``; ``failures`` are the items not scored, and why."""

    scores: tuple[ImageScore, ...]
    failures: tuple[tuple[DatasetItem, UsgsegError], ...] = ()


OnScored = Callable[[ImageScore, Scene, Answer], None]


def evaluate_dataset(
    dataset: Dataset,
    segmenter: Segmenter,
    detector: Detector | None,
    request: EvaluationRequest,
    on_image: Callable[[DatasetItem], None] = lambda item: None,
    auto: AutoSegmenter | None = None,
    on_scored: OnScored = lambda score, scene, answer: None,
) -> DatasetEvaluation:
    """Score models on every image of a data set, in an order drawn by ``request.seed``.

    ``box``, ``clicks`` and ``ppn+box`` leave out images without an object; ``ppn`` and ``ppn+box``
    those that the prompt predictor was trained on; ``limit`` counts the scored ones.

    Args:
        dataset: what to score on.
        segmenter: turns prompts into masks.
        detector: turns phrases into boxes; for "text" only.
        request: what to measure.
        on_image: called after each image, for a progress bar.
        auto: prompt predictor on ``segmenter``; for "ppn" and "ppn+box".
        on_scored: called with each score and what it was made of.

    Raises:
        PromptError: "text" without a detector, "ppn" without a prompt predictor or without one
            of the classes.
        DatasetError: nothing can be scored.
    """
    method = _method(dataset, segmenter, detector, request, auto)
    if auto is not None and not request.include_trained:
        dataset = dataset.only(item.item_id for item in untrained_items(auto, dataset))
    return score_dataset(dataset, method, request, on_image, on_scored)


def _method(
    dataset: Dataset,
    segmenter: Segmenter,
    detector: Detector | None,
    request: EvaluationRequest,
    auto: AutoSegmenter | None,
) -> Method:
    if request.prompt == "text":
        if detector is None:
            raise PromptError("text prompts need a detector: name a grounder")
        return text_method(segmenter, detector, request)
    if request.prompt in ("ppn", "ppn+box"):
        if auto is None:
            raise PromptError(f"{request.prompt} prompts need a prompt predictor: name its folder")
        make = ppn_method if request.prompt == "ppn" else ppn_box_method
        return make(segmenter, auto, classes_for(auto, dataset), request)
    if request.prompt in ("box", "clicks"):
        return (box_method if request.prompt == "box" else clicks_method)(segmenter, request)
    raise PromptError(f"'{request.prompt}' names no prompt of a model")


def score_dataset(
    dataset: Dataset,
    method: Method,
    request: EvaluationRequest,
    on_image: Callable[[DatasetItem], None] = lambda item: None,
    on_scored: OnScored = lambda score, scene, answer: None,
) -> DatasetEvaluation:
    """Score any method on a data set; see ``evaluate_dataset``.

    Raises:
        DatasetError: nothing can be scored.
    """
    scores: list[ImageScore] = []
    failures: list[tuple[DatasetItem, UsgsegError]] = []
    for item, other in drawn_items(dataset, request.seed):
        if request.limit is not None and len(scores) >= request.limit:
            break
        try:
            scored = score_item(dataset, item, other, method, request.seed)
        except FileError as error:
            failures.append((item, error))
        else:
            if scored is not None:
                scores.append(scored[0])
                on_scored(*scored)
        on_image(item)
    if not scores:
        cause = str(failures[0][1]) if failures else "no mask has an object to prompt"
        raise DatasetError(dataset.name, f"no image to score with {request.prompt}: {cause}")
    return DatasetEvaluation(
        tuple(sorted(scores, key=lambda score: score.item.item_id)), tuple(failures)
    )


def drawn_items(dataset: Dataset, seed: int) -> Sequence[tuple[DatasetItem, DatasetItem]]:
    """The items in an order drawn by ``seed``, each with another one for foreign prompts."""
    items = list(dataset.items)
    random.Random(seed).shuffle(items)
    return list(zip(items, items[1:] + items[:1], strict=True))


def score_item(
    dataset: Dataset, item: DatasetItem, other: DatasetItem, method: Method, seed: int = 0
) -> tuple[ImageScore, Scene, Answer] | None:
    """Score one image; None where the method wants objects and there are none.

    Raises:
        FileError: a file of the item cannot be used.
    """
    labels = read_mask(item, image_size(item.image_path))
    truths = tuple(
        objects_of(labels) if method.per_object else (labels == label for label in dataset.labels)
    )
    if method.per_object and not truths:
        return None
    image = read_image(item.image_path)
    # Images differ by name, not by their place in the order: --limit changes no image's score.
    key = zlib.crc32(f"{dataset.name}/{item.item_id}".encode())
    rng = np.random.default_rng([seed, key])
    scene = Scene(dataset, item, other, image, labels, truths, rng)
    started = time.perf_counter()
    answer = method.answer(scene)
    seconds = time.perf_counter() - started
    return _scored(scene, answer, method, seconds), scene, answer


def _scored(scene: Scene, answer: Answer, method: Method, seconds: float) -> ImageScore:
    pairs = list(zip(scene.truths, answer.masks, strict=True))
    there = [mask.any() for truth, mask in pairs if truth.any()]
    return ImageScore(
        item=scene.item,
        dice=float(np.mean([dice(truth, mask) for truth, mask in pairs])),
        iou=float(np.mean([iou(truth, mask) for truth, mask in pairs])),
        hd95_px=float(np.mean([hd95(truth, mask) for truth, mask in pairs])),
        seconds=seconds,
        dice_at_clicks=answer.dice_at_clicks,
        noc=answer.noc,
        empty=not method.per_object and not scene.labels.any(),
        proposed_nothing=not method.per_object and not any(mask.any() for _, mask in pairs),
        detected=float(np.mean(there)) if there and not method.per_object else None,
    )
