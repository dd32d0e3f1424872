"""What is learnt from accepted images, in two tabs: for Assist and for Find."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QCheckBox, QSpinBox, QTabWidget, QToolButton, QVBoxLayout, QWidget

from ...annotation.learners.learner import Learner
from ...annotation.session import AnnotationSession
from ...annotation.settings import MOST_TRAIN_AFTER
from .training_view import TrainingView, Words, accepted, percent, sentence

TUNE_WORDS = Words(
    base="none: the detector as it is",
    in_use="Which tuned detector answers the phrases that it was taught; older ones stay here.",
    begin="Tune now",
    begin_tip="Learn from all accepted images, in the background at low priority.",
)
TUNE_PURPOSE = "After tuning, Find knows your targets by the names of their classes."


class TuneForm(QWidget):
    """The tuned detectors of the open project.

    Args:
        session: whose ``tuner`` is shown.
    """

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__()
        self._session = session
        self.purpose = sentence()
        self.view = TrainingView(session, session.tuning, TUNE_WORDS)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 4, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.purpose)
        layout.addWidget(self.view, 1)
        session.tuning.changed.connect(self.refresh)
        session.prompt_predictor.changed.connect(self.refresh)  # it counts the images
        session.settings_changed.connect(self.refresh)
        session.classes_changed.connect(self.refresh)
        session.opened.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Say what is learnt, and from which detector."""
        base = Path(self._session.settings.detector).name
        parts = [
            TUNE_PURPOSE,
            f"{accepted(self._session)}.",
            f"Base: {base}.",
            self._session.tuning.renamed,
        ]
        self.purpose.setText(" ".join(filter(None, parts)))
        self.view.refresh()


ASSIST_WORDS = Words(
    base="none: the segmenter as it is",
    in_use="Which prompt predictor proposes; older ones stay here.",
    begin="Train now",
    begin_tip="Learn from all accepted images, in the background at low priority.",
)
ASSIST_PURPOSE = "After training, images segment themselves (a prompt predictor, PPN)."


class LearnForm(QWidget):
    """The prompt predictor of the open project.

    Args:
        session: whose ``predictor`` is shown.
    """

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__()
        self._session = session
        self.counts = sentence()
        self.view = TrainingView(session, session.prompt_predictor, ASSIST_WORDS)
        self.after = QSpinBox()
        self.after.setRange(1, MOST_TRAIN_AFTER)
        self.after.setSuffix(" images of a class")
        self.after.setKeyboardTracking(False)
        self.after.setToolTip("So many accepted images of a class are enough to begin learning.")
        self.by_itself = QCheckBox("begin then without asking")
        self.by_itself.setToolTip("Otherwise a line in this dock offers it.")
        self.view.form.addRow("learn after", self.after)
        self.view.form.addRow("", self.by_itself)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 4, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.counts)
        layout.addWidget(self.view, 1)
        self.after.valueChanged.connect(self._on_edited)
        self.by_itself.toggled.connect(self._on_edited)
        session.prompt_predictor.changed.connect(self.refresh)
        session.settings_changed.connect(self.refresh)
        session.classes_changed.connect(self.refresh)
        session.opened.connect(self.refresh)
        self.refresh()

    def _on_edited(self, _: object = None) -> None:
        self._session.set_settings(
            replace(
                self._session.settings,
                train_after=self.after.value(),
                train_by_itself=self.by_itself.isChecked(),
            )
        )

    def refresh(self) -> None:
        """Say how it is."""
        settings = self._session.settings
        self.counts.setText(f"{ASSIST_PURPOSE} {self._counted()}")
        with QSignalBlocker(self.after), QSignalBlocker(self.by_itself):
            self.after.setValue(settings.train_after)
            self.by_itself.setChecked(settings.train_by_itself)
        self.view.refresh()

    def _counted(self) -> str:
        left = self._session.prompt_predictor.until_offer
        more = f" {left} more until it learns." if left else ""
        return f"{accepted(self._session)}.{more}"


TRAIN, TUNE = "Train Assist", "Tune Find"


class LearnPage(QTabWidget):
    """Training of the prompt predictor and tuning of the detector, side by side.

    The name of a tab says how far its training is, whichever tab is shown.

    Args:
        session: whose ``predictor`` and ``tuner`` are shown.
    """

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__()
        self.learn = LearnForm(session)
        self.tune = TuneForm(session)
        self._named: tuple[tuple[str, Learner], ...] = (
            (TRAIN, session.prompt_predictor),
            (TUNE, session.tuning),
        )
        self.addTab(self.learn, TRAIN)
        self.addTab(self.tune, TUNE)
        self.setTabToolTip(0, "Teach the prompt predictor: images then segment themselves.")
        self.setTabToolTip(1, "Teach the detector: Find then knows your targets.")
        self.setDocumentMode(True)
        self.tabBar().setExpanding(True)
        for arrow in self.tabBar().findChildren(QToolButton):  # Qt's own, where room is short
            arrow.setToolTip("Show the other tab.")
        for _, learner in self._named:
            learner.changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Say in the names of the tabs what goes on in them."""
        for index, (name, learner) in enumerate(self._named):
            training = learner.training
            text = name if training is None else f"{name} {percent(training)} %"
            if self.tabText(index) != text:
                self.setTabText(index, text)
