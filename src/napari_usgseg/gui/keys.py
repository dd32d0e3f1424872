"""The table of shortcuts, bound to the viewer on keys that napari leaves free on every layer.

A person sets others under Preferences > Ultrasound segmentation (``preferences``). Tab would be
free too, but Qt takes it for going from control to control before napari sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from app_model.types import KeyBinding
from napari.utils import notifications
from napari.viewer import Viewer
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QLineEdit,
    QPlainTextEdit,
    QTextEdit,
    QWidget,
)

from . import preferences
from .canvas.tools import Tool

if TYPE_CHECKING:
    from .widget import UltrasoundWidget


@dataclass(frozen=True, slots=True)
class Shortcut:
    """A key as napari writes it, the name of what it does, and the thing itself.

    Attributes:
        key: that it has unless the person chose another.
        name: as in the README, the tooltips and the preferences.
        does: when the key goes down.
        ends: when it comes up again, for what lasts as long as the key is held.
    """

    key: str
    name: str
    does: Callable[[UltrasoundWidget], object]
    ends: Callable[[UltrasoundWidget], object] | None = None

    @property
    def setting(self) -> str:
        """Its name in the preferences."""
        return self.name.replace(" ", "_")


def _toggle_sign(widget: UltrasoundWidget) -> None:
    widget.tools.set_positive(not widget.tools.positive)


def _toggle_on_labels(widget: UltrasoundWidget) -> None:
    widget.tools.set_on_labels(not widget.tools.on_labels)


SHORTCUTS: tuple[Shortcut, ...] = (
    Shortcut("G", "accept and next", lambda w: w.session.editing.accept_and_next()),
    Shortcut("Shift-G", "accept", lambda w: w.session.editing.accept()),
    Shortcut("Shift-H", "find", lambda w: w.find()),
    Shortcut(",", "previous", lambda w: w.session.navigation.step(-1)),
    Shortcut(".", "next", lambda w: w.session.navigation.step(1)),
    Shortcut("N", "next untouched", lambda w: w.session.navigation.next_untouched()),
    Shortcut("Shift-N", "skip", lambda w: w.session.navigation.skip()),
    Shortcut("Shift-F", "flag for review", lambda w: w.session.navigation.flag()),
    Shortcut("Shift-J", "go to a name", lambda w: w.images.ask_name()),
    Shortcut("Q", "point", lambda w: w.tools.arm(Tool.POINT)),
    Shortcut("W", "box", lambda w: w.tools.arm(Tool.BOX)),
    Shortcut("K", "scribble", lambda w: w.tools.arm(Tool.SCRIBBLE)),
    Shortcut("Shift-W", "lasso", lambda w: w.tools.arm(Tool.LASSO)),
    Shortcut("Shift-M", "merge", lambda w: w.tools.arm(Tool.MERGE)),
    Shortcut("Shift-X", "subtract", lambda w: w.tools.arm(Tool.SUBTRACT)),
    Shortcut("Shift-S", "split", lambda w: w.tools.arm(Tool.SPLIT)),
    Shortcut("Shift-E", "prompt or edit labels", _toggle_on_labels),
    Shortcut("Shift-B", "copy prompts", lambda w: w.session.copying.prompts()),
    Shortcut("Shift-T", "copy masks", lambda w: w.session.copying.masks()),
    Shortcut("Shift-I", "all of this class", lambda w: w.session.copying.alike()),
    Shortcut("Shift-O", "mode of assistance", lambda w: w.assist.cycle()),
    Shortcut("J", "paint by hand", lambda w: w.tools.paint_by_hand()),
    Shortcut("`", "positive or negative", _toggle_sign),
    Shortcut("U", "undo", lambda w: w.session.undo()),
    Shortcut("Shift-U", "redo", lambda w: w.session.redo()),
    Shortcut("Shift-K", "clear prompts", lambda w: w.session.prompting.clear_prompts()),
    Shortcut("Shift-Q", "new object", lambda w: w.session.prompting.new_object()),
    Shortcut("Shift-R", "class of the object", lambda w: w.give_class()),
    Shortcut(
        "H", "hold to see the image alone", lambda w: w.display.bare(), lambda w: w.display.dress()
    ),
    Shortcut("Shift-C", "contours or fill", lambda w: w.display.toggle_contours()),
    Shortcut("Shift-D", "despeckled view", lambda w: w.display.toggle_despeckling()),
    *(
        Shortcut(f"Alt-{digit}", f"class {digit}", partial(lambda n, w: w.pick_nth_class(n), digit))
        for digit in range(1, 10)
    ),
)

ALSO = (("Control-Z", "undo"), ("Control-Shift-Z", "redo"))
"""What hands know from every other program; on the labels layer ``LayerBridge`` binds the same."""


def settable(shortcut: Shortcut) -> bool:
    """True where a person may choose another key: not for the digits of the classes."""
    return not shortcut.key.startswith("Alt-")


def chosen_keys() -> tuple[dict[str, str], tuple[str, ...]]:
    """The key of each action by its name, and sentences about choices that cannot be used.

    A key that two actions are to have stays with the first of the table; "" is no key.
    """
    return resolved(tuple(preferences.keys().items()))


@lru_cache(maxsize=8)
def resolved(wishes: tuple[tuple[str, str], ...]) -> tuple[dict[str, str], tuple[str, ...]]:
    """The same from the wishes: (setting, key)."""
    wished = dict(wishes)
    keys: dict[str, str] = {}
    holders: dict[KeyBinding, str] = {}
    problems: list[str] = []
    for shortcut in SHORTCUTS:
        key = wished.get(shortcut.setting, shortcut.key) if settable(shortcut) else shortcut.key
        if key and not preferences.is_key(key):
            problems.append(
                f"'{key}' is no key that napari knows; '{shortcut.name}' keeps {shortcut.key}."
            )
            key = shortcut.key
        holder = holders.get(preferences.parsed(key)) if key else None
        if holder is not None:
            problems.append(
                f"{key} is the key of '{holder}' already, so '{shortcut.name}' has none now; "
                "choose another one in napari's preferences."
            )
            key = ""
        if key:
            holders[preferences.parsed(key)] = shortcut.name
        keys[shortcut.name] = key
    return keys, tuple(problems)


def key_of(name: str) -> str:
    """How the key of an action is written in a tooltip: "Shift-G" as "Shift+G", "" without one."""
    key = chosen_keys()[0][name]
    return key if key == "-" else key.replace("-", "+")


_actions: dict[str, str] = {}


def tip(sentence: str, action: str = "") -> str:
    """A tooltip: one plain sentence, and the key of an action where it has one."""
    if not action:
        return sentence
    _actions[sentence] = action
    key = key_of(action)
    return f"{sentence} [{key}]" if key else sentence


def _renewed(tooltip: str) -> str:
    """A tooltip of ``tip`` with the key that its action has now; any other as it is."""
    sentence = tooltip.rpartition(" [")[0] if tooltip.endswith("]") else tooltip
    return tip(sentence, _actions[sentence]) if sentence in _actions else tooltip


def typing() -> bool:
    """True while the person types in a text field."""
    focused = QApplication.focusWidget()
    if isinstance(focused, QComboBox):
        return focused.isEditable()
    return isinstance(focused, QLineEdit | QTextEdit | QPlainTextEdit | QAbstractSpinBox)


class Keyboard:
    """The shortcuts in a viewer, bound anew when the preferences change.

    Args:
        viewer: the napari viewer.
        widget: what the shortcuts act on.
    """

    def __init__(self, viewer: Viewer, widget: UltrasoundWidget) -> None:
        self._viewer = viewer
        self._widget = widget
        self._bound: dict[str, str] = {}
        self._bind()
        self._forget = preferences.on_change(self._on_change)

    def _bind(self) -> None:
        self._bound, problems = chosen_keys()
        for shortcut in SHORTCUTS:
            key = self._bound[shortcut.name]
            if key:
                self._viewer.bind_key(key, _callback(shortcut, self._widget), overwrite=True)
        does = {shortcut.name: shortcut for shortcut in SHORTCUTS}
        for key, name in ALSO:
            if key not in self._bound.values():
                self._viewer.bind_key(key, _callback(does[name], self._widget), overwrite=True)
        for problem in problems:
            notifications.show_warning(problem)

    def _unbind(self) -> None:
        for key in {*filter(None, self._bound.values()), *(key for key, _ in ALSO)}:
            self._viewer.bind_key(key, None)

    def _on_change(self, _: Any = None) -> None:
        self._unbind()
        self._bind()
        for child in self._widget.findChildren(QWidget):
            old = child.toolTip()
            if _renewed(old) != old:
                child.setToolTip(_renewed(old))
        self._widget.accept.refresh()

    def close(self) -> None:
        """Give the keys back."""
        self._forget()
        self._unbind()


def _callback(shortcut: Shortcut, widget: UltrasoundWidget) -> Callable[[Viewer], Any]:
    """What napari calls when the key is pressed; it wants a function with a name and a text."""
    ends = shortcut.ends

    def press(viewer: Viewer) -> None:
        if not typing():
            shortcut.does(widget)

    def hold(viewer: Viewer) -> Iterator[None]:
        if typing() or ends is None:
            return
        shortcut.does(widget)
        yield
        ends(widget)

    run: Any = press if ends is None else hold
    run.__name__ = run.__qualname__ = f"usgseg_{shortcut.setting}"
    run.__doc__ = f"Ultrasound segmentation: {shortcut.name}."
    return run
