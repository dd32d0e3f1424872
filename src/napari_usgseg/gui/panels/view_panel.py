"""How images are looked at: what is set here changes no pixel that a model or a label sees."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QSignalBlocker, Qt, QTimer
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QPushButton, QSlider, QWidget

from ...annotation.session import AnnotationSession
from ...annotation.settings import DESPECKLING, View
from ..canvas.display import CONTOUR_PIXELS, Display
from ..keys import tip
from ..parts import button, row

QUIET_MS = 150
"""A slider that is moved is taken at its word when it has rested so long."""


class ViewPanel(QWidget):
    """Contours, opacity, brightness, contrast, despeckling, and a look without overlays.

    Args:
        session: whose settings it shows.
        display: does it.
    """

    def __init__(self, session: AnnotationSession, display: Display) -> None:
        super().__init__()
        self._session = session
        self._display = display
        self.contours = QCheckBox("contours")
        self.contours.setToolTip(
            tip(
                "Accepted labels as contours, not filled (up to "
                f"{CONTOUR_PIXELS // 1_000_000} megapixels).",
                "contours or fill",
            )
        )
        self.contours.toggled.connect(self._on_edited)
        self.opacity = self._slider(0, 100, "How much accepted labels cover of the image.")
        self.brightness = self._slider(-100, 100, "Lighter or darker, on the screen only.")
        self.contrast = self._slider(-100, 100, "More or less contrast, on the screen only.")
        self.despeckling = QComboBox()
        self.despeckling.addItems(list(DESPECKLING))
        self.despeckling.setToolTip(
            tip("Less speckle, on the screen only: a median, or Lee's filter.", "despeckled view")
        )
        self.despeckling.textActivated.connect(self._on_edited)
        self.alone = QPushButton("Image alone")
        self.alone.setToolTip(
            tip(
                "While it is held down, nothing lies over the image.", "hold to see the image alone"
            )
        )
        self.alone.pressed.connect(display.bare)
        self.alone.released.connect(display.dress)
        self.reset = button("Reset", "Look at images as they are.", lambda: self._take(View()))
        form = QFormLayout(self)
        form.setContentsMargins(12, 0, 0, 0)
        form.setSpacing(3)
        form.addRow(row(self.contours, self.alone, self.reset, stretch=0))
        form.addRow("opacity", self.opacity)
        form.addRow("brightness", self.brightness)
        form.addRow("contrast", self.contrast)
        form.addRow("despeckle", self.despeckling)
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(QUIET_MS)
        self._rest.timeout.connect(self._on_edited)
        session.settings_changed.connect(self._on_settings)
        self._on_settings()

    def _slider(self, low: int, high: int, tooltip: str) -> QSlider:
        made = QSlider(Qt.Orientation.Horizontal)
        made.setRange(low, high)
        made.setToolTip(tooltip)
        made.valueChanged.connect(lambda _: self._rest.start())
        return made

    def _on_edited(self, _: Any = None) -> None:
        self._rest.stop()
        self._take(
            View(
                contours=self.contours.isChecked(),
                opacity=self.opacity.value() / 100,
                brightness=self.brightness.value(),
                contrast=self.contrast.value(),
                despeckling=self.despeckling.currentText(),
            )
        )

    def _take(self, view: View) -> None:
        self._display.set_view(view)

    def _on_settings(self) -> None:
        view = self._session.settings.view
        values = (
            (self.opacity, round(100 * view.opacity)),
            (self.brightness, view.brightness),
            (self.contrast, view.contrast),
        )
        for slider, value in values:
            with QSignalBlocker(slider):
                slider.setValue(value)
        with QSignalBlocker(self.contours):
            self.contours.setChecked(view.contours)
        self.despeckling.setCurrentText(view.despeckling)
