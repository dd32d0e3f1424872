"""Find by a phrase, correct by a prompt."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QDoubleSpinBox,
    QFormLayout,
    QLineEdit,
    QWidget,
)

from ...annotation.session import AnnotationSession
from ...project.versions import ModelVersion
from ..canvas.tools import CanvasTools, Tool
from ..keys import tip
from ..parts import Fold, OneLine, Section, button, heading, row, toggle

NAMES = {
    Tool.POINT: "Point",
    Tool.BOX: "Box",
    Tool.SCRIBBLE: "Scribble",
    Tool.LASSO: "Lasso",
    Tool.MERGE: "Merge",
    Tool.SUBTRACT: "Cut out",
    Tool.SPLIT: "Split",
}
DRAWING = (Tool.POINT, Tool.BOX, Tool.SCRIBBLE, Tool.LASSO)
SHAPING = (Tool.MERGE, Tool.SUBTRACT, Tool.SPLIT)
TIPS = {
    Tool.POINT: (
        "Click on the object. Shift: the other sign. Ctrl: drop what is proposed.",
        "Click: paint on with this label. Shift: delete it. Ctrl: propose it again, to correct it.",
    ),
    Tool.BOX: ("Drag a box around the object.", "Fill a box. Shift: empty it."),
    Tool.SCRIBBLE: (
        "Draw a line along the object. Shift: the other sign.",
        "Draw a stroke as wide as napari's brush. Shift: rub out.",
    ),
    Tool.LASSO: (
        "Draw round the object, or round a part to add. Shift: a part to take away.",
        "Fill what you draw round. Shift: empty it.",
    ),
    Tool.MERGE: (
        "Draw a line over proposed objects: they become one.",
        "Draw a line over accepted objects: they become one.",
    ),
    Tool.SUBTRACT: (
        "Draw from one object to another: the first is cut out of it. Shift: and stays.",
        "Draw from a proposed object to an accepted one: it is cut out of it. Shift: and stays.",
    ),
    Tool.SPLIT: (
        "Draw a line across a proposed object, or click on one that has several pieces.",
        "Draw a line across an accepted object, or click on one that has several pieces.",
    ),
}
"""What a tool does as a prompt or on proposals, and on the accepted labels."""
PLUS = ("Prompts mean: this belongs to it.", "Edits add to the labels.")
MINUS = ("Prompts mean: this does not belong to it.", "Edits take away from the labels.")


class FindPanel(Section):
    """A phrase, the button that looks for it, and its thresholds."""

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__("")
        self._session = session
        self.tuned = OneLine()
        self.body.addLayout(row(heading("Find"), self.tuned, stretch=1))
        self.phrase = QLineEdit()
        self.phrase.setPlaceholderText("what to look for, such as: breast tumor")
        self.phrase.setToolTip(
            "Name what to look for; several things are separated by full stops. Enter finds it."
        )
        self.phrase.returnPressed.connect(self.find)
        self.run = button("Find", tip("Look for the phrase in this image.", "find"), self.find)
        self.body.addLayout(row(self.phrase, self.run, stretch=0))
        copying = session.copying
        self.prompts = button(
            "Same prompts",
            tip("Use the prompts of the previous image on this one.", "copy prompts"),
            copying.prompts,
        )
        self.masks = button(
            "Same masks",
            tip("Begin with the masks of the previous image.", "copy masks"),
            copying.masks,
        )
        self.alike = button(
            "All of this class",
            tip("Look for more objects of the picked class.", "all of this class"),
            copying.alike,
        )
        self.body.addLayout(row(self.prompts, self.masks, self.alike))
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
        session.tuning.changed.connect(self._on_tuner)
        self._on_settings()
        self._on_tuner()

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
            with QSignalBlocker(control):
                control.setValue(0.0 if value is None else value)
        with QSignalBlocker(self.on_open):
            self.on_open.setChecked(settings.find_on_open)

    def _on_tuner(self) -> None:
        """Say which tuned detector is asked, and what for."""
        tuner = self._session.tuning
        version = None if tuner.why_not else tuner.current
        self.tuned.setVisible(version is not None)
        if version is not None:
            phrases = ", ".join(dict.fromkeys(version.classes.values()))
            self.tuned.setText(f"{Path(self._session.settings.detector).name}, {tuned(version)}")
            self.tuned.setToolTip(
                f"{version.badge}. It answers: {phrases}. Other phrases are found as before."
            )


def tuned(version: ModelVersion) -> str:
    """A version of the detector in few words: "tuned v2"."""
    return f"tuned v{version.number}"


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
    """Tools, their sign and what they work on, undo and redo."""

    def __init__(self, session: AnnotationSession, tools: CanvasTools) -> None:
        super().__init__("")
        self._session = session
        self._tools = tools
        self.on_proposal = toggle(
            "Prompt",
            tip("Tools point at objects; a model proposes their masks.", "prompt or edit labels"),
            lambda: tools.set_on_labels(False),
        )
        self.on_labels = toggle(
            "Edit labels",
            tip("Tools change the accepted labels themselves.", "prompt or edit labels"),
            lambda: tools.set_on_labels(True),
        )
        self.plus = toggle("+", "", lambda: tools.set_positive(True))
        self.minus = toggle("−", "", lambda: tools.set_positive(False))
        for first, second in ((self.on_proposal, self.on_labels), (self.plus, self.minus)):
            pair = QButtonGroup(self)
            pair.addButton(first)
            pair.addButton(second)
        for sign in (self.plus, self.minus):
            sign.setFixedWidth(34)
        self.tools = {
            tool: toggle(name, "", partial(self._arm, tool)) for tool, name in NAMES.items()
        }
        self.paint = toggle(
            "Paint",
            tip("Paint by hand on the accepted labels, or stop painting.", "paint by hand"),
            tools.paint_by_hand,
        )
        self.undo = button("Undo", tip("Take the last step back.", "undo"), session.undo)
        self.redo = button("Redo", tip("Do the undone step again.", "redo"), session.redo)
        self.clear = button(
            "Clear",
            tip("Take away what is proposed.", "clear prompts"),
            session.prompting.clear_prompts,
        )
        self._lay_out()
        tools.changed.connect(self._on_tools)
        session.proposal_changed.connect(self._on_history)
        session.labels_changed.connect(self._on_history)
        session.classes_changed.connect(self._on_history)
        session.states_changed.connect(self._on_history)
        self._on_tools()
        self._on_history()

    def _lay_out(self) -> None:
        drawing = [self.tools[tool] for tool in DRAWING]
        shaping = [self.tools[tool] for tool in SHAPING]
        head = heading("Correct")
        self.body.addLayout(row(head, self.on_proposal, self.on_labels, self.plus, self.minus))
        self.body.addLayout(row(*drawing, self.paint))
        self.body.addLayout(row(*shaping, self.undo, self.redo, self.clear))

    def _arm(self, tool: Tool) -> None:
        armed = self._tools.tool is tool and not self._tools.layer_draws
        self._tools.arm(Tool.NONE if armed else tool)

    def _on_tools(self) -> None:
        on_labels = self._tools.on_labels
        self.paint.setChecked(self._tools.paints)
        for tool, control in self.tools.items():
            control.setChecked(tool is self._tools.tool and not self._tools.layer_draws)
            control.setToolTip(tip(TIPS[tool][on_labels], tool.value))
        self.on_proposal.setChecked(not on_labels)
        self.on_labels.setChecked(on_labels)
        self.plus.setChecked(self._tools.positive)
        self.minus.setChecked(not self._tools.positive)
        for sign, sentences in ((self.plus, PLUS), (self.minus, MINUS)):
            sign.setToolTip(tip(sentences[on_labels], "positive or negative"))

    def _on_history(self) -> None:
        undo, redo = self._session.undo_stack.next_undo, self._session.undo_stack.next_redo
        self.undo.setEnabled(undo is not None)
        self.redo.setEnabled(redo is not None)
        self.undo.setToolTip(tip(f"Take back: {undo.name if undo else 'nothing'}.", "undo"))
        self.redo.setToolTip(tip(f"Do again: {redo.name if redo else 'nothing'}.", "redo"))
        self.clear.setEnabled(bool(self._session.proposal.objects))
