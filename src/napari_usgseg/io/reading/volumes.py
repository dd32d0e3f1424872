"""Volumes: NIfTI, MetaImage and NRRD, whose slices or frames are read one at a time.

The first two axes are columns and rows, as scanners' programs write (x, y, frame); all others are
frames, the third the fastest. Slices are turned as viewers show them (ITK-SNAP, 3D Slicer): columns
run to the patient's left, rows to the back or down, where the file says how it lies; as stored
where it does not.

Spacings of exactly 1 x 1 stand for "not known" and are not believed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import ImageReadError
from .frames import (
    RANGE_MM,
    FileAbout,
    Frames,
    SameSize,
    Spacing,
    Stored,
    check_bytes,
    check_size,
    read_errors,
    unsupported,
)

MAX_VOXELS = 2_000_000_000
_KEPT_BYTES = 256_000_000
"""A compressed NIfTI of at most so many bytes is unpacked once."""
MAX_WHOLE = 1_000_000_000
"""Bytes of a volume that is read all at once."""
_MOST_DEFLATED = 1100
"""No byte of deflated data becomes more bytes than this."""
_MM_OF_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 1e-3}
"""NIfTI's codes of length: unknown (mm by custom), metre, millimetre, micron."""
_GZIP = b"\x1f\x8b"
_LONGEST_HEADER = 2**20
_META_DATA = re.compile(rb"(?im)^[ \t]*ElementDataFile[ \t]*[=:]([^\n]*)")
_NRRD_DATA = re.compile(rb"(?im)^data ?file:([^\n]*)")
_PACKED = re.compile(
    rb"(?im)^[ \t]*(CompressedData[ \t]*[=:][ \t]*True|encoding:[ \t]*(?!raw[ \t]*$)\w)"
)
"""Everything but plain bytes: NRRD also has values as text."""
_SAVE_VOLUME = "save it as NIfTI, or as one .mha file without compression"


def volume_kind(head: bytes, path: Path) -> str | None:
    """What kind of volume a file is that begins so: nifti, meta or nrrd; None for any other."""
    if head[344:348] in (b"n+1\0", b"ni1\0"):
        return "nifti"
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        return "nifti"
    if head[:4] == b"NRRD":
        return "nrrd"
    if re.match(rb"\s*(ObjectType|NDims|Comment)\s*[=:]", head):
        return "meta"
    return None


# NIfTI


def nifti_header(path: Path) -> Any:
    """The header as it stands: nibabel's check would make 1 mm of a spacing that is not given.

    Raises:
        ImageReadError: it is no header of a volume in one file.
    """
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


def volume_shape(path: Path, lengths: Sequence[int]) -> tuple[int, ...]:
    """The axes of a volume, three or four, where there are two to four that are longer than 1.

    Raises:
        ImageReadError: there are others, or too many values.
    """
    found = [int(length) for length in lengths]
    while len(found) > 4 and found[-1] == 1:
        found.pop()
    if not 2 <= len(found) <= 4 or min(found) < 1 or math.prod(found) > MAX_VOXELS:
        raise ImageReadError(path, f"a volume of {found}; expected two to four axes")
    return tuple(found + [1] * (3 - len(found)))


class NiftiFrames(Frames):
    """The slices of a NIfTI volume; ``frame`` gives them scaled as the header says.

    Raises:
        ImageReadError: it is damaged, too large or no such volume.
    """

    cure = _SAVE_VOLUME

    def __init__(self, path: Path) -> None:
        from nibabel.arrayproxy import ArrayProxy

        with read_errors(path, self.cure):
            header = nifti_header(path)
            axes = int(header["dim"][0])
            shape = volume_shape(path, header["dim"][1 : axes + 1] if 2 <= axes <= 7 else [])
            self._dtype = header.get_data_dtype()
            self._colors = 3 if self._dtype.fields and len(self._dtype.fields) >= 3 else 1
            if self._dtype.kind not in "iuf" and self._colors == 1:
                code = int(header["datatype"])
                raise unsupported(
                    path, f"values of type {code}; expected integers or floats", self.cure
                )
            check_size(path, shape[1], shape[0])
            check_bytes(path, shape[0] * shape[1] * self._dtype.itemsize)
            size = math.prod(shape) * self._dtype.itemsize
            with path.open("rb") as file:
                packed = file.read(2) == _GZIP
            _check_bytes(path, size, path.stat().st_size, packed)
            self._shape, self._values = shape, None
            self._proxy = ArrayProxy(str(path), header)
            # In a gzip file a slice is reached by unpacking all before it: n slices would cost n *
            # n / 2.
            self._keep = packed and size <= _KEPT_BYTES
            self._flips = nifti_flips(header)
        count = math.prod(shape[2:])
        about = FileAbout("volume", _nifti_spacing(header), rate=_nifti_rate(header, shape))
        super().__init__(path, SameSize((shape[1], shape[0]), count), about)

    def _stored(self, index: int) -> Stored:
        # order="F": the third axis is the fastest, as the values lie in a NIfTI file.
        place = np.unravel_index(index, self._shape[2:], order="F")
        if self._keep and self._values is None:
            self._values = np.asanyarray(self._proxy.get_unscaled())
        source = self._proxy if self._values is None else self._values
        axes = len(self._proxy.shape)
        where = (slice(None), slice(None), *(int(i) for i in place))[:axes]
        values = np.asarray(source[where]).reshape(self._shape[:2])
        if self._colors == 3:
            names = list(self._dtype.fields)[:3]
            rgb = np.stack([values[name] for name in names], axis=-1)
            return Stored(_turned(rgb, self._flips), "rgb")
        if self._values is not None:
            values = _scaled(values, self._proxy)
        return Stored(_turned(values, self._flips), "grey", bits=8 * values.dtype.itemsize)


def _scaled(values: NDArray[Any], proxy: Any) -> NDArray[Any]:
    from nibabel.volumeutils import apply_read_scaling

    if (proxy.slope, proxy.inter) == (1, 0):
        return values
    return np.asarray(apply_read_scaling(values, np.float64(proxy.slope), np.float64(proxy.inter)))


def nifti_flips(header: Any) -> tuple[bool, bool]:
    """Whether columns and rows are turned round, as a viewer shows them."""
    if int(header["sform_code"]) > 0:
        matrix = np.asarray(header.get_sform(), float)[:3, :3]
    elif int(header["qform_code"]) > 0:
        matrix = np.asarray(header.get_qform(), float)[:3, :3]
    else:
        return False, False
    return flips_of(matrix)


def flips_of(to_ras: NDArray[np.float64]) -> tuple[bool, bool]:
    """Whether columns and rows are to be turned round, of a matrix (3, N) to right, front, top."""
    if not np.isfinite(to_ras).all():
        return False, False
    along = (to_ras[np.abs(to_ras[:, axis]).argmax(), axis] for axis in (0, 1))
    # The axis that a column mostly runs along decides, so an oblique volume is turned by quarter
    # turns only and no value is interpolated.
    columns, rows = (bool(step > 0) for step in along)
    return columns, rows


def _turned(values: NDArray[Any], flips: tuple[bool, bool]) -> NDArray[Any]:
    """(H, W, ...) of a slice (columns, rows, ...)."""
    image = values.swapaxes(0, 1)
    image = image[:, ::-1] if flips[0] else image
    return np.ascontiguousarray(image[::-1] if flips[1] else image)


def _nifti_spacing(header: Any) -> Spacing | None:
    factor = _MM_OF_UNIT.get(int(header["xyzt_units"]) & 7)
    column, row = (abs(float(step)) for step in header["pixdim"][1:3])
    return None if factor is None else _believed(row, column, factor)


def _believed(row: float, column: float, factor: float = 1.0) -> Spacing | None:
    low, high = RANGE_MM
    if (row, column) == (1.0, 1.0) or not all(low <= n * factor <= high for n in (row, column)):
        return None
    return row * factor, column * factor


def _nifti_rate(header: Any, shape: tuple[int, ...]) -> float | None:
    seconds = {8: 1.0, 16: 1e-3, 24: 1e-6}.get(int(header["xyzt_units"]) & 0x38)
    step = float(header["pixdim"][4]) * (seconds or 0)
    return 1 / step if len(shape) == 4 and step > 0 and 1 / step <= 1000 else None


def _check_bytes(path: Path, wanted: int, there: int, packed: bool) -> None:
    """Refuse a file that cannot hold what its header says."""
    # Before anything is allocated: a header of 348 bytes may claim terabytes.
    if wanted > there * (_MOST_DEFLATED if packed else 1):
        raise ImageReadError(
            path, f"truncated: its header speaks of {wanted:,} bytes of values; copy it again"
        )


# MetaImage and NRRD


class ItkFrames(Frames):
    """The slices of a MetaImage or NRRD file, read by SimpleITK.

    A MetaImage that is not compressed is read slice by slice; of all others ITK reads the whole,
    which is kept, and refused where it is too much.

    Args:
        path: of the file.
        kind: "meta" or "nrrd".

    Raises:
        ImageReadError: it is damaged, too large or no such volume.
    """

    cure = _SAVE_VOLUME

    def __init__(self, path: Path, kind: str) -> None:
        import SimpleITK as sitk  # noqa: N813

        with read_errors(path, self.cure):
            packed, data = _checked_text(path, kind)
            sitk.ProcessObject.GlobalWarningDisplayOff()
            self._reader = sitk.ImageFileReader()
            self._reader.SetImageIO("MetaImageIO" if kind == "meta" else "NrrdImageIO")
            self._reader.SetFileName(str(path))
            with _without_words(path):
                self._reader.ReadImageInformation()
            shape = volume_shape(path, self._reader.GetSize())
            self._channels = self._reader.GetNumberOfComponents()
            if self._channels not in (1, 3, 4):
                raise unsupported(
                    path, f"values of {self._channels} channels are not supported", self.cure
                )
            check_size(path, shape[1], shape[0])
            each = np.dtype(_itk_type(self._reader.GetPixelID())).itemsize * self._channels
            check_bytes(path, shape[0] * shape[1] * each)
            size = math.prod(shape) * each
            _check_bytes(path, size, data.stat().st_size, packed)
            self._keep = packed or kind == "nrrd"
            if self._keep and size > MAX_WHOLE:
                raise ImageReadError(
                    path,
                    f"{size:,} bytes of values that can be read all at once only, more than "
                    f"{MAX_WHOLE:,}; {self.cure}",
                )
            self._shape = shape
            self._whole: Any = None
            axes = len(self._reader.GetSize())
            direction = np.reshape(self._reader.GetDirection(), (axes, axes))
            column, row = (float(step) for step in self._reader.GetSpacing()[:2])
            # ITK's world is LPS (left, back, top), NIfTI's RAS.
            ras = np.diag([-1.0, -1.0, 1.0, 1.0])[:axes, :axes] @ direction
            self._flips = flips_of(ras)
        about = FileAbout("volume", _believed(row, column))
        super().__init__(path, SameSize((shape[1], shape[0]), math.prod(shape[2:])), about)

    def _stored(self, index: int) -> Stored:
        import SimpleITK as sitk  # noqa: N813

        axes = len(self._reader.GetSize())
        place = [int(i) for i in np.unravel_index(index, self._shape[2:], order="F")][: axes - 2]
        with _without_words(self.path):
            if self._keep:
                if self._whole is None:
                    self._whole = self._reader.Execute()
                image = sitk.GetArrayViewFromImage(self._whole)[tuple(reversed(place))]
            else:
                if axes > 2:
                    self._reader.SetExtractIndex([0, 0, *place])
                    self._reader.SetExtractSize([*self._shape[:2], *(0 for _ in place)])
                image = sitk.GetArrayFromImage(self._reader.Execute())
        turned = _turned(np.array(image).swapaxes(0, 1), self._flips)
        if self._channels == 1:
            return Stored(turned, "grey", bits=8 * turned.dtype.itemsize)
        alpha = 3 if self._channels == 4 else None
        return Stored(turned, "rgb", bits=8 * turned.dtype.itemsize, alpha=alpha)

    def close(self) -> None:
        """Let go of the values."""
        self._whole = None


def _itk_type(pixel_id: int) -> str:
    import SimpleITK as sitk  # noqa: N813

    name = sitk.GetPixelIDValueAsString(pixel_id)
    bits = re.search(r"(\d+)-bit", name)
    return f"u{int(bits.group(1)) // 8}" if bits else "u8"


class _without_words:  # noqa: N801
    """Make of ITK's long errors a short one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, RuntimeError):
            cause = "truncated or damaged; copy or export it again"
            raise ImageReadError(self._path, cause) from None


def _checked_text(path: Path, kind: str) -> tuple[bool, Path]:
    """Whether the values are packed, and the file that they are in: this one or one beside it.

    The header must say once where they are, in a line of its own: what ITK makes of any other is
    not known here.

    Raises:
        ImageReadError: its end is not found, or it names files elsewhere, several, or in no such
            way.
    """
    with path.open("rb") as file:
        text = re.sub(rb"\r\n?", b"\n", file.read(_LONGEST_HEADER))
    if kind == "nrrd":
        text, end, _ = text.partition(b"\n\n")
        found, mentions = _NRRD_DATA.findall(text), 1
        is_found = bool(found or end)
    else:
        found, mentions = _META_DATA.findall(text), len(re.findall(rb"(?i)ElementDataFile", text))
        is_found = mentions > 0
    if not is_found:
        raise ImageReadError(
            path, f"its header does not end within {_LONGEST_HEADER:,} bytes; {_SAVE_VOLUME}"
        )
    if mentions != 1 or len(found) > 1 or (kind == "meta" and not found):
        raise ImageReadError(path, f"it is not clear where its values are; {_SAVE_VOLUME}")
    is_packed = _PACKED.search(text) is not None
    name = found[0].decode("utf-8", "replace").strip() if found else "LOCAL"
    if name.upper() == "LOCAL":
        return is_packed, path
    if name.upper().startswith("LIST") or "%" in name or name != Path(name).name:
        raise ImageReadError(
            path, "its values are in other files than one beside it; save it as one file"
        )
    data = path.parent / name
    if not data.is_file():
        raise ImageReadError(path, "the file of its values is not beside it; copy both")
    return is_packed, data
