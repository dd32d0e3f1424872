"""Areas over time: what is on the frames of a loop, measured a few frames at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from psygnal import Signal

from ...core.errors import FileError, ImageReadError
from ...core.types import ImageRecord
from ...io.atomic import write_new
from ...io.labels import Labelling
from ...io.reading.files import open_frames
from ...jobs import Lane, Scope
from ...jobs.files import AT_ONCE
from ...project.project import LabelStore
from ...segmentation.measuring import PictureScale
from ...segmentation.propagation.areas import Area, area_table, areas_on
from ..document import AnnotationDocument
from .frames import Loops
from .propagation import as_accepted
from .runs import in_frames


@dataclass(frozen=True, slots=True, eq=False)
class LoopAreas:
    """The areas on the frames of a loop, as they were when they were measured.

    Attributes:
        frames: of the loop, in order.
        areas: of each label on each frame, in the order of the frames.
    """

    frames: tuple[ImageRecord, ...]
    areas: tuple[Area, ...] = ()


class Areas:
    """``session.areas``: of the labels of the loop that is shown, as a record and as a table.

    ``measured`` carries the ``LoopAreas`` that were asked for.

    Args:
        document: whose images they are.
        loops: the loop that is shown.
    """

    measured = Signal(LoopAreas)

    def __init__(self, document: AnnotationDocument, loops: Loops) -> None:
        self._document, self._loops = document, loops

    def measure(self) -> None:
        """Measure what is on each frame, accepted or proposed; ``measured`` tells."""
        self._document.flush()
        self._measure_on(LoopAreas(self._loops.frames), 0)

    def save(self, path: Path, measured: LoopAreas) -> None:
        """Write areas as a table into a new file."""
        self._document.ask(
            write_areas,
            path,
            measured,
            lane=Lane.FILES,
            key="save areas",
            text=f"Writing {path.name}...",
            done=lambda _: self._document.say(f"The areas are in {path}"),
        )

    def _measure_on(self, measured: LoopAreas, frame: int) -> None:
        """Measure some frames from one on, and come back for the next."""
        document, frames = self._document, measured.frames
        if frame >= len(frames) or document.store is None:
            self.measured.emit(measured)
            return

        def take(found: list[Area]) -> None:
            self._measure_on(LoopAreas(frames, (*measured.areas, *found)), frame + AT_ONCE)

        document.ask(
            areas_of,
            document.store,
            tuple(enumerate(frames))[frame : frame + AT_ONCE],
            document.settings.labelling,
            document.settings.overwrite,
            document.settings.mm_per_pixel,
            lane=Lane.FILES,
            key="areas",
            scope=Scope.FOLDER,
            text=f"Measuring {in_frames(len(frames))}...",
            aside=True,
            done=take,
        )


def write_areas(path: Path, measured: LoopAreas) -> None:
    """Write the areas of a loop as a table into a new file.

    Times are by what the loop's own file says; they are left empty where it cannot be read.

    Raises:
        LabelWriteError: the file is there, or cannot be written.
    """
    rate = None
    if measured.frames:
        with suppress(ImageReadError), open_frames(measured.frames[0].path) as file:
            rate = file.about.rate
    write_new(path, area_table(measured.areas, rate))


def areas_of(
    store: LabelStore,
    frames: Sequence[tuple[int, ImageRecord]],
    labelling: Labelling,
    overwrite: bool,
    by_person: Mapping[str, float],
) -> list[Area]:
    """The areas of what is on some frames, each with its index; those that cannot be read lack."""
    found: list[Area] = []
    for frame, record in frames:
        with suppress(FileError):  # said when the frame is opened
            labels = as_accepted(store, record, labelling, overwrite)
            about, body = store.about(record), store.log.unasked(record.image_id) or {}
            scale = PictureScale.of(labels.shape, about, by_person)
            scores = {int(value): score for value, score in body.get("scores", {}).items()}
            found += areas_on(frame, labels, scores, scale)
    return found
