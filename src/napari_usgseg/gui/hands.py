"""What the hands do on the canvas counts as work, not only what ends in an edit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from napari.viewer import Viewer

from ..session.annotator import AnnotationSession


class Hands:
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
