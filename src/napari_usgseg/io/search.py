"""Search for images among files and folders; what was left out there, in words.

A folder gives the files directly in it that have a suffix of an image, a video or a volume, and
those that are DICOM by what they hold: scanners give them no suffix, or a part of a number. A ZIP
archive gives all the images in it (``archives``), whatever their folders there. What
else is in it is counted, so that nobody takes "3 images" for all there is. Hidden files and the
program's own (a project, the results of a command) are none of the person's images, and not
counted.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..core.errors import ImageReadError, readable
from .archives import SUFFIX, is_archive, unpacked
from .names import hidden_or_appledouble, same_name_key
from .outputs import PROJECT_FILE
from .reading.files import (
    DICOM_SUFFIXES,
    READ,
    STILL_SUFFIXES,
    VIDEO_SUFFIXES,
    VOLUME_SUFFIXES,
    is_dicom,
)

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
"""Suffixes of images and of masks in a data set; the protocol's first."""
_SUFFIXES = (*STILL_SUFFIXES, *DICOM_SUFFIXES, *VIDEO_SUFFIXES, *VOLUME_SUFFIXES)
_NO_PICTURE = "dicomdir"
"""The list of the files of a medium is DICOM, too."""
OWN_FILES = ("run.json", "classes.json")
"""A folder with both holds label maps that ``usgseg segment`` wrote."""
NAMED = 6
"""So many suffixes or folders are named at most."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Files and folders that a search left out.

    Attributes:
        suffixes: suffix in small letters ("" for none) -> how many files.
        folders: folders that were not searched, by name.
    """

    suffixes: Mapping[str, int] = field(default_factory=dict)
    folders: tuple[str, ...] = ()

    def sentences(self, to_search: str) -> list[str]:
        """What was left out and what to do about it; empty where nothing was.

        Args:
            to_search: how a person has the folders searched: "--recursive searches them too".
        """
        said = []
        count = sum(self.suffixes.values())
        if count:
            ranked = sorted(self.suffixes.items(), key=lambda item: (-item[1], item[0]))
            parts = [f"{many} {readable(suffix)}" for suffix, many in ranked if suffix]
            bare = self.suffixes.get("", 0)
            listed = _some([*parts, *([f"{bare} without a suffix"] if bare else [])])
            files = "other file was" if count == 1 else "other files were"
            said.append(
                f"{count} {files} left out ({listed}): {READ} are read; save the images as these."
            )
        if self.folders:
            many = len(self.folders)
            folders = "1 folder was" if many == 1 else f"{many} folders were"
            said.append(f"{folders} not searched ({_some(self.folders)}): {to_search}.")
        return said


@dataclass(frozen=True, slots=True)
class FoundImages:
    """The image files among files and folders.

    Attributes:
        files: each once, in the order of the inputs, within a folder in natural order.
        groups: of a file in a folder below the one that was searched, this folder: "patient 2/b".
        folders: all that were searched.
        left_out: what else is in them.
        problems: an input, a link's file or a folder that is not there or cannot be read.
    """

    files: tuple[Path, ...]
    groups: Mapping[Path, str]
    folders: tuple[Path, ...]
    left_out: LeftOut
    problems: tuple[ImageReadError, ...]


def search_images(
    inputs: Iterable[str | Path], *, recursive: bool = False, deepest: int | None = None
) -> FoundImages:
    """The image files among files and folders, each once.

    A file is taken as it is, whatever its suffix. A folder gives the images directly in it that are
    not hidden, in natural order (``2.png`` before ``10.png``).

    Args:
        inputs: files and folders.
        recursive: search the folders in a folder as well, links to folders included, save those
            with results of the program.
        deepest: folders below one another that are searched at most.
    """
    search = _Search(recursive, deepest)
    for entry in map(Path, inputs):
        if entry.is_dir():
            search.add_folder(entry)
        elif is_archive(entry):
            search.add_archive(entry, "")
        elif entry.exists():
            search.add_file(entry)
        else:
            search.problems.append(ImageReadError(entry, "no such file or folder; check the path"))
    return search.found()


def left_out(folder: str | Path) -> LeftOut:
    """What a folder holds beside its images; nothing where it cannot be read."""
    return search_images([folder]).left_out


def natural_order(name: str) -> list[tuple[int, str]]:
    """What to sort names by, so that ``2.png`` comes before ``10.png``."""
    parts = re.split(r"(\d+)", name.casefold())
    return [*((int(p), "") if p.isdecimal() else (-1, p) for p in parts), (-1, name)]


class _Search:
    """A search under way: what was found, and which folders were searched."""

    def __init__(self, recursive: bool, deepest: int | None = None) -> None:
        self._deepest = deepest
        self.problems: list[ImageReadError] = []
        self._recursive = recursive
        self._files: dict[tuple[object, ...], Path] = {}
        self._groups: dict[Path, str] = {}
        self._folders: list[Path] = []
        self._searched: set[str] = set()  # real paths
        self._passed: dict[str, str] = {}  # real path -> name, of those that were not searched
        self._others: Counter[str] = Counter()

    def found(self) -> FoundImages:
        unsearched = (name for real, name in self._passed.items() if real not in self._searched)
        return FoundImages(
            tuple(self._files.values()),
            self._groups,
            tuple(self._folders),
            LeftOut(dict(self._others), tuple(unsearched)),
            tuple(self.problems),
        )

    def add_file(self, path: Path) -> bool:
        """Take a file; False where it is there already by another way."""
        return self._files.setdefault(_identity(path), path) == path

    def add_archive(self, path: Path, group: str) -> None:
        """Take all images of an archive; what is wrong with one of them is a problem."""
        try:
            found = unpacked(path)
        except ImageReadError as error:
            self.problems.append(error)
            return
        for file in found.files:
            below = file.parent.relative_to(found.folder).as_posix()
            inside = "/".join(part for part in (group, below) if part not in ("", "."))
            if self.add_file(file) and inside:
                self._groups[file] = inside
        self._others.update(found.others)
        self.problems += [ImageReadError(path / n, why) for n, why in found.problems.items()]

    def add_folder(self, top: Path) -> None:
        """Search a folder and, where asked for, those below it, each once."""
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            real = os.path.realpath(folder)
            if real in self._searched:
                continue
            self._searched.add(real)
            try:
                entries = [path for path in folder.iterdir() if not hidden_or_appledouble(path)]
            except OSError as error:
                cause = f"cannot be read ({error.strerror or error}); check who may read it"
                self.problems.append(ImageReadError(folder, f"the folder {cause}"))
                continue
            self._folders.append(folder)
            entries.sort(key=lambda path: natural_order(path.name))
            inside = [path for path in entries if path.is_dir()]
            below = [path for path in inside if not _is_own(path)]
            depth = len(folder.relative_to(top).parts)
            if self._recursive and (self._deepest is None or depth < self._deepest):
                # A stack: reversed, the first folder is searched first.
                waiting += reversed(below)
            else:
                names = {os.path.realpath(each): readable(each.relative_to(top)) for each in below}
                self._passed |= names
            group = folder.relative_to(top).as_posix()
            for path in entries:
                if path not in inside:
                    self._look_at(path, "" if group == "." else group)

    def _look_at(self, path: Path, group: str) -> None:
        named = path.name.lower().endswith(_SUFFIXES)
        if not path.is_file():
            if named and path.is_symlink():
                target = readable(path.readlink())
                cause = f"a link to {target}, which is not there; mend or remove it"
                self.problems.append(ImageReadError(path, cause))
        elif path.name.lower().endswith(SUFFIX) and is_archive(path):
            self.add_archive(path, "/".join(filter(None, (group, path.stem))))
        elif named or (path.name.lower() != _NO_PICTURE and is_dicom(path)):
            if self.add_file(path) and group:
                self._groups[path] = group
        elif path.name not in OWN_FILES:
            self._others[path.suffix.lower()] += 1


def _is_own(folder: Path) -> bool:
    results = all((folder / name).exists() for name in OWN_FILES)
    return results or (folder / PROJECT_FILE).exists()


def _identity(path: Path) -> tuple[object, ...]:
    """What two ways to one file have in common; two links to one file have not."""
    try:
        # The folder's real path, the name without case and the inode: on a disk that ignores case
        # two spellings are one file, on others two files.
        number: object = path.stat().st_ino
    except OSError:
        number = None
    name = same_name_key(path.name, ignore_case=True)
    return os.path.realpath(path.parent), name, number


def _some(items: Iterable[str]) -> str:
    items = list(items)
    more = len(items) - NAMED
    return ", ".join([*items[:NAMED], *([f"and {more} more"] if more > 0 else [])])
