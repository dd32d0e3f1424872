"""What ``soak.py`` measured, and the table of it."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

LIMIT_MS = 100.0
EARLY = 50
"""Memory and time are compared with what they were after so many images."""


@dataclass(slots=True)
class Soak:
    """What was measured; lists have an entry for each image.

    Attributes:
        seconds: from an image that is shown to the next one that is.
        click_s: from a click to its mask on the screen, the mean of the two.
        window_cpu_s: processor time of the window's process in it.
        worker_cpu_s: processor time of the worker process in it.
        window_mb: resident memory of the window's process.
        worker_mb: resident memory of the worker process.
        busy: how many times longer than its own processor time a piece of work took meanwhile.
        longest_ms: longest gap of the event loop.
        longest_own_ms: most processor time of the main thread between two turns of the loop: what
            the gap would be if no other program ran.
        gaps: those above ``LIMIT_MS``: (image, milliseconds, own milliseconds, step, what ran).
    """

    model: str
    background: str
    seconds: list[float] = field(default_factory=list)
    click_s: list[float] = field(default_factory=list)
    window_cpu_s: list[float] = field(default_factory=list)
    worker_cpu_s: list[float] = field(default_factory=list)
    window_mb: list[float] = field(default_factory=list)
    worker_mb: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    longest_ms: list[float] = field(default_factory=list)
    longest_own_ms: list[float] = field(default_factory=list)
    background_embeddings: int = 0
    gaps: list[tuple[int, float, float, str, str]] = field(default_factory=list)


def table(result: Soak, early: int = EARLY) -> str:
    """What was measured, in words and figures."""
    count = len(result.seconds)
    early = min(early, count // 2)
    tenth = max(1, count // 10)
    behind = f"; {result.background_embeddings} embeddings by {result.background} meanwhile"
    lines = [
        f"{count} images, {result.model}{behind if result.background else ''}",
        "",
        f"| memory | after {early} | after {count} | ratio |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, values in (("window", result.window_mb), ("worker", result.worker_mb)):
        lines.append(compared(f"{name}, MB", values[early - 1], values[-1], ".0f"))
    lines += [
        "",
        f"| median of an image | {early} to {early + tenth} | last {tenth} | ratio |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, values in (
        ("seconds", result.seconds),
        ("seconds from a click to its mask", result.click_s),
        ("processor seconds of the window", result.window_cpu_s),
        ("processor seconds of the worker", result.worker_cpu_s),
    ):
        before, after = values[early : early + tenth], values[-tenth:]
        lines.append(compared(name, statistics.median(before), statistics.median(after), ".3f"))
    lines += [
        "",
        f"longest gap of the event loop: {max(result.longest_ms):.0f} ms; most processor time of "
        f"its own in one: {max(result.longest_own_ms):.0f} ms (machine busy by "
        f"{statistics.median(result.busy):.2f} in the median, {max(result.busy):.2f} at most)",
        f"gaps above {LIMIT_MS:.0f} ms: {len(result.gaps)}, of its own: "
        f"{sum(gap[2] > LIMIT_MS for gap in result.gaps)}",
    ]
    for _, milliseconds, own, step, stack in sorted(result.gaps, key=lambda gap: -gap[2])[:12]:
        lines.append(f"  {milliseconds:.0f} ms, own {own:.0f} ms, {step}: {stack}")
    return "\n".join(lines)


def compared(name: str, before: float, after: float, form: str) -> str:
    """A row of the table."""
    ratio = after / before if before else float("nan")
    return f"| {name} | {before:{form}} | {after:{form}} | {ratio:.3f} |"
