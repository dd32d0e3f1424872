"""DICOM files as scanners write them, with made-up pictures and made-up patients."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

ENCODERS = {
    "1.2.840.10008.1.2.4.50": lambda a: imagecodecs.jpeg8_encode(a, level=95),
    "1.2.840.10008.1.2.4.57": lambda a: lossless_jpeg(a),
    "1.2.840.10008.1.2.4.70": lambda a: lossless_jpeg(a),
    "1.2.840.10008.1.2.4.80": lambda a: imagecodecs.jpegls_encode(a),
    "1.2.840.10008.1.2.4.81": lambda a: imagecodecs.jpegls_encode(a, level=2),
    "1.2.840.10008.1.2.4.90": lambda a: imagecodecs.jpeg2k_encode(a, level=0, codecformat="j2k"),
    "1.2.840.10008.1.2.4.91": lambda a: imagecodecs.jpeg2k_encode(a, level=40, codecformat="j2k"),
}
"""Transfer syntax -> what compresses a frame."""


def lossless_jpeg(frame: np.ndarray) -> bytes:
    """A frame (H, W) or (H, W, 3) as lossless JPEG: gdcm writes colours, imagecodecs grey alone."""
    if frame.ndim == 2:
        return bytes(imagecodecs.ljpeg_encode(frame))
    import gdcm

    with tempfile.TemporaryDirectory() as folder:
        plain, packed = Path(folder, "plain.dcm"), Path(folder, "packed.dcm")
        reader, writer = gdcm.ImageReader(), gdcm.ImageWriter()
        reader.SetFileName(str(write_dicom(plain, frame[None], "RGB")))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.SetFileName(str(packed))
        assert writer.Write()
        return next(generate_frames(dcmread(packed).PixelData, number_of_frames=1))


def write_dicom(
    path: Path,
    frames: np.ndarray,
    photometric: str = "MONOCHROME2",
    syntax: str = ExplicitVRLittleEndian,
    coded: list[bytes] | None = None,
    table: bool = True,
    preamble: bool = True,
    **attributes: Any,
) -> Path:
    """Write frames (N, H, W) or (N, H, W, 3) of 8 or 16 bits; one frame has no number of frames.

    Args:
        path: of the file.
        frames: the pixels.
        photometric: interpretation of them.
        syntax: transfer syntax.
        coded: compressed frames, where they are not to be made of ``frames``.
        table: whether a table of offsets is written for compressed frames.
        preamble: whether the file says that it is DICOM.
        attributes: what else is in it, by keyword.
    """
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, generate_uid()
    data.Rows, data.Columns = frames.shape[1:3]
    data.SamplesPerPixel = 3 if frames.ndim == 4 else 1
    data.PhotometricInterpretation = photometric
    if frames.ndim == 4:
        data.PlanarConfiguration = 0
    if len(frames) > 1:
        data.NumberOfFrames = len(frames)
    bits = 8 * frames.dtype.itemsize
    data.BitsAllocated, data.BitsStored, data.HighBit = bits, bits, bits - 1
    data.PixelRepresentation = int(frames.dtype.kind == "i")
    for name, value in attributes.items():
        setattr(data, name, value)
    if coded is None and syntax in ENCODERS:
        coded = [ENCODERS[syntax](np.ascontiguousarray(frame)) for frame in frames]
    if coded is not None:
        data.PixelData = encapsulate(coded, has_bot=table)
        data["PixelData"].VR = "OB"
    else:
        order = ">" if syntax == ExplicitVRBigEndian else "<"
        raw = frames.astype(frames.dtype.newbyteorder(order)).tobytes()
        data.PixelData = raw + bytes(len(raw) % 2)
        data["PixelData"].VR = "OW" if bits > 8 else "OB"
    if preamble:
        data.file_meta = meta
        dcmwrite(path, data, enforce_file_format=True)
    else:
        uid = UID(syntax)
        dcmwrite(path, data, implicit_vr=uid.is_implicit_VR, little_endian=uid.is_little_endian)
    return path


def palette(table: np.ndarray, bits: int = 16) -> dict[str, Any]:
    """The attributes of a palette (N, 3) of 8 or 16 bits."""
    found: dict[str, Any] = {}
    for index, color in enumerate(("Red", "Green", "Blue")):
        words = table[:, index].astype(f"<u{bits // 8}").tobytes()
        found[f"{color}PaletteColorLookupTableDescriptor"] = [len(table) % 65536, 0, bits]
        found[f"{color}PaletteColorLookupTableData"] = words
    return found


def region(
    box: tuple[int, int, int, int], kind: int = 1, data: int = 1, units: tuple[int, int] = (3, 3),
    deltas: tuple[float, float] = (0.01, 0.02),
) -> Dataset:  # fmt: skip
    """An item of the sequence of regions; ``units`` and ``deltas`` are along (x, y)."""
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType, item.RegionFlags = kind, data, 0
    item.RegionLocationMinX0, item.RegionLocationMinY0 = box[:2]
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = box[2:]
    item.PhysicalUnitsXDirection, item.PhysicalUnitsYDirection = units
    item.PhysicalDeltaX, item.PhysicalDeltaY = deltas
    return item
