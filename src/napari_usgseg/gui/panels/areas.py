"""Areas over time: a curve for each label of a loop, and a table of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPalette, QPen, QPolygonF
from qtpy.QtWidgets import QDialog, QFileDialog, QLabel, QSizePolicy, QVBoxLayout, QWidget

from ...annotation.loops.areas import LoopAreas
from ...annotation.session import AnnotationSession
from ...io.labels import class_of, instance_color, instance_of
from ...segmentation.propagation.areas import NO_DIAGNOSIS, beats
from ..parts import button, row
from .learn_panel import placed, thinned

MARGIN = 6.0


class AreaCurves(QWidget):
    """The area of each label from the first frame to the last, from 0 to the largest.

    Args:
        session: whose classes give the colours.
    """

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__()
        self._session = session
        self.measured = LoopAreas(())
        self.setMinimumHeight(160)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    def show_areas(self, measured: LoopAreas) -> None:
        """Draw these."""
        self.measured = measured
        self.update()

    def sizeHint(self) -> QSize:  # noqa: N802
        """Wide enough for a beat."""
        return QSize(560, 260)

    def color_of(self, label: int) -> str:
        """The colour of a label: of its class, or a shade of that for each object."""
        labelling = self._session.settings.labelling
        item = self._session.table.get(class_of(label, labelling))
        color = "#999999" if item is None else item.color
        number = instance_of(label, labelling)
        return instance_color(color, number) if number else color

    @property
    def curves(self) -> dict[int, list[tuple[int, float]]]:
        """(frame, pixels) of each label on all frames; 0 where it is not."""
        frames = range(len(self.measured.frames))
        labels = sorted({area.label for area in self.measured.areas})
        found = {label: [(frame, 0.0) for frame in frames] for label in labels}
        for area in self.measured.areas:
            found[area.label][area.frame] = (area.frame, float(area.pixels))
        return found

    def paintEvent(self, event: Any) -> None:  # noqa: N802
        """Frame, curves, the largest area in words."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        line = painter.fontMetrics().lineSpacing()
        field = QRectF(self.rect()).adjusted(0.5, line + MARGIN, -0.5, -0.5)
        text = self.palette().color(QPalette.ColorRole.WindowText)
        top = max((area.pixels for area in self.measured.areas), default=0)
        painter.setPen(text)
        painter.drawText(QPointF(0, painter.fontMetrics().ascent()), f"{top} px")
        text.setAlpha(70)
        painter.setPen(text)
        painter.drawRect(field)
        inner = field.adjusted(MARGIN, MARGIN, -MARGIN, -MARGIN)
        last = max(len(self.measured.frames) - 1, 1)
        for label, curve in self.curves.items():
            painter.setPen(QPen(QColor(self.color_of(label)), 1.8))
            painter.drawPolyline(QPolygonF(placed(thinned(curve), last, max(top, 1), inner)))
        painter.end()


class AreasDialog(QDialog):
    """The curves, as they were when it was opened, and their table as CSV.

    Args:
        session: whose loop is measured.
        parent: in front of which it opens.
    """

    def __init__(self, session: AnnotationSession, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Areas over time")
        self.setModal(False)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._session, self._frames = session, session.loops.frames
        self.curves = AreaCurves(session)
        self.note = QLabel(NO_DIAGNOSIS)
        self.note.setWordWrap(True)
        self.save = button("Save as CSV...", "Frame, label, area, long axis, score.", self.choose)
        self.save.setEnabled(False)
        layout = QVBoxLayout(self)
        layout.addWidget(self.curves, 1)
        layout.addLayout(row(self.note, self.save, stretch=0))
        session.areas.measured.connect(self._on_measured)
        session.areas.measure()

    def _on_measured(self, measured: LoopAreas) -> None:
        if measured.frames == self._frames:  # not those of a dialog of another loop
            self.curves.show_areas(measured)
            self.save.setEnabled(bool(measured.areas))
            lines = [f"{self._name_of(n)}: {beat}." for n, beat in beats(measured.areas).items()]
            self.note.setText("\n".join([*lines, NO_DIAGNOSIS]))

    def _name_of(self, label: int) -> str:
        labelling = self._session.settings.labelling
        item = self._session.table.get(class_of(label, labelling))
        number = instance_of(label, labelling)
        return f"{label if item is None else item.name}{f' {number}' if number else ''}"

    def choose(self) -> None:
        """Ask for a file that is not there yet, and write the table into it."""
        name, _ = QFileDialog.getSaveFileName(self, "Areas over time", "areas.csv", "CSV (*.csv)")
        if name:
            self._session.areas.save(Path(name), self.curves.measured)

    def closeEvent(self, event: Any) -> None:  # noqa: N802
        """Listen no more."""
        self._session.areas.measured.disconnect(self._on_measured, missing_ok=True)
        super().closeEvent(event)
