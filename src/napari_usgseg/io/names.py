"""File names: which two are the same, which is safe, which is none of the person's.

File systems differ: macOS takes "ü" of one code point and of two for the same name, macOS and
Windows ignore case, Windows keeps some names and signs for itself. What a person or a card says
becomes a part of a path by ``safe_file_name`` only; a file is looked for by ``NameFinder``.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePath

from ..core.errors import DatasetError, readable

MAX_NAME_BYTES = 200
"""Longest safe name in UTF-8: file systems take 255 bytes, and a suffix is still to come."""

_SYSTEM_NAMES = (
    "__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "@eadir", "icon\r",
    "system volume information",
)  # fmt: skip
_WINDOWS_SIGNS = frozenset('<>:"/\\|?*')
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories of what is not seen, or cannot be stored: control, format, surrogates."""
_RESERVED = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(?:\.|$)", re.IGNORECASE
)
_MARKED = re.compile(r"~[0-9a-f]{10}$")


def same_name_key(name: str, ignore_case: bool = False) -> str:
    """What two names have in common that are one: NFC, and case folded where that is ignored."""
    if ignore_case:
        # NFD first: folding a composed letter can give one that is not composed any more, and two
        # spellings would differ. NFC at the end is the one form for all.
        name = unicodedata.normalize("NFD", name).casefold()
    return unicodedata.normalize("NFC", name)


def hidden_or_appledouble(path: str | PurePath) -> bool:
    """Whether the last part of a path is hidden or a system's own: "._x.png", "Thumbs.db", ...

    A leading dot hides; macOS's "._" companions (AppleDouble) have one.
    """
    name = PurePath(path).name
    return name.startswith(".") or name.casefold() in _SYSTEM_NAMES


def safe_file_name(text: str) -> str:
    """``text`` (a class's name, an id) as one part of a path on every file system; add a suffix.

    A plain name stays as it is. In any other, signs become "_", what is too long is cut, and "~"
    with ten hexadecimal digits of a hash of ``text`` follows, so that different texts have
    different names; they differ also where case and the form of umlauts do not count, unless the
    texts themselves differ by just these (``safe_file_names`` tells those apart too). "." and ".."
    are no plain names, so a path never leaves its folder. Call it once: what it gave is no plain
    name again. ``io.datasets`` finds the files of an id by this name too.
    """
    return text if _is_plain(text) else _marked(text)


def safe_file_names(texts: Iterable[str]) -> dict[str, str]:
    """``safe_file_name`` of each text, no two of them one name where case does not count."""
    names = {text: safe_file_name(text) for text in texts}
    counts = Counter(same_name_key(name, ignore_case=True) for name in names.values())
    return {
        text: name if counts[same_name_key(name, ignore_case=True)] == 1 else _marked(text)
        for text, name in names.items()
    }


def numbered_name(name: str, used: set[str]) -> str:
    """The name, or it with the first number from 2 that makes it another than those in use.

    Args:
        name: wanted.
        used: keys (``same_name_key`` without case) of the names in use; gets that of the answer.
    """
    free, number = name, 2
    while same_name_key(free, ignore_case=True) in used:
        free, number = f"{name}-{number}", number + 1
    used.add(same_name_key(free, ignore_case=True))
    return free


def _is_plain(text: str) -> bool:
    return (
        text != ""
        and _printable(text) == text
        and _trimmed(text) == text
        and not _RESERVED.match(text)
        and not _MARKED.search(same_name_key(text, ignore_case=True))
        and len(text.encode()) <= MAX_NAME_BYTES
    )


def _marked(text: str) -> str:
    """A readable part of ``text``, and what tells it from every other text."""
    data = text.encode("utf-8", "surrogatepass")
    mark = f"~{hashlib.blake2b(data, digest_size=5).hexdigest()}"
    name = _trimmed(_printable(text))
    if _RESERVED.match(name):
        name = f"_{name}"
    # The cut may fall into the middle of a letter of several bytes, which "ignore" drops.
    return name.encode()[: MAX_NAME_BYTES - len(mark)].decode(errors="ignore") + mark


def _printable(text: str) -> str:
    return "".join(
        "_" if sign in _WINDOWS_SIGNS or unicodedata.category(sign) in _UNSEEN else sign
        for sign in text
    )


def _trimmed(text: str) -> str:
    """Without leading dots, which hide a file, and ends that Windows cuts off."""
    return text.strip().strip(". ")


@dataclass(slots=True)
class NameFinder:
    """Files of a folder by their name, as a person means it; each folder is listed once.

    Exactly the same name first; then the same after NFC, with a known suffix in any case; where the
    file system ignores case, without it. Hidden files are not there. A name may lead into folders
    ("case1/a.png"), never out of ``root``.

    Attributes:
        root: the folder; it may be missing.
        suffixes: known ones, in small letters.
    """

    root: Path
    suffixes: tuple[str, ...]
    _folders: dict[Path, _Listing] = field(default_factory=dict)

    def find(self, name: str) -> Path | None:
        """The file, or None where there is none.

        Raises:
            DatasetError: two files are meant alike, none of them by exactly this name.
        """
        *folders, last = name.split("/")
        place = self.folder(folders)
        if place is None:
            return None
        found = [here for here in self._listing(place).named(last) if (place / here).is_file()]
        if len(found) > 1:
            raise DatasetError(
                place / found[0],
                f"and {found[1]!r} have names that differ by case or the form of umlauts only, and "
                f"either could be {name!r}; rename one",
            )
        return place / found[0] if found else None

    def folder(self, parts: Iterable[str]) -> Path | None:
        """The folder that these names lead to, or None where it is not there or not certain."""
        place = self.root
        for part in parts:
            found = [here for here in self._listing(place).named(part) if (place / here).is_dir()]
            if len(found) != 1:
                return None
            place /= found[0]
        return place

    def _listing(self, folder: Path) -> _Listing:
        if folder not in self._folders:
            self._folders[folder] = _Listing(folder, self.suffixes)
        return self._folders[folder]


class _Listing:
    """What is in one folder, by name and by key."""

    def __init__(self, folder: Path, suffixes: tuple[str, ...]) -> None:
        self._folder, self._suffixes = folder, suffixes
        try:
            names = os.listdir(folder)
        except OSError:
            names = []
        self._names = {name for name in names if not hidden_or_appledouble(name)}

    def named(self, name: str) -> list[str]:
        """The exact name alone, or all that are meant alike."""
        if name in self._names:
            return [name]
        return self._by_key.get(self._key(name), [])

    @cached_property
    def _by_key(self) -> dict[str, list[str]]:
        by_key: dict[str, list[str]] = {}
        for name in sorted(self._names):
            by_key.setdefault(self._key(name), []).append(name)
        return by_key

    @cached_property
    def _ignores_case(self) -> bool:
        return ignores_case(self._folder, self._names)

    def _key(self, name: str) -> str:
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in self._suffixes:
            name = stem + suffix.lower()
        return same_name_key(name, self._ignores_case)


def pair_by_name(
    folder: Path, ids: Iterable[str], suffixes: tuple[str, ...]
) -> dict[str, Path | DatasetError]:
    """The file of each id in ``folder``; an id that has none is not in the answer.

    Of an id that is a file name, such as "a.jpg", this file comes first, then "a.jpg.png", then
    "a.png"; of any other the id with a known suffix. Where two ids would have one file, the id with
    a suffix behind it comes first instead. What then is still not certain is no file but the error
    that says why: two ids have one file, or several files could be that of the id.

    Args:
        folder: may be missing.
        ids: each once.
        suffixes: known ones, in small letters; the first wins over all others.
    """
    finder, ids = NameFinder(folder, suffixes), list(ids)
    found: dict[str, Path | DatasetError] = {}
    shared: dict[Path, list[str]] = {}
    for file_name_first in (True, False):
        found = _pair(finder, ids, file_name_first)
        owners: dict[Path, list[str]] = {}
        for item_id, path in found.items():
            if isinstance(path, Path):
                owners.setdefault(path, []).append(item_id)
        shared = {path: names for path, names in owners.items() if len(names) > 1}
        if not shared:
            break
    for path, names in shared.items():
        both = " and ".join(repr(name) for name in names[:3])
        cause = f"could be the file of {both} alike; give each the whole name of its own as the id"
        found |= {name: DatasetError(path, cause) for name in names}
    return found


def _pair(
    finder: NameFinder, ids: list[str], file_name_first: bool
) -> dict[str, Path | DatasetError]:
    found: dict[str, Path | DatasetError] = {}
    for item_id in ids:
        stem, suffix = os.path.splitext(item_id)
        is_file_name = suffix.lower() in finder.suffixes
        exact = [[item_id]] if is_file_name else []
        bare = [item_id, *([stem] if is_file_name else []), _marked(item_id)]
        added = [[name + suffix for suffix in finder.suffixes] for name in bare]
        try:
            path = _first(finder, [*exact, *added] if file_name_first else [*added, *exact])
        except DatasetError as error:
            found[item_id] = error
        else:
            if path is not None:
                found[item_id] = path
    return found


def _first(finder: NameFinder, choices: list[list[str]]) -> Path | None:
    """The first file, by the first choice that has any."""
    for names in choices:
        path = finder.find(names[0])
        if path is not None:
            return path
        paths = [path for name in names[1:] if (path := finder.find(name)) is not None]
        if len(paths) > 1:
            raise DatasetError(
                paths[0],
                f"and {readable(paths[1].name)} stand for the same image; keep one of them, or "
                "give the file's whole name as the id",
            )
        if paths:
            return paths[0]
    return None


def ignores_case(folder: Path, names: Iterable[str]) -> bool:
    """Whether a folder's file system ignores case, asked with the ``names`` that are in it."""
    names = set(names)
    for name in sorted(names):
        other = name.swapcase()
        # A name that changes by swapping case and comes back; "ß" would become "SS". And one whose
        # other form is no file of its own here.
        if other != name == other.swapcase() and other not in names:
            return os.path.lexists(folder / other)
    return False
