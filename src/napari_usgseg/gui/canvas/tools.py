"""Points, boxes, lines, lassos and traces with the mouse on the canvas."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from napari.layers import Labels, Layer
from napari.viewer import Viewer
from psygnal import Signal

from ...annotation.session import AnnotationSession
from ...core.types import FloatArray
from .bridge import LayerBridge
from .layers import BRUSH_SIZE, TAG, step_of
from .tracing import Tracing


class ActivityTracker:
    """Tells the session's stopwatch of every movement, drag and turn of the wheel on the canvas."""

    def __init__(self, viewer: Viewer, session: AnnotationSession) -> None:
        self._session = session
        self._bound = (
            (viewer.mouse_move_callbacks, self._moved),
            (viewer.mouse_wheel_callbacks, self._moved),
            (viewer.mouse_drag_callbacks, self._dragged),
        )
        for callbacks, does in self._bound:
            callbacks.append(does)

    def close(self) -> None:
        """Leave the mouse to napari; a second time does nothing."""
        for callbacks, does in self._bound:
            if does in callbacks:
                callbacks.remove(does)

    def _moved(self, viewer: Viewer, event: Any) -> None:
        self._session.effort.touch()

    def _dragged(self, viewer: Viewer, event: Any) -> Iterator[None]:
        self._session.effort.touch()
        yield
        while event.type == "mouse_move":
            self._session.effort.touch()
            yield


CLICK_DISTANCE = 4
"""Screen pixels that a mouse may move between press and release of a click."""
ANOTHER_FRAME = (
    "This is not the frame whose labels are open. Go back to it with the slider, or choose "
    "Open... > Use image layer to label this one."
)


class Tool(StrEnum):
    """Tool of the mouse on the canvas."""

    NONE = "none"
    POINT = "point"
    BOX = "box"
    SCRIBBLE = "scribble"
    LASSO = "lasso"
    TRACE = "trace"
    MERGE = "merge"
    SUBTRACT = "cut out"
    SPLIT = "split"
    CALIPER = "caliper"


class Gesture(NamedTuple):
    """Gesture as it was begun; what changes before the mouse goes up changes nothing of it.

    Attributes:
        tool: that was armed.
        on_labels: it edits the accepted labels.
        as_drawn: what it draws is taken as it is.
        positive: it says "this is the object", or adds.
        held: names of the keys that were held ("Shift", "Control", "Alt").
        width: of a stroke, in pixels of the image.
    """

    tool: Tool
    on_labels: bool
    as_drawn: bool
    positive: bool
    held: tuple[Any, ...]
    width: float


class CanvasTools:
    """The armed tool, its sign and what it works on, and the mouse callback that serves them.

    With the point tool a drag still pans; the others draw. While a layer is in one of napari's own
    drawing modes (painting, adding shapes), the mouse belongs to that layer.

    Attributes:
        tool: the armed one.
        positive: prompts say "this is the object", edits add; else the contrary. Shift while the
            mouse goes down turns it round.
        on_labels: the tool edits the accepted labels; else it makes prompts, or acts on proposals.
        as_drawn: what scribble and lasso draw is taken as it is; else a model makes masks of it.
            The accepted labels are always edited as drawn, and so is a trace.

    ``measured`` carries the ends, XY, of a line that the caliper drew.
    """

    changed = Signal()
    measured = Signal(tuple, tuple)

    def __init__(self, viewer: Viewer, session: AnnotationSession, bridge: LayerBridge) -> None:
        self._viewer = viewer
        self._session = session
        self._bridge = bridge
        self.tool = Tool.POINT
        self.positive = True
        self.on_labels = False
        self.as_drawn = False
        self.tracing = Tracing(viewer, session, bridge, self.set_width)
        viewer.mouse_drag_callbacks.append(self._on_drag)
        self._active: Layer | None = None
        viewer.layers.selection.events.active.connect(self._on_active)
        self._brush: Layer | None = None
        bridge.layers.made.connect(self._on_made)
        labels = bridge.layers.find("labels")
        if labels is not None:  # of a dock that was closed
            self._on_made("labels", labels)
        self._on_active()
        self._activity = ActivityTracker(viewer, session)

    @property
    def paints(self) -> bool:
        """True while the mouse paints on the accepted labels with one of napari's own brushes."""
        return self.layer_draws and self._active is self._bridge.find("labels")

    @property
    def layer_draws(self) -> bool:
        """True while the mouse belongs to the selected layer and not to a tool."""
        active = self._viewer.layers.selection.active
        return active is not None and str(active.mode) not in ("pan_zoom", "none")

    def arm(self, tool: Tool) -> None:
        """Take a tool; layers go back from painting to looking, and a trace is given up."""
        self.tool = tool
        self.tracing.arm(tool is Tool.TRACE)
        if tool is not Tool.NONE:
            self._disarm_layers()
        self.changed.emit()

    def set_positive(self, positive: bool) -> None:
        """Prompts say "this is the object" (True) or "this is not" (False)."""
        self.positive = positive
        self.changed.emit()

    def set_on_labels(self, on_labels: bool) -> None:
        """Edit the accepted labels (True), or make prompts (False)."""
        self.on_labels = on_labels
        self.changed.emit()

    def set_as_drawn(self, as_drawn: bool) -> None:
        """Take what scribble and lasso draw as it is (True), or have a model make masks of it."""
        self.as_drawn = as_drawn
        self.changed.emit()

    @property
    def width(self) -> float:
        """Width of a stroke taken as it is drawn, in pixels of the image: of napari's brush."""
        layer = self._bridge.find("labels")
        return float(getattr(layer, "brush_size", BRUSH_SIZE)) * step_of(layer)

    def set_width(self, width: float) -> None:
        """Draw strokes, and paint, so many pixels of the image wide."""
        layer = self._bridge.find("labels")
        if isinstance(layer, Labels):
            layer.brush_size = max(width / step_of(layer), 1)

    @property
    def is_wide(self) -> bool:
        """True where the armed tool draws a stroke of that width."""
        drawn = self.tool is Tool.SCRIBBLE and (self.on_labels or self.as_drawn)
        return drawn or self.tool is Tool.TRACE

    def paint_by_hand(self) -> None:
        """Put the labels layer in napari's paint mode, or back."""
        layer = self._bridge.find("labels")
        if layer is not None:
            paints = self.paints
            self._viewer.layers.selection.active = layer
            layer.mode = "pan_zoom" if paints else "paint"
            self.tool = Tool.POINT if paints else Tool.NONE
        self.changed.emit()

    def _disarm_layers(self) -> None:
        for layer in self._viewer.layers:
            if TAG in layer.metadata and str(layer.mode) != "pan_zoom":
                layer.mode = "pan_zoom"
        image = self._bridge.find("image")
        active = self._viewer.layers.selection.active
        if active is not None and str(active.mode) != "pan_zoom" and image is not None:
            self._viewer.layers.selection.active = image

    def _on_active(self, _: Any = None) -> None:
        """Hear of it when the selected layer begins or ends to draw."""
        if self._active is not None:
            self._active.events.mode.disconnect(self._on_mode)
        self._active = self._viewer.layers.selection.active
        if self._active is not None:
            self._active.events.mode.connect(self._on_mode)
        self.changed.emit()

    def _on_made(self, role: str, layer: Layer) -> None:
        """Hear of it when napari's own slider changes the width of the brush."""
        if role == "labels":
            self._brush = layer
            layer.events.brush_size.connect(self._on_mode)
            self.changed.emit()

    def _on_mode(self, _: Any = None) -> None:
        self.changed.emit()

    def _on_drag(self, viewer: Viewer, event: Any) -> Iterator[None]:
        if self.tool is Tool.NONE or event.button != 1 or self._session.labels is None:
            return
        if self.layer_draws or viewer.dims.ndisplay != 2:
            return
        if self._session.loops.peeks:
            self._session.loops.land()
            return
        if self._bridge.adopted.is_away:
            self._session.say(ANOTHER_FRAME, "warning")
            return
        held = tuple(event.modifiers)  # of vispy's, which are equal to their names
        began = Gesture(
            self.tool,
            self.on_labels,
            self.as_drawn,
            self.positive != ("Shift" in held),
            held,
            self.width,
        )
        if self.tool in (Tool.POINT, Tool.TRACE):
            yield from self._click(event, began)
        else:
            yield from self._stroke(event, began, self.width if self.is_wide else 0.0)

    def _click(self, event: Any, began: Gesture) -> Iterator[None]:
        start, position, image = np.asarray(event.pos), event.position, self._session.record
        far = False
        yield
        while event.type == "mouse_move":
            # Once the mouse has been far it is a drag (napari pans), even if it comes back.
            far = far or float(np.abs(np.asarray(event.pos) - start).max()) > CLICK_DISTANCE
            yield
        # A key may have opened another image while the button was down.
        if not far and self._session.record is image:
            x, y = (float(value) for value in self._bridge.to_xy(position))
            if began.tool is Tool.TRACE:
                self._pin(x, y, began)
            else:
                self._point(x, y, began)

    def _point(self, x: float, y: float, began: Gesture) -> None:
        """What a click at XY with the point tool does."""
        session, held = self._session, began.held
        match began.on_labels, "Control" in held, began.positive:
            case False, True, _:
                session.prompting.drop_object(x, y)
            case False, False, _ if "Alt" in held:
                session.prompting.pick_object_at(x, y)
            case False, False, positive:
                session.prompting.add_point(x, y, positive)
            case True, True, _:
                session.objects.lift(x, y)
            case True, False, True:
                session.painting.pick(x, y)
            case _:
                session.objects.delete(x, y)

    def _pin(self, x: float, y: float, began: Gesture) -> None:
        """A click at XY with the trace tool: the newest one says what is to come of the trace."""
        session = self._session
        draw = session.painting.trace if began.on_labels else session.prompting.draw_trace
        ended = partial(draw, positive=began.positive)
        self.tracing.pin(x, y, began.width, "Alt" in began.held, ended)

    def _stroke(self, event: Any, began: Gesture, shown_width: float) -> Iterator[None]:
        event.handled = True
        line, image = [self._bridge.to_xy(event.position)], self._session.record
        shape = {Tool.BOX: "rectangle", Tool.LASSO: "polygon"}.get(began.tool, "path")
        yield
        while event.type == "mouse_move":
            event.handled = True
            line.append(self._bridge.to_xy(event.position))
            straight = began.tool is Tool.CALIPER
            self._bridge.show_stroke(
                line[:: len(line) - 1] if straight else line, shape, shown_width
            )
            yield
        self._bridge.show_stroke((), shape)
        event.handled = True
        if self._session.record is not image:  # a key has opened another one meanwhile
            return
        self._drawn(np.array(line, np.float32), began)

    def _drawn(self, line: FloatArray, began: Gesture) -> None:
        """What a line XY that was drawn does."""
        session, accepted, positive = self._session, began.on_labels, began.positive
        a, b = ((float(x), float(y)) for x, y in (line[0], line[-1]))
        shift = "Shift" in began.held
        match began.tool:
            case Tool.BOX if accepted:
                session.painting.box(a, b, positive)
            case Tool.BOX:
                session.prompting.add_box(a, b, anew=shift)
            case Tool.SCRIBBLE if accepted:
                session.painting.stroke(line, began.width, positive)
            case Tool.SCRIBBLE if began.as_drawn:
                session.prompting.draw_stroke(line, began.width, positive)
            case Tool.SCRIBBLE:
                session.prompting.add_scribble(line, positive)
            case Tool.LASSO if accepted:
                session.painting.lasso(line, positive)
            case Tool.LASSO if began.as_drawn:
                session.prompting.draw_lasso(line, positive)
            case Tool.LASSO:
                session.prompting.add_lasso(line, positive)
            case Tool.CALIPER:
                self.measured.emit(a, b)
            case Tool.MERGE:
                session.objects.merge(line, accepted)
            case Tool.SUBTRACT:
                session.objects.subtract(line, accepted, keep=shift)
            case Tool.SPLIT:
                still = float(np.abs(line - line[0]).max()) < 1
                session.objects.split(line[:1] if still else line, accepted)

    def close(self) -> None:
        """Leave the mouse to napari."""
        self._activity.close()
        self.tracing.close()
        self._viewer.layers.selection.events.active.disconnect(self._on_active)
        self._bridge.layers.made.disconnect(self._on_made)
        if self._brush is not None:
            self._brush.events.brush_size.disconnect(self._on_mode)
        if self._active is not None:
            self._active.events.mode.disconnect(self._on_mode)
            self._active = None
        if self._on_drag in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self._on_drag)
