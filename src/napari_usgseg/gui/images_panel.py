"""The images of the folder: how far they are, which are shown, and the way on."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QModelIndex, QSize, Qt
from qtpy.QtWidgets import (
    QComboBox,
    QLabel,
    QLineEdit,
    QListView,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from ..session.annotator import AnnotationSession
from ..session.image_queue import ImageQueue
from ..store.base import ImageState
from .images_model import MARKS, ROW_HEIGHT, ImagesModel
from .keys import tip
from .parts import button, row
from .thumbnails import HEIGHT, WIDTH, Thumbnails

FILTERS: dict[str, ImageState | None] = {
    "all": None,
    "untouched": ImageState.UNTOUCHED,
    "proposed": ImageState.PROPOSED,
    "labelled": ImageState.COMMITTED,
    "skipped": ImageState.SKIPPED,
    "for review": ImageState.FLAGGED,
}


class ImagesPanel(QWidget):
    """Progress, a filter, going to a name, the list, and the way on."""

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__()
        self._session = session
        self._browser: ImageQueue | None = None
        self.progress = QLabel()
        self.progress.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.left_out = QLabel()
        self.left_out.setWordWrap(True)
        self.left_out.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.left_out.hide()
        self.filter = QComboBox()
        self.filter.addItems(list(FILTERS))
        self.filter.setToolTip("Show and walk through the images in this state only.")
        self.filter.textActivated.connect(self._on_filter)
        self.name = QLineEdit()
        self.name.setPlaceholderText("go to a name")
        self.name.setToolTip(
            tip("Part of a file's name; Enter goes to the next image that has it.", "go to a name")
        )
        self.name.returnPressed.connect(self._on_name)
        self.thumbnails = Thumbnails(self)
        self.model = ImagesModel(session, self.thumbnails)
        self.list = self._list()
        self.previous = button(
            "<", tip("Go to the image before.", "previous"), lambda: session.walk.step(-1)
        )
        self.next = button(">", tip("Go to the image after.", "next"), lambda: session.walk.step(1))
        self.untouched = button(
            "Next untouched",
            tip("Go to the next image without labels.", "next untouched"),
            session.walk.next_untouched,
        )
        self.skip = button(
            "Skip", tip("Set this image aside and go on.", "skip"), session.walk.skip
        )
        self.flag = button(
            MARKS[ImageState.FLAGGED],
            tip(
                "Flag this image for review and go on, or take its flag away.",
                "flag for review",
            ),
            session.walk.flag,
        )
        for narrow in (self.previous, self.next, self.flag):
            narrow.setFixedWidth(34)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.progress)
        layout.addWidget(self.left_out)
        layout.addLayout(row(self.filter, self.name, stretch=1))
        layout.addWidget(self.list, 1)
        layout.addLayout(
            row(self.previous, self.next, self.untouched, self.skip, self.flag, stretch=2)
        )
        session.opened.connect(self._on_opened)
        session.image_changed.connect(self._on_image)
        self._on_opened()

    def _list(self) -> QListView:
        made = QListView()
        made.setModel(self.model)
        made.setUniformItemSizes(True)
        made.setIconSize(QSize(WIDTH, HEIGHT))
        made.setMinimumHeight(ROW_HEIGHT + 6)
        made.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Expanding)
        made.setToolTip("Click an image to go to it.")
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
        if self._browser is not None:
            self._browser.state_changed.disconnect(self._on_progress, missing_ok=True)
        self._browser = self._session.browser
        self._browser.only = FILTERS[self.filter.currentText()]
        self._browser.state_changed.connect(self._on_progress)
        self.model.refresh()
        self._on_progress()
        text = " ".join(self._session.left_out)
        self.left_out.setText(text)
        self.left_out.setToolTip(text)
        self.left_out.setVisible(bool(text))

    def _on_filter(self, name: str) -> None:
        self._session.walk.show_only(FILTERS[name])
        self.model.refresh()
        self._show_current()

    def _on_name(self) -> None:
        self._session.walk.go_to_name(self.name.text())
        self.name.clearFocus()  # so that the next key is a shortcut

    def _on_clicked(self, index: QModelIndex) -> None:
        image_id = self.model.image_id(index)
        if image_id is not None:
            self._session.walk.open_image(image_id)

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
        text = progress_text(self._session.browser)
        self.progress.setText(text)
        self.progress.setToolTip(f"{text}.")


def progress_text(queue: ImageQueue) -> str:
    """How far a folder is: "312 of 500, 41 per hour, about 4 h left"."""
    words = [f"{queue.committed} of {len(queue.records)} labelled"]
    pace, hours = queue.per_hour(), queue.hours_left()
    if pace is not None:
        words.append(f"{pace} per hour")
    if hours:
        minutes = max(1, round(60 * hours))
        words.append(f"about {f'{hours:.0f} h' if minutes >= 90 else f'{minutes} min'} left")
    return ", ".join(words)
