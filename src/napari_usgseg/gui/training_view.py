"""One kind of training of the open project: its versions, its buttons, how far it is."""

from __future__ import annotations

from dataclasses import dataclass

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QLabel,
    QProgressBar,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from ..session.annotator import AnnotationSession
from ..session.learner import Learner
from ..session.training_progress import TrainingProgress
from ..store.versions import ModelVersion
from .curves import Curves
from .parts import button, row

_TOOLTIP = Qt.ItemDataRole.ToolTipRole


@dataclass(frozen=True, slots=True)
class Words:
    """What a view of a learner says.

    Attributes:
        base: what is used where no version is.
        in_use: tooltip of the choice of a version.
        begin: on the button.
        begin_tip: tooltip of the button.
    """

    base: str
    in_use: str
    begin: str
    begin_tip: str


class TrainingView(QWidget):
    """Which version is in use, the buttons of the training, its curves and what came of it.

    Args:
        session: of the learner.
        learner: that is shown.
        words: for it.

    Attributes:
        form: of the versions; more rows may be added.
    """

    def __init__(self, session: AnnotationSession, learner: Learner, words: Words) -> None:
        super().__init__()
        self._learner = learner
        self._words = words
        self.version = QComboBox()
        self.version.setToolTip(words.in_use)
        self.version.setMinimumContentsLength(12)
        self.version.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.train = button("", "", learner.train)
        self.pause = button(
            "Pause", "Stop now; Resume goes on from here.", lambda: learner.cancel(keep=True)
        )
        self.cancel = button(
            "Cancel", "Stop now and throw away what this training learnt.", learner.cancel
        )
        self.why = sentence()
        self.bar = QProgressBar()
        self.bar.setTextVisible(True)
        self.bar.setToolTip("How far the training is. It gives way to all other work.")
        self.curves = Curves()
        self.verdict = sentence()
        self.form = QFormLayout()
        self.form.setContentsMargins(0, 0, 0, 0)
        self.form.setSpacing(3)
        self.form.addRow("in use", self.version)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(self.form)
        layout.addLayout(row(self.train, self.pause, self.cancel, stretch=0))
        for widget in (self.why, self.bar, self.verdict):
            layout.addWidget(widget)
        layout.addWidget(self.curves, 1)
        layout.addStretch(0)
        self.version.activated.connect(self._on_version)
        session.opened.connect(self._on_opened)
        self._on_opened()

    def _on_version(self, index: int) -> None:
        self._learner.choose(self.version.itemData(index))

    def _on_opened(self) -> None:
        self.curves.show_curves((), (), 1)
        self.curves.hide()

    def refresh(self) -> None:
        """Say how it is; to be called whenever that may have changed."""
        learner = self._learner
        self._list_versions()
        self._show_buttons()
        training = learner.training
        self.bar.setVisible(training is not None)
        if training is not None:
            self._show_training(training)
        self.verdict.setText(learner.verdict)
        self.verdict.setVisible(bool(learner.verdict))

    def _list_versions(self) -> None:
        versions, current = self._learner.versions, self._learner.current
        rows: list[tuple[str, int | None, str]] = [(self._words.base, None, "")]
        rows += [(_line(item), item.number, item.measured) for item in reversed(versions)]
        shown = [
            (self.version.itemText(n), self.version.itemData(n))
            for n in range(self.version.count())
        ]
        if shown != [(text, number) for text, number, _ in rows]:
            self.version.clear()
            for text, number, measured in rows:
                self.version.addItem(text, number)
                self.version.setItemData(self.version.count() - 1, measured, _TOOLTIP)
        wanted = None if current is None else current.number
        self.version.setCurrentIndex(self.version.findData(wanted) if wanted else 0)
        self.version.setEnabled(bool(versions))

    def _show_buttons(self) -> None:
        learner, running = self._learner, self._learner.training is not None
        cannot = "" if running else learner.cannot_train
        self.train.setVisible(not running)
        self.pause.setVisible(running)
        self.cancel.setVisible(running or learner.paused)
        self.train.setText("Resume" if learner.paused else self._words.begin)
        self.train.setEnabled(not cannot)
        self.train.setToolTip(cannot or self._words.begin_tip)
        unused = learner.why_not if learner.current is not None else ""
        self.why.setText(cannot or unused)
        self.why.setVisible(bool(cannot or unused))

    def _show_training(self, training: TrainingProgress) -> None:
        again = "going on: " if training.resumed else ""
        self.bar.setRange(0, training.steps)
        self.bar.setValue(training.step)
        share = f", {percent(training)} %" if training.steps else ""
        self.bar.setFormat(f"{again}{training.phase}, {training.images} images{share}")
        if training.losses:
            self.curves.show()
            self.curves.show_curves(training.losses, training.held_out, training.steps)


def percent(training: TrainingProgress) -> int:
    """How far a training is, 0 to 100; 0 as long as its length is not known."""
    return 100 * training.step // training.steps if training.steps else 0


def accepted(session: AnnotationSession) -> str:
    """On how many accepted images each class is: "Accepted images: nodule 12, cyst 3"."""
    names = {item.class_id: item.name for item in session.table.classes}
    counts = sorted(session.predictor.counts.items())
    parts = [f"{names.get(value, value)} {count}" for value, count in counts]
    return "Accepted images: " + (", ".join(parts) or "none yet")


def sentence() -> QLabel:
    """A text that takes as many lines as it needs and asks for no width."""
    made = QLabel()
    made.setWordWrap(True)
    made.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    return made


def _line(item: ModelVersion) -> str:
    images = "1 image" if item.images == 1 else f"{item.images} images"
    refused = "" if item.promoted else ", not promoted"
    return f"v{item.number}: Dice {item.held_out_dice:.2f}, {images}{refused}"
