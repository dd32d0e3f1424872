"""What the session asks of a place that keeps images and labels."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..types import ImageRecord, LabelClass

LabelMap = NDArray[np.uint8] | NDArray[np.uint16]
"""(H, W); 0 is background, other values are ``LabelClass.class_id``."""


class ImageState(StrEnum):
    """How far a person is with an image."""

    UNTOUCHED = "untouched"
    PROPOSED = "proposed"
    COMMITTED = "committed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class SaveReport:
    """What a save did: where the label map is, and where a version that was not ours went.

    Attributes:
        path: of the label map, or None where labels are kept in memory only.
        backup: of the version that somebody else had written there meanwhile, or None.
    """

    path: Path | None
    backup: Path | None = None


class LabelStore(Protocol):
    """Images, label maps, classes and a person's settings.

    One thread at a time calls the methods that touch the disk (the file worker); the properties
    are fixed once the store is open.
    """

    @property
    def name(self) -> str:
        """What a person calls it: the folder's or the layer's name."""
        ...

    @property
    def records(self) -> tuple[ImageRecord, ...]:
        """The images, in the order in which they are labelled."""
        ...

    @property
    def problems(self) -> tuple[str, ...]:
        """Sentences about files that cannot be used."""
        ...

    def states(self) -> dict[str, ImageState]:
        """The state of every image by its id."""
        ...

    def classes(self) -> tuple[LabelClass, ...]:
        """The classes of the label maps; () where none are written down yet."""
        ...

    def settings(self) -> dict[str, Any]:
        """What ``remember`` kept."""
        ...

    def read_image(self, record: ImageRecord) -> NDArray[np.uint8]:
        """(H, W, 3) RGB uint8."""
        ...

    def read_labels(self, record: ImageRecord) -> LabelMap | None:
        """The label map, or None where there is none yet."""
        ...

    def write_labels(self, record: ImageRecord, labels: LabelMap | None) -> SaveReport:
        """Keep a label map; None takes it back, so that the image is untouched again."""
        ...

    def write_classes(self, classes: tuple[LabelClass, ...]) -> None:
        """Keep the classes."""
        ...

    def skip(self, image_id: str, skipped: bool) -> None:
        """Set an image aside, or take it up again."""
        ...

    def remember(self, values: dict[str, Any]) -> None:
        """Keep settings (JSON values) beside those that are there."""
        ...
