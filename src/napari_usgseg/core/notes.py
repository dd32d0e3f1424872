"""Notes on files that could be read: from their readers to whoever listens.

A reader says it where it sees it, ``remark(path, "...")``, and goes on. A command that wants to
tell it to a person listens around its work; what is the same for many files is one line:

    with listening() as notes:
        ...
    for line in notes.lines():
        print(line)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path


class Notes:
    """Notes on files: text -> the files that it is true of, each once."""

    def __init__(self) -> None:
        self._files: dict[str, dict[str, None]] = {}

    def add(self, path: str | Path, text: str) -> None:
        """Take one note of one file."""
        self._files.setdefault(text, {})[str(path)] = None

    def lines(self) -> list[str]:
        """One line for each text: the file, or how many files there are and the first."""
        return [counted(text, list(files)) for text, files in self._files.items()]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """(file, text) of each note."""
        for text, files in self._files.items():
            yield from ((file, text) for file in files)


def counted(text: str, files: list[str]) -> str:
    """One line of a note: "a.png: odd", or for several files "odd (3 files, the first a.png)"."""
    if len(files) == 1:
        return f"{files[0]}: {text}"
    return f"{text} ({len(files)} files, the first {files[0]})"


# A context variable and no global: batches read on several threads, each with its own listener.
_listener: ContextVar[Notes | None] = ContextVar("usgseg_notes", default=None)
# A pool's thread hears nothing by itself: its work runs in ``contextvars.copy_context()``.


def remark(path: str | Path, text: str) -> None:
    """Say of a file what a person should know, to who began to listen last in this context."""
    notes = _listener.get()
    if notes is not None:
        notes.add(path, text)


@contextmanager
def listening() -> Iterator[Notes]:
    """Hear what readers remark on in the block."""
    token = _listener.set(notes := Notes())
    try:
        yield notes
    finally:
        _listener.reset(token)
