"""Export of a data set, and the effort ledger: what came of the labelling, and what it cost."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from qtpy.QtCore import QObject, Qt, Signal
from qtpy.QtGui import QCloseEvent, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QDialog,
    QFileDialog,
    QHeaderView,
    QLabel,
    QLineEdit,
    QMenu,
    QTableWidget,
    QTableWidgetItem,
    QTabWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from ...annotation.session import AnnotationSession
from ...core.errors import Cancelled, UsgsegError
from ...effort.efforts import IDLE_SECONDS, Way, span
from ...io.formats import DEFAULT_ORGAN, FORMATS
from ...io.outputs import OutputFolder
from ...project.project import Project
from ..forms import Form
from ..parts import button, reason, row

if TYPE_CHECKING:
    import pandas as pd

    from ...effort.ledger import Ledger

TELL_SECONDS = 0.2
PLOT_WIDTH = 720
"""Pixels; the plot is drawn with more of them and made smaller, for screens of a finer grain."""
IN_MEMORY = "The ledger is kept for folders of images, not for a layer that has no file."
# the head of each column, the ledger's column, and how its numbers are written
MODELS = (
    ("first proposal", "first_proposal", ""),
    ("images", "images", "d"),
    ("unchanged", "share", ".0%"),
    ("median s", "median_s", ".1f"),
    ("saved s", "saved_s", ".1f"),
    ("Dice", "dice", ".3f"),
    ("HD95 px", "hd95_px", ".1f"),
)
PHRASES = (
    ("class", "class", ""),
    ("phrase", "phrase", ""),
    ("looked for", "images_searched", "d"),
    ("found", "images_found", "d"),
    ("Dice", "dice", ".3f"),
)
CHANGED = (
    ("image", "image_id", ""),
    ("Dice", "dice", ".3f"),
    ("HD95 px", "hd95_px", ".1f"),
    ("clicks", "click", "d"),
    ("seconds", "active_s", ".1f"),
)


@dataclass(frozen=True, slots=True)
class Reading:
    """Ledger as the window shows it, its plot as PNG ("" without any), and the plot's key."""

    ledger: Ledger
    plot: bytes
    key: list[tuple[str, str]]


class LedgerReader(QObject):
    """Reads the ledger on a thread of its own, through a connection of its own.

    Signals: ``progressed`` (images measured, in all), ``read`` (a ``Reading``), ``written`` (the
    path of a report), ``failed`` (a sentence). A newer request makes an older one end.
    """

    progressed = Signal(int, int)
    read = Signal(object)
    written = Signal(object)
    failed = Signal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._asked = 0
        self._told = 0.0

    def start(self, folder: Path, root: Path, out: Path | None = None) -> None:
        """Read the project, and write its report into ``out`` if that is given."""
        self._asked += 1
        threading.Thread(
            target=self._run,
            args=(self._asked, folder, root, out),
            name="usgseg-ledger",
            daemon=True,
        ).start()

    def cancel(self) -> None:
        """End what is going on; nothing more is said of it."""
        self._asked += 1

    def _run(self, number: int, folder: Path, root: Path, out: Path | None) -> None:
        """Body of the thread; what reads and draws is heavy and is first imported here."""
        from ...effort import ledger as effort
        from ...effort import page

        def progress(done: int, total: int) -> None:
            if number != self._asked:
                raise Cancelled
            now = time.monotonic()
            if now - self._told > TELL_SECONDS:
                self._told = now
                self._tell(self.progressed, done, total)

        try:
            report = OutputFolder(out, overwrite=True) if out is not None else None
            if report is not None:
                report.check(*(report.root / name for name in effort.FILES))
            with effort.open_for_report(folder, root) as stores:
                ledger = effort.read_ledger(stores, progress)
                if report is not None:
                    effort.write_csv(ledger, report.root, report.write)
                    page.write_page(ledger, stores, report.root / "index.html", report.write)
            plot = page.timeline(ledger) if len(ledger.accepted) else b""
            if number == self._asked:
                self._tell(self.read, Reading(ledger, plot, page.key(ledger)))
                if out is not None:
                    self._tell(self.written, out / "index.html")
        except Cancelled:
            pass
        except Exception as error:  # whatever it is, else the window waits for it for good
            expected = isinstance(error, UsgsegError | OSError)
            if not expected:
                traceback.print_exc(file=sys.stderr)
            if number == self._asked:
                self._tell(self.failed, str(error) if expected else reason(error))

    def _tell(self, signal: Any, *values: object) -> None:
        with suppress(RuntimeError):  # Qt has taken the reader down meanwhile
            signal.emit(*values)


class LedgerDialog(QDialog):
    """Totals, a plot of time per image, and the tables; it does not stand in the way of labelling.

    Args:
        session: whose project is shown.
        parent: in front of which it opens.
    """

    def __init__(self, session: AnnotationSession, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Labelling effort")
        self.setModal(False)
        self.resize(760, 640)
        self._session = session
        self.reader = LedgerReader(self)
        self.reader.progressed.connect(self._on_progress)
        self.reader.read.connect(self._on_read)
        self.reader.written.connect(self._on_written)
        self.reader.failed.connect(self._on_failed)
        self.totals = QLabel()
        self.totals.setWordWrap(True)
        self.plot = QLabel()
        self.plot.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.legend = QLabel()
        self.legend.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.models, self.phrases = _table(MODELS), _table(PHRASES)
        self.changed = _table(CHANGED)
        self.changed.setToolTip("Double-click an image to go there.")
        self.changed.itemDoubleClicked.connect(self._on_chosen)
        self.tabs = QTabWidget()
        self.tabs.addTab(self.models, "Models")
        self.tabs.addTab(self.phrases, "Phrases")
        self.tabs.addTab(self.changed, "Changed most")
        self.refresh = button("Refresh", "Read the project's history again.", self.reload)
        self.write = button(
            "Write report...", "One HTML page and CSV tables, into a folder.", self.choose
        )
        self.note = QLabel()
        self.note.setWordWrap(True)
        layout = QVBoxLayout(self)
        for widget in (self.totals, self.plot, self.legend, self.tabs):
            layout.addWidget(widget, 1 if widget is self.tabs else 0)
        layout.addLayout(row(self.note, self.refresh, self.write, stretch=0))
        self.reload()

    def reload(self) -> None:
        """Read the history again."""
        self._start(None)

    def choose(self) -> None:
        """Ask for a folder and write the report into it."""
        out = QFileDialog.getExistingDirectory(self, "A folder for the report")
        if out:
            self._start(Path(out))

    def _start(self, out: Path | None) -> None:
        store = self._session.store
        project = store if isinstance(store, Project) else None
        self.refresh.setEnabled(project is not None)
        self.write.setEnabled(project is not None)
        if project is None:
            self.note.setText(IN_MEMORY)
            return
        self.note.setText("Reading the history...")
        self.reader.start(project.folder, project.root, out)

    def _on_written(self, path: Path) -> None:
        self.note.setText(f"Written to {path}")

    def _on_failed(self, text: str) -> None:
        self.note.setText(text)

    def _on_progress(self, done: int, total: int) -> None:
        self.note.setText(f"Comparing proposals with what was accepted: {done} of {total}")

    def _on_read(self, reading: Reading) -> None:
        ledger, images = reading.ledger, reading.ledger.images
        rate = "" if ledger.per_hour is None else f" - {ledger.per_hour:.0f} an hour"
        self.totals.setText(
            f"{len(ledger.accepted)} of {ledger.image_count} images accepted in "
            f"{span(images['active_s'].sum())} of work{rate}, {images['click'].sum()} clicks. "
            f"A pause counts as {IDLE_SECONDS:g} s at most."
        )
        self.plot.setVisible(bool(reading.plot))
        if reading.plot:
            self.legend.setText(
                " &nbsp; ".join(
                    f'<font color="{c}">\u25cf</font> {name}' for name, c in reading.key
                )
            )
            pixmap = QPixmap()
            pixmap.loadFromData(reading.plot)
            pixmap.setDevicePixelRatio(pixmap.width() / PLOT_WIDTH)
            self.plot.setPixmap(pixmap)
        models = ledger.models
        _fill(self.models, MODELS, models.assign(share=models[Way.UNCHANGED] / models["images"]))
        _fill(self.phrases, PHRASES, ledger.phrases)
        _fill(self.changed, CHANGED, ledger.changed)
        failed = len(ledger.failures)
        self.note.setText(f"{failed} images could not be compared." if failed else "")

    def _on_chosen(self, item: QTableWidgetItem) -> None:
        first = self.changed.item(item.row(), 0)
        if first is not None and first.text() in self._session.image_queue:
            self._session.navigation.open_image(first.text())

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802
        """End the reading."""
        self.reader.cancel()
        super().closeEvent(event)


Columns = Sequence[tuple[str, str, str]]


def _table(columns: Columns) -> QTableWidget:
    table = QTableWidget(0, len(columns))
    table.setHorizontalHeaderLabels([head for head, _, _ in columns])
    table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    table.verticalHeader().hide()
    header = table.horizontalHeader()
    header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
    header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
    return table


def _fill(table: QTableWidget, columns: Columns, rows: pd.DataFrame) -> None:
    table.setRowCount(len(rows))
    for column, (_, name, form) in enumerate(columns):
        for number, value in enumerate(rows[name]):
            item = QTableWidgetItem(_text(value, form))
            if column:
                item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            table.setItem(number, column, item)


def _text(value: Any, form: str) -> str:
    missing = value != value  # only a number that is none differs from itself
    return "-" if missing else f"{value:{form}}"


@dataclass(frozen=True)
class ExportChoices:
    """What an export asks for."""

    organ: Annotated[
        str,
        {
            "placeholder": "such as: breast",
            "tooltip": "What the images show; written into dataset.json.",
        },
    ]
    target: Annotated[str, {"tooltip": "The phrase for class 1; written into dataset.json."}]
    groups: Annotated[
        str,
        {
            "placeholder": "such as: prefix:_",
            "tooltip": "Which images are of one patient or loop, so that no split tears them "
            "apart: folder, prefix:_ (what stands before the first _ of a name), a regular "
            "expression, or a CSV. Left empty, the images of a patient's folder and the frames of "
            "a file belong together.",
        },
    ]
    format: Annotated[str, {"choices": tuple(FORMATS), "tooltip": "How the data set is written."}]
    into: Annotated[
        str,
        {
            "placeholder": "a new or an empty folder",
            "tooltip": "Where the data set goes. A name alone is a folder beside that of the "
            "images; a folder that holds anything else is refused.",
        },
    ]
    measurements: Annotated[
        bool,
        {
            "label": "with measurements.csv",
            "tooltip": "Area, perimeter, axes and depth of each object, in pixels and where it is "
            "known in millimetres.",
        },
    ]
    overwrite: Annotated[
        bool,
        {
            "label": "replace an earlier export",
            "tooltip": "Only of what this program exported there, and what nobody changed since.",
        },
    ]


class ExportPanel(QWidget):
    """Everything that is accepted, as a data set; and labels of others, as proposals."""

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__()
        self._session = session
        self._ledger: LedgerDialog | None = None
        self.form = Form(ExportChoices)
        self.place: QLineEdit = self.form.controls["into"].native
        self.browse = button("...", "Choose a folder, or type a new name there.", self.choose)
        self.form.add_beside("into", self.browse)
        formats = self.form.controls["format"].native
        for index, each in enumerate(FORMATS.values()):
            formats.setItemData(index, each.summary, Qt.ItemDataRole.ToolTipRole)
        self.run = button(
            "Export", "Write accepted images and label maps as a data set.", self.export
        )
        self.take = QToolButton()
        self.take.setText("Import...")
        self.take.setStyleSheet("QToolButton { padding-right: 14px; }")  # for the menu's arrow
        self.take.setToolTip(
            "Labels of another program, or of an export, become proposals to correct and accept; "
            "what is accepted or begun stays as it is."
        )
        self.take.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(self.take)
        menu.addAction("File...", self.import_file)
        menu.addAction("Folder...", self.import_folder)
        self.take.setMenu(menu)
        self.effort = button(
            "Effort...", "Time, clicks and models for each image, and a report.", self.show_effort
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.form)
        layout.addLayout(row(self.run, self.take, stretch=0))
        layout.addWidget(self.effort)
        session.classes_changed.connect(self._on_classes)
        self._on_classes()

    def choose(self) -> bool:
        """Ask for a folder, which may be a new one; False where the person gave none."""
        dialog = QFileDialog(self, "A new or an empty folder for the data set", str(self._beside))
        dialog.setOption(QFileDialog.Option.ShowDirsOnly)
        dialog.setFileMode(QFileDialog.FileMode.AnyFile)  # so that a new name may be typed
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setOption(QFileDialog.Option.DontConfirmOverwrite)
        dialog.setLabelText(QFileDialog.DialogLabel.Accept, "Choose")
        if not dialog.exec():
            return False
        self.place.setText(dialog.selectedFiles()[0])
        return True

    def export(self) -> None:
        """Export into the folder that is typed, or else ask for one."""
        if self.place.text().strip() or self.choose():
            self.export_to(self._beside / Path(self.place.text().strip()).expanduser())

    @property
    def _beside(self) -> Path:
        """The folder that the images' folder is in: exports do not go among images."""
        store = self._session.store
        return store.folder.absolute().parent if isinstance(store, Project) else Path.home()

    def export_to(self, out: Path) -> None:
        """Export into a folder."""
        organ, target, groups = (
            self.form.value(name).strip() for name in ("organ", "target", "groups")
        )
        self._session.export(
            out,
            organ or DEFAULT_ORGAN,
            target or None,
            self.form.value("overwrite"),
            groups or None,
            self.form.value("format"),
            self.form.value("measurements"),
        )

    def import_file(self) -> None:
        """Ask for a file with labels and import it."""
        name, _ = QFileDialog.getOpenFileName(self, "A file with labels", str(self._beside))
        if name:
            self._session.navigation.import_labels(name)

    def import_folder(self) -> None:
        """Ask for a folder with labels and import it."""
        name = QFileDialog.getExistingDirectory(self, "A folder with labels", str(self._beside))
        if name:
            self._session.navigation.import_labels(name)

    def show_effort(self) -> LedgerDialog:
        """Open the effort ledger beside the window, or bring it up to date."""
        if self._ledger is None:
            self._ledger = LedgerDialog(self._session, self)
        else:
            self._ledger.reload()
        self._ledger.show()
        self._ledger.raise_()
        return self._ledger

    def close_effort(self) -> None:
        """Close the effort ledger, if it is open."""
        if self._ledger is not None:
            self._ledger.close()

    @property
    def _first_class(self) -> str:
        first = self._session.table.get(1)
        return "object" if first is None else first.name

    def _on_classes(self) -> None:
        self.form.controls["target"].native.setPlaceholderText(self._first_class)
