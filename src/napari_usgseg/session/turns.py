"""Who goes first: what a person waits for, or what is done ahead."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE_SECONDS = 10.0
"""The longest that work ahead stands still at once, whatever happens elsewhere."""


class Turns:
    """Work ahead waits while a person's own is being done, unless that one waits for it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._busy = 0
        self._needed: Counter[str] = Counter()

    @contextmanager
    def urgent(self) -> Iterator[None]:
        """A person waits for what is done in this block."""
        with self._changed:
            self._busy += 1
        try:
            yield
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()

    @contextmanager
    def needing(self, key: str) -> Iterator[None]:
        """The block may wait for what is done ahead under ``key``, so that must not stand still."""
        with self._changed:
            self._needed[key] += 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._needed[key] -= 1
                if not self._needed[key]:
                    del self._needed[key]

    def give_way(self, key: str) -> bool:
        """Return once nothing urgent is going on, or ``key`` is needed for it.

        Returns:
            False where that took longer than ``PATIENCE_SECONDS``.
        """
        with self._changed:
            return self._changed.wait_for(
                lambda: not self._busy or key in self._needed, PATIENCE_SECONDS
            )
