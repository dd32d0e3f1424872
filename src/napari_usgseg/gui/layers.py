"""A session in a viewer: the only place where XY becomes napari's (row, column).

What changed is drawn layer by layer, one in each turn of the event loop, so that no turn is long;
the label map is read back when the person paints on it by hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Image, Labels, Layer
from napari.utils.colormaps import DirectLabelColormap
from napari.viewer import Viewer
from qtpy.QtCore import QTimer

from ..geometry import rc_to_xy, xy_to_rc
from ..session.annotator import AnnotationSession
from ..store.memory import MemoryStore
from ..types import FloatArray
from .adopted import AdoptedImage
from .drawing import (
    NEGATIVE,
    POSITIVE,
    LabelColors,
    Mark,
    label_colors,
    outlines,
    prompt_marks,
    put,
    stroke_marks,
)
from .pictures import Pictures
from .tagged import NAMES, TaggedLayers, place_like

ORDER = ("image", "labels", "proposal", "shapes", "points")


class LayerBridge:
    """Shows a session in a viewer and reads back what is painted by hand.

    Args:
        viewer: the napari viewer.
        session: what to show.
    """

    def __init__(self, viewer: Viewer, session: AnnotationSession) -> None:
        self._viewer = viewer
        self._session = session
        self.adopted = AdoptedImage(viewer)
        self.layers = TaggedLayers(viewer, self.adopted)
        self._next: Image | None = None
        self._store = session.store
        self.pictures = Pictures()
        self.pictures.ready.connect(self.draw_image)
        self._stroke: list[Mark] = []
        self._writing = False
        self._fresh = True
        self._dirty: set[str] = set()
        self._wired: Labels | None = None
        self._colors: WeakKeyDictionary[Labels, LabelColors] = WeakKeyDictionary()
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._turn)
        self._listening = (
            (session.image_loaded, self._on_image),
            (session.labels_changed, self._on_labels),
            (session.draft_changed, self._on_draft),
            (session.classes_changed, self._on_classes),
            (session.flushing, self.pull),
            (session.opened, self._on_opened),
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
        self._next = layer

    # -- coordinates ---------------------------------------------------------------------------

    def to_xy(self, world: Any) -> FloatArray:
        """A position in the viewer's world to XY pixels of the image."""
        layer = self.find("labels") or self.find("image")
        data = world if layer is None else layer.world_to_data(tuple(world)[-layer.ndim :])
        return rc_to_xy(np.asarray(data, np.float32)[-2:])

    # -- what is to be drawn -------------------------------------------------------------------

    def _on_image(self) -> None:
        self._draw_soon(*ORDER)

    def _on_opened(self) -> None:
        self._fresh = True  # within a folder the view stays where images have one size
        before, self._store = self._store, self._session.store
        labels = self.layers.find("labels")
        if isinstance(before, MemoryStore) and isinstance(labels, Labels) and labels.data.any():
            self.layers.release("labels", f"labels of {before.name}")  # they are nowhere else
        self.adopted.take(self._next)
        if self._next is not None:
            self.layers.remove("image")
        self._next = None

    def draw_image(self) -> None:
        """Show the image anew: its picture is made, or another one is wanted."""
        self._draw_soon("image")

    def _on_labels(self) -> None:
        self._draw_soon("labels")

    def _on_draft(self) -> None:
        self._draw_soon("proposal", "shapes", "points")

    def show_stroke(self, line: Sequence[FloatArray], shape: str) -> None:
        """Show what is being drawn, XY: a "rectangle", "polygon" or "path"; () takes it away."""
        self._stroke = stroke_marks(line, shape)
        self._draw_soon("shapes")

    def _draw_soon(self, *roles: str) -> None:
        if self._session.labels is not None:
            self._dirty.update(roles)
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
            with self._quiet():
                getattr(self, f"_draw_{role}")()
        if self._dirty:
            self._timer.start(0)

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

    # -- drawing -------------------------------------------------------------------------------

    def _draw_image(self) -> None:
        loaded = self._session.loaded
        if loaded is None or self.adopted.layer is not None:
            return
        self.adopted.take(None)
        pixels = loaded.pixels
        rgb = bool((pixels != pixels[..., :1]).any())
        data = pixels if rgb else pixels[..., 0]
        before = self.layers.find("image")
        layer: Any = self.layers.image(rgb, data)
        shown = self.pictures.get(loaded.key, data, self._session.settings.view)
        resized = before is None or layer.data.shape[:2] != data.shape[:2]
        if layer.data is not shown:
            layer.data = shown
        if resized or self._fresh:
            self._fresh = False
            self._viewer.reset_view()

    def _draw_labels(self) -> None:
        labels = self._session.labels
        assert labels is not None
        layer = self.layers.labels("labels", labels.shape)
        if layer is not self._wired:
            self._unwire()
            layer.events.paint.connect(self._on_paint)
            layer.events.selected_label.connect(self._on_selected_label)
            self._wired = layer
            self._color(layer)
        place_like(layer, self.adopted.layer)
        told_apart = self._session.settings.labelling == "instance"
        if put(layer, labels.astype(np.uint16) if told_apart else labels):
            if told_apart:
                self._color(layer)
            forget = getattr(layer, "_reset_history", None)  # its strokes fit the old map only
            if forget is not None:
                forget()
        layer.selected_label = self._session.painting.value

    def _draw_proposal(self) -> None:
        labels, draft = self._session.labels, self._session.draft
        assert labels is not None
        if self.layers.find("proposal") is None:
            self._color(self.layers.labels("proposal", labels.shape))
        layer = self.layers.labels("proposal", labels.shape)
        place_like(layer, self.adopted.layer)
        put(layer, outlines(draft.objects, labels.shape, self._session.settings.labelling))
        layer.metadata["model"] = draft.model_id
        if layer.name.startswith(NAMES["proposal"]):
            maker = f" by {draft.model_id}" if draft.has_masks and draft.model_id else ""
            layer.name = NAMES["proposal"] + maker

    def _draw_points(self) -> None:
        objects = self._session.draft.objects
        coords = [item.prompts.point_coords for item in objects]
        signs = np.concatenate([np.zeros(0), *(item.prompts.point_labels for item in objects)])
        points = xy_to_rc(np.concatenate([np.zeros((0, 2)), *coords]))
        layer = self.layers.points()
        place_like(layer, self.adopted.layer)
        if not len(points) and not len(layer.data):
            return
        layer.data = points
        if len(points):
            layer.face_color = [POSITIVE if sign else NEGATIVE for sign in signs]
            layer.size = self._mark_size()
        layer.selected_data = set()

    def _draw_shapes(self) -> None:
        marks = [*prompt_marks(self._session.draft.objects), *self._stroke]
        layer = self.layers.shapes()
        place_like(layer, self.adopted.layer)
        if not marks and not layer.nshapes:
            return
        layer.data = []
        for vertices, kind, color in marks:
            layer.add(
                vertices,
                shape_type=kind,
                edge_color=color,
                face_color="transparent",
                edge_width=max(1.0, self._mark_size() / 5),
            )
        layer.selected_data = set()

    def _mark_size(self) -> float:
        """Diameter of a point in pixels of the image."""
        labels = self._session.labels
        return 8.0 if labels is None else max(5.0, 0.014 * max(labels.shape))

    # -- classes and painting ------------------------------------------------------------------

    def _color(self, layer: Labels) -> None:
        session = self._session
        colors = label_colors(session.table, session.settings.labelling, session.painting.values)
        if colors != self._colors.get(layer):
            self._colors[layer] = colors
            layer.colormap = DirectLabelColormap(color_dict=dict(colors))

    def _on_classes(self) -> None:
        with self._quiet():
            for role in ("labels", "proposal"):
                layer = self.layers.find(role)
                if isinstance(layer, Labels):
                    self._color(layer)
            labels = self.layers.find("labels")
            if isinstance(labels, Labels):
                labels.selected_label = self._session.painting.value

    def _on_selected_label(self, event: Any) -> None:
        if not self._writing:
            self._session.painting.take_value(int(event.source.selected_label))

    def _on_paint(self, event: Any) -> None:
        if not self._writing:
            self._draw_soon("painted")  # napari tells of a polygon before it draws it

    def pull(self) -> None:
        """Hand what was painted on the labels layer to the session."""
        labels, layer = self._session.labels, self.layers.find("labels")
        stale = "labels" in self._dirty
        if self._writing or stale or labels is None or not isinstance(layer, Labels):
            return
        painted = np.asarray(layer.data)
        if painted.shape == labels.shape and not np.array_equal(painted, labels):
            self._session.editing.painted(painted.copy())

    def _unwire(self) -> None:
        """Layers outlive this bridge, and the next one takes them over."""
        if self._wired is not None:
            self._wired.events.paint.disconnect(self._on_paint)
            self._wired.events.selected_label.disconnect(self._on_selected_label)
            self._wired = None

    def close(self) -> None:
        """Listen and draw no more; layers stay, for they are the person's work."""
        self._timer.stop()
        self._unwire()
        self.pictures.close()
        for signal, listener in self._listening:
            signal.disconnect(listener)
