"""Comparison of two reports of ``usgseg evaluate``: the same images under two methods."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import DatasetError
from .report import PairedDifference, figure, markdown_table, paired_difference, span

if TYPE_CHECKING:
    import pandas as pd

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
    import pandas as pd

    reports = [_read(path) for path in (first, second)]
    a, b = (_images(path, report) for path, report in zip((first, second), reports, strict=True))
    pairs = a.merge(b, on=["dataset", "id"], suffixes=("", "_b"))
    if pairs.empty:
        shared = dict.fromkeys(name for name in a["dataset"] if name in set(b["dataset"]))
        raise DatasetError(
            second,
            f"has no image in common with {first}; compare reports of the same data sets "
            f"(shared names: {', '.join(shared) or 'none'})",
        )
    alone = pd.concat([a, b]).drop_duplicates(["dataset", "id"], keep=False)
    return {
        "schema": 1,
        "first": _who(first, reports[0]),
        "second": _who(second, reports[1]),
        "datasets": {
            name: _differences(members) for name, members in pairs.groupby("dataset", sort=False)
        },
        "all": _differences(pairs),
        "unpaired": {
            name: sorted(members["id"]) for name, members in alone.groupby("dataset", sort=False)
        },
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


def _differences(pairs: pd.DataFrame) -> dict[str, dict[str, Any]]:
    groups = pairs["dataset"] + "/" + pairs["group"]
    return {
        metric: asdict(paired_difference(pairs[metric], pairs[f"{metric}_b"], groups))
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


def _images(path: Path, report: dict[str, Any]) -> pd.DataFrame:
    """One row an image: "dataset", "id", "group" and the metrics."""
    import pandas as pd

    rows = [
        {
            **image,
            "dataset": name,
            "id": str(image["id"]),
            "group": str(image.get("group", image["id"])),
        }
        for name, entry in report["datasets"].items()
        for image in entry.get("per_image", ())
    ]
    if not rows:
        raise DatasetError(path, "has no scores per image; evaluate again with --per-image")
    table = pd.DataFrame(rows).drop_duplicates(["dataset", "id"], keep="last")
    return table[["dataset", "id", "group", *METRICS]]


def _who(path: Path, report: dict[str, Any]) -> dict[str, str]:
    words = (report.get(key) for key in ("segmenter", "grounder", "adapter", "prompt"))
    return {
        "file": f"{path.parent.name}/{path.name}",
        "name": " + ".join(str(word) for word in words if word),
    }
