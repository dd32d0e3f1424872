"""The last few of what is dear to make, for several threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Recent:
    """A few values by key; each is made once, even when two threads ask at the same time."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[object, object] = OrderedDict()
        self._guard = threading.Lock()
        self._making: dict[object, threading.Lock] = {}

    def get(self, key: object) -> object | None:
        """The value, or None where it is not (or no longer) kept."""
        with self._guard:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: object, value: object) -> None:
        """Keep a value; the one not used for longest goes."""
        with self._guard:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > self._size:
                self._values.popitem(last=False)

    def get_or_make(self, key: object, make: Callable[[], T]) -> T:
        """The value, made now if it is not kept; a second thread waits for the first."""
        with self._guard:
            lock = self._making.setdefault(key, threading.Lock())
        try:
            with lock:
                value = self.get(key)
                if value is None:
                    value = make()
                    self.put(key, value)
        finally:
            with self._guard:
                self._making.pop(key, None)
        return value  # type: ignore[return-value]
