"""Tracing with the mouse: a line that follows a ridge from click to click, and to the mouse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari.utils.key_bindings import coerce_keybinding
from napari.viewer import Viewer

from ...annotation.session import AnnotationSession
from ...core.types import FloatArray
from ...segmentation.trace import Trace
from .bridge import LayerBridge

NO_LINE = "Click at one end of the line, then along it; Enter or a double click ends it."


class Tracing:
    """The trace under a person's hand: pinned by clicks, shown up to the mouse, ended by a key.

    Enter ends it at the mouse, as it is shown, a double click where it is. Backspace takes the
    newest point back, Up and Down make it wider and narrower, Escape gives it up. The keys and the
    double click are ours for as long as a trace is drawn, and then napari's again.

    Args:
        viewer: the napari viewer.
        session: whose image is traced.
        bridge: shows what is drawn.
        set_width: has strokes be so many pixels wide from now on.
    """

    def __init__(
        self,
        viewer: Viewer,
        session: AnnotationSession,
        bridge: LayerBridge,
        set_width: Callable[[float], None],
    ) -> None:
        self._viewer = viewer
        self._session = session
        self._bridge = bridge
        self._set_width = set_width
        self._trace: Trace | None = None
        self._ended: Callable[[FloatArray, float], object] | None = None
        self._mouse: tuple[float, float] | None = None
        self._armed = False
        self._width_of: tuple[object, int] | None = None
        """Project and class whose median width strokes were given; the person's own goes on."""
        self._keys: dict[str, Callable[[Viewer], object]] = {
            "Enter": self._on_enter,
            "Escape": self.drop,
            "Backspace": self._on_backspace,
            "Up": self._on_up,
            "Down": self._on_down,
        }
        self._bound: list[str] = []
        self._others: list[Any] = []
        """Whoever else hears of a double click: napari's own zooms in."""
        viewer.mouse_move_callbacks.append(self._on_move)
        session.image_changed.connect(self.drop)
        session.image_loaded.connect(self._learn)
        session.classes_changed.connect(self._learn)
        session.band_habits.learned.connect(self._on_learned)

    def arm(self, armed: bool) -> None:
        """Take note that the tool is in hand, or is not: traces are to be like accepted bands."""
        self.drop()
        self._armed = armed
        self._learn()

    def _learn(self) -> None:
        if self._armed:
            self._session.band_habits.learn(self._session.table.active)

    def _on_learned(self, class_id: int) -> None:
        """Begin with the median width of a class, once, where no trace is under the hand."""
        session, about = self._session, (self._session.store, class_id)
        if not self._armed or self._trace is not None or class_id != session.table.active:
            return
        habit = session.band_habits.of(class_id)
        if habit is not None and self._width_of != about:
            self._width_of = about
            self._set_width(round(habit.width))

    def pin(
        self,
        x: float,
        y: float,
        width: float,
        dark: bool,
        ended: Callable[[FloatArray, float], object],
    ) -> None:
        """Have the trace go through a point, or begin there.

        Args:
            x: of the pixel.
            y: of the pixel.
            width: of the band, where this is its first point.
            dark: the line is darker than what is around it, where this is its first point.
            ended: takes the line (M, 2) XY and its width once it is ended.
        """
        loaded = self._session.loaded
        if loaded is None:
            return
        if self._trace is None:
            habits = self._session.band_habits
            habit = None if dark else habits.of(self._session.table.active)
            self._trace = Trace(loaded.pixels, width, dark, habit)
            self._take_over()
        self._ended = ended
        self._trace.pin(x, y)
        self._mouse = None
        self._show()

    def drop(self, _: Any = None) -> None:
        """Give up the trace that is drawn, if there is one."""
        if self._trace is not None:
            self._trace = self._ended = self._mouse = None
            self._give_back()
            self._bridge.show_stroke((), "path")

    def close(self) -> None:
        """Leave the mouse and the keys to napari."""
        self.drop()
        session = self._session
        session.image_changed.disconnect(self.drop, missing_ok=True)
        session.image_loaded.disconnect(self._learn, missing_ok=True)
        session.classes_changed.disconnect(self._learn, missing_ok=True)
        session.band_habits.learned.disconnect(self._on_learned, missing_ok=True)
        if self._on_move in self._viewer.mouse_move_callbacks:  # else it is closed already
            self._viewer.mouse_move_callbacks.remove(self._on_move)

    def _end(self, to: tuple[float, float] | None) -> None:
        trace, ended = self._trace, self._ended
        if trace is None or ended is None:
            return
        line = trace.line(to)
        self.drop()
        if len(line) < 2:
            self._session.say(NO_LINE, "warning")
        else:
            ended(line, trace.width)

    def _show(self) -> None:
        if self._trace is not None:
            line = self._trace.line(self._mouse)
            self._bridge.show_stroke(list(line), "path", self._trace.width)

    def _on_move(self, viewer: Viewer, event: Any) -> None:
        if self._trace is not None:
            x, y = (float(value) for value in self._bridge.to_xy(event.position))
            self._mouse = x, y
            self._show()

    def _on_double_click(self, viewer: Viewer, event: Any) -> None:
        self._end(None)

    def _on_enter(self, _: Viewer) -> None:
        self._end(self._mouse)

    def _on_backspace(self, _: Viewer) -> None:
        if self._trace is not None:
            self._trace.unpin()
            if self._trace.points:
                self._show()
            else:
                self.drop()

    def _on_up(self, _: Viewer) -> None:
        self._widen(1)

    def _on_down(self, _: Viewer) -> None:
        self._widen(-1)

    def _widen(self, step: int) -> None:
        if self._trace is not None:
            self._trace.width = max(1.0, self._trace.width + step)
            self._set_width(self._trace.width)
            self._show()

    def _take_over(self) -> None:
        """Take the double click, and the keys save those that somebody has bound in this viewer."""
        heard = self._viewer.mouse_double_click_callbacks
        self._others, heard[:] = list(heard), [self._on_double_click]
        taken = {str(coerce_keybinding(key)) for key in self._viewer.keymap}
        self._bound = [key for key in self._keys if str(coerce_keybinding(key)) not in taken]
        for key in self._bound:
            self._viewer.bind_key(key, self._keys[key])

    def _give_back(self) -> None:
        self._viewer.mouse_double_click_callbacks[:] = self._others
        for key in self._bound:
            self._viewer.bind_key(key, None)
        self._bound = []
