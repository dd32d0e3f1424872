"""NIfTI volumes, read by nibabel; each slice of one is an image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import ImageReadError
from ...io.decoders import read_errors
from ...io.images import Spacing

MAX_VOXELS = 2_000_000_000


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
        header = _header(path)
        shape = _shape(path, header["dim"])
        if header.get_data_dtype().kind not in "iuf":
            code = int(header["datatype"])
            raise ImageReadError(path, f"holds values of type {code}; expected integers or floats")
        values = np.array(ArrayProxy(str(path), header)).reshape(shape, order="F")
    x, y, z = (float(size) if size > 0 else math.nan for size in header["pixdim"][1:4])
    return Volume(values, (x, y, z))


def _header(path: Path) -> Any:
    """The header as it stands: nibabel's check would make 1 mm of a spacing that is not given."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.openers import ImageOpener
    from nibabel.wrapstruct import WrapStructError

    try:
        with ImageOpener(str(path)) as file:
            header = Nifti1Header.from_fileobj(file, check=False)
    except WrapStructError:  # too short
        header = None
    if header is None or header["sizeof_hdr"] != header.sizeof_hdr:
        raise ImageReadError(path, "no NIfTI-1 header; expected a .nii or .nii.gz volume")
    if header["magic"] == header.pair_magic:
        raise ImageReadError(path, "a header without its values; convert the pair to one .nii")
    return header


def _shape(path: Path, dims: NDArray[Any]) -> tuple[int, ...]:
    axes = int(dims[0])
    lengths = [int(n) for n in dims[1 : axes + 1]] if 2 <= axes <= 7 else []
    while len(lengths) > 4 and lengths[-1] == 1:
        lengths.pop()
    if not 2 <= len(lengths) <= 4 or min(lengths) < 1 or math.prod(lengths) > MAX_VOXELS:
        raise ImageReadError(path, f"a volume of {lengths}; expected two to four axes")
    return tuple(lengths + [1] * (3 - len(lengths)))
