"""Labels of an image that has no file: kept as long as the window is open."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.types import ImageRecord
from .common import JournalStore, has_file
from .database import Database
from .event_log import Journal
from .records import ImageState, LabelMap


class MemoryStore(JournalStore):
    """One image in memory, such as a napari layer, with a history as in a project.

    Args:
        name: what the person calls the image.
        image: (H, W, 3) RGB uint8.
    """

    problems: tuple[str, ...] = ()
    annotator = ""
    cache_folder: Path | None = None
    models_folder: Path | None = None

    def __init__(self, name: str, image: NDArray[np.uint8]) -> None:
        self.name = name
        image_id = (
            "".join(c if c.isalnum() or c in "-_. " else "_" for c in name).strip() or "image"
        )
        size_hw = image.shape[:2]
        self.records = (ImageRecord(image_id, Path(name), None, size_hw),)
        self._image = image
        self._journal = Journal(Database(None), "", lambda _: size_hw)

    def read_image(self, record: ImageRecord) -> NDArray[np.uint8]:
        """(H, W, 3) RGB uint8."""
        return self._image

    def read_labels(self, record: ImageRecord, *, take_in: bool = True) -> LabelMap | None:
        """The label map, or None; no other program can write it."""
        row, labels = self._journal.image(record.image_id), self._journal.labels(record.image_id)
        if not has_file(row, labels):
            return None
        return np.zeros(record.size_hw, np.uint8) if labels is None else labels

    def drawn(self) -> frozenset[str]:
        """The image, where it has labels that nobody accepted."""
        image_id = self.records[0].image_id
        labels = self._journal.labels(image_id)
        waits = labels is not None and bool(labels.any())
        accepted = self._journal.image(image_id).state is ImageState.ACCEPTED
        return frozenset((image_id,)) if waits and not accepted else frozenset()

    def take_warnings(self) -> tuple[str, ...]:
        """Nothing goes amiss in memory."""
        return ()

    def close(self) -> None:
        """Forget it."""
        self._journal.database.close()
