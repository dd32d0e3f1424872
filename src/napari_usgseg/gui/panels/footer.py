"""The one primary button and the status line: what will happen, and what is going on."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from ...annotation.session import AnnotationSession
from ...annotation.state import MODEL, TEXT, Status
from ...jobs import Scope
from ...project.records import ImageState
from .. import keys
from ..parts import WARNING, BusyBar, FewLines, NarrowButton, button, keep_room, row

PRIMARY_HEIGHT = 36
PRIMARY = """
QPushButton { background-color: #0072b2; color: white; font-weight: bold; }
QPushButton:focus { border: 2px solid white; }
QPushButton:hover { background-color: #0a84c8; }
QPushButton:disabled { background-color: #5a6470; color: #c8ccd0; }
"""


class PrimaryButton(QPushButton):
    """Accepts, goes on, or tries again; its label says which.

    Args:
        session: what is accepted.
    """

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__("Accept and next")
        self._session = session
        self.setDefault(True)
        self.setMinimumHeight(PRIMARY_HEIGHT)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setStyleSheet(PRIMARY)
        self.clicked.connect(self.press)
        session.proposal_changed.connect(self.refresh)
        session.labels_changed.connect(self.refresh)
        session.status_changed.connect(self.refresh)
        session.states_changed.connect(self.refresh)
        self.refresh()

    def press(self) -> None:
        """Do what the label says."""
        if self._is_retry:
            self._retry()
        else:
            self._session.editing.accept_and_next()

    @property
    def _is_accepted(self) -> bool:
        record = self._session.record
        decided = None if record is None else self._session.image_queue.decided(record.image_id)
        return decided is ImageState.ACCEPTED

    @property
    def _is_retry(self) -> bool:
        session = self._session
        unread = session.record is not None and session.loaded is None
        again = bool(session.unsaved) or unread or session.failed in (TEXT, MODEL)
        return session.status.error and again and not session.proposal.has_masks

    def _retry(self) -> None:
        session = self._session
        if session.unsaved:
            session.retry()
        elif session.record is not None and session.loaded is None:
            session.navigation.reload()
        elif session.failed == TEXT:
            session.prompting.find()
        else:
            session.warm_up()

    def refresh(self, _: object = None) -> None:
        """Say what will happen now."""
        session = self._session
        onwards = "" if session.image_queue.neighbour(1) is None else " and next"
        enabled = True
        if self._is_retry:
            text = "Retry"
        elif session.read_only:
            text, enabled = ("Next, read only", True) if onwards else ("Read only", False)
        elif session.is_waiting:
            text, enabled = "Please wait...", False
        elif session.proposal.has_masks:
            text = f"Accept{onwards}"
        elif self._is_accepted:
            text = f"Keep{onwards}"
        elif session.record is not None and session.image_queue.is_drawn(session.record.image_id):
            text = f"Accept{onwards}"
        else:
            text, enabled = "Nothing to accept yet", False
        key = keys.key_of("accept and next") if enabled else ""
        self.setText(f"{text}  ({key})" if key else text)
        keys.explain(self, "accept and next")
        self.setEnabled(enabled)


STATUS_LINES = 3


class EmptyButton(NarrowButton):
    """States that an image is empty; never the way on by itself.

    Args:
        session: of the image.
    """

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__("Empty")
        self._session = session
        self.setMinimumHeight(PRIMARY_HEIGHT)
        keys.explain(self, "mark empty")
        self.clicked.connect(session.navigation.mark_empty)
        for signal in (session.labels_changed, session.states_changed, session.status_changed):
            signal.connect(self.refresh)
        self.refresh()

    def refresh(self, _: object = None) -> None:
        """Only an image without labels can be empty."""
        session = self._session
        record, is_shown = session.record, session.labels is not None
        bare = record is not None and not session.image_queue.is_drawn(record.image_id)
        waits = session.is_waiting or session.read_only
        self.setEnabled(is_shown and bare and not waits)


class StatusLine(QWidget):
    """Status line: what is going on, and a button that ends it.

    Args:
        session: says it.
    """

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__()
        self._session = session
        self.label = FewLines(STATUS_LINES)
        self.busy = BusyBar()
        self.cancel = button("Cancel", "Stop waiting for this.", self._on_cancel)
        keep_room(self.cancel)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.busy)
        layout.addLayout(row(self.label, self.cancel, stretch=0))
        session.status_changed.connect(self.show_status)
        self.show_status(session.status)

    def show_status(self, status: Status) -> None:
        """Show a status."""
        self.label.setText(status.text)
        self.label.setToolTip(status.text)
        style = WARNING if status.error else ""
        if self.label.styleSheet() != style:
            self.label.setStyleSheet(style)
        self.busy.set_busy(status.busy)
        awaits = self._session.jobs.awaits("step", Scope.PROPOSAL)
        self.cancel.setVisible(awaits or self._session.runs.is_running)

    def text(self) -> str:
        """What it says now."""
        return self.label.text()

    def _on_cancel(self) -> None:
        self._session.undo_navigation.stop()
        self._session.jobs.cancel("step")
        self._session.prompting.cancel()
        self._session.runs.stop()
