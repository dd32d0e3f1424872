"""Measuring in the window: objects as a table of the labels layer, calipers, and the scale."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Qt, QTimer, Signal

from ...annotation.session import AnnotationSession
from ...core.types import BoolArray
from ...io.labels import Labelling, LabelMap
from ...io.reading.frames import RANGE_MM
from ...jobs.files import Loaded
from ...segmentation.measuring import (
    COLUMNS,
    MeasuredObject,
    PictureScale,
    Surfaces,
    cells,
    measure_labels,
    measure_object,
    words,
)
from ..parts import NewestFirst
from .bridge import LayerBridge

REST_MS = 250
"""Objects are measured when nothing has changed for so long."""
MEASURED_PIXELS = 12_000_000
"""Larger images are measured by ``usgseg measure`` alone."""
MOST_OBJECTS = 500
"""So many of an image are measured while a person works; ``usgseg measure`` measures all."""
SHORTEST = 2.0
"""A caliper of fewer pixels is a slip of the hand."""
Point = tuple[float, float]


class Measured(NamedTuple):
    """Measures of an image: of the labelled objects, and the proposed one under work."""

    labelled: list[MeasuredObject]
    active: MeasuredObject | None


class Measuring(QObject):
    """Measures what is labelled and the object under work, on a thread of its own; keeps calipers.

    ``changed`` tells of calipers and of the scale. Calipers are kept while their image is shown.

    Args:
        session: whose image is measured.
        bridge: draws calipers, and has the labels layer.
        parent: of this object.
    """

    changed = Signal()

    def __init__(
        self, session: AnnotationSession, bridge: LayerBridge, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._session, self._bridge = session, bridge
        self._surfaces: tuple[str, Surfaces] | None = None
        self._asked = 0
        self.calipers: tuple[tuple[Point, Point], ...] = ()
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(REST_MS)
        self._rest.timeout.connect(self._ask)
        self._thread = NewestFirst("usgseg-measures", 1, self)
        self._thread.done.connect(self._on_done, Qt.ConnectionType.QueuedConnection)
        self._listening = (
            (session.image_changed, self._on_image),
            (session.image_loaded, self._on_change),
            (session.labels_changed, self._on_change),
            (session.proposal_changed, self._on_change),
            (session.classes_changed, self._on_change),
            (session.settings_changed, self._on_settings),
        )
        for signal, listener in self._listening:
            signal.connect(listener)
        self._said = session.settings.mm_per_pixel

    # -- the scale -----------------------------------------------------------------------------

    @property
    def scale(self) -> PictureScale | None:
        """What is known of lengths in the image that is shown; None where none is."""
        loaded = self._session.loaded
        if loaded is None:
            return None
        said = self._session.settings.mm_per_pixel
        return PictureScale.of(loaded.pixels.shape[:2], loaded.about, said)

    def set_mm_per_pixel(self, side: float | None) -> None:
        """Say how long a pixel of such images is, where the file does not; None: unsaid.

        Such images have this one's size, and its scanner and depth where files tell them.
        """
        scale, settings = self.scale, self._session.settings
        if scale is None:
            return
        said = {key: known for key, known in settings.mm_per_pixel.items() if key != scale.key}
        if side is not None:
            low, high = RANGE_MM
            if not low <= side <= high:
                self._session.say(
                    f"A pixel of {side:.3g} mm is none of ultrasound: give {low:g} to {high:g} mm.",
                    "warning",
                )
                return
            said[scale.key] = side
        self._session.set_settings(replace(settings, mm_per_pixel=said))

    def set_last_caliper(self, length_mm: float) -> None:
        """Say how long the last caliper is; so a pixel of such images has its length."""
        if not self.calipers:
            self._session.say("Draw a caliper along a known length first.", "warning")
            return
        (ax, ay), (bx, by) = self.calipers[-1]
        self.set_mm_per_pixel(length_mm / float(np.hypot(bx - ax, by - ay)))

    # -- calipers ------------------------------------------------------------------------------

    def add_caliper(self, a: Point, b: Point) -> None:
        """Lay a caliper from point to point, XY."""
        if np.hypot(b[0] - a[0], b[1] - a[1]) < SHORTEST:
            self._session.say("Drag from one end of the length to the other.")
            return
        self.calipers = (*self.calipers, (a, b))
        self._show_calipers()
        self._session.say(f"Caliper: {self.length(a, b)}")

    def clear_calipers(self) -> None:
        """Take all calipers away."""
        self.calipers = ()
        self._show_calipers()

    def length(self, a: Point, b: Point) -> str:
        """How long it is from point to point, in words: in mm, or in px where that is not known."""
        (left, right), (top, bottom) = sorted((a[0], b[0])), sorted((a[1], b[1]))
        known = None if self.scale is None else self.scale.within(left, top, right, bottom)
        row, column = (1.0, 1.0) if known is None else known.spacing_mm
        found = float(np.hypot((b[0] - a[0]) * column, (b[1] - a[1]) * row))
        return f"{found:.1f} {'px' if known is None else 'mm'}"

    def _show_calipers(self) -> None:
        marks = [(np.array(line, np.float32), self.length(*line)) for line in self.calipers]
        self._bridge.show_calipers(marks)
        self.changed.emit()

    # -- objects -------------------------------------------------------------------------------

    def _on_image(self) -> None:
        self.calipers = ()
        self._asked += 1
        self._session.facts.pop("size", None)
        self._show_calipers()

    def _on_change(self, *_: object) -> None:
        self._rest.start()

    def _on_settings(self) -> None:
        said = self._session.settings.mm_per_pixel
        if said != self._said:
            self._said = said
            self._show_calipers()
        self._rest.start()

    def _ask(self) -> None:
        loaded, labels, scale = self._session.loaded, self._session.labels, self.scale
        if loaded is None or labels is None or scale is None or labels.size > MEASURED_PIXELS:
            return
        current = self._session.proposal.current
        active = None if current is None or not current.has_mask else current.proposal
        mask = None if active is None else active.mask
        labelling = self._session.settings.labelling
        self._asked += 1
        self._thread.submit(
            self._asked, partial(self._measure, loaded, labels, labelling, scale, mask)
        )

    def _measure(
        self,
        loaded: Loaded,
        labels: LabelMap,
        labelling: Labelling,
        scale: PictureScale,
        active: BoolArray | None,
    ) -> Measured:
        """On the thread: what there is to be measured."""
        if active is None and not labels.any():
            return Measured([], None)  # a sector is looked for where its depth is asked for
        if self._surfaces is None or self._surfaces[0] != loaded.key:
            regions = () if loaded.about is None else loaded.about.regions
            self._surfaces = loaded.key, Surfaces(loaded.pixels, regions)
        surfaces = self._surfaces[1]
        return Measured(
            list(islice(measure_labels(labels, labelling, scale, surfaces), MOST_OBJECTS)),
            None if active is None else measure_object(active, scale, surfaces),
        )

    def _on_done(self, number: int, found: Measured | None) -> None:
        session, layer = self._session, self._bridge.layers.find("labels")
        if number != self._asked or found is None or session.labels is None:
            return
        if isinstance(layer, Labels):
            layer.features = self.table(found.labelled)
        said = "" if found.active is None else words(found.active)
        if session.facts.get("size", "") != said:
            session.facts["size"] = said
            session.tell()

    def table(self, found: list[MeasuredObject]) -> dict[str, NDArray[np.generic]]:
        """Features of the labels layer: "index" is the label value, as napari has it."""
        names = {item.class_id: item.name for item in self._session.table.classes}
        rows = [cells(item, names) for item in found]
        columns: dict[str, list[object]] = {"index": [item.value for item in found]}
        columns |= {name: [row[name] for row in rows] for name in COLUMNS}
        texts = ("class", "spacing_from")
        return {
            name: np.array(
                [("" if each is None else each) if name in texts else each for each in column],
                object if name in texts else int if name in ("index", "object") else float,
            )
            for name, column in columns.items()
        }

    def close(self) -> None:
        """Listen no more, and end the thread."""
        self._rest.stop()
        for signal, listener in self._listening:
            signal.disconnect(listener)
        self._thread.close()
