"""What is learnt from accepted images, in two tabs: for Assist and for Find."""

from __future__ import annotations

from qtpy.QtWidgets import QTabWidget, QToolButton

from ..session.annotator import AnnotationSession
from ..session.learner import Learner
from .learn_panel import LearnForm
from .training_view import percent
from .tune_panel import TuneForm

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
            (TRAIN, session.predictor),
            (TUNE, session.tuner),
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
