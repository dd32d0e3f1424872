"""Choose a class, and whether its objects are told apart."""

from __future__ import annotations

from qtpy.QtCore import QSignalBlocker, QSize, Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QLineEdit,
    QListView,
    QListWidget,
    QListWidgetItem,
)

from ..io.instances import LABELLINGS
from ..session.annotator import AnnotationSession
from .parts import Section, button, class_icon, heading, later, row

LABELLING_NAMES = {"semantic": "per class", "instance": "per object"}


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


class ClassPanel(Section):
    """The classes as chips: a click picks one, a double click renames it."""

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__("")
        self._session = session
        self.list = QListWidget()
        self.list.setFlow(QListView.Flow.LeftToRight)
        self.list.setWrapping(True)
        self.list.setResizeMode(QListView.ResizeMode.Adjust)
        self.list.setSpacing(2)
        self.list.setIconSize(QSize(18, 18))
        self.list.setFixedHeight(52)
        self.list.setEditTriggers(QAbstractItemView.EditTrigger.DoubleClicked)
        self.list.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.list.setToolTip("Click: pick this class [Alt+its number]. Double click: rename it.")
        self.list.itemClicked.connect(self._on_clicked)
        self.list.itemChanged.connect(self._on_renamed)
        self.name = QLineEdit()
        self.name.setPlaceholderText("another class")
        self.name.setToolTip("Name a further class; Enter adds it.")
        self.name.returnPressed.connect(self.add)
        self.plus = button("+", "Add the class.", self.add)
        self.plus.setFixedWidth(34)
        self.labelling = LabellingChoice(session)
        head = row(heading("Class"), self.name, self.plus, self.labelling, stretch=1)
        self.body.addLayout(head)
        self.body.addWidget(self.list)
        session.classes_changed.connect(self._on_classes)
        self._on_classes()

    def add(self) -> None:
        """Add a class of the name in the field, or of a number where it is empty."""
        self._session.editing.add_class(self.name.text())
        self.name.clear()
        self.name.clearFocus()

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
