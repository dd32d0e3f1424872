"""From an image file to the values that are stored in it; ``io.images`` makes them RGB uint8.

TIFF is read by tifffile, or by Pillow where its compression needs a codec that tifffile lacks; PNG,
JPEG and BMP by Pillow, save the PNGs that it would cut to 8 bits (``io.png16``). A file's content
decides, not its suffix. Whatever goes wrong in a decoder becomes an ``ImageReadError`` with the
file, the cause and the cure.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ..errors import ImageReadError
from .png16 import is_deep_color_png, read_deep_color_png

MAX_PIXELS = 89_000_000
"""Larger images are refused before they are decoded (Pillow's own limit; about 9400 x 9400)."""

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PILLOW_FORMATS = ("PNG", "JPEG", "BMP", "DIB")
_ORIENTATION_TAG = 274
_PLAIN_MODES = ("1", "L", "LA", "RGB", "RGBA", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")
# None, deflate (two numbers) and PackBits are what tifffile decodes by itself; the three
# photometric interpretations are CMYK, YCbCr and CIE Lab.
_TIFFFILE_COMPRESSIONS = (1, 8, 32946, 32773)
_CONVERTED_PHOTOMETRICS = (5, 6, 8)


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself; ``height`` and ``width`` are of the stored, unturned image."""

    height: int
    width: int
    orientation: int
    frames: int


def read_header(path: Path) -> Header:
    """Size, orientation (EXIF 1..8) and number of frames, without decoding the pixels.

    Raises:
        ImageReadError: the file is missing, empty, too large or no such image.
    """
    with read_errors(path):
        if _is_tiff(path):
            with _open_tiff(path) as tiff:
                page = tiff.pages[0]
                header = Header(
                    page.imagelength, page.imagewidth, _tiff_orientation(page), len(tiff.pages)
                )
        else:
            with Image.open(path, formats=_PILLOW_FORMATS) as image:
                header = Header(image.height, image.width, _pillow_orientation(image), 1)
        check_size(path, header.height, header.width)
        return header


def read_pixels(path: Path, frame: int | None) -> tuple[NDArray[Any], int]:
    """The stored values as (H, W) or (H, W, C), and the orientation (EXIF 1..8) to turn them by.

    Raises:
        ImageReadError: as for ``read_header``; or the data are truncated or damaged, or the file
            has no such frame.
    """
    with read_errors(path):
        return _read_tiff(path, frame or 0) if _is_tiff(path) else _read_pillow(path, frame or 0)


@contextmanager
def read_errors(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while a file is read into an ``ImageReadError`` that names it."""
    try:
        yield
    except ImageReadError:
        raise
    except FileNotFoundError as error:
        raise ImageReadError(path, "no such file; check the path") from error
    except IsADirectoryError as error:
        raise ImageReadError(path, "is a folder; give an image file") from error
    except PermissionError as error:
        raise ImageReadError(path, "may not be read; change its permissions") from error
    except UnidentifiedImageError as error:
        if _is_dicom(path):
            raise ImageReadError(path, "a DICOM file; export it as PNG or TIFF") from error
        raise ImageReadError(
            path,
            "not an image of a known format, or its beginning is damaged; "
            "expected PNG, JPEG, BMP or TIFF",
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageReadError(path, f"too large to open safely ({error}); reduce it") from error
    except Exception as error:  # decoders raise almost anything on damaged files
        raise ImageReadError(
            path, f"truncated or damaged ({type(error).__name__}: {error}); copy or export it again"
        ) from error


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _is_tiff(path: Path) -> bool:
    with path.open("rb") as file:
        magic = file.read(4)
    if not magic:
        raise ImageReadError(path, "the file is empty (0 bytes); copy or export it again")
    return magic in _TIFF_MAGIC


def check_size(path: Path, height: int, width: int) -> None:
    """Refuse an image of no pixels, or of too many to be decoded safely.

    Raises:
        ImageReadError: it is one.
    """
    if height < 1 or width < 1:
        raise ImageReadError(path, f"has no pixels ({height} x {width}); export it again")
    if height * width > MAX_PIXELS:
        raise ImageReadError(
            path,
            f"{height} x {width} pixels are more than the {MAX_PIXELS:,} that are opened; "
            "reduce or crop it",
        )


def _read_pillow(path: Path, frame: int) -> tuple[NDArray[Any], int]:
    if frame != 0:
        raise ImageReadError(path, f"no frame {frame}: it has frame 0 only (TIFF can have more)")
    with Image.open(path, formats=_PILLOW_FORMATS) as image:
        check_size(path, image.height, image.width)
        if is_deep_color_png(path):
            return read_deep_color_png(path), _pillow_orientation(image)
        return _pillow_values(image), _pillow_orientation(image)


def _pillow_values(image: Image.Image) -> NDArray[Any]:
    if image.mode in ("P", "L", "RGB") and "transparency" in image.info:
        return np.asarray(image.convert("RGBA"))
    if image.mode not in _PLAIN_MODES:  # palette, CMYK, YCbCr, ...
        return np.asarray(image.convert("RGBA" if "A" in image.mode else "RGB"))
    return np.asarray(image)


def _pillow_orientation(image: Image.Image) -> int:
    return int(image.getexif().get(_ORIENTATION_TAG, 1))


def _open_tiff(path: Path) -> Any:
    import tifffile

    return tifffile.TiffFile(path)


def _tiff_orientation(page: Any) -> int:
    tag = page.tags.get(_ORIENTATION_TAG)
    return 1 if tag is None else int(tag.value)


def _read_tiff(path: Path, frame: int) -> tuple[NDArray[Any], int]:
    with _open_tiff(path) as tiff:
        count = len(tiff.pages)
        if not 0 <= frame < count:
            raise ImageReadError(path, f"no frame {frame}: it has frames 0 to {count - 1}")
        page = tiff.pages[frame]
        check_size(path, page.imagelength, page.imagewidth)
        if (
            page.compression in _TIFFFILE_COMPRESSIONS
            and page.photometric not in _CONVERTED_PHOTOMETRICS
        ):
            return _tiff_values(page), _tiff_orientation(page)
    with Image.open(path, formats=("TIFF",)) as image:
        image.seek(frame)
        return _pillow_values(image), 1  # Pillow has turned a TIFF already


def _tiff_values(page: Any) -> NDArray[Any]:
    import tifffile

    array = page.asarray()
    if page.axes.startswith("S"):  # colours in separate planes
        array = np.moveaxis(array, 0, -1)
    bits = page.bitspersample
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
        return np.moveaxis((page.colormap[:, array] >> 8).astype(np.uint8), 0, -1)
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        array = ~array if array.dtype.kind == "b" else _inverted(array, bits)
    if array.dtype == np.uint8 and bits in (2, 4):
        return array * np.uint8(255 // (2**bits - 1))
    return array


def _inverted(array: NDArray[Any], bits: int) -> NDArray[Any]:
    if array.dtype.kind == "u":
        return array.dtype.type(2**bits - 1) - array
    return ~array if array.dtype.kind == "i" else -array
