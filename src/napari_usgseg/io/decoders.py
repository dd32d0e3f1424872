"""Decoders of image files: the values that are stored, of images and label maps alike.

TIFF is read by tifffile with imagecodecs; PNG, JPEG and BMP by Pillow, save what Pillow would cut
to 8 bits or cannot read (PNGs of 16 bits in colour, JPEGs of 12 bits or without loss), which
imagecodecs reads. A file's content decides, not its suffix. ``io.images`` makes RGB uint8 of the
values, ``io.masks`` and ``io.labels`` take them as they are.

Whatever goes wrong becomes an ``ImageReadError`` with the file, the cause and the cure: what no
decoder is there for is told apart from what is damaged. Metadata never cost an image: a tag that
makes no sense is passed over.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ..core.errors import ImageReadError

MAX_PIXELS = 89_000_000
"""Larger images are refused before they are decoded (Pillow's own limit; about 9400 x 9400)."""

Kind = Literal["grey", "palette", "rgb", "cmyk", "ycbcr", "lab", "icclab"]
"""What the channels of a file are."""
CHANNELS: dict[Kind, int] = {
    "grey": 1, "palette": 1, "rgb": 3, "cmyk": 4, "ycbcr": 3, "lab": 3, "icclab": 3,
}  # fmt: skip

TURNED = (5, 6, 7, 8)
"""Orientations (EXIF) whose rows are stored as columns."""

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_JPEG_MAGIC = b"\xff\xd8\xff"
_PILLOW_FORMATS = ("PNG", "JPEG", "BMP", "DIB")
_ORIENTATION_TAG = 274
_PLAIN_MODES = ("1", "L", "LA", "RGB", "RGBA", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_KINDS: dict[int, Kind] = {
    3: "palette", 2: "rgb", 5: "cmyk", 6: "ycbcr", 8: "lab", 9: "icclab", 10: "icclab",
}  # fmt: skip
"""TIFF's photometric interpretations; all others are grey."""
_JPEG_IN_TIFF = (6, 7, 33007, 34892)
_DEEP_PNG_TYPES = (2, 4, 6)
"""Colour types of PNG (RGB, grey or RGB with alpha) that Pillow cuts to 8 bits if they have 16."""
_PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_NOT_THERE = ("unsupported", "not supported", "cannot handle", "not available", "not implemented")
_SAVE_PLAIN = "save it as PNG, or as TIFF without compression, of 8 or 16 bits"


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


def frame_sizes(path: str | Path) -> list[tuple[int, int]]:
    """(H, W) of each frame after its orientation, from the file's header only.

    Frames are the pages of a TIFF, without its thumbnails and smaller copies; any other file has
    one.

    Raises:
        ImageReadError: the file is missing, empty, too large or no such image.
    """
    path = Path(path)
    with read_errors(path):
        if _magic(path) in _TIFF_MAGIC:
            with _open_tiff(path) as tiff:
                stored = [
                    (page.imagelength, page.imagewidth, _tiff_orientation(page))
                    for page in _frames(tiff)
                ]
        else:
            stored = [_pillow_header(path)]
        check_size(path, *stored[0][:2])
    return [(w, h) if orientation in TURNED else (h, w) for h, w, orientation in stored]


def read_stored(path: Path, frame: int | None = None) -> Stored:
    """Decode a file, or one frame of it (None: the first).

    Raises:
        ImageReadError: as for ``frame_sizes``; or the data are truncated, damaged or stored in a
            way that is not supported, or the file has no such frame.
    """
    with read_errors(path):
        if _magic(path) in _TIFF_MAGIC:
            return _read_tiff(path, frame or 0)
        if frame not in (None, 0):
            cause = f"no frame {frame}: it has frame 0 only (TIFF can have more)"
            raise ImageReadError(path, cause)
        return _read_pillow(path)


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
        raise ImageReadError(path, _unidentified(path)) from error
    except Image.DecompressionBombError as error:
        raise ImageReadError(path, f"too large to open safely ({error}); reduce it") from error
    except Exception as error:  # decoders raise almost anything
        if isinstance(error, (NotImplementedError, ImportError)) or any(
            word in str(error).lower() for word in _NOT_THERE
        ):
            raise unsupported(path, f"a kind that is not supported ({error})") from error
        raise ImageReadError(
            path, f"truncated or damaged ({type(error).__name__}: {error}); copy or export it again"
        ) from error


def unsupported(path: Path, what: str) -> ImageReadError:
    """The error of a file that may be intact, but that no decoder here reads."""
    return ImageReadError(path, f"{what}; {_SAVE_PLAIN}")


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


def _magic(path: Path) -> bytes:
    with path.open("rb") as file:
        magic = file.read(4)
    if not magic:
        raise ImageReadError(path, "the file is empty (0 bytes); copy or export it again")
    return magic


def _unidentified(path: Path) -> str:
    """What to say of a file that is none of the formats that are read."""
    with path.open("rb") as file:
        head = file.read(132)
    if head[128:] == b"DICM":
        return "a DICOM file; export it as PNG or TIFF"
    with suppress(Exception), Image.open(path) as image:
        if image.format not in _PILLOW_FORMATS:
            return f"a {image.format} file; save it as PNG or TIFF"
    return (
        "not an image of a known format, or its beginning is damaged; "
        "expected PNG, JPEG, BMP or TIFF"
    )


def _orientation(value: Any) -> int:
    """EXIF 1..8 of a tag, whatever its type is; 1 where it says nothing of the kind."""
    if isinstance(value, (tuple, list)):
        value = value[0] if value else 1
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


# PNG, JPEG, BMP


def _pillow_header(path: Path) -> tuple[int, int, int]:
    """(H, W, orientation), of the stored image."""
    try:
        with _open_pillow(path) as image:
            return image.height, image.width, _pillow_orientation(image)
    except UnidentifiedImageError:
        height, width = _size_of_deep_jpeg(path, path.read_bytes())
        return height, width, 1


def _open_pillow(path: Path, plain: bool = False) -> Image.Image:
    """The image, not decoded yet; ``plain`` leaves out the metadata of a PNG.

    Raises:
        UnidentifiedImageError: it is none of the formats.
    """
    if plain:
        return Image.open(BytesIO(_without_metadata(path.read_bytes())), formats=("PNG",))
    try:
        return Image.open(path, formats=_PILLOW_FORMATS)
    except Exception:
        if _magic(path) != _PNG_MAGIC[:4]:
            raise
        return _open_pillow(path, plain=True)


def _without_metadata(data: bytes) -> bytes:
    """A PNG with the chunks that its pixels need, as far as the file goes."""
    kept, place = [data[: len(_PNG_MAGIC)]], len(_PNG_MAGIC)
    while place < len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        if data[place + 4 : place + 8] in _PNG_CHUNKS:
            kept.append(data[place:end])
        place = end
    return b"".join(kept)


def _read_pillow(path: Path) -> Stored:
    try:
        with _open_pillow(path) as image:
            check_size(path, image.height, image.width)
            orientation = _pillow_orientation(image)
            try:
                return _pillow_values(path, image, orientation)
            except Exception:
                if image.format != "PNG":
                    raise
        with _open_pillow(path, plain=True) as image:  # metadata may come after the pixels, too
            return _pillow_values(path, image, orientation)
    except UnidentifiedImageError:
        return _read_deep_jpeg(path)


def _pillow_values(path: Path, image: Image.Image, orientation: int) -> Stored:
    depth = _png_depth(path)
    if depth is not None and depth[0] == 16 and depth[1] in _DEEP_PNG_TYPES:
        return _read_deep_png(path, orientation)
    lossy = image.format == "JPEG"
    if image.mode == "P" and image.palette is not None:
        return _palette_image(image, orientation)
    if image.mode in ("L", "RGB") and "transparency" in image.info:
        image = image.convert("LA" if image.mode == "L" else "RGBA")
    elif image.mode not in _PLAIN_MODES:  # CMYK, YCbCr, a palette with alpha, ...
        image = image.convert("RGBA" if "A" in image.mode else "RGB")
    values = np.asarray(image)
    bits = 1 if values.dtype == np.bool_ else 8 * values.dtype.itemsize
    if depth is not None and depth[0] in (2, 4) and depth[1] == 0 and values.ndim == 2:
        bits = depth[0]  # Pillow has multiplied the values up
        values = values // np.uint8(255 // (2**bits - 1))
    return _with_alpha(values, orientation, bits, lossy)


def _with_alpha(values: NDArray[Any], orientation: int, bits: int, lossy: bool = False) -> Stored:
    """Grey or RGB, whose second or fourth channel is opacity."""
    channels = 1 if values.ndim == 2 else values.shape[2]
    alpha = channels - 1 if channels in (2, 4) else None
    kind: Kind = "grey" if channels <= 2 else "rgb"
    return Stored(values, kind, orientation, bits, alpha=alpha, lossy=lossy)


def _palette_image(image: Image.Image, orientation: int) -> Stored:
    values = np.asarray(image)
    colors = image.convert("RGBA") if "transparency" in image.info else image.convert("RGB")
    table = Image.fromarray(np.arange(256, dtype=np.uint8)[None]).convert("L")
    table.putpalette(image.getpalette() or [])
    if "transparency" in image.info:
        table.info["transparency"] = image.info["transparency"]
    palette = np.asarray(table.convert(colors.mode))[0]
    return Stored(values, "palette", orientation, 8, palette=palette)


def _pillow_orientation(image: Image.Image) -> int:
    try:
        return _orientation(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # a block of metadata that cannot be read says nothing
        return 1


def _png_depth(path: Path) -> tuple[int, int] | None:
    """Bits of a value and colour type of a PNG; None for another file."""
    with path.open("rb") as file:
        head = file.read(26)
    return (head[24], head[25]) if head[:8] == _PNG_MAGIC and len(head) == 26 else None


def _read_deep_png(path: Path, orientation: int) -> Stored:
    from imagecodecs import png_decode

    values = png_decode(_without_metadata(path.read_bytes()))
    return _with_alpha(values, orientation, 16)


def _size_of_deep_jpeg(path: Path, data: bytes) -> tuple[int, int]:
    """(H, W) of a JPEG that Pillow does not know.

    Raises:
        UnidentifiedImageError: it is no JPEG.
    """
    from tifffile.tifffile import jpeg_shape

    if not data.startswith(_JPEG_MAGIC):
        raise UnidentifiedImageError(path)
    try:
        _, height, width, _ = jpeg_shape(data)
    except Exception as error:
        raise UnidentifiedImageError(path) from error
    return height, width


def _read_deep_jpeg(path: Path) -> Stored:
    """A JPEG of 12 bits, or without loss, and whatever else Pillow does not know."""
    from imagecodecs import jpeg_decode

    data = path.read_bytes()
    check_size(path, *_size_of_deep_jpeg(path, data))
    if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):  # its decoder would make up the rest
        raise EOFError("the JPEG has no end")
    values = jpeg_decode(data)
    return _with_alpha(values, 1, 8 * values.dtype.itemsize, lossy=True)


# TIFF


def _open_tiff(path: Path) -> Any:
    import tifffile

    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what matters is raised
    return tifffile.TiffFile(path)


def _frames(tiff: Any) -> list[Any]:
    """The pages that are images: no thumbnails, smaller copies or masks of transparency."""
    pages = list(tiff.pages)
    return [page for page in pages if not (page.is_reduced or page.is_mask)] or pages


def _tiff_orientation(page: Any) -> int:
    tag = page.tags.get(_ORIENTATION_TAG)
    return 1 if tag is None else _orientation(tag.value)


def _read_tiff(path: Path, frame: int) -> Stored:
    with _open_tiff(path) as tiff:
        frames = _frames(tiff)
        if not 0 <= frame < len(frames):
            raise ImageReadError(path, f"no frame {frame}: it has frames 0 to {len(frames) - 1}")
        page = frames[frame]
        check_size(path, page.imagelength, page.imagewidth)
        _check_tiff(path, page)
        if page.is_subsampled and page.compression not in _JPEG_IN_TIFF:
            return _subsampled(path, page)
        return _stored_tiff(path, page)


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
