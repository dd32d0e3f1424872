"""One table of shortcuts, bound to the viewer on keys that napari leaves free on every layer.

Tab would be free too, but Qt takes it for going from control to control before napari sees it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from napari.viewer import Viewer
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QLineEdit,
    QPlainTextEdit,
    QTextEdit,
)

from .tools import Tool

if TYPE_CHECKING:
    from .widget import UltrasoundWidget


@dataclass(frozen=True, slots=True)
class Shortcut:
    """A key as napari writes it, the name of what it does, and the thing itself."""

    key: str
    name: str
    does: Callable[[UltrasoundWidget], object]


def _toggle_sign(widget: UltrasoundWidget) -> None:
    widget.tools.set_positive(not widget.tools.positive)


SHORTCUTS: tuple[Shortcut, ...] = (
    Shortcut("G", "accept and next", lambda w: w.session.editing.accept_and_next()),
    Shortcut("Shift-G", "accept", lambda w: w.session.editing.accept()),
    Shortcut("Shift-H", "find", lambda w: w.find()),
    Shortcut(",", "previous", lambda w: w.session.walk.step(-1)),
    Shortcut(".", "next", lambda w: w.session.walk.step(1)),
    Shortcut("N", "next untouched", lambda w: w.session.walk.next_untouched()),
    Shortcut("Shift-N", "skip", lambda w: w.session.walk.skip()),
    Shortcut("Q", "point", lambda w: w.tools.arm(Tool.POINT)),
    Shortcut("W", "box", lambda w: w.tools.arm(Tool.BOX)),
    Shortcut("K", "scribble", lambda w: w.tools.arm(Tool.SCRIBBLE)),
    Shortcut("J", "paint by hand", lambda w: w.tools.paint_by_hand()),
    Shortcut("`", "positive or negative", _toggle_sign),
    Shortcut("U", "undo", lambda w: w.session.undo()),
    Shortcut("Shift-U", "redo", lambda w: w.session.redo()),
    Shortcut("Shift-K", "clear prompts", lambda w: w.session.prompting.clear_prompts()),
    Shortcut("Shift-Q", "new object", lambda w: w.session.prompting.new_object()),
    Shortcut("H", "show or hide overlays", lambda w: w.bridge.toggle_overlays()),
    *(
        Shortcut(f"Alt-{digit}", f"class {digit}", partial(lambda n, w: w.pick_nth_class(n), digit))
        for digit in range(1, 10)
    ),
)


def key_of(name: str) -> str:
    """How the key of an action is written in a tooltip: "Shift-G" as "Shift+G"."""
    key = next(shortcut.key for shortcut in SHORTCUTS if shortcut.name == name)
    return key.replace("-", "+")


def typing() -> bool:
    """True while the person types in a text field."""
    focused = QApplication.focusWidget()
    if isinstance(focused, QComboBox):
        return focused.isEditable()
    return isinstance(focused, QLineEdit | QTextEdit | QPlainTextEdit | QAbstractSpinBox)


def bind(viewer: Viewer, widget: UltrasoundWidget) -> None:
    """Bind all shortcuts to the viewer."""
    for shortcut in SHORTCUTS:
        viewer.bind_key(shortcut.key, _callback(shortcut, widget), overwrite=True)


def unbind(viewer: Viewer) -> None:
    """Give the keys back."""
    for shortcut in SHORTCUTS:
        viewer.bind_key(shortcut.key, None)


def _callback(shortcut: Shortcut, widget: UltrasoundWidget) -> Callable[[Viewer], None]:
    """What napari calls when the key is pressed; it wants a function with a name and a text."""

    def run(viewer: Viewer) -> None:
        if not typing():
            shortcut.does(widget)

    run.__name__ = run.__qualname__ = f"usgseg_{shortcut.name.replace(' ', '_')}"
    run.__doc__ = f"Ultrasound segmentation: {shortcut.name}."
    return run
