"""The prompt predictor learns from what was accepted: how far it is, and when it begins."""

from __future__ import annotations

from dataclasses import replace

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QCheckBox, QSpinBox, QVBoxLayout, QWidget

from ..session.annotator import AnnotationSession
from ..session.settings import MOST_TRAIN_AFTER
from .training_view import TrainingView, Words, accepted, sentence

WORDS = Words(
    base="none: the segmenter as it is",
    in_use="Which prompt predictor proposes; older ones stay here.",
    begin="Train now",
    begin_tip="Learn from all accepted images, in the background at low priority.",
)
PURPOSE = "After training, images segment themselves (a prompt predictor, PPN)."


class LearnForm(QWidget):
    """The prompt predictor of the open project.

    Args:
        session: whose ``predictor`` is shown.
    """

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__()
        self._session = session
        self.counts = sentence()
        self.view = TrainingView(session, session.predictor, WORDS)
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
        session.predictor.changed.connect(self.refresh)
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
        self.counts.setText(f"{PURPOSE} {self._counted()}")
        with QSignalBlocker(self.after), QSignalBlocker(self.by_itself):
            self.after.setValue(settings.train_after)
            self.by_itself.setChecked(settings.train_by_itself)
        self.view.refresh()

    def _counted(self) -> str:
        left = self._session.predictor.until_offer
        more = f" {left} more until it learns." if left else ""
        return f"{accepted(self._session)}.{more}"
