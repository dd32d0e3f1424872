"""Measuring of a project: a table of the objects on its accepted images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..core.errors import UsgsegError
from ..core.types import ImageRecord
from ..io.atomic import Write
from ..io.labels import labelling_in
from ..segmentation.measuring import (
    MeasuredObject,
    PictureScale,
    Surfaces,
    by_person_in,
    cells,
    measure_labels,
    table,
)
from .project import LabelStore
from .records import ImageState

TABLE = "measurements.csv"


def measure_image(store: LabelStore, record: ImageRecord) -> list[MeasuredObject]:
    """Measure the labelled objects of an image.

    Raises:
        UsgsegError: the image or its label map cannot be read.
    """
    # Measuring only looks: it takes nothing into the history.
    labels = store.read_labels(record, take_in=False)
    if labels is None or not labels.any():
        return []
    about, settings = store.about(record), store.settings()
    scale = PictureScale.of(record.size_hw, about, by_person_in(settings))
    surfaces = Surfaces(store.read_image(record), () if about is None else about.regions)
    return list(measure_labels(labels, labelling_in(settings), scale, surfaces))


def write_measurements(
    store: LabelStore,
    path: Path,
    write: Write,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[int, int, list[str]]:
    """Measure the accepted images of a project; one that cannot be read stops no other.

    Args:
        store: the project.
        path: of the table.
        write: how it is written.
        progress: called with (images done, images in all).

    Returns:
        How many objects were measured, how many of them in millimetres, and what failed.

    Raises:
        LabelWriteError: the table cannot be written.
    """
    names = {item.class_id: item.name for item in store.classes()}
    states, failed = store.states(), list[str]()
    found: list[tuple[str, MeasuredObject]] = []
    accepted = [r for r in store.records if states[r.image_id] is ImageState.ACCEPTED]
    for done, record in enumerate(accepted, start=1):
        try:
            found += [(record.image_id, item) for item in measure_image(store, record)]
        except UsgsegError as error:
            failed.append(f"{record.image_id}: {error}")
        progress(done, len(accepted))
    write(path, table((image_id, cells(item, names)) for image_id, item in found))
    return len(found), sum(item.mm is not None for _, item in found), failed
