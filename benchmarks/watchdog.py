"""Gaps of an event loop: how long a window did not answer, and what ran then."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from dataclasses import dataclass

from qtpy.QtCore import Qt, QTimer

TICK_MS = 5
LOOK_EVERY_S = 0.02
LOOK_AFTER_MS = 50.0
LINES = 6


@dataclass(frozen=True, slots=True)
class Gap:
    """A time in which the event loop did not turn.

    Attributes:
        milliseconds: between two turns of a timer that is due every ``TICK_MS``.
        own_ms: the processor time that the main thread used in it; the rest it spent waiting for
            the disk, for Python's lock, or for other programs to leave it a processor.
        step: what the script was doing.
        stack: of the main thread while it lasted, innermost call first; "" if it was not seen.
    """

    milliseconds: float
    own_ms: float
    step: str
    stack: str

    def __str__(self) -> str:
        return f"{self.milliseconds:.0f} ms, own {self.own_ms:.0f} ms, {self.step}: {self.stack}"


class Watchdog:
    """Measures the gaps on the main thread; longer ones are looked into from another thread.

    Args:
        keep_ms: gaps longer than this are kept one by one.
    """

    def __init__(self, keep_ms: float = LOOK_AFTER_MS) -> None:
        self.step = ""
        self.longest = 0.0
        self.longest_own = 0.0
        self.turns = 0
        self.gaps: list[Gap] = []
        self._keep_ms = keep_ms
        self._last = time.perf_counter()
        self._own = time.thread_time()
        self._seen: list[str] = []
        self._main = threading.get_ident()
        self._running = False
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)

    def start(self) -> None:
        """Begin to measure; the time before is no gap."""
        self._last = time.perf_counter()
        self._own = time.thread_time()
        self.longest = self.longest_own = 0.0
        self._running = True
        self._timer.start(TICK_MS)
        self._looking = threading.Thread(target=self._look, daemon=True)
        self._looking.start()

    def stop(self) -> float:
        """The longest gap in milliseconds."""
        self._tick()
        self._timer.stop()
        self._running = False
        self._looking.join()
        return self.longest

    def worst(self, count: int = 5) -> str:
        """The gaps that were kept, worst first, a line for each."""
        return "\n".join(str(gap) for gap in sorted(self.gaps, key=lambda gap: -gap.own_ms)[:count])

    def _tick(self) -> None:
        now, own = time.perf_counter(), time.thread_time()
        gap, own_gap = 1000 * (now - self._last), 1000 * (own - self._own)
        self._last, self._own = now, own
        self.turns += 1
        self.longest = max(self.longest, gap)
        self.longest_own = max(self.longest_own, own_gap)
        if gap > self._keep_ms:
            self.gaps.append(Gap(gap, own_gap, self.step, self._seen[-1] if self._seen else ""))
        self._seen.clear()

    def _look(self) -> None:
        """Body of the thread that sees what the main thread is at while it does not turn."""
        while self._running:
            time.sleep(LOOK_EVERY_S)
            if 1000 * (time.perf_counter() - self._last) > LOOK_AFTER_MS:
                frame = sys._current_frames().get(self._main)
                if frame is not None:
                    calls = traceback.extract_stack(frame)[::-1][:LINES]
                    at = (f"{call.name} ({short(call.filename)}:{call.lineno})" for call in calls)
                    self._seen.append(" < ".join(at))


def short(path: str) -> str:
    """The last two parts of a file's path."""
    return "/".join(path.replace("\\", "/").split("/")[-2:])
