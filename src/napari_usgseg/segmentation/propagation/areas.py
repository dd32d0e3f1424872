"""Areas of the labels of a loop over time: measured frame by frame, and written as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import pi

from ...core.geometry import mask_window
from ...core.measures import measure
from ...io.labels import LabelMap, values_in
from ..measuring import PictureScale

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
        mm2: its area in mm2; None where no length is known, and the rest is in pixels.
    """

    frame: int
    label: int
    pixels: int
    score: float | None = None
    volume: float = 0.0
    long_axis: float = 0.0
    mm2: float | None = None

    @property
    def size(self) -> float:
        """Its area in mm2, or in pixels where no length is known."""
        return self.pixels if self.mm2 is None else self.mm2


def areas_on(
    frame: int,
    labels: LabelMap,
    scores: Mapping[int, float],
    scale: PictureScale | None = None,
) -> list[Area]:
    """The area of each label of a frame's label map (H, W).

    Args:
        frame: index in the loop.
        labels: its label map.
        scores: by label; one without a score is a person's.
        scale: what is known of lengths in the frame, as for a table of measurements.
    """
    found = []
    for value in values_in(labels):
        mask = labels == value
        rows, columns = mask_window(mask)
        box = columns.start, rows.start, columns.stop - 1, rows.stop - 1
        known = None if scale is None else scale.within(*box)
        size = measure(mask[rows, columns], (1.0, 1.0) if known is None else known.spacing_mm)
        volume = 8 * size.area**2 / (3 * pi * size.long_axis)
        mm2 = None if known is None else size.area
        pixels = int(mask.sum())
        found.append(Area(frame, value, pixels, scores.get(value), volume, size.long_axis, mm2))
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
        return 1 - self.smallest.size / self.largest.size

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
    """The beat of each label that is on two frames at least.

    Of a label that has lengths on some frames alone (it leaves its region), those frames count.
    """
    by_label: dict[int, list[Area]] = {}
    for area in areas:
        by_label.setdefault(area.label, []).append(area)
    for label, found in by_label.items():
        by_label[label] = [area for area in found if area.mm2 is not None] or found
    return {
        label: Beat(max(found, key=_volume), min(found, key=_volume))
        for label, found in sorted(by_label.items())
        if len({area.frame for area in found}) > 1
    }


def _volume(area: Area) -> float:
    return area.volume


def area_table(areas: Iterable[Area], rate: float | None) -> bytes:
    """A CSV with ``COLUMNS``; what is not known is left empty.

    Args:
        areas: of a loop.
        rate: frames per second, or None.
    """
    import csv
    import io

    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for area in sorted(areas, key=lambda one: (one.frame, one.label)):
        seconds = round(area.frame / rate, 4) if rate else ""
        size = "" if area.mm2 is None else round(area.mm2, 3)
        long_axis = "" if area.mm2 is None else round(area.long_axis, 2)
        score = "" if area.score is None else round(area.score, 4)
        table.writerow([area.frame, seconds, area.label, area.pixels, size, long_axis, score])
    return text.getvalue().encode()
