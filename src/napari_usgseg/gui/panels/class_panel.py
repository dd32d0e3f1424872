"""Classes and objects: which class is picked, which proposed object is under work."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from qtpy.QtCore import QEvent, QSignalBlocker, QSize, Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QLineEdit,
    QListView,
    QListWidget,
    QListWidgetItem,
    QSizePolicy,
    QWidget,
)

from ...annotation.session import AnnotationSession
from ...io.labels import LABELLINGS
from ..keys import explain
from ..parts import ICON_SIDE, Section, button, class_icon, heading, later, row

LABELLING_NAMES = {"semantic": "per class", "instance": "per object"}
CHIPS = (
    "Click: this class for the next object; what is there keeps its own [Alt+its number]. "
    "Shift+click: for the object under work. Double click: rename it. Delete: take it away, if no "
    "image has it. The picked class for the object under the mouse:"
)

OBJECTS = (
    "What is proposed on this image. Click: work on this one, its class is the picked one. "
    "Shift+click, or Delete: drop it. Shift+click on a class: of that class. The one after:"
)
ROOM = 10
"""Pixels above and below a chip's text or icon, together."""


class LabellingChoice(QComboBox):
    """One label for each class, or one for each object: chosen before anything is labelled."""

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__()
        self._session = session
        self.addItems([LABELLING_NAMES[name] for name in LABELLINGS])
        self.setToolTip(
            "One label for each class (semantic), or one for each object (instance). It is chosen "
            "before anything is labelled."
        )
        self.activated.connect(self._on_chosen)
        session.settings_changed.connect(self._on_settings)
        self._on_settings()

    def _on_chosen(self, index: int) -> None:
        self._session.editing.set_labelling(LABELLINGS[index])
        self._on_settings()

    def _on_settings(self) -> None:
        self.setCurrentIndex(LABELLINGS.index(self._session.settings.labelling))


class Chips(QListWidget):
    """Classes or objects as chips, each with a number of its own; room for some rows of them.

    ``shifted`` carries the number of one that was clicked with Shift, ``deleted`` of the one that
    the Delete key was pressed on.

    Args:
        rows: so many chips are seen one below the other; of one row the rest is scrolled to.
    """

    shifted = Signal(int)
    deleted = Signal(int)

    def __init__(self, rows: int) -> None:
        super().__init__()
        self._rows = rows
        self.setFlow(QListView.Flow.LeftToRight)
        self.setWrapping(rows > 1)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setResizeMode(QListView.ResizeMode.Adjust)
        self.setSpacing(2)
        self.setIconSize(QSize(ICON_SIDE, ICON_SIDE))
        self.setEditTriggers(QAbstractItemView.EditTrigger.DoubleClicked)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)

    def sizeHint(self) -> QSize:  # noqa: N802
        """The rows in the font that it has now, and the bar that a single row scrolls with."""
        self.ensurePolished()
        line = max(ICON_SIDE, self.fontMetrics().height()) + ROOM
        bar = 0 if self.isWrapping() else self.horizontalScrollBar().sizeHint().height()
        return QSize(super().sizeHint().width(), self._rows * line + bar)

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """As high; of its width a part is enough."""
        return QSize(super().minimumSizeHint().width(), self.sizeHint().height())

    def changeEvent(self, event: Any) -> None:  # noqa: N802
        """Napari's font may have grown."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self.updateGeometry()

    def show_chips(self, chips: Iterable[tuple[str, int, str, int]], current: int | None) -> None:
        """Show chips (colour, figure on it, text, number), ``current`` the number of the chosen."""
        with QSignalBlocker(self):
            self.clear()
            for color, figure, text, number in chips:
                chip = QListWidgetItem(class_icon(color, figure), text)
                chip.setData(Qt.ItemDataRole.UserRole, number)
                self.addItem(chip)
                if number == current:
                    self.setCurrentItem(chip)

    def mousePressEvent(self, event: Any) -> None:  # noqa: N802
        """With Shift another chip is meant than the chosen one, which stays."""
        item = self.itemAt(event.pos())
        if item is not None and event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
            self.shifted.emit(item.data(Qt.ItemDataRole.UserRole))
            return
        super().mousePressEvent(event)

    def mouseReleaseEvent(self, event: Any) -> None:  # noqa: N802
        """The end of a click with Shift picks nothing either."""
        if not event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
            super().mouseReleaseEvent(event)

    def keyPressEvent(self, event: Any) -> None:  # noqa: N802
        """Delete takes the chosen one away; all other keys are the list's."""
        item = self.currentItem()
        if item is not None and event.key() in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace):
            self.deleted.emit(item.data(Qt.ItemDataRole.UserRole))
        else:
            super().keyPressEvent(event)


class ObjectsRow(QWidget):
    """What is proposed on the image: a click takes one to work on, Delete drops it."""

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__()
        self._session = session
        self.list = Chips(rows=1)
        self.list.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        explain(self.list, "next object", OBJECTS)
        self.list.itemClicked.connect(self._on_clicked)
        self.list.shifted.connect(session.prompting.drop)
        self.list.deleted.connect(session.prompting.drop)
        self.new = explain(button("New object", "", session.prompting.new_object), "new object")
        line = row(self.list, self.new, stretch=0)
        line.setContentsMargins(0, 0, 0, 0)
        self.setLayout(line)
        for signal in (session.proposal_changed, session.classes_changed, session.image_changed):
            signal.connect(self._on_changed)
        self._on_changed()

    def _on_clicked(self, item: QListWidgetItem) -> None:
        self._session.prompting.pick_object(item.data(Qt.ItemDataRole.UserRole))
        self._on_changed()  # where that was refused, the chosen one is what it was

    def _on_changed(self) -> None:
        proposal, table = self._session.proposal, self._session.table
        chips = []
        for index, item in enumerate(proposal.objects):
            known = table.get(item.class_id)
            if known is not None:
                score = "" if item.proposal is None else f" {item.proposal.score:.2f}"
                chips.append((known.color, item.class_id, f"{known.name}{score}", index))
        self.list.show_chips(chips, proposal.active)
        self.list.scrollToItem(self.list.currentItem())


class ClassPanel(Section):
    """The classes: a click picks one, with Shift it is the object's, a double click renames it.

    Below them is what is proposed on the image.
    """

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__()
        self._session = session
        self.list = Chips(rows=2)
        explain(self.list, "class of the object", CHIPS)
        self.list.itemClicked.connect(self._on_clicked)
        self.list.shifted.connect(session.editing.give_class)
        self.list.deleted.connect(session.editing.delete_class)
        self.list.itemChanged.connect(self._on_renamed)
        self.name = QLineEdit()
        self.name.setPlaceholderText("new class")
        self.name.setToolTip("Name a further class; Enter adds it.")
        self.name.returnPressed.connect(self.add)
        self.plus = button("+", "Add the class.", self.add)
        self.minus = button("−", "Delete the picked class, if no image has it.", self.delete)
        for control in (self.plus, self.minus):
            control.setFixedWidth(28)
        self.labelling = LabellingChoice(session)
        head = row(heading("Class"), self.name, self.plus, self.minus, self.labelling, stretch=1)
        self.body.addLayout(head)
        self.body.addWidget(self.list)
        self.objects = ObjectsRow(session)
        self.body.addWidget(self.objects)
        session.classes_changed.connect(self._on_classes)
        self._on_classes()

    def add(self) -> None:
        """Add a class of the name in the field, or of a number where it is empty."""
        self._session.editing.add_class(self.name.text())
        self.name.clear()
        self.name.clearFocus()

    def delete(self) -> None:
        """Delete the picked class, if no image has it."""
        self._session.editing.delete_class(self._session.table.active)

    def _on_clicked(self, item: QListWidgetItem) -> None:
        self._session.editing.pick_class(item.data(Qt.ItemDataRole.UserRole))

    def _on_renamed(self, item: QListWidgetItem) -> None:
        class_id, name = item.data(Qt.ItemDataRole.UserRole), item.text()

        def rename() -> None:
            self._session.editing.rename_class(class_id, name)
            self._on_classes()

        later(self, 0, rename)  # the list's editor is still open now

    def _on_classes(self) -> None:
        table = self._session.table
        chips = [(item.color, item.class_id, item.name, item.class_id) for item in table.classes]
        self.list.show_chips(chips, table.active)
        with QSignalBlocker(self.list):
            for at in range(self.list.count()):
                chip = self.list.item(at)
                chip.setFlags(chip.flags() | Qt.ItemFlag.ItemIsEditable)
