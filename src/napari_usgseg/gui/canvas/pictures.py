"""The pixels that are shown where they are not those of the image: brighter, despeckled.

They are made on a thread of their own and go to the image layer only; what a person points at,
models and labels know the image as it was read.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass, replace

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Qt, Signal

from ...annotation.settings import View
from ...segmentation.despeckle import despeckled

Pixels = NDArray[np.uint8]
KEPT = 3
"""So many pictures are kept for coming back to them."""
WHITE = 255.0


@dataclass(frozen=True, slots=True, eq=False)
class Wish:
    """A picture to make: image ``key``, (H, W) or (H, W, 3), to look like ``view``."""

    key: str
    pixels: Pixels
    view: View


class Pictures(QObject):
    """Makes pictures one after the other; of several that wait only the newest is made."""

    ready = Signal()
    _made = Signal(object, object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._kept: LRUCache[tuple[str, View], Pixels] = LRUCache(KEPT)
        self._awaited: tuple[str, View] | None = None
        self._wishes: queue.SimpleQueue[Wish | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._made.connect(self._on_made, Qt.ConnectionType.QueuedConnection)

    def get(self, key: str, pixels: Pixels, view: View) -> Pixels:
        """The picture of an image, or its own pixels until ``ready`` says that it is made.

        Args:
            key: names the image.
            pixels: (H, W) or (H, W, 3).
            view: brightness and contrast of an image (H, W) are left to its layer.
        """
        wanted = _of_pixels(view, grey=pixels.ndim == 2)
        if wanted == View():
            self._awaited = None
            return pixels
        name = (key, wanted)
        if name in self._kept:
            return self._kept[name]
        if self._awaited != name:
            self._awaited = name
            self._begin()
            self._wishes.put(Wish(key, pixels, wanted))
        return pixels

    def close(self) -> None:
        """End the thread once it is done with what it is at; that is shown no more."""
        self._awaited = None
        if self._thread is not None:
            self._wishes.put(None)
            self._thread.join()
            self._thread = None

    def _begin(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="usgseg-pictures", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while (wish := self._wishes.get()) is not None:
            while not self._wishes.empty():
                newer = self._wishes.get()
                if newer is None:
                    return
                wish = newer
            try:
                self._made.emit(wish, picture(wish.pixels, wish.view))
            except RuntimeError:  # Qt has taken the object down already
                return

    def _on_made(self, wish: Wish, pixels: Pixels) -> None:
        name = (wish.key, wish.view)
        self._kept[name] = pixels
        if self._awaited == name:
            self._awaited = None
            self.ready.emit()


def _of_pixels(view: View, grey: bool) -> View:
    """The part of a view that changes pixels."""
    part = replace(View(), despeckling=view.despeckling)
    return part if grey else replace(part, brightness=view.brightness, contrast=view.contrast)


def picture(pixels: Pixels, view: View) -> Pixels:
    """Pixels (H, W) or (H, W, 3) as a view shows them."""
    out = despeckled(pixels, view.despeckling)
    low, high = window(view)
    if (low, high) == (0.0, WHITE):
        return out
    table = np.clip((np.arange(256) - low) * (WHITE / (high - low)), 0, WHITE)
    return np.rint(table).astype(np.uint8)[out]


def window(view: View) -> tuple[float, float]:
    """The grey values that are shown black and white."""
    width = WHITE * 2 ** (-view.contrast / 40)
    middle = WHITE / 2 * (1 - view.brightness / 100)
    low, high = max(middle - width / 2, 0.0), min(middle + width / 2, WHITE)
    return low, max(high, low + 1)
