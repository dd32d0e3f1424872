"""The steps of the history as a list; a click goes there."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QAbstractListModel, QModelIndex, Qt
from qtpy.QtGui import QPalette
from qtpy.QtWidgets import QLabel, QListView, QVBoxLayout, QWidget

from ...annotation.session import AnnotationSession
from ...project.records import Step

FIRST = "as it was at the beginning"


class HistoryModel(QAbstractListModel):
    """Row 0 is the beginning, row n what step n led to; undone steps are pale."""

    def __init__(self) -> None:
        super().__init__()
        self._steps: tuple[Step, ...] = ()
        self._position = 0

    def show(self, steps: tuple[Step, ...], position: int) -> None:
        """Show a history as it is now; steps at the end that are new are added to the rows.

        Args:
            steps: all of them, in order.
            position: how many of them are done.
        """
        before = len(self._steps)
        if steps[:before] != self._steps:
            self.beginResetModel()
            self._steps, self._position = steps, position
            self.endResetModel()
            return
        first, last = sorted((self._position, position))
        if len(steps) > before:
            self.beginInsertRows(QModelIndex(), before + 1, len(steps))
            self._steps = steps
            self.endInsertRows()
        self._position = position
        self.dataChanged.emit(self.index(first), self.index(last))

    def rowCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: N802, B008
        """One more than there are steps."""
        return 1 + len(self._steps)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """What was done and on which image."""
        if not index.isValid():
            return None
        step = self._steps[index.row() - 1] if index.row() else None
        if role == Qt.ItemDataRole.DisplayRole:
            if step is None:
                return FIRST
            return step.name if step.image_id is None else f"{step.name}   {step.image_id}"
        if role == Qt.ItemDataRole.ForegroundRole and index.row() > self._position:
            return QPalette().color(QPalette.ColorGroup.Disabled, QPalette.ColorRole.Text)
        return None


class HistoryPanel(QWidget):
    """Prompts, edits, accepts and class changes in order; it is kept up to date while it is open.

    Args:
        session: whose history it shows.
    """

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__()
        self._session = session
        self.model = HistoryModel()
        self.list = QListView()
        self.list.setModel(self.model)
        self.list.setUniformItemSizes(True)
        self.list.setFixedHeight(130)
        self.list.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.list.setToolTip("Click a step: everything is as it was when that was done.")
        self.list.clicked.connect(self._on_clicked)
        note = QLabel("A click goes back to a step, or forth again.")
        note.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(12, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(note)
        layout.addWidget(self.list)
        for signal in (
            session.opened,
            session.proposal_changed,
            session.labels_changed,
            session.classes_changed,
            session.states_changed,
        ):
            signal.connect(self.refresh)

    def refresh(self) -> None:
        """Show the history as it is, if anybody looks."""
        if not self.isVisible():
            return
        past = self._session.undo_stack
        self.model.show(past.steps, past.position)
        current = self.model.index(past.position)
        self.list.setCurrentIndex(current)
        self.list.scrollTo(current)

    def showEvent(self, event: Any) -> None:  # noqa: N802
        """Catch up when the panel is opened."""
        super().showEvent(event)
        self.refresh()

    def _on_clicked(self, index: QModelIndex) -> None:
        self._session.go_to(index.row())
