"""Choose a class, and whether its objects are told apart."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QSignalBlocker, QSize, Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QLineEdit,
    QListView,
    QListWidget,
    QListWidgetItem,
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
    """The classes as chips.

    ``given`` carries the class that was clicked with Shift, ``deleted`` the one that the Delete key
    was pressed on.
    """

    given = Signal(int)
    deleted = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.setFlow(QListView.Flow.LeftToRight)
        self.setWrapping(True)
        self.setResizeMode(QListView.ResizeMode.Adjust)
        self.setSpacing(2)
        self.setIconSize(QSize(ICON_SIDE, ICON_SIDE))
        self.setFixedHeight(52)
        self.setEditTriggers(QAbstractItemView.EditTrigger.DoubleClicked)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)

    def mousePressEvent(self, event: Any) -> None:  # noqa: N802
        """With Shift the class is given to an object, and the picked one stays."""
        item = self.itemAt(event.pos())
        if item is not None and event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
            self.given.emit(item.data(Qt.ItemDataRole.UserRole))
            return
        super().mousePressEvent(event)

    def mouseReleaseEvent(self, event: Any) -> None:  # noqa: N802
        """The end of a click with Shift picks nothing either."""
        if not event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
            super().mouseReleaseEvent(event)

    def keyPressEvent(self, event: Any) -> None:  # noqa: N802
        """Delete takes the picked class away; all other keys are the list's."""
        item = self.currentItem()
        if item is not None and event.key() == Qt.Key.Key_Delete:
            self.deleted.emit(item.data(Qt.ItemDataRole.UserRole))
        else:
            super().keyPressEvent(event)


class ClassPanel(Section):
    """The classes: a click picks one, with Shift it is the object's, a double click renames it."""

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__()
        self._session = session
        self.list = Chips()
        explain(self.list, "class of the object", CHIPS)
        self.list.itemClicked.connect(self._on_clicked)
        self.list.given.connect(session.editing.give_class)
        self.list.deleted.connect(session.editing.delete_class)
        self.list.itemChanged.connect(self._on_renamed)
        self.name = QLineEdit()
        self.name.setPlaceholderText("another class")
        self.name.setToolTip("Name a further class; Enter adds it.")
        self.name.returnPressed.connect(self.add)
        self.plus = button("+", "Add the class.", self.add)
        self.minus = button("−", "Delete the picked class, if no image has it.", self.delete)
        for control in (self.plus, self.minus):
            control.setFixedWidth(34)
        self.labelling = LabellingChoice(session)
        head = row(heading("Class"), self.name, self.plus, self.minus, self.labelling, stretch=1)
        self.body.addLayout(head)
        self.body.addWidget(self.list)
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
        with QSignalBlocker(self.list):
            self.list.clear()
            for item in self._session.table.classes:
                chip = QListWidgetItem(class_icon(item.color, item.class_id), item.name)
                chip.setData(Qt.ItemDataRole.UserRole, item.class_id)
                chip.setFlags(chip.flags() | Qt.ItemFlag.ItemIsEditable)
                self.list.addItem(chip)
                if item.class_id == self._session.table.active:
                    self.list.setCurrentItem(chip)
