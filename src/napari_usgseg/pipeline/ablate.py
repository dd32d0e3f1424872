"""What each part of the way from a phrase to a mask is worth: one thing changed at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UsgsegError
from ..io.datasets import Dataset
from ..models.base import Detector, Segmenter
from .evaluate import evaluate_dataset
from .methods import EvaluationRequest
from .postprocess import PostprocessSettings
from .report import dataset_report
from .text_table import csv_table, figure, markdown_table, span

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

COLOR, GREY = "#0072b2", "#666"
WIDE, ROW, LEFT = 720, 18, 260


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to ask.

    Attributes:
        group: what is varied: "as it is", "post-processing", "threshold", "adapter", "phrasing".
        name: of the way.
        request: that it makes.
        detector: name of the one that it asks; "" is the one that all others ask.
        dataset: the only data set that it is for, or "".
    """

    group: str
    name: str
    request: EvaluationRequest
    detector: str = ""
    dataset: str = ""


def variants(
    base: EvaluationRequest,
    adapters: Iterable[str] = (),
    phrasings: Mapping[str, Sequence[str]] | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
) -> list[Variant]:
    """All ways to ask, the unchanged one first.

    Args:
        base: the unchanged request, of the kind "text".
        adapters: names of detectors with an adapter, such as LoRA of several ranks.
        phrasings: of each data set's target, by its name.
        thresholds: least scores of a box.
    """
    off = PostprocessSettings(enabled=False)
    made = [
        Variant("as it is", "defaults", base),
        Variant("post-processing", "none at all", replace(base, settings=off)),
        Variant("post-processing", "no coarse mask fed in", replace(base, use_priors=False)),
    ]
    for name, changed in STEPS.items():
        settings = replace(base.settings, **changed)
        made.append(Variant("post-processing", name, replace(base, settings=settings)))
    made += [
        Variant("threshold", f"box {value:g}", replace(base, box_threshold=value))
        for value in thresholds
    ]
    made += [Variant("adapter", name, base, detector=name) for name in adapters]
    for dataset, phrases in (phrasings or {}).items():
        for phrase in phrases:
            asked = replace(base, text=phrase)
            made.append(Variant("phrasing", phrase, asked, dataset=dataset))
    return made


def run_ablation(
    datasets: Sequence[Dataset],
    segmenter: Segmenter,
    detectors: Mapping[str, Detector],
    asked: Sequence[Variant],
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Score every variant on every data set that it is for.

    Args:
        datasets: to score on.
        segmenter: turns boxes into masks; each image is embedded anew for each variant.
        detectors: by name; "" is the unchanged one.
        asked: what to try.
        say: is told of each result.

    Returns:
        {"schema", "rows": [{"group", "variant", "dataset", "images", "dice", "iou", "ci95",
        "detection_rate", "change"}], "phrasing_spread": {data set: {"phrasings", "lowest",
        "highest", "mean", "std"}}}; "change" is Dice minus the unchanged way's.
    """
    rows: list[dict[str, Any]] = []
    plain: dict[str, float] = {}
    for variant in asked:
        for dataset in datasets:
            if variant.dataset not in ("", dataset.name):
                continue
            detector = detectors[variant.detector]
            try:
                found = evaluate_dataset(dataset, segmenter, detector, variant.request)
            except UsgsegError as error:
                say(f"{variant.name} on {dataset.name}: {error}")
                continue
            entry = dataset_report(found.scores)
            if variant.group == "as it is":
                plain[dataset.name] = entry["dice"]
            rows.append(
                {
                    "group": variant.group,
                    "variant": variant.name,
                    "dataset": dataset.name,
                    **{key: entry[key] for key in ("images", "dice", "iou")},
                    "ci95": entry["ci95"]["dice"],
                    "detection_rate": entry.get("detection_rate"),
                    "change": round(entry["dice"] - plain.get(dataset.name, entry["dice"]), 6),
                }
            )
            say(f"{dataset.name}: {variant.group}, {variant.name}: Dice {entry['dice']:.3f}")
    return {"schema": 1, "rows": rows, "phrasing_spread": _spread(rows)}


def _spread(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    spread = {}
    for name in dict.fromkeys(row["dataset"] for row in rows if row["group"] == "phrasing"):
        values = [r["dice"] for r in rows if (r["group"], r["dataset"]) == ("phrasing", name)]
        spread[name] = {
            "phrasings": len(values),
            "lowest": min(values),
            "highest": max(values),
            "mean": round(float(np.mean(values)), 6),
            "std": round(float(np.std(values)), 6),
        }
    return spread


def write_ablation(result: Mapping[str, Any], out: Path) -> None:
    """Write ``ablation.json``, ``.csv``, ``.md`` and ``.svg`` into a folder; older ones go.

    Raises:
        LabelWriteError: a file cannot be written.
    """
    import json

    from ..io.atomic import write_atomically

    flat = [{k: v for k, v in row.items() if k != "ci95"} for row in result["rows"]]
    texts = {
        "json": json.dumps(result, indent=1) + "\n",
        "csv": csv_table(flat),
        "md": ablation_markdown(result),
        "svg": ablation_plot(result["rows"]),
    }
    out.mkdir(parents=True, exist_ok=True)
    for suffix, text in texts.items():
        write_atomically(out / f"ablation.{suffix}", text.encode(), overwrite=True)


def ablation_markdown(result: Mapping[str, Any]) -> str:
    """The table, and the spread of phrasings."""
    head = ("varied", "how", "data set", "images", "Dice", "95 %", "change", "found")
    lines = [
        (
            row["group"],
            row["variant"],
            row["dataset"],
            str(row["images"]),
            figure(row["dice"]),
            span(row["ci95"]),
            f"{row['change']:+.3f}",
            figure(row["detection_rate"], 2),
        )
        for row in result["rows"]
    ]
    parts = ["# Ablation\n", markdown_table(head, lines)]
    if result["phrasing_spread"]:
        columns = ("data set", "phrasings", "lowest", "highest", "mean", "standard deviation")
        spread = [
            (name, str(entry["phrasings"]), *(figure(entry[k]) for k in _FIGURES))
            for name, entry in result["phrasing_spread"].items()
        ]
        parts += ["## Spread of Dice over phrasings\n", markdown_table(columns, spread)]
    parts.append("![Change of Dice](ablation.svg)\n")
    return "\n".join(parts)


_FIGURES = ("lowest", "highest", "mean", "std")


def ablation_plot(rows: Sequence[Mapping[str, Any]]) -> str:
    """Mean change of Dice over data sets by variant, as SVG: bars from a line in the middle."""
    from html import escape

    changes: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row["group"] != "as it is":
            changes.setdefault((row["group"], row["variant"]), []).append(row["change"])
    means = {key: float(np.mean(values)) for key, values in changes.items()}
    top = max((abs(value) for value in means.values()), default=0.0) or 1.0
    middle, half = LEFT + (WIDE - LEFT) / 2, (WIDE - LEFT) / 2 - 56
    height = ROW * (len(means) + 2)
    parts = [f'<text x="8" y="{ROW * 0.8}">change of Dice, mean over data sets</text>']
    for number, ((group, name), value) in enumerate(means.items(), 1):
        y, length = ROW * (number + 0.2), abs(value) / top * half
        x = middle - length if value < 0 else middle
        at = middle + (length + 4) * (1 if value >= 0 else -1)
        parts += [
            f'<text x="8" y="{y + 11:.0f}">{escape(f"{group}: {name}")}</text>',
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{length:.1f}" height="{ROW - 6}" '
            f'fill="{COLOR}"/>',
            f'<text x="{at:.1f}" y="{y + 11:.0f}" fill="{GREY}" '
            f'text-anchor="{"start" if value >= 0 else "end"}">{value:+.3f}</text>',
        ]
    parts.append(f'<path d="M{middle} {ROW} V{height - ROW / 2}" stroke="{GREY}"/>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDE}" height="{height}" '
        f'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>'
        f"{''.join(parts)}</svg>\n"
    )
