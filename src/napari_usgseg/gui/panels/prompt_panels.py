"""Panels of labelling: the mode of assistance, finding by a phrase, correction by prompts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import (
    QButtonGroup,
    QLineEdit,
    QSizePolicy,
    QSpinBox,
    QStackedWidget,
    QWidget,
)

from ...annotation.session import AnnotationSession
from ...annotation.settings import Mode
from ...models.grounding.phrases import as_phrase
from ...project.records import ProposedObject
from ...project.versions import ModelVersion, tuned_number_in
from ..canvas.tools import CanvasTools, Tool
from ..forms import SettingsForm
from ..keys import explain
from ..parts import Fold, Section, button, heading, one_line, row, toggle

MODES = {
    Mode.AUTONOMOUS: "Autonomous",
    Mode.SEMI: "Semi",
    Mode.MANUAL: "Manual",
}
MODE_HELP = {
    Mode.AUTONOMOUS: "Autonomous: images segment themselves as they open, as your accepted images "
    "taught it; your prompts correct that.",
    Mode.SEMI: "Semi: nothing appears by itself; what was learnt joins in when you click or draw.",
    Mode.MANUAL: "Manual: only what you ask for, by a phrase, a click or a line.",
}
PROPOSE_HELP = (
    "Segment this image by what was learnt, also where something was done on it before. What you "
    "pointed at or drew stays."
)
NOBODY = "Only what you ask for is segmented"
BY_PHRASE = "Found by the phrase '{phrase}'"
BY_HAND = "By hand"
BY_PERSON = "From your own prompts"


class ModePanel(Section):
    """The switch of the three modes, a badge that says who proposed what is shown, and an offer.

    Args:
        session: whose ``prompt_predictor`` is switched.
    """

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__()
        self._session = session
        self.modes = {
            mode: toggle(name, "", partial(session.prompt_predictor.set_mode, mode))
            for mode, name in MODES.items()
        }
        group = QButtonGroup(self)
        for control in self.modes.values():
            group.addButton(control)
        self.badge = one_line()
        self.propose = button("Propose", "", session.prompt_predictor.propose)
        self.offer = one_line()
        self.train = button(
            "Train",
            "Learn from all accepted images, in the background.",
            session.prompt_predictor.train,
        )
        self.later = button(
            "Not now", "Ask again after some more images.", session.prompt_predictor.dismiss
        )
        self.offer_line = QWidget()
        line = row(self.offer, self.train, self.later, stretch=0)
        line.setContentsMargins(0, 0, 0, 0)
        self.offer_line.setLayout(line)
        self.body.addLayout(row(heading("Assist"), *self.modes.values()))
        self.badge_line = QWidget()
        line = row(self.badge, self.propose, stretch=0)
        line.setContentsMargins(0, 0, 0, 0)
        self.badge_line.setLayout(line)
        self.badge_or_offer = QStackedWidget()  # one place for both: nothing below moves
        self.badge_or_offer.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.badge_or_offer.addWidget(self.badge_line)
        self.badge_or_offer.addWidget(self.offer_line)
        self.body.addWidget(self.badge_or_offer)
        session.prompt_predictor.changed.connect(self.refresh)
        session.proposal_changed.connect(self.refresh)
        session.settings_changed.connect(self.refresh)
        session.opened.connect(self.refresh)
        self.refresh()

    def cycle(self) -> None:
        """Go on to the next mode that can be used."""
        if not self._session.prompt_predictor.off:
            modes = list(Mode)
            at = modes.index(self._session.prompt_predictor.mode)
            self._session.prompt_predictor.set_mode(modes[(at + 1) % len(modes)])

    def refresh(self) -> None:
        """Say how it is."""
        predictor = self._session.prompt_predictor
        why_not = predictor.off
        shown = Mode.MANUAL if why_not else predictor.mode
        for mode, control in self.modes.items():
            control.setChecked(mode is shown)
            control.setEnabled(mode is Mode.MANUAL or not why_not)
            off = f" {why_not}" if why_not and mode is not Mode.MANUAL else ""
            explain(control, "mode of assistance", f"{MODE_HELP[mode]}{off}")
        text = self._badge()
        self.badge.setText(text)
        self.badge.setToolTip(text)
        self.propose.setEnabled(not why_not)
        self.propose.setToolTip(why_not or PROPOSE_HELP)
        offer = predictor.offer
        self.offer.setText(offer)
        self.offer.setToolTip(offer)
        self.badge_or_offer.setCurrentIndex(int(bool(offer)))

    def _badge(self) -> str:
        """Who made what is proposed; where nothing is, who will."""
        session = self._session
        predictor = session.prompt_predictor
        shown = [item for item in session.proposal.objects if item.has_mask]
        if not shown:
            if predictor.off or predictor.mode is Mode.MANUAL:
                return NOBODY
            return f"Ready: {predictor.made_by(predictor.number)}"
        parts = [self._maker(item) for item in shown]
        return "; ".join(dict.fromkeys(parts))

    def _maker(self, item: ProposedObject) -> str:
        session = self._session
        prompted = not item.prompts.is_empty
        if item.ppn:
            learned = session.prompt_predictor.made_by(item.ppn)
            return f"{learned}, with your prompts" if prompted else learned
        if item.by_hand:
            return BY_HAND
        phrase = "" if item.proposal is None else item.proposal.phrase
        if not phrase or prompted:
            return BY_PERSON
        return BY_PHRASE.format(phrase=phrase) + self._tuned(phrase)

    def _tuned(self, phrase: str) -> str:
        """Which tuned detector was asked; it answers for what it was taught only."""
        tuning = self._session.tuning
        version = tuning.get(tuned_number_in(self._session.proposal.model_id))
        if version is None:
            return ""
        taught = {as_phrase(name) for name in version.classes.values()}
        return f", {tuned(version)}" if as_phrase(phrase) in taught else ""


NAMES = {
    Tool.POINT: "Point",
    Tool.BOX: "Box",
    Tool.SCRIBBLE: "Scribble",
    Tool.LASSO: "Lasso",
    Tool.TRACE: "Trace",
    Tool.MERGE: "Merge",
    Tool.SUBTRACT: "Cut out",
    Tool.SPLIT: "Split",
}
DRAWING = (Tool.POINT, Tool.BOX, Tool.SCRIBBLE, Tool.LASSO, Tool.TRACE)
SHAPING = (Tool.MERGE, Tool.SUBTRACT, Tool.SPLIT)
EDITS = {
    Tool.POINT: "Click: paint on with this label. Shift: delete it. Ctrl: propose it again, to "
    "correct it.",
    Tool.BOX: "Fill a box. Shift: empty it.",
    Tool.SCRIBBLE: "Draw a stroke as wide as napari's brush. Shift: rub out.",
    Tool.LASSO: "Fill what you draw round. Shift: empty it.",
    Tool.TRACE: "Click along a bright line: a band as wide as a stroke. Alt: a dark line. Shift: "
    "rub out.",
    Tool.MERGE: "Draw a line over accepted objects: they become one.",
    Tool.SUBTRACT: "Draw from a proposed object to an accepted one: it is cut out of it. Shift: "
    "and stays.",
    Tool.SPLIT: "Draw a line across an accepted object, or click on one that has several pieces.",
}
"""What a tool does on the accepted labels; its key's help says what it does on proposals."""
PLUS = ("Prompts mean: this belongs to it.", "Edits add to the labels.")
BY_MODEL = (
    "A model makes a mask of what scribble and lasso point at.",
    "The accepted labels are edited as drawn.",
)
AS_DRAWN = (
    "What scribble and lasso draw is taken as it is, no model asked.",
    "The accepted labels are edited as drawn.",
)
WIDEST = 500
MINUS = ("Prompts mean: this does not belong to it.", "Edits take away from the labels.")


THRESHOLD = {"max": 1.0, "step": 0.05, "none": "the model's own"}


@dataclass(frozen=True)
class Thresholds:
    """Settings of finding."""

    box_threshold: Annotated[
        float | None,
        {**THRESHOLD, "tooltip": "A box scored below this is not shown; lower it to find more."},
    ]
    text_threshold: Annotated[
        float | None, {**THRESHOLD, "tooltip": "A word scored below this does not name a box."}
    ]
    find_on_open: Annotated[
        bool,
        {
            "label": "find on each new image as it opens",
            "tooltip": "Looks for the phrase by itself on every image without labels.",
        },
    ]


class FindPanel(Section):
    """A phrase, the button that looks for it, and its thresholds."""

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__()
        self._session = session
        self.tuned = one_line()
        self.body.addLayout(row(heading("Find"), self.tuned, stretch=1))
        self.phrase = QLineEdit()
        self.phrase.setPlaceholderText("what to look for, such as: breast tumor")
        self.phrase.setToolTip(
            "Name what to look for; several things are separated by full stops. Enter finds it."
        )
        self.phrase.returnPressed.connect(self.find)
        self.run = explain(button("Find", "", self.find), "find")
        self.body.addLayout(row(self.phrase, self.run, stretch=0))
        copying = session.copying
        self.prompts = explain(button("Copy prompts", "", copying.prompts), "copy prompts")
        self.masks = explain(button("Copy masks", "", copying.masks), "copy masks")
        self.alike = explain(button("Find alike", "", copying.alike), "find alike")
        self.body.addLayout(row(self.prompts, self.masks, self.alike))
        self.thresholds = SettingsForm(session, Thresholds)
        self.fold = Fold("thresholds", "How sure the detector must be.", self.thresholds)
        self.body.addWidget(self.fold)
        session.settings_changed.connect(self._on_settings)
        session.tuning.changed.connect(self._on_tuning)
        self._on_settings()
        self._on_tuning()

    def find(self) -> None:
        """Look for what is in the field."""
        self._session.prompting.find(self.phrase.text())
        self.phrase.clearFocus()  # so that the next key is a shortcut

    def _on_settings(self) -> None:
        if not self.phrase.hasFocus():
            self.phrase.setText(self._session.settings.phrase)

    def _on_tuning(self) -> None:
        """Say which tuned detector is asked, and what for."""
        tuning = self._session.tuning
        version = None if tuning.why_not else tuning.current
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


class CorrectPanel(Section):
    """Tools, their sign and what they work on, undo and redo."""

    def __init__(self, session: AnnotationSession, tools: CanvasTools) -> None:
        super().__init__()
        self._session = session
        self._tools = tools
        self.on_proposal = explain(
            toggle("Prompt", "", partial(tools.set_on_labels, False)),
            "prompt or edit labels",
            "Tools point at objects; a model proposes their masks.",
        )
        self.on_labels = explain(
            toggle("Edit labels", "", partial(tools.set_on_labels, True)),
            "prompt or edit labels",
            "Tools change the accepted labels themselves.",
        )
        self.plus = toggle("+", "", partial(tools.set_positive, True))
        self.minus = toggle("−", "", partial(tools.set_positive, False))
        self.by_model = toggle("By the model", "", partial(tools.set_as_drawn, False))
        self.as_drawn = toggle("As drawn", "", partial(tools.set_as_drawn, True))
        pairs = (
            (self.on_proposal, self.on_labels),
            (self.plus, self.minus),
            (self.by_model, self.as_drawn),
        )
        for first, second in pairs:
            pair = QButtonGroup(self)
            pair.addButton(first)
            pair.addButton(second)
        for sign in (self.plus, self.minus):
            sign.setFixedWidth(34)
        self.tools = {
            tool: toggle(name, "", partial(self._arm, tool)) for tool, name in NAMES.items()
        }
        self.paint = explain(toggle("Paint", "", tools.paint_by_hand), "paint by hand")
        self.width = QSpinBox()
        self.width.setRange(1, WIDEST)
        self.width.setSuffix(" px")
        self.width.setToolTip(
            "How wide a stroke as drawn is, and napari's brush, in pixels of the image."
        )
        self.width.valueChanged.connect(tools.set_width)
        self.undo = button("Undo", "", session.undo)
        self.redo = button("Redo", "", session.redo)
        self.clear = explain(button("Clear", "", session.prompting.clear_prompts), "clear prompts")
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
        self.body.addLayout(row(self.by_model, self.as_drawn, self.width))
        self.body.addLayout(row(*shaping, self.undo, self.redo, self.clear))

    def _arm(self, tool: Tool) -> None:
        self._tools.arm(tool)  # once more too: a tool is put down by taking another one

    def _on_tools(self) -> None:
        on_labels = self._tools.on_labels
        self.paint.setChecked(self._tools.paints)
        for tool, control in self.tools.items():
            control.setChecked(tool is self._tools.tool and not self._tools.layer_draws)
            explain(control, tool.value, EDITS[tool] if on_labels else "")
        self.on_proposal.setChecked(not on_labels)
        self.on_labels.setChecked(on_labels)
        as_drawn = on_labels or self._tools.as_drawn
        self.by_model.setChecked(not as_drawn)
        self.as_drawn.setChecked(as_drawn)
        self.by_model.setEnabled(not on_labels)
        for control, sentences in ((self.by_model, BY_MODEL), (self.as_drawn, AS_DRAWN)):
            explain(control, "by the model or as drawn", sentences[on_labels])
        with QSignalBlocker(self.width):
            self.width.setValue(round(self._tools.width))
        self.plus.setChecked(self._tools.positive)
        self.minus.setChecked(not self._tools.positive)
        for sign, sentences in ((self.plus, PLUS), (self.minus, MINUS)):
            explain(sign, "positive or negative", sentences[on_labels])

    def _on_history(self) -> None:
        undo, redo = self._session.undo_stack.next_undo, self._session.undo_stack.next_redo
        self.undo.setEnabled(undo is not None)
        self.redo.setEnabled(redo is not None)
        explain(self.undo, "undo", f"Take back: {undo.name if undo else 'nothing'}.")
        explain(self.redo, "redo", f"Do again: {redo.name if redo else 'nothing'}.")
        self.clear.setEnabled(bool(self._session.proposal.objects))
