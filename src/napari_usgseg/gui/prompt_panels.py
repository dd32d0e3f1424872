"""Find by a phrase, correct by a prompt, choose a class."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QButtonGroup,
    QCheckBox,
    QDoubleSpinBox,
    QFormLayout,
    QLineEdit,
    QListView,
    QListWidget,
    QListWidgetItem,
    QWidget,
)

from ..session.annotator import AnnotationSession
from .parts import Fold, Section, button, class_icon, later, row, tip, toggle
from .tools import CanvasTools, Tool


class FindPanel(Section):
    """A phrase, the button that looks for it, and its thresholds."""

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__("Find")
        self._session = session
        self.phrase = QLineEdit()
        self.phrase.setPlaceholderText("what to look for, such as: breast tumor")
        self.phrase.setToolTip(
            "Name what to look for; several things are separated by full stops. Enter finds it."
        )
        self.phrase.returnPressed.connect(self.find)
        self.run = button("Find", tip("Look for the phrase in this image.", "find"), self.find)
        self.body.addLayout(row(self.phrase, self.run, stretch=0))
        self.box = _threshold("A box scored below this is not shown; lower it to find more.")
        self.text = _threshold("A word scored below this does not name a box.")
        self.on_open = QCheckBox("find on each new image as it opens")
        self.on_open.setToolTip("Looks for the phrase by itself on every image without labels.")
        form = QFormLayout()
        form.setContentsMargins(12, 0, 0, 0)
        form.addRow("box threshold", self.box)
        form.addRow("text threshold", self.text)
        form.addRow(self.on_open)
        content = QWidget()
        content.setLayout(form)
        self.fold = Fold("thresholds", "How sure the detector must be.", content)
        self.body.addWidget(self.fold)
        for control in (self.box, self.text):
            control.valueChanged.connect(self._on_edited)
        self.on_open.toggled.connect(self._on_edited)
        session.settings_changed.connect(self._on_settings)
        self._on_settings()

    def find(self) -> None:
        """Look for what is in the field."""
        self._session.prompting.find(self.phrase.text())
        self.phrase.clearFocus()  # so that the next key is a shortcut

    def _on_edited(self, _: Any = None) -> None:
        self._session.set_settings(
            replace(
                self._session.settings,
                box_threshold=_value(self.box),
                text_threshold=_value(self.text),
                find_on_open=self.on_open.isChecked(),
            )
        )

    def _on_settings(self) -> None:
        settings = self._session.settings
        if not self.phrase.hasFocus():
            self.phrase.setText(settings.phrase)
        for control, value in (
            (self.box, settings.box_threshold),
            (self.text, settings.text_threshold),
        ):
            control.blockSignals(True)
            control.setValue(0.0 if value is None else value)
            control.blockSignals(False)
        self.on_open.blockSignals(True)
        self.on_open.setChecked(settings.find_on_open)
        self.on_open.blockSignals(False)


def _threshold(tooltip: str) -> QDoubleSpinBox:
    made = QDoubleSpinBox()
    made.setRange(0.0, 1.0)
    made.setSingleStep(0.05)
    made.setDecimals(2)
    made.setSpecialValueText("the model's own")
    made.setKeyboardTracking(False)
    made.setToolTip(tooltip)
    return made


def _value(control: QDoubleSpinBox) -> float | None:
    return control.value() or None


class CorrectPanel(Section):
    """Tools, the sign, undo and redo."""

    def __init__(self, session: AnnotationSession, tools: CanvasTools) -> None:
        super().__init__("Correct")
        self._session = session
        self._tools = tools
        self.tools = {
            Tool.POINT: toggle(
                "Point",
                tip(
                    "Click on the object. Shift: the other sign. Ctrl: drop what is proposed.",
                    "point",
                ),
                lambda: self._arm(Tool.POINT),
            ),
            Tool.BOX: toggle(
                "Box", tip("Drag a box around the object.", "box"), lambda: self._arm(Tool.BOX)
            ),
            Tool.SCRIBBLE: toggle(
                "Scribble",
                tip("Draw a line along the object.", "scribble"),
                lambda: self._arm(Tool.SCRIBBLE),
            ),
        }
        self.plus = toggle(
            "+",
            tip("Prompts mean: this belongs to it.", "positive or negative"),
            lambda: tools.set_positive(True),
        )
        self.minus = toggle(
            "−",
            tip("Prompts mean: this does not belong to it.", "positive or negative"),
            lambda: tools.set_positive(False),
        )
        signs = QButtonGroup(self)
        for sign in (self.plus, self.minus):
            sign.setFixedWidth(34)
            signs.addButton(sign)
        self.body.addLayout(row(*self.tools.values(), self.plus, self.minus))
        self.undo = button("Undo", tip("Take the last step back.", "undo"), session.undo)
        self.redo = button("Redo", tip("Do the undone step again.", "redo"), session.redo)
        self.clear = button(
            "Clear",
            tip("Take away what is proposed.", "clear prompts"),
            session.prompting.clear_prompts,
        )
        self.paint = button(
            "Paint",
            tip("Paint by hand on the accepted labels, or stop painting.", "paint by hand"),
            tools.paint_by_hand,
        )
        self.body.addLayout(row(self.undo, self.redo, self.clear, self.paint))
        tools.changed.connect(self._on_tools)
        session.draft_changed.connect(self._on_history)
        session.labels_changed.connect(self._on_history)
        session.classes_changed.connect(self._on_history)
        session.states_changed.connect(self._on_history)
        self._on_tools()
        self._on_history()

    def _arm(self, tool: Tool) -> None:
        self._tools.arm(Tool.NONE if self._tools.tool is tool else tool)

    def _on_tools(self) -> None:
        for tool, control in self.tools.items():
            control.setChecked(tool is self._tools.tool)
        self.plus.setChecked(self._tools.positive)
        self.minus.setChecked(not self._tools.positive)

    def _on_history(self) -> None:
        undo, redo = self._session.history.next_undo, self._session.history.next_redo
        self.undo.setEnabled(undo is not None)
        self.redo.setEnabled(redo is not None)
        self.undo.setToolTip(tip(f"Take back: {undo.name if undo else 'nothing'}.", "undo"))
        self.redo.setToolTip(tip(f"Do again: {redo.name if redo else 'nothing'}.", "redo"))
        self.clear.setEnabled(bool(self._session.draft.objects))


class ClassPanel(Section):
    """The classes as chips: a click picks one, a double click renames it."""

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__("Class")
        self._session = session
        self.list = QListWidget()
        self.list.setFlow(QListView.Flow.LeftToRight)
        self.list.setWrapping(True)
        self.list.setResizeMode(QListView.ResizeMode.Adjust)
        self.list.setSpacing(2)
        self.list.setIconSize(QSize(18, 18))
        self.list.setFixedHeight(58)
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
        self.body.addWidget(self.list)
        self.body.addLayout(row(self.name, self.plus, stretch=0))
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
        self.list.blockSignals(True)
        self.list.clear()
        for item in self._session.table.classes:
            chip = QListWidgetItem(class_icon(item.color, item.class_id), item.name)
            chip.setData(Qt.ItemDataRole.UserRole, item.class_id)
            chip.setFlags(chip.flags() | Qt.ItemFlag.ItemIsEditable)
            self.list.addItem(chip)
            if item.class_id == self._session.table.active:
                self.list.setCurrentItem(chip)
        self.list.blockSignals(False)
