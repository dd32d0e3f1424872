"""Measuring of a label map's objects, in pixels, and in millimetres where the spacing is known.

Where an object is wholly in a region of tissue, the scanner's own spacing of that region counts;
beside it and across two of them there is none, for a length there has no meaning. Of pictures
without regions the file's spacing counts, or else what a person said. Depth is that of the object's
nearest point below the probe, where the probe's surface is known: from a sector that was found and
fits, or else the upper edge of the region.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.geometry import components, mask_window
from ..core.measures import Measures, measure, outlines
from ..core.types import BoolArray, FieldOfView, FloatArray, Region
from ..io.labels import Labelling, LabelMap, class_of, instance_of
from ..io.reading.frames import RANGE_MM, FileAbout, Spacing
from .field_of_view import crop, fields_of_view
from .sector import Sector, find_sector

SURE = 0.9
"""A sector that fits less well tells nothing of the probe's surface."""
DIGITS = 4
"""Significant digits of a measure in a table."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Spacing (row, column) in millimetres per pixel, and who said it."""

    spacing_mm: Spacing
    source: str


SCANNER, FILE, PERSON = "scanner", "file", "person"
MM_PER_PIXEL = "mm_per_pixel"
"""Setting of a folder: what a person said of its pictures, by their size."""


SAYS = {SCANNER: "By the scanner", FILE: "By the file", PERSON: "By what you said"}


def _size(row: float, column: float) -> str:
    """A pixel's size: its side, or width x height."""
    square = abs(row - column) <= 1e-3 * row
    return f"{row:.4g}" if square else f"{column:.4g} x {row:.4g}"


def scale_key(size_hw: tuple[int, int], about: FileAbout | None) -> str:
    """What a person's spacing is kept under: "480x640", rows first, then scanner and depth.

    A pixel has another length at another depth, and on another scanner's screen; where the file
    tells neither, pictures of one size are taken for alike.
    """
    parts = [f"{size_hw[0]}x{size_hw[1]}"]
    if about is not None and about.scanner:
        parts.append(about.scanner)
    if about is not None and about.depth_mm:
        parts.append(f"{about.depth_mm:g} mm deep")
    return ", ".join(parts)


def by_person_in(settings: Mapping[str, Any]) -> dict[str, float]:
    """Millimetres per pixel by size, from the settings of a folder; what makes no sense is none."""
    given = settings.get(MM_PER_PIXEL)
    low, high = RANGE_MM
    return {
        str(key): float(side)
        for key, side in (given.items() if isinstance(given, dict) else ())
        if isinstance(side, (int, float)) and low <= side <= high
    }


@dataclass(frozen=True, slots=True)
class PictureScale:
    """Scale of a picture: what is known of lengths in it.

    Attributes:
        size_hw: (H, W) of the picture.
        regions: as the scanner wrote them; () where it says nothing.
        whole: of all the picture, where no region says otherwise; None where nobody knows.
        key: what a person's spacing of such pictures is kept under (``scale_key``).
    """

    size_hw: tuple[int, int]
    regions: tuple[Region, ...] = ()
    whole: Scale | None = None
    key: str = ""

    @classmethod
    def of(
        cls,
        size_hw: tuple[int, int],
        about: FileAbout | None,
        by_person: Mapping[str, float] | None = None,
    ) -> PictureScale:
        """From what a file says of itself, and what a person said of pictures of some sizes.

        Args:
            size_hw: (H, W) of the picture.
            about: what its file says.
            by_person: millimetres per pixel of pictures without a spacing, by ``scale_key``.
        """
        key = scale_key(size_hw, about)
        if about is not None and any(
            region.is_tissue and region.spacing_mm for region in about.regions
        ):
            return cls(size_hw, about.regions, key=key)
        if about is not None and about.spacing_mm is not None:
            return cls(size_hw, (), Scale(about.spacing_mm, FILE), key)
        side = (by_person or {}).get(key)
        return cls(size_hw, (), None if side is None else Scale((side, side), PERSON), key)

    @property
    def is_for_person(self) -> bool:
        """Whether it is for a person to say how long a pixel is."""
        return not self.regions and (self.whole is None or self.whole.source == PERSON)

    def words(self) -> str:
        """What is known, in a sentence for the person."""
        known = [region for region in self.regions if region.is_tissue and region.spacing_mm]
        sizes = dict.fromkeys(region.spacing_mm for region in known if region.spacing_mm)
        if self.whole is not None:
            sizes = {self.whole.spacing_mm: None}
        if not sizes:
            return "How long a pixel is, the file does not say; lengths are in pixels."
        text = " and ".join(_size(*spacing) for spacing in sizes)
        source = SCANNER if self.whole is None else self.whole.source
        return f"{SAYS[source]} a pixel is {text} mm."

    def within(self, x0: float, y0: float, x1: float, y1: float) -> Scale | None:
        """Of what lies in a box, its corners pixels; None where no length is known there.

        The smallest region that holds it counts: an M-mode may lie over a picture of tissue.
        """
        if not self.regions:
            return self.whole
        for region in sorted(self.regions, key=_area):
            left, top, right, bottom = region.box
            if left <= x0 and top <= y0 and x1 < right and y1 < bottom:
                spacing_mm = region.spacing_mm if region.is_tissue else None
                return None if spacing_mm is None else Scale(spacing_mm, SCANNER)
        return None


def _area(region: Region) -> int:
    x0, y0, x1, y1 = region.box
    return (x1 - x0) * (y1 - y0)


@dataclass(frozen=True, slots=True)
class MeasuredObject:
    """An object of a label map, measured.

    Attributes:
        value: its label value.
        class_id: of its class.
        number: of the object in its class, from 1: in instance labelling its own; else of the
            connected piece, in reading order.
        pixels: its measures in pixels.
        mm: in millimetres, or None where the spacing is not known.
        depth_px: below the probe, in rows of pixels; None where its surface is not known.
        depth_mm: the same in millimetres.
        scale: by which it was measured.
    """

    value: int
    class_id: int
    number: int
    pixels: Measures
    mm: Measures | None = None
    depth_px: float | None = None
    depth_mm: float | None = None
    scale: Scale | None = None


class Surfaces:
    """Surfaces of the probe in a picture: in each of its fields of view, or in all of it.

    Args:
        image: (H, W) or (H, W, 3) uint8.
        regions: of the picture.
    """

    def __init__(self, image: NDArray[np.uint8], regions: Sequence[Region] = ()) -> None:
        size_hw = image.shape[0], image.shape[1]
        whole = FieldOfView((0, 0, size_hw[1], size_hw[0]), size_hw)
        fields = fields_of_view(regions, size_hw)
        self._found: list[tuple[FieldOfView, Sector]] = []
        for field in fields or (whole,):
            found = find_sector(np.ascontiguousarray(crop(field, image)))
            if found is not None and found.fit >= SURE:
                self._found.append((field, found))
            elif fields:
                x0, y0, x1, y1 = field.box
                edge = Sector("rectangle", (0, 0, x1 - x0, y1 - y0), 0.0)
                # Where no sector is sure, the scanner's region begins at the probe; of a whole
                # picture nothing is known, and no depth is told.
                self._found.append((field, edge))

    def depth(self, points: FloatArray, spacing: Spacing = (1.0, 1.0)) -> float | None:
        """How far an object is below the probe; None where its surface is not known.

        Args:
            points: (N, 2) XY of its outline, in pixels of the picture.
            spacing: of a pixel along (row, column); the depth is in its unit.
        """
        middle = points.mean(0)
        for field, sector in self._found:
            x0, y0, x1, y1 = field.box
            if x0 <= middle[0] < x1 and y0 <= middle[1] < y1:
                found = sector.depth(points - np.array([x0, y0], np.float32), spacing)
                return max(0.0, float(found.min()))
        return None


def measure_labels(
    labels: LabelMap,
    labelling: Labelling,
    scale: PictureScale,
    surfaces: Surfaces | None = None,
) -> Iterator[MeasuredObject]:
    """Measure the objects of a label map (H, W): of each class its connected pieces, or objects.

    Args:
        labels: the label map.
        labelling: what its values are.
        scale: of the picture.
        surfaces: of the picture; without them no depth is measured.
    """
    from scipy.ndimage import find_objects

    # Each object in its own box: a map of many instances is looked through once.
    for value, box in enumerate(find_objects(labels), start=1):
        if box is None:
            continue
        mask = labels[box] == value
        object_number = instance_of(value, labelling)
        # An instance that is in several pieces (behind a shadow) is one object; in a semantic map
        # pieces are all that tells objects apart.
        pieces: Iterable[BoolArray] = [mask] if object_number else components(mask, 0.0)
        for number, piece in enumerate(pieces, start=object_number or 1):
            class_id = class_of(value, labelling)
            corner = box[0].start, box[1].start
            yield measure_object(piece, scale, surfaces, value, class_id, number, corner)


def measure_object(
    mask: BoolArray,
    scale: PictureScale,
    surfaces: Surfaces | None = None,
    value: int = 0,
    class_id: int = 0,
    number: int = 1,
    corner: tuple[int, int] = (0, 0),
) -> MeasuredObject:
    """Measure an object that has pixels.

    Args:
        mask: (h, w), all of the picture or a window of it.
        scale: of the picture.
        surfaces: of the picture; without them no depth is measured.
        value: of its label.
        class_id: of its class.
        number: of the object in its class.
        corner: (row, column) of the mask in the picture.
    """
    rows, columns = mask_window(mask)
    piece = mask[rows, columns]  # measures are the same wherever it lies
    y, x = rows.start + corner[0], columns.start + corner[1]
    known = scale.within(x, y, x + piece.shape[1] - 1, y + piece.shape[0] - 1)
    points = np.concatenate(outlines(piece))[:, ::-1] + np.array([x, y], np.float32)
    return MeasuredObject(
        value,
        class_id,
        number,
        measure(piece),
        None if known is None else measure(piece, known.spacing_mm),
        None if surfaces is None else surfaces.depth(points),
        None if surfaces is None or known is None else surfaces.depth(points, known.spacing_mm),
        known,
    )


NAMES = tuple(item.name for item in fields(Measures))
COLUMNS = (
    "class",
    "object",
    *(f"{name}_mm{'2' if name == 'area' else ''}" for name in NAMES),
    "depth_mm",
    *(f"{name}_px" for name in NAMES),
    "depth_px",
    "spacing_row_mm",
    "spacing_column_mm",
    "spacing_from",
)
"""Of a table of measurements, behind the name of the image."""


def cells(item: MeasuredObject, names: Mapping[int, str]) -> dict[str, str | float | None]:
    """A row of the table by ``COLUMNS``; None where something is not known.

    Args:
        item: an object.
        names: of the classes.
    """
    row: dict[str, str | float | None] = dict.fromkeys(COLUMNS)
    row["class"] = names.get(item.class_id, str(item.class_id))
    row["object"] = item.number
    for unit, found in (("px", item.pixels), ("mm", item.mm)):
        for name in NAMES if found is not None else ():
            square = "2" if (name, unit) == ("area", "mm") else ""
            row[f"{name}_{unit}{square}"] = _rounded(getattr(found, name))
    row["depth_px"], row["depth_mm"] = _rounded(item.depth_px), _rounded(item.depth_mm)
    if item.scale is not None:
        row["spacing_row_mm"], row["spacing_column_mm"] = map(_rounded, item.scale.spacing_mm)
        row["spacing_from"] = item.scale.source
    return row


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{DIGITS}g}")


def table(rows: Iterable[tuple[str, Mapping[str, str | float | None]]]) -> bytes:
    """Measurements as CSV: (image, cells) for each object."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ("image", *COLUMNS), lineterminator="\n", restval="")
    writer.writeheader()
    for image, row in rows:
        writer.writerow({"image": image, **{k: "" if v is None else v for k, v in row.items()}})
    return text.getvalue().encode()


def words(item: MeasuredObject) -> str:
    """An object's measures in a line: "412 mm2, 23.1 x 19.4 mm, 12 mm deep"."""
    found, unit = (item.pixels, "px") if item.mm is None else (item.mm, "mm")
    depth = item.depth_px if item.mm is None else item.depth_mm
    size = f"{_short(found.long_axis)} x {_short(found.short_axis)} {unit}"
    deep = "" if depth is None else f", {_short(depth)} {unit} deep"
    return f"{_short(found.area)} {unit}2, {size}{deep}"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
