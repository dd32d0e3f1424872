"""Which images are among files and folders, and what was left out there, in words.

A folder gives the files directly in it that have a suffix of an image. What else is in it is
counted, so that nobody takes "3 images" for all there is. Hidden files and the program's own (a
project, the results of a command) are none of the person's images, and not counted.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..core.errors import ImageReadError, readable
from .names import hidden_or_appledouble, same_name_key
from .outputs import PROJECT_FILE

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
"""Suffixes of images and of masks; the protocol's first."""
OWN_FILES = ("run.json", "classes.json")
"""A folder with both holds label maps that ``usgseg segment`` wrote."""
LOOKED_INTO = 200
"""So many files at most are opened to see whether they are DICOM."""
NAMED = 6
"""So many suffixes or folders are named at most."""
READ = "PNG, JPEG, BMP and TIFF"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What the searched folders hold beside their images.

    Attributes:
        suffixes: suffix in small letters ("" for none) -> how many files.
        dicom: how many of them are DICOM, as far as was looked.
        folders: folders that were not searched, by name.
    """

    suffixes: Mapping[str, int] = field(default_factory=dict)
    dicom: int = 0
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
        if self.dicom:
            them = "1 of them is" if self.dicom == 1 else f"{self.dicom} of them are"
            said.append(f"{them} DICOM: export as PNG or TIFF first.")
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


def search_images(inputs: Iterable[str | Path], *, recursive: bool = False) -> FoundImages:
    """The image files among files and folders, each once.

    A file is taken as it is, whatever its suffix. A folder gives the files directly in it that have
    a suffix of an image and are not hidden, in natural order (``2.png`` before ``10.png``).

    Args:
        inputs: files and folders.
        recursive: search the folders in a folder as well, links to folders included, save those
            with results of the program.
    """
    files: dict[tuple[object, ...], Path] = {}
    groups: dict[Path, str] = {}
    folders: list[Path] = []
    problems: list[ImageReadError] = []
    others: Counter[str] = Counter()
    looked, dicom = 0, 0
    passed: dict[str, str] = {}
    seen: set[str] = set()
    for entry in map(Path, inputs):
        if not entry.is_dir():
            if entry.exists():
                files.setdefault(_identity(entry), entry)
            else:
                problems.append(ImageReadError(entry, "no such file or folder; check the path"))
            continue
        for folder, inside in _folders(entry, recursive, seen, passed, problems):
            folders.append(folder)
            group = folder.relative_to(entry).as_posix()
            for path in inside:
                if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
                    if files.setdefault(_identity(path), path) == path and group != ".":
                        groups[path] = group
                elif path.suffix.lower() in IMAGE_SUFFIXES and path.is_symlink():
                    cause = f"a link to {readable(path.readlink())}, which is not there"
                    problems.append(ImageReadError(path, f"{cause}; mend or remove it"))
                elif path.name not in OWN_FILES and path.is_file():
                    others[path.suffix.lower()] += 1
                    looked += 1
                    dicom += looked <= LOOKED_INTO and is_dicom(path)
    unsearched = tuple(name for real, name in passed.items() if real not in seen)
    return FoundImages(
        tuple(files.values()),
        groups,
        tuple(folders),
        LeftOut(dict(others), dicom, unsearched),
        tuple(problems),
    )


def left_out(folder: str | Path, *, recursive: bool = False) -> LeftOut:
    """What a folder holds beside its images; nothing where it cannot be read."""
    return search_images([folder], recursive=recursive).left_out


def is_dicom(path: Path) -> bool:
    """Whether a file says of itself that it is DICOM, whatever its name."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def natural_order(name: str) -> list[tuple[int, str]]:
    """What to sort names by, so that ``2.png`` comes before ``10.png``."""
    parts = re.split(r"(\d+)", name.casefold())
    return [*((int(p), "") if p.isdecimal() else (-1, p) for p in parts), (-1, name)]


def _folders(
    top: Path,
    recursive: bool,
    seen: set[str],
    passed: dict[str, str],
    problems: list[ImageReadError],
) -> Iterator[tuple[Path, list[Path]]]:
    """A folder and, where asked for, those below it, each once, with the files in each.

    Args:
        top: the folder.
        recursive: those below it too.
        seen: real paths of the folders that were searched; gets more.
        passed: gets real path -> name of those that were not.
        problems: gets those that cannot be read.
    """
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        try:
            entries = [path for path in folder.iterdir() if not hidden_or_appledouble(path)]
        except OSError as error:
            cause = f"the folder cannot be read ({error.strerror or error}); check who may read it"
            problems.append(ImageReadError(folder, cause))
            continue
        entries.sort(key=lambda path: natural_order(path.name))
        inside = [path for path in entries if path.is_dir()]
        below = [path for path in inside if not _is_own(path)]
        if recursive:
            waiting += reversed(below)
        else:
            passed |= {os.path.realpath(path): readable(path.relative_to(top)) for path in below}
        yield folder, [path for path in entries if path not in inside]


def _is_own(folder: Path) -> bool:
    results = all((folder / name).exists() for name in OWN_FILES)
    return results or (folder / PROJECT_FILE).exists()


def _identity(path: Path) -> tuple[object, ...]:
    """What two ways to one file have in common; two links to one file have not."""
    try:
        number: object = path.stat().st_ino
    except OSError:
        number = None
    name = same_name_key(path.name, ignore_case=True)
    return os.path.realpath(path.parent), name, number


def _some(items: Iterable[str]) -> str:
    items = list(items)
    more = len(items) - NAMED
    return ", ".join([*items[:NAMED], *([f"and {more} more"] if more > 0 else [])])
