"""The images of the folder: a list that stays fluid at ten thousand, states, and the way on."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QAbstractListModel, QModelIndex, Qt
from qtpy.QtWidgets import QComboBox, QLabel, QListView, QSizePolicy, QVBoxLayout, QWidget

from ..session.annotator import AnnotationSession
from ..store.base import ImageState
from .parts import button, row, tip

MARKS = {
    ImageState.UNTOUCHED: "○",
    ImageState.PROPOSED: "◐",
    ImageState.COMMITTED: "●",
    ImageState.SKIPPED: "–",
}
WORDS = {
    ImageState.UNTOUCHED: "",
    ImageState.PROPOSED: "proposed",
    ImageState.COMMITTED: "labelled",
    ImageState.SKIPPED: "skipped",
}
FILTERS: dict[str, ImageState | None] = {
    "all": None,
    "untouched": ImageState.UNTOUCHED,
    "proposed": ImageState.PROPOSED,
    "labelled": ImageState.COMMITTED,
    "skipped": ImageState.SKIPPED,
}


class ImagesModel(QAbstractListModel):
    """Qt's view of the session's images; rows are made only where they are seen."""

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__()
        self._session = session
        self._only: ImageState | None = None
        self._ids: list[str] = []

    def refresh(self, only: ImageState | None) -> None:
        """Show the images in one state, or all; the current image is always shown."""
        self._only = only
        current = self._session.record
        self.beginResetModel()
        self._ids = [
            record.image_id
            for record in self._session.browser.records
            if only is None or record is current or self._session.state_of(record.image_id) is only
        ]
        self.endResetModel()

    def repaint(self) -> None:
        """Show states anew, leaving the rows as they are."""
        if self._ids:
            self.dataChanged.emit(self.index(0), self.index(len(self._ids) - 1))

    def image_id(self, index: QModelIndex) -> str | None:
        """The image in a row."""
        return self._ids[index.row()] if index.isValid() else None

    def row_of(self, image_id: str) -> QModelIndex:
        """Where an image is; an invalid index where it is filtered out."""
        if self._only is None and image_id in self._session.browser:
            return self.index(self._session.browser.index_of(image_id))
        return self.index(self._ids.index(image_id)) if image_id in self._ids else QModelIndex()

    def rowCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: N802, B008
        """How many rows there are."""
        return len(self._ids)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """A mark, the file's name and a word."""
        image_id = self.image_id(index)
        if image_id is None:
            return None
        record = self._session.browser.get(image_id)
        if role == Qt.ItemDataRole.DisplayRole:
            state = self._session.state_of(image_id)
            frame = "" if record.frame is None else f"  [{record.frame}]"
            return f"{MARKS[state]}  {record.path.name}{frame}   {WORDS[state]}".rstrip()
        if role == Qt.ItemDataRole.ToolTipRole:
            return f"{record.path} - {record.size_hw[1]} x {record.size_hw[0]} pixels"
        return None


class ImagesPanel(QWidget):
    """Progress, the list, a filter, previous and next."""

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__()
        self._session = session
        self.progress = QLabel()
        self.filter = QComboBox()
        self.filter.addItems(list(FILTERS))
        self.filter.setToolTip("Show only the images in this state.")
        self.filter.currentTextChanged.connect(self._on_filter)
        self.model = ImagesModel(session)
        self.list = QListView()
        self.list.setModel(self.model)
        self.list.setUniformItemSizes(True)
        self.list.setMinimumHeight(72)
        self.list.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Expanding)
        self.list.setToolTip("Click an image to go to it.")
        self.list.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.list.clicked.connect(self._on_clicked)
        self.list.activated.connect(self._on_clicked)
        self.previous = button(
            "< Previous", tip("Go to the image before.", "previous"), lambda: session.walk.step(-1)
        )
        self.next = button(
            "Next >", tip("Go to the image after.", "next"), lambda: session.walk.step(1)
        )
        self.untouched = button(
            "Next untouched",
            tip("Go to the next image without labels.", "next untouched"),
            session.walk.next_untouched,
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(row(self.progress, self.filter, stretch=0))
        layout.addWidget(self.list, 1)
        layout.addLayout(row(self.previous, self.next, self.untouched))
        session.opened.connect(self._on_filter)
        session.image_changed.connect(self._on_image)
        session.states_changed.connect(self._on_states)

    def _on_filter(self, _: Any = None) -> None:
        self.model.refresh(FILTERS[self.filter.currentText()])
        self._on_image()
        self._on_states()

    def _on_clicked(self, index: QModelIndex) -> None:
        image_id = self.model.image_id(index)
        if image_id is not None:
            self._session.walk.open_image(image_id)

    def _on_image(self) -> None:
        record = self._session.record
        if record is None:
            return
        if FILTERS[self.filter.currentText()] is not None:
            self.model.refresh(FILTERS[self.filter.currentText()])
        index = self.model.row_of(record.image_id)
        if index.isValid():
            self.list.setCurrentIndex(index)
            self.list.scrollTo(index)

    def _on_states(self) -> None:
        browser = self._session.browser
        pace = browser.per_hour()
        text = f"{browser.committed} of {len(browser.records)} labelled"
        self.progress.setText(text if pace is None else f"{text} - {pace} an hour")
        self.model.repaint()
