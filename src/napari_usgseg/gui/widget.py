"""Plugins > Ultrasound segmentation: the dock widget."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari.utils import notifications
from napari.viewer import Viewer
from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import (
    QApplication,
    QFileDialog,
    QLabel,
    QSizePolicy,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from ..session.annotator import AnnotationSession
from ..session.requests import FileRequest, Request
from ..session.status import Status
from . import keys
from .class_panel import ClassPanel, LabellingChoice
from .folds import CleaningForm, ExportForm, ModelForm
from .images_panel import ImagesPanel
from .layers import LayerBridge
from .parts import BusyBar, Fold, button, keep_room, later, row, tip
from .prompt_panels import CorrectPanel, FindPanel
from .tools import CanvasTools
from .worker import FileWorker, InferenceWorker

WARM_UP_AFTER_MS = 200
PRIMARY = """
QPushButton { background-color: #0072b2; color: white; font-weight: bold; }
QPushButton:hover { background-color: #0a84c8; }
QPushButton:disabled { background-color: #5a6470; color: #c8ccd0; }
"""
HELLO = "Open a folder of ultrasound images to label them."


class UltrasoundWidget(QWidget):
    """The person's side: it shows a session and passes on what the person does.

    Args:
        napari_viewer: the viewer that it is docked in.
        inference: a worker that somebody else starts and ends; None is one of its own.
    """

    def __init__(self, napari_viewer: Viewer, inference: InferenceWorker | None = None) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.session: AnnotationSession = AnnotationSession()
        self.files = FileWorker()
        self._lent = inference is not None
        self.inference = inference or InferenceWorker()
        self.bridge: LayerBridge = LayerBridge(napari_viewer, self.session)
        self.tools: CanvasTools = CanvasTools(napari_viewer, self.session, self.bridge)
        self._closed = False
        self._end_workers = _ender(self.files, None if self._lent else self.inference)
        self._connect()
        self._build()
        keys.bind(napari_viewer, self)
        napari_viewer.window._qt_window.installEventFilter(self)
        self.destroyed.connect(self._end_workers)
        application = QApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self._end_workers)
        later(self, WARM_UP_AFTER_MS, self._warm_up)

    # -- building ------------------------------------------------------------------------------

    def _connect(self) -> None:
        self.files.answered.connect(self._on_answer, Qt.ConnectionType.QueuedConnection)
        self.inference.answered.connect(self._on_answer, Qt.ConnectionType.QueuedConnection)
        self.session.requested.connect(self._on_request)
        self.session.cancelled.connect(self.inference.cancel)
        self.session.status_changed.connect(self._on_status)
        self.session.notified.connect(_notify)
        self.session.opened.connect(self._on_opened)
        self.session.draft_changed.connect(self._on_draft)
        self.session.labels_changed.connect(self._on_draft)

    def _build(self) -> None:
        self.title = QLabel("")
        self.title.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.open = button("Open folder...", "Choose a folder of ultrasound images.", self.choose)
        self.use_layer = button(
            "Use image layer", "Label the selected image layer of this viewer.", self.use_open_layer
        )
        self.phantom = button(
            "Try it on a phantom",
            "Makes a few artificial ultrasound images to play with.",
            self.try_phantoms,
        )
        self.images = ImagesPanel(self.session)
        self.find_panel = FindPanel(self.session)
        self.correct = CorrectPanel(self.session, self.tools)
        self.classes = ClassPanel(self.session)
        self.cleaning = CleaningForm(self.session)
        self.models = ModelForm(self.session)
        self.export = ExportForm(self.session)
        self.folds = [
            Fold("Cleaning", "Holes, specks, edges of proposed masks.", self.cleaning),
            Fold("Model", "Which models find and segment.", self.models),
            Fold("Export", "Write a data set of PNGs.", self.export),
        ]
        for fold in self.folds:
            fold.toggled.connect(lambda is_open, fold=fold: self._only_fold(fold, is_open))
        self.accept = button("Accept and next", "", self._on_primary)
        self.accept.setDefault(True)
        self.accept.setMinimumHeight(36)
        self.accept.setStyleSheet(PRIMARY)
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.status.setMinimumHeight(2 * self.status.fontMetrics().lineSpacing())
        self.status.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.status.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.busy = BusyBar()
        self.cancel = button("Cancel", "Stop waiting for this.", self.session.prompting.cancel)
        keep_room(self.cancel)
        self.pages = QStackedWidget()
        self.pages.addWidget(self._first_page())
        self.pages.addWidget(self._work_page())
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 4, 6, 4)
        layout.addWidget(self.pages, 1)
        layout.addWidget(self.busy)
        layout.addLayout(row(self.status, self.cancel, stretch=0))
        self._on_draft()
        self._on_status(self.session.status)

    def _first_page(self) -> QWidget:
        page = QWidget()
        hello = QLabel(HELLO)
        hello.setWordWrap(True)
        hello.setAlignment(Qt.AlignmentFlag.AlignCenter)
        first = button("Open folder...", "Choose a folder of ultrasound images.", self.choose)
        first.setMinimumHeight(40)
        layer = button("Use the open image layer", self.use_layer.toolTip(), self.use_open_layer)
        layout = QVBoxLayout(page)
        layout.addStretch(2)
        for widget in (hello, first, layer, self.phantom):
            layout.addWidget(widget)
        layout.addLayout(row(QLabel("Labels:"), LabellingChoice(self.session), stretch=1))
        layout.addStretch(3)
        return page

    def _work_page(self) -> QWidget:
        page = QWidget()
        layout = QVBoxLayout(page)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addLayout(row(self.title, self.open, stretch=0))
        layout.addWidget(self.images, 1)
        layout.addWidget(self.find_panel)
        layout.addWidget(self.correct)
        layout.addWidget(self.classes)
        layout.addWidget(self.accept)
        for fold in self.folds:
            layout.addWidget(fold)
        return page

    def _only_fold(self, opened: Fold, is_open: bool) -> None:
        """One fold at a time, so that everything fits."""
        if is_open:
            for fold in self.folds:
                if fold is not opened:
                    fold.set_open(False)

    # -- what the person does ------------------------------------------------------------------

    def choose(self) -> None:
        """Ask for a folder and open it."""
        folder = QFileDialog.getExistingDirectory(self, "A folder of ultrasound images")
        if folder:
            self.open_folder(folder)

    def open_folder(self, folder: str | Path) -> None:
        """Open a folder of images."""
        self.bridge.adopt(None)
        self.session.walk.open_folder(folder)

    def use_open_layer(self) -> None:
        """Label the image layer that is open in the viewer."""
        layer = self.bridge.adopted.candidate()
        if layer is None:
            notifications.show_warning(
                "There is no image layer in this viewer. Open an image first, or open a folder."
            )
            return
        array = self.bridge.adopted.current_slice(layer)
        self.bridge.adopt(layer)
        self.session.walk.open_array(layer.name, array)

    def try_phantoms(self) -> None:
        """Make phantoms in a temporary folder and open them."""
        self.bridge.adopt(None)
        self.session.walk.open_phantoms(
            Path(tempfile.mkdtemp(prefix="usgseg-phantoms-")) / "phantoms"
        )

    def find(self) -> None:
        """Look for the phrase; where there is none, put the cursor into its field."""
        if self.find_panel.phrase.text().strip():
            self.find_panel.find()
        else:
            self.find_panel.phrase.setFocus()

    def pick_nth_class(self, number: int) -> None:
        """Pick the class with this number."""
        self.session.editing.pick_class(number)

    def _on_primary(self) -> None:
        if self.session.status.error and not self.session.draft.has_masks:
            self._retry()
        else:
            self.session.editing.accept_and_next()

    def _retry(self) -> None:
        if self.session.unsaved:
            self.session.retry()
        elif self.session.record is not None and self.session.loaded is None:
            self.session.walk.reload()
        elif self.session.settings.phrase:
            self.session.prompting.find()
        else:
            self.session.warm_up()

    # -- what the session says -----------------------------------------------------------------

    def _warm_up(self) -> None:
        if not self._closed:
            self.session.warm_up()

    def _on_request(self, request: Request) -> None:
        if isinstance(request, FileRequest):
            self.files.submit(request)
        else:
            self.inference.submit(request)

    def _on_answer(self, answer: Any) -> None:
        if not self._closed:
            self.session.receive(answer)

    def _on_opened(self) -> None:
        self.pages.setCurrentIndex(1)
        if self.session.store is not None:
            self.title.setText(self.session.store.name)
            self.title.setToolTip(str(getattr(self.session.store, "folder", "a layer")))

    def _on_status(self, status: Status) -> None:
        self.status.setText(status.text)
        self.status.setToolTip(status.text)
        style = "color: #e69f00;" if status.error else ""
        if self.status.styleSheet() != style:
            self.status.setStyleSheet(style)
        self.busy.set_busy(status.busy)
        self.cancel.setVisible(self.session.progress.awaits("text", "prompt"))
        self._on_draft()

    def _on_draft(self) -> None:
        """The label of the one primary button: what will happen now."""
        session = self.session
        last = session.browser.neighbour(1) is None
        onwards = "" if last else " and next"
        enabled = True
        if session.status.error and not session.draft.has_masks:
            text = "Retry"
        elif session.is_waiting:
            text, enabled = "Please wait...", False
        elif session.draft.has_masks:
            text = f"Accept{onwards}"
        elif session.labels is not None and session.labels.any():
            text = f"Keep{onwards}"
        else:
            text = f"Nothing to label{onwards}"
        self.accept.setText(f"{text}  ({keys.key_of('accept and next')})")
        self.accept.setToolTip(tip("Saves this image's labels and goes on.", "accept and next"))
        self.accept.setEnabled(enabled)

    # -- the end -------------------------------------------------------------------------------

    def eventFilter(self, watched: Any, event: Any) -> bool:  # noqa: N802
        """Hand in what was painted when napari's window is about to close."""
        if event.type() == QEvent.Type.Close and not self._closed:
            self.session.flushing.emit()
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
        self.bridge.close()
        self.tools.close()
        keys.unbind(self.viewer)
        if self._lent:
            self.inference.answered.disconnect(self._on_answer)
        self._end_workers()


def _ender(files: FileWorker, inference: InferenceWorker | None) -> Callable[..., None]:
    """What ends the workers; it needs nothing of the widget, which may be gone by then."""

    def end(*_: Any) -> None:
        files.close()
        if inference is not None:
            inference.close()

    return end


def _notify(level: str, text: str) -> None:
    show = {
        "info": notifications.show_info,
        "warning": notifications.show_warning,
        "error": notifications.show_error,
    }
    show[level](text)
