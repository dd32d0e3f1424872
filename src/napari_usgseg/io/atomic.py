"""Whole files: written atomically, so there whole or not at all, and known by their SHA-256."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path

from ..core.errors import LabelWriteError

TAKEN = "is there already; choose another place"

Write = Callable[[Path, bytes], None]
"""Writes a whole file or refuses: ``write_new``, ``write_over``, ``OutputFolder.write``."""

_CURES = {
    errno.EACCES: "may not be written; choose a folder that you may write to",
    errno.EPERM: "may not be written; choose a folder that you may write to",
    errno.EROFS: "is on a read-only disk; choose another folder",
    errno.ENOSPC: "the disk is full; free some space or choose another",
    errno.EDQUOT: "your share of the disk is full; free some space or choose another",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.ENOTDIR: "part of the path is a file, not a folder; choose another",
    errno.EEXIST: "part of the path is a file, not a folder; choose another",
    errno.EISDIR: "is a folder; choose a file name",
}


def write_atomically(path: str | Path, data: bytes, *, overwrite: bool = False) -> None:
    """Write ``data`` to a temporary file beside ``path``, to the disk, and rename it to ``path``.

    Whoever reads ``path`` sees the old bytes or the new ones, also after a crash. Missing folders
    are made; the temporary file stays only where the program is killed (``is_half_written``).

    Raises:
        LabelWriteError: ``path`` exists and ``overwrite`` is False, or it cannot be written.
    """
    path = Path(path)
    if not overwrite and os.path.lexists(path):
        raise LabelWriteError(path, TAKEN)
    # In the same folder: a rename is atomic within one file system only. A name of its own, so that
    # two processes never share it.
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                # Without it some file systems rename before the data are on the disk, and a power
                # cut leaves an empty file under the right name.
                os.fsync(file.fileno())
            _put(temporary, path, overwrite)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
        _sync_folder(path.parent)
    except OSError as error:
        raise LabelWriteError(path, write_cure(error)) from error


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal; ``OSError`` where it cannot be read."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_half_written(name: str) -> bool:
    """Whether a file's name is that of a temporary one, left behind where a program was killed."""
    return re.fullmatch(r"\.[0-9a-f]{16}\.tmp", name) is not None


def write_new(path: Path, data: bytes) -> None:
    """Write a file that is not there yet.

    Raises:
        LabelWriteError: it is there, or it cannot be written.
    """
    write_atomically(path, data)


def write_over(path: Path, data: bytes) -> None:
    """Write a file that is the program's own whatever it holds, such as those of a project.

    Raises:
        LabelWriteError: it cannot be written.
    """
    write_atomically(path, data, overwrite=True)


def _put(temporary: Path, path: Path, overwrite: bool) -> None:
    """Give the written file its name; one that appeared there meanwhile stays."""
    if not overwrite:
        try:
            os.link(temporary, path)  # unlike a rename, it fails where something is there
            return
        except FileExistsError as error:
            raise LabelWriteError(path, TAKEN) from error
        except OSError:  # a file system without hard links
            if os.path.lexists(path):
                raise LabelWriteError(path, TAKEN) from None
    os.replace(temporary, path)


def write_cure(error: OSError) -> str:
    """What keeps a file or folder from being written, and what to do about it."""
    said = error.strerror or type(error).__name__  # its own text has the path
    return _CURES.get(error.errno or 0, f"could not be written ({said}); try another folder")


def _sync_folder(folder: Path) -> None:
    """Bring the rename itself to the disk, where the system can (Windows cannot)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
