"""Export of labelled images as a data set, in one of the formats of ``io.formats``.

Whatever the format: an image that fails is left out and reported, ids that are no plain file names
("tumor/left", "CON") get files of safe ones (``io.names.safe_file_names``), an earlier export is
replaced only where that was asked for and nobody changed it, and one that was cut off is no data
set.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..core.errors import DatasetError, UsgsegError, readable
from ..core.types import ImageRecord, LabelClass
from .datasets import SIDES, card_ids, sides_by_group
from .formats import DEFAULT_FORMAT, FORMATS, export_format, format_module
from .formats.objects import write_text
from .formats.records import Entry, ExportAbout, ExportImage
from .groups import default_groups
from .images import read_spacing
from .labels import Labelling, LabelMap, class_of, instance_of, semantic, values_in
from .names import safe_file_names
from .outputs import OutputFolder
from .reading.files import hidden_name, repeats_identity
from .reading.identity import pseudonym

ReadPair = Callable[[ImageRecord], tuple[NDArray[np.uint8], LabelMap]]
"""Gives an image (H, W, 3) RGB and its label map (H, W), or raises a ``UsgsegError``."""


@dataclass(frozen=True, slots=True)
class ExportFailure:
    """An image that was left out, and why."""

    image_id: str
    error: UsgsegError


@dataclass(frozen=True, slots=True)
class ExportReport:
    """Report of an export.

    Attributes:
        folder: of the data set.
        exported: the ids that are in it.
        failures: what was left out.
        ungrouped: sentences about images that the rule of the groups says nothing of.
        notes: sentences about what else a person should know.
    """

    folder: Path
    exported: tuple[str, ...]
    failures: tuple[ExportFailure, ...]
    ungrouped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def whole(self) -> Path:
        """The folder, where every image is in it.

        Raises:
            DatasetError: some could not be exported; they are named, and all the others are there.
        """
        if self.failures:
            causes = "; ".join(f"{f.image_id} ({f.error})" for f in self.failures)
            raise DatasetError(
                self.folder,
                f"{len(self.exported)} images exported, {len(self.failures)} left out: {causes}",
            )
        return self.folder


def export_images(
    records: Sequence[ImageRecord],
    read: ReadPair,
    out: str | Path,
    *,
    name: str,
    organ: str,
    target: str,
    classes: Sequence[LabelClass],
    groups: Mapping[str, str] | None = None,
    labelling: Labelling = "semantic",
    format: str = DEFAULT_FORMAT,
    licence: str = "",
    made: Sequence[str] = (),
    split: bool = True,
    reads: Iterable[str | Path] = (),
    overwrite: bool = False,
) -> ExportReport:
    """Write a data set with its data card; an image that fails is reported and stops no other.

    ``export_images(...).whole()`` is for those who want all or an error.

    Args:
        records: the images.
        read: gives the pixels and labels of one; called once for each, in their order.
        out: the data set's folder; it is made.
        name: of the data set.
        organ: what the images show.
        target: the phrase that a sonographer would type for label 1.
        classes: the names of the label values; a value without a class is named "label 7".
        groups: image id -> patient, video or case, so that a split tears none apart. An image that
            is not among them is a group of its own, the frames of one file are one. A group whose
            name repeats who the patient of a DICOM file is gets a pseudonym.
        labelling: what the values of the label maps are.
        format: a name in ``io.formats.FORMATS``.
        licence: of the images, in the person's words.
        made: lines of Markdown for the data card: who labelled, with which models, in what time.
        split: part the groups into train, val and test; else all are on the side train.
        reads: what is read beside the images' files, and so is never written over.
        overwrite: replace an earlier export that nobody changed since; what it held and this one
            does not goes.

    Raises:
        PromptError: there is no such format.
        LabelWriteError: ``out`` holds anything else, or the card cannot be written.
    """
    export_format(format)
    chosen = format_module(format)
    folder = OutputFolder(
        out, reads=[*(record.path for record in records), *reads], overwrite=overwrite
    )
    folder.check_only_own()
    file_names = safe_file_names(record.image_id for record in records)
    ids = card_ids(file_names)
    names = {entry.class_id: readable(entry.name) for entry in classes}
    given = groups or {}
    own = {item.image_id: given.get(item.image_id, "") for item in records}
    own |= default_groups([item for item in records if not own[item.image_id]])
    hidden = {
        # Asked once for each file and group, for it reads the header.
        pair: pseudonym(pair[1], "group") if repeats_identity(*pair) else pair[1]
        for pair in {(item.path, own[item.image_id]) for item in records}
    }
    own = {item.image_id: hidden[item.path, own[item.image_id]] for item in records}
    sides = sides_by_group(name, {ids[image_id]: group for image_id, group in own.items()})
    paths = {record.path for record in records}
    sources = {path: hidden_name(path) or path.name for path in paths}
    counts = _Counts()
    entries: dict[str, Entry] = {}
    failures: list[ExportFailure] = []
    for record in records:
        image_id = record.image_id
        try:
            if image_id in entries:
                raise DatasetError(record.path, f"a second image with the id {image_id!r}")
            image, labels = read(record)
            if labels.shape != image.shape[:2]:
                raise DatasetError(
                    record.path,
                    f"is {image.shape[1]}x{image.shape[0]} pixels, its label map "
                    f"{labels.shape[1]}x{labels.shape[0]}; it must have exactly its image's size",
                )
            item = ExportImage(
                image_id=ids[image_id],
                file_name=file_names[image_id],
                source=sources[record.path],
                group=own[image_id],
                side=sides[ids[image_id]] if split else SIDES[0],
                image=image,
                labels=semantic(labels, labelling),
                codes=labels if labelling == "instance" else None,
                spacing_mm=record.spacing_mm or read_spacing(record.path),
                frame=record.frame,
            )
            for each in FORMATS.values():  # an earlier export may be of another format
                folder.remove(folder.root / each.card)
            # An image without its mask, or the other way round, would be a broken pair in the data
            # set.
            with folder.all_or_nothing():
                entries[image_id] = chosen.write_image(folder, item)
        except UsgsegError as error:
            failures.append(ExportFailure(image_id, error))
            continue
        for value in values_in(item.labels):
            names.setdefault(value, f"label {value}")
        counts.add(item)
    if entries:
        about = ExportAbout(name, organ, target, classes, names, labelling, licence)
        write_text(folder, DATA_CARD, data_card(about, format, counts, made))
        chosen.write_card(folder, about, list(entries.values()))
        folder.remove_others()
    told = FORMATS[format].told
    notes = (told,) if told and any(record.frame is not None for record in records) else ()
    return ExportReport(folder.root, tuple(entries), tuple(failures), notes=notes)


EIGHT = np.ones((3, 3), bool)
DATA_CARD = "README.md"
"""What a data set is, for people; Hugging Face shows it, too."""


class _Counts:
    """Counts over the images of an export: class -> images, objects and pixels; side -> images."""

    def __init__(self) -> None:
        self.images: Counter[int] = Counter()
        self.objects: Counter[int] = Counter()
        self.pixels: Counter[int] = Counter()
        self.sides: Counter[str] = Counter()
        self.groups: dict[str, set[str]] = {}
        self.empty = self.measured = 0

    def add(self, item: ExportImage) -> None:
        """Count one image."""
        labels = item.labels if item.codes is None else item.codes
        for value in values_in(labels):
            mask, class_id = labels == value, value
            pieces = 1
            if item.codes is not None:
                class_id = class_of(value, "instance")
            if item.codes is None or not instance_of(value, "instance"):
                pieces = ndimage.label(mask, EIGHT)[1]
            self.objects[class_id] += pieces
            self.pixels[class_id] += int(np.count_nonzero(mask))
        found = values_in(item.labels)
        self.images.update(found)
        self.sides[item.side] += 1
        self.groups.setdefault(item.side, set()).add(item.group)
        self.empty += not found
        self.measured += item.spacing_mm is not None


def data_card(about: ExportAbout, format: str, counts: _Counts, made: Sequence[str]) -> str:
    """The data card of an export, Markdown: counts, classes, sides, who made it, licences."""
    total = sum(counts.sides.values())
    told = "objects told apart" if about.labelling == "instance" else "connected pieces"
    loses = FORMATS[format].loses
    licence = about.licence or "not stated: ask whoever owns the images before you share them"
    lines = [
        "---",
        *([f"license_name: {json.dumps(about.licence)}"] if about.licence else []),
        "license: other",
        "task_categories: [image-segmentation]",
        "tags: [ultrasound, medical]",
        "---",
        "",
        f"# {_plain(about.name)}",
        "",
        f"Ultrasound images of {_plain(about.organ)} with segmentation masks, in the format "
        f"`{format}`, written by napari-usgseg {version('napari-usgseg')}.",
        *([f"What this format does not keep: {loses}."] if loses else []),
        "",
        "| side | images | groups (patient, case or loop) |",
        "|---|---|---|",
        *(
            f"| {s} | {counts.sides[s]} | {len(counts.groups[s])} |"
            for s in SIDES
            if counts.sides[s]
        ),
        "",
        f"No group is on two sides. {counts.empty} of {total} images have nothing labelled; of "
        f"{counts.measured} the size of a pixel in mm is known.",
        "",
        f"| class | name | images | {told} | pixels |",
        "|---|---|---|---|---|",
        *(
            f"| {value} | {_plain(name)} | {counts.images[value]} | {counts.objects[value]} "
            f"| {counts.pixels[value]} |"
            for value, name in sorted(about.labels.items())
        ),
        "",
        *made,
        *([""] if made else []),
        f"Licence of the images: {_plain(licence)}.",
        "",
    ]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Text that is no markup in a table of Markdown."""
    return readable(text).replace("|", "\\|")
