"""Long work in a process of its own, at the lowest priority, that tells how far it is.

The process writes one JSON object a line to its standard output, and ends when its standard input
closes: so it never outlives the program that started it, however that ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

import napari_usgseg

Message = dict[str, Any]

ENDED = "ended"
"""The kind of the last message, which is this side's own: ``code`` is the exit code."""
STOP_SECONDS = 5.0
NICENESS = 15
NICENESS_VARIABLE = "USGSEG_TRAINING_NICE"
"""Environment variable: a niceness, 0 to 19, and no more than that; 0 for a busy machine."""


class BackgroundProcess:
    """A module of this package that runs in a process of its own.

    Args:
        module: to run, such as ``napari_usgseg.learning.process.ppn_training``.
        arguments: of its command line.
        report: called with each message, on a thread of this object; with ``ENDED`` last.

    Raises:
        OSError: the process cannot be started.
    """

    def __init__(
        self, module: str, arguments: Sequence[str], report: Callable[[Message], None]
    ) -> None:
        self._report = report
        root = str(Path(napari_usgseg.__file__).parent.parent)
        paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH", ""))))
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": paths, **threads},
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0)
            | getattr(subprocess, "IDLE_PRIORITY_CLASS", 0),
        )
        self._thread = threading.Thread(target=self._read, name="usgseg-training", daemon=True)
        self._thread.start()

    @property
    def process_id(self) -> int | None:
        """Of the process, or None where it has ended."""
        return self._process.pid if self._process.poll() is None else None

    def stop(self) -> None:
        """Ask it to keep what it has and end; the message ``ENDED`` says when it has."""
        with contextlib.suppress(OSError, ValueError):
            assert self._process.stdin is not None
            self._process.stdin.close()

    def close(self) -> None:
        """Have it end; one that does not within a few seconds is killed."""
        self.stop()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._thread.join(STOP_SECONDS)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                if isinstance(message, dict):
                    self._report(message)
        code = self._process.wait()
        self._process.stdout.close()
        self._report({"kind": ENDED, "code": code})


class Channel:
    """The process's own side: messages out, and the wish that it ends.

    Whatever a library prints goes to standard error.
    """

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        self._ending = threading.Event()
        threading.Thread(target=self._listen, args=(sys.stdin,), daemon=True).start()

    def send(self, kind: str, **values: Any) -> None:
        """Send one message; where nobody reads any more, the work is to end."""
        try:
            self._out.write(json.dumps({"kind": kind, **values}) + "\n")
            self._out.flush()
        except (OSError, ValueError):
            self._ending.set()

    def is_ending(self) -> bool:
        """True once the process is to end."""
        return self._ending.is_set()

    def _listen(self, stream: TextIO) -> None:
        with contextlib.suppress(OSError, ValueError):
            while stream.readline():
                pass
        self._ending.set()


def give_way() -> None:
    """Leave the processors to everything else; Windows is told when the process starts.

    Both count within a session of processes, so the process must share its parent's. Linux gives an
    idle process's place to a click at once: the slowest 5 in 100 clicks take 69 ms instead of 120
    (``benchmarks/latency_while_training.py``).
    """
    wanted = os.environ.get(NICENESS_VARIABLE, "")
    niceness = int(wanted) if wanted.isdecimal() else NICENESS
    if not niceness:
        return
    with contextlib.suppress(OSError, AttributeError):
        os.nice(niceness)
    if not wanted:
        with contextlib.suppress(OSError, AttributeError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
