"""How each layer is drawn from a session: image, label map, proposal, prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap
from napari.viewer import Viewer

from ..geometry import xy_to_rc
from ..session.annotator import AnnotationSession
from ..types import FloatArray
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
"""Roles, in the order in which they are drawn."""


class LayerDrawing:
    """Draws what a session holds into the layers of each role.

    Args:
        viewer: the napari viewer.
        session: what to draw; an image of it must be shown.
        layers: that are drawn into, made where they are missing.

    Attributes:
        pictures: the image as it is to be seen.
        stroke: what the person is drawing, beside the marks of the prompts.
        fresh: the next image is the first of its folder, so that the view starts anew.
    """

    def __init__(self, viewer: Viewer, session: AnnotationSession, layers: TaggedLayers) -> None:
        self._viewer = viewer
        self._session = session
        self._layers = layers
        self._adopted = layers.adopted
        self._colors: WeakKeyDictionary[Labels, LabelColors] = WeakKeyDictionary()
        self.pictures = Pictures()
        self.stroke: list[Mark] = []
        self.fresh = True

    def set_stroke(self, line: Sequence[FloatArray], shape: str) -> None:
        """What is being drawn, XY: a "rectangle", "polygon" or "path"; () is nothing."""
        self.stroke = stroke_marks(line, shape)

    def draw(self, role: str) -> None:
        """Draw the layer of a role of ``ORDER``."""
        getattr(self, f"_draw_{role}")()

    def recolor(self, role: str) -> None:
        """Take the colours of the classes as they are now, and the value to paint with."""
        layer = self._layers.find(role)
        if isinstance(layer, Labels):
            self._color(layer)
            if role == "labels":
                self._paint_with(layer, self._session.painting.value)

    def _draw_image(self) -> None:
        loaded = self._session.loaded
        if loaded is None or self._adopted.layer is not None:
            return
        self._adopted.take(None)
        pixels = loaded.pixels
        rgb = bool((pixels != pixels[..., :1]).any())
        data = pixels if rgb else pixels[..., 0]
        before = self._layers.find("image")
        layer: Any = self._layers.image(rgb, data)
        shown = self.pictures.get(loaded.key, data, self._session.settings.view)
        resized = before is None or layer.data.shape[:2] != data.shape[:2]
        if layer.data is not shown:
            layer.data = shown
        if resized or self.fresh:
            self.fresh = False
            self._viewer.reset_view()

    def _draw_labels(self) -> None:
        labels = self._session.labels
        assert labels is not None
        layer = self._layers.labels("labels", labels.shape)
        if layer not in self._colors:
            self._color(layer)
        place_like(layer, self._adopted.layer)
        told_apart = self._session.settings.labelling == "instance"
        value = self._session.painting.value
        held = np.min_scalar_type(value)
        kind = np.promote_types(labels.dtype, np.uint16 if told_apart else held)
        self._paint_with(layer, value)  # first: napari shows no map whose type holds less
        if put(layer, labels.astype(kind, copy=False)):
            if told_apart:
                self._color(layer)
            forget = getattr(layer, "_reset_history", None)  # its strokes fit the old map only
            if forget is not None:
                forget()

    def _draw_proposal(self) -> None:
        labels, draft = self._session.labels, self._session.draft
        assert labels is not None
        if self._layers.find("proposal") is None:
            self._color(self._layers.labels("proposal", labels.shape))
        layer = self._layers.labels("proposal", labels.shape)
        place_like(layer, self._adopted.layer)
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
        layer = self._layers.points()
        place_like(layer, self._adopted.layer)
        if not len(points) and not len(layer.data):
            return
        layer.data = points
        if len(points):
            layer.face_color = [POSITIVE if sign else NEGATIVE for sign in signs]
            layer.size = self._mark_size()
        layer.selected_data = set()

    def _draw_shapes(self) -> None:
        marks = [*prompt_marks(self._session.draft.objects), *self.stroke]
        layer = self._layers.shapes()
        place_like(layer, self._adopted.layer)
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

    def _paint_with(self, layer: Labels, value: int) -> None:
        """Let napari's brush paint with a value, in a type that holds it; napari refuses others."""
        kind = np.promote_types(layer.data.dtype, np.min_scalar_type(value))
        if kind != layer.data.dtype:
            layer.data = layer.data.astype(kind)
        layer.selected_label = value

    def _color(self, layer: Labels) -> None:
        session = self._session
        colors = label_colors(session.table, session.settings.labelling, session.painting.values)
        if colors != self._colors.get(layer):
            self._colors[layer] = colors
            layer.colormap = DirectLabelColormap(color_dict=dict(colors))
