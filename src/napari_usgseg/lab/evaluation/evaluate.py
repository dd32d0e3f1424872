"""Evaluation of a method on data sets, by the project's protocol.

Metrics are per image, then the mean over images. ``text`` scores whole labels, phrase by phrase;
``box`` and ``clicks`` prompt one object (``geometry.components``) at a time, score it against
that object alone and take the mean over an image's objects.
"""

from __future__ import annotations

import random
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import DatasetError, FileError, PromptError, UsgsegError
from ...core.metrics import dice, hd95, iou
from ...io.datasets import Dataset, DatasetItem, read_mask
from ...io.images import image_size, read_image
from ...models.interfaces import Detector, Segmenter
from ...models.lora.card import read_adapter_card
from ...models.ppn.card import AutoSegmenter
from ...segmentation.request import ModelNames, check_same, placed
from .annotator import objects_of
from .methods import (
    PROMPT_KINDS,
    Answer,
    BoxBlob,
    EvaluationRequest,
    Method,
    PromptKind,
    Scene,
    box_method,
    classes_for,
    clicks_method,
    dark_blob_method,
    ppn_box_method,
    ppn_method,
    predictions_method,
    text_method,
    untrained_items,
)


@dataclass(frozen=True, slots=True)
class MaskScore:
    """Scores of masks: of one, or means over several.

    Attributes:
        dice: see ``metrics``.
        iou: likewise.
        hd95_px: likewise, in pixels.
    """

    dice: float
    iou: float
    hd95_px: float


def mean_score(scores: Sequence[MaskScore]) -> MaskScore:
    """The mean of one score or more."""
    return MaskScore(*np.mean([(each.dice, each.iou, each.hd95_px) for each in scores], 0).tolist())


@dataclass(frozen=True, slots=True, eq=False)
class ImageScore:
    """Scores of one image.

    Attributes:
        item: of the data set.
        dice: see ``metrics``; the mean over what was scored.
        iou: likewise.
        hd95_px: likewise, in pixels.
        hd95_mm: the same in millimetres, None where the image's spacing is not stated.
        seconds: that the method took, from the pixels to the masks; reading and scoring excluded.
        dice_at_clicks: by number of clicks, for "clicks" only.
        noc: clicks by IoU target, for "clicks" only.
        empty: the true mask is empty.
        proposed_nothing: the answer is empty.
        detected: share of the labels in the image for which anything was found; None where objects
            were prompted or nothing is in the image.
        classes: of each label that is in the image, by value; a mean over its objects where objects
            were prompted.
    """

    item: DatasetItem
    dice: float
    iou: float
    hd95_px: float
    seconds: float
    hd95_mm: float | None = None
    dice_at_clicks: dict[int, float] | None = None
    noc: dict[float, float] | None = None
    empty: bool = False
    proposed_nothing: bool = False
    detected: float | None = None
    classes: dict[int, MaskScore] = field(default_factory=dict)


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
    auto: AutoSegmenter | None = None,
) -> DatasetEvaluation:
    """Score models that are loaded already on a data set; see ``Scorer.score``.

    Args:
        dataset: what to score on.
        segmenter: turns prompts into masks.
        detector: turns phrases into boxes; for "text" only.
        request: what to measure.
        auto: prompt predictor on ``segmenter``; for "ppn" and "ppn+box".

    Raises:
        PromptError: "text" without a detector, "ppn" without a prompt predictor or without one
            of the classes.
        DatasetError: nothing can be scored.
    """

    def method_for(dataset: Dataset) -> Method:
        return _model_method(dataset, segmenter, detector, request, auto)

    return Scorer(request, segmenter.model_id, method_for, auto=auto).score(dataset)


def _model_method(
    dataset: Dataset,
    segmenter: Segmenter,
    detector: Detector | None,
    request: EvaluationRequest,
    auto: AutoSegmenter | None,
) -> Method:
    if request.prompt == "text":
        if detector is None:
            raise PromptError("text prompts need a detector: name one")
        return text_method(segmenter, detector, request)
    if request.prompt in ("ppn", "ppn+box"):
        if auto is None:
            raise PromptError(f"{request.prompt} prompts need a prompt predictor: name its folder")
        make = ppn_method if request.prompt == "ppn" else ppn_box_method
        return make(segmenter, auto, classes_for(auto, dataset), request)
    makers = {"box": box_method, "clicks": clicks_method}
    if request.prompt not in makers:
        raise PromptError(f"'{request.prompt}' names no prompt of a model")
    return makers[request.prompt](segmenter, request)


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
    each = [MaskScore(dice(*pair), iou(*pair), hd95(*pair)) for pair in pairs]
    by_class: dict[int, list[MaskScore]] = {}
    for truth, score in zip(scene.truths, each, strict=True):
        if truth.any():
            by_class.setdefault(int(scene.labels[truth][0]), []).append(score)
    there = [mask.any() for truth, mask in pairs if truth.any()]
    spacing = scene.item.spacing_mm
    mean = mean_score(each)
    return ImageScore(
        item=scene.item,
        dice=mean.dice,
        iou=mean.iou,
        hd95_px=mean.hd95_px,
        seconds=seconds,
        hd95_mm=None
        if spacing is None
        else float(np.mean([hd95(truth, mask, spacing) for truth, mask in pairs])),
        dice_at_clicks=answer.dice_at_clicks,
        noc=answer.noc,
        empty=not method.per_object and not scene.labels.any(),
        proposed_nothing=not method.per_object and not any(mask.any() for _, mask in pairs),
        detected=float(np.mean(there)) if there and not method.per_object else None,
        classes={value: mean_score(found) for value, found in sorted(by_class.items())},
    )


EMBEDDED = frozenset({"busi", "camus_sample", "ddti_crops", "dltrack_apo", "hc18", "usgra"})
"""Whose training sides taught the embedded models (MODEL_CARD.md)."""
PHOTOGRAPHS = ("sam2.1-", "sam-vit-", "grounding-dino-")
"""Models that learned from photographs and from no ultrasound data set."""


def trained_on(
    segmenter: str, detector: str | None = None, adapter: Path | None = None, ppn: str = ""
) -> frozenset[str] | None:
    """Names of the data sets, in lower case; None where a part's training is not known.

    Args:
        segmenter: its name.
        detector: its name, or None.
        adapter: folder of a LoRA adapter on the detector.
        ppn: the data set or project that taught a prompt predictor.

    Raises:
        CheckpointError: the adapter's card is damaged.
    """
    names = frozenset({ppn.casefold()} if ppn else ())
    for model in (segmenter, detector):
        if model in ("nano", "nano-dino"):
            names |= EMBEDDED
        elif model is not None and not model.startswith(PHOTOGRAPHS):
            return None
    if adapter is not None:
        card = read_adapter_card(adapter)
        if card is None or not card.source:
            return None
        names |= {name.strip().casefold() for name in card.source.split(",")}
    return names


BASELINES: dict[str, PromptKind] = {
    "dark-blob": "none",
    "box-blob": "box",
    "persam": "none",
    "litemedsam": "box",
}
"""Simple image processing, matching with one reference image, and a peer; what prompts them."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Method to be scored, as it is asked for; exactly one of prompt, predictions and baseline.

    Attributes:
        prompt: of ``PROMPT_KINDS``, for a model.
        model: the segmenter.
        detector: for "text".
        adapter: LoRA on the detector.
        ppn: folder of a prompt predictor, for "ppn" and "ppn+box".
        predictions: folder of label maps.
        baseline: of ``BASELINES``.
        name: for the report; None takes the model's or the folder's.

    Raises:
        PromptError: they do not go together.
    """

    prompt: str | None
    model: str = "nano"
    detector: str = "nano"
    adapter: Path | None = None
    ppn: Path | None = None
    predictions: Path | None = None
    baseline: str | None = None
    name: str | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        given = [self.prompt, self.predictions, self.baseline]
        if sum(item is not None for item in given) != 1:
            raise PromptError("give one of --prompt, --predictions and --baseline")
        if self.prompt is not None and self.prompt not in PROMPT_KINDS:
            names = ", ".join(PROMPT_KINDS)
            raise PromptError(f"--prompt {self.prompt!r}: expected one of {names}")
        if self.baseline is not None and self.baseline not in BASELINES:
            names = ", ".join(BASELINES)
            raise PromptError(f"--baseline {self.baseline!r}: expected one of {names}")
        learned = (self.prompt or "").startswith("ppn")
        if learned and self.ppn is None:
            raise PromptError(
                f"--prompt {self.prompt} needs --ppn DIR: the folder that usgseg train ppn wrote"
            )
        if self.ppn is not None and not learned:
            raise PromptError(f"--ppn {self.ppn}: give --prompt ppn or --prompt ppn+box with it")

    @property
    def kind(self) -> PromptKind:
        """What the method is prompted with."""
        if self.baseline is not None:
            return BASELINES[self.baseline]
        found = next((kind for kind in PROMPT_KINDS if kind == self.prompt), None)
        return found or "predictions"

    def model_names(self) -> ModelNames:
        """The models that the prompt needs."""
        detector, adapter = None, None
        if self.prompt == "text":
            detector, adapter = self.detector, self.adapter
        return ModelNames(self.model, detector, adapter, self.ppn, self.device)

    def placed(self) -> Asked:
        """The same with the whole paths of models, for another process."""
        model, detector, adapter, ppn = map(
            placed, (self.model, self.detector, self.adapter, self.ppn)
        )
        return replace(self, model=model, detector=detector, adapter=adapter, ppn=ppn)


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One image to be scored.

    Attributes:
        dataset: for another process with the two items alone, so that it is small.
        item: of the image.
        other: for foreign prompts.
        shows: whether what the score was made of is wanted too.
    """

    dataset: Dataset
    item: DatasetItem
    other: DatasetItem
    shows: bool


Scored = tuple[ImageScore, tuple[Scene, Answer] | None]
Run = Callable[
    [Callable[[Task], Scored | UsgsegError | None], Iterable[Task]],
    Iterator[Scored | UsgsegError | None],
]
"""Does a function on tasks, in their order, as ``map`` does."""


def _noted(tasks: Iterable[Task], asked: deque[Task]) -> Iterator[Task]:
    """The tasks; each is in ``asked`` from when it is taken."""
    for task in tasks:
        asked.append(task)
        yield task


def score_task(method: Method, seed: int, task: Task) -> Scored | UsgsegError | None:
    """As ``score_item``; a file that cannot be used is told of and not raised."""
    try:
        found = score_item(task.dataset, task.item, task.other, method, seed)
    except FileError as error:
        return error
    return found and (found[0], (found[1], found[2]) if task.shows else None)


@dataclass(frozen=True, slots=True, eq=False)
class Scorer:
    """A method ready to be scored, with what its report says of it.

    Attributes:
        request: what is measured.
        model: its name.
        method_for: the method for a data set, whose classes it may have to know.
        detector: its name, or None where none is used.
        ppn: what the report says of a prompt predictor.
        adapter: name of the LoRA adapter on the detector.
        trained_on: data sets that taught the models; None where that is not known.
        auto: prompt predictor; images that it was trained on are left out unless asked for.
        ids: which models they are, by content.
    """

    request: EvaluationRequest
    model: str
    method_for: Callable[[Dataset], Method]
    detector: str | None = None
    ppn: dict[str, Any] | None = None
    adapter: str | None = None
    trained_on: frozenset[str] | None = None
    auto: AutoSegmenter | None = None
    ids: tuple[str, ...] = ()

    def score(
        self,
        dataset: Dataset,
        on_image: Callable[[DatasetItem], None] = lambda item: None,
        on_scored: OnScored | None = None,
        run: Run = map,
        elsewhere: ScoringElsewhere | None = None,
    ) -> DatasetEvaluation:
        """Score it on the images of a data set, in an order drawn by ``request.seed``.

        ``box``, ``clicks`` and ``ppn+box`` leave out images without an object; ``ppn`` and
        ``ppn+box`` those that the prompt predictor was trained on; ``limit`` counts the scored.

        Args:
            dataset: what to score on.
            on_image: called after each image, for a progress bar.
            on_scored: called with each score and what it was made of.
            run: has images scored, here or on other machines (``jobs.cluster``).
            elsewhere: for ``run``; None takes the models of this process.

        Raises:
            DatasetError: nothing can be scored.
        """
        method, request = self.method_for(dataset), self.request
        if self.auto is not None and not request.include_trained:
            dataset = dataset.only(item.item_id for item in untrained_items(self.auto, dataset))
        if method.left_out:
            ids = [item.item_id for item in dataset.items]
            dataset = dataset.only(each for each in ids if each not in method.left_out)
        scores: list[ImageScore] = []
        failures: list[tuple[DatasetItem, UsgsegError]] = []
        tasks = (
            Task(
                dataset if elsewhere is None else dataset.only((item.item_id, other.item_id)),
                item,
                other,
                on_scored is not None,
            )
            for item, other in drawn_items(dataset, request.seed)
        )
        asked: deque[Task] = deque()
        work = elsewhere or partial(score_task, method, request.seed)
        for found in run(work, _noted(tasks, asked)):
            item = asked.popleft().item
            if isinstance(found, UsgsegError):
                failures.append((item, found))
            elif found is not None:
                scores.append(found[0])
                if on_scored is not None and found[1] is not None:
                    on_scored(found[0], *found[1])
            on_image(item)
            if request.limit is not None and len(scores) >= request.limit:
                break
        if not scores:
            cause = str(failures[0][1]) if failures else "no mask has an object to prompt"
            raise DatasetError(dataset.name, f"no image to score with {request.prompt}: {cause}")
        scores.sort(key=lambda score: score.item.item_id)
        return DatasetEvaluation(tuple(scores), tuple(failures))


def load_scorer(asked: Asked, request: EvaluationRequest) -> Scorer:
    """Load what is asked for.

    Raises:
        UsgsegError: a model cannot be loaded.
    """
    if asked.baseline == "persam":
        return _persam(asked, request)
    if asked.predictions is not None or asked.baseline is not None:
        method = _other_method(asked, request)
        name = asked.baseline or Path(asked.predictions or "").name
        return Scorer(request, asked.name or name, lambda dataset: method)
    names = asked.model_names()
    models = names.load()
    auto, used = models.auto, None
    if auto is not None:
        used = {"id": auto.card.ppn_id, "images": len(auto.card.images)}
    adapter = names.adapter
    return Scorer(
        request,
        asked.name or asked.model,
        lambda dataset: _model_method(
            dataset, models.segmenter, models.detector, request, models.auto
        ),
        names.detector,
        used,
        adapter.name if adapter else None,
        trained_on(asked.model, names.detector, adapter, auto.card.source if auto else ""),
        auto,
        models.ids,
    )


@dataclass(frozen=True, slots=True)
class ScoringElsewhere:
    """``score_task`` for another process, which loads the models itself, once.

    Attributes:
        asked: what is scored; files by their whole paths.
        request: what is measured.
        ids: which models they must be (``Scorer.ids``).
    """

    asked: Asked
    request: EvaluationRequest
    ids: tuple[str, ...]

    def __call__(self, task: Task) -> Scored | UsgsegError | None:
        """As ``score_task``.

        Raises:
            ModelError: a model is not there, or is another one of this name.
        """
        with _LOADING:
            scorer = _loaded(self.asked, self.request)
        check_same(scorer.ids, self.ids)
        return score_task(scorer.method_for(task.dataset), self.request.seed, task)


_LOADING = threading.Lock()


@lru_cache(maxsize=1)
def _loaded(asked: Asked, request: EvaluationRequest) -> Scorer:
    return load_scorer(asked, request)


def _persam(asked: Asked, request: EvaluationRequest) -> Scorer:
    """Matching of the model's features with one reference image of each data set."""
    from ...models.registry import load_segmenter
    from .matching import persam_method

    segmenter = load_segmenter(asked.model, device=asked.device)

    def method_for(dataset: Dataset) -> Method:
        return persam_method(segmenter, dataset, request)

    return Scorer(request, asked.name or f"persam on {asked.model}", method_for)


def _other_method(asked: Asked, request: EvaluationRequest) -> Method:
    """Predictions on disk, or a baseline."""
    if asked.predictions is not None:
        if not asked.predictions.is_dir():
            raise PromptError(f"--predictions {asked.predictions}: no such folder")
        return predictions_method(asked.predictions)
    if asked.baseline == "dark-blob":
        return dark_blob_method()
    if asked.baseline == "box-blob":
        return box_method(BoxBlob(), request)
    from ...models.sam.litemedsam import LiteMedSam

    return box_method(LiteMedSam(), request)
