"""The way to the workers: one inference process, one thread for files, a process that trains.

Nothing here is touched by two threads except the queues; answers reach the session through a Qt
signal, so on the main thread only.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, cast

from qtpy.QtCore import QObject, Signal

import napari_usgseg

from ..jobs.engine import KEPT_IMAGES
from ..jobs.files import answer_file
from ..jobs.requests import (
    FileRequest,
    ModelAnswer,
    ModelRequest,
    PhantomRequest,
    TrainingRequest,
    WarmRequest,
)
from ..jobs.server import receive, send
from ..jobs.trainer import Trainer

STOP_SECONDS = 5.0


class FileWorker(QObject):
    """Answers file requests in order, on a thread of its own."""

    answered = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._queue: queue.SimpleQueue[FileRequest | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="usgseg-files", daemon=True)
        self._thread.start()

    def submit(self, request: FileRequest) -> None:
        """Queue a request."""
        self._queue.put(request)

    def close(self) -> None:
        """Finish what is queued (saves above all) and stop; a second time does nothing."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (request := self._queue.get()) is not None:
            _emit(self.answered, answer_file(request))


class InferenceWorker(QObject):
    """The door to the worker process, which starts at the first request.

    A process that dies is started anew at the next request; what it owed is answered with an
    error, so nobody waits in vain.
    """

    answered = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._queue: queue.SimpleQueue[ModelRequest | int | None] = queue.SimpleQueue()
        self._process: subprocess.Popen[bytes] | None = None
        self._owed: dict[int, tuple[ModelRequest, subprocess.Popen[bytes]]] = {}
        self._guard = threading.Lock()
        self._sent: OrderedDict[str, None] = OrderedDict()
        self._closing = False
        self._sender = threading.Thread(target=self._send, name="usgseg-sender", daemon=True)
        self._sender.start()

    def submit(self, request: ModelRequest) -> None:
        """Queue a request for the worker process."""
        self._queue.put(request)

    def cancel(self, before: int) -> None:
        """Drop what waits in the worker from before a generation."""
        self._queue.put(before)

    @property
    def is_idle(self) -> bool:
        """True where every request has its answer."""
        return self._queue.empty() and not self._owed

    @property
    def process_id(self) -> int | None:
        """Of the running worker process, or None."""
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    def close(self) -> None:
        """End the worker process; waits a few seconds at most."""
        self._closing = True
        self._queue.put(None)
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
        while (item := self._queue.get()) is not None:
            try:
                process = self._alive()
            except OSError as error:
                if not isinstance(item, int):
                    self._fail(item, f"The worker process cannot be started ({error}); try again.")
                continue
            if not isinstance(item, int):
                with self._guard:
                    self._owed[item.generation] = item, process
                    item = self._without_known_pixels(item)
            try:
                send(cast(BinaryIO, process.stdin), item)
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
        package_root = str(Path(napari_usgseg.__file__).parent.parent)
        paths = [package_root, os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        with self._guard:
            self._sent.clear()
        process = subprocess.Popen(
            [sys.executable, "-m", "napari_usgseg.jobs.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        self._process = process
        threading.Thread(
            target=self._receive, args=(process,), name="usgseg-receiver", daemon=True
        ).start()
        return process

    def _without_known_pixels(self, request: ModelRequest) -> ModelRequest:
        """The request without pixels that the process holds already."""
        if isinstance(request, WarmRequest | PhantomRequest):
            return request
        key = request.source.key
        known = key in self._sent
        self._sent[key] = None
        self._sent.move_to_end(key)
        while len(self._sent) > KEPT_IMAGES:
            self._sent.popitem(last=False)
        return replace(request, source=replace(request.source, pixels=None)) if known else request

    def _receive(self, process: subprocess.Popen[bytes]) -> None:
        """Body of a receiver thread; one for each process."""
        stream = cast(BinaryIO, process.stdout)
        try:
            while True:
                self._hand_out(receive(stream))
        except (EOFError, OSError):
            pass
        code = process.wait()
        stream.close()
        if not self._closing:
            self._fail_all(
                process,
                f"The worker process ended (exit code {code}), perhaps for lack of memory. "
                "Try again; if it happens again, choose a smaller model.",
            )

    def _hand_out(self, answer: ModelAnswer) -> None:
        with self._guard:
            request, _ = self._owed.pop(answer.generation, (None, None))
        if answer.missing_image and request is not None and not self._closing:
            assert not isinstance(request, WarmRequest | PhantomRequest)
            with self._guard:
                self._sent.pop(request.source.key, None)
            self._queue.put(request)
            return
        if not answer.dropped:
            _emit(self.answered, answer)

    def _fail_all(self, process: subprocess.Popen[bytes], text: str) -> None:
        """Answer what a process owed; what another one owes by now is not touched."""
        with self._guard:
            owed = [request for request, by in self._owed.values() if by is process]
            for request in owed:
                del self._owed[request.generation]
        for request in owed:
            self._fail(request, text)

    def _fail(self, request: ModelRequest, text: str) -> None:
        _emit(self.answered, ModelAnswer(request.generation, type(request).__name__, error=text))


class TrainingWorker(QObject):
    """The door to the training process."""

    answered = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._trainer = Trainer(lambda answer: _emit(self.answered, answer))

    def submit(self, request: TrainingRequest) -> None:
        """Begin a training, or have it end."""
        self._trainer.submit(request)

    @property
    def process_id(self) -> int | None:
        """Of the training that goes on, or None."""
        return self._trainer.process_id

    def close(self) -> None:
        """End the training; waits a few seconds at most. What it has learnt stays."""
        self._trainer.close()


def _emit(signal: Any, answer: object) -> None:
    """Emit, unless Qt has taken the object down already."""
    try:
        signal.emit(answer)
    except RuntimeError:
        return
