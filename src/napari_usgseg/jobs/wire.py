"""Messages between the program and its own processes: pickles with their arrays beside them.

The arrays go as they are, so that neither side copies them while it holds Python's lock. The
streams are a process's own standard input and output, which nobody else can write to.
"""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

LENGTH = struct.Struct("<Q")


def send(stream: BinaryIO, message: Any) -> None:
    """Write one message to a pipe: how many parts, how long each is, the pickle, its arrays."""
    arrays: list[pickle.PickleBuffer] = []
    # Out-of-band buffers (PEP 574): arrays are written from where they are instead of being copied
    # into the pickle, for which Python's lock would be held and the window stand still.
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
    # A pickle runs code. These pipes lead to a child that this program started, and nowhere else;
    # files and networks are never read like this.
    return pickle.loads(body, buffers=arrays)


def _read(stream: BinaryIO, length: int) -> bytearray:
    """So many bytes, writable, for an array keeps them."""
    # A bytearray and no bytes: numpy's arrays over bytes are read-only.
    data = bytearray(length)
    view = memoryview(data)
    while len(view):
        count = stream.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        view = view[count:]
    return data


def start(
    module: str,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    flags: int = 0,
) -> subprocess.Popen[bytes]:
    """Start a module of this package, with pipes to its standard input and output.

    Args:
        module: to run, such as ``napari_usgseg.jobs.inference_process``.
        arguments: of its command line.
        environment: variables that it has beside this program's own.
        flags: for Windows, beside "no console".

    Raises:
        OSError: the process cannot be started.
    """
    root = str(Path(__file__).resolve().parents[2])
    # So that the child imports this very package, also where it is run from a source folder.
    paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH", ""))))
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths, **(environment or {})},
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0) | flags,
    )


def own_streams() -> tuple[BinaryIO, BinaryIO]:
    """A process's own ends; whatever a library prints goes to standard error from now on."""
    # A library that prints, from C too, would otherwise write into the middle of a message.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return sys.stdin.buffer, out
