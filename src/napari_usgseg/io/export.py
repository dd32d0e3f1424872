"""Labelled images as a data set in the layout of the protocol.

    <out>/images/<id>.png   <out>/masks/<id>.png   <out>/dataset.json   <out>/classes.json

Images are 8-bit PNGs, grey where their channels are equal, by the rule of ``io.images``. Masks hold
class numbers. Where objects were told apart, ``<out>/instances/<id>.png`` is beside them: 16-bit,
with the codes of ``io.instances``, and ``dataset.json`` says ``"labelling": "instance"``.
``io.datasets.read_dataset`` reads the folder back, and so do ``usgseg evaluate`` and ``train``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DatasetError, UsgsegError
from ..types import ImageRecord, LabelClass
from .atomic import Write
from .images import read_image
from .instances import Labelling, semantic
from .labels import LabelMap, read_labels, write_classes, write_image, write_labels, write_png
from .outputs import OutputFolder
from .pairs import check_same_size

CARD = "dataset.json"
"""Name of the file that describes a data set."""


@dataclass(frozen=True, slots=True)
class ExportFailure:
    """An image that was left out, and why."""

    image_id: str
    error: UsgsegError


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export did: its folder, the ids that are in it, and what was left out."""

    folder: Path
    exported: tuple[str, ...]
    failures: tuple[ExportFailure, ...]

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
    records: Iterable[tuple[ImageRecord, str | Path]],
    out: str | Path,
    *,
    name: str,
    organ: str,
    target: str,
    classes: Sequence[LabelClass],
    groups: Mapping[str, str] | None = None,
    labelling: Labelling = "semantic",
    overwrite: bool = False,
) -> ExportReport:
    """Write a data set; an image that fails is reported and does not stop the others.

    ``export_images(...).whole()`` is for those who want all or an error.

    Args:
        records: pairs of an image and the path of its label map.
        out: the data set's folder; it is made.
        name: of the data set.
        organ: what the images show.
        target: the phrase that a sonographer would type for label 1.
        classes: the names of the label values; a value without a class is named "label 7".
        groups: image id -> patient, video or case, so that a split tears none apart. An image that
            is not among them is a group of its own, the frames of one file are one.
        labelling: what the values of the label maps are.
        overwrite: replace an earlier export that nobody changed since.

    Raises:
        LabelWriteError: ``out`` holds anything else, or the card cannot be written.
    """
    records = list(records)
    reads = [path for record, label_path in records for path in (record.path, label_path)]
    folder = OutputFolder(out, reads=reads, overwrite=overwrite)
    folder.check_only_own()
    names = {entry.class_id: entry.name for entry in classes}
    items: dict[str, dict[str, Any]] = {}
    failures = []
    for record, label_path in records:
        try:
            if record.image_id in items:
                raise DatasetError(record.path, f"a second image with the id {record.image_id!r}")
            labels = _export_image(record, Path(label_path), folder, labelling)
        except UsgsegError as error:
            failures.append(ExportFailure(record.image_id, error))
            continue
        items[record.image_id] = _entry(record, labels, groups or {})
        for value in np.unique(labels[labels > 0]).tolist():
            names.setdefault(value, f"label {value}")
    if items:
        write_card(
            folder.root,
            folder.write,
            name=name,
            organ=organ,
            target=target,
            labels=names,
            items=list(items.values()),
            labelling=labelling,
        )
        write_classes(folder.root / "classes.json", classes, folder.write)
    return ExportReport(folder.root, tuple(items), tuple(failures))


def write_card(
    out: Path,
    write: Write,
    *,
    name: str,
    organ: str,
    target: str,
    labels: Mapping[int, str],
    items: Sequence[Mapping[str, Any]],
    labelling: Labelling = "semantic",
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write ``dataset.json``; ``items`` have at least ``id`` and ``group``.

    ``more`` is what else the card says, such as home page and licence.

    Raises:
        LabelWriteError: it may not or cannot be written.
    """
    card: dict[str, Any] = {
        "schema": 1,
        "name": name,
        "organ": organ,
        "target": target,
        "labels": {str(value): labels[value] for value in sorted(labels)},
        **(more or {}),
        "count": len(items),
        "items": list(items),
    }
    if labelling == "instance":
        card["labelling"] = labelling
    text = json.dumps(card, indent=1, ensure_ascii=False) + "\n"
    write(out / CARD, text.encode("utf-8"))


def _export_image(
    record: ImageRecord, label_path: Path, folder: OutputFolder, labelling: Labelling
) -> LabelMap:
    """Write one image; gives the class of each pixel."""
    file = f"{record.image_id}.png"
    if Path(file).name != file or "\\" in file:
        raise DatasetError(
            record.path, f"the id {record.image_id!r} cannot be a file name; rename the image"
        )
    image, labels = read_image(record.path, record.frame), read_labels(label_path)
    check_same_size(label_path, labels, image.shape[:2])
    out = folder.root
    write_image(out / "images" / file, image, folder.write)
    classes = semantic(labels, labelling)
    write_labels(out / "masks" / file, classes, folder.write)
    if labelling == "instance":
        codes = labels.astype(np.uint16)  # 16 bits also where nothing is labelled
        write_png(out / "instances" / file, codes, folder.write)
    return classes


def _entry(record: ImageRecord, labels: LabelMap, groups: Mapping[str, str]) -> dict[str, Any]:
    own = record.image_id if record.frame is None else record.path.stem
    entry: dict[str, Any] = {
        "id": record.image_id,
        "group": str(groups.get(record.image_id, own)),
        "width": labels.shape[1],
        "height": labels.shape[0],
        "empty_mask": not labels.any(),
        "source": record.path.name,
    }
    if record.spacing_mm is not None and np.isclose(*record.spacing_mm):
        entry["pixel_size_mm"] = float(record.spacing_mm[0])
    return entry
