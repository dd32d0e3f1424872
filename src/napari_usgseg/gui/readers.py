"""Readers for napari: files of scanners as layers, with their spacing as scale and units.

A loop is one layer, whose frames are decoded when the slider comes to them. They are what the
labelling window shows of the file: 8 bits, grey or RGB, through the file's own window.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..io.images import as_shown
from ..io.reading.files import OpenFiles, image_stem, kind_of, open_frames
from ..io.reading.frames import Frames

LayerData = tuple[Any, dict[str, Any], str]
Reader = Callable[[str | Sequence[str]], list[LayerData]]
_READ = ("DICOM", "video", "volume")


def get_reader(path: str | Sequence[str]) -> Reader | None:
    """A reader of one file or several; None where one is none of DICOM, a video or a volume.

    Only first bytes are looked at, for napari asks on the window's thread.
    """
    paths = [path] if isinstance(path, str) else list(path)
    return read_layers if all(kind_of(each) in _READ for each in paths) else None


def read_layers(path: str | Sequence[str]) -> list[LayerData]:
    """A layer for each file; what is not grey is RGB, as a person sees it.

    Raises:
        ImageReadError: a file cannot be read any more.
    """
    paths = [path] if isinstance(path, str) else path
    return [_layer(Path(each)) for each in paths]


def _layer(path: Path) -> LayerData:
    import dask.array as da

    files = OpenFiles(1)
    with open_frames(path) as frames:
        count, about = len(frames), frames.about
        first = _picture(frames, 0)

    def picture(index: int) -> NDArray[Any]:
        return files.use(path, lambda frames: _picture(frames, index))

    data: Any = first
    if count > 1:
        shape = (1, *first.shape)
        blocks = da.arange(count, chunks=1)
        data = blocks.map_blocks(
            lambda block: picture(int(block[0]))[None],
            dtype=first.dtype,
            chunks=((1,) * count, *((side,) for side in first.shape)),
            new_axis=list(range(1, len(shape))),
            meta=np.empty((0,) * len(shape), first.dtype),
        )
    rgb = first.ndim == 3
    row, column = about.spacing_mm or (1.0, 1.0)
    unit = "mm" if about.spacing_mm else "pixel"
    frame_axis = [1.0] if count > 1 else []
    about_layer: dict[str, Any] = {
        "name": image_stem(path),
        "rgb": rgb,
        "scale": (*frame_axis, row, column),
        "units": (*("pixel" for _ in frame_axis), unit, unit),
        "metadata": {
            "regions": about.regions, "spacing_mm": about.spacing_mm, "rate": about.rate,
            "group": about.group,
        },
    }  # fmt: skip
    if not rgb and first.dtype == np.uint8:
        about_layer["contrast_limits"] = (0, 255)
    return data, about_layer, "image"


def _picture(frames: Frames, index: int) -> NDArray[Any]:
    """A frame as it is shown, (H, W, 3) uint8; grey (H, W) where it is stored as such."""
    stored = frames.stored(index)
    shown = as_shown(frames.path, stored)
    return shown if stored.kind != "grey" else np.ascontiguousarray(shown[..., 0])
