"""Point, box and scribble with the mouse on the canvas."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import numpy as np
from napari.viewer import Viewer
from psygnal import Signal

from ..session.annotator import AnnotationSession
from .layers import LayerBridge
from .tagged import TAG

CLICK_DISTANCE = 4
"""Screen pixels that a mouse may move between press and release of a click."""


class Tool(StrEnum):
    """What the mouse does on the canvas."""

    NONE = "none"
    POINT = "point"
    BOX = "box"
    SCRIBBLE = "scribble"


class CanvasTools:
    """The armed tool and its sign, and the mouse callback that serves them.

    With the point tool a drag still pans; the other two draw. While a layer is in one of napari's
    own drawing modes (painting, adding shapes), the mouse belongs to that layer.
    """

    changed = Signal()

    def __init__(self, viewer: Viewer, session: AnnotationSession, bridge: LayerBridge) -> None:
        self._viewer = viewer
        self._session = session
        self._bridge = bridge
        self.tool = Tool.POINT
        self.positive = True
        viewer.mouse_drag_callbacks.append(self._on_drag)

    def arm(self, tool: Tool) -> None:
        """Take a tool; layers go back from painting to looking."""
        self.tool = tool
        if tool is not Tool.NONE:
            self._disarm_layers()
        self.changed.emit()

    def set_positive(self, positive: bool) -> None:
        """Prompts say "this is the object" (True) or "this is not" (False)."""
        self.positive = positive
        self.changed.emit()

    def paint_by_hand(self) -> None:
        """Put the labels layer in napari's paint mode, or back."""
        layer = self._bridge.find("labels")
        if layer is None:
            return
        self._viewer.layers.selection.active = layer
        layer.mode = "pan_zoom" if layer.mode == "paint" else "paint"
        self.tool = Tool.NONE if layer.mode == "paint" else Tool.POINT
        self.changed.emit()

    def _disarm_layers(self) -> None:
        for layer in self._viewer.layers:
            if TAG in layer.metadata and str(layer.mode) != "pan_zoom":
                layer.mode = "pan_zoom"
        image = self._bridge.find("image")
        active = self._viewer.layers.selection.active
        if active is not None and str(active.mode) != "pan_zoom" and image is not None:
            self._viewer.layers.selection.active = image

    def _layer_draws(self) -> bool:
        active = self._viewer.layers.selection.active
        return active is not None and str(active.mode) not in ("pan_zoom", "none")

    def _on_drag(self, viewer: Viewer, event: Any) -> Iterator[None]:
        if self.tool is Tool.NONE or event.button != 1 or self._session.labels is None:
            return
        if self._layer_draws() or viewer.dims.ndisplay != 2:
            return
        positive = self.positive != ("Shift" in event.modifiers)
        if self.tool is Tool.POINT:
            yield from self._click(event, positive)
        else:
            yield from self._stroke(event, positive)

    def _click(self, event: Any, positive: bool) -> Iterator[None]:
        start, position = np.asarray(event.pos), event.position
        far = False
        yield
        while event.type == "mouse_move":
            far = far or float(np.abs(np.asarray(event.pos) - start).max()) > CLICK_DISTANCE
            yield
        if not far:
            x, y = self._bridge.to_xy(position)
            if "Control" in event.modifiers:
                self._session.prompting.drop_object(float(x), float(y))
            else:
                self._session.prompting.add_point(float(x), float(y), positive)

    def _stroke(self, event: Any, positive: bool) -> Iterator[None]:
        event.handled = True
        line = [self._bridge.to_xy(event.position)]
        yield
        while event.type == "mouse_move":
            event.handled = True
            line.append(self._bridge.to_xy(event.position))
            self._bridge.show_stroke(line, closed=self.tool is Tool.BOX)
            yield
        self._bridge.show_stroke((), closed=False)
        event.handled = True
        if self.tool is Tool.BOX:
            a, b = line[0], line[-1]
            self._session.prompting.add_box((float(a[0]), float(a[1])), (float(b[0]), float(b[1])))
        elif len(line) > 1:
            self._session.prompting.add_scribble(np.array(line, np.float32), positive)

    def close(self) -> None:
        """Leave the mouse to napari."""
        if self._on_drag in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self._on_drag)
