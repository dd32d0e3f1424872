"""Lock of one annotator's labels, which one window at a time writes."""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from ..core.errors import DatasetError, LabelWriteError
from ..io.atomic import write_atomically
from ..io.names import safe_file_name, same_name_key

FOLDER = "locks"
FIRST = "_first"
"""Name of the lock of the annotator who has no name."""
RESERVED = ("all", "first")
"""Words that stand for all annotators, and for the one who has no name."""

_held: dict[Path, AnnotatorLock] = {}


def checked_name(root: Path, name: str) -> str:
    """The name of an annotator, which is a folder's name too.

    Raises:
        DatasetError: it cannot be used.
    """
    name = same_name_key(name.strip())
    good = re.fullmatch(r"(?:\w|\w[\w .-]{0,38}\w)?", name)
    reserved = name.casefold() in RESERVED or name == FIRST
    if good is None or reserved or (name and safe_file_name(name) != name):
        raise DatasetError(
            root,
            f"{name!r} cannot be an annotator's name; take 1 to 40 letters, digits, '-', '_', '.' "
            f"or blanks, and none of {', '.join(RESERVED)}",
        )
    return name


class AnnotatorLock:
    """The right to write one annotator's labels; the system takes it back when a process ends.

    In one process the newest holder has it: ``lost`` is called for the one before as soon as the
    new one has taken over, so that a store that could not be opened takes nothing from another.
    """

    def __init__(self, root: Path, annotator: str, lost: Callable[[], None]) -> None:
        self._path = (root / FOLDER / f"{annotator or FIRST}.lock").resolve()
        self._lost = lost
        self._earlier: AnnotatorLock | None = None
        self._lock: FileLock | None = None

    def acquire(self) -> bool:
        """True where the lock is ours now.

        Raises:
            LabelWriteError: the folder cannot be written.
        """
        # A second window of this process would be refused the lock that the process holds itself,
        # so holders within it are told apart by ``_held``.
        self._earlier = _held.get(self._path)
        if self._earlier is not None:
            return True
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # filelock counts per thread by default, but the window opens on one thread and closes
            # on another.
            lock = FileLock(self._path, thread_local=False)
            lock.acquire(timeout=0)
        except Timeout:
            return False
        except OSError as error:
            raise LabelWriteError(
                self._path, "may not be written; choose a folder that you may write to"
            ) from error
        # filelock raises it where the file system (some network shares) has no locks.
        except NotImplementedError as error:
            raise LabelWriteError(
                self._path, "this disk cannot lock files; keep the labels in another folder"
            ) from error
        self._lock = lock
        _held[self._path] = self
        card = {
            "user": _user(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": datetime.now().astimezone().isoformat(timespec="seconds"),
        }
        try:
            text = json.dumps(card, indent=1) + "\n"
            write_atomically(self._card, text.encode(), overwrite=True)
        except LabelWriteError:
            self.release()
            raise
        return True

    def take_over(self) -> None:
        """Take it from whoever had it in this process."""
        earlier, self._earlier = self._earlier, None
        # Handed over and not released: between the two another process could take it.
        if earlier is not None and _held.get(self._path) is earlier:
            self._lock, earlier._lock = earlier._lock, None
            _held[self._path] = self
            earlier._lost()

    def release(self) -> None:
        """Give it back; a second time does nothing."""
        self._earlier = None
        if self._lock is not None:
            _held.pop(self._path, None)
            with suppress(OSError):
                # The card first: once the lock is free, another may have written its own.
                self._card.unlink(missing_ok=True)
            self._lock.release()
            self._lock = None

    def holder(self) -> str:
        """Who has it and since when, as far as is known."""
        try:
            card = json.loads(self._card.read_text(encoding="utf-8"))
            since = datetime.fromisoformat(card["since"]).astimezone()
            return (
                f"Since {since:%d %B, %H:%M}, {card['user']} on {card['host']} "
                f"(process {card['pid']})"
            )
        except (OSError, ValueError, KeyError, TypeError):
            return "Another program"

    @property
    def _card(self) -> Path:
        return self._path.with_suffix(".json")


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "somebody"
