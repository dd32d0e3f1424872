"""Formats "nifti" and "nifti-loops": images/<id>.nii.gz, labels/<id>.nii.gz and labels.json.

"nifti" has a file for each image; "nifti-loops" one for the labelled frames of a loop, and
``labels.json`` says which of its slices is which image ("volume", "slice" and "frame").
Axes are columns, rows and frames, as a viewer shows them with x to the left and y to the back: the
affine has the pixel's size (1 where it is not known) with the signs that DICOM's axes have in
NIfTI. Label values are class numbers, or codes (class number * 1000 + n) where objects were told
apart. Each slice of a volume that comes in is a frame. Its values are taken in their order for an
image that is no volume, whatever the affine says, and turned as viewers do for one that is
(``io.reading.volumes``).
"""

from __future__ import annotations

import gzip
import zlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from ...core.errors import DatasetError, FileError
from ..labels import Labelling, class_of, values_in
from ..masks import fitted, whole_numbers
from ..names import numbered_name, safe_file_name
from ..outputs import OutputFolder
from ..reading.volumes import NiftiFrames, nifti_flips, nifti_header
from .objects import (
    MAX_OBJECTS,
    checked_number,
    classes_named,
    files_below,
    image_entry,
    labelling_of,
    malformed,
    objects_in,
    pack,
    read_json,
    unpacked,
    unreadable,
    write_json,
)
from .records import Entry, ExportAbout, ExportImage, LabelledImage, LabelledObject, LabelSet

CARD = "labels.json"
SUFFIXES = (".nii", ".nii.gz")
ENDINGS = ("_labels", "_label", "_seg", "_mask", "_segmentation", "-labels", "-seg", "-mask")
"""What programs add to an image's name for its labels."""


def write_image(folder: OutputFolder, item: ExportImage) -> Entry:
    """Write the image, grey or RGB, and its labels, with the pixel's size."""
    grey = bool((item.image == item.image[..., :1]).all())
    if grey:
        picture: NDArray[Any] = item.image[..., 0]
    else:
        picture = np.ascontiguousarray(item.image).view(RGB)[..., 0]
    labels = item.labels if item.codes is None else item.codes
    for place, values in (("images", picture), ("labels", labels)):
        path = folder.root / place / f"{item.file_name}.nii.gz"
        folder.write(path, gzip.compress(as_volume(values[None], item.spacing_mm), 6, mtime=0))
    return image_entry(item)


def as_volume(
    frames: NDArray[Any], spacing_mm: tuple[float, float] | None, step: float = 1.0
) -> bytes:
    """A NIfTI file of frames (N, H, W), whose axes are columns, rows and frames.

    Args:
        frames: numbers, or a record of the bytes R, G and B.
        spacing_mm: millimetres per pixel (row, column); None where they are not known.
        step: from frame to frame.
    """
    row, column = spacing_mm or (1.0, 1.0)
    affine = np.diag([-column, -row, step, 1.0])
    volume = nibabel.Nifti1Image(frames.transpose(2, 1, 0), affine, dtype=frames.dtype)
    volume.header.set_xyzt_units("mm" if spacing_mm else "unknown")
    return bytes(volume.to_bytes())


def write_card(folder: OutputFolder, about: ExportAbout, entries: Sequence[Entry]) -> None:
    """Write ``labels.json``: what the values mean, and the images with groups and sides."""
    content = {
        "name": about.name,
        "organ": about.organ,
        "labelling": about.labelling,
        "labels": {str(value): name for value, name in sorted(about.labels.items())},
        "images": entries,
    }
    write_json(folder, CARD, content, indent=1)


class _Loops:
    """The format with the labelled frames of a loop in one file."""

    def write_image(self, folder: OutputFolder, item: ExportImage) -> Entry:
        """Keep the image, packed, until all frames of its loop are there."""
        labels = item.labels if item.codes is None else item.codes
        picture = {"picture": zlib.compress(item.image.tobytes(), 1), "labels": pack(labels)}
        frame = {} if item.frame is None else {"frame": item.frame}
        return image_entry(item) | frame | picture | {"spacing": item.spacing_mm}

    def write_card(
        self, folder: OutputFolder, about: ExportAbout, entries: Sequence[Entry]
    ) -> None:
        """Write a volume of images and one of labels for each loop, and ``labels.json``."""
        loops: dict[tuple[Any, ...], list[Entry]] = defaultdict(list)
        for entry in entries:
            frame = entry.get("frame")
            base = entry["id"] if frame is None else entry["id"].rpartition("_")[0]
            size = entry["height"], entry["width"]
            loops[base, frame is None, size, entry["spacing"]].append(entry)
        used: set[str] = set()
        listed = []
        for (base, _, size, spacing), frames in loops.items():
            frames.sort(key=lambda entry: entry.get("frame", 0))
            name = numbered_name(safe_file_name(base), used)
            images = np.stack([_picture(entry, size) for entry in frames])
            grey = bool((images == images[..., :1]).all())
            shown = images[..., 0] if grey else images.view(RGB)[..., 0]
            for place, values in (
                ("images", shown),
                ("labels", np.stack([unpacked(entry) for entry in frames])),
            ):
                data = gzip.compress(as_volume(values, spacing), 6, mtime=0)
                folder.write(folder.root / place / f"{name}.nii.gz", data)
            for index, entry in enumerate(frames):
                kept = {k: v for k, v in entry.items() if k not in _HELD}
                listed.append(kept | {"volume": name, "slice": index})
        write_card(folder, about, listed)

    def recognises(self, path: Path) -> bool:
        """As "nifti"."""
        return recognises(path)

    def read(self, path: Path) -> LabelSet:
        """As "nifti"."""
        return read(path)


LOOPS = _Loops()
RGB = [(name, "u1") for name in "RGB"]
_HELD = ("picture", "labels", "spacing")


def _picture(entry: Entry, size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    return np.frombuffer(zlib.decompress(entry["picture"]), np.uint8).reshape(*size_hw, 3)


def recognises(path: Path) -> bool:
    """A volume, a ``labels.json`` beside labels/, or a folder of volumes."""
    if path.is_file():
        return path.name.lower().endswith(SUFFIXES)
    return bool(_volumes(path))


def _volumes(folder: Path) -> list[Path]:
    place = folder / "labels" if (folder / "labels").is_dir() else folder
    return files_below(place, *SUFFIXES)


def read(path: Path) -> LabelSet:
    """The volumes of a folder, or one; ``labels.json`` names the values."""
    folder = path if path.is_dir() else path.parent
    files = _volumes(path) if path.is_dir() else [path]
    if not files:
        raise DatasetError(path, "no NIfTI volume here: expected .nii or .nii.gz")
    cards = [place / CARD for place in (folder, folder.parent) if (place / CARD).is_file()]
    names, labelling = _names(cards[0]) if cards else ({}, None)
    ours = _images(cards[0]) if cards else {}
    images: list[LabelledImage] = []
    volumes: list[tuple[Path, list[Slice], tuple[bool, bool]]] = []
    for file in files:
        try:
            volumes.append((file, *_slices(file)))
        except FileError as error:
            images.append(unreadable(file, error))
    values = {value for _, slices, _ in volumes for _, _, found in slices for value in found}
    labelling = labelling or labelling_of(values)
    for file, slices, flips in volumes:
        stem = file.name[: file.name.lower().rindex(".nii")]
        bare = next((stem[: -len(end)] for end in ENDINGS if stem.lower().endswith(end)), stem)
        for index, (packed, shape, _) in enumerate(slices):
            frame = index if len(slices) > 1 else None
            shown = _reader(file, packed, shape, labelling)
            plain = _reader(file, packed, shape, labelling, flips) if any(flips) else shown
            turned = shown if any(flips) else None
            called, frame = ours.get((stem, index), ((), frame))
            images.append(LabelledImage(file, (*called, stem, bare), plain, frame, turned))
    used = {class_of(value, labelling) for value in values} - set(names)
    names |= dict.fromkeys(sorted(used), "")
    return LabelSet(images, classes_named(names), told_apart=labelling == "instance")


def _names(card: Path) -> tuple[dict[int, str], Labelling]:
    content = read_json(card)
    with malformed(card, 'names no labels; expected {"labels": {"1": "cyst"}}'):
        names = {
            checked_number(card, value): str(name) for value, name in content["labels"].items()
        }
        kind: Labelling = "instance" if content.get("labelling") == "instance" else "semantic"
    return names, kind


def _images(card: Path) -> dict[tuple[str, int], tuple[tuple[str, ...], int | None]]:
    """Volume and slice -> what the image is called, and which frame of its file it is."""
    with malformed(card, "lists images that are none"):
        return {
            (str(entry["volume"]), int(entry["slice"])): (
                (str(entry["id"]),),
                None if entry.get("frame") is None else int(entry["frame"]),
            )
            for entry in read_json(card).get("images", ())
            if "volume" in entry
        }


Slice = tuple[bytes, tuple[int, int], list[int]]
"""Labels of a slice, packed, their (H, W) and values."""


def _slices(file: Path) -> tuple[list[Slice], tuple[bool, bool]]:
    """The slices of a volume, and whether a viewer turns columns and rows round.

    Raises:
        ImageReadError: it is damaged or too large.
        DatasetError: its values are no labels.
    """
    slices = []
    with NiftiFrames(file) as frames:
        for index in range(len(frames)):
            values = frames.frame(index)
            labels = whole_numbers(values) if values.ndim == 2 else None
            found = [] if labels is None else values_in(labels)
            if labels is None or len(found) > MAX_OBJECTS:
                raise DatasetError(
                    file, "holds values that are no label numbers from 0 to 65535; is it the image?"
                )
            packed = zlib.compress(labels.astype(np.uint16).tobytes(), 1)
            slices.append((packed, (labels.shape[0], labels.shape[1]), found))
    return slices, nifti_flips(nifti_header(file))


def _reader(
    file: Path,
    packed: bytes,
    shape: tuple[int, int],
    labelling: Labelling,
    flips: tuple[bool, bool] = (False, False),
) -> Any:
    def read_objects(size_hw: tuple[int, int]) -> list[LabelledObject]:
        slab = np.frombuffer(zlib.decompress(packed), np.uint16).reshape(shape)
        slab = slab[:, ::-1] if flips[0] else slab
        slab = slab[::-1] if flips[1] else slab
        labels = fitted(file, np.ascontiguousarray(slab), size_hw)
        return objects_in(file, labels, labelling)

    return read_objects
