"""Videos of moving pictures, and their frames as PyAV gives them."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np


def write_video(
    path: Path, *, codec: str = "libx264", container: str | None = None, count: int = 40,
    size: tuple[int, int] = (64, 96), rate: int = 25, pixels: str = "yuv420p", gop: int = 12,
    **options: str,
) -> Path:  # fmt: skip
    """Write ``count`` frames, each another, with B frames where the codec has them."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.codec_context.gop_size = gop
        for k in range(count):
            grey = 127 + 100 * np.sin(x / 9 + k / 3) * np.cos(y / 7 - k / 5)
            rgb = np.stack([grey, np.roll(grey, k, 1), np.full_like(grey, 6 * k % 256)], -1)
            frame = av.VideoFrame.from_ndarray(rgb.astype(np.uint8), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def decoded(path: Path, container: str | None = None) -> list[np.ndarray]:
    """All frames (H, W, 3), one after the other."""
    formats = {"mpeg2video": "mpegvideo", "mpegts": "mpegts", "mp4": "mp4"}
    with av.open(str(path), format=formats.get(container)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
