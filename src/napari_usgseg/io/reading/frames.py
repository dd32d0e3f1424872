"""Frames of an image file: what every reader gives, and how what goes wrong is told.

A file of any kind is opened as ``Frames``: the header is read, no pixel is. ``frame(i)`` then
decodes one frame exactly as the usual reader of its kind does (pydicom, PyAV, nibabel, SimpleITK,
tifffile, Pillow), upright, in memory that does not grow with the length of the loop; ``stored(i)``
gives what is to be shown, of which ``io.images`` makes RGB uint8.

Whatever goes wrong becomes an ``ImageReadError`` with the file, the cause and the cure: what no
decoder is there for is told apart from what is damaged. A frame that is broken is no reason against
the others. Metadata never cost an image: a tag that makes no sense is passed over.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ...core.errors import ImageReadError, readable
from ...core.types import Region

MAX_PIXELS = 89_000_000
"""Larger images are refused before they are decoded (Pillow's own limit; about 9400 x 9400)."""

MAX_FRAMES = 200_000
"""Files of more frames are refused: more than an hour of any loop, and each has its own label."""
MAX_BYTES = 1_100_000_000
"""A frame that would be larger when it is decoded is refused: eight channels of 16 bits at most."""

Kind = Literal["grey", "palette", "rgb", "cmyk", "ycbcr", "lab", "icclab"]
"""What the channels of a file are."""
CHANNELS: dict[Kind, int] = {
    "grey": 1, "palette": 1, "rgb": 3, "cmyk": 4, "ycbcr": 3, "lab": 3, "icclab": 3,
}  # fmt: skip

TURNED = (5, 6, 7, 8)
"""Orientations (EXIF) whose rows are stored as columns."""
_LONGEST = 200
"""Signs of a decoder's own words in a message."""
_NOT_THERE = ("unsupported", "not supported", "cannot handle", "not available", "not implemented")
UNKNOWN = "not an image of a known format, or its beginning is damaged"
SAVE_PLAIN = "save it as PNG, or as TIFF without compression, of 8 or 16 bits"

Spacing = tuple[float, float]
"""Millimetres per pixel (row, column)."""
RANGE_MM = (1e-4, 10.0)
"""What a pixel of an ultrasound image can be: from acoustic microscopes to small overviews."""


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """The values of a file as they are stored, and what they mean.

    Attributes:
        values: (H, W) or (H, W, C), not turned upright; a bit is a bool.
        kind: what the first channels are.
        orientation: EXIF 1..8, to turn them by (``upright``).
        bits: of a value.
        white_is_zero: whether 0 is the brightest grey.
        palette: (N, 3) or (N, 4) uint8, for "palette".
        alpha: which channel is opacity, None where none is.
        premultiplied: whether the colours have been multiplied by it already.
        lossy: whether the values may differ from those that were saved (JPEG).
    """

    values: NDArray[Any]
    kind: Kind
    orientation: int = 1
    bits: int = 8
    white_is_zero: bool = False
    palette: NDArray[np.uint8] | None = None
    alpha: int | None = None
    premultiplied: bool = False
    lossy: bool = False


@dataclass(frozen=True, slots=True)
class FileAbout:
    """Metadata of a file, beside its pixels; nothing here tells who the patient is.

    Attributes:
        kind: "DICOM", "video", "volume", "TIFF" or "image".
        spacing_mm: (row, column) of the upright frames; None where it is not known, or where the
            regions of tissue differ.
        regions: of the picture, as the scanner wrote them; () where it says nothing.
        rate: frames per second, or None.
        group: the patient under a pseudonym, so that no split tears one apart; None where the file
            does not tell.
        scanner: manufacturer and model, or "" where they are not said or repeat who the patient is.
        depth_mm: how deep the scanner was set to look, or None.
        repeats_identity: whether the file's path repeats a value that identifies the patient.
    """

    kind: str
    spacing_mm: Spacing | None = None
    regions: tuple[Region, ...] = ()
    rate: float | None = None
    group: str | None = None
    scanner: str = ""
    depth_mm: float | None = None
    repeats_identity: bool = False


class SameSize(Sequence[tuple[int, int]]):
    """(H, W) of each of many frames of one size."""

    def __init__(self, size_hw: tuple[int, int], count: int) -> None:
        self._size, self._numbers = size_hw, range(count)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: Any) -> Any:
        chosen = self._numbers[index]
        return self._size if isinstance(chosen, int) else [self._size] * len(chosen)


class Frames(ABC):
    """An open file of one frame or many; a context manager.

    One thread at a time may ask it for frames.

    Args:
        path: of the file.
        sizes: (H, W) of each frame, upright.
        about: what else the file says.

    Raises:
        ImageReadError: it has too many frames (``check_count``, which a reader calls earlier where
            it counts them one by one).
    """

    cure = SAVE_PLAIN
    """What to do with a file of this kind that no decoder here reads."""

    def __init__(self, path: Path, sizes: Sequence[tuple[int, int]], about: FileAbout) -> None:
        check_count(path, len(sizes))
        self.path = path
        self.sizes = sizes
        self.about = about

    def __len__(self) -> int:
        return len(self.sizes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def frame(self, index: int) -> NDArray[Any]:
        """Decode a frame: (H, W) grey or (H, W, 3) RGB as stored, upright, of the file's own type.

        Raises:
            ImageReadError: there is no such frame, or it is damaged; the others can be read.
        """
        stored = self.stored(index)
        with read_errors(self.path, self.cure):
            color, _ = color_channels(self.path, stored)
            color = color[..., 0] if color.shape[2] == 1 else color
            return np.ascontiguousarray(upright(color, stored.orientation))

    def stored(self, index: int) -> Stored:
        """The values of a frame as they are to be shown, and what they mean.

        Raises:
            ImageReadError: as for ``frame``.
        """
        self._check(index)
        with read_errors(self.path, self.cure):
            return self._stored(index)

    def _check(self, index: int) -> None:
        if not 0 <= index < len(self):
            cause = f"no frame {index}: it has frames 0 to {len(self) - 1}"
            raise ImageReadError(self.path, cause)

    @abstractmethod
    def _stored(self, index: int) -> Stored:
        """Decode a frame that is there; whatever it raises is made an ``ImageReadError``."""

    def close(self) -> None:  # noqa: B027 (some open the file for each frame)
        """Let go of the file; nothing can be read afterwards."""


def upright(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Apply an EXIF orientation 1..8 to (H, W, ...); anything else is taken as 1."""
    if orientation in TURNED:
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array


@contextmanager
def read_errors(path: Path, cure: str = SAVE_PLAIN) -> Iterator[None]:
    """Turn whatever goes wrong while a file is read into an ``ImageReadError`` that names it.

    Args:
        path: of the file.
        cure: for one that no decoder here reads.
    """
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
        raise ImageReadError(path, UNKNOWN) from error
    except Image.DecompressionBombError as error:
        raise ImageReadError(path, f"too large to open safely ({error}); reduce it") from error
    except MemoryError as error:
        raise ImageReadError(path, "asks for more memory than there is; reduce it") from error
    except Exception as error:  # decoders raise almost anything
        said = words_of(error, path)
        if isinstance(error, (NotImplementedError, ImportError)) or any(
            word in said.lower() for word in _NOT_THERE
        ):
            raise unsupported(path, f"a kind that is not supported ({said})", cure) from error
        raise ImageReadError(
            path, f"truncated or damaged ({said}); copy or export it again"
        ) from error


def words_of(error: Exception, path: Path) -> str:
    """What an exception says, short and on one line, without the path of the file.

    A message may be kept or sent where a path that tells who the patient is must not be.
    """
    if isinstance(error, OSError) and error.strerror:
        return readable(error.strerror)
    text = str(error)
    for name in (str(path.absolute()), str(path), path.name):
        # The longest first, or the name would be cut out of the path.
        text = text.replace(name, "the file")
    text = readable(" ".join(text.split()))
    kind = type(error).__name__
    return f"{kind}: {text[:_LONGEST]}" if text else kind


def unsupported(path: Path, what: str, cure: str = SAVE_PLAIN) -> ImageReadError:
    """The error of a file that may be intact, but that no decoder here reads."""
    return ImageReadError(path, f"{what}; {cure}")


def check_count(path: Path, count: int) -> None:
    """Refuse a file of too many frames.

    Raises:
        ImageReadError: it is one.
    """
    if count > MAX_FRAMES:
        raise ImageReadError(
            path, f"has more than the {MAX_FRAMES:,} frames that are opened; cut it into parts"
        )


def check_bytes(path: Path, wanted: int) -> None:
    """Refuse a frame that needs too many bytes when it is decoded.

    Raises:
        ImageReadError: it is one.
    """
    if wanted > MAX_BYTES:
        raise ImageReadError(
            path,
            f"one frame of {wanted:,} bytes is more than the {MAX_BYTES:,} that are opened; reduce "
            "or crop it",
        )


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


def orientation_of(value: Any) -> int:
    """EXIF 1..8 of a tag, whatever its type is; 1 where it says nothing of the kind."""
    if isinstance(value, (tuple, list)):
        value = value[0] if value else 1
    # EXIF of some cameras and DICOM exports has the tag as bytes or text instead of a short.
    if isinstance(value, bytes):
        value = value.strip(b"\0 ")
        value = value[0] if len(value) == 1 and value[0] < 9 else value.decode("latin-1")
    try:
        number = int(value)
    except (TypeError, ValueError, ArithmeticError):
        return 1
    return number if 1 <= number <= 8 else 1


# From what is stored to grey or RGB


def color_channels(path: Path, stored: Stored) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Grey (H, W, 1) or RGB (H, W, 3) of a file, not turned upright; and its alpha (H, W) or None.

    Bits below 8 are multiplied up to uint8; deeper values stay what they are. Alpha that the
    colours have been multiplied by already is None, for over black nothing is left to do.

    Raises:
        ImageReadError: the values are of a kind that cannot be converted.
    """
    values = stored.values if stored.values.ndim == 3 else stored.values[..., None]
    alpha = None
    if stored.alpha is not None and not stored.premultiplied:
        alpha = _spread(values[..., stored.alpha], stored.bits)
    color = values[..., : CHANNELS[stored.kind]]
    if stored.palette is not None:
        table = stored.palette
        looked_up = table[np.clip(color[..., 0].astype(np.int64), 0, len(table) - 1)]
        if looked_up.shape[2] == 4 and alpha is None:
            alpha = looked_up[..., 3]
        return looked_up[..., :3], alpha
    if stored.white_is_zero:
        color = _turned(color, stored.bits)
    color = _spread(color, stored.bits)
    if stored.kind in ("grey", "rgb"):
        return color, alpha
    if color.dtype not in (np.uint8, np.uint16):
        raise unsupported(path, f"{stored.kind} colours of type {color.dtype} are not supported")
    if stored.kind == "cmyk":
        return _from_cmyk(color), alpha
    if stored.kind == "ycbcr":
        return _from_ycbcr(color), alpha
    return _from_lab(color, signed=stored.kind == "lab"), alpha


def _spread(values: NDArray[Any], bits: int) -> NDArray[Any]:
    """Values of 2 to 7 bits over 0..255."""
    if values.dtype != np.uint8 or not 2 <= bits <= 7:
        return values
    return np.rint(values * (255 / (2**bits - 1))).astype(np.uint8)


def _turned(values: NDArray[Any], bits: int) -> NDArray[Any]:
    if values.dtype.kind == "u":
        return values.dtype.type(2**bits - 1) - values
    return -values if values.dtype.kind == "f" else ~values


def _from_cmyk(values: NDArray[Any]) -> NDArray[Any]:
    full = float(np.iinfo(values.dtype).max)
    # Plain inversion, as Pillow does it; a colour profile is not followed.
    light = 1 - values.astype(np.float32) / full
    return np.rint(light[..., :3] * light[..., 3:] * full).astype(values.dtype)


def _from_ycbcr(values: NDArray[Any]) -> NDArray[Any]:
    """By ITU-R BT.601 over the full range, as JPEG has it and TIFF where nothing else is said."""
    full = float(np.iinfo(values.dtype).max)
    luma = values[..., 0].astype(np.float32)
    blue, red = (values[..., c].astype(np.float32) - (full + 1) / 2 for c in (1, 2))
    rgb = (luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue)
    return np.rint(np.clip(np.stack(rgb, -1), 0, full)).astype(values.dtype)


def _from_lab(values: NDArray[Any], signed: bool) -> NDArray[np.uint8]:
    """CIE L*a*b* to sRGB; white is white, whatever the illuminant of the file was."""
    from skimage.color import lab2rgb

    deep = values.dtype == np.uint16
    light = values[..., 0].astype(np.float32) * (100 / np.iinfo(values.dtype).max)
    chroma = values[..., 1:]
    if signed:
        chroma = chroma.view(np.int16 if deep else np.int8).astype(np.float32)
    else:
        chroma = chroma.astype(np.float32) - (32768 if deep else 128)
    lab = np.concatenate([light[..., None], chroma / (256 if deep else 1)], axis=-1)
    return np.rint(lab2rgb(lab) * 255).astype(np.uint8)
