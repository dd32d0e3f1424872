"""Areas of the labels of a loop over time: measured frame by frame, and written as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ...io.labels import LabelMap, values_in

COLUMNS = ("frame", "seconds", "label", "area_px", "area_mm2", "score")


@dataclass(frozen=True, slots=True)
class Area:
    """How much of a frame a label has.

    Attributes:
        frame: index in the loop, from 0.
        label: the value in the label map.
        pixels: that it has.
        score: how far the model that proposed it trusts it, 0 to 1; None where a person did it.
    """

    frame: int
    label: int
    pixels: int
    score: float | None = None


def areas_on(frame: int, labels: LabelMap, scores: Mapping[int, float]) -> list[Area]:
    """The area of each label of a frame's label map (H, W); one without a score is a person's."""
    return [
        Area(frame, value, int((labels == value).sum()), scores.get(value))
        for value in values_in(labels)
    ]


def area_table(
    areas: Iterable[Area], rate: float | None, spacing_mm: tuple[float, float] | None
) -> bytes:
    """A CSV with ``COLUMNS``; what is not known is left empty.

    Args:
        areas: of a loop.
        rate: frames per second, or None.
        spacing_mm: millimetres per pixel (row, column), or None.
    """
    import csv
    import io

    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for area in sorted(areas, key=lambda one: (one.frame, one.label)):
        seconds = round(area.frame / rate, 4) if rate else ""
        size = "" if spacing_mm is None else round(area.pixels * spacing_mm[0] * spacing_mm[1], 3)
        score = "" if area.score is None else round(area.score, 4)
        table.writerow([area.frame, seconds, area.label, area.pixels, size, score])
    return text.getvalue().encode()
