"""NIfTI volumes, read by nibabel; each slice of one is an image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import ImageReadError
from ...io.reading.frames import Spacing, read_errors
from ...io.reading.volumes import nifti_header, volume_shape


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """A volume; ``values[:, :, k]`` is a slice with columns first, so an image is its transpose.

    Attributes:
        values: (X, Y, Z) or (X, Y, Z, C), scaled as the header says.
        spacing_mm: along X, Y, Z; NaN where the header gives none.
    """

    values: NDArray[Any]
    spacing_mm: tuple[float, float, float]

    @property
    def slices(self) -> int:
        """How many slices there are along the third axis."""
        return int(self.values.shape[2])

    def image(self, index: int, channel: int | None = None) -> NDArray[Any]:
        """(H, W) values of a slice, rows along Y.

        Raises:
            IndexError: there is no such slice or channel.
        """
        slab = self.values[:, :, index]
        if slab.ndim == 3:
            slab = slab[..., 0 if channel is None else channel]
        return np.ascontiguousarray(slab.T)

    @property
    def pixel_size_mm(self) -> Spacing | None:
        """Millimetres per pixel (row, column) of a slice; None where they are not stated."""
        x, y = (float(size) for size in self.spacing_mm[:2])
        return (y, x) if min(x, y) > 0 and math.isfinite(x + y) else None


def is_nifti(path: str | Path) -> bool:
    """Whether a file has the name of a NIfTI volume."""
    return str(path).lower().endswith((".nii", ".nii.gz"))


def read_nifti(path: str | Path) -> Volume:
    """Read a volume of two to four axes.

    Raises:
        ImageReadError: the file is missing, damaged or no such volume.
    """
    from nibabel.arrayproxy import ArrayProxy

    path = Path(path)
    with read_errors(path):
        header = nifti_header(path)
        axes = int(header["dim"][0])
        shape = volume_shape(path, header["dim"][1 : axes + 1] if 2 <= axes <= 7 else [])
        if header.get_data_dtype().kind not in "iuf":
            code = int(header["datatype"])
            raise ImageReadError(path, f"holds values of type {code}; expected integers or floats")
        values = np.array(ArrayProxy(str(path), header)).reshape(shape, order="F")
    x, y, z = (float(size) if size > 0 else math.nan for size in header["pixdim"][1:4])
    return Volume(values, (x, y, z))
