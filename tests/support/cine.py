"""Loops of phantoms as files, with their truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile

from napari_usgseg.phantoms.loop import PhantomLoop, make_phantom_loop


def write_loop(
    folder: Path, name: str = "heart.tif", count: int = 12, size_hw: tuple[int, int] = (96, 128)
) -> PhantomLoop:
    """Write a loop of a breast phantom as a TIFF of several pages, and give its truth."""
    loop = make_phantom_loop(2, count, size_hw, kind="breast", motion="beat")
    folder.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(folder / name, loop.frames, photometric="minisblack")
    return loop


def lesion(loop: PhantomLoop, frame: int) -> np.ndarray:
    """The true mask of the first class on a frame."""
    return loop.labels[frame] == 1
