"""A session in a viewer: the only place where XY becomes napari's (row, column).

What changed is drawn layer by layer, one in each turn of the event loop, so that no turn is long;
the label map is read back when the person paints on it by hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from napari.layers import Image, Labels, Layer
from napari.utils.colormaps import DirectLabelColormap
from napari.viewer import Viewer
from qtpy.QtCore import QTimer

from ..geometry import rc_to_xy, xy_to_rc
from ..session.annotator import AnnotationSession
from ..types import FloatArray
from .adopted import AdoptedImage
from .drawing import NEGATIVE, NEUTRAL, POSITIVE, Mark, corners, outlines, prompt_marks, put
from .tagged import NAMES, TAG, TaggedLayers, place_like

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
        self.layers = TaggedLayers(viewer)
        self.adopted = AdoptedImage(viewer)
        self._stroke: list[Mark] = []
        self._writing = False
        self._dirty: set[str] = set()
        self._wired: Labels | None = None
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._turn)
        session.image_loaded.connect(self._on_image)
        session.labels_changed.connect(self._on_labels)
        session.draft_changed.connect(self._on_draft)
        session.classes_changed.connect(self._on_classes)
        session.flushing.connect(self.pull)

    def find(self, role: str) -> Layer | None:
        """The layer of a role: "image", "labels", "proposal", "shapes" or "points"."""
        if role == "image" and self.adopted.layer is not None:
            return self.adopted.layer
        return self.layers.find(role)

    def adopt(self, layer: Image | None) -> None:
        """Use an image layer of the person's in the place of ours; None goes back."""
        self.adopted.take(layer)
        if layer is not None:
            self.layers.remove("image")

    # -- coordinates ---------------------------------------------------------------------------

    def to_xy(self, world: Any) -> FloatArray:
        """A position in the viewer's world to XY pixels of the image."""
        layer = self.find("labels") or self.find("image")
        data = world if layer is None else layer.world_to_data(tuple(world)[-layer.ndim :])
        return rc_to_xy(np.asarray(data, np.float32)[-2:])

    # -- what is to be drawn -------------------------------------------------------------------

    def _on_image(self) -> None:
        self._draw_soon(*ORDER)

    def _on_labels(self) -> None:
        self._draw_soon("labels")

    def _on_draft(self) -> None:
        self._draw_soon("proposal", "shapes", "points")

    def show_stroke(self, line: Sequence[FloatArray], closed: bool) -> None:
        """Show the box (``closed``) or scribble that is being drawn, XY; () takes it away."""
        self._stroke = []
        if len(line) > 1:
            vertices = corners(line[0], line[-1]) if closed else np.array(line)
            self._stroke = [(xy_to_rc(vertices), "rectangle" if closed else "path", NEUTRAL)]
        self._draw_soon("shapes")

    def _draw_soon(self, *roles: str) -> None:
        if self._session.labels is not None:
            self._dirty.update(roles)
            self._timer.start(0)

    def _turn(self) -> None:
        """Draw one layer, and come back for the next."""
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
        resized = before is None or layer.data.shape[:2] != data.shape[:2]
        if layer.data is not data:
            layer.data = data
        if resized:
            self._viewer.reset_view()

    def _draw_labels(self) -> None:
        labels = self._session.labels
        assert labels is not None
        layer = self.layers.labels("labels", labels.shape)
        if layer is not self._wired:
            layer.events.paint.connect(self.pull)
            layer.events.selected_label.connect(self._on_selected_label)
            self._wired = layer
            self._color(layer)
            layer.selected_label = self._session.table.active
        place_like(layer, self.adopted.layer)
        if put(layer, labels):
            forget = getattr(layer, "_reset_history", None)  # its strokes fit the old map only
            if forget is not None:
                forget()

    def _draw_proposal(self) -> None:
        labels, draft = self._session.labels, self._session.draft
        assert labels is not None
        if self.layers.find("proposal") is None:
            self._color(self.layers.labels("proposal", labels.shape))
        layer = self.layers.labels("proposal", labels.shape)
        place_like(layer, self.adopted.layer)
        put(layer, outlines(draft.objects, labels.shape))
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

    def toggle_overlays(self) -> None:
        """Show the bare image, or everything again."""
        overlays = [x for x in self.layers.ours() if x.metadata[TAG] != "image"]
        shown = any(layer.visible for layer in overlays)
        for layer in overlays:
            layer.visible = not shown

    # -- classes and painting ------------------------------------------------------------------

    def _color(self, layer: Labels) -> None:
        colors: dict[int | None, Any] = {None: "#999999", 0: "transparent"}
        colors.update({item.class_id: item.color for item in self._session.table.classes})
        layer.colormap = DirectLabelColormap(color_dict=colors)

    def _on_classes(self) -> None:
        with self._quiet():
            for role in ("labels", "proposal"):
                layer = self.layers.find(role)
                if isinstance(layer, Labels):
                    self._color(layer)
            labels = self.layers.find("labels")
            if isinstance(labels, Labels):
                labels.selected_label = self._session.table.active

    def _on_selected_label(self, event: Any) -> None:
        picked = event.source.selected_label
        if not self._writing and self._session.table.get(picked) is not None:
            self._session.editing.pick_class(picked)

    def pull(self, event: Any = None) -> None:
        """Hand what was painted on the labels layer to the session."""
        labels, layer = self._session.labels, self.layers.find("labels")
        stale = "labels" in self._dirty
        if self._writing or stale or labels is None or not isinstance(layer, Labels):
            return
        painted = np.asarray(layer.data)
        if painted.shape == labels.shape and not np.array_equal(painted, labels):
            self._session.editing.painted(painted.copy())

    def close(self) -> None:
        """Listen and draw no more; layers stay, for they are the person's work."""
        self._timer.stop()
        session = self._session
        session.image_loaded.disconnect(self._on_image)
        session.labels_changed.disconnect(self._on_labels)
        session.draft_changed.disconnect(self._on_draft)
        session.classes_changed.disconnect(self._on_classes)
        session.flushing.disconnect(self.pull)
