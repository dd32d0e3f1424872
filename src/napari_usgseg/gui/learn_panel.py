"""Learning from what was accepted: how far it is, how good it became, which version is in use."""

from __future__ import annotations

from dataclasses import replace

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QLabel,
    QProgressBar,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from ..session.annotator import AnnotationSession
from ..session.predictor import TrainingProgress
from ..session.settings import MOST_TRAIN_AFTER
from ..store.ppn_versions import PpnVersion
from .curves import Curves
from .parts import button, row

_TOOLTIP = Qt.ItemDataRole.ToolTipRole
NONE = "none: the segmenter as it is"


class LearnForm(QWidget):
    """The prompt predictor of the open project.

    Args:
        session: whose ``predictor`` is shown.
    """

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__()
        self._session = session
        predictor = session.predictor
        self.counts = _words()
        self.after = QSpinBox()
        self.after.setRange(1, MOST_TRAIN_AFTER)
        self.after.setSuffix(" images of a class")
        self.after.setKeyboardTracking(False)
        self.after.setToolTip("So many accepted images of a class are enough to begin learning.")
        self.by_itself = QCheckBox("begin then without asking")
        self.by_itself.setToolTip("Otherwise a line in this dock offers it.")
        self.version = QComboBox()
        self.version.setToolTip("Which prompt predictor proposes; older ones stay here.")
        self.version.setMinimumContentsLength(12)
        self.version.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.train = button("", "", predictor.train)
        self.pause = button(
            "Pause", "Stop now; Resume goes on from here.", lambda: predictor.cancel(keep=True)
        )
        self.cancel = button(
            "Cancel", "Stop now and throw away what this training learnt.", predictor.cancel
        )
        self.bar = QProgressBar()
        self.bar.setTextVisible(True)
        self.curves = Curves()
        self.verdict = _words()
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setSpacing(3)
        form.addRow("in use", self.version)
        form.addRow("learn after", self.after)
        form.addRow("", self.by_itself)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(12, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.counts)
        layout.addLayout(form)
        layout.addLayout(row(self.train, self.pause, self.cancel, stretch=0))
        for widget in (self.bar, self.curves, self.verdict):
            layout.addWidget(widget)
        self.after.valueChanged.connect(self._on_edited)
        self.by_itself.toggled.connect(self._on_edited)
        self.version.activated.connect(self._on_version)
        predictor.changed.connect(self.refresh)
        session.settings_changed.connect(self.refresh)
        session.classes_changed.connect(self.refresh)
        session.opened.connect(self._on_opened)
        self._on_opened()

    def _on_edited(self, _: object = None) -> None:
        self._session.set_settings(
            replace(
                self._session.settings,
                train_after=self.after.value(),
                train_by_itself=self.by_itself.isChecked(),
            )
        )

    def _on_version(self, index: int) -> None:
        self._session.predictor.choose(self.version.itemData(index))

    def _on_opened(self) -> None:
        self.curves.show_curves((), (), 1)
        self.curves.hide()
        self.refresh()

    def refresh(self) -> None:
        """Say how it is."""
        predictor, settings = self._session.predictor, self._session.settings
        self.counts.setText(self._counted())
        for control in (self.after, self.by_itself):
            control.blockSignals(True)
        self.after.setValue(settings.train_after)
        self.by_itself.setChecked(settings.train_by_itself)
        for control in (self.after, self.by_itself):
            control.blockSignals(False)
        self._list_versions(predictor.versions, predictor.current)
        self._show_training(predictor.training)
        self.verdict.setText(predictor.verdict)
        self.verdict.setVisible(bool(predictor.verdict))

    def _counted(self) -> str:
        counts = self._session.predictor.counts
        names = {item.class_id: item.name for item in self._session.table.classes}
        parts = [f"{names.get(value, value)} {count}" for value, count in sorted(counts.items())]
        accepted = "Accepted images: " + (", ".join(parts) or "none yet")
        left = self._session.predictor.until_offer
        return f"{accepted}. {left} more until it learns." if left else f"{accepted}."

    def _list_versions(self, versions: tuple[PpnVersion, ...], current: PpnVersion | None) -> None:
        rows: list[tuple[str, int | None, str]] = [(NONE, None, "")]
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

    def _show_training(self, training: TrainingProgress | None) -> None:
        predictor = self._session.predictor
        cannot = predictor.cannot_train
        self.train.setVisible(training is None)
        self.pause.setVisible(training is not None)
        self.cancel.setVisible(training is not None or predictor.paused)
        self.bar.setVisible(training is not None)
        self.train.setText("Resume" if predictor.paused else "Train now")
        self.train.setEnabled(not cannot)
        self.train.setToolTip(
            cannot or "Learn from all accepted images, in the background at low priority."
        )
        if training is None:
            return
        again = "going on: " if training.resumed else ""
        self.bar.setRange(0, training.steps)
        self.bar.setValue(training.step)
        share = f", {100 * training.step // training.steps} %" if training.steps else ""
        self.bar.setFormat(f"{again}{training.phase}, {training.images} images{share}")
        if training.losses:
            self.curves.show()
            self.curves.show_curves(training.losses, training.held_out, training.steps)


def _line(item: PpnVersion) -> str:
    images = "1 image" if item.images == 1 else f"{item.images} images"
    refused = "" if item.promoted else ", not promoted"
    return f"v{item.number}: Dice {item.held_out_dice:.2f}, {images}{refused}"


def _words() -> QLabel:
    made = QLabel()
    made.setWordWrap(True)
    made.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    return made
