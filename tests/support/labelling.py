"""Label maps and proposals of the size of ``SIZE_HW``, and events that keep them in a project."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from napari_usgseg.core.types import ImageRecord, LabelClass, Prompts
from napari_usgseg.project.project import LabelStore
from napari_usgseg.project.records import (
    ClassTable,
    Edit,
    Event,
    EventKind,
    ImageProposal,
    ImageState,
    LabelMap,
    ProposedObject,
    SaveReport,
    difference,
)
from napari_usgseg.segmentation.propose import Proposal

SIZE_HW = (20, 30)


def some_labels(value: int = 1) -> np.ndarray:
    labels = np.zeros(SIZE_HW, np.uint8)
    labels[5:9, 3:20] = value
    return labels


def some_proposal(x: float = 4.0) -> ImageProposal:
    """One object with a mask that was clicked at (x, 5)."""
    mask = np.zeros(SIZE_HW, bool)
    mask[3:8, 2:9] = True
    logits = np.where(mask, 4.0, -4.0).astype(np.float32)
    box = np.array([2, 3, 8, 7], np.float32)
    proposal = Proposal(mask, box, 0.75, "cyst", 0.5, logits)
    prompts = Prompts(np.array([[x, 5]], np.float32), np.array([1], np.int32))
    return ImageProposal((ProposedObject(1, prompts, proposal),), 0, "nano", ("a note",))


def label_path(store: LabelStore, image_id: str) -> Path:
    """Where the label map of an image is, or will be."""
    assert store.root is not None
    folder = store.root / "labels"
    return (folder / f"by-{store.annotator}" if store.annotator else folder) / f"{image_id}.png"


def do(store: LabelStore, edit: Edit) -> SaveReport:
    """Record an edit as a session does."""
    event = Event(store.log.serial + 1, EventKind.EDIT, edit.image_id, edit)
    return store.record([event])


def accept_labels(store: LabelStore, record: ImageRecord, labels: LabelMap | None) -> SaveReport:
    """Accept a label map; None takes it back, so that the image is untouched."""
    if store.read_only:
        return store.record([])  # which says why
    before = store.log.labels(record.image_id)
    if before is None or before.shape != record.size_hw:
        before = np.zeros(record.size_hw, np.uint8)
    after = np.zeros_like(before) if labels is None else labels
    state = ImageState.UNTOUCHED if labels is None else ImageState.ACCEPTED
    states = (store.log.image(record.image_id).state, state)
    return do(store, Edit("paint", record.image_id, None, difference(before, after), states))


def set_state(store: LabelStore, image_id: str, state: ImageState) -> None:
    do(store, Edit("state", image_id, state=(store.log.image(image_id).state, state)))


def set_classes(store: LabelStore, classes: tuple[LabelClass, ...]) -> None:
    table = ClassTable(classes, classes[0].class_id)
    do(store, Edit("classes", table=(store.table() or table, table)))


def keep_settings(store: LabelStore, values: dict[str, Any]) -> None:
    store.record([Event(store.log.serial + 1, EventKind.SETTINGS, body=values)])


def tables(store: LabelStore) -> dict[str, list[tuple[Any, ...]]]:
    """The tables of the store's annotator that follow from the events."""
    columns = {
        "image_state": "image_id, state, draft, proposed, label_seq",
        "class_table": "body",
        "setting": "key, value",
        "step": "number, name, image_id, status",
    }
    return {
        name: store.log.database.rows(
            f"SELECT {some} FROM {name} WHERE annotator = ? ORDER BY 1", (store.annotator,)
        )
        for name, some in columns.items()
    }


def follow_anew(store: LabelStore) -> None:
    """Empty the tables that follow from the events, and follow every event again."""
    log = store.log
    with log.transaction():
        for name in tables(store):
            log.database.execute(f"DELETE FROM {name} WHERE annotator = ?", (log.annotator,))
        for event in list(log.events()):
            if event.annotator == log.annotator:
                log.follow(event)
