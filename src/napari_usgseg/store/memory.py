"""Labels of an image that has no file: kept as long as the window is open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..types import ImageRecord, LabelClass
from .base import ImageState, LabelMap, SaveReport


class MemoryStore:
    """One image in memory, such as a napari layer.

    Args:
        name: what the person calls the image.
        image: (H, W, 3) RGB uint8.
    """

    problems: tuple[str, ...] = ()
    cache_folder: Path | None = None

    def __init__(self, name: str, image: NDArray[np.uint8]) -> None:
        self.name = name
        image_id = (
            "".join(c if c.isalnum() or c in "-_. " else "_" for c in name).strip() or "image"
        )
        height, width = image.shape[:2]
        self.records = (ImageRecord(image_id, Path(name), None, (height, width)),)
        self._image = image
        self._labels: LabelMap | None = None
        self._classes: tuple[LabelClass, ...] = ()
        self._settings: dict[str, Any] = {}
        self._skipped = False

    def states(self) -> dict[str, ImageState]:
        """The state of the one image."""
        state = ImageState.SKIPPED if self._skipped else ImageState.UNTOUCHED
        if self._labels is not None:
            state = ImageState.COMMITTED
        return {self.records[0].image_id: state}

    def classes(self) -> tuple[LabelClass, ...]:
        """The classes, or ()."""
        return self._classes

    def settings(self) -> dict[str, Any]:
        """What ``remember`` kept."""
        return dict(self._settings)

    def read_image(self, record: ImageRecord) -> NDArray[np.uint8]:
        """(H, W, 3) RGB uint8."""
        return self._image

    def read_labels(self, record: ImageRecord) -> LabelMap | None:
        """The label map, or None."""
        return None if self._labels is None else self._labels.copy()

    def write_labels(self, record: ImageRecord, labels: LabelMap | None) -> SaveReport:
        """Keep a label map in memory."""
        self._labels = None if labels is None else labels.copy()
        return SaveReport(None)

    def write_classes(self, classes: tuple[LabelClass, ...]) -> None:
        """Keep the classes."""
        self._classes = classes

    def skip(self, image_id: str, skipped: bool) -> None:
        """Set the image aside."""
        self._skipped = skipped

    def remember(self, values: dict[str, Any]) -> None:
        """Keep settings."""
        self._settings.update(values)
