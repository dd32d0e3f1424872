"""A session in a viewer; here and in ``drawing`` only, XY becomes napari's (row, column).

What changed is drawn layer by layer, one in each turn of the event loop, so that no turn is long;
the label map is read back when the person paints on it by hand.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from napari.layers import Image, Labels, Layer
from napari.viewer import Viewer
from psygnal import Signal
from qtpy.QtCore import QTimer

from ...annotation.session import AnnotationSession
from ...core.geometry import rc_to_xy
from ...core.types import FloatArray
from ...project.project import MemoryStore
from ..parts import reason
from .drawing import ORDER, LayerDrawing
from .layers import NAMES, AdoptedImage, TaggedLayers, place_like, step_of

REST_MS = 120
"""So long the wheel rests before contours are drawn for the new zoom."""


class LayerBridge:
    """Shows a session in a viewer and reads back what is painted by hand.

    Args:
        viewer: the napari viewer.
        session: what to show.
    """

    zoomed = Signal()

    def __init__(self, viewer: Viewer, session: AnnotationSession) -> None:
        self._viewer = viewer
        self._session = session
        self.adopted = AdoptedImage(viewer)
        self.layers = TaggedLayers(viewer, self.adopted)
        self._next: tuple[Image, tuple[int, ...]] | None = None
        self._store = session.store
        self._drawing = LayerDrawing(viewer, session, self.layers)
        self._drawing.pictures.ready.connect(self.draw_image)
        self._writing = False
        self._dirty: set[str] = set()
        self._failed: dict[str, str] = {}
        """Roles whose layers do not show what the session has, and why."""
        self._wired: Labels | None = None
        self._undoing = (("Control-Z", self._on_undo), ("Control-Shift-Z", self._on_redo))
        self._zooming = QTimer()
        self._zooming.setSingleShot(True)
        self._zooming.timeout.connect(self._on_zoom_rested)
        scene: Any = getattr(viewer, "scene", viewer)  # napari before 0.9 has no scene
        self._zoom = scene.camera.events.zoom
        self._zoom.connect(self._on_zoom)
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._turn)
        self._listening = (
            (session.image_loaded, self._on_image),
            (session.labels_changed, self._on_labels),
            (session.proposal_changed, self._on_proposal),
            (session.classes_changed, self._on_classes),
            (session.flushing, self.pull),
            (session.opened, self._on_opened),
            (session.loops.peeked_at, self._on_peek),
            (session.settings_changed, self._on_settings),
        )
        for signal, listener in self._listening:
            signal.connect(listener)

    def find(self, role: str) -> Layer | None:
        """The layer of a role: "image", "labels", "proposal", "shapes" or "points"."""
        if role == "image" and self.adopted.layer is not None:
            return self.adopted.layer
        return self.layers.find(role)

    def adopt(self, layer: Image | None) -> None:
        """Use an image layer of the person's in the place of ours, or None, once it is open.

        Until then, and for good where it cannot be opened, all stays as it is.
        """
        self._next = None if layer is None else (layer, self.adopted.frame(layer))

    # -- coordinates ---------------------------------------------------------------------------

    def to_xy(self, world: Any) -> FloatArray:
        """A position in the viewer's world to XY pixels of the image."""
        layer = self.layers.find("labels") or self.find("image")
        data = world if layer is None else layer.world_to_data(tuple(world)[-layer.ndim :])
        step = step_of(layer)  # the middle of a block is where it is in the image
        return rc_to_xy(np.asarray(data, np.float32)[-2:] * step + (step - 1) / 2)

    # -- what is to be drawn -------------------------------------------------------------------

    def _on_image(self) -> None:
        self._draw_soon(*ORDER)

    def _on_opened(self) -> None:
        self._drawing.fresh = True  # within a folder the view stays where images have one size
        before, self._store = self._store, self._session.store
        labels = self.layers.find("labels")
        if isinstance(before, MemoryStore) and isinstance(labels, Labels) and labels.data.any():
            if step_of(labels) > 1:
                labels.data = self._drawing.labels
                place_like(labels, self.adopted.layer)
            self.layers.release("labels", f"labels of {before.name}")  # they are nowhere else
        self.adopted.take(*(self._next or (None,)))
        if self._next is not None:
            self._drawing.fits = self.layers.find("image") is not None  # the view is of that one
            self.layers.place_like(self._next[0])
            self.layers.remove("image")
            self.layers.bring_to_top()
        self._next = None

    def draw_image(self) -> None:
        """Show the image anew: its picture is made, or another one is wanted."""
        self._draw_soon("image")

    def draw_proposal(self) -> None:
        """Show what is proposed anew: contours are wanted otherwise."""
        self._draw_soon("proposal")

    def _on_labels(self) -> None:
        self._draw_soon("labels")

    def _on_proposal(self) -> None:
        self._draw_soon("proposal", "names", "shapes", "points")

    def _on_peek(self) -> None:
        self._draw_soon("image", "proposal")

    def show_stroke(self, line: Sequence[FloatArray], shape: str, width: float = 0.0) -> None:
        """Show what is being drawn, XY: a "rectangle", "polygon" or "path"; () takes it away.

        ``width`` is that of a stroke that is taken as it is drawn, in pixels of the image; 0 is a
        thin line.
        """
        self._drawing.set_stroke(line, shape, width)
        self._draw_soon("shapes")

    def show_calipers(self, calipers: Sequence[tuple[FloatArray, str]]) -> None:
        """Show calipers: the ends (2, 2) XY of each, and how long it is in words."""
        if calipers or self._drawing.calipers:
            self._drawing.calipers = tuple(calipers)
            self._draw_soon("names", "shapes")

    def _on_settings(self) -> None:
        if self._drawing.outlined != self._drawing.fields:
            self._draw_soon("shapes")

    def _draw_soon(self, *roles: str) -> None:
        if self._session.labels is not None:
            # What failed before is tried again with the next change.
            self._dirty.update(roles, self._failed)
            self._timer.start(0)

    def _turn(self) -> None:
        """Draw one layer, and come back for the next."""
        if "painted" in self._dirty:
            self._dirty.discard("painted")
            self.pull()
        role = next((name for name in ORDER if name in self._dirty), None)
        if role is None:
            return
        self._dirty.discard(role)
        if self._session.labels is not None:
            why = self._try(role, lambda: self._draw(role))
            if why:
                self._failed[role] = why
            else:
                self._failed.pop(role, None)
        if self._dirty:
            self._timer.start(0)
        elif self._drawing.fits:  # not before: layers of another size would be fitted too
            self._drawing.fits = False
            self._viewer.reset_view()
            self._on_zoom_rested()

    def _on_zoom(self, _: Any = None) -> None:
        self._zooming.start(REST_MS)

    def _on_zoom_rested(self) -> None:
        """Have contours of the same width on the screen again."""
        self._zooming.stop()
        if not self._drawing.is_as_seen:
            self._draw_soon("proposal")
        self.zoomed.emit()

    @property
    def zoom(self) -> float:
        """Screen pixels for a pixel of the image."""
        return self._drawing.zoom

    @property
    def label_step(self) -> int:
        """Pixels of the image along each axis for one of the layer of labels."""
        return self._drawing.step

    def _draw(self, role: str) -> None:
        self._drawing.draw(role)
        if role == "labels":
            self._listen_to(self.layers.find(role))

    def _try(self, role: str, work: Callable[[], None]) -> str:
        """Change the layer of a role; where that fails, it is said once, and all else goes on.

        Returns:
            Why it failed, or "".
        """
        try:
            with self._quiet():
                work()
        except Exception as error:
            why = reason(error)
            if self._failed.get(role) != why:
                traceback.print_exc(file=sys.stderr)
                self._session.fail(
                    f"The layer '{NAMES[role]}' cannot be drawn ({why}). Nothing is lost: what was "
                    "found or accepted is kept, and saved as always. To see it, close this dock "
                    "and open it again."
                )
            return why
        return ""

    def finish(self) -> None:
        """Draw all that waits, now."""
        while self._dirty:
            self._turn()

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """Changes made in here are ours, not the person's."""
        before, self._writing = self._writing, True
        try:
            yield
        finally:
            self._writing = before

    # -- classes and painting ------------------------------------------------------------------

    def _on_classes(self) -> None:
        for role in ("labels", "proposal"):
            self._try(role, partial(self._drawing.recolor, role))
        self._draw_soon("names")

    def _on_selected_label(self, event: Any) -> None:
        if not self._writing:
            painting = self._session.painting
            painting.take_value(int(event.source.selected_label))
            if event.source.selected_label != painting.value:  # refused, or of another object
                self._on_classes()

    def _on_paint(self, event: Any) -> None:
        if not self._writing:
            self._draw_soon("painted")  # napari tells of a polygon before it draws it

    def _on_undo(self, _: Labels) -> None:
        self._session.undo()

    def _on_redo(self, _: Labels) -> None:
        self._session.redo()

    def pull(self) -> None:
        """Hand what was painted on the labels layer to the session."""
        layer = self.layers.find("labels")
        stale = "labels" in self._dirty or "labels" in self._failed
        # Where the layer still shows what was before (dirty, or it failed), reading it back would
        # undo what the session has done since.
        if self._writing or stale or not isinstance(layer, Labels):
            return
        painted = self._drawing.painted(layer)
        if painted is not None:
            self._session.editing.painted(painted)

    def _listen_to(self, layer: Layer | None) -> None:
        """Hear what the person paints on the layer of labels, which may have been made anew."""
        if isinstance(layer, Labels) and layer is not self._wired:
            self._unwire()
            layer.events.paint.connect(self._on_paint)
            layer.events.selected_label.connect(self._on_selected_label)
            for key, does in self._undoing:  # napari's own would leave the session behind
                layer.bind_key(key, does, overwrite=True)
            self._wired = layer

    def _unwire(self) -> None:
        """Layers outlive this bridge, and the next one takes them over."""
        if self._wired is not None:
            self._wired.events.paint.disconnect(self._on_paint)
            self._wired.events.selected_label.disconnect(self._on_selected_label)
            for key, _ in self._undoing:
                self._wired.bind_key(key, None)
            self._wired = None

    def close(self) -> None:
        """Listen and draw no more; layers stay, for they are the person's work."""
        self._timer.stop()
        self._zooming.stop()
        self._zoom.disconnect(self._on_zoom)
        self._unwire()
        self._drawing.pictures.close()
        for signal, listener in self._listening:
            signal.disconnect(listener)
