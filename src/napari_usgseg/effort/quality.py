"""Quality of a first proposal: Dice and HD95 to what was accepted.

Where a phrase proposed, everything that it should have found counts: each class of the proposal is
compared with all that was accepted of it. Where a person pointed at one object, only the accepted
objects that the proposal touches count, for the others were not asked for yet.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import astuple
from functools import partial
from pathlib import Path

import numpy as np

from ..core.errors import FileError, LabelWriteError
from ..core.geometry import components
from ..core.metrics import dice, hd95
from ..core.types import BoolArray, ImageRecord
from ..io.atomic import write_atomically
from ..io.labels import Labelling, semantic
from ..project.project import LabelStore
from ..project.records import ImageProposal, LabelMap
from .efforts import BY_PHRASE, ClassQuality, First, ImageEffort, Quality, Way

CACHE_FILE = "ledger.json"


def proposed_map(proposal: ImageProposal) -> dict[int, BoolArray]:
    """The mask (H, W) of each class that a proposal proposes."""
    masks: dict[int, BoolArray] = {}
    for item in proposal.objects:
        if item.proposal is not None and item.has_mask:
            mask = item.proposal.mask
            masks[item.class_id] = masks.get(item.class_id, np.zeros_like(mask)) | mask
    return masks


def compare(proposal: ImageProposal, labels: LabelMap, source: str) -> Quality | None:
    """A proposal beside the accepted classes (H, W).

    Returns:
        None where the proposal has no mask, or one of another size than the labels.
    """
    found = []
    for class_id, mask in proposed_map(proposal).items():
        if mask.shape != labels.shape:
            return None
        accepted: BoolArray = labels == class_id
        if source != BY_PHRASE:
            touched = [part for part in components(accepted, 0) if (part & mask).any()]
            accepted = np.any(touched, axis=0) if touched else np.zeros_like(mask)
        phrases = (
            item.proposal.phrase
            for item in proposal.objects
            if item.proposal is not None and item.class_id == class_id
        )
        phrase = next((phrase for phrase in phrases if phrase), "")
        found.append(ClassQuality(class_id, phrase, dice(mask, accepted), hd95(mask, accepted)))
    return Quality(tuple(found)) if found else None


def as_it_came(proposal: ImageProposal) -> Quality | None:
    """The quality of a proposal that was accepted without a change."""
    phrases = {
        item.class_id: item.proposal.phrase
        for item in proposal.objects
        if item.proposal is not None and item.has_mask
    }
    classes = tuple(ClassQuality(class_id, name, 1.0, 0.0) for class_id, name in phrases.items())
    return Quality(classes) if classes else None


class QualityCache:
    """Cache of what was measured before, in a file that can be made anew at any time.

    Args:
        folder: of the cache.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / CACHE_FILE
        self._known: dict[str, Quality | None] = {}
        self._changed = False
        with suppress(OSError, ValueError, KeyError, TypeError):  # torn, or of another version
            found = json.loads(self._path.read_text("utf-8"))["found"]
            self._known = {
                key: rows and Quality(tuple(ClassQuality(*row) for row in rows))
                for key, rows in found.items()
            }

    def get(self, key: str, measure: Callable[[], Quality | None]) -> Quality | None:
        """What is known under a key, or else what ``measure`` gives."""
        if key not in self._known:
            self._known[key] = measure()
            self._changed = True
        return self._known[key]

    def save(self) -> None:
        """Keep what was measured; a folder that cannot be written is no fault."""
        if not self._changed:
            return
        found = {
            key: quality and [astuple(item) for item in quality.classes]
            for key, quality in self._known.items()
        }
        with suppress(LabelWriteError):
            write_atomically(
                self._path, json.dumps({"schema": 1, "found": found}).encode(), overwrite=True
            )
            self._changed = False


def measure(
    store: LabelStore,
    efforts: Iterable[ImageEffort],
    cache: QualityCache,
    labelling: Labelling = "semantic",
    progress: Callable[[], None] = lambda: None,
) -> tuple[str, ...]:
    """Compare the first proposals of accepted images with what was accepted.

    Args:
        store: of the annotator whose efforts these are.
        efforts: their ``quality`` is set, where there is a proposal and an accept.
        cache: of what was measured before.
        labelling: of the project.
        progress: called when an image is done.

    Returns:
        A sentence for each image that could not be read.
    """
    records = {record.image_id: record for record in store.records}
    failed: list[str] = []
    for effort in efforts:
        first, record = effort.first, records.get(effort.image_id)
        if first is not None and effort.way is not None and record is not None:
            key = f"{effort.annotator}/{effort.image_id}/{first.document[:16]}/{effort.labels_seq}"
            fresh = partial(_measured, store, record, first, effort.way, labelling)
            try:
                effort.quality = cache.get(key, fresh)
            except FileError as error:
                failed.append(f"{effort.image_id}: {error}")
        progress()
    return tuple(failed)


def _measured(
    store: LabelStore, record: ImageRecord, first: First, way: Way, labelling: Labelling
) -> Quality | None:
    proposal = store.proposal(first.document)
    if way is Way.UNCHANGED:
        return as_it_came(proposal)
    labels = store.read_labels(record)
    return None if labels is None else compare(proposal, semantic(labels, labelling), first.source)
