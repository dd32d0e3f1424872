"""A training's losses and held-out Dice, drawn while it goes on."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPalette, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

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


def thinned(points: Points, most: int = MOST_POINTS) -> Points:
    """At most so many points: the means of neighbours, in their order."""
    if len(points) <= most:
        return points
    size = -(-len(points) // most)
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
