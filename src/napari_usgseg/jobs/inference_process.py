"""The inference process, both ends: the program's door to it, and ``python -m`` this module.

A process and not a thread: importing torch in a thread, and Python code between two kernels, stall
a window's event loop (2,720 ms at worst instead of 142: ``benchmarks/thread_or_process.py``,
docs/soak.md); and torch's triton ended napari when it was imported beside the LLVM of a software
OpenGL driver (llvmpipe under Xvfb). It belongs to the program that started it and ends when its
standard input closes.

A message to it is ``(number, function, args, lane, urgent)``, or the number of a job that nobody
waits for any more; it answers ``(number, word)``, where the word is an ``Outcome``, ``MISSING`` or
``DROPPED``, or before that what the job has ``Told``.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, cast

from cachetools import LRUCache

from .loaded_models import KEPT_IMAGES, ImageSource, LoadedModels, MissingImageError
from .runner import IN_THE_BACKGROUND, Job, Lane, Outcome, Scope, Told
from .wire import own_streams, receive, send, start

MODULE = "napari_usgseg.jobs.inference_process"
MISSING, DROPPED = "missing", "dropped"
MODEST = 10
"""The niceness of the lanes in the background."""
STOP_SECONDS = 5.0

Answer = Callable[[Any], None]
Task = tuple[int, Callable[..., Any], tuple[Any, ...], Lane, bool]


# -- the program's end -------------------------------------------------------------------------


@dataclass(slots=True)
class _Owed:
    """A job that has no answer yet, and the process that it was sent to."""

    job: Job
    answer: Answer
    process: subprocess.Popen[bytes] | None = None


class InferenceProcess:
    """Runner of the inference lanes; the process starts at the first job.

    A process that dies is started anew at the next job; what it owed is answered with an error, so
    nobody waits in vain.
    """

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[str, int]] = queue.SimpleQueue()
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self._owed: dict[int, _Owed] = {}
        # Guards _owed and _sent, which the session's thread, the sender and one receiver for each
        # process change. Outcomes are given outside of it, for a callback may submit the next job.
        self._guard = threading.Lock()
        self._sent: LRUCache[str, None] = LRUCache(KEPT_IMAGES)
        self._closing = False
        self._sender = threading.Thread(target=self._send, name="usgseg-sender", daemon=True)
        self._sender.start()

    def submit(self, job: Job, answer: Answer) -> None:
        """Do a job; ``answer`` is called with its outcome, on a thread of this object."""
        number = next(self._numbers)
        with self._guard:
            self._owed[number] = _Owed(job, answer)
        self._queue.put(("do", number))

    def cancel(self, job: Job) -> None:
        """Begin a job no more that waits, and end one that looks out for it; nobody waits."""
        with self._guard:
            numbers = [number for number, owed in self._owed.items() if owed.job is job]
        for number in numbers:
            self._queue.put(("cancel", number))

    @property
    def is_idle(self) -> bool:
        """True where every job has its answer."""
        return not self._owed

    @property
    def process_id(self) -> int | None:
        """Of the running process, or None."""
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    def close(self) -> None:
        """End the process; waits a few seconds at most."""
        self._closing = True
        self._queue.put(("end", 0))
        self._sender.join(STOP_SECONDS)
        process = self._process
        if process is None:
            return
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _send(self) -> None:
        """Body of the sender thread."""
        while (item := self._queue.get())[0] != "end":
            wish, number = item
            try:
                # A cancel never starts a process: what it would cancel died with the former one.
                process = self._process if wish == "cancel" else self._alive()
            except OSError as error:
                text = f"The worker process cannot be started ({error}); try again."
                self._answer(number, Outcome(error=text))
                continue
            message = number if wish == "cancel" else self._task(number, process)
            if message is None or process is None:
                continue
            try:
                send(cast(BinaryIO, process.stdin), message)
            except OSError as error:
                self._fail_all(process, f"The worker process is gone ({error}); try again.")
        last = self._process
        if last is not None and last.stdin is not None:
            try:
                last.stdin.close()
            except OSError:
                last.kill()

    def _alive(self) -> subprocess.Popen[bytes]:
        running = self._process
        if running is not None and running.poll() is None:
            return running
        with self._guard:
            # A new process knows no pixels.
            self._sent.clear()
        process = start(MODULE)
        self._process = process
        threading.Thread(
            target=self._receive, args=(process,), name="usgseg-receiver", daemon=True
        ).start()
        return process

    def _task(self, number: int, process: subprocess.Popen[bytes] | None) -> Task | None:
        """The message that asks for a job; None where nobody waits for it any more."""
        with self._guard:
            owed = self._owed.get(number)
            if owed is None or not owed.job.is_awaited:
                self._owed.pop(number, None)
                return None
            owed.process, job = process, owed.job
            # Here and not in submit: what the process knows depends on what was sent before, in the
            # order of this queue.
            args = tuple(self._without_known_pixels(value) for value in job.args)
        assert callable(job.function)
        return number, job.function, args, job.lane, job.scope is Scope.PROPOSAL

    def _without_known_pixels(self, value: Any) -> Any:
        """An argument, without the pixels that the process holds already."""
        if not isinstance(value, ImageSource):
            return value
        known = value.key in self._sent
        # Mirrors the process's own LRU cache of images, which is as large. It is a guess: lanes
        # there use images in another order. A wrong one is mended by MISSING.
        self._sent[value.key] = None
        return replace(value, pixels=None) if known else value

    def _receive(self, process: subprocess.Popen[bytes]) -> None:
        """Body of a receiver thread; one for each process."""
        stream = cast(BinaryIO, process.stdout)
        with contextlib.suppress(EOFError, OSError):
            while True:
                self._answer(*receive(stream))
        code = process.wait()
        stream.close()
        # At closing the end of the process is no fault to be told.
        if not self._closing:
            self._fail_all(
                process,
                f"The worker process ended (exit code {code}), perhaps for lack of memory. "
                "Try again; if it happens again, choose a smaller model.",
            )

    def _answer(self, number: int, word: Any) -> None:
        with self._guard:
            owed = self._owed.get(number)
            if owed is None:
                return
            if isinstance(word, Told):
                owed.answer(word.word)
                return
            again = word == MISSING and not self._closing
            if again:  # it has forgotten the image: once more, with the pixels
                for value in owed.job.args:
                    if isinstance(value, ImageSource):
                        self._sent.pop(value.key, None)
            else:
                del self._owed[number]
        if again:
            self._queue.put(("do", number))
        elif isinstance(word, Outcome):
            owed.answer(word)

    def _fail_all(self, process: subprocess.Popen[bytes], text: str) -> None:
        """Answer what a process owed; what another one owes by now is not touched."""
        with self._guard:
            # The sender may have begun a new process before the receiver of the old one has noticed
            # its end.
            numbers = [number for number, owed in self._owed.items() if owed.process is process]
        for number in numbers:
            self._answer(number, Outcome(error=text))


# -- the process's end -------------------------------------------------------------------------


class LaneThread(threading.Thread):
    """One thread with a queue: what ends with a proposal first, and then in order.

    A lane in the background, and the threads that torch starts for it, leave the processors to
    others.
    """

    def __init__(
        self, lane: Lane, models: LoadedModels, answer: Callable[[int, Any], None]
    ) -> None:
        super().__init__(name=lane.value, daemon=True)
        self._lane, self._models, self._answer = lane, models, answer
        self._waiting: list[Task] = []
        self._at_work: int | None = None
        self._is_dropped = False
        self._changed = threading.Condition()

    def put(self, task: Task) -> None:
        """Queue a task."""
        with self._changed:
            self._waiting.append(task)
            # What a person waits for is urgent (False sorts first), else by number, which is the
            # order of asking.
            self._waiting.sort(key=lambda task: (not task[4], task[0]))
            self._changed.notify()

    def cancel(self, number: int) -> None:
        """Drop a task that waits here, and have the one that is at work told that it is dropped."""
        with self._changed:
            self._is_dropped = self._is_dropped or number == self._at_work
            found = [task for task in self._waiting if task[0] == number]
            for task in found:
                self._waiting.remove(task)
        # DROPPED, so that the program's end does not owe it for ever. Outside of the lock: sending
        # may block on a full pipe.
        for _ in found:
            self._answer(number, DROPPED)

    def run(self) -> None:
        """Do tasks for ever."""
        if self._lane in IN_THE_BACKGROUND and sys.platform == "linux":  # threads have priorities
            with contextlib.suppress(OSError):
                # Linux alone takes a thread's id here, and threads that torch starts from this one
                # inherit the priority; elsewhere it would be the whole process's, clicks and all.
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), MODEST)
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                number, function, args, lane, _ = self._waiting.pop(0)
                self._at_work, self._is_dropped = number, False

            def tell(word: Any, number: int = number) -> None:
                self._answer(number, Told(word))

            try:
                word: Any = self._models.run(
                    function, *args, lane=lane, tell=tell, is_dropped=lambda: self._is_dropped
                )
            except MissingImageError:
                word = MISSING
            self._answer(number, word)


def serve(tasks: BinaryIO, answers: BinaryIO, models: LoadedModels) -> None:
    """Do tasks until their stream ends."""
    lock = threading.Lock()

    # Several lanes share one pipe; a message must be in it whole.
    def answer(number: int, word: Any) -> None:
        with lock:
            send(answers, (number, word))

    lanes = {
        lane: LaneThread(lane, models, answer)
        for lane in (Lane.CLICKS, Lane.PHRASES, *IN_THE_BACKGROUND)
    }
    for lane in lanes.values():
        lane.start()
    while True:
        try:
            message = receive(tasks)
        except EOFError:
            return
        if isinstance(message, int):
            for lane in lanes.values():
                # The message does not say in which lane the job is; the others do not know the
                # number.
                lane.cancel(message)
        else:
            lanes[message[3]].put(message)


def main() -> None:
    """Serve on the standard streams."""
    serve(*own_streams(), LoadedModels())
    os._exit(0)  # do not wait for a lane that is in the middle of a long computation


if __name__ == "__main__":
    main()
