"""Areas of the labels of a loop over time: measured frame by frame, and written as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import pi

from ...core.measures import measure
from ...io.labels import LabelMap, values_in

COLUMNS = ("frame", "seconds", "label", "area_px", "area_mm2", "long_axis_mm", "score")


@dataclass(frozen=True, slots=True)
class Area:
    """Area of a label on a frame.

    Attributes:
        frame: index in the loop, from 0.
        label: the value in the label map.
        pixels: that it has.
        volume: of the solid of revolution with this area A and the label's long axis L, 8 A^2 over
            3 pi L (the area-length method, Dodge 1960), in mm3 or cubed pixels.
        score: how far the model that proposed it trusts it, 0 to 1; None where a person did it.
        long_axis: L, in mm or pixels.
    """

    frame: int
    label: int
    pixels: int
    score: float | None = None
    volume: float = 0.0
    long_axis: float = 0.0


def areas_on(
    frame: int,
    labels: LabelMap,
    scores: Mapping[int, float],
    spacing_mm: tuple[float, float] | None = None,
) -> list[Area]:
    """The area of each label of a frame's label map (H, W).

    Args:
        frame: index in the loop.
        labels: its label map.
        scores: by label; one without a score is a person's.
        spacing_mm: millimetres per pixel (row, column), or None.
    """
    found = []
    for value in values_in(labels):
        mask = labels == value
        size = measure(mask, spacing_mm or (1.0, 1.0))
        volume = 8 * size.area**2 / (3 * pi * size.long_axis)
        pixels = int(mask.sum())
        found.append(Area(frame, value, pixels, scores.get(value), volume, size.long_axis))
    return found


@dataclass(frozen=True, slots=True)
class Beat:
    """Beat of a label, between the frames where it is largest and where it is smallest.

    Attributes:
        largest: its area at the end of diastole, if it is a ventricle.
        smallest: its area at the end of systole.
    """

    largest: Area
    smallest: Area

    @property
    def area_change(self) -> float:
        """Fractional area change, 0 to 1."""
        return 1 - self.smallest.pixels / self.largest.pixels

    @property
    def ejection_fraction(self) -> float:
        """From one plane, by area and length, 0 to 1."""
        return 1 - self.smallest.volume / self.largest.volume

    def __str__(self) -> str:
        low, high = self.smallest.frame + 1, self.largest.frame + 1
        return (
            f"largest on frame {high}, smallest on frame {low}: area changes by "
            f"{self.area_change:.0%}; ejection fraction, if it is a ventricle, by area and length "
            f"of this one plane: {self.ejection_fraction:.0%}"
        )


NO_DIAGNOSIS = (
    "No diagnosis: one plane, one beat, and frames that nobody has accepted are as a model "
    "proposes them."
)


def beats(areas: Iterable[Area]) -> dict[int, Beat]:
    """The beat of each label that is on two frames at least."""
    by_label: dict[int, list[Area]] = {}
    for area in areas:
        by_label.setdefault(area.label, []).append(area)
    return {
        label: Beat(max(found, key=_volume), min(found, key=_volume))
        for label, found in sorted(by_label.items())
        if len({area.frame for area in found}) > 1
    }


def _volume(area: Area) -> float:
    return area.volume


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
        long_axis = "" if spacing_mm is None else round(area.long_axis, 2)
        score = "" if area.score is None else round(area.score, 4)
        table.writerow([area.frame, seconds, area.label, area.pixels, size, long_axis, score])
    return text.getvalue().encode()
