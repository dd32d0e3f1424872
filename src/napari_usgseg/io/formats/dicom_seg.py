"""Formats "dicom-seg" and "dicom-seg-loops": DICOM segmentations beside their ultrasound images.

    images/<id>.dcm          Ultrasound Image Storage, 8 bits, not compressed
    segmentations/<id>.dcm   Segmentation Storage, binary: a segment a class, or an object
    segmentations.json       the images, with groups and sides, and the classes

Both are made anew of the pixels: of what the person's own file says of a patient nothing is in
them, and they refer to one another only. The patient's number is a pseudonym of the group. In
"dicom-seg" a frame of a loop is an image of its own, of its file's series, for a segmentation of
several frames needs a frame of reference in the room, which ultrasound has none of. In
"dicom-seg-loops" one is made up: the labelled frames of a loop are one multi-frame image and one
segmentation, whose planes lie one above the other, ``STEP`` apart, and who exports is told.

A segment's type has the class's number and name (coding scheme 99USGSEG). What comes in refers to
an image by its SOP instance UID, and to a frame by its number; geometry is not looked at.
"""

from __future__ import annotations

import hashlib
import warnings
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import copy, deepcopy
from dataclasses import dataclass
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import DatasetError, FileError, ImageReadError
from ...core.types import BoolArray, LabelClass
from ..labels import MAX_LABEL, class_of, default_color, instance_of, rgb_of, values_in
from ..names import hidden_or_appledouble, numbered_name, safe_file_name
from ..outputs import OutputFolder
from ..reading.dicom import header_of
from ..reading.files import image_stem, is_dicom, open_frames, plain_stem
from ..reading.identity import pseudonym
from ..search import natural_order
from .objects import (
    at_size,
    check_count,
    checked_size,
    class_name,
    colors_of,
    image_entry,
    malformed,
    names_of,
    pack,
    read_json,
    unpacked,
    unreadable,
    write_json,
)
from .records import Entry, ExportAbout, ExportImage, LabelledImage, LabelledObject, LabelSet

CARD = "segmentations.json"
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""SOP classes: segmentation, and label map segmentation."""
ATTRIBUTES = (
    "SegmentationType", "MaximumFractionalValue", "NumberOfFrames", "SegmentSequence",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
"""What is read of a segmentation."""
SCHEME = "99USGSEG"
MAX_TEXT = 64
"""Bytes of a class's name (VR LO counts signs, but not all programs do)."""
MIN_PIXELS, MAX_FRAMES = 8, 100_000
"""Of an image, for highdicom packs the bits of smaller ones wrongly; and of a segmentation."""
CM = 3
"""Code of a region's unit."""


# Out


def write_image(folder: OutputFolder, item: ExportImage) -> Entry:
    """Write the image; its segmentation follows with the card, which names the classes."""
    if item.labels.size < MIN_PIXELS:
        raise DatasetError(
            folder.root / item.source, f"has fewer than {MIN_PIXELS} pixels; choose another format"
        )
    image = _image(folder, item)
    _write(folder, f"images/{item.file_name}.dcm", image)
    del image.PixelData
    labels = item.labels if item.codes is None else item.codes
    named = {"patient": str(image.PatientID)}
    return image_entry(item) | named | {"image": image, "labels": pack(labels)}


def write_card(folder: OutputFolder, about: ExportAbout, entries: Sequence[Entry]) -> None:
    """Write the segmentations, and ``segmentations.json``."""
    listed = []
    for entry in entries:
        labels = unpacked(entry)[None]
        segmentation = _segmentation(folder, about, entry, entry["image"], labels)
        if segmentation is not None:
            _write(folder, f"segmentations/{entry['file']}.dcm", segmentation)
        listed.append({k: v for k, v in entry.items() if k not in _HELD})
    _write_list(folder, about, listed)


def _write_list(folder: OutputFolder, about: ExportAbout, listed: Sequence[Entry]) -> None:
    card = {
        "name": about.name,
        "organ": about.organ,
        "licence": about.licence,
        "labelling": about.labelling,
        "labels": {str(value): name for value, name in sorted(about.labels.items())},
        "images": listed,
    }
    write_json(folder, CARD, card, indent=1)


def _write(folder: OutputFolder, place: str, data: Any) -> None:
    file = BytesIO()
    data.save_as(file, enforce_file_format=True)
    folder.write(folder.root / place, file.getvalue())


def _uid(folder: OutputFolder, *parts: object) -> str:
    """A UID of this export alone: the same for the same parts."""
    text = "|".join(map(str, (folder.root.resolve(), *parts)))
    digest = hashlib.blake2b(pseudonym(text, text).encode("utf-8", "replace"), digest_size=16)
    return f"2.25.{int.from_bytes(digest.digest(), 'big')}"


def _image(folder: OutputFolder, item: ExportImage) -> Any:
    """An ultrasound image of the pixels, and of nothing else that the person's file says."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage

    grey = bool((item.image == item.image[..., :1]).all())
    pixels = np.ascontiguousarray(item.image[..., 0] if grey else item.image)
    data = pixels.tobytes()
    image = Dataset()
    image.SpecificCharacterSet = "ISO_IR 192"
    image.ImageType = ["DERIVED", "SECONDARY"]
    image.SOPClassUID = UltrasoundImageStorage
    content = hashlib.blake2b(data).hexdigest()
    image.SOPInstanceUID = _uid(folder, item.image_id, item.spacing_mm, content)
    image.StudyInstanceUID = _uid(folder, "study", item.group)
    image.SeriesInstanceUID = _uid(folder, "series", item.group, item.source)
    image.PatientID = pseudonym(item.group)  # a group's name is often in the file's name
    image.SeriesNumber, image.InstanceNumber = 1, (item.frame or 0) + 1
    image.Modality, image.Manufacturer = "US", ""
    for empty in ("PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
                  "StudyID", "AccessionNumber", "ReferringPhysicianName", "Laterality",
                  "PatientOrientation"):  # fmt: skip
        setattr(image, empty, "")
    image.SamplesPerPixel = 1 if grey else 3
    image.PhotometricInterpretation = "MONOCHROME2" if grey else "RGB"
    if not grey:
        image.PlanarConfiguration = 0
    image.Rows, image.Columns = pixels.shape[:2]
    image.BitsAllocated, image.BitsStored, image.HighBit = 8, 8, 7
    image.PixelRepresentation = 0
    if item.spacing_mm is not None:
        image.SequenceOfUltrasoundRegions = [_region(item.spacing_mm, item.labels.shape)]
    image.PixelData = data + b"\0" * (len(data) % 2)
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return image


def _region(spacing_mm: tuple[float, float], size_hw: Sequence[int]) -> Any:
    """The whole picture as a region of tissue with this spacing (row, column)."""
    from pydicom.dataset import Dataset

    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0 = region.RegionLocationMinY0 = 0
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = size_hw[1] - 1, size_hw[0] - 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = CM
    region.PhysicalDeltaX, region.PhysicalDeltaY = spacing_mm[1] / 10, spacing_mm[0] / 10
    return region


class _Loops:
    """The format with the labelled frames of a loop in one image and one segmentation."""

    def write_image(self, folder: OutputFolder, item: ExportImage) -> Entry:
        """Write a still; keep a frame, packed, until all of its loop are there."""
        if item.frame is None:
            return write_image(folder, item)
        labels = item.labels if item.codes is None else item.codes
        image = _image(folder, item)
        pixels = zlib.compress(image.PixelData, 1)
        del image.PixelData
        kept = {"image": image, "pixels": pixels, "labels": pack(labels), "frame": item.frame}
        return image_entry(item) | {"patient": str(image.PatientID)} | kept

    def write_card(
        self, folder: OutputFolder, about: ExportAbout, entries: Sequence[Entry]
    ) -> None:
        """Write the loops, all segmentations, and ``segmentations.json``."""
        loops: dict[tuple[Any, ...], list[Entry]] = defaultdict(list)
        for entry in entries:
            base = entry["id"].rpartition("_")[0] if "frame" in entry else entry["id"]
            loops[base, "frame" in entry, entry["height"], entry["width"]].append(entry)
        used: set[str] = set()
        listed = []
        for (base, is_loop, *_), frames in loops.items():
            name = numbered_name(safe_file_name(base), used)
            labels = np.stack([unpacked(entry) for entry in frames])
            if is_loop:
                image = _loop(folder, frames)
                _write(folder, f"images/{name}.dcm", image)
                segmentation = _segmentation(folder, about, frames[0], _placed(image), labels)
            else:
                name = frames[0]["file"]
                segmentation = _segmentation(folder, about, frames[0], frames[0]["image"], labels)
            if segmentation is not None:
                _write(folder, f"segmentations/{name}.dcm", segmentation)
            for index, entry in enumerate(frames):
                kept = {k: v for k, v in entry.items() if k not in _HELD}
                listed.append(kept | ({"loop": name, "place": index} if is_loop else {}))
        _write_list(folder, about, listed)

    def recognises(self, path: Path) -> bool:
        """As "dicom-seg"."""
        return recognises(path)

    def read(self, path: Path) -> LabelSet:
        """As "dicom-seg"."""
        return read(path)


LOOPS = _Loops()
STEP = 1.0
"""Millimetres between two frames of a loop in the room, which are made up."""
_HELD = ("image", "pixels", "labels")


def _loop(folder: OutputFolder, frames: Sequence[Entry]) -> Any:
    """One multi-frame image of the frames of a loop, grey where all of them are."""
    from pydicom.tag import Tag
    from pydicom.uid import UltrasoundMultiFrameImageStorage

    image = deepcopy(frames[0]["image"])
    grey = all(entry["image"].SamplesPerPixel == 1 for entry in frames)
    shape = frames[0]["height"], frames[0]["width"]
    data = b"".join(_stored(entry, shape, grey) for entry in frames)
    if not grey:
        image.SamplesPerPixel, image.PhotometricInterpretation = 3, "RGB"
        image.PlanarConfiguration = 0
    image.SOPClassUID = UltrasoundMultiFrameImageStorage
    content = hashlib.blake2b(data).hexdigest()
    image.SOPInstanceUID = _uid(folder, "loop", frames[0]["id"], content)
    image.FrameOfReferenceUID = _uid(folder, "room", frames[0]["id"])
    image.PositionReferenceIndicator, image.InstanceNumber = "", 1
    image.NumberOfFrames = len(frames)
    image.PageNumberVector = [entry["frame"] + 1 for entry in frames]
    image.FrameIncrementPointer = Tag("PageNumberVector")
    image.PixelData = data + b"\0" * (len(data) % 2)
    return image


def _stored(entry: Entry, size_hw: tuple[int, int], grey: bool) -> bytes:
    data = zlib.decompress(entry["pixels"])
    count = size_hw[0] * size_hw[1]
    if grey or entry["image"].SamplesPerPixel == 3:
        return data[: count * (1 if grey else 3)]
    return np.repeat(np.frombuffer(data, np.uint8, count), 3).tobytes()


def _placed(image: Any) -> Any:
    """A loop with places in the room, as highdicom wants them of several frames."""
    from pydicom.dataset import Dataset

    def item(**values: Any) -> Any:
        made = Dataset()
        for name, value in values.items():
            setattr(made, name, value)
        return made

    regions = image.get("SequenceOfUltrasoundRegions")
    spacing = [1.0, 1.0]
    if regions:
        spacing = [10 * regions[0].PhysicalDeltaY, 10 * regions[0].PhysicalDeltaX]
    placed = copy(image)
    placed.SharedFunctionalGroupsSequence = [
        item(
            PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
            PixelMeasuresSequence=[
                item(PixelSpacing=[f"{v:.10g}" for v in spacing], SliceThickness=STEP)
            ],
        )
    ]
    placed.PerFrameFunctionalGroupsSequence = [
        item(PlanePositionSequence=[item(ImagePositionPatient=[0, 0, STEP * index])])
        for index in range(image.NumberOfFrames)
    ]
    return placed


def _segmentation(
    folder: OutputFolder, about: ExportAbout, entry: Entry, image: Any, labels: NDArray[Any]
) -> Any:
    """The segmentation of an image, or of a loop; None where there is no class to speak of.

    Args:
        folder: of the export.
        about: the export.
        entry: of the image, or of a loop's first.
        image: what the segmentation is of.
        labels: (N, H, W), one for each frame.
    """
    from highdicom.seg import Segmentation, SegmentationTypeValues

    told_apart = about.labelling == "instance" and labels.any()
    values = values_in(labels) if told_apart else sorted(about.labels)
    if not values:
        return None
    table = np.zeros(max(values) + 1, np.uint16)
    table[values] = np.arange(1, len(values) + 1)
    content = hashlib.blake2b(labels.tobytes()).hexdigest()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names of one part
        made = Segmentation(
            [image],
            table[labels],
            SegmentationTypeValues.BINARY,
            _segments(folder, about, entry, values),
            series_instance_uid=_uid(
                folder, "segmentations", entry["group"], image.SeriesInstanceUID
            ),
            series_number=2,
            sop_instance_uid=_uid(folder, "segmentation", image.SOPInstanceUID, content),
            instance_number=image.InstanceNumber,
            manufacturer="napari-usgseg",
            manufacturer_model_name="napari-usgseg",
            software_versions=version("napari-usgseg"),
            device_serial_number="0",
            omit_empty_frames=bool(labels.any()),
        )
    made.PatientOrientation = ""
    return made


def _segments(
    folder: OutputFolder, about: ExportAbout, entry: Entry, values: Sequence[int]
) -> list[Any]:
    """What each segment is: a class, or an object of one."""
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
    from highdicom.sr import CodedConcept
    from pydicom.sr.codedict import codes

    names, colors = names_of(about), colors_of(about)
    tool = AlgorithmIdentificationSequence(
        "napari-usgseg", codes.DCM.ArtificialIntelligence, version("napari-usgseg")
    )
    made = []
    for number, value in enumerate(values, start=1):
        class_id, index = class_of(value, about.labelling), instance_of(value, about.labelling)
        name = _text(names[class_id])
        tracked = {}
        if index:
            tracked["tracking_id"] = _text(f"{index} {name}")
            tracked["tracking_uid"] = _uid(folder, "object", entry["id"], value)
        made.append(
            SegmentDescription(
                number,
                name,
                segmented_property_category=codes.SCT.Tissue,
                segmented_property_type=CodedConcept(str(class_id), SCHEME, name),
                algorithm_type=SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
                algorithm_identification=tool,
                display_color=CIELabColor.from_rgb(*rgb_of(colors[class_id])),
                **tracked,
            )
        )
    return made


def _text(text: str) -> str:
    """Text that an attribute of VR LO holds: 64 bytes, without the sign that parts values."""
    plain = text.replace("\\", "/").strip()
    data = plain.encode("utf-8", "replace")
    if len(data) <= MAX_TEXT:
        return plain
    mark = hashlib.blake2b(data, digest_size=4).hexdigest()
    return f"{data[: MAX_TEXT - len(mark) - 1].decode('utf-8', 'ignore')}~{mark}"


# In


def recognises(path: Path) -> bool:
    """A segmentation, or a folder with one."""
    return any(_is_segmentation(file) for file in _files(path))


def _files(path: Path) -> Iterator[Path]:
    """The DICOM files below a folder, those in a folder segmentations first; or the file."""
    found = [path]
    if path.is_dir():
        found = [
            file
            for file in path.rglob("*")
            if not any(map(hidden_or_appledouble, file.relative_to(path).parts)) and file.is_file()
        ]
        found.sort(key=lambda f: ("segmentations" not in f.parts, natural_order(f.as_posix())))
    return (file for file in found if is_dicom(file))


def _is_segmentation(file: Path) -> bool:
    with suppress(ImageReadError):
        return str(header_of(file, "SOPClassUID").get("SOPClassUID")) in SEGMENTATIONS
    return False


def read(path: Path) -> LabelSet:
    """All segmentations; segments of one type or one label are one class."""
    segmentations: list[tuple[Path, Any]] = []
    beside: dict[str, Path] = {}
    for file in _files(path):
        try:
            header = header_of(file, "SOPClassUID", "SOPInstanceUID")
            if str(header.get("SOPClassUID")) in SEGMENTATIONS:
                segmentations.append((file, header_of(file, *ATTRIBUTES)))
            else:
                beside[str(header.get("SOPInstanceUID"))] = file
        except ImageReadError:
            continue  # it may be anything
    if not segmentations:
        raise DatasetError(path, "no DICOM segmentation here")
    broken: list[LabelledImage] = []
    classes: dict[str, LabelClass] = {}
    parts: dict[Meant, list[Part]] = defaultdict(list)
    told_apart = False
    ours = _places(path)
    for file, header in segmentations:
        try:
            segments = _read_segments(file, header, classes)
            for meant, planes in _frames(file, header).items():
                parts[meant].append(Part(file, header, segments, planes))
        except FileError as error:
            broken.append(unreadable(file, error))
            continue
        tracked = any("TrackingUID" in item for item in header.SegmentSequence)
        told_apart |= tracked or len(set(segments.values())) < len(segments)
    images = []
    for (instance, frame), of in parts.items():
        names = _names(of[0].file, beside.get(instance))
        own = ours.get((plain_stem(of[0].file), frame or 0))
        if own is not None:
            names, frame = (own[0], *names), own[1]
        images.append(LabelledImage(of[0].file, names, _reader(of), frame, instance=instance))
    return LabelSet([*images, *broken], list(classes.values()), told_apart)


def _places(path: Path) -> dict[tuple[str, int], tuple[str, int]]:
    """Loop of an export and place in it -> id of the image, and which frame of its file it is."""
    card = next((at / CARD for at in (path, *path.parents[:2]) if (at / CARD).is_file()), None)
    if card is None:
        return {}
    with malformed(card, "lists images that are none"):
        return {
            (str(entry["loop"]), int(entry["place"])): (str(entry["id"]), int(entry["frame"]))
            for entry in read_json(card).get("images", ())
            if "loop" in entry
        }


def _names(segmentation: Path, image: Path | None) -> tuple[str, ...]:
    """What the image of a segmentation may be called; the first may be told, whoever reads it."""
    files = [segmentation] if image is None else [image, segmentation]
    return (image_stem(files[0]), *map(plain_stem, files))


def _read_segments(file: Path, header: Any, classes: dict[str, LabelClass]) -> dict[int, int]:
    """Segment -> number of its class; classes that are not known yet are added."""
    segments = {}
    with malformed(file, "has segments that are none"):
        for item in header.SegmentSequence:
            kind = item.SegmentedPropertyTypeCodeSequence[0]
            own = str(kind.get("CodingSchemeDesignator")) == SCHEME
            text = kind.get("CodeMeaning") if own else item.get("SegmentLabel")
            name = class_name(text or kind.get("CodeMeaning") or "", len(classes) + 1)
            used = {each.class_id for each in classes.values()}
            number = int(kind.CodeValue) if own else 0
            if name not in classes:
                if number in used or not 1 <= number <= MAX_LABEL:
                    number = max(used, default=0) + 1
                classes[name] = LabelClass(number, name, default_color(number))
            segments[int(item.SegmentNumber)] = classes[name].class_id
    return segments


Meant = tuple[str, int | None]
"""The image that is meant: SOP instance UID, and index of a frame or None."""
Planes = list[tuple[int, int]]
"""Frames of a segmentation with their segments; 0 for all of a label map."""


@dataclass(frozen=True, slots=True)
class Part:
    """Part of an image's labels, in one segmentation; several may speak of the same.

    Attributes:
        file: of the segmentation.
        header: of it, without pixels.
        segments: segment -> number of its class.
        planes: of the image.
    """

    file: Path
    header: Any
    segments: Mapping[int, int]
    planes: Planes


def _frames(file: Path, header: Any) -> Mapping[Meant, Planes]:
    """Each image that is meant -> what is of it.

    Raises:
        DatasetError: it does not say so.
    """
    found: dict[Meant, Planes] = defaultdict(list)
    with malformed(file, "does not say of which image each frame is"):
        declared = int(header.get("NumberOfFrames") or 1)
        groups = header.PerFrameFunctionalGroupsSequence
        if not len(groups) == declared <= MAX_FRAMES:
            raise ValueError(f"{declared} frames, {len(groups)} of them described")
        shared = (header.get("SharedFunctionalGroupsSequence") or [None])[0]
        for index, group in enumerate(groups):
            for instance, frame in _sources(_group(group, shared, "DerivationImageSequence")):
                segment = 0
                if header.get("SegmentationType") != "LABELMAP":
                    of = _group(group, shared, "SegmentIdentificationSequence")
                    segment = int(of[0].ReferencedSegmentNumber)
                found[instance, frame].append((index, segment))
    return found


def _group(group: Any, shared: Any, name: str) -> Any:
    """A functional group of a frame, its own or that of all."""
    return group[name].value if name in group else shared[name].value


def _sources(derivation: Any) -> Iterable[Meant]:
    """The images that a frame was made of: SOP instance UID, and index of the frame."""
    for item in derivation[0].SourceImageSequence:
        if str(item.get("SpatialLocationsPreserved", "YES")) != "YES":
            raise ValueError("its pixels are not those of its image")
        frames = item.get("ReferencedFrameNumber")
        frames = [frames] if isinstance(frames, (int, str)) else frames
        for number in frames or [None]:
            yield str(item.ReferencedSOPInstanceUID), None if number is None else int(number) - 1


def _reader(parts: Sequence[Part]) -> Any:
    def read_objects(size_hw: tuple[int, int]) -> list[LabelledObject]:
        return [each for part in parts for each in _objects(part, size_hw)]

    return read_objects


def _objects(part: Part, size_hw: tuple[int, int]) -> Iterator[LabelledObject]:
    """The segments that have a pixel in the image, whole."""
    file, header = part.file, part.header
    fractional = str(header.get("SegmentationType")) == "FRACTIONAL"
    with malformed(file, "has values that are none"):
        half = int(header.get("MaximumFractionalValue") or 1) / 2 if fractional else 0.5
    masks: dict[int, BoolArray] = {}
    check_count(file, len({segment for _, segment in part.planes}), size_hw)
    with open_frames(file) as frames:
        checked_size(file, frames.sizes[0], size_hw)
        for index, segment in part.planes:
            values = frames.frame(index)
            if segment:
                found = {segment: values >= half}
            else:
                numbers = values_in(values)
                check_count(file, len(numbers), size_hw)
                found = {value: values == value for value in numbers if value in part.segments}
            for number, mask in found.items():
                masks[number] = masks[number] | mask if number in masks else mask
    for number, mask in masks.items():
        if number not in part.segments:
            raise DatasetError(file, f"does not say what its segment {number} is")
        if mask.any():
            yield LabelledObject(part.segments[number], at_size(file, mask, size_hw))
