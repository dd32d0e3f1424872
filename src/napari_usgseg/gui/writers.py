"""Writers for napari: a layer of labels as a PNG label map, or as NIfTI with its scale.

A layer is written as it is, with all its values. What is there already is not written over.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import LabelWriteError
from ..io.atomic import write_new
from ..io.formats.nifti import as_volume
from ..io.labels import as_label_map, write_labels
from .canvas.layers import STEP


def write_png(path: str, data: Any, about: dict[str, Any]) -> list[str]:
    """Write the labels (H, W) of a layer as a PNG label map, which has no scale.

    Raises:
        LabelWriteError: a file is there already, these are no labels of one image, or the layer
            shows a smaller copy of them.
    """
    labels = np.asarray(data)
    _check_whole(path, about)
    if labels.ndim != 2:
        raise LabelWriteError(
            path, f"a layer of {labels.ndim} axes; a label map has two: save it as .nii.gz"
        )
    write_labels(path, labels)
    return [path]


def write_nifti(path: str, data: Any, about: dict[str, Any]) -> list[str]:
    """Write the labels (H, W) or (N, H, W) of a layer as NIfTI with the layer's scale.

    Raises:
        LabelWriteError: a file is there already, the layer has other axes, it is turned or skewed,
            which the file would not say, or it shows a smaller copy of its labels.
    """
    labels = np.asarray(data)
    _check_whole(path, about)
    if labels.ndim not in (2, 3):
        raise LabelWriteError(path, f"a layer of {labels.ndim} axes; expected two or three")
    _check_upright(path, about)
    frames = labels.reshape(-1, *labels.shape[-2:])
    values = as_label_map(Path(path), frames.reshape(-1, labels.shape[-1]))
    frame, row, column = (1.0, 1.0, 1.0, *(float(step) for step in about["scale"]))[-3:]
    factor = _millimetres(about.get("units"))
    spacing = None if factor is None else (row * factor, column * factor)
    volume = as_volume(values.reshape(frames.shape), spacing, frame)
    name = path.lower()
    write_new(Path(path), gzip.compress(volume, 6, mtime=0) if name.endswith(".gz") else volume)
    return [path]


def _check_whole(path: str, about: dict[str, Any]) -> None:
    """Refuse a layer of ours that has a part of its labels' pixels."""
    step = int(about.get("metadata", {}).get(STEP, 1))
    if step > 1:
        raise LabelWriteError(
            path,
            f"the layer shows each {step}th pixel of the labels of a very large image; export them "
            "in the dock",
        )


def _check_upright(path: str, about: dict[str, Any]) -> None:
    """Refuse a layer whose place in the world is more than its scale says."""
    axes = len(about["scale"])
    turned = np.asarray(about.get("rotate", np.eye(axes)))
    affine = np.asarray(about.get("affine", np.eye(axes + 1)))
    skewed = np.any(about.get("shear", 0))
    if not (np.allclose(turned, np.eye(axes)) and np.allclose(affine, np.eye(axes + 1))) or skewed:
        raise LabelWriteError(
            path, "the layer is turned, skewed or has an affine; save it without, or as PNG"
        )


def _millimetres(units: Any) -> float | None:
    """Millimetres in the unit of the last two axes; None where it is no length, as a pixel."""
    from pint import DimensionalityError, get_application_registry

    registry = get_application_registry()
    try:
        row, column = (
            registry.Quantity(1, registry.Unit(str(unit))).to("mm").magnitude for unit in units[-2:]
        )
    except (DimensionalityError, TypeError, ValueError):
        return None
    return float(row) if row == column else None
