"""What ``ablate`` measured as files: JSON, CSV, a Markdown table and an SVG plot."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from ...io.outputs import OutputFolder
from .ablation import GROUPS, UNCHANGED
from .tables import csv_table, figure, markdown_table, span

COLOR, PALE, GREY = "#0072b2", "#56b4e9", "#666"
"""Of Okabe and Ito's palette, which colour-blind eyes can tell apart."""
WIDE, ROW, LEFT, RIGHT = 760, 18, 300, 64
SPREAD = ("lowest", "highest", "mean", "std")

FILES = ("ablation.json", "ablation.csv", "ablation.md", "ablation.svg")

Rows = Sequence[Mapping[str, Any]]


def write_ablation(result: Mapping[str, Any], out: OutputFolder) -> None:
    """Write ``ablation.json``, ``.csv``, ``.md`` and ``.svg`` into a folder; older ones go.

    Raises:
        LabelWriteError: a file cannot be written.
    """
    texts = (
        json.dumps(result, indent=1) + "\n",
        csv_table([_flat(row) for row in result["rows"]]),
        ablation_markdown(result),
        ablation_plot(result),
    )
    for name, text in zip(FILES, texts, strict=True):
        out.write(out.root / name, text.encode())


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
        (group, name, str(len(rows)), figure(_mean(rows, "dice")), f"{_mean(rows, 'change'):+.3f}")
        for (group, name), rows in _by_variant(result["rows"]).items()
    ]
    head: tuple[str, ...] = ("varied", "how", "data sets", "Dice", "change")
    parts += ["## Mean over data sets\n", markdown_table(head, means)]
    if result["phrasing_spread"]:
        spread = [
            (name, str(entry["phrasings"]), *(figure(entry[key]) for key in SPREAD))
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


def ablation_plot(result: Mapping[str, Any]) -> str:
    """Two panels as SVG: change of Dice by variant, and Dice of every phrasing by target."""
    changes = _by_variant(result["rows"])
    changes = {key: rows for key, rows in changes.items() if key[0] != UNCHANGED}
    parts: list[str] = []
    top = 0.0
    if changes:
        parts += _changes(changes)
        top = ROW * (len(changes) + 3)
    spread = result["phrasing_spread"]
    if spread:
        parts += _phrasings(
            {name: list(entry["dice"].values()) for name, entry in spread.items()}, top
        )
        top += ROW * (len(spread) + 2.5)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {top:.0f}" width="{WIDE}" '
        f'height="{top:.0f}" role="img" font-family="sans-serif" font-size="11">'
        f'<title>Ablation</title><rect width="100%" height="100%" fill="white"/>'
        f"{''.join(parts)}</svg>\n"
    )


def _changes(variants: Mapping[tuple[str, str], Rows]) -> list[str]:
    """A bar for the mean change of each variant, a dot for each data set's."""
    widest = max((abs(row["change"]) for rows in variants.values() for row in rows), default=0)
    half = (WIDE - LEFT - 2 * RIGHT) / 2
    middle = LEFT + RIGHT + half
    scale = half / (widest or 1)
    parts = [
        _text(8, ROW, "Change of Dice: bar, mean over data sets; dots, each data set"),
        f'<path d="M{middle} {ROW * 1.4} V{ROW * (len(variants) + 1.8):.0f}" stroke="{GREY}"/>',
    ]
    for number, ((group, name), rows) in enumerate(variants.items()):
        y, mean = ROW * (number + 1.6), _mean(rows, "change")
        x, length = middle + min(0, mean * scale), abs(mean * scale)
        parts += [
            _text(8, y + 11, f"{group}: {name}"),
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{length:.1f}" height="{ROW - 4}" '
            f'fill="{PALE}"/>',
            *_dots((middle + row["change"] * scale for row in rows), y + ROW / 2 - 2),
            _text(WIDE - 8, y + 11, f"{mean:+.3f}", end=True),
        ]
    return parts


def _phrasings(targets: Mapping[str, Sequence[float]], top: float) -> list[str]:
    """Dice from 0 to 1: a dot for each phrasing."""
    wide = WIDE - LEFT - 3 * RIGHT
    parts = [_text(8, top + ROW, "Dice of each phrasing, from 0 to 1")]
    for number, (name, values) in enumerate(targets.items()):
        y, first = top + ROW * (number + 1.6), LEFT + RIGHT
        parts += [
            _text(8, y + 11, name),
            f'<path d="M{first} {y + ROW / 2 - 2:.1f} h{wide}" stroke="{GREY}" '
            'stroke-opacity="0.4"/>',
            *_dots((first + wide * value for value in values), y + ROW / 2 - 2),
            _text(WIDE - 8, y + 11, f"{min(values):.3f} to {max(values):.3f}", end=True),
        ]
    return parts


def _dots(places: Iterable[float], y: float) -> list[str]:
    return [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{COLOR}" fill-opacity="0.7"/>'
        for x in places
    ]


def _text(x: float, y: float, words: str, *, end: bool = False) -> str:
    anchor = ' text-anchor="end"' if end else ""
    return f'<text x="{x:.0f}" y="{y:.0f}" fill="{GREY}"{anchor}>{escape(words)}</text>'


def _by_variant(rows: Rows) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    """Rows of all variants but phrasings, which are not for all data sets, by group and name."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for group in (UNCHANGED, *GROUPS[:-1]):
        for row in rows:
            if row["group"] == group:
                found.setdefault((group, row["variant"]), []).append(row)
    return found


def _mean(rows: Rows, key: str) -> float:
    return float(np.mean([row[key] for row in rows]))


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
        "-" if unchanged else f"{row['change']:+.3f}",
        "-" if unchanged else span(row["change_ci95"], sign=True),
        "-" if unchanged else figure(row["p"]),
    )
