"""Plugins > Ultrasound segmentation: the dock widget."""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from napari.settings import get_settings
from napari.utils import notifications
from napari.viewer import Viewer
from qtpy.QtCore import QEvent, QSize, Qt, QTimer
from qtpy.QtWidgets import QApplication, QSizePolicy, QStackedWidget, QVBoxLayout, QWidget

from ..annotation.session import AnnotationSession
from ..jobs import Job
from ..jobs.inference_process import InferenceProcess
from . import keys, preferences
from .canvas.bridge import LayerBridge
from .canvas.display import Display
from .canvas.layers import about_layer
from .canvas.measuring import Measuring
from .canvas.tools import CanvasTools
from .opening import FirstPage, Opening, TitleBar
from .panels.class_panel import ClassPanel
from .panels.export_panel import ExportPanel
from .panels.footer import EmptyButton, PrimaryButton, StatusLine
from .panels.history_panel import HistoryPanel
from .panels.images_panel import ImagesPanel
from .panels.learn_panel import LearnPage
from .panels.measure_panel import MeasurePanel
from .panels.overview import OverviewWindow
from .panels.prompt_panels import CorrectPanel, FindPanel, ModePanel
from .panels.settings_panels import CleaningPanel, ModelPanel, ViewPanel
from .panels.strip import LoopStrip
from .parts import FOCUS, FoldBar, Scrolled, later, reason, row
from .qt_jobs import Workers

WIDTH = 330
"""Pixels of the dock when it opens, where its words have room in them."""
WARM_UP_AFTER_MS = 200
SETTLED_AFTER_MS = 3000
"""By then napari has built what it builds for the first image of a folder."""


class UltrasoundWidget(QWidget):
    """The person's side: it shows a session and passes on what the person does.

    Args:
        napari_viewer: the viewer that it is docked in.
        inference: a process that somebody else starts and ends; None is one of its own.
    """

    assist: ModePanel

    def __init__(self, napari_viewer: Viewer, inference: InferenceProcess | None = None) -> None:
        super().__init__()
        self.viewer = napari_viewer
        # Else napari puts an empty stretch below, which takes the room of the list of images.
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        self._fonts = get_settings().appearance.events.font_size
        self._fonts.connect(self._restyle)
        self._restyle()
        self.session: AnnotationSession = AnnotationSession()
        self.workers = Workers(inference)
        self.bridge: LayerBridge = LayerBridge(napari_viewer, self.session)
        self.tools: CanvasTools = CanvasTools(napari_viewer, self.session, self.bridge)
        self.display: Display = Display(napari_viewer, self.session, self.bridge)
        self.opening = Opening(self.session, partial(self.bridge.adopt, None), self)
        self._closed = False
        self._mouse_counts = True
        self._end_workers = self.workers.end
        self._connect()
        self._build()
        self.keyboard = keys.Keyboard(napari_viewer, self)
        self.keyboard.changed.connect(self.accept.refresh)
        self.keyboard.changed.connect(self.overview.bind_keys)
        self.keyboard.changed.connect(self.strip.explain_again)
        napari_viewer.window._qt_window.installEventFilter(self)
        # A method of this object would be gone when it is needed, hence the function.
        self.destroyed.connect(self._end_workers)
        application = QApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self._end_workers)
        later(self, WARM_UP_AFTER_MS, self._warm_up)

    # -- building ------------------------------------------------------------------------------

    def _connect(self) -> None:
        # Queued: runners emit on their own threads, and the queue brings the word to Qt's.
        self.workers.answered.connect(self._on_answer, Qt.ConnectionType.QueuedConnection)
        self.session.requested.connect(self.workers.submit)
        self.session.cancelled.connect(self.workers.cancel)
        self.session.notified.connect(_notify)
        self.session.opened.connect(self._on_opened)
        self.session.image_changed.connect(self._on_image)

    def _build(self) -> None:
        session = self.session
        self.first = FirstPage(session, self.opening, self.use_open_layer)
        self.title = TitleBar(session, self.opening, self.use_open_layer)
        self.images: ImagesPanel = ImagesPanel(session)
        self.find_panel = FindPanel(session)
        self.correct = CorrectPanel(session, self.tools)
        self.classes = ClassPanel(session)
        self.assist = ModePanel(session)
        self.accept, self.empty = PrimaryButton(session), EmptyButton(session)
        self.view = ViewPanel(session, self.display)
        self.measuring = Measuring(session, self.bridge, self)
        self.tools.measured.connect(self.measuring.add_caliper)
        self.measure = MeasurePanel(session, self.measuring, self.tools)
        self.history = HistoryPanel(session)
        self.cleaning = CleaningPanel(session)
        self.models = ModelPanel(session)
        self.learning = LearnPage(session)
        self.learn, self.tune = self.learning.learn, self.learning.tune
        self.export = ExportPanel(session)
        self.overview = OverviewWindow(session, self)
        self.strip = LoopStrip(session, self.viewer, self)
        self.images.looked_over.connect(self.look_over)
        self.folds = FoldBar()
        self.view.add(self.measure)
        self.folds.add("View", "How images and labels are shown; lengths, calipers.", self.view)
        self.folds.add("History", "All steps, to go back to one of them.", self.history)
        self.folds.add("Cleaning", "Holes, specks, edges of proposed masks.", self.cleaning)
        self.folds.add("Model", "Which models find and segment.", self.models)
        self.folds.add(
            "Learn", "Train on accepted images; versions of what was learnt.", self.learning, True
        )
        self.folds.add("Export", "Write what is accepted as a data set.", self.export)
        self.folds.set_open(str(preferences.recall("fold") or ""))
        self.folds.toggled.connect(self._on_fold)
        for learner in (session.prompt_predictor, session.tuning):
            learner.changed.connect(self._on_offer)
        self.status = StatusLine(session)
        work = (
            self.images,
            self.assist,
            self.find_panel,
            self.correct,
            self.classes,
            self.folds.contents,
        )
        self.scrolled = Scrolled(work, self.images)
        page = QWidget()
        column = QVBoxLayout(page)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.title)
        column.addWidget(self.scrolled, 1)
        column.addWidget(self.folds)
        column.addLayout(row(self.accept, self.empty, stretch=0))
        self.pages = QStackedWidget()
        self.pages.addWidget(self.first)
        self.pages.addWidget(page)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 4, 6, 4)
        layout.addWidget(self.pages, 1)
        layout.addWidget(self.status)

    def _on_fold(self, name: str) -> None:
        """Bring what was unfolded into sight, once it has its place."""
        preferences.remember("fold", name)
        self._on_offer()
        later(self, 0, partial(self.scrolled.ensureWidgetVisible, self.folds.contents))

    def _on_offer(self) -> None:
        """A training that is offered or goes on has a dot where it is not in sight."""
        predictor, tuning = self.session.prompt_predictor, self.session.tuning
        waits = bool(predictor.offer or predictor.training or tuning.training)
        self.folds.mark("Learn", waits and self.folds.open_one != "Learn")

    def sizeHint(self) -> QSize:  # noqa: N802
        """As wide as it has to be: the image has the rest."""
        return QSize(max(WIDTH, self.minimumSizeHint().width()), super().sizeHint().height())

    def _restyle(self, _: Any = None) -> None:
        """Take napari's font for fields and tool buttons too, which its own style leaves small."""
        size = get_settings().appearance.font_size
        self.setStyleSheet(f"{FOCUS} QLineEdit, QToolButton {{ font-size: {size}pt; }}")

    # -- what the person does ------------------------------------------------------------------

    def open_folder(self, folder: str | Path) -> None:
        """Open a folder of images."""
        self.opening.open(folder)

    def use_open_layer(self) -> None:
        """Label the image layer that is open in the viewer."""
        layer = self.bridge.adopted.candidate()
        if layer is None:
            notifications.show_warning(
                "There is no image layer in this viewer. Open an image first, or open a folder."
            )
            return
        array = self.bridge.adopted.current_slice(layer)
        frame = self.bridge.adopted.frame(layer)
        self.bridge.adopt(layer)
        shown = f" frame {'-'.join(map(str, frame))}" if frame else ""
        self.session.navigation.open_array(layer.name + shown, array, about_layer(layer))

    def find(self) -> None:
        """Look for the phrase; where there is none, put the cursor into its field."""
        if self.find_panel.phrase.text().strip():
            self.find_panel.find()
        else:
            self.find_panel.phrase.setFocus()

    def ask_image(self) -> None:
        """Put the cursor into the field for an image's name."""
        self.images.ask_name()

    def look_over(self) -> None:
        """Show the images as a grid with their contours."""
        self.overview.look()

    def propagate(self) -> None:
        """Propagate over the loop that is shown, or stop."""
        self.strip.toggle_propagation()

    def play(self) -> None:
        """Play the loop that is shown, or stop."""
        self.strip.toggle_play()

    def cycle_mode(self) -> None:
        """Go on to the next mode of assistance that can be used."""
        self.assist.cycle()

    def give_class(self) -> None:
        """Give the picked class to the object under the mouse, or else to the one under work."""
        self.session.editing.give_class(self.session.table.active, self._pointed())

    def fill_holes(self) -> None:
        """Fill the holes of the object under the mouse, or else of the one under work."""
        self.session.objects.fill_holes(self._pointed())

    @contextmanager
    def without_mouse(self) -> Iterator[None]:
        """Have actions mean the object under work, wherever the mouse is."""
        self._mouse_counts = False
        try:
            yield
        finally:
            self._mouse_counts = True

    @property
    def is_closed(self) -> bool:
        """Whether it was closed, and is only waiting to be deleted."""
        return self._closed

    def grow(self, pixels: int) -> None:
        """Grow the object under the mouse, or else the one under work; shrink it below 0."""
        self.session.objects.grow(self._pointed(), pixels)

    def smooth(self) -> None:
        """Round the border of the object under the mouse, or else of the one under work."""
        self.session.objects.smooth(self._pointed())

    def _pointed(self) -> tuple[float, float] | None:
        """The pixel (x, y) under the mouse; None where that is elsewhere."""
        over = self._mouse_counts and self.viewer.mouse_over_canvas
        if not over or self.bridge.adopted.is_away:
            return None
        x, y = (float(value) for value in self.bridge.to_xy(self.viewer.cursor.position))
        return x, y

    # -- what the session says -----------------------------------------------------------------

    def _warm_up(self) -> None:
        if not self._closed:
            self.session.warm_up()

    def _on_answer(self, job: Job, word: Any) -> None:
        if self._closed:
            return
        try:
            job.receive(word)
        except Exception as error:  # napari's own notification may have no text
            traceback.print_exc(file=sys.stderr)
            self.session.fail(
                f"{reason(error)} (details on the terminal). What was found or accepted is kept; "
                "close this dock and open it again."
            )

    def _on_opened(self) -> None:
        self.pages.setCurrentIndex(1)
        # A full collection over all that napari and Qt hold stops the window for a quarter of a
        # second; what is there by now is looked at again only when the dock has closed.
        later(self, SETTLED_AFTER_MS, gc.freeze)

    def _on_image(self) -> None:
        """On a new image the tool in hand begins an object of the picked class."""
        if not self.tools.positive:
            self.tools.set_positive(True)

    # -- the end -------------------------------------------------------------------------------

    def eventFilter(self, watched: Any, event: Any) -> bool:  # noqa: N802
        """Hand in what was painted when napari's window is about to close.

        A key that is held while another window comes forward is never seen to come up again.
        """
        if event.type() == QEvent.Type.Close and not self._closed:
            self.session.flush()
        elif event.type() == QEvent.Type.WindowDeactivate and not self._closed:
            self.display.dress()
        return False

    def changeEvent(self, event: Any) -> None:  # noqa: N802
        """Stop cleanly when napari takes the widget out of its dock."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.shut_down()

    def shut_down(self) -> None:
        """Hand in what was painted, finish saving, end the workers, give keys and mouse back."""
        if self._closed:
            return
        self.session.close()
        self._closed = True
        for timer in self.findChildren(QTimer):
            timer.stop()
        self.measuring.close()
        self.bridge.close()
        self.tools.close()
        self.display.close()
        self._fonts.disconnect(self._restyle)
        self.keyboard.close()
        self.strip.close_strip()
        self.images.close_threads()
        self.overview.close()
        self.overview.close_threads()
        self.export.close_effort()
        self._end_workers()
        gc.unfreeze()


def _notify(level: str, text: str) -> None:
    show = {
        "info": notifications.show_info,
        "warning": notifications.show_warning,
        "error": notifications.show_error,
    }
    show[level](text)
