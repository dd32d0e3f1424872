"""A report as the paper's two tables: data sets seen in training by organ, and unseen ones.

Where it is known what the scored model was trained on (``trained_on``), that decides. Of other
models the registry's word is taken, which is that of GroundingDINO-US-SAM's tuning; data sets that
it does not know are listed apart. Every row also says where the paper has its data set.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from io import StringIO
from itertools import groupby
from pathlib import Path
from typing import Any

from ...io.outputs import OutputFolder
from ..public_datasets.registry import find_dataset


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are figures."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join("| " + " | ".join(_cell(cell) for cell in line) + " |\n" for line in lines)


def csv_table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows under all of their keys, in order of appearance; None is an empty field."""
    text = StringIO()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def figure(value: float | None, digits: int = 3) -> str:
    """A number, or a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def span(interval: Sequence[float] | None, digits: int = 3, *, sign: bool = False) -> str:
    """An interval as "0.81 to 0.88", or a dash."""
    if interval is None:
        return "-"
    form = f"{'+' if sign else ''}.{digits}f"
    return f"{interval[0]:{form}} to {interval[1]:{form}}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


HEAD = (
    "organ", "data set", "images", "Dice", "95 %", "IoU", "95 %", "HD95 px", "95 %", "HD95 mm",
    "found", "no box", "s",
)  # fmt: skip
TITLES = {
    "seen": "Data sets seen in training",
    "unseen": "Unseen data sets",
    "others": "Other data sets",
}
PAPER = ("unseen", "seen")
MEANS = ("dice", "iou", "hd95_px", "detection_rate", "seconds_per_image")


def write_tables(
    report: Mapping[str, Any], organs: Mapping[str, str], out: OutputFolder
) -> list[Path]:
    """Write ``tables.md``, ``tables.json`` and a CSV file for each table into a folder.

    Args:
        report: of ``report.evaluation_report``.
        organs: of each of its data sets.
        out: their folder; older tables in it are replaced.

    Returns:
        What was written.

    Raises:
        LabelWriteError: a file cannot be written.
    """
    import json

    tables = grouped_rows(report, organs)
    files = {
        out.root / "tables.md": tables_markdown(report, organs),
        out.root / "tables.json": json.dumps({"schema": 1, **tables}, indent=1) + "\n",
    }
    for part, rows in tables.items():
        if rows:
            files[out.root / f"{part}.csv"] = csv_table(rows)
        else:  # of an earlier report
            out.remove(out.root / f"{part}.csv")
    for path, text in files.items():
        out.write(path, text.encode())
    return list(files)


def grouped_rows(
    report: Mapping[str, Any], organs: Mapping[str, str]
) -> dict[str, list[dict[str, Any]]]:
    """Rows of figures under "seen", "unseen" and "others", by organ and then by name."""
    groups: dict[str, list[dict[str, Any]]] = {part: [] for part in TITLES}
    learnt = report.get("trained_on")
    for name, entry in report["datasets"].items():
        known = find_dataset(name)
        paper = None if known is None or known.seen is None else PAPER[known.seen]
        if learnt is None:
            part = paper or "others"
        else:
            part = "seen" if name.casefold() in learnt else "unseen"
        organ = organs[name] if known is None else known.organ
        groups[part].append(_row(organ, name, paper, entry))
    for rows in groups.values():
        rows.sort(key=lambda row: (row["organ"], row["dataset"].casefold()))
    return groups


def tables_markdown(report: Mapping[str, Any], organs: Mapping[str, str]) -> str:
    """All tables: a row for each data set, each organ of several, and all of them."""
    asked = [report["prompt"], report["segmenter"], report["grounder"], report.get("adapter")]
    who = (
        "GroundingDINO-US-SAM's tuning"
        if report.get("trained_on") is None
        else "the training of the models that are scored"
    )
    parts = [
        f"# {' / '.join(str(word) for word in asked if word)}\n",
        f"Seen and unseen: by {who}. Means over images, in mean rows over data sets; 95 % "
        "intervals by bootstrap over groups (patients, videos or cases); `found`: share of labels "
        "in the image for which anything was found; `no box`: images with an object in which "
        "nothing was; `s`: seconds per image.\n",
    ]
    for part, rows in grouped_rows(report, organs).items():
        if not rows:
            continue
        lines = []
        for organ, of_organ in groupby(rows, key=lambda row: str(row["organ"])):
            members = list(of_organ)
            lines += [_cells(row) for row in members]
            if 1 < len(members) < len(rows):
                lines.append(_mean_cells(f"{organ}, mean", members))
        if len(rows) > 1:
            lines.append(_mean_cells("mean", rows))
        parts += [f"## {TITLES[part]}\n", markdown_table(HEAD, lines)]
    return "\n".join(parts)


def _row(organ: str, name: str, paper: str | None, entry: Mapping[str, Any]) -> dict[str, Any]:
    limits: dict[str, float | None] = {}
    for key in ("dice", "iou", "hd95_px"):
        low, high = (entry.get("ci95") or {}).get(key) or (None, None)
        limits |= {f"{key}_low": low, f"{key}_high": high}
    return {
        "organ": organ,
        "dataset": name,
        "paper": paper,
        "images": entry["images"],
        **{key: entry.get(key) for key in ("dice", "iou", "hd95_px", "hd95_mm")},
        **limits,
        **{key: entry.get(key) for key in ("detection_rate", "no_box", "seconds_per_image")},
    }


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    no_box = row["no_box"]
    return (
        row["organ"],
        row["dataset"],
        str(row["images"]),
        figure(row["dice"]),
        _limits(row, "dice", 3),
        figure(row["iou"]),
        _limits(row, "iou", 3),
        figure(row["hd95_px"], 1),
        _limits(row, "hd95_px", 1),
        figure(row["hd95_mm"], 2),
        figure(row["detection_rate"], 2),
        "-" if no_box is None else str(no_box),
        figure(row["seconds_per_image"], 2),
    )


def _limits(row: Mapping[str, Any], key: str, digits: int) -> str:
    low, high = row[f"{key}_low"], row[f"{key}_high"]
    return span(None if low is None else (low, high), digits)


def _mean_cells(title: str, rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    means: dict[str, float | None] = {}
    for key in MEANS:
        values = [row[key] for row in rows if row[key] is not None]
        means[key] = sum(values) / len(values) if len(values) == len(rows) else None
    no_box = [row["no_box"] for row in rows]
    return (
        title,
        f"of {len(rows)}",
        str(sum(row["images"] for row in rows)),
        figure(means["dice"]),
        "-",
        figure(means["iou"]),
        "-",
        figure(means["hd95_px"], 1),
        "-",
        "-",
        figure(means["detection_rate"], 2),
        "-" if None in no_box else str(sum(no_box)),
        figure(means["seconds_per_image"], 2),
    )
