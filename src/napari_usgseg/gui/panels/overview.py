"""Overview: a grid of the images with their contours, filtered; many are accepted at once."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from itertools import groupby
from typing import Any

import numpy as np
from cachetools import LRUCache
from qtpy.QtCore import QAbstractListModel, QItemSelection, QModelIndex, QRect, QSize, Qt
from qtpy.QtGui import QColor, QIcon, QImage, QKeySequence, QPainter, QPen, QPixmap, QShortcut
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QDialog,
    QDoubleSpinBox,
    QLabel,
    QListView,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from ...annotation.overview import passes
from ...annotation.session import AnnotationSession
from ...core.types import LabelClass
from ...jobs.files import SUMMARY_SIDE, Summary
from ...project.records import ClassTable
from .. import keys
from ..parts import button, row
from .images_panel import FILTERS, MARKS, Thumbnails

WIDTH, HEIGHT = SUMMARY_SIDE, SUMMARY_SIDE * 3 // 4
KEPT_BYTES = 48_000_000
ICON_BYTES = 2 * 4 * WIDTH * HEIGHT
"""Of an image with contours, and of the same with a frame."""
ACCEPT = "Accept marked"
FRAME = 4
"""Around a marked image, in pixels."""
EMPTY = {"empty or not": None, "something on it": False, "nothing on it": True}


def outlines(summary: Summary, table: ClassTable) -> QImage:
    """The contours of a summary's classes in their colours, clear elsewhere."""
    labels = summary.labels()
    edges = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        for by in (1, -1):
            edges |= np.roll(labels, by, axis) != labels
    picture = np.zeros((*labels.shape, 4), np.uint8)
    for item in table.classes:
        color = QColor(item.color)
        on = edges & (labels == item.class_id)
        picture[on] = (color.red(), color.green(), color.blue(), 255)
    height, width = labels.shape
    form = QImage.Format.Format_RGBA8888
    # copy: QImage keeps no reference to the bytes, which are gone after this line.
    return QImage(picture.tobytes(), width, height, 4 * width, form).copy()


class OverviewModel(QAbstractListModel):
    """The images that the filter lets through, in their order.

    Args:
        session: whose images they are.
        thumbnails: of them, without contours.
    """

    def __init__(self, session: AnnotationSession, thumbnails: Thumbnails) -> None:
        super().__init__()
        self._session, self._thumbnails = session, thumbnails
        self.wanted: dict[str, Any] = {}
        self.cell = QSize(WIDTH + 16, HEIGHT + 32)
        self._places: list[int] = []
        self._icons: LRUCache[str, QIcon] = LRUCache(KEPT_BYTES // ICON_BYTES)
        thumbnails.made.connect(self._on_changed)
        session.overview.changed.connect(self._on_changed)

    def show_only(self, **wanted: Any) -> None:
        """Show the images that ``annotation.overview.passes`` with these."""
        self.beginResetModel()
        self.wanted = wanted
        records = self._session.image_queue.records
        self._places = [place for place in range(len(records)) if self._passes(place)]
        self.endResetModel()

    def forget_contours(self) -> None:
        """Other classes or colours: draw all anew."""
        self._icons.clear()

    def forget(self) -> None:
        """Another folder is open."""
        self.forget_contours()
        self._thumbnails.forget()

    def rows_of(self, images: Iterable[str]) -> QItemSelection:
        """Where some images are, of those that are shown; neighbours are one range."""
        queue = self._session.image_queue
        places = {queue.index_of(image_id) for image_id in images if image_id in queue}
        rows = [row for row, place in enumerate(self._places) if place in places]
        selection = QItemSelection()
        for _, group in groupby(enumerate(rows), lambda pair: pair[1] - pair[0]):
            part = [row for _, row in group]
            selection.select(self.index(part[0]), self.index(part[-1]))
        return selection

    def image_id(self, row: int) -> str:
        """The image of a row."""
        return self._session.image_queue.records[self._places[row]].image_id

    def _passes(self, place: int) -> bool:
        queue = self._session.image_queue
        image_id = queue.records[place].image_id
        summary = self._session.overview.get(image_id)
        return passes(summary, queue.state_of(image_id), **self.wanted)

    def _on_changed(self, image_id: str) -> None:
        """Show, hide or draw the one image."""
        queue = self._session.image_queue
        if image_id not in queue:
            return
        self._icons.pop(image_id, None)
        place = queue.index_of(image_id)
        row, wanted = bisect_left(self._places, place), self._passes(place)
        there = row < len(self._places) and self._places[row] == place
        if there and wanted:
            self.dataChanged.emit(self.index(row), self.index(row))
        elif there:
            self.beginRemoveRows(QModelIndex(), row, row)
            del self._places[row]
            self.endRemoveRows()
        elif wanted:
            self.beginInsertRows(QModelIndex(), row, row)
            self._places.insert(row, place)
            self.endInsertRows()

    def rowCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: N802, B008
        """How many images are shown."""
        return len(self._places)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """A mark and the file's name; the thumbnail with contours; classes and score in words."""
        if not index.isValid():
            return None
        image_id = self.image_id(index.row())
        queue = self._session.image_queue
        if role == Qt.ItemDataRole.DisplayRole:
            return f"{MARKS[queue.state_of(image_id)]} {queue.get(image_id).path.name}"
        if role == Qt.ItemDataRole.DecorationRole:
            return self._icon(image_id)
        if role == Qt.ItemDataRole.SizeHintRole:
            return self.cell
        if role == Qt.ItemDataRole.ToolTipRole:
            return self._words(image_id)
        return None

    def _words(self, image_id: str) -> str:
        summary = self._session.overview.get(image_id)
        if summary is None:
            return f"{image_id}: not read yet"
        names = {item.class_id: item.name for item in self._session.table.classes}
        on_it = ", ".join(names.get(value, str(value)) for value in sorted(summary.classes))
        score = "" if summary.score is None else f"; least sure proposal {summary.score:.2f}"
        return f"{image_id}: {on_it or 'nothing on it'}{score}"

    def _icon(self, image_id: str) -> QIcon | None:
        made = self._icons.get(image_id)
        if made is not None:
            return made
        plain = self._thumbnails.get(self._session.image_queue.get(image_id))
        if plain is None:
            return None
        pixmap = QPixmap(WIDTH, HEIGHT)
        pixmap.fill(Qt.GlobalColor.transparent)
        picture = plain.pixmap(WIDTH, HEIGHT)
        size = picture.size()
        at = QRect((WIDTH - size.width()) // 2, (HEIGHT - size.height()) // 2, 0, 0)
        at.setSize(size)
        painter = QPainter(pixmap)
        painter.drawPixmap(at, picture)
        summary = self._session.overview.get(image_id)
        if summary is not None and summary.classes:
            painter.drawImage(at, outlines(summary, self._session.table))
        painter.end()
        icon = QIcon(pixmap)
        marked = QPixmap(pixmap)
        painter = QPainter(marked)
        painter.setPen(QPen(QColor("white"), 2 * FRAME))  # half of it lies outside
        painter.drawRect(marked.rect())
        painter.end()
        icon.addPixmap(marked, QIcon.Mode.Selected)
        self._icons[image_id] = icon
        return icon


class OverviewWindow(QDialog):
    """A window with the grid, its filters, and what can be done with the marked images.

    Args:
        session: whose images they are.
        parent: of the window.
    """

    def __init__(self, session: AnnotationSession, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("Look over the images")
        self.resize(5 * (WIDTH + 24) + 40, 640)
        self._session = session
        self._shown: tuple[LabelClass, ...] = ()
        self.thumbnails = Thumbnails(self, (WIDTH, HEIGHT))
        self.model = OverviewModel(session, self.thumbnails)
        self.grid = self._grid()
        self.classes, self.states, self.empty = QComboBox(), QComboBox(), QComboBox()
        self.classes.setToolTip("Show the images that have this class on them.")
        self.states.addItems(list(FILTERS))
        self.states.setToolTip("Show the images in this state.")
        self.empty.addItems(list(EMPTY))
        self.empty.setToolTip("Show the images that have nothing on them, or something.")
        self.score = QDoubleSpinBox()
        self.score.setRange(0.0, 1.0)
        self.score.setSingleStep(0.05)
        self.score.setPrefix("score below ")
        self.score.setSpecialValueText("any score")  # of the least value
        self.score.setToolTip("Show the images whose least sure proposal has a lower score.")
        self.count = QLabel()
        self.count.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.accept_marked = button(
            ACCEPT,
            "Accept what is proposed or drawn on the marked images; one step of undo for all. "
            "Click marks one, Ctrl and Shift mark more, Ctrl+A all.",
            self._accept_marked,
        )
        self.undo = button("Undo", "Take the last step back.", session.undo)
        for made in (self.accept_marked, self.undo):
            made.setAutoDefault(False)  # else Enter in the grid would press it
        layout = QVBoxLayout(self)
        layout.addLayout(row(self.classes, self.states, self.empty, self.score, stretch=0))
        layout.addWidget(self.grid, 1)
        layout.addLayout(row(self.count, self.undo, self.accept_marked, stretch=0))
        self._keys = {
            "accept and next": QShortcut(QKeySequence(), self, self._accept_marked),
            "undo": QShortcut(QKeySequence(), self, session.undo),
        }
        self.bind_keys()
        for combo in (self.classes, self.states, self.empty):
            combo.activated.connect(self._on_filter)
        self.score.valueChanged.connect(self._on_filter)
        self.grid.selectionModel().selectionChanged.connect(self._say)
        self.model.modelReset.connect(self._say)
        session.overview.changed.connect(self._say)
        session.opened.connect(self._on_opened)
        session.classes_changed.connect(self._on_classes)
        self._on_classes()

    def _grid(self) -> QListView:
        made = QListView()
        made.setModel(self.model)
        made.setViewMode(QListView.ViewMode.IconMode)
        made.setResizeMode(QListView.ResizeMode.Adjust)
        made.setMovement(QListView.Movement.Static)
        made.setLayoutMode(QListView.LayoutMode.Batched)
        made.setUniformItemSizes(True)
        made.setIconSize(QSize(WIDTH, HEIGHT))
        line = made.fontMetrics().lineSpacing()
        self.model.cell = QSize(WIDTH + 16, HEIGHT + 2 * line)
        made.setGridSize(self.model.cell)
        made.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        made.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        made.setToolTip("Enter or a double click opens an image.")
        made.activated.connect(self._on_activated)
        return made

    def bind_keys(self) -> None:
        """Take the keys that the person has chosen."""
        for name, shortcut in self._keys.items():
            shortcut.setKey(keys.sequence_of(name))
        key = keys.key_of("accept and next")
        self.accept_marked.setText(f"{ACCEPT}  ({key})" if key else ACCEPT)

    def look(self) -> None:
        """Come to the front."""
        self._session.overview.begin()
        self._on_filter()
        self.show()
        self.raise_()
        self.activateWindow()
        self.grid.setFocus()

    @property
    def marked(self) -> list[str]:
        """The ids of the marked images, in their order."""
        parts = self.grid.selectionModel().selection()  # few, where indices may be thousands
        rows = sorted(row for part in parts for row in range(part.top(), part.bottom() + 1))
        return [self.model.image_id(row) for row in rows]

    def hideEvent(self, event: Any) -> None:  # noqa: N802
        """Read no more; a window that was made small is still looked at."""
        if not event.spontaneous():
            self._session.overview.end()
        super().hideEvent(event)

    def close_threads(self) -> None:
        """Make no more thumbnails."""
        self.thumbnails.close()

    def _accept_marked(self) -> None:
        self._session.overview.accept(self.marked)

    def _on_activated(self, index: QModelIndex) -> None:
        self._session.navigation.open_image(self.model.image_id(index.row()))
        self.hide()

    def _on_opened(self) -> None:
        self.grid.clearSelection()
        self.model.forget()
        self._on_filter()

    def _on_classes(self) -> None:
        shown, self._shown = self._shown, self._session.table.classes
        if shown == self._shown:  # another one was picked, or they were written down
            return
        chosen = self.classes.currentData()
        self.classes.clear()
        self.classes.addItem("all classes", None)
        for item in self._session.table.classes:
            self.classes.addItem(item.name, item.class_id)
        self.classes.setCurrentIndex(max(0, self.classes.findData(chosen)))
        self.model.forget_contours()
        self._on_filter()

    def _on_filter(self, _: object = None) -> None:
        score, marked = self.score.value(), self.marked
        self.model.show_only(
            only=FILTERS[self.states.currentText()],
            class_id=self.classes.currentData(),
            is_empty=EMPTY[self.empty.currentText()],
            below=score or None,
        )
        chosen = self.grid.selectionModel()
        # A reset of the model forgets the selection.
        chosen.select(self.model.rows_of(marked), chosen.SelectionFlag.Select)

    def _say(self, *_: object) -> None:
        shown, all_ = self.model.rowCount(), len(self._session.image_queue.records)
        marked = sum(part.height() for part in self.grid.selectionModel().selection())
        words = [f"{shown} of {all_} shown", f"{marked} marked"]
        left = self._session.overview.left
        words += [f"{left} still to be read"] if left else []
        self.count.setText(", ".join(words))
