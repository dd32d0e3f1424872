"""Stopwatch of one image: the seconds that a person is at work on it."""

from __future__ import annotations

import time
from collections.abc import Callable

from .efforts import IDLE_SECONDS


class Stopwatch:
    """Seconds in which a person was at work, from what they do.

    A pause counts as ``IDLE_SECONDS`` at most: then they went away.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: float | None = None
        self._seconds = 0.0

    def touch(self) -> None:
        """The person did something; called for every edit, and may be for every mouse move."""
        now = self._clock()
        if self._last is not None:
            self._seconds += min(now - self._last, IDLE_SECONDS)
        self._last = now

    def take(self) -> float:
        """The seconds since the last call, with this one counted as something done."""
        self.touch()
        seconds, self._seconds = self._seconds, 0.0
        return seconds
