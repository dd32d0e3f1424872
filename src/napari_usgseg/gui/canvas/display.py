"""Display of images and labels: bare, as contours, lighter, darker, despeckled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from napari.layers import Image, Labels, Layer
from napari.viewer import Viewer

from ...annotation.session import AnnotationSession
from ...annotation.settings import View
from .bridge import LayerBridge
from .drawing import screen_width, window
from .layers import TAG

CONTOUR_PIXELS = 3_000_000
"""napari looks for contours in the whole map at each change; larger maps stay filled."""


class Display:
    """Dresses our layers as the settings' view says, and undresses the image for a look.

    Another frame of a stack than the one that is labelled is always shown alone.

    Args:
        viewer: the napari viewer.
        session: whose settings say how.
        bridge: knows the layers.
    """

    def __init__(self, viewer: Viewer, session: AnnotationSession, bridge: LayerBridge) -> None:
        self._viewer = viewer
        self._session = session
        self._bridge = bridge
        self._hidden: list[Layer] | None = None
        self._gone = False
        self._passed = False
        self._view: View | None = None
        bridge.layers.made.connect(self._on_made)
        session.settings_changed.connect(self._on_settings)
        session.image_loaded.connect(self._on_image)
        session.opened.connect(self.dress)
        session.status_changed.connect(self._on_status)
        session.loops.peeked_at.connect(self._on_peek)
        bridge.zoomed.connect(self._on_zoom)
        viewer.dims.events.current_step.connect(self._on_frame)

    # -- what the person does ------------------------------------------------------------------

    def set_view(self, view: View) -> None:
        """Look at images another way."""
        self._session.set_settings(replace(self._session.settings, view=view))

    def toggle_contours(self) -> None:
        """Accepted labels as contours, or filled."""
        view = self._session.settings.view
        self.set_view(replace(view, contours=not view.contours))

    def toggle_despeckling(self) -> None:
        """The despeckled picture, or the image as it is."""
        view = self._session.settings.view
        self.set_view(replace(view, despeckling="lee" if view.despeckling == "off" else "off"))

    def bare(self, *but: str) -> None:
        """Hide all that lies over the image, but the layers of some roles, until ``dress``."""
        if self._hidden is None:
            kept = ("image", *but)
            overlays = [x for x in self._bridge.layers.ours() if x.metadata[TAG] not in kept]
            self._hidden = [layer for layer in overlays if layer.visible]
            for layer in self._hidden:
                layer.visible = False

    def dress(self) -> None:
        """Show again what ``bare`` has hidden, on the frame and the image that it belongs to."""
        if self._bridge.adopted.is_away or self._gone or self._session.loops.peeks:
            return
        hidden, self._hidden = self._hidden or [], None
        for layer in hidden:
            if TAG in layer.metadata:
                layer.visible = True

    @property
    def is_bare(self) -> bool:
        """True while the image is shown alone."""
        return self._hidden is not None

    def _on_frame(self, _: Any = None) -> None:
        if self._bridge.adopted.is_away:
            self.bare()
        elif self.is_bare:
            self.dress()

    def _on_peek(self) -> None:
        """A frame in passing is shown with its contours only; labels are those of another one."""
        if self._session.loops.peeked is not None:
            self.bare("proposal")
            self._passed = True
        elif self._passed and self._session.labels is not None:  # else once it is read
            self._passed = False
            self.dress()

    # -- what it does to layers ----------------------------------------------------------------

    def _on_settings(self) -> None:
        before, view = self._view, self._session.settings.view
        if view != before:
            self._view = view
            for layer in self._bridge.layers.ours():
                self._style(layer.metadata[TAG], layer, before)
            self._bridge.draw_image()
            self._bridge.draw_proposal()

    def _on_status(self, _: Any = None) -> None:
        """Where an image cannot be read, that of before is not shown under its name."""
        session = self._session
        if session.record is not None and session.loaded is None and session.failed == "load":
            self.bare()
            image = self._bridge.layers.find("image")
            if self._hidden is not None and image is not None and image.visible:
                image.visible = False
                self._hidden.append(image)
            self._gone = True

    def _on_image(self) -> None:
        if self._gone or self._passed:
            self._gone = self._passed = False
            self.dress()
        layer = self._bridge.layers.find("labels")
        if isinstance(layer, Labels):
            self._contour(layer)

    def _on_zoom(self) -> None:
        layer = self._bridge.layers.find("labels")
        if isinstance(layer, Labels):
            self._contour(layer)

    def _on_made(self, role: str, layer: Layer) -> None:
        self._style(role, layer, None)

    def _style(self, role: str, layer: Layer, before: View | None) -> None:
        """What is the same as ``before`` is left as the person may have set it in napari."""
        view = self._session.settings.view
        if role == "image" and isinstance(layer, Image) and not layer.rgb:
            if before is None or window(view) != window(before):
                layer.contrast_limits = window(view)
        elif role == "labels" and isinstance(layer, Labels):
            if before is None or view.opacity != before.opacity:
                layer.opacity = view.opacity
            self._contour(layer)

    def _contour(self, layer: Labels) -> None:
        labels, step = self._session.labels, self._bridge.label_step
        small = labels is None or labels.size // step**2 <= CONTOUR_PIXELS
        contours = self._session.settings.view.contours and small
        width = screen_width(self._bridge.zoom * step) if contours else 0
        if layer.contour != width:
            layer.contour = width

    def close(self) -> None:
        """Show everything and listen no more."""
        self._bridge.adopted.take(None)
        self.dress()
        self._viewer.dims.events.current_step.disconnect(self._on_frame)
        listeners: list[tuple[Any, Callable[..., None]]] = [
            (self._bridge.layers.made, self._on_made),
            (self._session.settings_changed, self._on_settings),
            (self._session.image_loaded, self._on_image),
            (self._session.opened, self.dress),
            (self._session.status_changed, self._on_status),
            (self._session.loops.peeked_at, self._on_peek),
            (self._bridge.zoomed, self._on_zoom),
        ]
        for signal, listener in listeners:
            signal.disconnect(listener)
