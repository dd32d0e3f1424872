"""The plot of ppn_study.py: small multiples, Dice over the number of images."""

from __future__ import annotations

from math import log
from statistics import mean
from typing import Any

COLOURS = {"ppn": "#0072b2", "ppn+box": "#56b4e9", "unet": "#d55e00"}


def by_images(result: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Runs by "5", "10", ..., "all"."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for run in result["runs"]:
        groups.setdefault("all" if run["all"] else str(run["images"]), []).append(run)
    return groups


def count_of(runs: list[dict[str, Any]]) -> int:
    """How many images these runs have."""
    return int(runs[0]["images"])


def plot(results: list[dict[str, Any]]) -> str:
    """Small multiples, one a data set: Dice over images (log scale), box and text as lines."""
    wide, high, left, top = 250, 190, 34, 26
    parts = []
    for place, result in enumerate(results):
        x0, y0 = (place % 3) * wide + left, (place // 3) * high + top
        parts.append(_panel(result, x0, y0, wide - left - 14, high - top - 34))
    legend = "".join(
        f'<text x="{left + 90 * i}" y="{(len(results) + 2) // 3 * high + 14}" fill="{colour}">'
        f"{way}</text>"
        for i, (way, colour) in enumerate({**COLOURS, "box": "#555", "text": "#999"}.items())
    )
    width, height = 3 * wide, (len(results) + 2) // 3 * high + 24
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>'
        f"{''.join(parts)}{legend}</svg>\n"
    )


def _panel(result: dict[str, Any], x0: float, y0: float, wide: float, high: float) -> str:
    groups = sorted(by_images(result).values(), key=count_of)
    counts = [runs[0]["images"] for runs in groups] or [5]
    low, span = log(min(counts)), max(log(max(counts)) - log(min(counts)), 1e-6)

    def place(images: float, value: float) -> str:
        return f"{x0 + wide * (log(images) - low) / span:.1f},{y0 + high * (1 - value):.1f}"

    parts = [
        f'<text x="{x0}" y="{y0 - 8}" font-weight="bold">{result["name"]}</text>',
        f'<rect x="{x0}" y="{y0}" width="{wide}" height="{high}" fill="none" stroke="#ccc"/>',
    ]
    parts += [
        f'<text x="{x0 - 22}" y="{y0 + high * (1 - value) + 4}">{value:.1f}</text>'
        for value in (0.0, 0.5, 1.0)
    ]
    for images in counts:
        at = place(images, 0).split(",")[0]
        parts.append(f'<text x="{at}" y="{y0 + high + 14}" text-anchor="middle">{images}</text>')
    for key, colour in (("box", "#555"), ("text", "#999")):
        if key not in result:
            continue
        y = y0 + high * (1 - result[key]["dice"])
        parts.append(
            f'<line x1="{x0}" x2="{x0 + wide}" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}" '
            'stroke-dasharray="4 3"/>'
        )
    for way, colour in COLOURS.items():
        points = [
            place(runs[0]["images"], mean(r[way]["dice"] for r in runs))
            for runs in groups
            if way in runs[0]
        ]
        joined = " ".join(points)
        parts.append(f'<polyline points="{joined}" fill="none" stroke="{colour}"/>')
        for point in points:
            x, y = point.split(",")
            parts.append(f'<circle cx="{x}" cy="{y}" r="2.5" fill="{colour}"/>')
    return "".join(parts)
