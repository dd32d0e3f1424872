"""What is committed in a store, as a data set in the layout of the protocol."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ..core.errors import DatasetError, UsgsegError
from ..core.types import ImageRecord, LabelClass
from ..io.export import ExportFailure, ExportReport, export_images
from ..io.groups import group_images, is_table
from ..io.labels import labelling_in, write_labels, write_png
from ..io.names import safe_file_name
from ..io.outputs import OutputFolder
from .memory import MemoryStore
from .project import ProjectStore
from .records import ImageState, LabelStore


def export_store(
    store: LabelStore,
    out: str | Path,
    *,
    organ: str,
    target: str,
    classes: Sequence[LabelClass],
    name: str | None = None,
    groups: str | None = None,
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
        groups: which images belong together, a rule or a table (``io.groups``); None keeps the
            images of a patient's folder together, and the frames of a file.
        overwrite: replace an earlier export that nobody changed since.

    Raises:
        DatasetError: nothing is committed yet, or the table of groups cannot be used.
        LabelWriteError: ``out`` holds anything else, or cannot be written.
        PromptError: ``groups`` is no rule.
    """
    states = store.states()
    done = [item for item in store.records if states[item.image_id] is ImageState.COMMITTED]
    if not done:
        raise DatasetError(store.name, "nothing is labelled yet; accept at least one image first")
    folder = store.folder if isinstance(store, ProjectStore) else None
    grouped = group_images(store.records, folder, groups)
    reads = [groups] if groups is not None and is_table(groups) else []
    images = [record.path for record in done]
    OutputFolder(out, reads=[*images, *reads], overwrite=overwrite).check_only_own()
    failures: list[ExportFailure] = []
    with tempfile.TemporaryDirectory(prefix="usgseg-export-", ignore_cleanup_errors=True) as place:
        report = export_images(
            _with_labels(store, done, Path(place), failures),
            Path(out),
            name=name or store.name,
            organ=organ,
            target=target,
            classes=list(classes),
            groups=grouped.of,
            labelling=labelling_in(store.settings()),
            reads=reads,
            overwrite=overwrite,
        )
    return replace(
        report,
        failures=(*failures, *report.failures),
        ungrouped=tuple(grouped.missing(report.exported)),
        notes=tuple(grouped.strangers()),
    )


def _with_labels(
    store: LabelStore,
    records: Iterable[ImageRecord],
    staging: Path,
    failures: list[ExportFailure],
) -> list[tuple[ImageRecord, Path]]:
    """Each image with a file of its labels; those that cannot be read join ``failures``."""
    pairs: list[tuple[ImageRecord, Path]] = []
    for record in records:
        path = staging / f"{len(pairs)}.png"
        try:
            labels = store.read_labels(record, take_in=False)
            if labels is not None:
                write_labels(path, labels)
                pairs.append((_with_file(store, record, staging), path))
        except UsgsegError as error:
            failures.append(ExportFailure(record.image_id, error))
    return pairs


def _with_file(store: LabelStore, record: ImageRecord, staging: Path) -> ImageRecord:
    """The record, with its pixels in a temporary file where they are in memory only."""
    if not isinstance(store, MemoryStore):
        return record
    path = staging / "images" / f"{safe_file_name(record.image_id)}.png"
    write_png(path, store.read_image(record))
    return replace(record, path=path, frame=None)
