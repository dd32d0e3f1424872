"""Strip of a loop, under the picture: the state of each frame, where one is, and the way about."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from napari.viewer import Viewer
from qtpy.QtCore import QPointF, QRectF, QSize, Qt, QTimer, Signal
from qtpy.QtGui import QColor, QPainter, QPixmap, QPolygonF
from qtpy.QtWidgets import QComboBox, QSizePolicy, QSpinBox, QVBoxLayout, QWidget

from ...annotation.session import AnnotationSession
from ...project.records import ImageState
from ...segmentation.propagation.reach import Direction, Reach
from .. import keys
from ..keys import explain
from ..parts import button, one_line, row
from .areas import AreasDialog

UNASKED = "#e69f00"
COLORS = {
    ImageState.UNTOUCHED: "#5a6470",
    ImageState.PROPOSED: "#56b4e9",
    ImageState.ACCEPTED: "#009e73",
    ImageState.EMPTY: "#00654a",
    ImageState.SKIPPED: "#2b2f36",
    ImageState.FLAGGED: "#cc79a7",
}
"""Told apart by those who see no red or no green too (Okabe and Ito)."""
LEGEND = (
    "Grey: untouched. Orange: proposed by a model. Blue: proposed by you. Green: accepted, dark "
    "green where nothing is there. Pink: for review. Keyframes, which are yours, stand out above. "
    "The darker an orange one from above, the less sure it is. The triangles are at the frames "
    "whose label would help most, the large one first. "
    "Click or drag to go to a frame; Shift+drag marks frames to accept."
)
ACCEPTS = (
    "Accept what is proposed on the marked frames, or on all; one step of undo. Shift+drag on the "
    "bar marks frames."
)
FINDS = (
    "Look for the phrase on all frames, or on the marked ones, that have nothing of yours; in the "
    "background, one step of undo."
)
LEARNED = (
    "Propose what the prompt predictor has learned on all frames, or on the marked ones, that have "
    "nothing of yours; in the background, one step of undo."
)
REACHES = (
    "How far to propagate from each keyframe: so many frames, or all (0), on both sides of it, "
    "forward or backward."
)
DIRECTIONS = {
    "both ways": Direction.BOTH,
    "forward": Direction.FORWARD,
    "backward": Direction.BACKWARD,
}
HEIGHT, KEYFRAME = 30, 6
"""Of the bar, and of that by which keyframes stand out, in pixels."""


class FrameBar(QWidget):
    """The frames from left to right, each in the colour of its state.

    ``dragged`` carries the frame that the mouse passes while it is held, ``chosen`` that on which
    it is let go; ``marked`` says that other frames are marked.

    Args:
        session: whose loop it is.

    Attributes:
        marks: the frames that are marked; empty where none are.
    """

    dragged = Signal(int)
    chosen = Signal(int)
    marked = Signal()

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__()
        self._session = session
        self._picture: QPixmap | None = None
        self._marks_from: int | None = None
        self.marks = range(0)
        self.setFixedHeight(HEIGHT)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip(LEGEND)

    def sizeHint(self) -> QSize:  # noqa: N802
        """As wide as there is room."""
        return QSize(400, HEIGHT)

    def place_of(self, frame: int) -> QRectF:
        """Where a frame is drawn."""
        step = self.width() / max(len(self._session.loops.frames), 1)
        return QRectF(frame * step, KEYFRAME, step, HEIGHT - KEYFRAME)

    def frame_at(self, x: float) -> int:
        """The frame at so many pixels from the left."""
        count = len(self._session.loops.frames)
        return min(max(int(x * count / max(self.width(), 1)), 0), count - 1)

    def color_of(self, frame: int) -> str:
        """The colour of a frame."""
        loops = self._session.loops
        state = loops.state_of(frame)
        unasked = state is ImageState.PROPOSED and not loops.is_keyframe(frame)
        return UNASKED if unasked else COLORS[state]

    def refresh(self) -> None:
        """Draw the frames anew: what is on them is something else."""
        self._picture = None
        self.update()

    def _frames(self) -> QPixmap:
        """All frames; a gap parts them where there is room for it.

        The less a model trusts a proposal, the more of it is dark; signs are where to label next.
        """
        loops, made = self._session.loops, QPixmap(self.size() * self.devicePixelRatioF())
        made.setDevicePixelRatio(self.devicePixelRatioF())
        made.fill(Qt.GlobalColor.transparent)
        painter = QPainter(made)
        count = len(loops.frames)
        gap = 1.0 if count and self.width() / count >= 4 else 0.0
        for frame in range(count):
            place = self.place_of(frame)
            if loops.is_keyframe(frame):
                place.setTop(0)
                place.setWidth(max(place.width(), 2 + gap))
            place.setWidth(place.width() - gap)
            painter.fillRect(place, QColor(self.color_of(frame)))
            score = loops.score(frame)
            place.setHeight(place.height() * (0.0 if score is None else 1.0 - score))
            painter.fillRect(place, QColor(0, 0, 0, 150))
        painter.setBrush(QColor(UNASKED))
        painter.setPen(Qt.PenStyle.NoPen)
        for rank, frame in enumerate(loops.suggested):
            at, (half, deep) = self.place_of(frame).center().x(), (3, 4) if rank else (5, KEYFRAME)
            sides = QPointF(at - half, 0), QPointF(at + half, 0), QPointF(at, deep)
            painter.drawPolygon(QPolygonF(list(sides)))
        painter.end()
        return made

    def resizeEvent(self, event: Any) -> None:  # noqa: N802
        """Draw the frames as wide as there is room."""
        self.refresh()
        super().resizeEvent(event)

    def paintEvent(self, event: Any) -> None:  # noqa: N802
        """Show the frames, those that are marked, and where one is."""
        loops, painter = self._session.loops, QPainter(self)
        if self._picture is None:
            self._picture = self._frames()
        painter.drawPixmap(0, 0, self._picture)
        if self.marks:
            first, last = self.place_of(self.marks.start), self.place_of(self.marks.stop - 1)
            painter.fillRect(first.united(last), QColor(255, 255, 255, 90))
        if loops.here is not None:
            place = self.place_of(loops.here)
            place.setWidth(max(place.width(), 3))
            painter.setPen(QColor("white"))
            painter.drawRect(place.adjusted(0, -KEYFRAME, -1, -1))
        painter.end()

    def forget_marks(self) -> None:
        """Mark no frame."""
        self.marks = range(0)
        self.marked.emit()
        self.update()

    def mousePressEvent(self, event: Any) -> None:  # noqa: N802
        """Begin to mark frames with Shift; else the frame is chosen when the mouse is let go."""
        if not self._session.loops.frames or event.button() != Qt.MouseButton.LeftButton:
            return
        shift = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
        self._marks_from = self.frame_at(event.pos().x()) if shift else None
        if shift:
            self._mark_to(event)
        elif self.marks:
            self.forget_marks()

    def mouseMoveEvent(self, event: Any) -> None:  # noqa: N802
        """Pass frames, or mark them."""
        if not self._session.loops.frames or not event.buttons() & Qt.MouseButton.LeftButton:
            return
        if self._marks_from is not None:
            self._mark_to(event)
        else:
            self.dragged.emit(self.frame_at(event.pos().x()))

    def mouseReleaseEvent(self, event: Any) -> None:  # noqa: N802
        """Choose a frame."""
        if not self._session.loops.frames or event.button() != Qt.MouseButton.LeftButton:
            return
        if self._marks_from is None:
            self.chosen.emit(self.frame_at(event.pos().x()))
        self._marks_from = None

    def _mark_to(self, event: Any) -> None:
        assert self._marks_from is not None
        low, high = sorted((self._marks_from, self.frame_at(event.pos().x())))
        self.marks = range(low, high + 1)
        self.marked.emit()
        self.update()


class LoopStrip(QWidget):
    """The bar of frames with its buttons; docked under the picture while a loop is shown.

    Args:
        session: whose loop it is.
        viewer: whose window it is docked in.
        parent: of it while it is not docked.
    """

    def __init__(self, session: AnnotationSession, viewer: Viewer, parent: QWidget) -> None:
        super().__init__(parent)
        self._session, self._viewer, self._owner = session, viewer, parent
        self._path: Any = None
        loops = session.loops
        self.bar = FrameBar(session)
        self.before = explain(button("◀ key", "", self._to_keyframe_before), "previous keyframe")
        self.play = explain(button("Play", "", self.toggle_play), "play")
        self.after = explain(button("key ▶", "", self._to_keyframe_after), "next keyframe")
        self.suggested = explain(button("Suggested", "", loops.go_to_suggested), "suggested frame")
        self.where = one_line()
        self.propagate = explain(button("Propagate", "", self.toggle_propagation), "propagate")
        self.find = button("Find", FINDS, self._find)
        self.learned = button("Learned", LEARNED, self._propose_learned)
        self.reach, self.direction = QSpinBox(), QComboBox()
        self.reach.setRange(0, 9999)
        self.reach.setSpecialValueText("all frames")
        self.reach.setPrefix("next ")
        self.reach.setToolTip(REACHES)
        self.direction.addItems(list(DIRECTIONS))
        self.direction.setToolTip(REACHES)
        self.accept = button("Accept all", ACCEPTS, self._accept)
        self.areas = button(
            "Areas...", "The area of each label over time, and as CSV.", self._measure
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 2, 4, 2)
        layout.setSpacing(2)
        layout.addWidget(self.bar)
        ways = (self.before, self.play, self.after, self.suggested)
        searches = (self.find, self.learned)
        deeds = (self.areas, *searches, self.propagate, self.reach, self.direction, self.accept)
        layout.addLayout(row(*ways, self.where, *deeds, stretch=len(ways)))
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._tick)
        self._began_at, self._began_s = 0, 0.0
        self.bar.dragged.connect(loops.peek)
        self.bar.chosen.connect(self._go)
        loops.changed.connect(self._on_changed)
        loops.peeked_at.connect(self.refresh)
        session.runs.changed.connect(self._show_controls)
        session.status_changed.connect(self._show_controls)
        self.bar.marked.connect(self._show_controls)
        self.hide()

    # -- where it is ---------------------------------------------------------------------------

    def refresh(self) -> None:
        """Show the loop as it is; dock with one, and hide without.

        Who has closed it sees it again with the next loop.
        """
        loops = self._session.loops
        path = loops.frames[0].path if loops.frames else None
        if path != self._path:
            self._path = path
            self.bar.forget_marks()
            self._show(path is not None)
        if not loops.peeks:
            self._timer.stop()
        self.play.setText("Stop" if self._timer.isActive() else "Play")
        here = loops.here
        count = len(loops.frames)
        self.where.setText("" if here is None else f"frame {here + 1} of {count}")
        self._show_controls()
        self.bar.update()

    def _on_changed(self) -> None:
        self.bar.refresh()
        self.refresh()

    def _show_controls(self, _: object = None) -> None:
        """Say what the buttons would do now."""
        loops = self._session.loops
        which = "marked" if self.bar.marks else "all"
        goes = "Propagate to marked" if self.bar.marks else "Propagate"
        self.propagate.setText("Stop" if self._session.runs.is_running else goes)
        for search in (self.find, self.learned):
            search.setEnabled(not self._session.runs.is_running and not self._session.read_only)
        waiting = loops.count(ImageState.PROPOSED, self._to_accept())
        self.accept.setText(f"Accept {which} ({waiting})")
        self.accept.setEnabled(waiting > 0 and not self._session.read_only)

    def _to_accept(self) -> range:
        """The frames that are marked, or else all."""
        return self.bar.marks or range(len(self._session.loops.frames))

    def _show(self, is_loop: bool) -> None:
        docked = self.parent() not in (self._owner, None)
        if is_loop and not docked:
            self._viewer.window.add_dock_widget(self, name="Loop", area="bottom")
            self.show()
        elif docked:
            dock = self.parentWidget()
            if dock is not None:
                dock.setVisible(is_loop)

    def explain_again(self) -> None:
        """Other keys were chosen; docked, this is no part of what they look after."""
        keys.explain_again(self)

    def close_strip(self) -> None:
        """Play no more, and leave the window."""
        self._timer.stop()
        for dialog in self.findChildren(AreasDialog):
            dialog.close()
        if self.parent() not in (self._owner, None):
            with suppress(LookupError, RuntimeError):  # the window may be going down
                self._viewer.window.remove_dock_widget(self)
        self.setParent(self._owner)

    # -- what the person does ------------------------------------------------------------------

    def toggle_propagation(self) -> None:
        """Propagate over the loop; or stop the run that goes on."""
        if self._session.runs.is_running:
            self._session.runs.stop()
        else:
            way = DIRECTIONS[self.direction.currentText()]
            reach = Reach(self.reach.value() or None, way)
            self._session.propagation.propagate(self.bar.marks or None, reach)

    def _find(self) -> None:
        self._session.loop_search.find(self.bar.marks or None)

    def _propose_learned(self) -> None:
        self._session.loop_search.propose_learned(self.bar.marks or None)

    def _measure(self) -> None:
        AreasDialog(self._session, self).show()

    def _accept(self) -> None:
        self._session.loops.accept(self._to_accept())
        self.bar.forget_marks()

    def toggle_play(self) -> None:
        """Play the loop at its own rate from here on, over and over; or stop at the frame shown."""
        loops = self._session.loops
        if self._timer.isActive():
            self._timer.stop()
            loops.land()
            self.refresh()
        elif loops.here is None:
            self._session.say("This image is not a frame of a loop.")
        else:
            self._began_at, self._began_s = loops.here, time.monotonic()
            self._tick()  # what was painted is handed in by that, which would stop the timer
            self._timer.start(max(1, round(1000 / loops.rate)))
            self.play.setText("Stop")

    def _tick(self) -> None:
        """Ask for the frame of this moment; those that no time was for are left out."""
        loops = self._session.loops
        if loops.frames:
            passed = int((time.monotonic() - self._began_s) * loops.rate)
            loops.peek((self._began_at + 1 + passed) % len(loops.frames))

    def _go(self, frame: int) -> None:
        self._timer.stop()
        self._session.loops.go(frame)

    def _to_keyframe_before(self) -> None:
        self._session.loops.step_keyframe(-1)

    def _to_keyframe_after(self) -> None:
        self._session.loops.step_keyframe(1)
