"""Two plots as SVG text: time per image in the order of labelling, and seconds per origin."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from html import escape

from .efforts import ImageEffort, Way
from .tables import ModelRow

COLORS = {
    Way.UNCHANGED: "#009e73",
    Way.CHANGED: "#56b4e9",
    Way.DISCARDED: "#d55e00",
    Way.BY_HAND: "#cc79a7",
    Way.EMPTY: "#999999",
}
"""Of Okabe and Ito's palette, which colour-blind eyes can tell apart."""
WIDTH, HEIGHT, LEFT, BOTTOM = 720, 260, 48, 34
ROW = 26
WINDOW = 15
"""Images in the running median."""
DOTS = (
    "Each dot is a committed image, in the order of the commits; the line is the running median. "
    "What became of the first proposal:"
)


def key(efforts: Iterable[ImageEffort]) -> list[tuple[str, str]]:
    """The ways that are among these images, each with its colour."""
    ways = {item.way for item in efforts}
    return [(str(way), color) for way, color in COLORS.items() if way in ways]


def timeline(efforts: Sequence[ImageEffort], most: int = 4000) -> str:
    """Seconds of each committed image, in the order of their commits, with a running median.

    Args:
        efforts: committed ones, in order; at least one.
        most: dots; of more images, every n-th has one, which the plot says.
    """
    seconds = [item.active_s for item in efforts]
    top = _round_up(_percentile(seconds, 0.98))
    wide, high = WIDTH - LEFT - 12, HEIGHT - BOTTOM - 12
    step = wide / max(len(seconds) - 1, 1)

    def place(index: float, value: float) -> str:
        return f"{LEFT + step * index:.1f} {12 + high * (1 - min(value, top) / top):.1f}"

    shown = _thinned(len(efforts), most)
    parts = [_grid(top, high), *_ticks(len(seconds), step)]
    if shown.step > 1:
        parts.append(
            f'<text x="{WIDTH - 12}" y="10" text-anchor="end">a dot for each {shown.step} images'
            "</text>"
        )
    for way, color in COLORS.items():
        dots = "".join(
            f"M{place(n, efforts[n].active_s)}h.1" for n in shown if efforts[n].way is way
        )
        if dots:
            parts.append(
                f'<path d="{dots}" stroke="{color}" stroke-width="5" stroke-linecap="round" '
                'stroke-opacity="0.8"/>'
            )
    if len(seconds) >= WINDOW:
        middle = [
            (n + (WINDOW - 1) / 2, statistics.median(seconds[n : n + WINDOW]))
            for n in _thinned(len(seconds) - WINDOW + 1, 700)
        ]
        line = " ".join(place(*point).replace(" ", ",") for point in middle)
        parts.append(f'<polyline points="{line}" fill="none" stroke="#e69f00" stroke-width="2.5"/>')
    return _svg(HEIGHT, "seconds at work on each image, in order", parts)


def seconds_by_origin(rows: Sequence[ModelRow]) -> str:
    """A bar for each origin of first proposals: the median seconds of its images."""
    top = _round_up(max(row.median_s for row in rows))
    left, height = 260, ROW * len(rows) + 8
    parts = []
    for n, row in enumerate(rows):
        y, length = 4 + ROW * n, (WIDTH - left - 150) * row.median_s / top
        parts.append(
            f'<text x="{left - 8}" y="{y + 16}" text-anchor="end">{escape(_short(row.name))}</text>'
            f'<rect x="{left}" y="{y + 3}" width="{length:.1f}" height="{ROW - 8}" '
            f'fill="{COLORS[Way.BY_HAND] if row.name == Way.BY_HAND else COLORS[Way.CHANGED]}"/>'
            f'<text x="{left + length + 6:.1f}" y="{y + 16}">{row.median_s:.1f} s '
            f"({row.images} images)</text>"
        )
    return _svg(height, "median seconds of an image", parts)


def _svg(height: int, title: str, parts: Iterable[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" xmlns="http://www.w3.org/2000/svg" '
        'font-family="sans-serif" font-size="12" fill="#808a94">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def _grid(top: float, high: float) -> str:
    lines = []
    for part in range(5):
        y = 12 + high * (1 - part / 4)
        lines.append(
            f'<line x1="{LEFT}" x2="{WIDTH - 12}" y1="{y:.1f}" y2="{y:.1f}" '
            'stroke="#808a94" stroke-opacity="0.35"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{top * part / 4:g} s</text>'
        )
    return "".join(lines)


def _ticks(count: int, step: float) -> list[str]:
    every = max(1, int(_round_up(count / 8)))
    numbers = sorted({1, *range(every, count + 1, every)})
    return [
        f'<text x="{LEFT + step * (number - 1):.1f}" y="{HEIGHT - BOTTOM + 16}" '
        f'text-anchor="middle">{number}</text>'
        for number in numbers
    ]


def _thinned(count: int, most: int) -> range:
    return range(0, count, math.ceil(count / most))


def _percentile(values: Sequence[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def _round_up(value: float) -> float:
    """The next of 1, 2, 4, 5, 10, 20, ... at or above a value."""
    if value <= 0:
        return 1.0
    scale = 10 ** math.floor(math.log10(value))
    return next(scale * step for step in (1, 2, 4, 5, 10) if scale * step >= value * (1 - 1e-9))


def _short(text: str, most: int = 36) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."
