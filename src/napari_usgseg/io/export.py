"""Labelled images as a data set in the layout of the protocol.

    <out>/images/<id>.png   <out>/masks/<id>.png   <out>/dataset.json   <out>/classes.json

Images are 8-bit PNGs, grey where their channels are equal, by the rule of ``io.images``. Masks hold
class numbers. Where objects were told apart, ``<out>/instances/<id>.png`` is beside them: 16-bit,
with the codes of ``io.instances``, and ``dataset.json`` says ``"labelling": "instance"``.
``io.datasets.read_dataset`` reads the folder back, and so do ``usgseg evaluate`` and ``train``.

An id that is no plain file name ("tumor/left", "CON") has files of a safe one
(``io.names.safe_file_names``), by which ``read_dataset`` finds them too.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from ..core.errors import DatasetError, UsgsegError, readable
from ..core.types import ImageRecord, LabelClass
from .atomic import Write
from .datasets import check_same_size
from .groups import default_group
from .images import card_entry, read_image, read_spacing
from .labels import (
    Labelling,
    LabelMap,
    read_labels,
    semantic,
    write_classes,
    write_image,
    write_labels,
    write_png,
)
from .names import safe_file_names, same_name_key
from .outputs import OutputFolder

CARD = "dataset.json"
"""Name of the file that describes a data set."""


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
    records: Iterable[tuple[ImageRecord, str | Path]],
    out: str | Path,
    *,
    name: str,
    organ: str,
    target: str,
    classes: Sequence[LabelClass],
    groups: Mapping[str, str] | None = None,
    labelling: Labelling = "semantic",
    reads: Iterable[str | Path] = (),
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
        reads: what else is read, and so is never written over.
        overwrite: replace an earlier export that nobody changed since; what it held and this one
            does not goes.

    Raises:
        LabelWriteError: ``out`` holds anything else, or the card cannot be written.
    """
    records = list(records)
    sources = [path for record, label_path in records for path in (record.path, label_path)]
    folder = OutputFolder(out, reads=[*sources, *reads], overwrite=overwrite)
    folder.check_only_own()
    file_names = safe_file_names(record.image_id for record, _ in records)
    ids = card_ids(file_names)
    names = {entry.class_id: entry.name for entry in classes}
    items: dict[str, dict[str, Any]] = {}
    failures = []
    for record, label_path in records:
        image_id = record.image_id
        try:
            if image_id in items:
                raise DatasetError(record.path, f"a second image with the id {image_id!r}")
            file = f"{file_names[image_id]}.png"
            labels = _export_image(record, Path(label_path), folder, file, labelling)
        except UsgsegError as error:
            failures.append(ExportFailure(image_id, error))
            continue
        group = (groups or {}).get(image_id) or default_group(record)
        items[image_id] = _entry(record, labels, ids[image_id], group)
        for value in np.unique(labels[labels > 0]).tolist():
            names.setdefault(value, f"label {value}")
    if items:
        write_classes(folder.root / "classes.json", classes, folder.write)
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
        folder.remove_others()
    return ExportReport(folder.root, tuple(items), tuple(failures))


def card_ids(file_names: Mapping[str, str]) -> dict[str, str]:
    """The id that a card gives each item, such that ``io.datasets.read_dataset`` takes it.

    It is the item's own, or its file's name where an id may not be so: one that is empty or leads
    out of a folder, or two that are one when they are read (``errors.readable``, umlauts).

    Args:
        file_names: id -> name of its files, without suffix, as ``safe_file_names`` gives them.
    """
    keys = {item_id: same_name_key(readable(item_id)) for item_id in file_names}
    counts = Counter(keys.values())
    return {
        item_id: item_id
        if item_id and not _leads_out(item_id) and counts[keys[item_id]] == 1
        else file_name
        for item_id, file_name in file_names.items()
    }


def _leads_out(item_id: str) -> bool:
    anchor = PureWindowsPath(item_id).anchor  # also that of a POSIX path
    return bool(anchor) or ".." in re.split(r"[/\\]", item_id)


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
    write(out / CARD, text.encode("utf-8", "backslashreplace"))  # names that are no UTF-8


def _export_image(
    record: ImageRecord, label_path: Path, folder: OutputFolder, file: str, labelling: Labelling
) -> LabelMap:
    """Write one image; gives the class of each pixel."""
    image, labels = read_image(record.path, record.frame), read_labels(label_path)
    check_same_size(label_path, labels, image.shape[:2])
    classes = semantic(labels, labelling)
    image_path, mask_path, codes_path = (
        folder.root / part / file for part in ("images", "masks", "instances")
    )
    folder.remove(folder.root / CARD)  # an export that is cut off is none, and not half of each
    try:
        write_image(image_path, image, folder.write)
        write_labels(mask_path, classes, folder.write)
        if labelling == "instance":
            codes = labels.astype(np.uint16)  # 16 bits also where nothing is labelled
            write_png(codes_path, codes, folder.write)
    except UsgsegError:
        folder.take_back(image_path, mask_path, codes_path)
        raise
    return classes


def _entry(record: ImageRecord, labels: LabelMap, item_id: str, group: str) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": item_id,
        "group": group,
        "width": labels.shape[1],
        "height": labels.shape[0],
        "empty_mask": not labels.any(),
        "source": record.path.name,
    }
    spacing = card_entry(record.spacing_mm or read_spacing(record.path, record.frame))
    return entry if spacing is None else entry | {"pixel_size_mm": spacing}
