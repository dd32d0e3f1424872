"""Reading NIfTI-1 volumes (``.nii``, ``.nii.gz``), as far as ultrasound data sets use them.

The header is that of the NIfTI-1.1 standard (nifti1.h): 348 bytes, either byte order, one file.
It is read here because nibabel gives 1 mm where a header gives no spacing.
"""

from __future__ import annotations

import gzip
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageReadError
from .decoders import read_errors

HEADER_BYTES = 348
MAX_VOXELS = 2_000_000_000

_TYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4",
    1024: "i8", 1280: "u8",
}  # fmt: skip


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
    def pixel_size_mm(self) -> float | None:
        """Millimetres per pixel of a slice, where they are the same in both directions."""
        x, y = self.spacing_mm[:2]
        return float(x) if math.isfinite(x) and x > 0 and np.isclose(x, y) else None


def is_nifti(path: str | Path) -> bool:
    """Whether a file has the name of a NIfTI volume."""
    return str(path).lower().endswith((".nii", ".nii.gz"))


def read_nifti(path: str | Path) -> Volume:
    """Read a volume of two to four axes.

    Raises:
        ImageReadError: the file is missing, damaged or no such volume.
    """
    path = Path(path)
    with read_errors(path):
        opened: Any = gzip.open if path.suffix.lower() == ".gz" else open
        with opened(path, "rb") as file:
            return _read(path, file)


def _read(path: Path, file: Any) -> Volume:
    head = file.read(HEADER_BYTES)
    order = next((o for o in "<>" if head[:4] == np.array(348, f"{o}i4").tobytes()), None)
    if order is None or head[344:347] not in (b"n+1", b"ni1"):
        raise ImageReadError(path, "no NIfTI-1 header; expected a .nii or .nii.gz volume")
    if head[344:347] == b"ni1":
        raise ImageReadError(path, "a header without its values; convert the pair to one .nii")
    dims = np.frombuffer(head, f"{order}i2", 8, 40).astype(int)
    shape = _shape(path, dims)
    code = int(np.frombuffer(head, f"{order}i2", 1, 70)[0])
    if code not in _TYPES:
        raise ImageReadError(path, f"holds values of type {code}; expected integers or floats")
    dtype = np.dtype(f"{order}{_TYPES[code]}")
    size = np.frombuffer(head, f"{order}f4", 8, 76)
    offset, slope, inter = np.frombuffer(head, f"{order}f4", 3, 108).tolist()
    file.read(max(0, int(offset) - HEADER_BYTES))
    count = math.prod(shape)
    data = file.read(count * dtype.itemsize)
    if len(data) < count * dtype.itemsize:
        raise ImageReadError(path, "ends before its last value; copy or export it again")
    values = np.frombuffer(data, dtype).astype(dtype.newbyteorder("=")).reshape(shape, order="F")
    if slope and math.isfinite(slope) and (slope, inter) != (1.0, 0.0):
        values = values * np.float32(slope) + np.float32(inter)
    x, y, z = (float(s) if s > 0 else math.nan for s in size[1:4])
    return Volume(values, (x, y, z))


def _shape(path: Path, dims: NDArray[np.int_]) -> tuple[int, ...]:
    axes = int(dims[0])
    lengths = [int(n) for n in dims[1 : axes + 1]] if 2 <= axes <= 7 else []
    while len(lengths) > 4 and lengths[-1] == 1:
        lengths.pop()
    if not 2 <= len(lengths) <= 4 or min(lengths) < 1 or math.prod(lengths) > MAX_VOXELS:
        raise ImageReadError(path, f"a volume of {lengths}; expected two to four axes")
    return tuple(lengths + [1] * (3 - len(lengths)))
