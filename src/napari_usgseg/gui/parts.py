"""Small Qt pieces that the panels share."""

from __future__ import annotations

from collections.abc import Callable

from psygnal import EmitLoopError
from qtpy.QtCore import QObject, QSize, Qt, QTimer, Signal
from qtpy.QtGui import QColor, QIcon, QPainter, QPaintEvent, QPixmap
from qtpy.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

TEXT_MARGIN = 14
FLAT_MARGIN = 11
ONE_LINE_MARGIN = 6
WARNING = "background-color: #e69f00; color: black; padding: 2px;"
"""What must be seen, in a dark theme and in a light one."""


class NarrowButton(QPushButton):
    """A button that may be as narrow as its text; Qt's style wants 80 pixels for the shortest."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """Room for the text in the font that it has now: napari's font size can be changed."""
        margin = FLAT_MARGIN if self.isFlat() else TEXT_MARGIN
        width = self.fontMetrics().horizontalAdvance(self.text()) + margin
        return QSize(width, super().minimumSizeHint().height())


def button(text: str, tooltip: str, clicked: Callable[[], object]) -> QPushButton:
    """A push button."""
    made = NarrowButton(text)
    made.setToolTip(tooltip)
    made.clicked.connect(lambda: clicked())
    return made


def toggle(text: str, tooltip: str, clicked: Callable[[], object]) -> QPushButton:
    """A button that stays down."""
    made = button(text, tooltip, clicked)
    made.setCheckable(True)
    return made


def later(parent: QObject, milliseconds: int, does: Callable[[], object]) -> None:
    """Do something once, after a while, unless ``parent`` is gone by then."""
    timer = QTimer(parent)
    timer.setSingleShot(True)
    timer.timeout.connect(lambda: does())
    timer.timeout.connect(timer.deleteLater)
    timer.start(milliseconds)


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


class OneLine(QLabel):
    """A text that ends in dots where there is no room for all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Draw as much as fits."""
        room = self.contentsRect()
        text = self.fontMetrics().elidedText(
            self.text(), Qt.TextElideMode.ElideRight, room.width() - 2 * ONE_LINE_MARGIN
        )
        painter = QPainter(self)
        painter.setPen(self.palette().color(self.foregroundRole()))
        painter.drawText(
            room.adjusted(ONE_LINE_MARGIN, 0, 0, 0), int(Qt.AlignmentFlag.AlignVCenter), text
        )
        painter.end()


class Section(QFrame):
    """A titled block of the dock."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self.body = QVBoxLayout(self)
        self.body.setContentsMargins(0, 2, 0, 2)
        self.body.setSpacing(4)
        if title:
            self.body.addWidget(heading(title))


class Fold(QWidget):
    """A line with an arrow that shows or hides what is set once."""

    toggled = Signal(bool)

    def __init__(self, title: str, tooltip: str, content: QWidget) -> None:
        super().__init__()
        self.content = content
        self._button = QToolButton()
        self._button.setText(title)
        self._button.setToolTip(tooltip)
        self._button.setCheckable(True)
        self._button.setAutoRaise(True)
        self._button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self._button.setArrowType(Qt.ArrowType.RightArrow)
        self._button.toggled.connect(self._on_toggled)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self._button)
        layout.addWidget(content)
        content.hide()

    @property
    def is_open(self) -> bool:
        """True while the content is shown."""
        return self._button.isChecked()

    def set_open(self, is_open: bool) -> None:
        """Show or hide the content."""
        self._button.setChecked(is_open)

    def _on_toggled(self, is_open: bool) -> None:
        self._button.setArrowType(Qt.ArrowType.DownArrow if is_open else Qt.ArrowType.RightArrow)
        self.content.setVisible(is_open)
        self.toggled.emit(is_open)


class FoldBar(QWidget):
    """Names in a row; one at a time is open, and what belongs to it is shown below.

    ``toggled`` carries the open one, or "", while nothing is shown below: so whoever makes room for
    it does so before it is shown, for a window that has grown too small once stays larger.
    """

    toggled = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._buttons: dict[str, QPushButton] = {}
        self._contents: dict[str, QWidget] = {}
        self._names = QHBoxLayout()
        self._names.setSpacing(0)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(self._names)

    def add(self, name: str, tooltip: str, content: QWidget) -> None:
        """Add one at the end, closed."""
        made = NarrowButton(name)
        made.setToolTip(tooltip)
        made.setCheckable(True)
        made.setFlat(True)
        made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        made.toggled.connect(lambda is_open: self._on_toggled(name, is_open))
        self._buttons[name] = made
        self._contents[name] = content
        self._names.addWidget(made)
        layout = self.layout()
        assert layout is not None
        layout.addWidget(content)
        content.hide()

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, in order."""
        return tuple(self._buttons)

    @property
    def open_one(self) -> str:
        """The one that is open, or ""."""
        return next((name for name, made in self._buttons.items() if made.isChecked()), "")

    def height_of(self, name: str) -> int:
        """The least height in pixels of what belongs to a name; 0 for ""."""
        return self._contents[name].minimumSizeHint().height() if name else 0

    def set_open(self, name: str, is_open: bool = True) -> None:
        """Open or close one."""
        self._buttons[name].setChecked(is_open)

    def mark(self, name: str, marked: bool) -> None:
        """Put a dot behind the name of one where something waits, or take it away."""
        made = self._buttons[name]
        text = f"{name} •" if marked else name
        if made.text() != text:
            made.setText(text)

    def close_all(self) -> None:
        """Close the one that is open."""
        for made in self._buttons.values():
            made.setChecked(False)

    def _on_toggled(self, name: str, is_open: bool) -> None:
        if is_open:
            for other, made in self._buttons.items():
                made.setChecked(other == name)
        self._contents[name].hide()
        self.toggled.emit(self.open_one)
        self._contents[name].setVisible(is_open)


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


def class_icon(color: str, number: int, side: int = 18) -> QIcon:
    """A square of a class's colour with its number on it, the same whether selected or not."""
    fill = QColor(color)
    pixmap = QPixmap(side, side)
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
