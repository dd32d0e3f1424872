"""Table of the keys: what each does, its name, and the sentence that tooltips say of it.

The keys are bound to the viewer and are free on every layer of napari's. A person sets others under
Preferences > Ultrasound segmentation (``preferences``), through the manifest's ``configurations``:
napari reads its own table of shortcuts before plugins load, so they cannot be in that. Tab would be
free too, but Qt takes it for going from control to control before napari sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Protocol, TypeVar

from app_model.backends.qt import QKeyBindingSequence
from app_model.types import KeyBinding
from napari.utils import notifications
from napari.viewer import Viewer
from psygnal import Signal
from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import (
    QAbstractItemView,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QLineEdit,
    QPlainTextEdit,
    QTextEdit,
    QWidget,
)

from ..annotation.session import AnnotationSession
from . import preferences
from .canvas.display import Display
from .canvas.tools import CanvasTools, Tool
from .parts import later


class Dock(Protocol):
    """Dock as keys act on it; the dock widget is made of panels, which import this table."""

    session: AnnotationSession
    tools: CanvasTools
    display: Display

    def find(self) -> None:
        """Look for the phrase, or ask for one."""

    def ask_image(self) -> None:
        """Ask for the name of an image to go to."""

    def look_over(self) -> None:
        """Show the images as a grid."""

    def cycle_mode(self) -> None:
        """Go on to the next mode of assistance."""

    def give_class(self) -> None:
        """Give the picked class to an object."""

    def fill_holes(self) -> None:
        """Fill the holes of an object."""

    def grow(self, pixels: int) -> None:
        """Grow an object, or shrink it."""

    def smooth(self) -> None:
        """Round the border of an object."""

    def propagate(self) -> None:
        """Propagate over the loop, or stop."""

    def play(self) -> None:
        """Play the loop, or stop."""


@dataclass(frozen=True, slots=True)
class Shortcut:
    """A key and what it does.

    Attributes:
        key: as napari writes it, unless the person chose another.
        name: as in the README and the preferences.
        help: what it does, in a sentence: the tooltip of the control that does the same.
        does: when the key goes down.
        ends: when it comes up again, for what lasts as long as the key is held.
    """

    key: str
    name: str
    help: str
    does: Callable[[Dock], object]
    ends: Callable[[Dock], object] | None = None

    @property
    def setting(self) -> str:
        """Its name in the preferences."""
        return self.name.replace(" ", "_")


# fmt: off
SHORTCUTS: tuple[Shortcut, ...] = (
    Shortcut("G", "accept and next", "Saves this image's labels and goes on.",
             lambda w: w.session.editing.accept_and_next()),
    Shortcut("Shift-G", "accept", "Saves this image's labels and stays.",
             lambda w: w.session.editing.accept()),
    Shortcut("0", "mark empty", "Says that there is nothing to label here, and goes on.",
             lambda w: w.session.navigation.mark_empty()),
    Shortcut("Shift-H", "find", "Look for the phrase in this image.", lambda w: w.find()),
    Shortcut(",", "previous", "Go to the image before.", lambda w: w.session.navigation.step(-1)),
    Shortcut(".", "next", "Go to the image after.", lambda w: w.session.navigation.step(1)),
    Shortcut("PageUp", "previous keyframe",
             "Go to the frame before this one, of a loop, that you accepted or made.",
             lambda w: w.session.loops.step_keyframe(-1)),
    Shortcut("PageDown", "next keyframe",
             "Go to the frame after this one, of a loop, that you accepted or made.",
             lambda w: w.session.loops.step_keyframe(1)),
    Shortcut("9", "suggested frame",
             "Go to the frame of the loop whose label would help most, or to the next such.",
             lambda w: w.session.loops.go_to_suggested()),
    Shortcut("Control-L", "propagate",
             "Propose on all frames of the loop what is on those that are yours; or stop.",
             lambda w: w.propagate()),
    Shortcut("\\", "play", "Play the loop at its own rate, or stop.", lambda w: w.play()),
    Shortcut("N", "next untouched", "Go to the next image without labels.",
             lambda w: w.session.navigation.next_untouched()),
    Shortcut("Shift-N", "skip", "Set this image aside and go on.",
             lambda w: w.session.navigation.skip()),
    Shortcut("Shift-F", "flag for review",
             "Flag this image for review and go on, or take its flag away.",
             lambda w: w.session.navigation.flag()),
    Shortcut("Shift-J", "go to a name",
             "Part of a file's name; Enter goes to the next image that has it.",
             lambda w: w.ask_image()),
    Shortcut("'", "look over", "All images with their contours; accept many at once.",
             lambda w: w.look_over()),
    Shortcut("Q", "point",
             "Click on the object. Shift: the other sign. Alt: work on this one. Ctrl: drop it.",
             lambda w: w.tools.arm(Tool.POINT)),
    Shortcut("W", "box", "Drag a box around a new object. Shift: around the one under work.",
             lambda w: w.tools.arm(Tool.BOX)),
    Shortcut("K", "scribble", "Draw a line along the object. Shift: the other sign.",
             lambda w: w.tools.arm(Tool.SCRIBBLE)),
    Shortcut("Shift-W", "lasso",
             "Draw round the object, or round a part to add. Shift: a part to take away.",
             lambda w: w.tools.arm(Tool.LASSO)),
    Shortcut("F2", "trace",
             "Click along a bright line, such as bone (Alt: a dark one). Enter or a double click "
             "ends it.",
             lambda w: w.tools.arm(Tool.TRACE)),
    Shortcut("Shift-M", "merge", "Draw a line over proposed objects: they become one.",
             lambda w: w.tools.arm(Tool.MERGE)),
    Shortcut("Shift-X", "cut out",
             "Draw from one object to another: the first is cut out of it. Shift: and stays.",
             lambda w: w.tools.arm(Tool.SUBTRACT)),
    Shortcut("Shift-S", "split",
             "Draw a line across a proposed object, or click on one that has several pieces.",
             lambda w: w.tools.arm(Tool.SPLIT)),
    Shortcut("F8", "caliper", "Drag from end to end of a length; it is kept on this image.",
             lambda w: w.tools.arm(Tool.CALIPER)),
    Shortcut("Shift-E", "prompt or edit labels",
             "Tools make prompts, or change the accepted labels themselves.",
             lambda w: w.tools.set_on_labels(not w.tools.on_labels)),
    Shortcut("Shift-B", "copy prompts", "Use the prompts of the previous image on this one.",
             lambda w: w.session.copying.prompts()),
    Shortcut("Shift-T", "copy masks", "Begin with the masks of the previous image.",
             lambda w: w.session.copying.masks()),
    Shortcut("Shift-I", "find alike", "Look for more objects of the picked class.",
             lambda w: w.session.copying.alike()),
    Shortcut("Shift-O", "mode of assistance", "Autonomous, semi-autonomous or manual.",
             lambda w: w.cycle_mode()),
    Shortcut("J", "paint by hand", "Paint by hand on the accepted labels, or stop painting.",
             lambda w: w.tools.paint_by_hand()),
    Shortcut("`", "positive or negative", "Prompts and edits add, or take away.",
             lambda w: w.tools.set_positive(not w.tools.positive)),
    Shortcut("U", "undo", "Take the last step back.", lambda w: w.session.undo()),
    Shortcut("Shift-U", "redo", "Do the undone step again.", lambda w: w.session.redo()),
    Shortcut("Shift-K", "clear prompts", "Take away what is proposed.",
             lambda w: w.session.prompting.clear_prompts()),
    Shortcut("Shift-Q", "new object", "The next prompt begins another object of the picked class.",
             lambda w: w.session.prompting.new_object()),
    Shortcut(";", "next object", "Work on the next proposed object.",
             lambda w: w.session.prompting.next_object()),
    Shortcut("Shift-Z", "drop object", "Take away the proposed object that is under work.",
             lambda w: w.session.prompting.drop()),
    Shortcut("/", "by the model or as drawn",
             "Scribble and lasso are segmented by the model, or taken as drawn.",
             lambda w: w.tools.set_as_drawn(not w.tools.as_drawn)),
    Shortcut("Shift-R", "class of the object", "The picked class for the object under the mouse.",
             lambda w: w.give_class()),
    Shortcut("Shift-Y", "fill holes", "Fill the holes of the object under the mouse.",
             lambda w: w.fill_holes()),
    Shortcut("F4", "grow", "Grow the object under the mouse by a pixel.", lambda w: w.grow(1)),
    Shortcut("F3", "shrink", "Shrink the object under the mouse by a pixel.",
             lambda w: w.grow(-1)),
    Shortcut("F6", "smooth", "Round the border of the object under the mouse.",
             lambda w: w.smooth()),
    Shortcut("H", "hold to see the image alone",
             "While it is held down, nothing lies over the image.",
             lambda w: w.display.bare(), lambda w: w.display.dress()),
    Shortcut("Shift-C", "contours or fill", "Accepted labels as contours, or filled.",
             lambda w: w.display.toggle_contours()),
    Shortcut("Shift-D", "despeckled view", "Less speckle, on the screen only.",
             lambda w: w.display.toggle_despeckling()),
    *(
        Shortcut(
            f"Alt-{digit}",
            f"class {digit}",
            f"Pick class {digit}.",
            partial(lambda n, w: w.session.editing.pick_class(n), digit),
        )
        for digit in range(1, 10)
    ),
)
# fmt: on
BY_NAME = {shortcut.name: shortcut for shortcut in SHORTCUTS}

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


def sequence_of(name: str) -> QKeySequence:
    """The key of an action for Qt, in a window of its own; an empty one without a key."""
    key = chosen_keys()[0][name]
    return QKeyBindingSequence(preferences.parsed(key)) if key else QKeySequence()


Control = TypeVar("Control", bound=QWidget)


def explain(control: Control, action: str, sentence: str = "") -> Control:
    """Give a control its tooltip: what its action does, and the key of that, now and later.

    Args:
        control: that does what a key does.
        action: the name in ``SHORTCUTS``.
        sentence: is said in the place of the table's.
    """
    sentence, key = sentence or BY_NAME[action].help, key_of(action)
    control.setProperty(ACTION, action)
    control.setProperty(SENTENCE, sentence)
    control.setToolTip(f"{sentence} [{key}]" if key else sentence)
    return control


def explain_again(root: QWidget) -> None:
    """Give the controls within a widget their tooltips with the keys as they are now."""
    for control in root.findChildren(QWidget):
        if control.property(ACTION):
            explain(control, control.property(ACTION), control.property(SENTENCE))


ACTION, SENTENCE = "usgseg_action", "usgseg_sentence"
"""Qt properties of a control that has been explained, from which its tooltip is made anew."""


def typing() -> bool:
    """True while the person types in a text field."""
    focused = QApplication.focusWidget()
    if isinstance(focused, QComboBox):
        return focused.isEditable()
    return isinstance(focused, QLineEdit | QTextEdit | QPlainTextEdit | QAbstractSpinBox)


class PassedOn(QObject):
    """Has keys with a letter go on to napari where a list or a box of numbers has the focus.

    Else the list would look for a row that begins with the letter. Enter in a box of numbers or in
    a field gives the keys back to the image.
    """

    def watch(self, dock: QWidget) -> None:
        """Look after all that takes keys in a dock."""
        for child in dock.findChildren(QWidget):
            if isinstance(child, QComboBox | QAbstractItemView | QAbstractSpinBox | QLineEdit):
                child.installEventFilter(self)

    def eventFilter(self, watched: Any, event: Any) -> bool:  # noqa: N802
        """True where the key is not for who has the focus; whoever is above gets it then."""
        if event.type() != QEvent.Type.KeyPress:
            return False
        if isinstance(watched, QAbstractSpinBox | QLineEdit):
            if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
                later(watched, 0, watched.clearFocus)
            return False
        if isinstance(watched, QComboBox) and watched.isEditable():
            return False
        text = event.text()
        if text.isprintable() and text.strip():
            event.ignore()
            return True
        return False


class Keyboard:
    """The shortcuts in a viewer, bound anew when the preferences change.

    Args:
        viewer: the napari viewer.
        dock: what the shortcuts act on; the tooltips in it are kept up to date.
    """

    changed = Signal()

    def __init__(self, viewer: Viewer, dock: Any) -> None:
        self._viewer = viewer
        self._dock = dock
        self._bound: dict[str, str] = {}
        self._bind()
        self._passed_on = PassedOn(dock)
        self._passed_on.watch(dock)
        self._forget = preferences.on_change(self._on_change)

    def _bind(self) -> None:
        self._bound, problems = chosen_keys()
        for shortcut in SHORTCUTS:
            key = self._bound[shortcut.name]
            if key:
                self._viewer.bind_key(key, _callback(shortcut, self._dock), overwrite=True)
        for key, name in ALSO:
            if key not in self._bound.values():
                self._viewer.bind_key(key, _callback(BY_NAME[name], self._dock), overwrite=True)
        for problem in problems:
            notifications.show_warning(problem)

    def _unbind(self) -> None:
        for key in {*filter(None, self._bound.values()), *(key for key, _ in ALSO)}:
            self._viewer.bind_key(key, None)

    def _on_change(self, _: Any = None) -> None:
        self._unbind()
        self._bind()
        explain_again(self._dock)
        self.changed.emit()

    def close(self) -> None:
        """Give the keys back."""
        self._forget()
        self._unbind()


def _callback(shortcut: Shortcut, dock: Dock) -> Callable[[Viewer], Any]:
    """What napari calls when the key is pressed; it wants a function with a name and a text."""
    ends = shortcut.ends

    def press(viewer: Viewer) -> None:
        if not typing():
            shortcut.does(dock)

    def hold(viewer: Viewer) -> Iterator[None]:
        if typing() or ends is None:
            return
        shortcut.does(dock)
        yield
        ends(dock)

    # napari takes a generator function for a key that is held: what follows the yield is done when
    # it comes up.
    run: Any = press if ends is None else hold
    run.__name__ = run.__qualname__ = f"usgseg_{shortcut.setting}"
    run.__doc__ = f"Ultrasound segmentation: {shortcut.help}"
    return run
