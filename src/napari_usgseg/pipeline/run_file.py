"""``run.json``: what a batch was asked for, with which models, and what became of each file.

    {"schema": 1, "request": {...}, "versions": {...}, "started": "...", "seconds": 1.2,
     "files": {"a": {"source": "/scans/a.png", "sha256": "...", "status": "done", "objects": 1}}}

``sha256`` is of the image's file; runs of older versions have none.
"""

from __future__ import annotations

import json
import os
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
from ..io.outputs import OutputFolder
from .image_ids import place_of

RUN_FILE = "run.json"
SCHEMA = 1
PACKAGES = ("napari-usgseg", "sam2", "torch", "transformers", "numpy")


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes from writing label maps into ``folder`` meanwhile.

    Raises:
        LabelWriteError: another one does already, or a person's file has the lock's name.
    """
    path = folder / ".lock"
    if path.is_symlink() or (path.exists() and (path.is_dir() or path.stat().st_size > 0)):
        raise LabelWriteError(path, "is no lock of this program; choose another folder")
    lock = FileLock(path, timeout=0)
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
    """The ``run.json`` of one output folder, saved by atomic replacement while files are done.

    Attributes:
        earlier: id -> what an earlier run noted of the image, whatever it was asked for.
    """

    def __init__(
        self,
        out: OutputFolder,
        request: dict[str, Any],
        files: dict[str, Any],
        earlier: dict[str, Any],
    ) -> None:
        self.earlier = earlier
        self._out = out
        self._request = request
        self._files = files
        self._started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self._started = time.perf_counter()

    @classmethod
    def open(cls, out: OutputFolder, request: dict[str, Any]) -> RunFile:
        """Start a run, or go on with an earlier one of the same request; nothing is written yet.

        Raises:
            LabelWriteError: the folder holds the label maps of another request, which are not to be
                replaced, or a ``run.json`` that is none of this program.
        """
        path = out.root / RUN_FILE
        earlier = _read(path) if os.path.lexists(path) else {"request": request, "files": {}}
        if earlier["request"] == request:
            return cls(out, request, dict(earlier["files"]), earlier["files"])
        if not out.overwrite and _holds_labels(earlier):
            raise LabelWriteError(
                path,
                "this folder holds the label maps of another request "
                f"({_summary(earlier)}); choose another folder, or replace them (--overwrite)",
            )
        return cls(out, request, {}, earlier["files"])

    def start(self) -> None:
        """Write the file; one of an older version of the program is known as its own from now on.

        Raises:
            LabelWriteError: it may not or cannot be written.
        """
        self._out.adopt(self._out.root / RUN_FILE)
        self._save()

    def status(self, image_id: str) -> str | None:
        """What a run of this request says of an image ("done", "writing", ...)."""
        status: str | None = self._files.get(image_id, {}).get("status")
        return status

    def objects(self, image_id: str) -> int:
        """How many objects the earlier run found."""
        return int(self._files[image_id].get("objects", 0))

    def begin(self, image_id: str, source: Path, **details: Any) -> None:
        """Say that this image's label map is about to be written."""
        self.record(image_id, source, "writing", **details)
        self._save()

    def record(self, image_id: str, source: Path, status: str, **details: Any) -> None:
        """Note what became of an image; saved with the next ``begin``, or by ``close``."""
        entry = {"source": place_of(source), "status": status, **details}
        self._files[image_id] = {key: value for key, value in entry.items() if value != ""}

    def found_again(self, image_id: str, source: Path, **details: Any) -> None:
        """Note where an image is now whose label map is kept."""
        now = {"source": place_of(source), **details}
        self._files[image_id] |= {key: value for key, value in now.items() if value != ""}

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
        data = (json.dumps(card, indent=1) + "\n").encode()
        self._out.write(self._out.root / RUN_FILE, data, overwrite=True)


def _read(path: Path) -> dict[str, Any]:
    """A run file.

    Raises:
        LabelWriteError: it is none of this program, or of a newer version.
    """
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        ours = card["schema"] == SCHEMA and isinstance(card["request"], dict)
        ours = ours and all(isinstance(entry, dict) for entry in card["files"].values())
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        ours = False
    if not ours or path.is_symlink():
        raise LabelWriteError(
            path, "is no run file of this program and is left as it is; choose another folder"
        )
    return dict(card)


def _holds_labels(card: dict[str, Any]) -> bool:
    return any(entry.get("status") != "failed" for entry in card["files"].values())


def _summary(card: dict[str, Any]) -> str:
    text = card["request"].get("text")
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
