"""De-identification of a DICOM file: what is known to be harmless is kept, all else left out.

After DICOM PS3.15, annex E (basic profile, clean pixel data), by what may stay and not by what must
go: no attribute that is not named here is written, of those that are, numbers are written as
numbers and words only where they are known ones; the scanner's maker and model stay as they are.
Identifiers become pseudonyms, the same for the same in all files of a person's key
(``reading.identity``); dates and times go.

Pixels outside of what is kept become black. Those inside stay: byte for byte where the values are
not compressed; as they are decoded where they are, and then compressed without loss (JPEG 2000).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.metadata import version
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ImageReadError
from ..core.types import BoolArray
from .reading.dicom import DicomFrames, quiet
from .reading.identity import pseudonym_uid

MAX_BYTES = 2**31
"""Of all frames of a file, as they are written."""
_NUMBERS = (
    "SeriesNumber", "InstanceNumber", "SamplesPerPixel", "PlanarConfiguration", "NumberOfFrames",
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "PixelSpacing", "NominalScannedPixelSpacing", "WindowCenter", "WindowWidth", "RescaleSlope",
    "RescaleIntercept", "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor", "BluePaletteColorLookupTableDescriptor", "CineRate",
    "RecommendedDisplayFrameRate", "FrameTime", "FrameTimeVector", "LossyImageCompressionRatio",
)  # fmt: skip
_BYTES = (
    "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData", "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData", "SegmentedBluePaletteColorLookupTableData",
)  # fmt: skip
_REGION = (
    "RegionSpatialFormat", "RegionDataType", "RegionFlags", "RegionLocationMinX0",
    "RegionLocationMinY0", "RegionLocationMaxX1", "RegionLocationMaxY1", "ReferencePixelX0",
    "ReferencePixelY0", "PhysicalUnitsXDirection", "PhysicalUnitsYDirection",
    "ReferencePixelPhysicalValueX", "ReferencePixelPhysicalValueY", "PhysicalDeltaX",
    "PhysicalDeltaY", "TransducerFrequency", "PulseRepetitionFrequency", "DopplerCorrectionAngle",
    "SteeringAngle",
)  # fmt: skip
_TABLES = {"VOILUTSequence": "LUTData", "ModalityLUTSequence": "LUTData"}
_WORDS = {
    "VOILUTFunction": r"LINEAR|LINEAR_EXACT|SIGMOID",
    "LossyImageCompression": r"0[01]",
    "LossyImageCompressionMethod": r"ISO_\d{5}(_\d{1,2})?",
    "Modality": r"US|IVUS|ES|XC|OT",
    "PhotometricInterpretation": r"MONOCHROME[12]|PALETTE COLOR|RGB|YBR_[A-Z0-9_]{3,12}",
}
_NAMES = ("Manufacturer", "ManufacturerModelName")
"""Of the scanner: no attributes of the basic profile."""
_EMPTY = (
    "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "PatientBirthDate",
    "PatientSex", "StudyID",
)  # fmt: skip
_STILL, _LOOP = "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.3.1"
_EXPLICIT, _J2K = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.90"
_METHODS = {
    "113100": "Basic Application Confidentiality Profile",
    "113101": "Clean Pixel Data Option",
}


def deidentified(frames: DicomFrames, keep: BoolArray, *, text_stays: bool | None) -> bytes:
    """A DICOM file without who the patient is, whose pixels outside of ``keep`` are black.

    Args:
        frames: of the file.
        keep: (H, W), what of each frame stays.
        text_stays: whether text is in what stays, as the file's Burned In Annotation says then
            (PS3.3 C.7.6.1.1); None: not every frame was looked at, and the file says nothing.

    Raises:
        ImageReadError: a frame cannot be decoded, or its values are of a kind that cannot be
            changed.
    """
    with quiet(frames.path):
        data = _header(frames, text_stays)
        pixels, syntax = _pixels(frames, keep, data)
        return _file(data, pixels, syntax)


# Attributes


def _header(frames: DicomFrames, text_stays: bool | None) -> Any:
    from pydicom.dataset import Dataset

    header, data = frames.header, Dataset()
    _copy(header, data, _NUMBERS)
    for name in _BYTES:
        if isinstance(header.get(name), bytes):
            setattr(data, name, header.get(name))
    for name, known in _WORDS.items():
        if re.fullmatch(known, str(header.get(name) or "")):
            setattr(data, name, str(header.get(name)))
    for name in _NAMES:
        said = "".join(sign for sign in str(header.get(name) or "") if sign.isprintable())
        setattr(data, name, said[:64])
    for name, table in _TABLES.items():
        _copy_sequence(header, data, name, ("LUTDescriptor",), table)
    _copy_sequence(header, data, "SequenceOfUltrasoundRegions", _REGION)
    for name in _EMPTY:
        setattr(data, name, "")
    if "RescaleSlope" in data:
        data.RescaleType = "US"  # unspecified
    _identifiers(frames, data)
    _said_of_it(data, len(frames), text_stays)
    return data


def _copy(header: Any, data: Any, names: Iterable[str]) -> None:
    """Copy numbers; what is none is left out."""
    for name in names:
        with suppress(Exception):
            element = header[name]
            values = element.value if element.VM > 1 else [element.value]
            numbers = [float(value) for value in values]
            if not numbers or not all(map(math.isfinite, numbers)):
                continue
            if element.VR not in ("DS", "FD", "FL"):
                numbers = [int(number) for number in numbers]
            setattr(data, name, numbers if element.VM > 1 else numbers[0])


def _copy_sequence(
    header: Any, data: Any, name: str, names: Iterable[str], table: str = ""
) -> None:
    from pydicom.dataset import Dataset

    items = []
    with suppress(Exception):
        for item in header.get(name) or ():
            clean = Dataset()
            _copy(item, clean, names)
            if table:
                setattr(clean, table, item[table].value)
            items.append(clean)
        if items:
            setattr(data, name, items)


def _identifiers(frames: DicomFrames, data: Any) -> None:
    header = frames.header
    data.PatientID = data.PatientName = frames.about.group or "unknown"
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
        value = str(header.get(name) or "")
        if value:
            setattr(data, name, pseudonym_uid(value))
        elif name != "FrameOfReferenceUID":  # which may be missing
            setattr(data, name, pseudonym_uid(f"{name}|{frames.digest()}"))
    data.SOPClassUID = _LOOP if len(frames) > 1 else _STILL
    known = str(header.get("SOPClassUID") or "")
    if known in (_STILL, _LOOP):
        data.SOPClassUID = known
    data.Modality = data.get("Modality", "US")


def _said_of_it(data: Any, count: int, text_stays: bool | None) -> None:
    from pydicom.dataset import Dataset
    from pydicom.tag import Tag

    data.SpecificCharacterSet = "ISO_IR 192"
    data.ImageType = ["DERIVED", "PRIMARY"]
    data.PatientIdentityRemoved = "YES"
    if text_stays is not None:
        data.BurnedInAnnotation = "YES" if text_stays else "NO"
    data.LongitudinalTemporalInformationModified = "REMOVED"
    data.DeidentificationMethod = f"napari-usgseg {version('napari-usgseg')}"
    codes = []
    for value, meaning in _METHODS.items():
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
        codes.append(code)
    data.DeidentificationMethodCodeSequence = codes
    if count > 1:
        data.NumberOfFrames = count
        times = [name for name in ("FrameTime", "FrameTimeVector") if name in data]
        if times:
            data.FrameIncrementPointer = Tag(times[0])
    elif "NumberOfFrames" in data:
        data.NumberOfFrames = 1


# Pixels


def _pixels(frames: DicomFrames, keep: BoolArray, data: Any) -> tuple[list[bytes], str]:
    """The frames as they are stored, black outside of ``keep``, and their transfer syntax."""
    black = _black(frames, keep, data)
    if frames.is_compressed:
        syntax = _EXPLICIT if data.PixelRepresentation else _J2K
        return _bounded(frames, _compressed(frames, keep, black, data)), syntax
    if data.BitsAllocated not in (8, 16, 32):
        raise ImageReadError(
            frames.path, f"values of {data.BitsAllocated} bits; export it with 8 or 16 bits"
        )
    each = (_blackened(frames, index, ~keep, black, data) for index in range(len(frames)))
    return _bounded(frames, each), _EXPLICIT


def _bounded(frames: DicomFrames, made: Iterable[bytes]) -> list[bytes]:
    """Frames as they are made, unless they are too many to be held: few bytes may unfold to many.

    Raises:
        ImageReadError: they are more than ``MAX_BYTES``.
    """
    kept, size = list[bytes](), 0
    for frame in made:
        size += len(frame)
        if size > MAX_BYTES:
            raise ImageReadError(
                frames.path, f"its frames are more than {MAX_BYTES:,} bytes; cut it into parts"
            )
        kept.append(frame)
    return kept


def _blackened(frames: DicomFrames, index: int, outside: BoolArray, black: int, data: Any) -> bytes:
    """The bytes of a frame that is not compressed, little endian."""
    rows, columns, colors = data.Rows, data.Columns, data.SamplesPerPixel
    kind = f"{'i' if data.PixelRepresentation else 'u'}{data.BitsAllocated // 8}"
    order = "<" if frames.is_little_endian else ">"
    values = np.frombuffer(frames.stored_bytes(index), f"{order}{kind}").astype(f"<{kind}")
    if data.PhotometricInterpretation == "YBR_FULL_422":  # Y Y B R of two pixels beside each other
        pairs = values.reshape(rows, columns // 2, 4)
        pairs[..., :2][outside.reshape(rows, columns // 2, 2)] = 0
        # Two pixels share one colour, which goes only where both are outside.
        pairs[..., 2:][outside.reshape(rows, columns // 2, 2).all(axis=2)] = 128
    elif colors == 3:
        planes = data.get("PlanarConfiguration", 0) == 1
        shape = (3, rows, columns) if planes else (rows, columns, 3)
        pixels = values.reshape(shape)
        pixels = np.moveaxis(pixels, 0, -1) if planes else pixels
        is_ybr = str(data.PhotometricInterpretation).startswith("YBR")
        # Black in YBR is Y = 0 with both colour differences at their middle; zeros would be green.
        middle = 1 << (data.BitsStored - 1)
        pixels[outside] = (0, middle, middle) if is_ybr else 0
    else:
        values.reshape(rows, columns)[outside] = black
    return values.tobytes()


def _black(frames: DicomFrames, keep: BoolArray, data: Any) -> int:
    """The value of grey or of a palette that is shown black."""
    if data.SamplesPerPixel == 3:
        return 0
    bits, signed = int(data.BitsStored), bool(data.PixelRepresentation)
    if data.PhotometricInterpretation == "PALETTE COLOR":
        return frames.darkest()
    is_white = data.PhotometricInterpretation == "MONOCHROME1"
    if signed:  # the ends of what there is, for those of the type would make all else alike
        values = frames.values(0)[keep]
        return int(values.max(initial=0) if is_white else values.min(initial=0))
    return 2**bits - 1 if is_white else 0


def _compressed(frames: DicomFrames, keep: BoolArray, black: int, data: Any) -> Iterator[bytes]:
    """The frames of a file that is compressed; ``data`` is told how they are written now."""
    from imagecodecs import jpeg2k_encode

    for index in range(len(frames)):
        values = np.array(frames.values(index))
        values[~keep] = 0 if values.ndim == 3 else black
        _describe(values, data)
        if data.PixelRepresentation:  # signed, which the encoder does not know
            yield values.astype(values.dtype.newbyteorder("<")).tobytes()
        else:
            bits = data.BitsStored
            yield bytes(
                jpeg2k_encode(values, level=0, codecformat="j2k", mct=False, bitspersample=bits)
            )


def _describe(values: NDArray[Any], data: Any) -> None:
    """Say what is decoded of a compressed frame: RGB of colours, without loss from now on."""
    bits = 8 * values.dtype.itemsize
    data.Rows, data.Columns = values.shape[:2]
    data.BitsAllocated = bits
    data.BitsStored = min(int(data.BitsStored), bits)
    data.HighBit = data.BitsStored - 1
    data.SamplesPerPixel = 3 if values.ndim == 3 else 1
    if values.ndim == 3:
        data.PhotometricInterpretation, data.PlanarConfiguration = "RGB", 0


def _file(data: Any, pixels: list[bytes], syntax: str) -> bytes:
    from pydicom import dcmwrite
    from pydicom.dataset import FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    meta.MediaStorageSOPClassUID = data.SOPClassUID
    meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.file_meta = meta
    if syntax == _J2K:
        data.PixelData = encapsulate(pixels)
        data["PixelData"].VR = "OB"
    else:
        raw = b"".join(pixels)
        # DICOM values have an even length (PS3.5, 7.1.1).
        data.PixelData = raw + bytes(len(raw) % 2)
        data["PixelData"].VR = "OW" if data.BitsAllocated > 8 else "OB"
    file = BytesIO()
    dcmwrite(file, data, enforce_file_format=True)
    return file.getvalue()
