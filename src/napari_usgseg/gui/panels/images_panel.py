"""The files of the folder: how far they are, which are shown, and the way on."""

from __future__ import annotations

from bisect import bisect_left
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray
from PIL import Image
from qtpy.QtCore import QAbstractListModel, QModelIndex, QObject, QSize, Qt, Signal
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import (
    QComboBox,
    QLineEdit,
    QListView,
    QSizePolicy,
    QToolTip,
    QVBoxLayout,
    QWidget,
)

from ...annotation.image_queue import ImageQueue
from ...annotation.session import AnnotationSession
from ...core.errors import UsgsegError
from ...core.notes import Notes
from ...core.types import ImageRecord
from ...io.images import read_image
from ...project.records import ImageState
from ..keys import explain
from ..parts import WARNING, NewestFirst, button, keep_room, one_line, row

WIDTH, HEIGHT = 40, 30
KEPT_BYTES = 24_000_000
"""Of the pictures of one size: thousands of small ones, some hundred in the overview."""
WAITING = 48
"""So many may wait; those that were asked for first, and scrolled away since, are forgotten."""


class Thumbnails(QObject):
    """Thumbnails of image files by id; the one asked for last is made first.

    ``made`` carries the id of an image whose thumbnail is there now.
    """

    made = Signal(str)

    def __init__(
        self, parent: QObject | None = None, size: tuple[int, int] = (WIDTH, HEIGHT)
    ) -> None:
        super().__init__(parent)
        self._size = size
        self._kept: LRUCache[str, QIcon] = LRUCache(KEPT_BYTES // (4 * size[0] * size[1]))
        self._asked: dict[str, ImageRecord] = {}
        self._thread = NewestFirst("usgseg-thumbnails", WAITING, self)
        self._thread.done.connect(self._on_done, Qt.ConnectionType.QueuedConnection)
        self.close = self._thread.close

    def get(self, record: ImageRecord) -> QIcon | None:
        """The thumbnail of an image, or None while it is made."""
        found = self._kept.get(record.image_id)
        if found is None and record.image_id not in self._asked:
            self._asked[record.image_id] = record
            forgotten = self._thread.submit(record, partial(_read_thumbnail, record, self._size))
            if forgotten is not None:
                self._asked.pop(forgotten.image_id, None)
        return found

    def forget(self) -> None:
        """Drop all: another folder is open."""
        self._thread.forget()
        self._asked.clear()
        self._kept.clear()

    def _on_done(self, record: ImageRecord, picture: NDArray[np.uint8] | None) -> None:
        if self._asked.get(record.image_id) is not record:  # of another folder by now
            return
        del self._asked[record.image_id]
        if picture is None:  # it is tried again when its row is painted next
            return
        height, width = picture.shape[:2]
        image = QImage(
            picture.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888
        ).copy()
        pixmap = QPixmap.fromImage(image)
        icon = QIcon(pixmap)
        icon.addPixmap(pixmap, QIcon.Mode.Selected)  # in its own grey also where it is selected
        self._kept[record.image_id] = icon
        self.made.emit(record.image_id)


def _read_thumbnail(record: ImageRecord, size: tuple[int, int]) -> NDArray[np.uint8]:
    try:
        return thumbnail(read_image(record.path, record.frame), size)
    except (UsgsegError, MemoryError):  # said where the image is opened
        return np.zeros((1, 1, 3), np.uint8)


def thumbnail(
    pixels: NDArray[np.uint8], fits: tuple[int, int] = (WIDTH, HEIGHT)
) -> NDArray[np.uint8]:
    """An image (H, W, 3) made so small that it fits into (width, height), its shape kept."""
    height, width = pixels.shape[:2]
    shrink = max(width / fits[0], height / fits[1], 1.0)
    stride = max(int(shrink) // 4, 1)
    size = (max(round(width / shrink), 1), max(round(height / shrink), 1))
    coarse = Image.fromarray(np.ascontiguousarray(pixels[::stride, ::stride]))
    return np.asarray(coarse.resize(size, Image.Resampling.BOX))


MARKS = {
    ImageState.UNTOUCHED: "○",
    ImageState.PROPOSED: "◐",
    ImageState.ACCEPTED: "●",
    ImageState.EMPTY: "∅",
    ImageState.SKIPPED: "–",
    ImageState.FLAGGED: "⚑",
}
WORDS = {
    ImageState.UNTOUCHED: "",
    ImageState.PROPOSED: "proposed",
    ImageState.ACCEPTED: "labelled",
    ImageState.EMPTY: "empty",
    ImageState.SKIPPED: "skipped",
    ImageState.FLAGGED: "for review",
}
TOLD_FIRST = (
    ImageState.ACCEPTED,
    ImageState.EMPTY,
    ImageState.PROPOSED,
    ImageState.FLAGGED,
    ImageState.SKIPPED,
)
"""Of a loop, whose row may have no room for all."""
ROW_HEIGHT = HEIGHT + 4


class ImagesModel(QAbstractListModel):
    """The files that the filter lets through, and the current one; a loop is one row.

    A row is made only where it is seen, and nothing looks at all rows but opening a folder and
    choosing a filter.
    """

    def __init__(self, session: AnnotationSession, thumbnails: Thumbnails) -> None:
        super().__init__()
        self._session = session
        self._thumbnails = thumbnails
        self._entries: list[int] | None = None  # None: all files
        self._current: int | None = None
        self._queue = session.image_queue
        thumbnails.made.connect(self._on_state)

    def refresh(self) -> None:
        """Show another folder, or other states."""
        self.beginResetModel()
        browser = self._session.image_queue
        if browser is not self._queue:
            self._queue.state_changed.disconnect(self._on_state, missing_ok=True)
            self._thumbnails.forget()
            self._queue = browser
            browser.state_changed.connect(self._on_state)
        self._current = self._entry_here()
        self._entries = None
        if browser.only is not None:
            self._entries = list(dict.fromkeys(map(browser.entry_of, browser.places(browser.only))))
        self.endResetModel()
        if self._current is not None:
            self._look_again(self._current)

    def go(self) -> None:
        """Another image is the current one."""
        before, self._current = self._current, self._entry_here()
        for entry in {before, self._current} - {None}:
            assert entry is not None
            self._look_again(entry)

    def image_id(self, index: QModelIndex) -> str | None:
        """The image that a click on a row means: of a loop the current frame, or one to do."""
        if not index.isValid():
            return None
        entry = self._entry(index.row())
        here = self._session.record
        if here is not None and entry == self._current:
            return here.image_id
        return self._queue.resume_in(self._queue.entries[entry])

    def row_of(self, image_id: str) -> QModelIndex:
        """Where an image is; an invalid index where it is filtered out."""
        row, there = self._find(self._queue.entry_of(self._queue.index_of(image_id)))
        return self.index(row) if there else QModelIndex()

    def _entry_here(self) -> int | None:
        place = self._queue.position
        return None if place is None else self._queue.entry_of(place)

    def _entry(self, row: int) -> int:
        return row if self._entries is None else self._entries[row]

    def _find(self, entry: int) -> tuple[int, bool]:
        """The row of a file, or the row that it would have; and whether it has one."""
        if self._entries is None:
            return entry, True
        row = bisect_left(self._entries, entry)
        return row, row < len(self._entries) and self._entries[row] == entry

    def _on_state(self, image_id: str) -> None:
        if image_id in self._queue:
            self._look_again(self._queue.entry_of(self._queue.index_of(image_id)))

    def _look_again(self, entry: int) -> None:
        """Show, hide or repaint the one file."""
        row, there = self._find(entry)
        only, places = self._queue.only, self._queue.entries[entry]
        passes = only is None or entry == self._current or self._queue.count(only, places) > 0
        if there and passes:
            self.dataChanged.emit(self.index(row), self.index(row))
        elif there:
            assert self._entries is not None
            self.beginRemoveRows(QModelIndex(), row, row)
            del self._entries[row]
            self.endRemoveRows()
        elif passes:
            assert self._entries is not None
            self.beginInsertRows(QModelIndex(), row, row)
            self._entries.insert(row, entry)
            self.endInsertRows()

    def rowCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: N802, B008
        """How many rows there are."""
        return len(self._queue.entries) if self._entries is None else len(self._entries)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """A mark, the file's name and a word; its thumbnail; its path."""
        if not index.isValid():
            return None
        places = self._queue.entries[self._entry(index.row())]
        record = self._queue.records[places.start]
        if role == Qt.ItemDataRole.DisplayRole:
            return row_text(self._queue, places)
        if role == Qt.ItemDataRole.DecorationRole:
            return self._thumbnails.get(record)
        if role == Qt.ItemDataRole.SizeHintRole:
            return QSize(WIDTH, ROW_HEIGHT)
        if role == Qt.ItemDataRole.ToolTipRole:
            frames = f"{len(places)} frames of " if len(places) > 1 else ""
            return f"{record.path} - {frames}{record.size_hw[1]} x {record.size_hw[0]} pixels"
        return None


def row_text(queue: ImageQueue, places: range) -> str:
    """A file in the list: "● a.png   labelled" or "◐ b.dcm   40 frames: 12 labelled"."""
    name = queue.records[places.start].path.name
    counts = {state: queue.count(state, places) for state in ImageState}
    there = [state for state, count in counts.items() if count]
    if len(places) == 1:
        return f"{MARKS[there[0]]}  {name}   {WORDS[there[0]]}".rstrip()
    mark = MARKS[ImageState.PROPOSED if len(there) > 1 else there[0]]
    told = (state for state in TOLD_FIRST if counts[state])
    words = ", ".join(f"{counts[state]} {WORDS[state]}" for state in told)
    return f"{mark}  {name}   {len(places)} frames{words and ': '}{words}"


FILTERS: dict[str, ImageState | None] = {
    "all": None,
    "untouched": ImageState.UNTOUCHED,
    "proposed": ImageState.PROPOSED,
    "labelled": ImageState.ACCEPTED,
    "empty": ImageState.EMPTY,
    "skipped": ImageState.SKIPPED,
    "for review": ImageState.FLAGGED,
}


class ImagesPanel(QWidget):
    """Progress, a filter, going to a name, the list, and the way on.

    ``looked_over`` asks for the overview.
    """

    looked_over = Signal()

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__()
        self._session = session
        self._queue: ImageQueue | None = None
        self._notes = Notes()
        self.progress = one_line()
        self.remarks = button("!", "", self._tell_remarks)
        self.remarks.setStyleSheet(WARNING)
        keep_room(self.remarks)
        self.filter = QComboBox()
        self.filter.addItems(list(FILTERS))
        self.filter.setToolTip("Show and walk through the images in this state only.")
        self.filter.textActivated.connect(self._on_filter)
        self.look_over = explain(button("Look over", "", self.looked_over.emit), "look over")
        self.name = QLineEdit()
        self.name.setPlaceholderText("go to a name")
        explain(self.name, "go to a name")
        self.name.returnPressed.connect(self._on_name)
        self.thumbnails = Thumbnails(self)
        self.model = ImagesModel(session, self.thumbnails)
        self.list = self._list()
        self.previous = explain(button("<", "", partial(session.navigation.step, -1)), "previous")
        self.next = explain(button(">", "", partial(session.navigation.step, 1)), "next")
        self.untouched = explain(
            button("Next untouched", "", session.navigation.next_untouched), "next untouched"
        )
        self.skip = explain(button("Skip", "", session.navigation.skip), "skip")
        flag = MARKS[ImageState.FLAGGED]
        self.flag = explain(button(flag, "", session.navigation.flag), "flag for review")
        for narrow in (self.previous, self.next, self.flag, self.remarks):
            narrow.setFixedWidth(34)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(row(self.progress, self.remarks, stretch=0))
        layout.addLayout(row(self.filter, self.name, self.look_over, stretch=1))
        layout.addWidget(self.list, 1)
        layout.addLayout(
            row(self.previous, self.next, self.untouched, self.skip, self.flag, stretch=2)
        )
        session.opened.connect(self._on_opened)
        session.image_changed.connect(self._on_image)
        session.image_loaded.connect(self._on_loaded)
        self._on_opened()

    def _list(self) -> QListView:
        made = QListView()
        made.setModel(self.model)
        made.setUniformItemSizes(True)
        made.setIconSize(QSize(WIDTH, HEIGHT))
        made.setMinimumHeight(ROW_HEIGHT + 6)
        made.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Expanding)
        made.setToolTip("Click an image or a loop to go to it.")
        made.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        made.clicked.connect(self._on_clicked)
        made.activated.connect(self._on_clicked)
        return made

    def ask_name(self) -> None:
        """Put the cursor into the field for a name."""
        self.name.setFocus()
        self.name.selectAll()

    def close_threads(self) -> None:
        """Make no more thumbnails."""
        self.thumbnails.close()

    def _on_opened(self) -> None:
        if self._queue is not None:
            self._queue.state_changed.disconnect(self._on_progress, missing_ok=True)
        self._queue = self._session.image_queue
        self._queue.only = FILTERS[self.filter.currentText()]
        self._queue.state_changed.connect(self._on_progress)
        self.model.refresh()
        self._on_progress()
        self._notes = Notes()
        self._show_remarks()

    def _on_loaded(self) -> None:
        loaded = self._session.loaded
        if loaded is not None and loaded.notes:
            for path, text in loaded.notes:
                self._notes.add(self._in_folder(Path(path)), text)
            self._show_remarks()

    def _in_folder(self, path: Path) -> str:
        """A file's path from the folder of images on, for two of them may have one name."""
        folder = None if self._session.store is None else self._session.store.folder
        if folder is not None and path.is_relative_to(folder):
            return path.relative_to(folder).as_posix()
        return path.name

    def _show_remarks(self) -> None:
        """What else the folder holds, and what was odd about the images that were opened so far."""
        self.remarks.setToolTip("\n".join([*self._session.left_out, *self._notes.lines()]))
        self.remarks.setVisible(bool(self.remarks.toolTip()))

    def _tell_remarks(self) -> None:
        """A click is as good as waiting over the sign."""
        below = self.remarks.mapToGlobal(self.remarks.rect().bottomLeft())
        QToolTip.showText(below, self.remarks.toolTip(), self.remarks)

    def _on_filter(self, name: str) -> None:
        self._session.navigation.show_only(FILTERS[name])
        self.model.refresh()
        self._show_current()

    def _on_name(self) -> None:
        self._session.navigation.go_to_name(self.name.text())
        self.name.clearFocus()  # so that the next key is a shortcut

    def _on_clicked(self, index: QModelIndex) -> None:
        image_id = self.model.image_id(index)
        if image_id is not None:
            self._session.navigation.open_image(image_id)

    def _on_image(self) -> None:
        self.model.go()
        self._show_current()

    def _show_current(self) -> None:
        record = self._session.record
        index = QModelIndex() if record is None else self.model.row_of(record.image_id)
        if index.isValid():
            self.list.setCurrentIndex(index)
            self.list.scrollTo(index)

    def _on_progress(self, _: Any = None) -> None:
        text = progress_text(self._session.image_queue)
        self.progress.setText(text)
        self.progress.setToolTip(f"{text}.")


def progress_text(queue: ImageQueue) -> str:
    """How far a folder is: "312 of 500 labelled, 3 of them empty, 41 per hour, about 4 h left"."""
    words = [f"{queue.accepted_count} of {len(queue.records)} labelled"]
    if empty := queue.count(ImageState.EMPTY):
        words.append(f"{empty} of them empty")
    pace, hours = queue.per_hour(), queue.hours_left()
    if pace is not None:
        words.append(f"{pace} per hour")
    if hours:
        minutes = max(1, round(60 * hours))
        words.append(f"about {f'{hours:.0f} h' if minutes >= 90 else f'{minutes} min'} left")
    return ", ".join(words)
