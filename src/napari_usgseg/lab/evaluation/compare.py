"""Comparison of two reports of ``usgseg evaluate``: the same images under two methods."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...core.errors import DatasetError
from .report import PairedDifference, figure, markdown_table, paired_difference, span

METRICS = ("dice", "iou", "hd95_px")
ALL = "all images"
TITLES = {"dice": "Dice", "iou": "IoU", "hd95_px": "HD95 in pixels (less is better)"}


def compare_reports(first: Path, second: Path) -> dict[str, Any]:
    """The paired differences of two reports with scores per image, B minus A.

    Args:
        first: A's JSON, written with ``--per-image``.
        second: B's.

    Returns:
        {"schema", "first", "second", "datasets": {name: {metric: PairedDifference as a dict}},
        "all": the same over all images, "unpaired": {name: ids in one report only}}.

    Raises:
        DatasetError: a file is no such report, or the two have no image in common.
    """
    reports = [_read(path) for path in (first, second)]
    paths = (first, second)
    scores = [_by_image(path, report) for path, report in zip(paths, reports, strict=True)]
    shared = [name for name in scores[0] if name in scores[1]]
    pairs: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {}
    unpaired: dict[str, list[str]] = {}
    for name in dict.fromkeys([*scores[0], *scores[1]]):
        a, b = (side.get(name, {}) for side in scores)
        common = sorted(a.keys() & b.keys())
        if common:
            pairs[name] = [(a[key], b[key]) for key in common]
        if a.keys() ^ b.keys():
            unpaired[name] = sorted(a.keys() ^ b.keys())
    if not pairs:
        raise DatasetError(
            second,
            f"has no image in common with {first}; compare reports of the same data sets "
            f"(shared names: {', '.join(shared) or 'none'})",
        )
    everything = [(name, pair) for name, found in pairs.items() for pair in found]
    return {
        "schema": 1,
        "first": _who(first, reports[0]),
        "second": _who(second, reports[1]),
        "datasets": {
            name: _differences([(name, pair) for pair in found]) for name, found in pairs.items()
        },
        "all": _differences(everything),
        "unpaired": unpaired,
    }


def comparison_markdown(comparison: dict[str, Any]) -> str:
    """A table for each metric: data sets, then all images together."""
    who = comparison["first"]["name"], comparison["second"]["name"]
    parts = [
        "# Paired comparison\n",
        f"A: {who[0]} (`{comparison['first']['file']}`), "
        f"B: {who[1]} (`{comparison['second']['file']}`). "
        "B minus A on the same images; 95 % intervals by bootstrap over groups; p of the two-sided "
        "Wilcoxon signed-rank test, not adjusted for the number of tests.\n",
    ]
    for metric in METRICS:
        rows = [
            _row(name, PairedDifference(**entry[metric]))
            for name, entry in [*comparison["datasets"].items(), (ALL, comparison["all"])]
        ]
        head = ("data set", "images", "A", "B", "B - A", "95 %", "p", "greater", "less")
        parts += [f"## {TITLES[metric]}\n", markdown_table(head, rows)]
    if comparison["unpaired"]:
        counts = (f"{name} {len(ids)}" for name, ids in comparison["unpaired"].items())
        parts.append(f"Images in one report only, left out: {', '.join(counts)}.\n")
    return "\n".join(parts)


def _row(name: str, found: PairedDifference) -> tuple[str, ...]:
    return (
        name,
        str(found.images),
        figure(found.first),
        figure(found.second),
        figure(found.difference, sign=True),
        span(found.ci95, sign=True),
        "< 0.001" if found.p < 0.001 else figure(found.p),
        str(found.greater),
        str(found.less),
    )


def _differences(
    named: list[tuple[str, tuple[dict[str, Any], dict[str, Any]]]],
) -> dict[str, dict[str, Any]]:
    groups = [f"{name}/{a.get('group', a['id'])}" for name, (a, _) in named]
    return {
        metric: asdict(
            paired_difference(
                [a[metric] for _, (a, _) in named], [b[metric] for _, (_, b) in named], groups
            )
        )
        for metric in METRICS
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        if report["schema"] != 1 or not isinstance(report["datasets"], dict):
            raise ValueError(f"schema {report['schema']}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            path,
            f"not a report ({type(error).__name__}: {error}); expected what "
            "`usgseg evaluate --per-image --json FILE` writes",
        ) from error
    return report


def _by_image(path: Path, report: dict[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    if not any("per_image" in entry for entry in report["datasets"].values()):
        raise DatasetError(path, "has no scores per image; evaluate again with --per-image")
    return {
        name: {str(image["id"]): image for image in entry.get("per_image", ())}
        for name, entry in report["datasets"].items()
    }


def _who(path: Path, report: dict[str, Any]) -> dict[str, str]:
    words = (report.get(key) for key in ("segmenter", "grounder", "adapter", "prompt"))
    return {
        "file": f"{path.parent.name}/{path.name}",
        "name": " + ".join(str(word) for word in words if word),
    }
