"""Small pictures of images, made off the Qt thread for those that are looked at."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from qtpy.QtCore import QObject, Qt, Signal
from qtpy.QtGui import QIcon, QImage, QPixmap

from ..errors import UsgsegError
from ..io.images import read_image
from ..types import ImageRecord

WIDTH, HEIGHT = 40, 30
KEPT = 600
"""So many are kept, some 3 MB."""
WAITING = 48
"""So many may wait; those that were asked for first, and scrolled away since, are forgotten."""


class Thumbnails(QObject):
    """Thumbnails of image files by id; the one asked for last is made first."""

    made = Signal(str)
    _read = Signal(object, object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._kept: OrderedDict[str, QIcon] = OrderedDict()
        self._wanted: deque[ImageRecord] = deque(maxlen=WAITING)
        self._asked: dict[str, ImageRecord] = {}
        self._guard = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._read.connect(self._on_read, Qt.ConnectionType.QueuedConnection)

    def get(self, record: ImageRecord) -> QIcon | None:
        """The thumbnail of an image, or None while it is made; ``made`` says when it is there."""
        found = self._kept.get(record.image_id)
        if found is not None:
            self._kept.move_to_end(record.image_id)
            return found
        if record.image_id not in self._asked and not self._closed:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="usgseg-thumbnails", daemon=True
                )
                self._thread.start()
            with self._guard:
                if len(self._wanted) == WAITING:
                    self._asked.pop(self._wanted[0].image_id, None)
                self._wanted.append(record)
                self._asked[record.image_id] = record
                self._guard.notify()
        return None

    def forget(self) -> None:
        """Drop all: another folder is open."""
        with self._guard:
            self._wanted.clear()
        self._asked.clear()
        self._kept.clear()

    def close(self) -> None:
        """End the thread once it is done with what it is at."""
        with self._guard:
            self._closed = True
            self._wanted.clear()
            self._guard.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._guard:
                while not self._wanted and not self._closed:
                    self._guard.wait()
                if self._closed:
                    return
                record = self._wanted.pop()
            try:
                picture = thumbnail(read_image(record.path, record.frame))
            except (UsgsegError, MemoryError):  # said where the image is opened
                picture = np.zeros((1, 1, 3), np.uint8)
            try:
                self._read.emit(record, picture)
            except RuntimeError:  # Qt has taken the object down already
                return

    def _on_read(self, record: ImageRecord, picture: NDArray[np.uint8]) -> None:
        if self._asked.get(record.image_id) is not record:  # of another folder by now
            return
        del self._asked[record.image_id]
        height, width = picture.shape[:2]
        image = QImage(
            picture.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888
        ).copy()
        pixmap = QPixmap.fromImage(image)
        icon = QIcon(pixmap)
        icon.addPixmap(pixmap, QIcon.Mode.Selected)  # in its own grey also where it is selected
        self._kept[record.image_id] = icon
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        self.made.emit(record.image_id)


def thumbnail(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image (H, W, 3) made so small that it fits ``WIDTH`` x ``HEIGHT``, its shape kept."""
    height, width = pixels.shape[:2]
    shrink = max(width / WIDTH, height / HEIGHT, 1.0)
    stride = max(int(shrink) // 4, 1)
    size = (max(round(width / shrink), 1), max(round(height / shrink), 1))
    coarse = Image.fromarray(np.ascontiguousarray(pixels[::stride, ::stride]))
    return np.asarray(coarse.resize(size, Image.Resampling.BOX))
