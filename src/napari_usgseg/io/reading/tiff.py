"""TIFF: its pages as frames, and what a pixel measures, read by tifffile with imagecodecs.

Frames are the pages that are images: no thumbnails, smaller copies or masks of transparency.

The resolution of a plain TIFF is for printing (72, 96 or 300 dots per inch) and no measure of what
is shown. Only two kinds are believed: a TIFF of ImageJ with a unit of length, as "Set Scale" leaves
it, and an OME-TIFF with ``PhysicalSizeX``.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .frames import (
    CHANNELS,
    MAX_FRAMES,
    RANGE_MM,
    TURNED,
    FileAbout,
    Frames,
    Kind,
    Spacing,
    Stored,
    check_bytes,
    check_count,
    check_size,
    orientation_of,
    read_errors,
    unsupported,
)

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ORIENTATION_TAG = 274
_KINDS: dict[int, Kind] = {
    3: "palette", 2: "rgb", 5: "cmyk", 6: "ycbcr", 8: "lab", 9: "icclab", 10: "icclab",
}  # fmt: skip
"""TIFF's photometric interpretations; all others are grey."""
_JPEG_IN_TIFF = (6, 7, 33007, 34892)
_MM = {
    "mm": 1.0, "millimeter": 1.0, "millimeters": 1.0, "millimetre": 1.0, "millimetres": 1.0,
    "cm": 10.0, "centimeter": 10.0, "centimeters": 10.0, "centimetre": 10.0, "centimetres": 10.0,
    "m": 1000.0, "um": 1e-3, "\u00b5m": 1e-3, "\u03bcm": 1e-3, "micron": 1e-3, "microns": 1e-3,
    "micrometer": 1e-3, "micrometre": 1e-3, "nm": 1e-6,
}  # fmt: skip
"""Units of length in millimetres. An inch is none: it comes from a printer's resolution."""
_SILENT = logging.NullHandler()
_MAX_CHANNELS = 8
_PRINTED_PER_INCH = (72, 96, 100, 120, 144, 150, 200, 240, 300, 360, 400, 600, 720, 1200)


class TiffFrames(Frames):
    """The pages of a TIFF.

    Raises:
        ImageReadError: it is damaged, or its first page is too large.
    """

    def __init__(self, path: Path) -> None:
        with read_errors(path):
            self._tiff = _open_tiff(path)
            try:
                pages = list(islice(self._tiff.pages, MAX_FRAMES + 1))
                check_count(path, len(pages))
                # Pyramids and previews repeat the picture, smaller.
                self._pages = [p for p in pages if not (p.is_reduced or p.is_mask)] or pages
                first = self._pages[0]
                check_size(path, first.imagelength, first.imagewidth)
                sizes = [_upright_size(page) for page in self._pages]
            except BaseException:
                self._tiff.close()
                raise
        spacing = None
        with suppress(Exception):  # whatever its metadata are, its pixels can be read
            spacing = _spacing(self._tiff, _tiff_orientation(first) in TURNED)
        super().__init__(path, sizes, FileAbout("TIFF", spacing))

    def _stored(self, index: int) -> Stored:
        page = self._pages[index]
        check_size(self.path, page.imagelength, page.imagewidth)
        _check_tiff(self.path, page)
        if page.is_subsampled and page.compression not in _JPEG_IN_TIFF:
            return _subsampled(self.path, page)
        return _stored_tiff(self.path, page)

    def close(self) -> None:
        """Close the file."""
        self._tiff.close()


def _upright_size(page: Any) -> tuple[int, int]:
    height, width = int(page.imagelength), int(page.imagewidth)
    return (width, height) if _tiff_orientation(page) in TURNED else (height, width)


def _open_tiff(path: Path) -> Any:
    import tifffile

    logging.getLogger("tifffile").addHandler(_SILENT)  # (once) what matters is raised
    return tifffile.TiffFile(path)


def _tiff_orientation(page: Any) -> int:
    tag = page.tags.get(_ORIENTATION_TAG)
    return 1 if tag is None else orientation_of(tag.value)


def _check_tiff(path: Path, page: Any) -> None:
    """Refuse what cannot be decoded here, by what it is, and what is cut off.

    Raises:
        ImageReadError: it is that.
    """
    import tifffile

    if page.compression != 1 and page.compression not in tifffile.TIFF.DECOMPRESSORS:
        name = getattr(page.compression, "name", "an unknown one")
        number = int(page.compression)
        raise unsupported(path, f"its compression, {name} ({number}), is not supported")
    known = page.predictor in tifffile.TIFF.UNPREDICTORS and page.bitspersample != 1
    if page.predictor != 1 and not known:
        raise unsupported(
            path, f"predictor {int(page.predictor)} for {page.bitspersample} bits is not supported"
        )
    if page.dtype is None or page.dtype.kind == "c":
        form = getattr(page.sampleformat, "name", page.sampleformat)
        raise unsupported(path, f"values of {page.bitspersample} bits ({form}) are not supported")
    if page.samplesperpixel > _MAX_CHANNELS:
        raise unsupported(path, f"{page.samplesperpixel} channels are not supported")
    check_bytes(
        path, page.imagelength * page.imagewidth * page.samplesperpixel * page.dtype.itemsize
    )
    if page.imagedepth > 1:
        raise unsupported(path, f"a volume of {page.imagedepth} slices in one page")
    if page.compression in _JPEG_IN_TIFF:  # its decoder would make up what is missing
        ends = zip(page.dataoffsets, page.databytecounts, strict=False)
        if max((start + count for start, count in ends), default=0) > page.parent.filehandle.size:
            raise EOFError("the file ends before its pixels do")


def _stored_tiff(path: Path, page: Any) -> Stored:
    kind = _KINDS.get(int(page.photometric), "grey")
    values = page.asarray()
    if values.size == 0:
        raise EOFError("no pixels")
    if page.axes.startswith("S"):  # channels in separate planes
        values = np.moveaxis(values, 0, -1)
    if kind == "ycbcr" and page.compression in _JPEG_IN_TIFF:
        kind = "rgb"  # the decoder has made it so
    palette = None
    if kind == "palette":
        palette = _tiff_palette(page)
        kind = "grey" if palette is None else kind
    channels = 1 if values.ndim == 2 else values.shape[2]
    if kind == "grey" and channels - len(page.extrasamples) >= 3:
        kind = "rgb"  # three channels that nobody declared as extra ones
    if channels < CHANNELS[kind]:
        raise unsupported(path, f"{channels} channels for {kind} are not supported")
    alpha, premultiplied = _tiff_alpha(page, CHANNELS[kind], channels)
    bits = page.bitspersample
    return Stored(
        values,
        kind,
        _tiff_orientation(page),
        bits if isinstance(bits, int) else 8 * values.dtype.itemsize,
        white_is_zero=int(page.photometric) == 0,
        palette=palette,
        alpha=alpha,
        premultiplied=premultiplied,
        lossy=page.compression in _JPEG_IN_TIFF,
    )


def _tiff_alpha(page: Any, colors: int, channels: int) -> tuple[int | None, bool]:
    """Which channel the tag of extra samples calls opacity, and whether it is multiplied in."""
    extra = page.extrasamples if isinstance(page.extrasamples, tuple) else (page.extrasamples,)
    for number, meaning in enumerate(extra):
        if meaning in (1, 2) and colors + number < channels:
            return colors + number, meaning == 1
    return None, False


def _tiff_palette(page: Any) -> NDArray[np.uint8] | None:
    """(N, 3) uint8; None where the file has none that can be used."""
    colors = page.colormap
    if not isinstance(colors, np.ndarray) or colors.ndim != 2 or len(colors) != 3:
        return None
    deep = colors.max(initial=0) > 255  # some programs write 8 bits into the tag's 16
    return (colors >> 8 if deep else colors).T.astype(np.uint8)


def _subsampled(path: Path, page: Any) -> Stored:
    """Colours at half resolution without JPEG, which libtiff reads and tifffile does not."""
    if page.bitspersample != 8 or page.index != 0:
        raise unsupported(path, "colours at half resolution without JPEG are not supported")
    with Image.open(path, formats=("TIFF",)) as image:  # (it turns a TIFF by itself)
        return Stored(np.asarray(image.convert("RGB")), "rgb")


# What a pixel measures


def _spacing(tiff: Any, turned: bool) -> Spacing | None:
    spacing = _of_imagej(tiff) if tiff.is_imagej else _of_ome(tiff)
    low, high = RANGE_MM
    if spacing is None or not all(low <= size <= high for size in spacing):
        return None
    return spacing[::-1] if turned else spacing


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
