"""Videos: each frame by its number, exactly the one that decoding from the start would give.

PyAV decodes in order; an index of the packets' times, made without decoding, says where the
nearest key frame before a frame is. A file is opened as what its first bytes say it is and as
nothing else, so that no playlist makes FFmpeg open another.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import suppress
from io import RawIOBase
from pathlib import Path
from typing import Any

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from ...core.errors import ImageReadError
from .frames import (
    MAX_PIXELS,
    FileAbout,
    Frames,
    SameSize,
    Stored,
    check_count,
    check_size,
    read_errors,
)

KEPT_BYTES = 64_000_000
"""Frames that were decoded last are kept, for a person goes back as well as on."""
_FASTEST = 1000.0
_PICTURES = {
    b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"heim": "HEIC",
    b"heis": "HEIC", b"hevc": "HEIC", b"hevx": "HEIC", b"mif1": "HEIF", b"msf1": "HEIF",
    b"crx ": "CR3",
}  # fmt: skip
"""Brands of ISO 14496-12 (MP4's container) of cameras and phones."""


def container_of(head: bytes) -> str | None:
    """FFmpeg's name of the container that a file of these first bytes is; None for no video."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"):
        return None if picture_of(head) else "mov"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "matroska"
    if head[:4] == b"\0\0\1\xba":
        return "mpeg"
    if head[:4] == b"\0\0\1\xb3":
        return "mpegvideo"
    packets = head[: 3 * 188 : 188]
    # MPEG-TS has no magic number but a sync byte at the head of each packet of 188 bytes.
    if set(packets) == {0x47} and len(head) > 188 and head[:3] != b"GIF":  # whose G is 0x47
        return "mpegts"
    if head[:4] == b"\x30\x26\xb2\x75":
        return "asf"
    return None


def picture_of(head: bytes) -> str | None:
    """The kind of a still picture that is stored in the container of MP4; None for any other."""
    if head[4:8] != b"ftyp":
        return None
    return _PICTURES.get(head[8:12])


class VideoFrames(Frames):
    """The frames of a video.

    Raises:
        ImageReadError: it is damaged, too large, or of a codec that is not there.
    """

    cure = "convert it to MP4 (H.264)"

    def __init__(self, path: Path, container: str) -> None:
        with read_errors(path, self.cure):
            self._video = Video(path, f"file:{path}", container)
        about = FileAbout("video", rate=self._video.rate)
        super().__init__(path, SameSize(self._video.size_hw, self._video.count), about)

    def _stored(self, index: int) -> Stored:
        return Stored(self._video.frame(index), "rgb", lossy=True)

    def close(self) -> None:
        """Close the file."""
        self._video.close()


class Video:
    """A stream of pictures that is open, for one thread.

    Args:
        path: for messages.
        source: what FFmpeg opens: "file:..." or an open file.
        container: FFmpeg's name of the format.

    Raises:
        ImageReadError: there are no pictures in it, or they are too large.
    """

    def __init__(self, path: Path, source: str | RawIOBase, container: str) -> None:
        import av

        self._path, self._source, self._format = path, source, container
        self._errors = av.error.FFmpegError
        self._open()
        try:
            context = self._stream.codec_context
            check_size(path, context.height, context.width)
            self.size_hw = (int(context.height), int(context.width))
            self.rate = self._rate()
            self._index()
        except BaseException:
            self.close()
            raise
        bytes_each = 3 * self.size_hw[0] * self.size_hw[1]
        self._room = max(1, KEPT_BYTES // bytes_each)
        self._kept: LRUCache[int, NDArray[np.uint8]] = LRUCache(self._room)
        self._begin(None)

    def _open(self) -> None:
        import av

        if not isinstance(self._source, str):
            self._source.seek(0)
        # FFmpeg also opens addresses on the network; a file must not make it.
        options = {"protocol_whitelist": "file,pipe"}
        self._container = av.open(self._source, format=self._format, options=options)
        streams = self._container.streams.video
        if not streams:
            self._container.close()
            raise ImageReadError(self._path, "a video without pictures; export it again")
        self._stream = streams[0]
        self._stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}

    def _rate(self) -> float | None:
        for rate in (self._stream.average_rate, self._stream.guessed_rate):
            if rate and 0 < float(rate) <= _FASTEST:
                return float(rate)
        return None

    def _index(self) -> None:
        """Note when each frame is shown and where decoding can begin; nothing is decoded."""
        times: list[int | None] = []
        keys: list[int] = []
        with suppress(self._errors):  # a damaged end costs the frames behind it only
            for packet in self._container.demux(self._stream):
                if packet.size and not packet.is_discard:
                    times.append(packet.pts)
                    check_count(self._path, len(times))
                    if packet.is_keyframe and packet.pts is not None:
                        keys.append(packet.pts)
        if not times:
            raise ImageReadError(self._path, "a video without frames; export it again")
        self.count = len(times)
        # Packets come in the order of decoding; frames are numbered in the order of showing.
        known = sorted(time for time in times if time is not None)
        # A packet without a time, or two with one, and times tell no frame from another.
        in_time = len(known) == len(times) == len(set(known))
        if self._format == "avi" and len(keys) < len(times):
            in_time = False  # it keeps the order of decoding, and no time of showing
        self._times = known if in_time else None  # else frames are counted from the start
        self._keys = sorted(keys)

    def frame(self, index: int) -> NDArray[np.uint8]:
        """(H, W, 3) RGB of a frame.

        Raises:
            ImageReadError: it cannot be decoded; the others may be.
        """
        if index in self._kept:
            return self._kept[index]
        found = self._in_time(index) if self._times is not None else self._counted(index)
        if found is None:
            raise ImageReadError(
                self._path, f"frame {index} is damaged or missing; the others can be read"
            )
        return found

    def _in_time(self, index: int) -> NDArray[np.uint8] | None:
        assert self._times is not None
        wanted = self._times[index]
        before = bisect_right(self._keys, wanted)
        key = self._keys[before - 1] if before else self._times[0]
        # Where the decoder stands between the key frame and the wanted one it simply goes on, which
        # playing does all the time.
        if self._shown is None or not key <= self._times[self._shown] < wanted:
            self._begin(key)
        first = None
        while True:
            for number, frame in self._decoded:
                first = number if first is None else first
                picture = self._picture(number, frame, index)
                if number == index:
                    return picture
                if number > index:
                    break
            # Some files' seeks land behind the key frame that they were asked for: then once more
            # from the start.
            if self._whole or (first is not None and first <= index):
                return None
            self._begin(None)  # it began behind what was asked for

    def _counted(self, index: int) -> NDArray[np.uint8] | None:
        if self._shown is not None and index <= self._shown:
            self._begin(None)
        for number, frame in self._decoded:
            picture = self._picture(number, frame, index)
            if number == index:
                return picture
        return None

    def _picture(self, number: int, frame: Any, index: int) -> NDArray[np.uint8] | None:
        """A decoded frame as RGB, kept; None where it is too far from the one that is asked for."""
        if number <= index - self._room:
            return None
        picture: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
        # Kept frames are handed out again.
        picture.flags.writeable = False
        self._kept[number] = picture
        return picture

    def _begin(self, time: int | None) -> None:
        """Begin to decode at the key frame at or before a time, or at the very start."""
        self._whole = time is None
        if time is None:
            self._container.close()
            self._open()
        else:
            with suppress(self._errors):
                self._container.seek(time, stream=self._stream, backward=True)
        self._shown: int | None = None  # the number of the frame that was decoded last
        self._decoded = self._decode()

    def _decode(self) -> Iterator[tuple[int, Any]]:
        """(number, frame) of those that can be decoded from here on."""
        for packet in self._container.demux(self._stream):
            try:
                frames = packet.decode()
            except self._errors:  # damaged: those that do not need it follow
                continue
            for frame in frames:
                number = self._number(frame)
                if number is None:
                    continue
                self._shown = number
                if not frame.is_corrupt and (frame.height, frame.width) == self.size_hw:
                    yield number, frame

    def _number(self, frame: Any) -> int | None:
        if self._times is None:
            return 0 if self._shown is None else self._shown + 1
        if frame.pts is None:
            return None
        place = bisect_left(self._times, frame.pts)
        known = place < len(self._times) and self._times[place] == frame.pts
        return place if known else None

    def close(self) -> None:
        """Close the file."""
        self._container.close()
