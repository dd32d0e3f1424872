"""``run.json``: what a batch was asked for, with which models, and what became of each file."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..errors import LabelWriteError
from ..io.atomic import write_atomically

SCHEMA = 1
PACKAGES = ("napari-usgseg", "sam2", "torch", "transformers", "numpy")


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes from writing label maps into ``folder`` meanwhile.

    Raises:
        LabelWriteError: another one does already.
    """
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise LabelWriteError(
            folder, "another usgseg writes label maps here now; wait for it, or choose another"
        ) from error
    except (OSError, NotImplementedError):  # no locks here; a read-only folder is told of elsewhere
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file
            Path(lock.lock_file).unlink()
        lock.release()


class RunFile:
    """The ``run.json`` of one output folder, saved by atomic replacement while files are done."""

    def __init__(self, path: Path, request: dict[str, Any], files: dict[str, Any]) -> None:
        self._path = path
        self._request = request
        self._files = files
        self._started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self._started = time.perf_counter()

    @classmethod
    def open(cls, path: Path, request: dict[str, Any], *, overwrite: bool) -> RunFile:
        """Start a run, or go on with an earlier one of the same request.

        Raises:
            LabelWriteError: the folder holds the label maps of another request.
        """
        files: dict[str, Any] = {}
        if path.exists():
            earlier = _read(path)
            if earlier.get("request") == request:
                files = earlier["files"]
            elif not overwrite and _holds_labels(earlier):
                raise LabelWriteError(
                    path,
                    "this folder holds the label maps of another request "
                    f"({_summary(earlier)}); choose another folder, or overwrite",
                )
        run = cls(path, request, files)
        run._save()
        return run

    def status(self, image_id: str, source: Path) -> str | None:
        """What an earlier run of the same request says of this file ("done", "writing", ...)."""
        entry = self._files.get(image_id, {})
        return entry.get("status") if entry.get("source") == str(source.resolve()) else None

    def objects(self, image_id: str) -> int:
        """How many objects the earlier run found."""
        return self._files[image_id].get("objects", 0)

    def begin(self, image_id: str, source: Path) -> None:
        """Say that this file's label map is about to be written, so that it is known as ours."""
        self._files[image_id] = {"source": str(source.resolve()), "status": "writing"}
        self._save()

    def record(self, image_id: str, source: Path, status: str, **details: Any) -> None:
        """Note what became of a file; saved with the next ``begin``, or by ``close``."""
        entry = {"source": str(source.resolve()), "status": status, **details}
        self._files[image_id] = {key: value for key, value in entry.items() if value != ""}

    def close(self) -> None:
        """Save what is still unsaved."""
        self._save()

    def _save(self) -> None:
        card = {
            "schema": SCHEMA,
            "request": self._request,
            "versions": {"python": platform.python_version()} | _versions(),
            "started": self._started_at,
            "seconds": round(time.perf_counter() - self._started, 3),
            "files": self._files,
        }
        write_atomically(self._path, (json.dumps(card, indent=1) + "\n").encode(), overwrite=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return card if isinstance(card, dict) and isinstance(card.get("files"), dict) else {}


def _holds_labels(card: dict[str, Any]) -> bool:
    return any(entry.get("status") != "failed" for entry in card.get("files", {}).values())


def _summary(card: dict[str, Any]) -> str:
    text = card.get("request", {}).get("text")
    return f"'{text}'" if text else "boxes and points"


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            from .. import __version__

            found[name] = __version__ if name == "napari-usgseg" else "absent"
    return found
