"""Training on accepted images: the prompt predictor in one tab, the detector in the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPalette, QPen, QPolygonF
from qtpy.QtWidgets import (
    QComboBox,
    QLabel,
    QProgressBar,
    QSizePolicy,
    QTabWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from ...annotation.learners.learner import Learner
from ...annotation.learners.training import TrainingProgress
from ...annotation.session import AnnotationSession
from ...annotation.settings import MOST_TRAIN_AFTER
from ...project.versions import ModelVersion
from ..forms import SettingsForm
from ..parts import button, row

Points = Sequence[tuple[int, float]]
"""(step, value), by rising step."""

LOSS, DICE = "#e69f00", "#56b4e9"
MARGIN, DOT = 5.0, 3.5
MOST_POINTS = 400
"""More are drawn as the mean of neighbours, for each repaint is on the thread of the window."""


class Curves(QWidget):
    """Losses on a scale of their own, held-out Dice from 0 to 1.

    The scale of losses begins at 0 and ends at the highest that is drawn.
    """

    def __init__(self) -> None:
        super().__init__()
        self.losses: Points = ()
        self.dices: Points = ()
        self.steps = 1
        self.setMinimumHeight(110)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Expanding)
        self.setToolTip(
            "Orange: the loss, from 0 to its highest. Blue: Dice from 0 to 1, on images that were "
            "not learnt from."
        )

    def show_curves(self, losses: Points, dices: Points, steps: int) -> None:
        """Draw these points of a training of so many steps."""
        self.losses, self.dices, self.steps = losses, dices, max(steps, 1)
        self.update()

    def legend(self) -> list[tuple[str, str]]:
        """The newest values in words, and their colours."""
        loss = f"loss {self.losses[-1][1]:.3g}" if self.losses else "loss"
        dice = f"held-out Dice {self.dices[-1][1]:.2f}" if self.dices else "held-out Dice"
        return [(loss, LOSS), (dice, DICE)]

    def sizeHint(self) -> QSize:  # noqa: N802
        """As wide as there is room, and not high."""
        return QSize(240, 130)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Frame, half-way line, both curves, the newest values."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        line = painter.fontMetrics().lineSpacing()
        field = QRectF(self.rect()).adjusted(0.5, line + MARGIN, -0.5, -0.5)
        grid = QColor(self.palette().color(QPalette.ColorRole.WindowText))
        grid.setAlpha(70)
        painter.setPen(grid)
        painter.drawRect(field)
        painter.drawLine(
            QPointF(field.left(), field.center().y()), QPointF(field.right(), field.center().y())
        )
        inner = field.adjusted(MARGIN, MARGIN, -MARGIN, -MARGIN)
        top = max((value for _, value in self.losses), default=1.0) or 1.0
        for points, color, high in ((self.losses, LOSS, top), (self.dices, DICE, 1.0)):
            places = placed(thinned(points), self.steps, high, inner)
            painter.setPen(QPen(QColor(color), 1.8))
            painter.drawPolyline(QPolygonF(places))
            painter.setBrush(QColor(color))
            for place in places if points is self.dices else places[-1:]:
                painter.drawEllipse(place, DOT, DOT)
            painter.setBrush(Qt.BrushStyle.NoBrush)
        self._write_legend(painter)
        painter.end()

    def _write_legend(self, painter: QPainter) -> None:
        text = self.palette().color(QPalette.ColorRole.WindowText)
        at = QPointF(DOT, painter.fontMetrics().lineSpacing() / 2 + 1)
        for words, color in self.legend():
            painter.setPen(QColor(color))
            painter.setBrush(QColor(color))
            painter.drawEllipse(at, DOT, DOT)
            painter.setPen(text)
            at += QPointF(2 * DOT + 2, 0)
            painter.drawText(QPointF(at.x(), painter.fontMetrics().ascent()), words)
            at += QPointF(painter.fontMetrics().horizontalAdvance(words) + 14, 0)


def thinned(points: Points) -> Points:
    """At most ``MOST_POINTS``: the means of neighbours, in their order."""
    if len(points) <= MOST_POINTS:
        return points
    size = -(-len(points) // MOST_POINTS)
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    return [(part[-1][0], sum(value for _, value in part) / len(part)) for part in parts]


def placed(points: Points, steps: int, high: float, field: QRectF) -> list[QPointF]:
    """Where points are in a field whose width is ``steps`` and whose height is ``high``."""
    return [
        QPointF(
            field.left() + field.width() * min(step / steps, 1.0),
            field.bottom() - field.height() * min(max(value / high, 0.0), 1.0),
        )
        for step, value in points
    ]


BEGIN = "Learn from all accepted images, in the background at low priority."


class LearnerTab(QWidget):
    """Which version is in use, the buttons of a training, its curves and what came of it.

    Args:
        session: of the learner.
        learner: that is shown.
        purpose: gives the sentence that says what is learnt, and from what.
        settings: of the learner, below its versions.

    Attributes:
        base: what is used where no version is.
        in_use: tooltip of the choice of a version.
        begin: on the button.
    """

    base = in_use = begin = ""

    def __init__(
        self,
        session: AnnotationSession,
        learner: Learner,
        purpose: Callable[[], str],
        settings: QWidget | None = None,
    ) -> None:
        super().__init__()
        self._session = session
        self._learner = learner
        self.purpose = _sentence()
        self._purpose = purpose
        self.version = QComboBox()
        self.version.setToolTip(self.in_use)
        self.version.setMinimumContentsLength(10)
        self.version.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.train = button("", "", learner.train)
        self.pause = button(
            "Pause", "Stop now; Resume goes on from here.", partial(learner.cancel, keep=True)
        )
        self.cancel = button(
            "Cancel", "Stop now and throw away what this training learnt.", learner.cancel
        )
        self.why = _sentence()
        self.bar = QProgressBar()
        self.bar.setTextVisible(True)
        self.bar.setToolTip("How far the training is. It gives way to all other work.")
        self.curves = Curves()
        self.verdict = _sentence()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 4, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.purpose)
        layout.addLayout(row(QLabel("in use"), self.version, stretch=1))
        if settings is not None:
            layout.addWidget(settings)
        layout.addLayout(row(self.train, self.pause, self.cancel, stretch=0))
        for widget in (self.why, self.bar, self.verdict):
            layout.addWidget(widget)
        layout.addWidget(self.curves, 1)
        layout.addStretch(0)
        self.version.activated.connect(self._on_version)
        session.opened.connect(self._on_opened)
        for signal in (
            session.prompt_predictor.changed,  # it counts the images for both
            session.tuning.changed,
            session.settings_changed,
            session.classes_changed,
            session.opened,
        ):
            signal.connect(self.refresh)
        self._on_opened()
        self.refresh()

    def _on_version(self, index: int) -> None:
        self._learner.choose(self.version.itemData(index))

    def _on_opened(self) -> None:
        self.curves.show_curves((), (), 1)
        self.curves.hide()

    def refresh(self) -> None:
        """Say how it is."""
        learner = self._learner
        self.purpose.setText(self._purpose())
        self._list_versions()
        self._show_buttons()
        training = learner.training
        self.bar.setVisible(training is not None)
        if training is not None:
            self._show_training(training)
        self.verdict.setText(learner.verdict)
        self.verdict.setToolTip(learner.verdict)
        self.verdict.setVisible(bool(learner.verdict) and training is None)  # else the curves' room

    def _list_versions(self) -> None:
        versions, current = self._learner.versions, self._learner.current
        rows: list[tuple[str, int | None, str]] = [(self.base, None, "")]
        rows += [(_line(item), item.number, item.measured) for item in reversed(versions)]
        shown = [
            (self.version.itemText(n), self.version.itemData(n))
            for n in range(self.version.count())
        ]
        if shown != [(text, number) for text, number, _ in rows]:
            self.version.clear()
            for text, number, measured in rows:
                self.version.addItem(text, number)
                last = self.version.count() - 1
                self.version.setItemData(last, measured, Qt.ItemDataRole.ToolTipRole)
        wanted = None if current is None else current.number
        self.version.setCurrentIndex(self.version.findData(wanted) if wanted else 0)
        self.version.setEnabled(bool(versions))

    def _show_buttons(self) -> None:
        learner, running = self._learner, self._learner.training is not None
        cannot = "" if running else learner.cannot_train
        self.train.setVisible(not running)
        self.pause.setVisible(running)
        self.cancel.setVisible(running or learner.paused)
        self.train.setText("Resume" if learner.paused else self.begin)
        self.train.setEnabled(not cannot)
        self.train.setToolTip(cannot or BEGIN)
        unused = learner.why_not if learner.current is not None else ""
        self.why.setText(cannot or unused)
        self.why.setVisible(bool(cannot or unused))

    def _show_training(self, training: TrainingProgress) -> None:
        again = "going on: " if training.resumed else ""
        self.bar.setRange(0, training.steps)
        self.bar.setValue(training.step)
        far = f"{percent(training)} %" if training.steps else f"{training.images} images"
        left = "" if training.left is None else f", {time_left(training.left)}"
        self.bar.setFormat(f"{again}{training.phase}, {far}{left}")
        if training.losses:
            self.curves.show()
            self.curves.show_curves(training.losses, training.held_out, training.steps)


def percent(training: TrainingProgress) -> int:
    """How far a training is, 0 to 100; 0 as long as its length is not known."""
    return 100 * training.step // training.steps if training.steps else 0


def time_left(seconds: float) -> str:
    """How long a training goes on, as a person says it: "about 3 min left"."""
    minutes = math.ceil(seconds / 60)
    if minutes <= 1:
        return "less than a minute left"
    return f"about {minutes} min left" if minutes < 90 else f"about {minutes / 60:.1f} h left"


def _accepted(session: AnnotationSession) -> str:
    """On how many accepted images each class is: "Accepted images: nodule 12, cyst 3"."""
    names = {item.class_id: item.name for item in session.table.classes}
    counts = sorted(session.prompt_predictor.counts.items())
    parts = [f"{names.get(value, value)} {count}" for value, count in counts]
    return "Accepted images: " + (", ".join(parts) or "none yet")


def _sentence() -> QLabel:
    """A text that takes as many lines as it needs and asks for no width."""
    made = QLabel()
    made.setWordWrap(True)
    made.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    return made


def _line(item: ModelVersion) -> str:
    images = "1 image" if item.images == 1 else f"{item.images} images"
    refused = "" if item.promoted else ", no better"
    return f"v{item.number}: Dice {item.held_out_dice:.2f}, {images}{refused}"


@dataclass(frozen=True)
class TrainingSettings:
    """When a training is offered, and what proposes before it."""

    train_after: Annotated[
        int,
        {
            "label": "learn after (images)",
            "tooltip": "So many accepted images of a class are enough to begin learning.",
            "min": 1,
            "max": MOST_TRAIN_AFTER,
            "step": 1,
        },
    ]
    train_by_itself: Annotated[
        bool,
        {
            "label": "begin then without asking",
            "tooltip": "Otherwise a line in this dock offers it.",
        },
    ]
    weak_proposals: Annotated[
        bool,
        {
            "label": "weak proposals before",
            "tooltip": "From the first accepted image on a small network proposes, fitted anew "
            "after every accept, until a prompt predictor that measured better is in use.",
        },
    ]
    tune_decoder: Annotated[
        bool,
        {
            "label": "tune the mask decoder too",
            "tooltip": "The outline learns as well (LoRA), in a little more time. Used only if it "
            "is better, and left by choosing another version.",
        },
    ]


class AssistTab(LearnerTab):
    """The prompt predictor of the open project."""

    base = "none: the segmenter as it is"
    in_use = "Which prompt predictor proposes; older ones stay here."
    begin = "Train now"

    def __init__(self, session: AnnotationSession) -> None:
        form = SettingsForm(session, TrainingSettings)
        form.layout().setContentsMargins(0, 0, 0, 0)
        super().__init__(session, session.prompt_predictor, self._what_is_trained, form)
        self.form = form

    def _what_is_trained(self) -> str:
        """The purpose, and how many images are missing, while it does not learn."""
        predictor = self._session.prompt_predictor
        left = 0 if predictor.training is not None else predictor.until_offer
        more = f" {left} more until it learns." if left else ""
        return (
            "After training, images segment themselves (a prompt predictor, PPN). "
            f"{_accepted(self._session)}.{more}"
        )


class TuneTab(LearnerTab):
    """The tuned detectors of the open project."""

    base = "none: the detector as it is"
    in_use = "Which tuned detector answers the phrases that it was taught; older ones stay here."
    begin = "Tune now"

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__(session, session.tuning, self._what_is_tuned)

    def _what_is_tuned(self) -> str:
        """The purpose, and from which detector it goes on."""
        parts = [
            "After tuning, Find knows your targets by the names of their classes.",
            f"{_accepted(self._session)}.",
            f"Base: {Path(self._session.settings.detector).name}.",
            self._session.tuning.renamed,
        ]
        return " ".join(filter(None, parts))


TRAIN, TUNE = "Train Assist", "Tune Find"


class LearnPage(QTabWidget):
    """Training of the prompt predictor and tuning of the detector, side by side.

    The name of a tab says how far its training is, whichever tab is shown.

    Args:
        session: whose ``prompt_predictor`` and ``tuning`` are shown.
    """

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__()
        self.learn = AssistTab(session)
        self.tune = TuneTab(session)
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
