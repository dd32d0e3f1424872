"""Trainings without the seconds of imports that each new process takes: they are forked.

``Nursery`` is a process that has imported what a training needs and forks one when it is asked
(its ``start`` stands in for ``jobs.wire.start``). ``in_two_processes`` forks the processes of one
training, with the variables that a launcher such as torchrun sets.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


class Forked:
    """A training that was forked; what ``jobs.background`` uses of ``subprocess.Popen``."""

    def __init__(self, pid: int, stdin: int, stdout: int) -> None:
        self.pid = pid
        self.stdin, self.stdout = os.fdopen(stdin, "wb"), os.fdopen(stdout, "rb")

    def poll(self) -> int | None:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return 0
        return None

    def wait(self, timeout: float = 60.0) -> int:
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("training", timeout)
            time.sleep(0.01)
        return 0

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


class Nursery:
    """The process that trainings are forked from."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        words = [sys.executable, "-m", "tests.support.forks", str(theirs.fileno())]
        place = Path(__file__).parents[2]
        self._process = subprocess.Popen(words, cwd=place, pass_fds=[theirs.fileno()])
        theirs.close()

    def start(
        self,
        module: str,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        flags: int = 0,
    ) -> Forked:
        assert module == "napari_usgseg.learning.process"
        (child_in, stdin), (stdout, child_out) = os.pipe(), os.pipe()
        request = {"arguments": arguments, "environment": {**os.environ, **(environment or {})}}
        socket.send_fds(self._socket, [json.dumps(request).encode()], [child_in, child_out])
        os.close(child_in)
        os.close(child_out)
        return Forked(int(self._socket.recv(32)), stdin, stdout)

    def close(self) -> None:
        self._socket.close()
        self._process.wait(60)


def _nurse(line: socket.socket) -> None:
    """Fork a training for each request, until the other side is gone."""
    from napari_usgseg.learning.process import main
    from napari_usgseg.models.registry import load_detector, load_segmenter

    import_what_trainings_need()
    load_segmenter("nano")
    load_detector("nano")  # and what is imported with them
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    while True:
        data, streams, _, _ = socket.recv_fds(line, 1 << 20, 2)
        if not data:
            return
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            line.close()
            for place, stream in enumerate(streams):
                os.dup2(stream, place)
                os.close(stream)
            request = json.loads(data)
            os.environ.update(request["environment"])
            kind, folder = request["arguments"]
            main(kind, Path(folder))
        for stream in streams:
            os.close(stream)
        line.send(str(child).encode())


def import_what_trainings_need() -> None:
    """Once, before the first fork; nothing may learn here, for torch's threads are not forked."""
    import accelerate  # noqa: F401

    import napari_usgseg.learning.lora.train
    import napari_usgseg.learning.ppn
    import napari_usgseg.learning.promotion  # noqa: F401


def in_two_processes(work: Callable[[], int | None]) -> int:
    """Do the work as each of two processes of one training; the greater of their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(2):
        children.append(os.fork())
        if children[-1] == 0:
            names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
            names |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            os.environ.update({name: str(value) for name, value in names.items()})
            code = 1
            try:
                code = work() or 0
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
    return max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)


if __name__ == "__main__":
    _nurse(socket.socket(fileno=int(sys.argv[1])))
