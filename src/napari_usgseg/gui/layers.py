"""The session's layers in a viewer: the only place where XY becomes napari's (row, column).

Layers are found by a tag in their metadata, never by name. A layer that the person deletes comes
back when it is needed again, except the image of their own. Layers without the tag are not touched.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from napari.layers import Image, Labels, Layer, Points, Shapes
from napari.utils.colormaps import DirectLabelColormap
from napari.viewer import Viewer
from numpy.typing import NDArray

from ..geometry import rc_to_xy, xy_to_rc
from ..session.annotator import AnnotationSession
from ..session.draft import DraftObject
from ..types import FloatArray

TAG = "napari-usgseg"
NAMES = {
    "image": "ultrasound",
    "labels": "labels (accepted)",
    "proposal": "proposal",
    "points": "prompts: points",
    "shapes": "prompts: boxes and scribbles",
}
POSITIVE, NEGATIVE = "#00d26a", "#ff3b6b"
CONTOUR = 2


class LayerBridge:
    """Shows a session in a viewer and reads back what is painted by hand.

    Args:
        viewer: the napari viewer.
        session: what to show.
    """

    def __init__(self, viewer: Viewer, session: AnnotationSession) -> None:
        self._viewer = viewer
        self._session = session
        self._own_image: Image | None = None
        self._writing = False
        session.image_loaded.connect(self._on_image)
        session.labels_changed.connect(self._on_labels)
        session.draft_changed.connect(self._on_draft)
        session.classes_changed.connect(self._on_classes)
        session.flushing.connect(self.pull)

    # -- finding layers ------------------------------------------------------------------------

    def find(self, role: str) -> Layer | None:
        """The layer of a role ("image", "labels", "proposal", "points", "shapes"), or None."""
        if role == "image" and self._own_image is not None:
            return self._own_image if self._own_image in self._viewer.layers else None
        return next((x for x in self._viewer.layers if x.metadata.get(TAG) == role), None)

    def adopt(self, layer: Image | None) -> None:
        """Use an image layer of the person's instead of one of ours; None goes back."""
        self._own_image = layer
        if layer is not None:
            self._remove("image")

    def active_image(self) -> Image | None:
        """The person's image layer that "use the open image" means: the selected or the top one."""
        candidates = [
            layer for layer in self._viewer.layers
            if isinstance(layer, Image) and TAG not in layer.metadata
        ]
        active = self._viewer.layers.selection.active
        if active in candidates:
            return active
        return candidates[-1] if candidates else None

    def current_slice(self, layer: Image) -> NDArray[Any]:
        """The two displayed dimensions (and channels) of an image layer, as an array."""
        data = layer.data[0] if layer.multiscale else layer.data
        extra = data.ndim - (3 if layer.rgb else 2)
        step = self._viewer.dims.current_step[-(extra + 2) : -2] if extra else ()
        return np.asarray(data[tuple(step)])

    def _remove(self, role: str) -> None:
        for layer in [x for x in self._viewer.layers if x.metadata.get(TAG) == role]:
            self._viewer.layers.remove(layer)

    # -- coordinates ---------------------------------------------------------------------------

    def to_xy(self, world: Any) -> FloatArray:
        """A position in the viewer's world to XY pixels of the image."""
        layer = self.find("labels") or self.find("image")
        data = layer.world_to_data(world) if layer is not None else world
        return rc_to_xy(np.asarray(data, np.float32)[-2:])

    def _placement(self) -> dict[str, Any]:
        """Where overlays go in the world: where the image is."""
        image = self._own_image if self._own_image in self._viewer.layers else None
        if image is None:
            return {}
        axes = image.data[0].ndim if image.multiscale else image.data.ndim
        axes -= 1 if image.rgb else 0
        keep = slice(axes - 2, axes)
        return {
            "scale": image.scale[keep],
            "translate": image.translate[keep],
            "rotate": image.rotate[keep, keep],
            "shear": image.shear if axes == 2 else None,
        }

    # -- showing -------------------------------------------------------------------------------

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """Changes made here are ours and not the person's; the selection stays as it is."""
        before, self._writing = self._writing, True
        selected = self._viewer.layers.selection.active
        try:
            yield
        finally:
            self._writing = before
            if selected is not None and selected in self._viewer.layers:
                self._viewer.layers.selection.active = selected

    def _on_image(self) -> None:
        loaded = self._session.loaded
        if loaded is None:
            return
        with self._quiet():
            if self._own_image is None:
                self._show_image(loaded.pixels)
            elif self._own_image not in self._viewer.layers:
                self._own_image = None
                self._show_image(loaded.pixels)
            self._place_overlays(loaded.pixels.shape[:2])

    def _show_image(self, pixels: NDArray[np.uint8]) -> None:
        grey = bool((pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all())
        data = pixels[..., 0] if grey else pixels
        layer = self.find("image")
        if isinstance(layer, Image) and layer.rgb == (not grey):
            resized = layer.data.shape[:2] != data.shape[:2]
            layer.data = data
        else:
            self._remove("image")
            layer = Image(data, name=NAMES["image"], rgb=not grey, metadata={TAG: "image"})
            if grey:
                layer.contrast_limits_range = (0, 255)
                layer.contrast_limits = (0, 255)
            self._viewer.layers.insert(0, layer)
            resized = True
        if resized:
            self._viewer.reset_view()

    def _place_overlays(self, size_hw: tuple[int, ...]) -> None:
        """Overlays of another size or place are made anew, for scale and shape belong together."""
        labels = self.find("labels")
        if labels is not None and labels.data.shape != tuple(size_hw):
            for role in ("labels", "proposal", "points", "shapes"):
                self._remove(role)

    def _labels_layer(self, role: str, size_hw: tuple[int, ...]) -> Labels:
        layer = self.find(role)
        if isinstance(layer, Labels) and layer.data.shape == tuple(size_hw):
            return layer
        self._remove(role)
        layer = Labels(
            np.zeros(size_hw, np.uint8), name=NAMES[role], metadata={TAG: role},
            opacity=0.45 if role == "labels" else 1.0, **self._placement(),
        )
        layer.colormap = self._colormap()
        if role == "proposal":
            layer.contour = CONTOUR
        else:
            layer.selected_label = self._session.table.active
            layer.brush_size = 12
            layer.events.paint.connect(self.pull)
            layer.events.selected_label.connect(self._on_selected_label)
        self._viewer.add_layer(layer)
        return layer

    def _colormap(self) -> DirectLabelColormap:
        colors: dict[int | None, Any] = {None: "#999999", 0: "transparent"}
        colors.update({item.class_id: item.color for item in self._session.table.classes})
        return DirectLabelColormap(color_dict=colors)

    def _on_classes(self) -> None:
        with self._quiet():
            for role in ("labels", "proposal"):
                layer = self.find(role)
                if isinstance(layer, Labels):
                    layer.colormap = self._colormap()
            labels = self.find("labels")
            if isinstance(labels, Labels):
                labels.selected_label = self._session.table.active

    def _on_selected_label(self, event: Any) -> None:
        if not self._writing and self._session.table.get(event.source.selected_label) is not None:
            self._session.pick_class(event.source.selected_label)

    def _on_labels(self) -> None:
        labels = self._session.labels
        if labels is None:
            return
        with self._quiet():
            layer = self._labels_layer("labels", labels.shape)
            if layer.data.dtype != labels.dtype or not np.array_equal(layer.data, labels):
                layer.data = labels.copy()
                forget = getattr(layer, "_reset_history", None)  # its strokes fit the old map only
                if forget is not None:
                    forget()

    def pull(self, event: Any = None) -> None:
        """Hand what was painted on the labels layer to the session."""
        labels, layer = self._session.labels, self.find("labels")
        if self._writing or labels is None or not isinstance(layer, Labels):
            return
        painted = np.asarray(layer.data)
        if painted.shape == labels.shape and not np.array_equal(painted, labels):
            with self._quiet():
                self._session.painted(painted.copy())

    def _on_draft(self) -> None:
        labels = self._session.labels
        if labels is None:
            return
        draft = self._session.draft
        with self._quiet():
            if draft.has_masks or self.find("proposal") is not None:
                layer = self._labels_layer("proposal", labels.shape)
                layer.data = draw(draft.objects, labels.shape)
                layer.metadata["model"] = draft.model_id
                maker = f" by {draft.model_id}" if draft.has_masks and draft.model_id else ""
                if layer.name.startswith(NAMES["proposal"]):
                    layer.name = NAMES["proposal"] + maker
            self._draw_prompts(draft.objects)

    def show_stroke(self, line: list[FloatArray], closed: bool) -> None:
        """Show the box (``closed``) or scribble that is being drawn, XY; [] takes it away."""
        stroke: list[tuple[NDArray[Any], str, str]] = []
        if len(line) > 1 and closed:
            (x0, y0), (x1, y1) = line[0], line[-1]
            corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
            stroke = [(xy_to_rc(corners), "rectangle", "#ffffff")]
        elif len(line) > 1:
            stroke = [(xy_to_rc(np.array(line)), "path", "#ffffff")]
        with self._quiet():
            self._set_shapes([*prompt_lines(self._session.draft.objects), *stroke])

    def _draw_prompts(self, objects: tuple[DraftObject, ...]) -> None:
        coords = [item.prompts.point_coords for item in objects]
        signs = np.concatenate([np.zeros(0), *(item.prompts.point_labels for item in objects)])
        points = xy_to_rc(np.concatenate([np.zeros((0, 2)), *coords]))
        self._set_points(points, [POSITIVE if sign else NEGATIVE for sign in signs])
        self._set_shapes(prompt_lines(objects))

    def _set_points(self, points: FloatArray, colors: list[str]) -> None:
        layer = self.find("points")
        if layer is None and not len(points):
            return
        if not isinstance(layer, Points):
            layer = Points(
                np.zeros((0, 2)), name=NAMES["points"], metadata={TAG: "points"}, ndim=2,
                size=self._mark_size(), border_color="white", border_width=0.15,
                **self._placement(),
            )
            self._viewer.add_layer(layer)
        layer.data = points
        if len(points):
            layer.face_color = colors
            layer.size = self._mark_size()
        layer.selected_data = set()

    def _set_shapes(self, lines: list[tuple[NDArray[Any], str, str]]) -> None:
        layer = self.find("shapes")
        if layer is None and not lines:
            return
        if not isinstance(layer, Shapes):
            layer = Shapes(
                None, name=NAMES["shapes"], metadata={TAG: "shapes"}, ndim=2, **self._placement()
            )
            self._viewer.add_layer(layer)
        layer.data = []
        for line, kind, color in lines:
            layer.add(
                line, shape_type=kind, edge_color=color, face_color="transparent",
                edge_width=max(1.0, self._mark_size() / 5),
            )
        layer.selected_data = set()

    def _mark_size(self) -> float:
        """Diameter of a point in pixels of the image: a hundredth of its longer side."""
        labels = self._session.labels
        return max(5.0, 0.014 * max(labels.shape)) if labels is not None else 8.0

    def toggle_overlays(self) -> None:
        """Show the bare image, or everything again."""
        overlays = [x for x in self._viewer.layers if x.metadata.get(TAG, "image") != "image"]
        shown = any(layer.visible for layer in overlays)
        for layer in overlays:
            layer.visible = not shown

    def close(self) -> None:
        """Listen no more; layers stay, for they are the person's work."""
        session = self._session
        session.image_loaded.disconnect(self._on_image)
        session.labels_changed.disconnect(self._on_labels)
        session.draft_changed.disconnect(self._on_draft)
        session.classes_changed.disconnect(self._on_classes)
        session.flushing.disconnect(self.pull)


def draw(objects: tuple[DraftObject, ...], size_hw: tuple[int, ...]) -> NDArray[Any]:
    """Class ids of what is proposed, (H, W); the active object lies on top."""
    top = max((item.class_id for item in objects), default=0)
    canvas = np.zeros(size_hw, np.uint16 if top > 255 else np.uint8)
    for item in objects:
        if item.proposal is not None:
            canvas[item.proposal.mask] = item.class_id
    return canvas


def prompt_lines(objects: tuple[DraftObject, ...]) -> list[tuple[NDArray[Any], str, str]]:
    """Boxes and scribbles of all objects as (vertices (row, column), kind, colour)."""
    lines: list[tuple[NDArray[Any], str, str]] = []
    for item in objects:
        if item.prompts.box is not None and not item.prompts.is_empty:
            x0, y0, x1, y1 = item.prompts.box
            corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
            lines.append((xy_to_rc(corners), "rectangle", "#ffffff"))
        for line, sign in item.prompts.scribbles:
            lines.append((xy_to_rc(line), "path", POSITIVE if sign else NEGATIVE))
    return lines
