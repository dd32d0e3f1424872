"""What ``usgseg evaluate`` scores, loaded by name: a model, a baseline, or predictions on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import PromptError
from ...io.datasets import Dataset, DatasetItem
from ...models.interfaces import Segmenter
from ...models.lora.card import read_adapter_card
from .evaluate import DatasetEvaluation, OnScored, evaluate_dataset, score_dataset
from .methods import PROMPT_KINDS, EvaluationRequest, Method, PromptKind, predictions_method

EMBEDDED = frozenset({"busi", "camus_sample", "ddti_crops", "dltrack_apo", "hc18", "usgra"})
"""Whose training sides taught the embedded models (MODEL_CARD.md)."""
PHOTOGRAPHS = ("sam2.1-", "sam-vit-", "grounding-dino-")
"""Models that learned from photographs and from no ultrasound data set."""


def trained_on(
    segmenter: str, grounder: str | None = None, adapter: Path | None = None, ppn: str = ""
) -> frozenset[str] | None:
    """Names of the data sets, in lower case; None where a part's training is not known.

    Args:
        segmenter: its name.
        grounder: the detector's, or None.
        adapter: folder of a LoRA adapter on the grounder.
        ppn: the data set or project that taught a prompt predictor.

    Raises:
        CheckpointError: the adapter's card is damaged.
    """
    names = frozenset({ppn.casefold()} if ppn else ())
    for model in (segmenter, grounder):
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


BASELINES: dict[str, PromptKind] = {"dark-blob": "none", "box-blob": "box", "litemedsam": "box"}
"""Simple image processing (``baselines``) and a peer, and what they are prompted with."""

Score = Callable[[Dataset, Callable[[DatasetItem], None], OnScored], DatasetEvaluation]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person asks to be scored; exactly one of prompt, predictions and baseline.

    Attributes:
        prompt: of ``PROMPT_KINDS``, for a model.
        model: the segmenter.
        grounder: the detector, for "text".
        adapter: LoRA on the grounder.
        ppn: folder of a prompt predictor, for "ppn" and "ppn+box".
        predictions: folder of label maps.
        baseline: of ``BASELINES``.
        name: for the report; None takes the model's or the folder's.
        device: "auto", "cpu", "cuda".

    Raises:
        PromptError: they do not go together.
    """

    prompt: str | None
    model: str = "nano"
    grounder: str = "nano"
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


@dataclass(frozen=True, slots=True)
class Scorer:
    """A method with what its report says of it; ``score`` scores it on a data set."""

    score: Score
    model: str
    grounder: str | None = None
    ppn: dict[str, Any] | None = None
    adapter: str | None = None
    trained_on: frozenset[str] | None = None


def load_scorer(asked: Asked, request: EvaluationRequest) -> Scorer:
    """Load what is asked for.

    Raises:
        UsgsegError: a model cannot be loaded.
    """
    if asked.predictions is not None:
        if not asked.predictions.is_dir():
            raise PromptError(f"--predictions {asked.predictions}: no such folder")
        name = asked.predictions.name
        return _of_method(predictions_method(asked.predictions), name, asked, request)
    if asked.baseline == "dark-blob":
        from .baselines import dark_blob_method

        return _of_method(dark_blob_method(), asked.baseline, asked, request)
    return _of_models(asked, request)


def _of_method(method: Method, name: str, asked: Asked, request: EvaluationRequest) -> Scorer:
    def score(
        dataset: Dataset, on_image: Callable[[DatasetItem], None], on_scored: OnScored
    ) -> DatasetEvaluation:
        return score_dataset(dataset, method, request, on_image, on_scored)

    return Scorer(score, asked.name or name)


def _of_models(asked: Asked, request: EvaluationRequest) -> Scorer:
    from ...models.registry import load_detector, load_segmenter

    segmenter: Segmenter
    if asked.baseline == "box-blob":
        from .baselines import BoxBlob

        segmenter = BoxBlob()
    elif asked.baseline == "litemedsam":
        from ...models.sam.litemedsam import LiteMedSam

        segmenter = LiteMedSam()
    else:
        segmenter = load_segmenter(asked.model, device=asked.device)
    detector, auto, used = None, None, None
    if asked.prompt == "text":
        detector = load_detector(asked.grounder, adapter=asked.adapter, device=asked.device)
    if asked.ppn is not None:
        from ...models.ppn.model import load_ppn

        auto = load_ppn(asked.ppn, segmenter)
        used = {"id": auto.card.ppn_id, "images": len(auto.card.images)}

    def score(
        dataset: Dataset, on_image: Callable[[DatasetItem], None], on_scored: OnScored
    ) -> DatasetEvaluation:
        return evaluate_dataset(dataset, segmenter, detector, request, on_image, auto, on_scored)

    name = asked.name or asked.baseline or asked.model
    grounder = asked.grounder if detector else None
    adapter = asked.adapter if detector else None
    learnt = None
    if asked.baseline is None:
        learnt = trained_on(asked.model, grounder, adapter, auto.card.source if auto else "")
    return Scorer(score, name, grounder, used, adapter.name if adapter else None, learnt)
