"""Opening of image files by what they hold, whatever their names."""

from __future__ import annotations

import gzip
import os
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from cachetools import LRUCache
from PIL import Image

from ...core.errors import ImageReadError
from . import dicom, tiff, video, volumes
from .frames import UNKNOWN, FileAbout, Frames, Stored, read_errors
from .identity import pseudonym
from .stills import STILL_MAGIC, open_still

READ = "DICOM, PNG, JPEG, BMP, TIFF, GIF, WebP, videos, NIfTI, MetaImage, NRRD and ZIP of these"
"""What is read, for messages."""
STILL_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".gif", ".apng",
)  # fmt: skip
VOLUME_SUFFIXES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr")
DICOM_SUFFIXES = (".dcm", ".dicom", ".dic", ".ima")
_HEAD = 512
T = TypeVar("T")


def open_frames(path: str | Path) -> Frames:
    """Open an image file: its header is read, no pixel is.

    Raises:
        ImageReadError: the file is missing, empty, too large or no such image.
    """
    path = Path(path)
    with read_errors(path):
        head = _head(path)
    if not head:
        raise ImageReadError(path, "the file is empty (0 bytes); copy or export it again")
    if head[:4] in tiff.MAGIC:
        return tiff.TiffFrames(path)
    if dicom.is_dicom(head):
        return dicom.DicomFrames(path)
    kind = volumes.volume_kind(_unpacked(path, head), path)
    if kind is not None:
        return volumes.NiftiFrames(path) if kind == "nifti" else volumes.ItkFrames(path, kind)
    if container := video.container_of(head):
        return video.VideoFrames(path, container)
    try:
        return open_still(path)
    except ImageReadError as error:
        if error.cause == UNKNOWN:
            raise ImageReadError(path, _unknown(path, head)) from None
        raise


def kind_of(path: str | Path) -> str | None:
    """What a file is by its first bytes, as in ``FileAbout.kind``; None where they do not tell.

    An animation is an "image" here: how many frames it has is not looked at.
    """
    path = Path(path)
    try:
        head = _head(path)
    except OSError:
        return None
    if head[:4] in tiff.MAGIC:
        return "TIFF"
    if dicom.is_dicom(head):
        return "DICOM"
    if head and volumes.volume_kind(_unpacked(path, head), path) is not None:
        return "volume"
    if video.container_of(head):
        return "video"
    return "image" if head.startswith(STILL_MAGIC) else None


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)


def _unpacked(path: Path, head: bytes) -> bytes:
    """The first bytes of what is in a file that gzip packed; those of any other as they are."""
    if head[:2] == b"\x1f\x8b":
        with suppress(OSError, EOFError, zlib.error), gzip.open(path) as unpacked:
            return unpacked.read(_HEAD)
    return head


def _unknown(path: Path, head: bytes) -> str:
    """What to say of a file that is none of those that are read."""
    if head[:4] == b"PK\3\4":
        return "a ZIP archive; name it .zip, or unpack it and give the folder"
    if brand := video.picture_of(head):
        return f"a picture of the kind {brand}; save it as PNG or TIFF"
    with suppress(Exception), Image.open(path) as image:
        if image.format not in ("PNG", "JPEG", "BMP", "DIB"):
            return f"a {image.format} file; save it as PNG or TIFF"
    return f"{UNKNOWN}; expected {READ}"


def frame_sizes(path: str | Path) -> list[tuple[int, int]]:
    """(H, W) of each frame, upright, from the file's header only.

    Raises:
        ImageReadError: as for ``open_frames``.
    """
    with open_frames(path) as frames:
        return list(frames.sizes)


def read_stored(path: Path, frame: int | None = None) -> Stored:
    """Decode a file, or one frame of it (None: the first).

    Raises:
        ImageReadError: as for ``open_frames``; or the data are truncated, damaged or stored in a
            way that is not supported, or the file has no such frame.
    """
    with open_frames(path) as frames:
        return frames.stored(frame or 0)


def is_dicom(path: Path) -> bool:
    """Whether a file says of itself that it is DICOM, whatever its name."""
    try:
        return is_dicom_head(_head(path))
    except OSError:
        return False


def is_dicom_head(head: bytes) -> bool:
    """Whether a file that begins so (512 bytes, or all of it) is DICOM."""
    return dicom.is_dicom(head)


def patient_of(path: Path) -> str | None:
    """The pseudonym of the patient of a file; None where it is not DICOM, or does not tell."""
    if is_dicom(path):
        with suppress(ImageReadError):
            return dicom.identity_of(path)[0]
    return None


def hidden_name(path: Path) -> str | None:
    """A hash for a file whose path repeats who the patient is; None for any other.

    It stands for the file wherever its name would be stored or exported. A DICOM file whose header
    cannot be read may repeat anything.
    """
    if not is_dicom(path):
        return None
    with suppress(ImageReadError):
        if not dicom.identity_of(path)[1]:
            return None
    return pseudonym(str(path.parent.resolve() / path.name), "image")


def instance_of(path: Path) -> str:
    """The SOP instance UID of a file, never to be shown or kept; "" where it has none."""
    if is_dicom(path):
        with suppress(ImageReadError):
            return dicom.instance_of(path)
    return ""


def repeats_identity(path: Path, text: str) -> bool:
    """Whether a text, such as a folder's name, repeats who the patient of a DICOM file is.

    Of a DICOM file whose header cannot be read anything may.
    """
    if not is_dicom(path):
        return False
    with suppress(ImageReadError):
        return dicom.repeats_identity(path, text)
    return True


def image_stem(path: Path) -> str:
    """What an image is called: its ``plain_stem``, or its ``hidden_name``."""
    return hidden_name(path) or plain_stem(path)


def plain_stem(path: Path) -> str:
    """A file's name without a known suffix."""
    name = path.name.lower()
    for suffix in (*VOLUME_SUFFIXES, *STILL_SUFFIXES, *DICOM_SUFFIXES, *VIDEO_SUFFIXES):
        if name.endswith(suffix) and len(name) > len(suffix):
            return path.name[: -len(suffix)]
    known = path.suffix[1:].isalpha()  # else a part of a number
    return path.stem if known else path.name


class OpenFiles:
    """Files that were read from last, kept open, so that the next frame of a loop is near.

    Any thread may use it; one at a time reads.

    Args:
        count: how many files at most.
    """

    def __init__(self, count: int = 4) -> None:
        self._files: _Closing = _Closing(count)
        self._lock = threading.RLock()

    def stored(self, path: Path, frame: int | None = None) -> Stored:
        """As ``read_stored``; a file that changed meanwhile is opened anew.

        Raises:
            ImageReadError: as for ``read_stored``.
        """
        return self.use(path, lambda frames: frames.stored(frame or 0))

    def use(self, path: Path, does: Callable[[Frames], T]) -> T:
        """Do something with an open file, alone.

        Raises:
            ImageReadError: as for ``open_frames``; and what ``does`` raises.
        """
        with self._lock:
            return does(self._opened(path))

    def about(self, path: Path) -> FileAbout:
        """What a file says of itself beside its pixels.

        Raises:
            ImageReadError: as for ``open_frames``.
        """
        return self.use(path, lambda frames: frames.about)

    def _opened(self, path: Path) -> Frames:
        try:
            status = os.stat(path)
            key = (str(path), status.st_size, status.st_mtime_ns)
        except OSError:
            return open_frames(path)  # which says what is wrong
        if key not in self._files:
            self._files[key] = open_frames(path)
        return self._files[key]

    def close(self) -> None:
        """Close all files."""
        with self._lock:
            while self._files:
                self._files.popitem()


class _Closing(LRUCache[tuple[str, int, int], Frames]):
    def popitem(self) -> tuple[tuple[str, int, int], Frames]:
        key, frames = super().popitem()
        frames.close()
        return key, frames
