"""DICOM: single frames and loops, with and without a suffix, as pydicom decodes them.

Frames are those of ``pydicom.pixels``, with YBR made RGB and palettes looked up; video transfer
syntaxes are decoded by PyAV. Only the attributes that are needed are read, and no value of one is
ever part of a message or a log: who the patient is stays in the file (``identity``).

What is shown of a grey frame is its rescaled and windowed values, as the file says. A length is
believed where a region of the picture gives it (``PhysicalDeltaX``, with its unit and without its
sign), or else ``PixelSpacing``, save the 1.0 that stands for "not known".
"""

from __future__ import annotations

import logging
import math
import re
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from io import SEEK_CUR, SEEK_END, BytesIO, RawIOBase
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ...core.errors import ImageReadError
from ...core.notes import remark
from ...core.types import Region
from ..atomic import sha256_of
from .frames import (
    RANGE_MM,
    FileAbout,
    Frames,
    SameSize,
    Spacing,
    Stored,
    check_bytes,
    check_count,
    check_size,
    unsupported,
)
from .identity import is_nobody, is_repeated, pseudonym
from .video import Video, container_of

DAMAGED = "truncated or damaged; copy or export it again"
_EXPORT_PLAIN = "export it without compression, of 8 or 16 bits, or as PNG"
MAX_INFLATED = 128 * 2**20
"""Bytes that a deflated file may grow to."""
_UNDEFINED = 0xFFFFFFFF
_DEFLATED = "1.2.840.10008.1.2.1.99"
_VIDEO = "1.2.840.10008.1.2.4.10"
"""MPEG-2, MPEG-4 and HEVC have the syntaxes 1.2.840.10008.1.2.4.100 to 108."""
_PIXELS = ("OF", "OD")

_IDENTIFYING = (
    "PatientID", "OtherPatientIDs", "PatientBirthDate", "MedicalRecordLocator", "AccessionNumber",
    "AdmissionID", "StudyID", "InstitutionName", "PatientAddress", "PatientTelephoneNumbers",
    "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "InstanceCreationDate",
    "PerformedProcedureStepStartDate", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID",
)  # fmt: skip
"""What is looked for in a file's path."""
_PERSONS = (
    "PatientName", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName",
    "ReferringPhysicianName", "PerformingPhysicianName", "PhysiciansOfRecord", "OperatorsName",
    "NameOfPhysiciansReadingStudy", "RequestingPhysician", "ResponsiblePerson",
)  # fmt: skip
_TAGS = (
    "SpecificCharacterSet", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration",
    "NumberOfFrames", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "PixelSpacing", "NominalScannedPixelSpacing", "WindowCenter",
    "WindowWidth", "VOILUTFunction", "VOILUTSequence", "RescaleSlope", "RescaleIntercept",
    "RescaleType", "ModalityLUTSequence", "PixelPresentation",
    "RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData", "BluePaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData", "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData", "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths", "SequenceOfUltrasoundRegions",
    "SharedFunctionalGroupsSequence", "CineRate", "RecommendedDisplayFrameRate", "FrameTime",
    "FrameTimeVector", "Manufacturer", "ManufacturerModelName", "DepthOfScanField",
    "IssuerOfPatientID", "OtherPatientIDsSequence", "SOPClassUID", "Modality", "SeriesNumber",
    "InstanceNumber", "FrameOfReferenceUID", "LossyImageCompression", "LossyImageCompressionRatio",
    "LossyImageCompressionMethod", *_IDENTIFYING, *_PERSONS,
)  # fmt: skip

_FORMATS = {2: "M-mode", 3: "spectral", 4: "trace", 5: "other"}
"""Region Spatial Format, save 1 (two dimensions)."""
_FLOW = 2
"""Region Data Type of colour flow."""
_TISSUE = 1
_UNITS = {
    1: "%", 2: "dB", 3: "cm", 4: "s", 5: "Hz", 6: "dB/s", 7: "cm/s", 8: "cm2", 9: "cm2/s",
    10: "cm3", 11: "cm3/s", 12: "degrees",
}  # fmt: skip


def is_dicom(head: bytes) -> bool:
    """Whether a file that begins so (132 bytes or more) is DICOM, with or without a preamble."""
    if head[128:132] == b"DICM":
        return True
    # Without the preamble: a file of meta information (group 2), or a bare data set, which begins
    # with group 8. Both readings must be tight, or any text would be DICOM.
    group, element = int.from_bytes(head[:2], "little"), int.from_bytes(head[2:4], "little")
    if group == 2 and element == 0 and head[4:6] == b"UL":
        return True
    if group != 8 or element > 0x60 or len(head) < 16:
        return False
    explicit = head[4:6] in (b"CS", b"UI", b"UL", b"DA", b"LO", b"SH", b"TM", b"PN")
    return explicit or int.from_bytes(head[4:8], "little") <= 128


class DicomFrames(Frames):
    """The frames of a DICOM file.

    Raises:
        ImageReadError: it holds no picture, is damaged or too large, or its syntax is not known.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._video: Video | None = None
        self._palette: NDArray[Any] | None = None
        with quiet(path):
            self._file: BinaryIO = path.open("rb")
            try:
                self._open()
                size = int(self._options["rows"]), int(self._options["columns"])
                about = _about(self._header, path, size)
            except BaseException:
                self.close()
                raise
        count = self._count
        if self._video is not None:
            size = self._video.size_hw
        super().__init__(path, SameSize(size, count), about)

    def _open(self) -> None:
        from pydicom.pixels import as_pixel_options, get_decoder

        self._header, self._syntax, self._stream = _read_header(self._path, self._file)
        if not self._syntax.is_transfer_syntax:
            raise _unknown_syntax(self._path, self._syntax)
        self._length, keyword, vr = _at_pixels(self._path, self._stream, self._syntax)
        self._start = self._stream.tell()
        options = as_pixel_options(self._header)
        self._options: dict[str, Any] = options | {
            "transfer_syntax_uid": self._syntax, "pixel_keyword": keyword, "pixel_vr": vr,
        }  # fmt: skip
        _check_options(self._path, self._options)
        declared = max(1, int(self._options["number_of_frames"]))
        if self._syntax.startswith(_VIDEO):
            self._video = self._as_video()
            self._count = self._video.count
            return
        try:
            self._decoder = get_decoder(self._syntax)
        except NotImplementedError:
            raise _unknown_syntax(self._path, self._syntax) from None
        if not self._decoder.is_available:
            raise _unknown_syntax(self._path, self._syntax)
        there = self._fragments() if self._syntax.is_encapsulated else self._whole_frames()
        # A loop that was cut off keeps the frames that are there; at least one, so that asking for
        # it says what is wrong.
        self._count = min(declared, max(there, 1))
        self._options["number_of_frames"] = self._count
        if self._count < declared:
            remark(self._path, f"it ends early: {self._count} of its {declared} frames are there")

    def _whole_frames(self) -> int:
        """How many frames the bytes behind the header can hold, the last one perhaps in part."""
        bits = self._bits_each()
        end = self._stream.seek(0, SEEK_END)
        available = end - self._start
        if self._length != _UNDEFINED:
            available = min(available, self._length)
        # Rounded up: the last frame, cut off, is then named as damaged instead of missing without a
        # word.
        return -(-8 * available // bits)

    def _bits_each(self) -> int:
        """Bits of a frame that is not compressed."""
        options = self._options
        bits = options["rows"] * options["columns"] * options["samples_per_pixel"]
        bits *= options["bits_allocated"]
        return int(
            # Two pixels share their colours there: 4 values for two pixels instead of 6.
            bits * 2 // 3 if options["photometric_interpretation"] == "YBR_FULL_422" else bits
        )

    def _fragments(self) -> int:
        """How many fragments the pixel data have; a damaged one ends them."""
        if offsets := self._options.get("extended_offsets"):
            return len(offsets[0]) // 8
        stream, count = self._stream, 0
        end = stream.seek(0, SEEK_END)
        stream.seek(self._start)
        while (item := stream.read(8))[:4] == b"\xfe\xff\x00\xe0" and len(item) == 8:
            length = int.from_bytes(item[4:], "little")
            if length == _UNDEFINED or stream.tell() >= end:
                break
            count += 1
            check_count(self._path, count - 1)
            stream.seek(length, SEEK_CUR)
        return count - 1  # the first is the table of offsets

    def _as_video(self) -> Video:
        self._fragments()  # not too many
        joined = _Joined(self._stream, self._start)
        head = joined.read(512)
        # Syntaxes ...4.100 and 101 are MPEG-2, 102 to 106 H.264, 107 and 108 HEVC.
        raw = "hevc" if self._syntax >= f"{_VIDEO}7" else "h264"
        container = container_of(head) or ("mpegvideo" if self._syntax < f"{_VIDEO}2" else raw)
        return Video(self._path, joined, container)

    def frame(self, index: int) -> NDArray[Any]:
        """As ``Frames.frame``: (H, W) stored values, or (H, W, 3) RGB of a colour or a palette.

        Raises:
            ImageReadError: there is no such frame, or it is damaged; the others can be read.
        """
        self._check(index)
        if self._video is not None:
            return self._video.frame(index)
        with quiet(self._path, f"frame {index} is {DAMAGED}"):
            values = self._decoded(index)
            if self._options["photometric_interpretation"] != "PALETTE COLOR":
                return values
            least = int(np.iinfo(values.dtype).min)
            table = self._table(values.dtype)
            return table[values if least == 0 else values.astype(np.int32) - least]

    def _stored(self, index: int) -> Stored:
        values = self.frame(index)
        if self._video is not None:
            return Stored(values, "rgb", lossy=True)
        lossy = self._syntax.is_encapsulated
        if values.ndim == 3:
            return Stored(_eight_bits(values, self._bits()), "rgb", lossy=lossy)
        white_is_zero = self._options["photometric_interpretation"] == "MONOCHROME1"
        bits = int(self._options["bits_stored"])
        with quiet(self._path):
            windowed = _windowed(values, self._header)
        if windowed is not None:
            return Stored(windowed, "grey", bits=8, white_is_zero=white_is_zero, lossy=lossy)
        if values.dtype == np.uint8 and bits == 1:
            values = values > 0
        return Stored(values, "grey", bits=bits, white_is_zero=white_is_zero, lossy=lossy)

    def _bits(self) -> int:
        """Bits of a colour."""
        if self._palette is not None:  # some write 8 bits into entries of 16
            return 16 if self._palette.max(initial=0) > 255 else 8
        return int(self._options["bits_stored"])

    def _decoded(self, index: int) -> NDArray[Any]:
        """A frame as pydicom decodes it; its code stream is looked at first."""
        from pydicom.encaps import get_frame

        if self._syntax.is_encapsulated:
            self._stream.seek(self._start)
            coded = get_frame(
                self._stream,
                index,
                number_of_frames=self._count,
                extended_offsets=self._options.get("extended_offsets"),
            )
            # A few bytes of code stream may claim 65535 x 65535 pixels, and decoders make the room
            # before they look further.
            _check_coded(self._path, coded, self._options)
        elif self._options["bits_allocated"] == 1:
            return self._bits_of(index)
        self._stream.seek(self._start)
        arrays = self._decoder.iter_array(
            self._stream, indices=[index], validate=True, raw=False, **self._options
        )
        return next(arrays)[0]

    def _bits_of(self, index: int) -> NDArray[np.uint8]:
        """A frame of packed bits, which may begin within a byte (PS3.5, 8.1.1).

        pydicom 3.0 cuts such frames off.
        """
        rows, columns = self._options["rows"], self._options["columns"]
        byte, bit = divmod(index * rows * columns, 8)
        self._stream.seek(self._start + byte)
        data = np.frombuffer(self._stream.read(-(-(bit + rows * columns) // 8)), np.uint8)
        bits = np.unpackbits(data, bitorder="little")[bit : bit + rows * columns]
        return bits.reshape(rows, columns)

    def _table(self, dtype: np.dtype[Any]) -> NDArray[Any]:
        """The colours (N, 3) of all values of a type, from the least on."""
        from pydicom.pixels import apply_color_lut

        if self._palette is None:
            _check_segments(self._path, self._header)
            info = np.iinfo(dtype)
            # The whole table once, through pydicom itself; each frame is then a look-up.
            values = np.arange(int(info.min), int(info.max) + 1).astype(dtype)
            self._palette = apply_color_lut(values, self._header)[..., :3]
        return self._palette

    # What is stored, for whoever writes it anew

    @property
    def header(self) -> Any:
        """Attributes as the file has them, those that identify the patient among them."""
        return self._header

    @property
    def is_compressed(self) -> bool:
        """Whether a frame must be decoded to have its values."""
        return bool(self._syntax.is_encapsulated)

    @property
    def is_little_endian(self) -> bool:
        """The order of bytes of values that are not compressed."""
        return bool(self._syntax.is_little_endian)

    def stored_bytes(self, index: int) -> bytes:
        """The bytes of a frame that is not compressed.

        Raises:
            ImageReadError: it is not whole.
        """
        length = self._bits_each() // 8
        self._stream.seek(self._start + index * length)
        found = self._stream.read(length)
        if len(found) < length:
            raise ImageReadError(self._path, f"frame {index} is {DAMAGED}")
        return found

    def values(self, index: int) -> NDArray[Any]:
        """A decoded frame: grey or numbers of a palette (H, W), or RGB (H, W, 3).

        Raises:
            ImageReadError: it is damaged.
        """
        with quiet(self._path, f"frame {index} is {DAMAGED}"):
            return self._decoded(index) if self._video is None else self._video.frame(index)

    def darkest(self) -> int:
        """The number of a palette that is shown darkest."""
        values = self.values(0).dtype
        return int(np.iinfo(values).min) + int(self._table(values).sum(axis=1).argmin())

    def digest(self) -> str:
        """SHA-256 of the file."""
        return sha256_of(self._path)

    def close(self) -> None:
        """Close the file."""
        if self._video is not None:
            self._video.close()
        self._file.close()


# No value of an attribute in a message, a warning or a log

_silent: ContextVar[bool] = ContextVar("usgseg_silent", default=False)


class _Silence(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not _silent.get()


_SILENCE = _Silence()
_LOGGERS = ("pydicom", "pylibjpeg", "openjpeg")
_WARNING = re.compile(r"pydicom(\.|$)")


@contextmanager
def quiet(path: Path, damaged: str = DAMAGED) -> Iterator[None]:
    """Work with pydicom that says nothing; what it raises becomes an error without its words."""
    import pydicom.pixels  # noqa: F401 (whose loggers are there from now on)

    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in _LOGGERS:  # a parent's filter is not asked by its children
            logging.getLogger(name).addFilter(_SILENCE)
    if not warnings.filters or warnings.filters[0][3] != _WARNING:  # else each frame adds one
        warnings.filterwarnings("ignore", module=_WARNING.pattern)  # they quote values
    token = _silent.set(True)
    try:
        yield
    except ImageReadError:
        raise
    except FileNotFoundError:
        raise ImageReadError(path, "no such file; check the path") from None
    except PermissionError:
        raise ImageReadError(path, "may not be read; change its permissions") from None
    except MemoryError:
        raise ImageReadError(path, f"asks for more memory than there is: {damaged}") from None
    except Exception:
        raise ImageReadError(path, damaged) from None
    finally:
        _silent.reset(token)


# The header


def _read_header(
    path: Path, file: BinaryIO, names: Sequence[str] | None = None
) -> tuple[Any, Any, BinaryIO]:
    """The data set before the pixels, its transfer syntax, and the stream that stands at them.

    ``names`` are the attributes that are wanted: None for those that this module needs, () for all.
    """
    from pydicom import dcmread
    from pydicom.filereader import read_dataset, read_file_meta_info
    from pydicom.tag import Tag
    from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    wanted = _TAGS if names is None else names
    tags = [Tag(name) for name in wanted] if wanted else None
    syntax, length = None, 0
    with suppress(Exception):
        meta = read_file_meta_info(path)
        syntax = UID(str(meta.get("TransferSyntaxUID") or "")) or None
        length = int(meta.get("FileMetaInformationGroupLength") or 0)
    if syntax == _DEFLATED:
        file.seek(132 + 12 + length)
        stream = BytesIO(_inflated(path, file.read()))
        header = read_dataset(stream, False, True, stop_when=_is_pixels, specific_tags=tags)
        return header, ExplicitVRLittleEndian, stream
    # force: files without a preamble are DICOM to ``is_dicom``, but not to pydicom.
    header = dcmread(file, stop_before_pixels=True, force=True, specific_tags=tags)
    if syntax is None:
        implicit, little = header.original_encoding
        syntax = ImplicitVRLittleEndian
        if not implicit:
            syntax = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    return header, syntax, file


def _is_pixels(tag: int, vr: str | None, length: int) -> bool:
    return tag in (0x7FE00010, 0x7FE00009, 0x7FE00008)


def _inflated(path: Path, data: bytes) -> bytes:
    inflating = zlib.decompressobj(-zlib.MAX_WBITS)
    # Deflated bytes grow up to a thousandfold; no more is unpacked than a header and a few frames
    # need.
    found = inflating.decompress(data, MAX_INFLATED)
    if inflating.unconsumed_tail:
        raise ImageReadError(path, f"grows to more than {MAX_INFLATED:,} bytes; export it anew")
    return found


def _at_pixels(path: Path, stream: BinaryIO, syntax: Any) -> tuple[int, str, str | None]:
    """Length, keyword and VR of the pixel data; the stream stands at their value then."""
    order: Any = "little" if syntax.is_little_endian else "big"
    start = stream.read(8)
    tag = int.from_bytes(start[:2], order) << 16 | int.from_bytes(start[2:4], order)
    keywords = {
        0x7FE00010: "PixelData", 0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData",
    }  # fmt: skip
    if len(start) < 8 or tag not in keywords:
        raise ImageReadError(path, "a DICOM file without a picture, or cut off before it")
    if syntax.is_implicit_VR:
        return int.from_bytes(start[4:], order), keywords[tag], None
    length = int.from_bytes(stream.read(4), order)
    return length, keywords[tag], start[4:6].decode("latin-1")


def _unknown_syntax(path: Path, syntax: Any) -> ImageReadError:
    name = f" ({syntax.name})" if syntax.is_transfer_syntax else ""
    return unsupported(path, f"its transfer syntax{name} is not supported", _EXPORT_PLAIN)


def _check_options(path: Path, options: dict[str, Any]) -> None:
    """Refuse a picture whose description makes no sense, before anything is decoded."""
    options.setdefault("samples_per_pixel", 1)
    options.setdefault("pixel_representation", 0)
    for name in ("rows", "columns", "bits_allocated"):
        if not isinstance(options.get(name), int):
            raise ImageReadError(path, f"says nothing of its {name.replace('_', ' ')}; {DAMAGED}")
    options.setdefault("bits_stored", options["bits_allocated"])
    colors = options["samples_per_pixel"]
    options.setdefault("photometric_interpretation", "RGB" if colors == 3 else "MONOCHROME2")
    if colors == 3:
        options.setdefault("planar_configuration", 0)
    check_size(path, options["rows"], options["columns"])
    depths: tuple[int, ...] = (1, 8, 16, 32, 64)
    if options["photometric_interpretation"] == "PALETTE COLOR":
        depths = (8, 16)
    if colors not in (1, 3) or options["bits_allocated"] not in depths:
        raise unsupported(
            path,
            f"{colors} channels of {options['bits_allocated']} bits are not supported",
            _EXPORT_PLAIN,
        )
    check_bytes(
        path, options["rows"] * options["columns"] * colors * options["bits_allocated"] // 8
    )


# Compressed frames


def _check_coded(path: Path, coded: bytes, options: dict[str, Any]) -> None:
    """Refuse a code stream that is not what the header says before a decoder makes room for it."""
    rows, columns = options["rows"], options["columns"]
    found = _coded_size(coded)
    if found is not None and 0 in found:
        raise ValueError("no size")
    if found is not None and found != (rows, columns):
        raise ImageReadError(
            path,
            f"its compressed picture is {found[0]} x {found[1]} pixels, its header says "
            f"{rows} x {columns}; export it again",
        )
    whole = rows * columns * options["samples_per_pixel"] * options["bits_allocated"] // 8
    if options["transfer_syntax_uid"] == "1.2.840.10008.1.2.5" and len(coded) > 2 * whole + 4096:
        raise ImageReadError(path, "its compressed frame is longer than the picture; " + DAMAGED)


def _coded_size(coded: bytes) -> tuple[int, int] | None:
    """(rows, columns) that a JPEG, JPEG-LS or JPEG 2000 code stream says; None where it does not.

    Raises:
        ValueError: it has more channels than a picture.
    """
    start = coded.find(b"\xff\x4f\xff\x51") if coded[:4] != b"\xff\x4f\xff\x51" else 0
    if coded[:2] != b"\xff\xd8" and 0 <= start < 4096:
        numbers = [int.from_bytes(coded[i : i + 4], "big") for i in range(start + 8, start + 24, 4)]
        if int.from_bytes(coded[start + 40 : start + 42], "big") > 4:
            raise ValueError("channels")
        return numbers[1] - numbers[3], numbers[0] - numbers[2]
    place = 2
    while coded[:2] == b"\xff\xd8" and place + 10 <= len(coded) and coded[place] == 0xFF:
        marker = coded[place + 1]
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            if coded[place + 9] > 4:
                raise ValueError("channels")
            rows = int.from_bytes(coded[place + 5 : place + 7], "big")
            return rows, int.from_bytes(coded[place + 7 : place + 9], "big")
        length = 0 if marker == 0xFF else int.from_bytes(coded[place + 2 : place + 4], "big") + 1
        place += 1 + length
    return None


def _check_segments(path: Path, header: Any) -> None:
    """Refuse a segmented palette that is larger than any palette, or that repeats itself."""
    for color in ("Red", "Green", "Blue"):
        data = header.get(f"Segmented{color}PaletteColorLookupTableData")
        descriptor = header.get(f"{color}PaletteColorLookupTableDescriptor")
        if not data or not descriptor:
            continue
        words = np.frombuffer(data, np.uint8 if descriptor[2] == 8 else "<u2")
        place = total = 0
        while place + 1 < len(words):
            kind, length = int(words[place]), int(words[place + 1])
            if kind > 1:
                raise unsupported(
                    path, "a palette of indirect segments is not supported", _EXPORT_PLAIN
                )
            total += length
            place += 2 + (length if kind == 0 else 1)
        if total > 65536:
            raise ImageReadError(path, f"has a palette of {total:,} colours; {DAMAGED}")


class _Joined(RawIOBase):
    """The fragments of encapsulated pixel data as one stream, without a copy."""

    def __init__(self, stream: BinaryIO, start: int) -> None:
        self._stream, self._at = stream, 0
        self._parts: list[tuple[int, int, int]] = []  # (from, place in the file, length)
        size, first = 0, True
        end = stream.seek(0, SEEK_END)
        stream.seek(start)
        while (item := stream.read(8))[:4] == b"\xfe\xff\x00\xe0" and len(item) == 8:
            place = stream.tell()
            length = min(int.from_bytes(item[4:], "little"), end - place)
            if not first:
                self._parts.append((size, place, length))
                size += length
            first = False
            stream.seek(place + length)
        self._size = size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        base = {0: 0, 1: self._at, 2: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int = -1) -> bytes:
        wanted = self._size - self._at if size < 0 else min(size, self._size - self._at)
        found = b""
        for begin, place, length in self._parts:
            if wanted > len(found) and begin <= self._at < begin + length:
                self._stream.seek(place + self._at - begin)
                more = self._stream.read(min(wanted - len(found), begin + length - self._at))
                if not more:
                    break
                found += more
                self._at += len(more)
        return found


# What is shown


def _eight_bits(values: NDArray[Any], bits: int) -> NDArray[Any]:
    return values if values.dtype == np.uint8 else (values >> max(bits - 8, 0)).astype(np.uint8)


def _windowed(values: NDArray[Any], header: Any) -> NDArray[np.uint8] | None:
    """(H, W) uint8 of grey values by the file's tables and window; None where it has none."""
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    tables = bool(header.get("VOILUTSequence"))
    window = header.get("WindowCenter") is not None and header.get("WindowWidth") is not None
    if not (tables or window):
        return None
    with suppress(Exception):  # a window that makes no sense costs no picture
        rescaled = apply_modality_lut(values, header)
        if tables:
            shown = apply_voi_lut(rescaled, header).astype(np.float64)
            low, high = 0.0, float(2 ** int(header.VOILUTSequence[0].LUTDescriptor[2]) - 1)
        else:
            # The values that the window makes of the extremes go through with the picture: they
            # tell black and white, whichever of DICOM's three functions it is.
            ends = np.array([-1e12, 1e12])
            row = np.concatenate([rescaled.astype(np.float64).ravel(), ends])
            shown = apply_voi_lut(row, header)
            low, high = float(shown[-2]), float(shown[-1])
            shown = shown[:-2].reshape(values.shape)
        if high > low:
            return np.rint(np.clip((shown - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    return None


# What the picture holds


def _about(header: Any, path: Path, size_hw: tuple[int, int]) -> FileAbout:
    regions: tuple[Region, ...] = ()
    with suppress(Exception):
        found = (_region(item, size_hw) for item in header.get("SequenceOfUltrasoundRegions") or ())
        regions = tuple(region for region in found if region is not None)
    return FileAbout(
        "DICOM",
        spacing_mm=_spacing(header, regions),
        regions=regions,
        rate=_rate(header),
        group=_group(header),
        scanner=_scanner(header),
        depth_mm=_number(header, "DepthOfScanField"),
        repeats_identity=_is_repeated(header, path),
    )


def identity_of(path: Path) -> tuple[str | None, bool]:
    """Pseudonym of the patient of a DICOM file, and whether the file's path repeats who it is.

    Only the header is read, whatever is wrong with the picture.

    Raises:
        ImageReadError: the header cannot be read up to the picture, so that it may say anything.
    """
    header = _whole_header(path)
    with quiet(path):
        return _group(header), _is_repeated(header, path)


def repeats_identity(path: Path, text: str) -> bool:
    """Whether a text, such as the name of a group, repeats who the patient of a DICOM file is.

    Raises:
        ImageReadError: as for ``identity_of``.
    """
    header = _whole_header(path)
    with quiet(path):
        return _is_repeated(header, Path("/", text))


def _whole_header(path: Path) -> Any:
    with quiet(path), path.open("rb") as file:
        header, syntax, stream = _read_header(path, file)
        if syntax.is_transfer_syntax:
            _at_pixels(path, stream, syntax)
        return header


def header_of(path: Path, *names: str) -> Any:
    """The data set of a DICOM file before its pixels, as far as it goes: all or some attributes.

    Raises:
        ImageReadError: it has no header that can be read.
    """
    with quiet(path), path.open("rb") as file:
        header, _, _ = _read_header(path, file, names)
        if not header:
            raise ImageReadError(path, DAMAGED)
        for _ in header.iterall():  # pydicom makes values of bytes only when they are asked for
            pass
        return header


def instance_of(path: Path) -> str:
    """The SOP instance UID of a DICOM file: to know it by, never to be shown or kept.

    Raises:
        ImageReadError: it has no header that can be read.
    """
    header = header_of(path, "SOPInstanceUID")
    with quiet(path):
        return "".join(_values(header, "SOPInstanceUID"))


def _is_repeated(header: Any, path: Path) -> bool:
    names = [value for name in _PERSONS for value in _values(header, name)]
    values = [value for name in _IDENTIFYING for value in _values(header, name)]
    with suppress(Exception):
        for item in header.get("OtherPatientIDsSequence") or ():
            values += _values(item, "PatientID")
    return is_repeated(path, values, names)


def _values(header: Any, name: str) -> list[str]:
    with suppress(Exception):
        value = header.get(name)
        if value is None or isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
            return [str(value)] if value else []
        if name in _PERSONS:
            return [str(value)]
        return [str(item) for item in value]
    return []


def _number(item: Any, name: str) -> float | None:
    with suppress(Exception):
        value = item.get(name)
        number = float(value) if value is not None else math.nan
        return number if math.isfinite(number) else None
    return None


def _region(item: Any, size_hw: tuple[int, int]) -> Region | None:
    """A region as it is in the picture; None where its rectangle makes no sense."""
    names = ("MinX0", "MinY0", "MaxX1", "MaxY1")
    corners = [_number(item, f"RegionLocation{name}") for name in names]
    if any(corner is None for corner in corners):
        return None
    x0, y0, x1, y1 = (int(corner) for corner in corners if corner is not None)
    height, width = size_hw
    # Both corners are inside in DICOM (PS3.3 C.8.5.5); boxes here end behind the last pixel.
    box = max(x0, 0), max(y0, 0), min(x1 + 1, width), min(y1 + 1, height)
    if box[0] >= box[2] or box[1] >= box[3]:
        return None
    space, data = _number(item, "RegionSpatialFormat"), _number(item, "RegionDataType")
    kind = _FORMATS.get(int(space or 0), "other")
    if space == 1:
        kind = "colour" if data == _FLOW else "B-mode" if data == _TISSUE else "other"
    codes = [int(_number(item, f"PhysicalUnits{axis}Direction") or 0) for axis in "YX"]
    units = tuple(_UNITS.get(code, "") for code in codes)
    spacing = None
    if units == ("cm", "cm"):
        steps = [_number(item, f"PhysicalDelta{axis}") for axis in "YX"]
        spacing = _believed([abs(step) * 10 for step in steps if step is not None])
    return Region(kind, box, spacing, (units[0], units[1]))


def _believed(values: Sequence[float]) -> Spacing | None:
    low, high = RANGE_MM
    if len(values) == 2 and all(low <= value <= high for value in values):
        return float(values[0]), float(values[1])
    return None


def _spacing(header: Any, regions: Sequence[Region]) -> Spacing | None:
    """Of all tissue in the picture, where there is one; see this module's docstring."""
    tissue = [region.spacing_mm for region in regions if region.is_tissue]
    if tissue:
        first = tissue[0]
        # Two views at two depths have no one scale; who measures asks for the region's.
        same = first is not None and all(
            other is not None and np.allclose(first, other, rtol=1e-3) for other in tissue
        )
        return first if same else None
    # PixelSpacing would then be of an axis that is time.
    if any(region.kind in ("M-mode", "spectral") for region in regions):
        return None
    with suppress(Exception):
        value = header.get("PixelSpacing") or header.get("NominalScannedPixelSpacing")
        if value is None and header.get("SharedFunctionalGroupsSequence"):
            shared = header.SharedFunctionalGroupsSequence[0]
            value = shared.PixelMeasuresSequence[0].PixelSpacing
        if value is not None and [float(step) for step in value] != [1.0, 1.0]:
            return _believed([float(step) for step in value])
    return None


def _rate(header: Any) -> float | None:
    for name in ("CineRate", "RecommendedDisplayFrameRate"):
        rate = _number(header, name)
        if rate and 0 < rate <= 1000:
            return rate
    time = _number(header, "FrameTime")
    if time is None:
        with suppress(Exception):
            times = [float(step) for step in header.get("FrameTimeVector") or ()]
            time = sum(times) / (len(times) - 1) if len(times) > 1 else None
    return 1000 / time if time and time >= 1 else None


def _group(header: Any) -> str | None:
    """The patient under a pseudonym, or else the study; None where the file tells neither."""
    # The number with its issuer first: two hospitals give the same numbers. Then name and date of
    # birth.
    for names in (("PatientID", "IssuerOfPatientID"), ("PatientName", "PatientBirthDate")):
        parts = [" ".join(_values(header, name)).strip().casefold() for name in names]
        if not is_nobody(parts[0]):
            return pseudonym("|".join((names[0], *parts)))
    for name in ("StudyInstanceUID", "SeriesInstanceUID"):
        if value := "".join(_values(header, name)):
            return pseudonym(f"{name}|{value}", "study")
    return None


def _scanner(header: Any) -> str:
    """Manufacturer and model, of plain signs; "" where somebody wrote there who the patient is."""
    said = " ".join(
        v for n in ("Manufacturer", "ManufacturerModelName") for v in _values(header, n)
    )
    plain = " ".join("".join(sign for sign in said if sign.isprintable()).split())[:100]
    return "" if _is_repeated(header, Path("/", plain.replace("/", " "))) else plain
