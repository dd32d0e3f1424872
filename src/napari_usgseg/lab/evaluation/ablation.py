"""Ablation of the way from a phrase to a mask: one thing changed at a time, and its report.

Every image is encoded once and asked about in every way (``RememberingSegmenter``); a variant is
compared with the unchanged one image by image, with an interval by bootstrap over groups. Phrasings
are scored on one label alone and compared with the first of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import DatasetError, FileError
from ...core.types import Detections, ImageEmbedding, Prediction, Prompts, TextPrompt
from ...io.datasets import Dataset
from ...io.outputs import OutputFolder
from ...models.interfaces import Detector, Segmenter
from ...segmentation.postprocess import PostprocessSettings
from .evaluate import ImageScore, drawn_items, score_item
from .methods import EvaluationRequest, Method, text_method
from .plots import COLOR, GREY, PALE, as_svg, name_rows
from .report import csv_table, dataset_report, figure, markdown_table, paired_difference, span

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

FILES = ("ablation.json", "ablation.csv", "ablation.md", "ablation.svg")


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


def write_ablation(result: Mapping[str, Any], out: OutputFolder) -> None:
    """Write ``FILES`` of a result of ``run_ablation`` into a folder; older ones go.

    Raises:
        LabelWriteError: a file cannot be written.
    """
    contents = (
        (json.dumps(result, indent=1) + "\n").encode(),
        csv_table([_flat(row) for row in result["rows"]]).encode(),
        ablation_markdown(result).encode(),
        ablation_plot(result),
    )
    for name, data in zip(FILES, contents, strict=True):
        out.write(out.root / name, data)


def ablation_markdown(result: Mapping[str, Any]) -> str:
    """The means over data sets, the spread of phrasings, then every figure."""
    parts = [
        "# Ablation\n",
        "Dice; change against the unchanged way on the same images (of a phrasing: against the "
        "first one for its label, on that label alone); 95 % intervals by bootstrap over groups; "
        "p of the two-sided Wilcoxon signed-rank test, not adjusted for the number of tests.\n",
        "![Change of Dice](ablation.svg)\n",
    ]
    means = [
        (
            *key,
            str(len(rows)),
            figure(rows["dice"].mean()),
            figure(rows["change"].mean(), sign=True),
        )
        for key, rows in _by_variant(result)
    ]
    head: tuple[str, ...] = ("varied", "how", "data sets", "Dice", "change")
    parts += ["## Mean over data sets\n", markdown_table(head, means)]
    if result["phrasing_spread"]:
        figures = ("lowest", "highest", "mean", "std")
        spread = [
            (name, str(entry["phrasings"]), *(figure(entry[key]) for key in figures))
            for name, entry in result["phrasing_spread"].items()
        ]
        head = ("target", "phrasings", "lowest", "highest", "mean", "standard deviation")
        parts += ["## Spread of Dice over phrasings\n", markdown_table(head, spread)]
    head = (
        "varied", "how", "data set", "images", "Dice", "95 %", "found", "empty kept", "change",
        "95 %", "p",
    )  # fmt: skip
    parts += ["## Every data set\n", markdown_table(head, [_cells(row) for row in result["rows"]])]
    return "\n".join(parts)


def ablation_plot(result: Mapping[str, Any]) -> bytes:
    """Two panels as SVG: change of Dice by variant, and Dice of every phrasing by target."""
    from matplotlib.figure import Figure

    changes = [(f"{group}: {name}", rows) for (group, name), rows in _by_variant(result)
               if group != UNCHANGED]  # fmt: skip
    spread = result["phrasing_spread"]
    lines = [len(panel) + 3 for panel in (changes, spread) if panel]
    picture = Figure(figsize=(9, 0.25 * sum(lines) + 0.5), layout="constrained")
    if lines:
        panels = iter(picture.subplots(len(lines), squeeze=False, height_ratios=lines)[:, 0])
        if changes:
            _plot_changes(next(panels), changes)
        if spread:
            _plot_phrasings(next(panels), spread)
    return as_svg(picture)


def _plot_changes(axes: Axes, variants: Sequence[tuple[str, pd.DataFrame]]) -> None:
    means = [rows["change"].mean() for _, rows in variants]
    axes.barh(range(len(variants)), means, color=PALE)
    for place, (_, rows) in enumerate(variants):
        axes.plot(rows["change"], [place] * len(rows), "o", color=COLOR, alpha=0.7, markersize=4)
    axes.axvline(0, color=GREY, linewidth=1)
    axes.set_title("Change of Dice: bar, mean over data sets; dots, each data set", fontsize=9)
    name_rows(axes, [name for name, _ in variants], [figure(mean, sign=True) for mean in means])


def _plot_phrasings(axes: Axes, spread: Mapping[str, Mapping[str, Any]]) -> None:
    for place, entry in enumerate(spread.values()):
        dices = list(entry["dice"].values())
        axes.plot(dices, [place] * len(dices), "o", color=COLOR, alpha=0.7, markersize=4)
    axes.set_xlim(-0.02, 1.02)
    axes.grid(axis="y", color=GREY, alpha=0.4)
    axes.set_title("Dice of each phrasing, from 0 to 1", fontsize=9)
    limits = [f"{entry['lowest']:.3f} to {entry['highest']:.3f}" for entry in spread.values()]
    name_rows(axes, list(spread), limits)


def _by_variant(result: Mapping[str, Any]) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    """Rows of all variants but phrasings, which are not for all data sets, by group and name."""
    import pandas as pd

    rows = pd.DataFrame(result["rows"])
    groups = (UNCHANGED, *GROUPS[:-1])
    return [
        ((group, name), members)
        for group in groups
        for name, members in rows[rows["group"] == group].groupby("variant", sort=False)
    ]


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row whose intervals are two columns each."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if key.endswith("ci95"):
            flat[f"{key}_low"], flat[f"{key}_high"] = value or (None, None)
        else:
            flat[key] = value
    return flat


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    unchanged = row["group"] == UNCHANGED
    return (
        row["group"],
        row["variant"],
        row["dataset"] + (f", label {row['label']}" if row["label"] else ""),
        str(row["images"]),
        figure(row["dice"]),
        span(row["ci95"]),
        figure(row["detection_rate"], 2),
        figure(row["empty_kept"], 2),
        "-" if unchanged else figure(row["change"], sign=True),
        "-" if unchanged else span(row["change_ci95"], sign=True),
        "-" if unchanged else figure(row["p"]),
    )
