"""The detector learns the project's own targets from what was accepted."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import QVBoxLayout, QWidget

from ..session.annotator import AnnotationSession
from .training_view import TrainingView, Words, accepted, sentence

WORDS = Words(
    base="none: the detector as it is",
    in_use="Which tuned detector answers the phrases that it was taught; older ones stay here.",
    begin="Tune now",
    begin_tip="Learn from all accepted images, in the background at low priority.",
)
PURPOSE = "After tuning, Find knows your targets by the names of their classes."


class TuneForm(QWidget):
    """The tuned detectors of the open project.

    Args:
        session: whose ``tuner`` is shown.
    """

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__()
        self._session = session
        self.purpose = sentence()
        self.view = TrainingView(session, session.tuner, WORDS)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 4, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.purpose)
        layout.addWidget(self.view, 1)
        session.tuner.changed.connect(self.refresh)
        session.predictor.changed.connect(self.refresh)  # it counts the images
        session.settings_changed.connect(self.refresh)
        session.classes_changed.connect(self.refresh)
        session.opened.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Say what is learnt, and from which detector."""
        base = Path(self._session.settings.detector).name
        parts = [
            PURPOSE,
            f"{accepted(self._session)}.",
            f"Base: {base}.",
            self._session.tuner.renamed,
        ]
        self.purpose.setText(" ".join(filter(None, parts)))
        self.view.refresh()
