"""A report as the paper's two tables: data sets seen in tuning by organ, and unseen ones.

What was seen is the registry's word (``datasets.registry``) for GroundingDINO-US-SAM's eighteen;
others are listed apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..datasets.registry import find_dataset
from .text_table import csv_table, figure, markdown_table, span

HEAD = ("organ", "data set", "images", "Dice", "95 %", "IoU", "HD95 px", "HD95 mm", "found", "s")
TITLES = {
    "seen": "Data sets seen in tuning",
    "unseen": "Unseen data sets",
    "others": "Other data sets",
}


def write_tables(report: Mapping[str, Any], organs: Mapping[str, str], out: Path) -> list[Path]:
    """Write ``tables.md`` and a CSV file for each table into a folder.

    Args:
        report: of ``report.evaluation_report``.
        organs: of each of its data sets.
        out: made where it is not there; older tables in it are replaced.

    Returns:
        What was written.
    """
    from ..io.atomic import write_atomically

    out.mkdir(parents=True, exist_ok=True)
    files = {out / "tables.md": tables_markdown(report, organs)}
    for part, rows in grouped_rows(report, organs).items():
        if rows:
            files[out / f"{part}.csv"] = csv_table(rows)
    for path, text in files.items():
        write_atomically(path, text.encode(), overwrite=True)
    return list(files)


def grouped_rows(
    report: Mapping[str, Any], organs: Mapping[str, str]
) -> dict[str, list[dict[str, Any]]]:
    """Rows of figures under "seen", "unseen" and "others", by organ and then by name."""
    groups: dict[str, list[dict[str, Any]]] = {part: [] for part in TITLES}
    for name, entry in report["datasets"].items():
        known = find_dataset(name)
        seen = None if known is None else known.seen
        part = {True: "seen", False: "unseen", None: "others"}[seen]
        organ = organs[name] if known is None else known.organ
        groups[part].append(_row(organ, name, entry))
    for rows in groups.values():
        rows.sort(key=lambda row: (row["organ"], row["dataset"].casefold()))
    return groups


def tables_markdown(report: Mapping[str, Any], organs: Mapping[str, str]) -> str:
    """All tables, with the mean over data sets below each."""
    asked = [report["prompt"], report["segmenter"], report["grounder"]]
    parts = [
        f"# {' / '.join(str(word) for word in asked if word)}\n",
        "Means over images; 95 % intervals of Dice by bootstrap over groups (patients, videos or "
        "cases); `found`: share of labels for which anything was found; `s`: seconds per image.\n",
    ]
    for part, rows in grouped_rows(report, organs).items():
        if rows:
            lines = [_cells(row) for row in rows]
            if len(rows) > 1:
                lines.append(_mean_cells(rows))
            parts += [f"## {TITLES[part]}\n", markdown_table(HEAD, lines)]
    return "\n".join(parts)


def _row(organ: str, name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    low, high = (entry.get("ci95") or {}).get("dice") or (None, None)
    return {
        "organ": organ,
        "dataset": name,
        "images": entry["images"],
        "dice": entry["dice"],
        "dice_low": low,
        "dice_high": high,
        "iou": entry["iou"],
        "hd95_px": entry["hd95_px"],
        "hd95_mm": entry.get("hd95_mm"),
        "detection_rate": entry.get("detection_rate"),
        "seconds_per_image": entry["seconds_per_image"],
    }


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    interval = None if row["dice_low"] is None else (row["dice_low"], row["dice_high"])
    return (
        row["organ"],
        row["dataset"],
        str(row["images"]),
        figure(row["dice"]),
        span(interval),
        figure(row["iou"]),
        figure(row["hd95_px"], 1),
        figure(row["hd95_mm"], 2),
        figure(row["detection_rate"], 2),
        figure(row["seconds_per_image"], 2),
    )


def _mean_cells(rows: list[dict[str, Any]]) -> tuple[str, ...]:
    def mean(key: str) -> float:
        return float(sum(row[key] for row in rows)) / len(rows)

    count = str(sum(row["images"] for row in rows))
    figures = (figure(mean("dice")), "-", figure(mean("iou")), figure(mean("hd95_px"), 1))
    return ("mean", f"of {len(rows)}", count, *figures, "-", "-", "-")
