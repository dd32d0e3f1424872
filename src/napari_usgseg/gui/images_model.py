"""Qt's view of the session's images; what changes is told row by row."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

from qtpy.QtCore import QAbstractListModel, QModelIndex, QSize, Qt

from ..session.annotator import AnnotationSession
from ..store.base import ImageState
from .thumbnails import HEIGHT, WIDTH, Thumbnails

MARKS = {
    ImageState.UNTOUCHED: "○",
    ImageState.PROPOSED: "◐",
    ImageState.COMMITTED: "●",
    ImageState.SKIPPED: "–",
    ImageState.FLAGGED: "⚑",
}
WORDS = {
    ImageState.UNTOUCHED: "",
    ImageState.PROPOSED: "proposed",
    ImageState.COMMITTED: "labelled",
    ImageState.SKIPPED: "skipped",
    ImageState.FLAGGED: "for review",
}
ROW_HEIGHT = HEIGHT + 4


class ImagesModel(QAbstractListModel):
    """The images that the filter lets through, and the current one.

    A row is made only where it is seen, and nothing looks at all rows but opening a folder and
    choosing a filter.
    """

    def __init__(self, session: AnnotationSession, thumbnails: Thumbnails) -> None:
        super().__init__()
        self._session = session
        self._thumbnails = thumbnails
        self._places: list[int] | None = None  # None: all images
        self._current: int | None = None
        self._browser = session.browser
        thumbnails.made.connect(self._on_state)

    def refresh(self) -> None:
        """Show another folder, or other states."""
        self.beginResetModel()
        browser = self._session.browser
        if browser is not self._browser:
            self._browser.state_changed.disconnect(self._on_state, missing_ok=True)
            self._thumbnails.forget()
            self._browser = browser
            browser.state_changed.connect(self._on_state)
        self._current = browser.position
        self._places = None if browser.only is None else list(browser.places(browser.only))
        self.endResetModel()
        if self._current is not None:
            self._look_again(self._current)

    def go(self) -> None:
        """Another image is the current one."""
        before, self._current = self._current, self._browser.position
        for place in {before, self._current} - {None}:
            assert place is not None
            self._look_again(place)

    def image_id(self, index: QModelIndex) -> str | None:
        """The image in a row."""
        return self._browser.records[self._place(index.row())].image_id if index.isValid() else None

    def row_of(self, image_id: str) -> QModelIndex:
        """Where an image is; an invalid index where it is filtered out."""
        place = self._browser.index_of(image_id)
        row, there = self._find(place)
        return self.index(row) if there else QModelIndex()

    def _place(self, row: int) -> int:
        return row if self._places is None else self._places[row]

    def _find(self, place: int) -> tuple[int, bool]:
        """The row of an image, or the row that it would have; and whether it has one."""
        if self._places is None:
            return place, True
        row = bisect_left(self._places, place)
        return row, row < len(self._places) and self._places[row] == place

    def _on_state(self, image_id: str) -> None:
        if image_id in self._browser:
            self._look_again(self._browser.index_of(image_id))

    def _look_again(self, place: int) -> None:
        """Show, hide or repaint the one image."""
        row, there = self._find(place)
        state = self._browser.state_of(self._browser.records[place].image_id)
        passes = self._places is None or place == self._current or state is self._browser.only
        if there and passes:
            self.dataChanged.emit(self.index(row), self.index(row))
        elif there:
            assert self._places is not None
            self.beginRemoveRows(QModelIndex(), row, row)
            del self._places[row]
            self.endRemoveRows()
        elif passes:
            assert self._places is not None
            self.beginInsertRows(QModelIndex(), row, row)
            self._places.insert(row, place)
            self.endInsertRows()

    def rowCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: N802, B008
        """How many rows there are."""
        return len(self._browser.records) if self._places is None else len(self._places)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """A mark, the file's name and a word; its thumbnail; its path."""
        image_id = self.image_id(index)
        if image_id is None:
            return None
        record = self._browser.get(image_id)
        if role == Qt.ItemDataRole.DisplayRole:
            state = self._browser.state_of(image_id)
            frame = "" if record.frame is None else f"  [{record.frame}]"
            return f"{MARKS[state]}  {record.path.name}{frame}   {WORDS[state]}".rstrip()
        if role == Qt.ItemDataRole.DecorationRole:
            return self._thumbnails.get(record)
        if role == Qt.ItemDataRole.SizeHintRole:
            return QSize(WIDTH, ROW_HEIGHT)
        if role == Qt.ItemDataRole.ToolTipRole:
            return f"{record.path} - {record.size_hw[1]} x {record.size_hw[0]} pixels"
        return None
