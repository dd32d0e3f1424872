"""Gaps of an event loop: how long a window did not answer, and what ran then."""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import dataclass
from types import FrameType

import psutil
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
        own_ms: the processor time that the main thread used in it.
        queued_ms: that other programs kept the processors from it; the rest it spent waiting for
            the disk, for a lock or for who draws. 0 where the system does not say (it is Linux that
            does).
        work_ms: the processor time that all threads of the window and the X server used in it: no
            gap would be longer on a quiet machine, but for waiting for the disk.
        step: what the script was doing.
        stack: of the main thread while it lasted, innermost call first; "" if it was not seen.
    """

    milliseconds: float
    own_ms: float
    queued_ms: float
    work_ms: float
    step: str
    stack: str

    def __str__(self) -> str:
        parts = f"own {self.own_ms:.0f} ms, queued {self.queued_ms:.0f} ms, "
        parts += f"work {self.work_ms:.0f} ms"
        return f"{self.milliseconds:.0f} ms, {parts}, {self.step}: {self.stack}"


class Watchdog:
    """Measures the gaps on the main thread; longer ones are looked into from another thread.

    Args:
        keep_ms: gaps longer than this are kept one by one.
    """

    def __init__(self, keep_ms: float = LOOK_AFTER_MS) -> None:
        self.step = ""
        self.longest = 0.0
        self.longest_own = 0.0
        self.longest_ours = 0.0
        """Of gaps less what others kept the processors: what a quiet machine would show at most."""
        self.turns = 0
        self.gaps: list[Gap] = []
        self._keep_ms = keep_ms
        self._last = time.perf_counter()
        self._own, self._queued, self._work = time.thread_time(), queued_ms(), 0.0
        self._server = x_server()
        self._seen: list[str] = []
        self._main = threading.get_ident()
        self._running = False
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)

    def start(self) -> None:
        """Begin to measure; the time before is no gap."""
        self._last = time.perf_counter()
        self._own, self._queued = time.thread_time(), queued_ms()
        self._work = self._work_ms()
        self.longest = self.longest_own = self.longest_ours = 0.0
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
        return "\n".join(str(gap) for gap in sorted(self.gaps, key=ours, reverse=True)[:count])

    def _tick(self) -> None:
        now, own, queued = time.perf_counter(), time.thread_time(), queued_ms()
        gap, own_gap = 1000 * (now - self._last), 1000 * (own - self._own)
        work = self._work_ms()
        queued_gap, work_gap = queued - self._queued, min(work - self._work, gap)
        self._last, self._own, self._queued, self._work = now, own, queued, work
        self.turns += 1
        self.longest = max(self.longest, gap)
        self.longest_own = max(self.longest_own, own_gap)
        stack = self._seen[-1] if self._seen else ""
        found = Gap(gap, own_gap, queued_gap, work_gap, self.step, stack)
        self.longest_ours = max(self.longest_ours, ours(found))
        if gap > self._keep_ms:
            self.gaps.append(found)
        self._seen.clear()

    def _work_ms(self) -> float:
        """Processor time of this process and of the X server so far."""
        seconds = time.process_time()
        if self._server is not None:
            try:
                spent = self._server.cpu_times()
                seconds += spent.user + spent.system
            except psutil.Error:
                self._server = None
        return 1000 * seconds

    def _look(self) -> None:
        """Body of the thread that sees what the main thread is at while it does not turn."""
        while self._running:
            time.sleep(LOOK_EVERY_S)
            if 1000 * (time.perf_counter() - self._last) > LOOK_AFTER_MS:
                frame = sys._current_frames().get(self._main)
                if frame is not None:
                    self._seen.append(" < ".join(stack_of(frame)))


def stack_of(frame: FrameType | None) -> list[str]:
    """The calls that are going on, innermost first; quick, for the frames are at work."""
    calls = []
    while frame is not None and len(calls) < LINES:
        code = frame.f_code
        calls.append((code.co_name, code.co_filename, frame.f_lineno))
        frame = frame.f_back
    return [f"{name} ({short(file)}:{line})" for name, file, line in calls]


def ours(gap: Gap) -> float:
    """The part of a gap that is not other programs', of whoever keeps it waiting."""
    return min(gap.milliseconds - gap.queued_ms, gap.work_ms)


def queued_ms() -> float:
    """How long this thread has waited for a processor so far; 0 where the system does not say."""
    try:
        with open("/proc/thread-self/schedstat", encoding="ascii") as file:
            return int(file.read().split()[1]) / 1e6
    except (OSError, IndexError, ValueError):
        return 0.0


def x_server() -> psutil.Process | None:
    """The virtual X server that this window is drawn on; None on another screen."""
    display = os.environ.get("DISPLAY", "none").partition(".")[0]
    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] == "Xvfb" and display in (process.info["cmdline"] or ()):
            return process
    return None


def short(path: str) -> str:
    """The last two parts of a file's path."""
    return "/".join(path.replace("\\", "/").split("/")[-2:])
