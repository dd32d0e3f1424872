"""Areas over time: what is on the frames of a loop, measured a few frames at a time."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from psygnal import Signal

from ...core.errors import FileError
from ...core.types import ImageRecord
from ...io.atomic import write_new
from ...io.labels import Labelling
from ...jobs import Lane, Scope
from ...project.project import LabelStore
from ...segmentation.propagation.areas import Area, area_table, areas_on
from ..document import AnnotationDocument
from .frames import Loops
from .propagation import as_accepted, in_frames

MEASURED_AT_ONCE = 16
"""Frames in one job, so that saving and opening wait a moment at most."""


class Areas:
    """``session.areas``: of the labels of the loop that is shown, as a list and as a table.

    ``measured`` carries the areas that were asked for.

    Args:
        document: whose images they are.
        loops: the loop that is shown.
    """

    measured = Signal(list)

    def __init__(self, document: AnnotationDocument, loops: Loops) -> None:
        self._document, self._loops = document, loops

    def measure(self) -> None:
        """Measure what is on each frame, accepted or proposed; ``measured`` tells."""
        self._document.flush()
        self._measure_on([], 0)

    def save(self, path: Path, areas: Sequence[Area]) -> None:
        """Write areas as a table into a new file."""
        document = self._document
        about = None if document.loaded is None else document.loaded.about
        rate, spacing = (None, None) if about is None else (about.rate, about.spacing_mm)
        document.ask(
            write_new,
            path,
            area_table(areas, rate, spacing),
            lane=Lane.FILES,
            key="save areas",
            text=f"Writing {path.name}...",
            done=lambda _: document.say(f"The areas are in {path}"),
        )

    def _measure_on(self, areas: list[Area], frame: int) -> None:
        """Measure some frames from one on, and come back for the next."""
        document, frames = self._document, self._loops.frames
        if frame >= len(frames) or document.store is None:
            self.measured.emit(areas)
            return

        def take(found: list[Area]) -> None:
            if frames is self._loops.frames:
                self._measure_on([*areas, *found], frame + MEASURED_AT_ONCE)

        document.ask(
            areas_of,
            document.store,
            tuple(enumerate(frames))[frame : frame + MEASURED_AT_ONCE],
            document.settings.labelling,
            document.settings.overwrite,
            lane=Lane.FILES,
            key="areas",
            scope=Scope.FOLDER,
            text=f"Measuring {in_frames(len(frames))}...",
            aside=True,
            done=take,
        )


def areas_of(
    store: LabelStore,
    frames: Sequence[tuple[int, ImageRecord]],
    labelling: Labelling,
    overwrite: bool,
) -> list[Area]:
    """The areas of what is on some frames, each with its index; those that cannot be read lack."""
    found: list[Area] = []
    for frame, record in frames:
        with suppress(FileError):  # said when the frame is opened
            labels = as_accepted(store, record, labelling, overwrite)
            body = store.log.unasked(record.image_id) or {}
            scores = {int(value): score for value, score in body.get("scores", {}).items()}
            found += areas_on(frame, labels, scores)
    return found
