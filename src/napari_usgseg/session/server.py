"""The worker process: ``python -m napari_usgseg.session.server``.

Reads pickled requests from standard input and writes pickled answers to standard output, each
after its length in eight bytes. The process belongs to the one that started it and ends when its
standard input closes. Two lanes run side by side: clicks and the current image's embedding on one,
phrases and prefetches on the other, so a click never waits for a prefetch; each lane takes the
most urgent request first, and a newer request of a kind takes the place of one still waiting.

A process and not a thread: importing torch in a thread, and Python code between two kernels, were
seen to stall a window's event loop for hundreds of milliseconds (ARCHITECTURE.md).
"""

from __future__ import annotations

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
    PhantomRequest,
    Priority,
    PromptRequest,
    WarmRequest,
)

LENGTH = struct.Struct("<Q")


def send(stream: BinaryIO, message: Any) -> None:
    """Write one message to a pipe."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(LENGTH.pack(len(body)))
    stream.write(body)
    stream.flush()


def receive(stream: BinaryIO) -> Any:
    """Read one message from a pipe; the pipe must be this program's own.

    Raises:
        EOFError: the other side has closed it.
    """
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        raise EOFError
    (length,) = LENGTH.unpack(head)
    body = stream.read(length)
    if len(body) < length:
        raise EOFError
    return pickle.loads(body)


class Lane(threading.Thread):
    """One thread with a queue: the most urgent first, the newest of a kind only."""

    def __init__(self, name: str, engine: Engine, answers: Answers) -> None:
        super().__init__(name=name, daemon=True)
        self._engine = engine
        self._answers = answers
        self._waiting: list[ModelRequest] = []
        self._changed = threading.Condition()

    def put(self, request: ModelRequest) -> None:
        """Queue a request."""
        with self._changed:
            self._drop([item for item in self._waiting if supersedes(request, item)])
            self._waiting.append(request)
            self._waiting.sort(key=lambda item: (item.priority, item.generation))
            self._changed.notify()

    def cancel(self, before: int) -> None:
        """Drop what waits from before a generation."""
        with self._changed:
            late = [item for item in self._waiting if item.generation < before]
            self._drop([item for item in late if not isinstance(item, WarmRequest)])

    def _drop(self, requests: list[ModelRequest]) -> None:
        for request in requests:
            self._waiting.remove(request)
            kind = type(request).__name__
            self._answers.send(ModelAnswer(request.generation, kind, dropped=True))

    def run(self) -> None:
        """Answer requests for ever."""
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
    """True where nobody waits for the old request any more once the new one is asked."""
    return (
        type(new) is type(old)
        and new.priority == old.priority
        and new.priority != Priority.PREFETCH
        and not isinstance(new, WarmRequest)
        and not isinstance(new, PhantomRequest)
    )


def lane_of(request: ModelRequest) -> str:
    """Which lane answers a request."""
    if isinstance(request, PromptRequest):
        return "quick"
    if isinstance(request, EmbedRequest) and request.priority == Priority.EMBED:
        return "quick"
    if isinstance(request, WarmRequest) and request.detector is None:
        return "quick"
    return "slow"


def serve(requests: BinaryIO, answers: BinaryIO, engine: Engine) -> None:
    """Answer requests until their stream ends. An int in the stream cancels what is older."""
    back = Answers(answers)
    lanes = {name: Lane(name, engine, back) for name in ("quick", "slow")}
    for lane in lanes.values():
        lane.start()
    while True:
        try:
            request = receive(requests)
        except EOFError:
            return
        if isinstance(request, int):
            for lane in lanes.values():
                lane.cancel(request)
        else:
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
