"""Stills and animations: PNG, JPEG, BMP, GIF, WebP and APNG, read by Pillow.

What Pillow would cut to 8 bits or cannot read (PNGs of 16 bits in colour, JPEGs of 12 bits or
without loss) imagecodecs reads.
"""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from .frames import (
    MAX_FRAMES,
    TURNED,
    FileAbout,
    Frames,
    Kind,
    SameSize,
    Stored,
    check_size,
    orientation_of,
    read_errors,
)

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_JPEG_MAGIC = b"\xff\xd8\xff"
STILL_MAGIC = (_PNG_MAGIC, _JPEG_MAGIC, b"BM", b"GIF8", b"RIFF")
"""How the files begin that are read here; RIFF is WebP's container, and AVI's."""
_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "GIF", "WEBP")
_ANIMATED = ("GIF", "WEBP")
_ORIENTATION_TAG = 274
_PLAIN_MODES = ("1", "L", "LA", "RGB", "RGBA", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_DEEP_PNG_TYPES = (2, 4, 6)
"""Colour types of PNG (RGB, grey or RGB with alpha) that Pillow cuts to 8 bits if they have 16."""
_PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")


def open_still(path: Path) -> Frames:
    """Open an image or an animation.

    Raises:
        ImageReadError: it is damaged, too large, or none of the formats.
    """
    with read_errors(path):
        try:
            image = _open_pillow(path)
        except UnidentifiedImageError:
            height, width = _size_of_deep_jpeg(path, path.read_bytes())
            check_size(path, height, width)
            return StillFrames(path, [(height, width)], FileAbout("image"))
        try:
            check_size(path, image.height, image.width)
            count = _count(path, image)
            if image.format in _ANIMATED or count > 1:
                return AnimatedFrames(path, image, count)
            size = image.height, image.width
            size = size[::-1] if _pillow_orientation(image) in TURNED else size
        except BaseException:
            image.close()
            raise
        image.close()
        return StillFrames(path, [size], FileAbout("image"))


class StillFrames(Frames):
    """The one frame of an image."""

    def _stored(self, index: int) -> Stored:
        return _read_pillow(self.path)


class AnimatedFrames(Frames):
    """The frames of an animation, as they are shown one after the other."""

    def __init__(self, path: Path, image: Image.Image, count: int) -> None:
        self._image = image
        milliseconds = image.info.get("duration") or 0
        rate = 1000 / milliseconds if count > 1 and milliseconds > 0 else None
        sizes = SameSize((image.height, image.width), count)
        super().__init__(path, sizes, FileAbout("image" if count == 1 else "video", rate=rate))

    def _stored(self, index: int) -> Stored:
        if self._image.format == "PNG" and index < self._image.tell():
            self._image.close()
            self._image = _open_pillow(self.path)  # it cannot go back otherwise
        self._image.seek(index)
        see_through = "A" in self._image.mode or "transparency" in self._image.info
        mode = "RGBA" if see_through else "L" if self._image.mode == "L" else "RGB"
        return _with_alpha(np.asarray(self._image.convert(mode)), 1, 8, lossy=True)

    def close(self) -> None:
        """Close the file."""
        self._image.close()


def _count(path: Path, image: Image.Image) -> int:
    """How many frames there are, whatever the header says; a damaged end costs those behind it."""
    with suppress(Exception):
        image.load()  # which tells the time of a frame
    if image.format == "PNG":
        return _count_png(path) if getattr(image, "is_animated", False) else 1
    if image.format == "GIF":
        return _count_gif(path)
    return int(getattr(image, "n_frames", 1))


def _count_png(path: Path) -> int:
    """How many frames an APNG holds: its chunks of frame control."""
    count, still_alone = 0, False
    with path.open("rb") as file:
        file.seek(len(_PNG_MAGIC))
        while len(chunk := file.read(8)) == 8 and count <= MAX_FRAMES:
            count += chunk[4:] == b"fcTL"
            still_alone |= chunk[4:] == b"IDAT" and count == 0
            file.seek(int.from_bytes(chunk[:4], "big") + 4, 1)
    return count + still_alone if count else 1


def _count_gif(path: Path) -> int:
    """How many frames a GIF holds: its image blocks (GIF89a, appendix B)."""

    def skip_blocks() -> None:
        while length := file.read(1)[:1].strip(b"\0"):
            file.seek(length[0], 1)

    def skip_colors(flags: int) -> None:
        if flags & 0x80:
            file.seek(3 << ((flags & 7) + 1), 1)

    count = 0
    with path.open("rb") as file:
        skip_colors(file.read(13)[10])
        # Pillow counts by decoding each frame, and stops with an error at a damaged one.
        while (kind := file.read(1)) in (b"\x21", b"\x2c") and count <= MAX_FRAMES:
            if kind == b"\x2c":
                place = file.read(9)
                if len(place) < 9:
                    break
                count += 1
                skip_colors(place[8])
            file.seek(1, 1)  # label of an extension, or the width of a code
            skip_blocks()
    return max(count, 1)


def _open_pillow(path: Path, plain: bool = False) -> Image.Image:
    """The image, not decoded yet; ``plain`` leaves out the metadata of a PNG.

    Raises:
        UnidentifiedImageError: it is none of the formats.
    """
    if plain:
        # Pillow refuses a PNG for a damaged text chunk, although its pixels are whole.
        return Image.open(BytesIO(_without_metadata(path.read_bytes())), formats=("PNG",))
    try:
        return Image.open(path, formats=_FORMATS)
    except Exception:
        with path.open("rb") as file:
            if file.read(4) != _PNG_MAGIC[:4]:
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
    # A picture with each number once, converted as Pillow would convert the image, gives the
    # palette as Pillow sees it.
    table = Image.fromarray(np.arange(256, dtype=np.uint8)[None]).convert("L")
    table.putpalette(image.getpalette() or [])
    if "transparency" in image.info:
        table.info["transparency"] = image.info["transparency"]
    palette = np.asarray(table.convert(colors.mode))[0]
    return Stored(values, "palette", orientation, 8, palette=palette)


def _pillow_orientation(image: Image.Image) -> int:
    try:
        return orientation_of(image.getexif().get(_ORIENTATION_TAG, 1))
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
