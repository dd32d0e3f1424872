"""What is committed in a store, as a data set in the layout of the protocol."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import DatasetError, UsgsegError
from ..io.export import ExportFailure, ExportReport, export_images
from ..io.instances import labelling_in
from ..io.labels import write_labels, write_png
from ..types import ImageRecord, LabelClass
from .base import ImageState, LabelStore
from .memory import MemoryStore


def export_store(
    store: LabelStore,
    out: str | Path,
    *,
    organ: str,
    target: str,
    classes: Sequence[LabelClass],
    name: str | None = None,
    overwrite: bool = False,
) -> ExportReport:
    """Write every committed image with its label map; one that fails does not stop the others.

    ``usgseg evaluate`` and ``usgseg train`` read it.

    Args:
        store: where the labels are.
        out: the data set's folder.
        organ: what the images show.
        target: the phrase for label 1.
        classes: of the label maps.
        name: of the data set; None takes the store's.
        overwrite: write over a data set that is there.

    Raises:
        DatasetError: nothing is committed yet, or there is a data set already.
    """
    states = store.states()
    done = [item for item in store.records if states[item.image_id] is ImageState.COMMITTED]
    if not done:
        raise DatasetError(store.name, "nothing is labelled yet; accept at least one image first")
    staging = Path(tempfile.mkdtemp(prefix="usgseg-export-"))
    failures: list[ExportFailure] = []
    try:
        pairs: list[tuple[ImageRecord, Path]] = []
        for record in done:
            try:
                labels = store.read_labels(record, take_in=False)
            except UsgsegError as error:
                failures.append(ExportFailure(record.image_id, error))
                continue
            if labels is not None:
                path = staging / f"{len(pairs)}.png"
                write_labels(path, labels)
                pairs.append((_with_file(store, record, staging), path))
        report = export_images(
            pairs,
            Path(out),
            name=name or store.name,
            organ=organ,
            target=target,
            classes=list(classes),
            labelling=labelling_in(store.settings()),
            overwrite=overwrite,
        )
        return replace(report, failures=(*failures, *report.failures))
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _with_file(store: LabelStore, record: ImageRecord, staging: Path) -> ImageRecord:
    """The record, with its pixels in a temporary file where they are in memory only."""
    if not isinstance(store, MemoryStore):
        return record
    path = staging / f"image-{record.image_id}.png"
    write_png(path, store.read_image(record))
    return replace(record, path=path, frame=None)
