"""The worker process: ``python -m napari_usgseg.jobs.server``.

Reads pickled requests from standard input and writes pickled answers to standard output; arrays go
beside the pickle as they are, so that neither side copies them while it holds Python's lock. The
process belongs to the one that started it and ends when its standard input closes.

Three lanes run side by side: clicks and the current image's embedding, phrases, and work ahead.
Each takes the most urgent request first, and a newer request of a kind takes the place of one still
waiting. Work ahead stands still while another lane works, and what waits of it is dropped when
another image becomes the current one; so a prefetch keeps nobody waiting but who needs it.

A process and not a thread: importing torch in a thread, and Python code between two kernels, were
seen to stall a window's event loop for hundreds of milliseconds (ARCHITECTURE.md).
"""

from __future__ import annotations

import contextlib
import os
import pickle
import struct
import sys
import threading
from typing import Any, BinaryIO

from .engine import Engine
from .requests import (
    EmbedRequest,
    ModelAnswer,
    ModelRequest,
    ObjectsRequest,
    PhantomRequest,
    Priority,
    PromptRequest,
    ProposeRequest,
    TextRequest,
    WarmRequest,
)

LENGTH = struct.Struct("<Q")
MODEST = 10
"""The niceness of work ahead."""


def send(stream: BinaryIO, message: Any) -> None:
    """Write one message to a pipe: how many parts, how long each is, the pickle, its arrays."""
    arrays: list[pickle.PickleBuffer] = []
    body = pickle.dumps(message, protocol=5, buffer_callback=arrays.append)
    parts = [memoryview(body), *(array.raw() for array in arrays)]
    lengths = [len(parts), *(part.nbytes for part in parts)]
    stream.write(b"".join(LENGTH.pack(length) for length in lengths))
    for part in parts:
        stream.write(part)
    stream.flush()


def receive(stream: BinaryIO) -> Any:
    """Read one message from a pipe; the pipe must be this program's own.

    Raises:
        EOFError: the other side has closed it.
    """
    (count,) = LENGTH.unpack(_read(stream, LENGTH.size))
    lengths = [LENGTH.unpack(_read(stream, LENGTH.size))[0] for _ in range(count)]
    body, *arrays = (_read(stream, length) for length in lengths)
    return pickle.loads(body, buffers=arrays)


def _read(stream: BinaryIO, length: int) -> bytearray:
    """So many bytes, writable, for an array keeps them."""
    data = bytearray(length)
    view = memoryview(data)
    while len(view):
        count = stream.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        view = view[count:]
    return data


class Lane(threading.Thread):
    """One thread with a queue: the most urgent first, the newest of a kind only.

    ``modest`` has it, and the threads that torch starts for it, leave the processors to others.
    """

    def __init__(self, name: str, engine: Engine, answers: Answers, modest: bool = False) -> None:
        super().__init__(name=name, daemon=True)
        self._modest = modest
        self._engine = engine
        self._answers = answers
        self._waiting: list[ModelRequest] = []
        self._changed = threading.Condition()

    def put(self, request: ModelRequest) -> None:
        """Queue a request, unless a newer one is waiting that takes its place."""
        with self._changed:
            self._waiting.append(request)
            self._drop([old for old in self._waiting if self._is_superseded(old)])
            self._waiting.sort(key=lambda item: (item.priority, item.generation))
            self._changed.notify()

    def cancel(self, before: int, kinds: tuple[type, ...]) -> None:
        """Drop what waits of some kinds from before a generation."""
        with self._changed:
            self._drop([x for x in self._waiting if x.generation < before and isinstance(x, kinds)])

    def _is_superseded(self, old: ModelRequest) -> bool:
        return any(supersedes(new, old) for new in self._waiting)

    def _drop(self, requests: list[ModelRequest]) -> None:
        for request in requests:
            self._waiting.remove(request)
            kind = type(request).__name__
            self._answers.send(ModelAnswer(request.generation, kind, dropped=True))

    def run(self) -> None:
        """Answer requests for ever."""
        if self._modest and sys.platform == "linux":  # where a thread has a priority of its own
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), MODEST)
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                request = self._waiting.pop(0)
            self._answers.send(self._engine.answer(request))


class Answers:
    """The way back, used by several lanes."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, answer: Any) -> None:
        """Send one answer whole."""
        with self._lock:
            send(self._stream, answer)


def supersedes(new: ModelRequest, old: ModelRequest) -> bool:
    """True where nobody waits for the old request any more once the new one is asked.

    Which is the new one its generation says: a request is sent a second time, after others, where
    the worker did not hold its image.
    """
    return (
        type(new) is type(old)
        and new.generation > old.generation
        and new.priority == old.priority
        and new.priority != Priority.PREFETCH
        and not isinstance(new, WarmRequest)
        and not isinstance(new, PhantomRequest)
    )


def lane_of(request: ModelRequest) -> str:
    """Which lane answers a request."""
    if request.priority == Priority.PREFETCH:
        return "ahead"
    if isinstance(request, PromptRequest | ObjectsRequest | EmbedRequest):
        return "clicks"
    if isinstance(request, WarmRequest) and request.detector is None:
        return "clicks"
    return "phrases"


def serve(requests: BinaryIO, answers: BinaryIO, engine: Engine) -> None:
    """Answer requests until their stream ends. An int drops prompts and phrases older than it."""
    back = Answers(answers)
    lanes = {
        name: Lane(name, engine, back, modest=name == "ahead")
        for name in ("clicks", "phrases", "ahead")
    }
    for lane in lanes.values():
        lane.start()
    while True:
        try:
            request = receive(requests)
        except EOFError:
            return
        if isinstance(request, int):
            for name in ("clicks", "phrases"):
                kinds = (PromptRequest, ObjectsRequest, TextRequest, ProposeRequest)
                lanes[name].cancel(request, kinds)
            continue
        if isinstance(request, EmbedRequest) and request.priority != Priority.PREFETCH:
            lanes["ahead"].cancel(request.generation, (EmbedRequest, ProposeRequest))
        lanes[lane_of(request)].put(request)


def main() -> None:
    """Serve on the standard streams; whatever a library prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    serve(sys.stdin.buffer, answers, Engine())
    os._exit(0)  # do not wait for a lane that is in the middle of a long computation


if __name__ == "__main__":
    main()
