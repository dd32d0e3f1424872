"""What each part of the way from a phrase to a mask is worth: one thing changed at a time.

Every image is encoded once and asked about in every way (``remembered``); a way is compared with
the unchanged one image by image, with an interval by bootstrap over groups. Phrasings are scored
on one label alone and compared with the first of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import DatasetError, FileError
from ...core.types import Detections, ImageEmbedding, Prediction, Prompts, TextPrompt
from ...io.datasets import Dataset
from ...models.interfaces import Detector, Segmenter
from ...segmentation.postprocess import PostprocessSettings
from .evaluate import ImageScore, drawn_items, score_item
from .methods import EvaluationRequest, Method, text_method
from .report import dataset_report, paired_difference


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


UNCHANGED = "as it is"
GROUPS = ("post-processing", "threshold", "adapter", "sentence", "phrasing")
THRESHOLDS = (0.2, 0.35, 0.5, 0.65, 0.8, 0.9)
STEPS: dict[str, dict[str, Any]] = {
    "all pieces kept": {"keep": "all"},
    "largest piece only": {"keep": "largest"},
    "holes left": {"fill_holes": 0.0},
    "all holes filled": {"fill_holes": 1.0},
    "opening 3": {"opening": 3},
    "closing 3": {"closing": 3},
    "smoothing 2": {"smoothing": 2.0},
    "dilation 2": {"dilation": 2},
}
"""Post-processing steps switched on or off, each against the defaults."""

Phrasings = Mapping[str, Mapping[int, Sequence[str]]]
"""Of each data set's labels, by its name and by label; the others are compared with the first."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to ask.

    Attributes:
        group: what is varied: ``UNCHANGED`` or one of ``GROUPS``.
        name: of the way.
        request: that it makes.
        detector: name of the one that it asks; "" is the one that all others ask.
        dataset: the only data set that it is for, or "".
        label: the only label that it is scored on, or 0.
    """

    group: str
    name: str
    request: EvaluationRequest
    detector: str = ""
    dataset: str = ""
    label: int = 0


def variants(
    base: EvaluationRequest,
    adapters: Iterable[str] = (),
    phrasings: Phrasings | None = None,
    box_thresholds: Sequence[float] = THRESHOLDS,
    text_thresholds: Sequence[float] = (),
) -> list[Variant]:
    """All ways to ask, the unchanged one first.

    Args:
        base: the unchanged request, of the kind "text".
        adapters: names of detectors with an adapter, such as LoRA of several ranks.
        phrasings: to try.
        box_thresholds: least scores of a box.
        text_thresholds: least scores of a token.
    """
    off = PostprocessSettings(enabled=False)
    made = [
        Variant(UNCHANGED, "defaults", base),
        Variant("post-processing", "none at all", replace(base, settings=off)),
        Variant("post-processing", "no coarse mask fed in", replace(base, use_priors=False)),
    ]
    for name, changed in STEPS.items():
        settings = replace(base.settings, **changed)
        made.append(Variant("post-processing", name, replace(base, settings=settings)))
    made += [
        Variant("threshold", f"box {value:g}", replace(base, box_threshold=value))
        for value in box_thresholds
    ]
    made += [
        Variant("threshold", f"token {value:g}", replace(base, text_threshold=value))
        for value in text_thresholds
    ]
    made += [Variant("adapter", name, base, detector=name) for name in adapters]
    made.append(Variant("sentence", "all labels in one", replace(base, one_sentence=True)))
    for dataset, labels in (phrasings or {}).items():
        for label, phrases in labels.items():
            made += [
                Variant("phrasing", phrase, base, dataset=dataset, label=label)
                for phrase in phrases
            ]
    return made


def run_ablation(
    datasets: Sequence[Dataset],
    segmenter: Segmenter,
    detectors: Mapping[str, Detector],
    asked: Sequence[Variant],
    on_image: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Score every variant on every data set that it is for.

    Args:
        datasets: to score on.
        segmenter: turns boxes into masks.
        detectors: by name; "" is the unchanged one.
        asked: what to try; the first is the unchanged way.
        on_image: called with the data set's name after each image.

    Returns:
        {"schema", "rows": [{"group", "variant", "dataset", "label", "images", "dice", "iou",
        "ci95", "detection_rate", "empty_kept", "change", "change_ci95", "p"}], "phrasing_spread":
        {"data set: first phrasing": {"phrasings", "lowest", "highest", "mean", "std", "dice" of
        each}}, "failures": [sentences]}; "change" is Dice minus the unchanged way's on the same
        images.

    Raises:
        DatasetError: a data set has no image that can be scored.
    """
    rows: list[dict[str, Any]] = []
    failures: list[str] = []
    shared = RememberingSegmenter(segmenter)
    remembered = {name: RememberingDetector(detector) for name, detector in detectors.items()}
    for dataset in datasets:
        ways = [
            (variant, _narrowed(dataset, variant))
            for variant in asked
            if variant.dataset in ("", dataset.name)
            and (variant.group != "sentence" or len(dataset.labels) > 1)
        ]
        methods = [
            text_method(shared, remembered[variant.detector], variant.request)
            for variant, _ in ways
        ]
        scores = _scores(
            dataset, [narrow for _, narrow in ways], methods, asked[0].request, failures,
            [shared, *remembered.values()], on_image,
        )  # fmt: skip
        reference: dict[int, list[ImageScore]] = {}
        for (variant, _), found in zip(ways, scores, strict=True):
            reference.setdefault(variant.label, found)
        rows += [
            _row(variant, narrow, found, reference[variant.label])
            for (variant, narrow), found in zip(ways, scores, strict=True)
        ]
    return {"schema": 1, "rows": rows, "phrasing_spread": _spread(rows), "failures": failures}


def _narrowed(dataset: Dataset, variant: Variant) -> Dataset:
    """The data set that a variant is scored on: all of it, or one label under another phrase."""
    if not variant.label:
        return dataset
    return replace(dataset, target=variant.name, labels={variant.label: variant.name})


def _scores(
    dataset: Dataset,
    narrowed: Sequence[Dataset],
    methods: Sequence[Method],
    request: EvaluationRequest,
    failures: list[str],
    models: Sequence[RememberingSegmenter | RememberingDetector],
    on_image: Callable[[str], None],
) -> list[list[ImageScore]]:
    """For each method the scores of the drawn images, in one order; a faulty image has none."""
    scores: list[list[ImageScore]] = [[] for _ in methods]
    drawn = drawn_items(dataset, request.seed)
    for item, other in drawn:
        if len(scores[0]) == request.limit:
            break
        for model in models:
            model.forget()
        try:
            found = [
                score_item(narrow, item, other, method, request.seed)
                for narrow, method in zip(narrowed, methods, strict=True)
            ]
        except FileError as error:
            failures.append(str(error))
        else:
            for kept, scored in zip(scores, found, strict=True):
                kept += [scored[0]] if scored else []
        on_image(dataset.name)
    if not scores[0]:
        raise DatasetError(dataset.name, f"no image to score: {(failures or ['it is empty'])[-1]}")
    return scores


def _row(
    variant: Variant, dataset: Dataset, found: Sequence[ImageScore], plain: Sequence[ImageScore]
) -> dict[str, Any]:
    entry = dataset_report(found)
    change = paired_difference(
        [score.dice for score in plain],
        [score.dice for score in found],
        [score.item.group for score in found],
    )
    return {
        "group": variant.group,
        "variant": variant.name,
        "dataset": dataset.name,
        "label": variant.label,
        **{key: entry[key] for key in ("images", "dice", "iou")},
        "ci95": entry["ci95"]["dice"],
        "detection_rate": entry.get("detection_rate"),
        "empty_kept": entry.get("empty_kept"),
        "change": round(change.difference, 6),
        "change_ci95": [round(limit, 6) for limit in change.ci95] if change.ci95 else None,
        "p": round(change.p, 6),
    }


def _spread(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    targets: dict[tuple[str, int], dict[str, float]] = {}
    for row in rows:
        if row["group"] == "phrasing":
            found = targets.setdefault((row["dataset"], row["label"]), {})
            found[row["variant"]] = row["dice"]
    return {
        f"{dataset}: {next(iter(found))}": {
            "phrasings": len(found),
            "lowest": min(found.values()),
            "highest": max(found.values()),
            "mean": round(float(np.mean(list(found.values()))), 6),
            "std": round(float(np.std(list(found.values()))), 6),
            "dice": found,
        }
        for (dataset, _), found in targets.items()
    }
