"""Long work in a process of its own, at the lowest priority, that tells how far it is.

The process sends one message of plain values after another (``wire``), and ends when its standard
input closes: so it never outlives the program that started it, however that ends.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, cast

from .runner import Job, Outcome
from .wire import own_streams, receive, send, start

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
        module: to run, such as ``napari_usgseg.learning.process``.
        arguments: of its command line.
        report: called with each message, on a thread of this object; with ``ENDED`` last.

    Raises:
        OSError: the process cannot be started.
    """

    def __init__(
        self, module: str, arguments: Sequence[str], report: Callable[[Message], None]
    ) -> None:
        self._report = report
        # In the environment, for torch sizes its pools when it is imported. One thread leaves the
        # other processors to clicks, whatever the priority.
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        idle = getattr(subprocess, "IDLE_PRIORITY_CLASS", 0)
        self._process = start(module, arguments, threads, idle)
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
            # Closing the input is the only signal: it works alike on all systems, and happens by
            # itself when this program is killed.
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
        stream = cast(BinaryIO, self._process.stdout)
        with contextlib.suppress(EOFError, OSError):
            while True:
                self._report(receive(stream))
        # The stream ends before the process does; the exit code is there only after wait.
        code = self._process.wait()
        stream.close()
        self._report({"kind": ENDED, "code": code})


class Trainings:
    """Runner of ``Lane.TRAINING``: one training at a time, whose job names a module.

    What a training says goes to its job's ``told``; its outcome is the exit code.
    """

    def __init__(self) -> None:
        self._job: Job | None = None
        self._process: BackgroundProcess | None = None
        self._ending: list[threading.Thread] = []

    @property
    def process_id(self) -> int | None:
        """Of the training that goes on, or None."""
        return None if self._process is None else self._process.process_id

    def submit(self, job: Job, answer: Callable[[Any], None]) -> None:
        """Begin a training in the place of the one that goes on; ``answer`` hears of it."""
        self._end()
        self._job = job

        def report(message: Message) -> None:
            ended = message.get("kind") == ENDED
            answer(Outcome(message["code"]) if ended else message)

        module, arguments = str(job.function), [str(value) for value in job.args]
        try:
            self._process = BackgroundProcess(module, arguments, report)
        except OSError as error:
            text = f"The training cannot be started ({error}); close other programs and try again."
            report({"kind": "failed", "text": text})
            report({"kind": ENDED, "code": 1})

    def cancel(self, job: Job) -> None:
        """Have a training end; what it has learnt stays in its folder."""
        if job is self._job:
            self._end()

    def _end(self) -> None:
        former, self._process = self._process, None
        # On a thread of its own, for a job is submitted on the Qt thread and close() waits for
        # seconds.
        if former is not None:  # it may be in the middle of a long step
            self._ending = [thread for thread in self._ending if thread.is_alive()]
            self._ending.append(threading.Thread(target=former.close, name="usgseg-ending"))
            self._ending[-1].start()

    def close(self) -> None:
        """End the training; waits a few seconds at most. What it has learnt stays."""
        self._end()
        for thread in self._ending:
            thread.join()


class Channel:
    """The process's own side: messages out, and the wish that it ends.

    Whatever a library prints goes to standard error.
    """

    def __init__(self) -> None:
        stream, self._out = own_streams()
        self._ending = threading.Event()
        threading.Thread(target=self._listen, args=(stream,), daemon=True).start()

    def send(self, kind: str, **values: Any) -> None:
        """Send one message; where nobody reads any more, the work is to end."""
        try:
            send(self._out, {"kind": kind, **values})
        except (OSError, ValueError):
            self._ending.set()

    def is_ending(self) -> bool:
        """True once the process is to end."""
        return self._ending.is_set()

    def _listen(self, stream: BinaryIO) -> None:
        with contextlib.suppress(OSError, ValueError):
            # Nothing is ever sent: this blocks until the parent closes the pipe or dies.
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
