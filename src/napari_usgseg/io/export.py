"""Export of labelled images as a data set, in one of the formats of ``io.formats``.

Whatever the format: an image that fails is left out and reported, ids that are no plain file names
("tumor/left", "CON") get files of safe ones (``io.names.safe_file_names``), an earlier export is
replaced only where that was asked for and nobody changed it, and one that was cut off is no data
set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DatasetError, UsgsegError
from ..core.types import ImageRecord, LabelClass
from .datasets import card_ids
from .formats import DEFAULT_FORMAT, FORMATS, Entry, ExportAbout, ExportImage, export_format
from .groups import default_group
from .images import read_spacing
from .labels import Labelling, LabelMap, semantic, values_in
from .names import safe_file_names
from .outputs import OutputFolder

ReadPair = Callable[[ImageRecord], tuple[NDArray[np.uint8], LabelMap]]
"""Gives an image (H, W, 3) RGB and its label map (H, W), or raises a ``UsgsegError``."""


@dataclass(frozen=True, slots=True)
class ExportFailure:
    """An image that was left out, and why."""

    image_id: str
    error: UsgsegError


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export did.

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
    reads: Iterable[str | Path] = (),
    overwrite: bool = False,
) -> ExportReport:
    """Write a data set; an image that fails is reported and does not stop the others.

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
            is not among them is a group of its own, the frames of one file are one.
        labelling: what the values of the label maps are.
        format: a name in ``io.formats.FORMATS``.
        reads: what is read beside the images' files, and so is never written over.
        overwrite: replace an earlier export that nobody changed since; what it held and this one
            does not goes.

    Raises:
        PromptError: there is no such format.
        LabelWriteError: ``out`` holds anything else, or the card cannot be written.
    """
    chosen = export_format(format)
    folder = OutputFolder(
        out, reads=[*(record.path for record in records), *reads], overwrite=overwrite
    )
    folder.check_only_own()
    file_names = safe_file_names(record.image_id for record in records)
    ids = card_ids(file_names)
    names = {entry.class_id: entry.name for entry in classes}
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
                source=record.path.name,
                group=(groups or {}).get(image_id) or default_group(record),
                image=image,
                labels=semantic(labels, labelling),
                codes=labels if labelling == "instance" else None,
                spacing_mm=record.spacing_mm or read_spacing(record.path, record.frame),
            )
            for each in FORMATS.values():  # an earlier export may be of another format
                folder.remove(folder.root / each.card)
            with folder.all_or_nothing():
                entries[image_id] = chosen.write_image(folder, item)
        except UsgsegError as error:
            failures.append(ExportFailure(image_id, error))
            continue
        for value in values_in(item.labels):
            names.setdefault(value, f"label {value}")
    if entries:
        about = ExportAbout(name, organ, target, classes, names, labelling)
        chosen.write_card(folder, about, list(entries.values()))
        folder.remove_others()
    return ExportReport(folder.root, tuple(entries), tuple(failures))
