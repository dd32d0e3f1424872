"""The napari window that the tests of one process share: as good as new before each of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

SIZE = (1300, 860)
DOCK_WIDTH = 330
"""Of a dock that nothing has made wider."""
UNLIKE = {"colormap", "features", "feature_defaults", "metadata", "properties", "text"}
"""What of a layer's state follows its data, and is set anew with each image."""


class Window:
    """One napari window for many tests, for building it takes longer than most of them.

    Docks are taken away and layers emptied between two tests. Layers of ours stay where nothing but
    their data was changed, as they do for a dock that is opened again. A window that had another
    font, or a dock that became wider, is given up: controls and dock keep the room that they took,
    and the canvas of the next tests would be narrower.
    """

    def __init__(self) -> None:
        self._viewer: Any = None
        self._is_narrower = False
        self._new: dict[str, dict[str, Any]] = {}

    def viewer(self) -> Any:
        """The window's viewer, without docks of ours and with nothing in it."""
        from napari import Viewer
        from napari.settings import get_settings

        if self._viewer is None:
            get_settings().appearance.events.font_size.connect(self._on_font)
            self._viewer = Viewer(show=True, show_welcome_screen=False)
            self._viewer.window._qt_window._save_current_window_settings = lambda: None
        self._viewer.window._qt_window.resize(*SIZE)
        return self._viewer

    def tidy(self) -> None:
        """Take away what a test left; gives up the window where that fails."""
        from qtpy.QtCore import QCoreApplication, QEvent
        from qtpy.QtWidgets import QApplication

        if self._viewer is None:
            return
        if self._is_narrower:
            self.give_up()
            return
        try:
            self.undock()
            self._empty()
            QApplication.processEvents()
            QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        except Exception:
            self.give_up()
            raise

    def give_up(self) -> None:
        """Close the window; the next test gets a new one."""
        viewer, self._viewer, self._is_narrower = self._viewer, None, False
        if viewer is not None:
            with suppress(RuntimeError, AttributeError):  # the test closed it
                viewer.close()

    def undock(self) -> None:
        """Close the docks of ours, and what napari has shown over the canvas."""
        if self._viewer is None:
            return
        from napari._qt.dialogs.qt_notification import NapariQtNotification

        from napari_usgseg.gui.widget import UltrasoundWidget

        window = self._viewer.window
        for widget in window._qt_window.findChildren(UltrasoundWidget):
            self._is_narrower = self._is_narrower or widget.width() > DOCK_WIDTH
            widget.shut_down()
            window.remove_dock_widget(widget)
            widget.deleteLater()
        for toast in window._qt_window.findChildren(NapariQtNotification):
            toast.close()

    def _on_font(self) -> None:
        self._is_narrower = True

    def _empty(self) -> None:
        viewer = self._viewer
        new = self._new = self._new or _new_layers()
        for layer in list(viewer.layers):
            role = layer.metadata.get("napari-usgseg")
            if role not in new or not _emptied(layer, role) or _state(layer) != new[role]:
                viewer.layers.remove(layer)
        viewer.layers.selection.active = next(iter(viewer.layers), None)
        viewer.tooltip.visible = False
        viewer.title = "napari"


def _new_layers() -> dict[str, dict[str, Any]]:
    """Role -> state of a layer of ours that was just made."""
    from napari.components import ViewerModel

    from napari_usgseg.gui.canvas.layers import AdoptedImage, TaggedLayers

    model: Any = ViewerModel()
    made = TaggedLayers(model, AdoptedImage(model))
    made.image(False, [np.zeros((1, 1), np.uint8)])
    for role in ("labels", "proposal"):
        made.labels(role, (1, 1))
    made.names(), made.shapes(), made.points()
    return {layer.metadata["napari-usgseg"]: _state(layer) for layer in model.layers}


def _emptied(layer: Any, role: str) -> bool:
    """True for a layer that has no data any more, False for one that cannot be without."""
    from napari.layers import Image, Labels, Points, Shapes

    from napari_usgseg.gui.canvas.layers import NAMES

    layer.mode = "pan_zoom"
    layer.name = NAMES[role]
    for name, value in (("scale", 1), ("translate", 0)):
        if not np.all(getattr(layer, name) == value):  # each change draws anew
            setattr(layer, name, (value, value))
    if isinstance(layer, Image):
        if layer.rgb or layer.multiscale:
            return False
        layer.data = np.zeros((1, 1), np.uint8)
        layer.contrast_limits = layer.contrast_limits_range
    elif isinstance(layer, Labels):
        layer.selected_label = 1
        layer.data = np.zeros((1, 1), np.uint8)
        layer._reset_history()
    elif isinstance(layer, Points):
        layer.data = np.zeros((0, 2))
    elif isinstance(layer, Shapes):
        layer.data = []
    return True


def _state(layer: Any) -> dict[str, Any]:
    """What a person can change of an empty layer, in a form that can be compared."""
    state = layer.as_layer_data_tuple()[1]
    return {name: str(value) for name, value in state.items() if name not in UNLIKE}


@pytest.fixture(scope="session")
def window(qapp: Any) -> Iterator[Window]:
    """The window of this process, as napari's own fixture has one: no console, no status thread."""
    from napari._qt import qt_main_window
    from napari._qt.qt_viewer import QtViewer
    from napari._qt.threads.status_checker import StatusChecker
    from napari.settings import get_settings
    from qtpy.QtWidgets import QWidget

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(qt_main_window, "SHOW_QT_WARNING", False)
        patch.setattr(StatusChecker, "start", lambda *_: None)
        patch.setattr(QtViewer, "_get_console", lambda *_: QWidget())
        get_settings().reset()
        shared = Window()
        yield shared
        shared.give_up()


@pytest.fixture
def viewer(window: Window, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The viewer of the shared window, with nothing in it."""
    yield window.viewer()
    if request.node.rep_call.failed:
        window.give_up()
    else:
        window.tidy()
