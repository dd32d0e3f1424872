"""Commands of napari: every action of the key table, for napari's command palette.

The manifest names ``napari_usgseg.gui.commands:accept_and_next`` and so on: functions that are made
of the table (``keys.SHORTCUTS``) as they are asked for. They act on the dock of the current viewer,
which is opened where it is not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari import current_viewer
from napari.utils import notifications

from .keys import SHORTCUTS, Shortcut

PLUGIN, DOCK = "napari-usgseg", "Ultrasound segmentation"
ACTIONS = {shortcut.setting: shortcut for shortcut in SHORTCUTS if shortcut.ends is None}
"""All but what lasts as long as a key is held."""


def __getattr__(name: str) -> Callable[[], None]:
    """The command of an action, by its name in the preferences."""
    if name not in ACTIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return command_of(ACTIONS[name])


def command_of(shortcut: Shortcut) -> Callable[[], None]:
    """A function that does what the key does."""

    def run() -> None:
        dock = find_dock()
        if dock is None:
            notifications.show_warning("Open a napari window first.")
        else:
            with dock.without_mouse():  # it is over the palette, not over an object
                shortcut.does(dock)

    run.__name__ = run.__qualname__ = shortcut.setting
    run.__doc__ = shortcut.help
    return run


def find_dock() -> Any:
    """The dock of the current viewer, opened where it is not; None without a viewer."""
    from .widget import UltrasoundWidget

    viewer = current_viewer()
    if viewer is None:
        return None
    docks = viewer.window._qt_window.findChildren(UltrasoundWidget)
    at_work = [dock for dock in docks if not dock.is_closed]
    if at_work:
        return at_work[-1]
    _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, DOCK)
    return dock
