"""The effort ledger in a window of its own: the figures of ``usgseg report`` for this project."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

from qtpy.QtCore import QObject, Qt, Signal
from qtpy.QtGui import QCloseEvent
from qtpy.QtSvgWidgets import QSvgWidget
from qtpy.QtWidgets import (
    QAbstractItemView,
    QDialog,
    QFileDialog,
    QHeaderView,
    QLabel,
    QTableWidget,
    QTableWidgetItem,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from ...annotation.session import AnnotationSession
from ...core.errors import Cancelled, UsgsegError
from ...effort.efforts import IDLE_SECONDS, Way
from ...effort.plots import HEIGHT, WIDTH, key, timeline
from ...effort.report import FILES, Ledger, cache_of, open_for_report, read_ledger, write_csv
from ...effort.tables import committed, span
from ...io.outputs import OutputFolder
from ...project.project import ProjectStore
from ..parts import button, row

TELL_SECONDS = 0.2
DOTS = 1000
"""Each is drawn anew with every repaint, on the thread of the window."""
IN_MEMORY = "The ledger is kept for folders of images, not for a layer that has no file."
MODEL_HEADS = ("first proposal", "images", "unchanged", "median s", "saved s", "Dice", "HD95 px")
PHRASE_HEADS = ("class", "phrase", "looked for", "found", "Dice")
CHANGED_HEADS = ("image", "Dice", "HD95 px", "clicks", "seconds")


class LedgerReader(QObject):
    """Reads the ledger on a thread of its own, through a connection of its own.

    Signals: ``progressed`` (images measured, in all), ``read`` (a ``Ledger``), ``written`` (the
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
        """Body of the thread."""

        def progress(done: int, total: int) -> None:
            if number != self._asked:
                raise Cancelled
            now = time.monotonic()
            if now - self._told > TELL_SECONDS:
                self._told = now
                self.progressed.emit(done, total)

        try:
            report = OutputFolder(out, overwrite=True) if out is not None else None
            if report is not None:
                report.check(*(report.root / name for name in FILES))
            stores = open_for_report(folder, root)
            try:
                ledger = read_ledger(stores, progress, cache_of(stores))
                if report is not None:
                    from ...effort.page import write_page

                    write_csv(ledger, report.root, report.write)
                    write_page(ledger, stores, report.root / "index.html", report.write)
            finally:
                for store in stores:
                    store.close()
            if number == self._asked:
                self.read.emit(ledger)
                if out is not None:
                    self.written.emit(out / "index.html")
        except Cancelled:
            pass
        except (UsgsegError, OSError) as error:
            if number == self._asked:
                self.failed.emit(str(error))
        except RuntimeError:
            return  # Qt has taken the reader down meanwhile


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
        self.plot = QSvgWidget()
        self.plot.renderer().setAspectRatioMode(Qt.AspectRatioMode.KeepAspectRatio)
        self.plot.setFixedHeight(740 * HEIGHT // WIDTH)
        self.legend = QLabel()
        self.legend.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.models, self.phrases = _table(MODEL_HEADS), _table(PHRASE_HEADS)
        self.changed = _table(CHANGED_HEADS)
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
        project = store if isinstance(store, ProjectStore) else None
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

    def _on_read(self, ledger: Ledger) -> None:
        sums, done = ledger.totals, committed(ledger.efforts)
        rate = "" if sums.per_hour is None else f" - {sums.per_hour:.0f} an hour"
        self.totals.setText(
            f"{sums.committed} of {ledger.images} images accepted in {span(sums.active_s)} "
            f"of work{rate}, {sums.clicks} clicks. A pause counts as {IDLE_SECONDS:g} s at most."
        )
        self.plot.setVisible(bool(done))
        if done:
            self.legend.setText(
                " &nbsp; ".join(f'<font color="{c}">\u25cf</font> {name}' for name, c in key(done))
            )
            self.plot.load(timeline(done, DOTS).encode())
            self.plot.renderer().setAspectRatioMode(Qt.AspectRatioMode.KeepAspectRatio)
        _fill(
            self.models,
            [
                (
                    item.name,
                    str(item.images),
                    f"{item.share(Way.UNCHANGED):.0%}",
                    *map(_text, (item.median_s, item.saved_s)),
                    _text(item.dice, 3),
                    _text(item.hd95_px),
                )
                for item in ledger.models
            ],
        )
        _fill(
            self.phrases,
            [
                (
                    item.class_name,
                    item.phrase,
                    str(item.searched),
                    str(item.found),
                    _text(item.dice, 3),
                )
                for item in ledger.phrases
            ],
        )
        qualities = [ledger.qualities[item.annotator, item.image_id] for item in ledger.changed]
        _fill(
            self.changed,
            [
                (
                    item.image_id,
                    _text(quality.dice, 3),
                    _text(quality.hd95_px),
                    str(item.clicks),
                    _text(item.active_s),
                )
                for item, quality in zip(ledger.changed, qualities, strict=True)
            ],
        )
        failed = len(ledger.failures)
        self.note.setText(f"{failed} images could not be compared." if failed else "")

    def _on_chosen(self, item: QTableWidgetItem) -> None:
        first = self.changed.item(item.row(), 0)
        if first is not None and first.text() in self._session.browser:
            self._session.walk.open_image(first.text())

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802
        """End the reading."""
        self.reader.cancel()
        super().closeEvent(event)


def _table(heads: Sequence[str]) -> QTableWidget:
    table = QTableWidget(0, len(heads))
    table.setHorizontalHeaderLabels(list(heads))
    table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    table.verticalHeader().hide()
    header = table.horizontalHeader()
    header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
    header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
    return table


def _fill(table: QTableWidget, rows: Sequence[Sequence[str]]) -> None:
    table.setRowCount(len(rows))
    for number, values in enumerate(rows):
        for column, value in enumerate(values):
            item = QTableWidgetItem(value)
            if column:
                item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            table.setItem(number, column, item)


def _text(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
