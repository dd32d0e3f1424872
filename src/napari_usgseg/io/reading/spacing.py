"""How many millimetres a pixel is, where an image file says so of the tissue.

Most files say nothing of it: the resolution of a PNG, a JPEG or a plain TIFF is for printing (72,
96 or 300 dots per inch) and no measure of what is shown. Only two kinds are believed: a TIFF of
ImageJ with a unit of length, as "Set Scale" leaves it, and an OME-TIFF with ``PhysicalSizeX``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

Spacing = tuple[float, float]
"""Millimetres per pixel (row, column)."""

_MM = {
    "mm": 1.0, "millimeter": 1.0, "millimeters": 1.0, "millimetre": 1.0, "millimetres": 1.0,
    "cm": 10.0, "centimeter": 10.0, "centimeters": 10.0, "centimetre": 10.0, "centimetres": 10.0,
    "m": 1000.0, "um": 1e-3, "\u00b5m": 1e-3, "\u03bcm": 1e-3, "micron": 1e-3, "microns": 1e-3,
    "micrometer": 1e-3, "micrometre": 1e-3, "nm": 1e-6,
}  # fmt: skip
"""Units of length in millimetres. An inch is none: it comes from a printer's resolution."""
_PRINTED_PER_INCH = (72, 96, 100, 120, 144, 150, 200, 240, 300, 360, 400, 600, 720, 1200)
_RANGE_MM = (1e-4, 10.0)
"""What a pixel of an ultrasound image can be: from acoustic microscopes to small overviews."""
_TURNED = (5, 6, 7, 8)
"""Orientations whose rows are stored as columns."""


def read_spacing(path: str | Path, frame: int | None = None) -> Spacing | None:
    """Millimetres per pixel (row, column) of the upright image; None where they are not known.

    Args:
        path: any image file; one that cannot be read has no spacing.
        frame: index of a page of a TIFF; None takes the first.
    """
    import tifffile

    try:
        with tifffile.TiffFile(path) as tiff:
            spacing = _of_imagej(tiff) if tiff.is_imagej else _of_ome(tiff)
            page = tiff.pages[frame or 0]
            orientation = page.tags.get(274)
    except Exception:  # no TIFF, or damaged: whoever reads its pixels says so
        return None
    low, high = _RANGE_MM
    if spacing is None or not all(low <= size <= high for size in spacing):
        return None
    turned = orientation is not None and orientation.value in _TURNED
    return spacing[::-1] if turned else spacing


def card_entry(spacing: Spacing | None) -> float | list[float] | None:
    """``pixel_size_mm`` of ``dataset.json``: a number, or [row, column] where the two differ."""
    if spacing is None:
        return None
    row, column = (float(f"{size:.9g}") for size in spacing)
    return row if abs(row - column) <= 1e-5 * row else [row, column]


def _of_imagej(tiff: Any) -> Spacing | None:
    said = tiff.imagej_metadata or {}
    unit = str(said.get("unit", "")).strip().casefold()
    unit = unit.replace("\\u00b5", "\u00b5")  # ImageJ escapes the sign
    if unit not in _MM or "yunit" in said:  # rows of another unit, such as seconds
        return None
    tags = tiff.pages[0].tags
    per_unit = [tags[name].value for name in ("YResolution", "XResolution")]
    row, column = (_MM[unit] * below / above for above, below in per_unit)
    if _MM[unit] == _MM["cm"] and all(map(_is_printed, (row, column))):
        return None
    return row, column


def _is_printed(size_mm: float) -> bool:
    """Whether a pixel is as large as on paper: ImageJ takes a file's dots per inch for a scale."""
    per_inch = 25.4 / size_mm
    return any(abs(per_inch - printed) <= 2e-3 * printed for printed in _PRINTED_PER_INCH)


def _of_ome(tiff: Any) -> Spacing | None:
    if not tiff.is_ome:
        return None
    found = set()
    for element in ElementTree.fromstring(tiff.ome_metadata).iter():
        if element.tag.rpartition("}")[2] == "Pixels":
            found.add((_ome_size(element, "Y"), _ome_size(element, "X")))
    if len(found) != 1:  # series of different scales
        return None
    row, column = found.pop()
    return None if row is None or column is None else (row, column)


def _ome_size(pixels: ElementTree.Element, axis: str) -> float | None:
    size = pixels.get(f"PhysicalSize{axis}")
    factor = _MM.get(pixels.get(f"PhysicalSize{axis}Unit", "\u00b5m").casefold())
    return None if size is None or factor is None else float(size) * factor
