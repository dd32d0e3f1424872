"""Records of the formats: an image that is exported, and labels that another program wrote.

Only types are imported from below, because ``usgseg --help`` imports this module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ...core.types import BoolArray, FloatArray, LabelClass
    from ..labels import Labelling, LabelMap
    from ..outputs import OutputFolder


@dataclass(frozen=True, slots=True, eq=False)
class ExportImage:
    """One labelled image of an export.

    Attributes:
        image_id: unique in the data set.
        file_name: of its files, without suffix; safe on every file system and unique, too.
        source: name of the file that it was read from.
        group: the patient, video or case that it is of.
        side: "train", "val" or "test"; all images of a group are on one side.
        image: (H, W, 3) RGB uint8.
        labels: (H, W), the class number of each pixel, 0 for background.
        codes: (H, W), ``class number * 1000 + n`` for the n-th object of a class, where objects
            were told apart (``io.labels``); else None.
        spacing_mm: millimetres per pixel (row, column), None where they are not known.
        frame: index in a file of several images, or None.
    """

    image_id: str
    file_name: str
    source: str
    group: str
    side: str
    image: NDArray[np.uint8]
    labels: LabelMap
    codes: LabelMap | None
    spacing_mm: tuple[float, float] | None
    frame: int | None = None


@dataclass(frozen=True, slots=True)
class ExportAbout:
    """Facts of a whole export.

    Attributes:
        name: of the data set.
        organ: what the images show.
        target: the phrase that a sonographer would type for class 1.
        classes: with their colours, as the person named them.
        labels: class number -> name, of each in ``classes`` and of each number without a class.
        labelling: "instance" where objects were told apart, else "semantic".
        licence: of the images, in the person's words; "" where nothing is stated.
    """

    name: str
    organ: str
    target: str
    classes: Sequence[LabelClass]
    labels: Mapping[int, str]
    labelling: Labelling
    licence: str = ""


Entry = dict[str, Any]
"""What ``write_image`` has to tell ``write_card`` of its image; only these two look inside."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelledObject:
    """One object of an image as a file holds it.

    Attributes:
        class_id: its class's number in the ``LabelSet``.
        mask: (H, W), or None where the file has a box only.
        box: (4,) XYXY pixels, first and last pixel inclusive; where there is no mask.
    """

    class_id: int
    mask: BoolArray | None
    box: FloatArray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImage:
    """One image of a label set, whose objects are read when they are asked for.

    Attributes:
        path: of the file that says it, for messages.
        names: what the image is called there, the best first: an id, a path, a file's name.
        read: gives the objects, from the (H, W) of the person's own image, so that nothing of an
            absurd size is decoded; raises a ``FileError``.
        frame: index in a file of several images, or None.
        instance: SOP instance UID of the DICOM file that is meant, or "": it says more than names,
            and is never shown or kept.
        turned: as ``read``, for an image that is a volume and shown as viewers show it; None where
            both are the same.
    """

    path: Path
    names: tuple[str, ...]
    read: Callable[[tuple[int, int]], Sequence[LabelledObject]]
    frame: int | None = None
    turned: Callable[[tuple[int, int]], Sequence[LabelledObject]] | None = None
    instance: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class LabelSet:
    """Labels that a file or a folder holds, of this program or of another.

    Attributes:
        images: each once.
        classes: with the numbers that the objects name.
        told_apart: objects are objects; else one is all of its class in an image.
        last_on_top: of two that overlap the later lies on the other.
        notes: sentences about what the file holds and cannot be taken.
    """

    images: Sequence[LabelledImage]
    classes: Sequence[LabelClass]
    told_apart: bool = True
    last_on_top: bool = False
    notes: tuple[str, ...] = ()


class FormatModule(Protocol):
    """Interface of a format's module."""

    def write_image(self, folder: OutputFolder, item: ExportImage) -> Entry:
        """Write the files of one image through the folder.

        Where it raises a ``UsgsegError``, what it wrote is removed and the image is left out.
        """

    def write_card(
        self, folder: OutputFolder, about: ExportAbout, entries: Sequence[Entry]
    ) -> None:
        """Write the file that lists all images, and what else is of them all."""

    def recognises(self, path: Path) -> bool:
        """Whether a file or a folder is of this format, from its names and first bytes."""

    def read(self, path: Path) -> LabelSet:
        """Read what ``write_card`` wrote, or another program; raises a ``FileError``."""
