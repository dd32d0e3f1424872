"""Export of a label store: what is accepted in it, as a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DatasetError
from ..core.types import ImageRecord, LabelClass
from ..io.export import ExportReport, export_images
from ..io.formats import DEFAULT_FORMAT, DEFAULT_ORGAN
from ..io.groups import group_images, is_table
from ..io.labels import LabelMap, labelling_in
from .project import LabelStore
from .records import ImageState


def export_store(
    store: LabelStore,
    out: str | Path,
    *,
    organ: str = DEFAULT_ORGAN,
    target: str | None = None,
    classes: Sequence[LabelClass] | None = None,
    name: str | None = None,
    groups: str | None = None,
    format: str = DEFAULT_FORMAT,
    overwrite: bool = False,
) -> ExportReport:
    """Write every accepted image with its label map; one that fails does not stop the others.

    Args:
        store: where the labels are.
        out: the data set's folder.
        organ: what the images show.
        target: the phrase for label 1; None takes the name of class 1.
        classes: of the label maps; None takes those that are written down in the store.
        name: of the data set; None takes the store's.
        groups: which images belong together, a rule or a table (``io.groups``); None keeps the
            images of a patient's folder together, and the frames of a file.
        format: a name in ``io.formats.FORMATS``.
        overwrite: replace an earlier export that nobody changed since.

    Raises:
        DatasetError: nothing is accepted yet, or the table of groups cannot be used.
        LabelWriteError: ``out`` holds anything else, or cannot be written.
        PromptError: ``groups`` is no rule, or there is no such format.
    """
    states = store.states()
    done = [item for item in store.records if states[item.image_id] is ImageState.ACCEPTED]
    if not done:
        raise DatasetError(store.name, "nothing is labelled yet; accept at least one image first")
    classes = store.classes() if classes is None else classes
    target = target or next((item.name for item in classes if item.class_id == 1), "object")
    grouped = group_images(store.records, store.folder, groups)
    reads = [groups] if groups is not None and is_table(groups) else []

    def read(record: ImageRecord) -> tuple[NDArray[np.uint8], LabelMap]:
        labels = store.read_labels(record, take_in=False)
        if labels is None:
            raise DatasetError(record.path, "has no label map any more; accept it again")
        return store.read_image(record), labels

    report = export_images(
        done,
        read,
        out,
        name=name or store.name,
        organ=organ,
        target=target,
        classes=classes,
        groups=grouped.of,
        labelling=labelling_in(store.settings()),
        format=format,
        reads=reads,
        overwrite=overwrite,
    )
    return replace(
        report,
        ungrouped=tuple(grouped.missing(report.exported)),
        notes=tuple(grouped.strangers()),
    )
