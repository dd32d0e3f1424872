"""Opening of image files by what they hold, whatever their names."""

from __future__ import annotations

import gzip
import os
import threading
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
from .stills import open_still

READ = "DICOM, PNG, JPEG, BMP, TIFF, GIF, WebP, videos, NIfTI, MetaImage and NRRD"
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
    with read_errors(path), path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        raise ImageReadError(path, "the file is empty (0 bytes); copy or export it again")
    if head[:4] in tiff.MAGIC:
        return tiff.TiffFrames(path)
    if dicom.is_dicom(head):
        return dicom.DicomFrames(path)
    if head[:2] == b"\x1f\x8b":
        with suppress(OSError, EOFError), gzip.open(path) as unpacked:
            head = unpacked.read(_HEAD)
    kind = volumes.volume_kind(head, path)
    if kind is not None:
        return volumes.NiftiFrames(path) if kind == "nifti" else volumes.ItkFrames(path)
    if container := video.container_of(head):
        return video.VideoFrames(path, container)
    try:
        return open_still(path)
    except ImageReadError as error:
        if error.cause == UNKNOWN:
            raise ImageReadError(path, _unknown(path)) from None
        raise


def _unknown(path: Path) -> str:
    """What to say of a file that is none of those that are read."""
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
        with path.open("rb") as file:
            return dicom.is_dicom(file.read(_HEAD))
    except OSError:
        return False


def about_file(path: Path) -> FileAbout | None:
    """What a file says of itself; None where it cannot be read."""
    with suppress(ImageReadError), open_frames(path) as frames:
        return frames.about
    return None


def patient_of(path: Path) -> str | None:
    """The pseudonym of the patient of a file; None where it is not DICOM, or does not tell."""
    if path.suffix.lower() in STILL_SUFFIXES or not is_dicom(path):
        return None
    about = about_file(path)
    return None if about is None else about.group


def hidden_name(path: Path) -> str | None:
    """A hash for a file whose path repeats who the patient is; None for any other.

    It stands for the file wherever its name would be stored or exported.
    """
    if path.suffix.lower() in STILL_SUFFIXES or not is_dicom(path):
        return None
    about = about_file(path)
    if about is None or not about.repeats_identity:
        return None
    return pseudonym(str(path.parent.resolve() / path.name), "image")


def image_stem(path: Path) -> str:
    """What an image is called: its file's name without a known suffix, or its ``hidden_name``."""
    if hidden := hidden_name(path):
        return hidden
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
