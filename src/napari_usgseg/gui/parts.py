"""Small Qt pieces that the panels share."""

from __future__ import annotations

import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from psygnal import EmitLoopError
from qtpy.QtCore import QEvent, QObject, QSize, Qt, QTimer, Signal
from qtpy.QtGui import QColor, QIcon, QPainter, QPixmap, QResizeEvent
from qtpy.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible, QElidingLabel

TEXT_MARGIN = 10
FLAT_MARGIN = 8
MARK = " •"
ONE_LINE_MARGIN = 6
LABEL_MARGIN = 12
LEAST_SCROLLED = 120
ICON_SIDE = 18
"""Pixels of the icon of a class."""
WARNING = "background-color: #e69f00; color: black; padding: 2px;"
"""What must be seen, in a dark theme and in a light one."""


FOCUS = "".join(
    f"{kind}:focus {{ border: 1px solid #1f8fd6; }}"
    for kind in ("QPushButton", "QToolButton", "QComboBox", "QLineEdit", "QListView", "QSpinBox")
)
"""What the keyboard is at, in a dark theme and in a light one."""


class NarrowButton(QPushButton):
    """A button that may be as narrow as its text; Qt's style wants 80 pixels for the shortest.

    Args:
        text: on it.
        does: what a click does, or None. Its slot is a method, as that of ``_Later``.
    """

    def __init__(self, text: str, does: Callable[[], object] | None = None) -> None:
        super().__init__(text)
        self._does = does
        self.clicked.connect(self._on_clicked)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)  # a click leaves the keys to the image

    def _on_clicked(self) -> None:
        if self._does is not None:
            self._does()

    def setEnabled(self, enabled: bool) -> None:  # noqa: N802
        """Where it is greyed out in the keyboard's hand, Qt would take the next field into it."""
        if not enabled and self.hasFocus():
            self.clearFocus()
        super().setEnabled(enabled)

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """Room for the text in the font that it has now: napari's font size can be changed."""
        width = self.fontMetrics().horizontalAdvance(self.text()) + TEXT_MARGIN
        return QSize(width, super().minimumSizeHint().height())


class PlaceButton(NarrowButton):
    """A button with the name of a place, of which the end is seen where there is no more room.

    Args:
        place: its name; a long one makes no dock wider.
        does: what a click does.
    """

    def __init__(self, place: str, does: Callable[[], object]) -> None:
        super().__init__(place, does)
        self._place = place

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """No room for the text is asked for."""
        return QSize(TEXT_MARGIN, super().minimumSizeHint().height())

    def resizeEvent(self, event: QResizeEvent | None) -> None:  # noqa: N802
        """Show as much of the name as there is room for."""
        super().resizeEvent(event)
        room = self.width() - TEXT_MARGIN
        self.setText(self.fontMetrics().elidedText(self._place, Qt.TextElideMode.ElideLeft, room))


def button(text: str, tooltip: str, clicked: Callable[[], object]) -> QPushButton:
    """A push button."""
    made = NarrowButton(text, clicked)
    made.setToolTip(tooltip)
    return made


def toggle(text: str, tooltip: str, clicked: Callable[[], object]) -> QPushButton:
    """A button that stays down."""
    made = button(text, tooltip, clicked)
    made.setCheckable(True)
    return made


class _Later(QTimer):
    """A timer that does one thing once; its parent's end is its own.

    Its slot is a method, not a function with cells: Python may collect the cells of such a function
    together with the widgets around it while Qt still calls it, which ends the process.
    """

    def __init__(self, parent: QObject, does: Callable[[], object]) -> None:
        super().__init__(parent)
        self._does = does
        self.setSingleShot(True)
        self.timeout.connect(self._fire)

    def _fire(self) -> None:
        self.deleteLater()
        self._does()


def later(parent: QObject, milliseconds: int, does: Callable[[], object]) -> None:
    """Do something once, after a while, unless ``parent`` is gone by then."""
    _Later(parent, does).start(milliseconds)


def row(*widgets: QWidget, stretch: int | None = None) -> QHBoxLayout:
    """Widgets side by side; ``stretch`` is the index of the one that takes the room."""
    layout = QHBoxLayout()
    layout.setSpacing(4)
    for index, widget in enumerate(widgets):
        layout.addWidget(widget, 1 if index == stretch else 0)
    return layout


def heading(title: str) -> QLabel:
    """A bold word over what belongs together."""
    label = QLabel(title)
    font = label.font()
    font.setBold(True)
    label.setFont(font)
    return label


def one_line() -> QElidingLabel:
    """A text that ends in dots where there is no room for all of it."""
    made = QElidingLabel()
    made.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    made.setIndent(ONE_LINE_MARGIN)
    made.setEllipsesWidth(2 * ONE_LINE_MARGIN)
    return made


class FewLines(QLabel):
    """A text of always as many lines, which ends in dots where it has more.

    So nothing else moves when the text changes.

    Args:
        lines: so many.
    """

    def __init__(self, lines: int) -> None:
        super().__init__()
        self._lines, self._text = lines, ""
        self.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def setText(self, text: str) -> None:  # noqa: N802
        """Say something else."""
        self._text = text
        self._fit()

    def text(self) -> str:
        """All of the text."""
        return self._text

    def sizeHint(self) -> QSize:  # noqa: N802
        """The lines, in the font that it has now."""
        self.ensurePolished()
        return QSize(0, self._lines * self.fontMetrics().lineSpacing() + LABEL_MARGIN)

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """The same."""
        return self.sizeHint()

    def resizeEvent(self, event: Any) -> None:  # noqa: N802
        """Wrap the text anew."""
        super().resizeEvent(event)
        self._fit()

    def changeEvent(self, event: Any) -> None:  # noqa: N802
        """Napari's font may have grown."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self.updateGeometry()
            self._fit()

    def _fit(self) -> None:
        metrics, width = self.fontMetrics(), self.width() - TEXT_MARGIN
        lines = QElidingLabel.wrapText(self._text, width, self.font())
        last = self._lines - 1
        rest = metrics.elidedText("".join(lines[last:]), Qt.TextElideMode.ElideRight, width)
        super().setText("\n".join([*map(str.rstrip, lines[:last]), rest]))


class Section(QFrame):
    """A block of the dock."""

    def __init__(self) -> None:
        super().__init__()
        self.body = QVBoxLayout(self)
        self.body.setContentsMargins(0, 2, 0, 2)
        self.body.setSpacing(4)


class Fold(QCollapsible):
    """A line that shows or hides what is set once.

    It opens at once: each frame of an animation would compose napari's whole window. The arrow is a
    letter, for superqt's own has the colour that the theme had when it was made.

    Args:
        title: of the line.
        tooltip: of the line.
        content: that is shown or hidden.
    """

    def __init__(self, title: str, tooltip: str, content: QWidget) -> None:
        super().__init__(expandedIcon=QIcon(), collapsedIcon=QIcon())
        self._title = title
        self.setDuration(0)
        self.toggleButton().setToolTip(tooltip)
        self.toggleButton().setStyleSheet(
            "text-align: left; border: none; background: transparent;"
        )
        self.addWidget(content)
        layout = self.layout()
        assert layout is not None
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        self.toggled.connect(self._on_toggled)
        self._on_toggled(False)

    def _on_toggled(self, is_open: bool) -> None:
        self.setText(f"{'▾' if is_open else '▸'} {self._title}")
        self.content().setEnabled(is_open)  # so that Tab passes over what is closed


class FoldName(NarrowButton):
    """A name of a ``FoldBar``; ``opened`` carries it, and whether it is open now.

    Args:
        text: the name.
        marks: it has room for a dot behind it.
    """

    opened = Signal(str, bool)

    def __init__(self, text: str, marks: bool) -> None:
        super().__init__(text)
        self._name, self._marks = text, marks
        self.toggled.connect(self._on_toggled)
        self.setCheckable(True)
        self.setFlat(True)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def _on_toggled(self, is_open: bool) -> None:
        self.opened.emit(self._name, is_open)

    def mark(self, marked: bool) -> None:
        """Put a dot behind the name, or take it away."""
        text = self._name + MARK if marked else self._name
        if self.text() != text:
            self.setText(text)

    def sizeHint(self) -> QSize:  # noqa: N802
        """The same with the dot and without."""
        widest = self._name + MARK if self._marks else self._name
        width = self.fontMetrics().horizontalAdvance(widest) + FLAT_MARGIN
        return QSize(width, super().sizeHint().height())

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """The same."""
        return self.sizeHint()


class FoldBar(QWidget):
    """Names in a row; one at a time is open, and what belongs to it is shown in ``contents``.

    ``toggled`` carries the one that is open now, or "".

    Attributes:
        contents: of all of them, to be put where there is room; the names stay where they are.
    """

    toggled = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._buttons: dict[str, FoldName] = {}
        self._contents: dict[str, QWidget] = {}
        self._names = QHBoxLayout(self)
        self._names.setContentsMargins(0, 0, 0, 0)
        self._names.setSpacing(0)
        self.contents = QWidget()
        self._shown = QVBoxLayout(self.contents)
        self._shown.setContentsMargins(0, 0, 0, 0)
        self.contents.hide()

    def add(self, name: str, tooltip: str, content: QWidget, marks: bool = False) -> None:
        """Add one at the end, closed; ``marks`` where a dot may come to its name."""
        made = FoldName(name, marks)
        made.setToolTip(tooltip)
        made.opened.connect(self._on_opened)
        self._buttons[name] = made
        self._contents[name] = content
        self._names.addWidget(made)
        self._shown.addWidget(content)
        content.hide()

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, in order."""
        return tuple(self._buttons)

    @property
    def open_one(self) -> str:
        """The one that is open, or ""."""
        return next((name for name, made in self._buttons.items() if made.isChecked()), "")

    def set_open(self, name: str, is_open: bool = True) -> None:
        """Open or close one; a name that there is not is passed over."""
        if name in self._buttons:
            self._buttons[name].setChecked(is_open)

    def mark(self, name: str, marked: bool) -> None:
        """Put a dot behind the name of one where something waits, or take it away."""
        self._buttons[name].mark(marked)

    def close_all(self) -> None:
        """Close the one that is open."""
        for made in self._buttons.values():
            made.setChecked(False)

    def _on_opened(self, name: str, is_open: bool) -> None:
        if is_open:
            for other, made in self._buttons.items():
                made.setChecked(other == name)
        self._contents[name].setVisible(is_open)
        self.contents.setVisible(bool(self.open_one))
        if is_open or not self.open_one:
            self.toggled.emit(self.open_one)


class Scrolled(QScrollArea):
    """A column of widgets that scrolls up and down where there is no room for all of it.

    Args:
        widgets: from top to bottom.
        stretched: the one that takes the room that is left over.
    """

    def __init__(self, widgets: Sequence[QWidget], stretched: QWidget) -> None:
        super().__init__()
        column = QWidget()
        layout = QVBoxLayout(column)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        for widget in widgets:
            layout.addWidget(widget, 1 if widget is stretched else 0)
        self.setWidget(column)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        column.installEventFilter(self)

    def eventFilter(self, watched: Any, event: Any) -> bool:  # noqa: N802
        """What needs another width in the column needs it in the dock too."""
        if event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return super().eventFilter(watched, event)

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """As wide as the column and the scroll bar; of its height a part is enough."""
        bar = self.verticalScrollBar().sizeHint().width()
        return QSize(self.widget().minimumSizeHint().width() + bar, LEAST_SCROLLED)

    def sizeHint(self) -> QSize:  # noqa: N802
        """As high as the column."""
        return QSize(self.minimumSizeHint().width(), self.widget().sizeHint().height())


class BusyBar(QProgressBar):
    """Says that something goes on, once it takes longer than a moment.

    It moves four times a second only: each frame of Qt's own endless bar makes napari compose the
    whole window anew, which without a GPU takes longer than most of what the bar stands for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setRange(0, 100)
        self.setTextVisible(False)
        self.setFixedHeight(4)
        keep_room(self)
        self._timer = QTimer(self)
        self._timer.setInterval(250)
        self._timer.timeout.connect(self._move)
        self.hide()

    def set_busy(self, busy: bool) -> None:
        """Begin, or stop."""
        if busy and not self._timer.isActive():
            self.setValue(0)
            self._timer.start()
        elif not busy:
            self._timer.stop()
            self.hide()

    def _move(self) -> None:
        self.setValue((self.value() + 20) % 120)
        self.show()


def keep_room(widget: QWidget) -> None:
    """Leave the room of a hidden widget free, so that nothing moves when it is shown."""
    policy = widget.sizePolicy()
    policy.setRetainSizeWhenHidden(True)
    widget.setSizePolicy(policy)


class NewestFirst(QObject):
    """A thread that does the newest of the jobs that wait, and forgets the oldest.

    ``done`` carries the key of a job and what it gave, to be heard on the thread of the window;
    None where it failed, which is printed.

    Args:
        name: of the thread, which begins with the first job.
        waiting: so many jobs may wait.
        parent: of this object.
    """

    done = Signal(object, object)

    def __init__(self, name: str, waiting: int, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._waiting = waiting
        self._jobs: deque[tuple[Any, Callable[[], Any]]] = deque()
        self._guard = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def submit(self, key: Any, job: Callable[[], Any]) -> Any:
        """Have a job done; gives the key of one that is forgotten for it, or None."""
        with self._guard:
            self._jobs.append((key, job))
            forgotten = self._jobs.popleft()[0] if len(self._jobs) > self._waiting else None
            self._guard.notify()
        # Started with the first job: most windows never need it.
        if self._thread.ident is None and not self._closed:
            self._thread.start()
        return forgotten

    def forget(self) -> None:
        """Forget all that wait."""
        with self._guard:
            self._jobs.clear()

    def close(self) -> None:
        """End the thread once it is done with what it is at."""
        with self._guard:
            self._closed = True
            self._guard.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._guard:
                self._guard.wait_for(lambda: self._jobs or self._closed)
                if self._closed:
                    return
                # The newest: of pictures that scroll by, the last asked for is the one in sight.
                key, job = self._jobs.pop()
            result = None
            try:
                result = job()
            except Exception:  # else no later job would ever be done
                traceback.print_exc(file=sys.stderr)
            try:
                self.done.emit(key, result)
            except RuntimeError:  # Qt has taken the object down already
                return


def class_icon(color: str, number: int) -> QIcon:
    """A square of a class's colour with its number on it, the same whether selected or not."""
    fill = QColor(color)
    pixmap = QPixmap(ICON_SIDE, ICON_SIDE)
    pixmap.fill(fill)
    painter = QPainter(pixmap)
    luminance = 0.299 * fill.redF() + 0.587 * fill.greenF() + 0.114 * fill.blueF()
    painter.setPen(QColor("black" if luminance > 0.45 else "white"))
    painter.drawText(pixmap.rect(), int(Qt.AlignmentFlag.AlignCenter), str(number))
    painter.end()
    icon = QIcon(pixmap)
    icon.addPixmap(pixmap, QIcon.Mode.Selected)
    return icon


def reason(error: BaseException) -> str:
    """What an exception says, never nothing: its kind, and its text where it has one.

    psygnal wraps what a listener raises in an error of its own, whose text is about psygnal.
    """
    while isinstance(error, EmitLoopError) and error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
