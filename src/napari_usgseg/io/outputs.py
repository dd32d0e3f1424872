"""Output folders: where a command may write, and the record of what it wrote there.

Every command that writes files goes through ``OutputFolder``. It never writes over

* a file that the command reads, under whatever name or link;
* a file in a project's own folder, which only the project writes;
* a file that is there already, unless the program wrote it itself and nobody changed it since, and
  the person asked for it to be replaced.

What the program wrote is known by content: ``.usgseg-written.jsonl`` in the folder, or in one above
it, has a line for each file, ``{"path": "masks/a.png", "sha256": "..."}``, added before the file
appears. A file whose hash is in none of its lines is a person's.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import platformdirs

from ..core.errors import LabelWriteError
from .atomic import is_half_written, sha256_of, write_atomically, write_cure

RECORD_FILE = ".usgseg-written.jsonl"
PASSED_OVER = (RECORD_FILE, ".lock", ".DS_Store", "Thumbs.db", "desktop.ini")
"""Files that make no folder another's: ours, and what file managers leave behind."""
_AT_ONCE = 16
"""Files that are written at the same time."""
PROJECT_FILE = "project.sqlite"
"""The file that makes a folder a project's own (``project``)."""

TRAINING_FILES = ("training.json", "log.jsonl")
"""One of them is in the folder of every training (``learning``)."""
CACHE_VARIABLE = "USGSEG_CACHE"


def cache_folder() -> Path:
    """The person's folder for what can be made anew: ``USGSEG_CACHE``, or the system's own."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen)
    return platformdirs.user_cache_path("napari-usgseg", appauthor=False, opinion=False)


class OutputFolder:
    """A folder that a command writes into.

    Args:
        root: the folder; it is made with the first file.
        reads: files and folders that the command reads.
        overwrite: replace files that the program wrote and nobody changed since.

    Raises:
        LabelWriteError: ``root`` is or lies in a file, or lies in a project's own folder.
    """

    def __init__(
        self, root: str | Path, *, reads: Iterable[str | Path] = (), overwrite: bool = False
    ) -> None:
        self.root = Path(root)
        self.overwrite = overwrite
        read = [Path(path) for path in reads]
        self._reads = {identity: path for path in read for identity in file_identities(path)}
        self._read_places = [_real(path) for path in read]
        self._record = _Record(_real(self.root))
        self._written: set[Path] = set()
        there = next(place for place in (self.root, *self.root.parents) if place.exists())
        if not there.is_dir():
            raise LabelWriteError(there, "is a file, not a folder; choose another place")
        project = project_around(self.root)
        if project is not None:
            raise LabelWriteError(
                self.root,
                f"is in {project}, where a project keeps its labels; choose a place outside of it",
            )

    def check(self, *paths: Path) -> None:
        """Refuse files that may not be written, before the work that would fill them.

        Raises:
            LabelWriteError: one may not be; it says why, and what to do.
        """
        for path in paths:
            if path.is_dir() and not path.is_symlink():
                raise LabelWriteError(path, "is a folder; choose a file name")
            self._check_not_read(path)
            if project_around(path.parent) is not None:
                raise LabelWriteError(
                    path, "is in a project's own folder; choose a place outside of it"
                )
            if not os.path.lexists(path):
                continue
            if not self.is_own(path):
                raise LabelWriteError(
                    path,
                    "is there already and is not known to be of this program, so it is left as it "
                    "is; choose another place",
                )
            if not self.overwrite:
                raise LabelWriteError(
                    path, "is there already, from an earlier run; choose another place"
                )

    def check_only_own(self) -> None:
        """Refuse a folder that holds anything but what the program wrote into it.

        Raises:
            LabelWriteError: it holds something else or what is read, or holds anything and is not
                to be overwritten; it names the first.
        """
        root = _real(self.root)
        for place in self._read_places:
            if place.is_relative_to(root) and place.exists():
                raise LabelWriteError(
                    self.root,
                    f"holds what this command reads ({place}); choose an empty or a new folder",
                )
        for path in self._files():
            if not self.is_own(path):
                raise LabelWriteError(
                    self.root,
                    f"holds other files ({path.relative_to(self.root)}); choose an empty or a new "
                    "folder",
                )
            if not self.overwrite:
                raise LabelWriteError(
                    self.root, "holds an earlier result; choose an empty or a new folder"
                )

    def check_writable(self) -> None:
        """Make the folder and refuse one that cannot be written into, before long work.

        Raises:
            LabelWriteError: it cannot.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LabelWriteError(self.root, write_cure(error)) from error
        if not os.access(self.root, os.W_OK):
            raise LabelWriteError(
                self.root, "may not be written; choose a folder that you may write to"
            )

    def is_own(self, path: Path) -> bool:
        """Whether the program wrote this file, and nobody changed it since."""
        # The content behind a link may be a person's although its hash is known.
        if path.is_symlink() or not path.is_file():
            return False
        return self._record.knows(_place(path))

    def adopt(self, path: Path) -> None:
        """Take a file as the program's own that it wrote before it kept a record.

        Call it only for what can be nobody else's by its form.

        Raises:
            LabelWriteError: it is read by the command, or the record cannot be written.
        """
        if not path.is_file() or self.is_own(path):
            return
        self._check_not_read(path)
        self._remember(path, path.read_bytes())

    def write(self, path: Path, data: bytes) -> None:
        """Write a file below ``root``, whole or not at all, and remember it as the program's own.

        Raises:
            LabelWriteError: as for ``check``, or it cannot be written.
        """
        self.check(path)
        # The record first: a file that is there is then always known. Killed in between, a line
        # without a file does no harm.
        self._remember(path, data)
        write_atomically(path, data, overwrite=self.overwrite)
        self._written.add(_place(path))

    def write_all(self, files: Sequence[tuple[Path, bytes]]) -> None:
        """As ``write`` of each, at the same time: a disk confirms many files as soon as one.

        Raises:
            LabelWriteError: as for ``write``; some may have been written.
        """
        if len(files) == 1:
            self.write(*files[0])
            return
        for path, data in files:
            self.check(path)
            self._remember(path, data)
        write = partial(write_atomically, overwrite=self.overwrite)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for path, done in [(path, pool.submit(write, path, data)) for path, data in files]:
                done.result()
                self._written.add(_place(path))

    def remove(self, path: Path) -> None:
        """Remove a file of an earlier result; one that is read, or that a person changed, stays.

        Raises:
            LabelWriteError: it cannot be removed.
        """
        if self.overwrite and self.is_own(path) and not self._is_read(path):
            _unlink(path)

    @contextlib.contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Remove what the block wrote where it fails, such as an image whose mask failed.

        Raises:
            LabelWriteError: a file cannot be removed.
        """
        before = set(self._written)
        try:
            yield
        except BaseException:
            for place in self._written - before:
                self._written.remove(place)
                _unlink(place)
            raise

    def remove_others(self, *keep: Path) -> None:
        """Remove what an earlier run wrote here and this one did not, and folders left empty.

        Args:
            keep: folders whose files stay, because another ``OutputFolder`` wrote them.

        Raises:
            LabelWriteError: a file cannot be removed.
        """
        if not self.overwrite:
            return
        kept, emptied = {_real(folder) for folder in keep}, set()
        for path in list(self._files()):
            place = _place(path)
            if place not in self._written and kept.isdisjoint(place.parents):
                self.remove(path)
                emptied.add(place.parent)
        # The deepest first, so that a parent is empty when its turn comes.
        for folder in sorted(emptied, key=lambda each: len(each.parts), reverse=True):
            _remove_empty(folder, _real(self.root))

    def _files(self) -> Iterator[Path]:
        """All files below ``root`` save records, locks and what a killed run wrote half.

        Links to folders are among them.
        """
        for place, folders, names in os.walk(self.root):
            links = [name for name in folders if (Path(place) / name).is_symlink()]
            for name in sorted((*names, *links)):
                if name not in PASSED_OVER and not is_half_written(name):
                    yield Path(place) / name

    def _is_read(self, path: Path) -> bool:
        """Whether a file is one that is read; a number on the disk is given again to new files."""
        found = file_identities(path)
        return any(
            identity in self._reads and identity in file_identities(self._reads[identity])
            for identity in found
        )

    def _check_not_read(self, path: Path) -> None:
        if self._is_read(path):
            raise LabelWriteError(path, "is read by this command; choose another place for it")

    def _remember(self, path: Path, data: bytes) -> None:
        """Say that ``path`` is about to hold ``data``; a record that is another file is refused."""
        record = self._record.path
        if record.is_symlink() or self._is_read(record):
            raise LabelWriteError(record, "is no record of this program; choose another folder")
        try:
            self._record.add(_place(path), hashlib.sha256(data).hexdigest())
        except OSError as error:
            raise LabelWriteError(path, write_cure(error)) from error


class _Record:
    """What the program wrote, by content: a line for each file in ``RECORD_FILE`` of a folder.

    Args:
        root: the folder that gets the new lines; those above it are read as well.
    """

    def __init__(self, root: Path) -> None:
        self.path = root / RECORD_FILE
        self._root = root
        self._folders: dict[Path, dict[str, set[str]]] = {}

    def knows(self, place: Path) -> bool:
        """Whether a file, by its real place, is as the program wrote it."""
        known = {
            digest
            for folder in place.parents
            for digest in self._of(folder).get(_name(place, folder), ())
        }
        try:
            return bool(known) and sha256_of(place) in known
        except OSError:
            return False

    def add(self, place: Path, digest: str) -> None:
        """Note the SHA-256 of a file that is about to be written; ``OSError`` where that fails."""
        name = _name(place, self._root)
        known = self._of(self._root).setdefault(name, set())
        if digest in known:
            return
        line = json.dumps({"path": name, "sha256": digest})
        self._root.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read() != b"\n":  # a crash cut the last line off
                    file.write(b"\n")
            file.write(f"{line}\n".encode())
        known.add(digest)

    def _of(self, folder: Path) -> dict[str, set[str]]:
        """File name below ``folder`` -> the hashes under which the program wrote it."""
        if folder not in self._folders:
            written: dict[str, set[str]] = {}
            try:
                text = (folder / RECORD_FILE).read_text(encoding="utf-8", errors="replace")
            except OSError:
                text = ""
            for line in text.splitlines():
                try:
                    entry = json.loads(line)
                    written.setdefault(str(entry["path"]), set()).add(str(entry["sha256"]))
                except (ValueError, KeyError, TypeError):  # a line that a crash cut off
                    continue
            self._folders[folder] = written
        return self._folders[folder]


def output_file(path: str | Path, *, reads: Iterable[str | Path] = ()) -> OutputFolder:
    """The folder of one file that a command writes, such as a report, checked before the work.

    An earlier one that the program wrote is replaced.

    Raises:
        LabelWriteError: the file may not or cannot be written.
    """
    path = Path(path)
    folder = OutputFolder(path.parent, reads=reads, overwrite=True)
    folder.check(path)
    folder.check_writable()
    return folder


def check_model_folder(out: str | Path, *, resume: bool = False) -> None:
    """Refuse a folder for a model or a training that holds anything else.

    Args:
        out: a new folder or an empty one; with ``resume`` also one that holds a training.
        resume: go on with the training in it, whose files are then replaced.

    Raises:
        LabelWriteError: it holds something, or lies in a project's own folder.
    """
    folder = OutputFolder(out)
    training = any((folder.root / name).is_file() for name in TRAINING_FILES)
    if training and not resume:
        raise LabelWriteError(
            folder.root, "holds a training; go on with it (--resume), or choose another folder"
        )
    if not training:
        folder.check_only_own()


def project_around(folder: Path) -> Path | None:
    """The project's own folder that ``folder`` is, or lies in; None where it is in none."""
    place = _real(folder)
    return next((each for each in (place, *place.parents) if (each / PROJECT_FILE).is_file()), None)


def file_identities(path: Path) -> set[object]:
    """What names a file or folder whatever the way to it: its real path, its number on the disk."""
    found: set[object] = {os.path.realpath(path)}
    with contextlib.suppress(OSError, ValueError):
        status = path.stat()
        # Device and inode find hard links and bind mounts, which have another real path.
        found.add((status.st_dev, status.st_ino))
    return found


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise LabelWriteError(path, write_cure(error)) from error


def _remove_empty(folder: Path, root: Path) -> None:
    """Remove a folder without files, and those above it that have none then, up to ``root``."""
    with contextlib.suppress(OSError):  # an empty folder that stays does no harm
        while folder != root and set(os.listdir(folder)) <= {RECORD_FILE}:
            (folder / RECORD_FILE).unlink(missing_ok=True)
            folder.rmdir()
            folder = folder.parent


def _place(path: Path) -> Path:
    """Where a file is, with the links of its folder followed and its own not."""
    return _real(path.parent) / path.name


def _name(place: Path, folder: Path) -> str:
    return os.path.relpath(place, folder).replace(os.sep, "/")
