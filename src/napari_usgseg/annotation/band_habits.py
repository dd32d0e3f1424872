"""Habits of the bands that were accepted: what a trace of a class is like, image by image."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from psygnal import Signal

from ..core.errors import FileError
from ..core.geometry import components
from ..core.types import ImageRecord
from ..io.labels import Labelling, semantic
from ..jobs import Lane, Scope
from ..project.project import LabelStore
from ..segmentation.trace import Band, BandHabit, measure_band
from .document import AnnotationDocument

NEWEST = 20
"""Accepted images that are looked at for a class, those before the current one first."""
OBJECTS = 4
"""Objects of an image that are measured, the largest ones: bands are long."""


class BandHabits:
    """``session.band_habits``: how the accepted bands of each class are drawn.

    They are measured one image at a time on the file thread, where a class is asked for, and kept
    until the folder is closed. ``learned`` carries the class of which more is known.

    Args:
        document: whose accepted images they are.
    """

    learned = Signal(int)

    def __init__(self, document: AnnotationDocument) -> None:
        self._document = document
        self._bands: dict[tuple[str, int], tuple[Band, ...]] = {}
        document.opened.connect(self._forget_all)
        document.labels_changed.connect(self._forget_current)

    def of(self, class_id: int) -> BandHabit | None:
        """What is known of a class; None where none of its accepted objects is a band."""
        found = [
            band
            for record in self._looked_at()
            for band in self._bands.get((record.image_id, class_id), ())
        ]
        return BandHabit(tuple(found)) if found else None

    def learn(self, class_id: int) -> None:
        """Measure what is accepted of a class and not measured yet; ``learned`` tells."""
        document = self._document
        if document.store is None:
            return
        looked_at = self._looked_at()
        self._measure(class_id, [r for r in looked_at if (r.image_id, class_id) not in self._bands])

    def _measure(self, class_id: int, records: list[ImageRecord]) -> None:
        """Measure the first of some images, and come back for the others."""
        document = self._document
        if document.store is None:
            return
        if not records:
            self.learned.emit(class_id)
            return
        record, *others = records

        def take(bands: tuple[Band, ...] | None) -> None:
            if bands is not None:
                self._bands[record.image_id, class_id] = bands
            self._measure(class_id, others)

        document.ask(
            bands_on,
            document.store,
            record,
            class_id,
            document.settings.labelling,
            lane=Lane.FILES,
            key="bands",
            scope=Scope.FOLDER,
            aside=True,
            done=take,
        )

    def _looked_at(self) -> list[ImageRecord]:
        """The accepted images that count, the one before the current first, never that itself."""
        document, accepted = self._document, self._document.accepted
        shown = document.record
        if shown is None:
            return accepted[-NEWEST:]
        before = [record for record in accepted if record.image_id < shown.image_id][::-1]
        after = [record for record in accepted if record.image_id > shown.image_id]
        return [*before, *after][:NEWEST]

    def _forget_all(self) -> None:
        self._bands.clear()

    def _forget_current(self) -> None:
        shown = self._document.record
        if shown is not None:
            for key in [key for key in self._bands if key[0] == shown.image_id]:
                del self._bands[key]


def bands_on(
    store: LabelStore, record: ImageRecord, class_id: int, labelling: Labelling
) -> tuple[Band, ...] | None:
    """The bands of a class on an accepted image; None where the class is not on it (yet)."""
    with suppress(FileError):  # said when the image is opened
        labels = store.read_labels(record, take_in=False)
        inside = None if labels is None else semantic(labels, labelling) == class_id
        if inside is not None and inside.any():
            found = sorted(components(inside), key=np.count_nonzero, reverse=True)[:OBJECTS]
            pixels = store.read_image(record)
            bands = (measure_band(pixels, mask) for mask in found)
            return tuple(band for band in bands if band is not None)
    return None
