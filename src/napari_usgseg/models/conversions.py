"""Networks that were converted for another runtime, kept on disk so that it is done once.

    <cache folder>/converted/<key>/        the runtime's files and SHA256SUMS.json

A folder appears whole, by a rename, and its files are compared with their checksums each time that
it is asked for; one that is torn or damaged is made anew.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from ..errors import CheckpointError, LabelWriteError
from .checkpoints import read_checksums, sha256_of, write_checksums

CACHE_VARIABLE = "USGSEG_CACHE"


def cache_folder() -> Path:
    """The person's folder for what can be made anew: ``USGSEG_CACHE``, or the system's own."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen)
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "napari-usgseg"


class Conversions:
    """Converted networks by key; safe from several threads and several processes.

    Args:
        folder: where they are; None takes ``converted`` in the `cache_folder`.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = cache_folder() / "converted" if folder is None else Path(folder)

    def get(self, key: str) -> Path | None:
        """The folder of a conversion, its files checked; None where it is not kept or not whole."""
        place = self._place(key)
        return place if _is_whole(place) else None

    def put(self, key: str, write: Callable[[Path], None]) -> Path | None:
        """Have a conversion written, and keep it.

        Args:
            key: names the weights and the manner of conversion.
            write: puts the files into an empty folder.

        Returns:
            Its folder; None where the disk does not take it, which costs time and is warned of.
        """
        place = self._place(key)
        scratch = self.folder / f".{secrets.token_hex(8)}.tmp"
        try:
            scratch.mkdir(parents=True)
            write(scratch)
            write_checksums(scratch)
            return _move_in(scratch, place)
        except (OSError, LabelWriteError, RuntimeError) as error:  # OpenVINO's of a full disk
            warnings.warn(
                f"{place}: the converted model could not be kept ({error}); it will be converted "
                f"at each start. Free some space, or set {CACHE_VARIABLE} to another folder",
                RuntimeWarning,
                stacklevel=2,
            )
            return None
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _place(self, key: str) -> Path:
        return self.folder / re.sub(r"[^A-Za-z0-9_.@+-]", "_", key)


def _is_whole(place: Path) -> bool:
    try:
        expected = read_checksums(place)
        return bool(expected) and all(sha256_of(place / n) == d for n, d in expected.items())
    except (OSError, CheckpointError):
        return False


def _move_in(scratch: Path, place: Path) -> Path:
    """Rename ``scratch`` to ``place``; what another process put there meanwhile stays if whole."""
    try:
        os.replace(scratch, place)
    except OSError:
        if _is_whole(place):
            return place
        torn = place.with_name(f".{secrets.token_hex(8)}.tmp")
        with contextlib.suppress(FileNotFoundError):
            os.replace(place, torn)
        shutil.rmtree(torn, ignore_errors=True)
        os.replace(scratch, place)
    return place
