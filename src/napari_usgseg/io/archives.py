"""Archives: the images of a ZIP file, unpacked once into the person's cache.

    <cache>/archives/<key>/<name of the archive>/<folders in it>/<file>

Readers need files, so an archive's images become some; nothing is written beside the archive. The
key is of its name and of what it lists (names, sizes, checksums), so that one that was moved is not
unpacked again. What was not used for ``KEPT_DAYS`` is removed when another one is unpacked.

An archive is not trusted. How many files it has, and how much comes out of it, is limited; no name
in it reaches a path before it is made safe; links and archives in it stay packed. A file that is
damaged or encrypted costs itself alone.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import re
import shutil
import stat
import struct
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from filelock import FileLock

from ..core.errors import ImageReadError, readable
from .names import numbered_name, safe_file_name, same_name_key
from .outputs import cache_folder
from .reading.files import (
    DICOM_SUFFIXES,
    STILL_SUFFIXES,
    VIDEO_SUFFIXES,
    VOLUME_SUFFIXES,
    is_dicom_head,
)

SUFFIX = ".zip"
MAX_FILES = 200_000
MAX_LIST = 100_000_000
"""Bytes of an archive's list of files."""
MAX_BYTES = 64 * 2**30
"""Bytes that come out of one archive at most."""
MAX_RATIO, SMALL = 300, 2**24
"""A file larger than ``SMALL`` is packed to more than a part of this; bombs are not."""
DEEPEST = 12
KEPT_DAYS = 30
_IMAGES = (*STILL_SUFFIXES, *DICOM_SUFFIXES, *VIDEO_SUFFIXES, *VOLUME_SUFFIXES)
_BESIDE = (".raw", ".zraw", ".raw.gz", ".img", ".bin")
"""Pixels of a volume whose header is a file of its own."""
_CARD = "archive.json"
_CHUNK = 2**20
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError)
"""What zipfile raises for one file; an ``OSError`` is the disk's (bz2 raises it, too)."""
_HEAD = 512


@dataclass(frozen=True, slots=True)
class Unpacked:
    """An archive that was unpacked.

    Attributes:
        folder: where its files are, named as the archive is.
        files: its images, in the order of the archive.
        others: suffix in small letters -> how many files are no images.
        problems: name in the archive -> why it could not be unpacked.
    """

    folder: Path
    files: tuple[Path, ...]
    others: Mapping[str, int] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)


def is_archive(path: Path) -> bool:
    """Whether a file is a ZIP archive by its name and its first bytes."""
    if not path.name.lower().endswith(SUFFIX):
        return False
    try:
        with path.open("rb") as file:
            return file.read(4) in (b"PK\3\4", b"PK\5\6")
    except OSError:
        return False


def unpacked(path: Path) -> Unpacked:
    """The images of an archive, unpacked now or earlier.

    Raises:
        ImageReadError: it is no ZIP archive, damaged, too large, or there is no place for it.
    """
    path = Path(os.path.abspath(path))
    try:
        status = path.stat()
    except OSError as error:
        raise ImageReadError(path, f"cannot be read ({error.strerror or error})") from error
    return _unpacked(path, status.st_size, status.st_mtime_ns, str(cache_folder()))


@lru_cache(maxsize=64)
def _unpacked(path: Path, size: int, mtime_ns: int, cache: str) -> Unpacked:
    try:
        with path.open("rb") as file:
            _check_list(path, file)
            with zipfile.ZipFile(file) as archive:
                return _of(path, mtime_ns, archive, Path(cache) / "archives")
    except zipfile.BadZipFile as error:
        raise ImageReadError(
            path, "a damaged ZIP archive, its list of files cannot be read; copy it again"
        ) from error
    except (OSError, NotImplementedError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise ImageReadError(
            path, f"cannot be unpacked ({readable(said)}); unpack it and give the folder"
        ) from error


def _check_list(path: Path, file: BinaryIO) -> None:
    """Refuse an archive whose list would not fit into memory, before it is read.

    By APPNOTE.TXT of PKWARE, 4.3.14 and 4.3.16: the record at the end, with or without ZIP64.

    Raises:
        ImageReadError: it is one.
    """
    file.seek(0, os.SEEK_END)
    # The end record is within 64 KiB of the end, behind which only a comment may stand.
    file.seek(max(0, file.tell() - 70_000))
    tail = file.read()
    file.seek(0)
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) < at + 20:
        raise zipfile.BadZipFile
    count, length = struct.unpack_from("<HI", tail, at + 10)
    large = tail.rfind(b"PK\6\6", 0, at)
    if large >= 0 and len(tail) >= large + 48:
        count, length = struct.unpack_from("<QQ", tail, large + 32)
    if count > MAX_FILES or length > MAX_LIST:
        raise ImageReadError(
            path, f"has more than the {MAX_FILES:,} files that are unpacked; split it"
        )


def _of(path: Path, mtime_ns: int, archive: zipfile.ZipFile, cache: Path) -> Unpacked:
    # zipfile cuts a name at its first NUL, and fails to say whether nothing is a folder
    members = [item for item in archive.infolist() if item.filename and not item.is_dir()]
    listed = repr([path.stem, *((item.filename, item.file_size, item.CRC) for item in members)])
    key = hashlib.blake2b(listed.encode("utf-8", "replace"), digest_size=12).hexdigest()
    place = cache / key
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    with FileLock(cache / f".{key}.lock"):
        card = place / _CARD
        name = safe_file_name(path.stem)
        found = _known(place, name, mtime_ns)
        if found is None:
            _remove_old(cache, place)
            if len(members) > MAX_FILES:
                raise ImageReadError(
                    path, f"has more than the {MAX_FILES:,} files that are unpacked; split it"
                )
            found = _unpack(path, archive, members, place / name)
            content = {
                "files": [file.relative_to(found.folder).as_posix() for file in found.files],
                "others": dict(found.others),
                "problems": dict(found.problems),
                "mtime_ns": mtime_ns,
            }
            card.write_text(json.dumps(content), encoding="utf-8")
        os.utime(card)
    return found


def _known(place: Path, name: str, mtime_ns: int) -> Unpacked | None:
    """What was unpacked earlier; None where nothing was, or a file is gone.

    An archive that was damaged lists the same as one that was copied again, so where there were
    problems it must be the same copy.
    """
    try:
        content = json.loads((place / _CARD).read_text(encoding="utf-8"))
        files = tuple(place / name / file for file in content["files"])
        stale = bool(content["problems"]) and content["mtime_ns"] != mtime_ns
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if stale or not all(file.is_file() for file in files):
        return None
    return Unpacked(place / name, files, content["others"], content["problems"])


def _unpack(
    path: Path, archive: zipfile.ZipFile, members: Iterable[zipfile.ZipInfo], folder: Path
) -> Unpacked:
    shutil.rmtree(folder.parent, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    left = min(MAX_BYTES, shutil.disk_usage(folder).free // 2)
    files: list[Path] = []
    problems: dict[str, str] = {}
    others: Counter[str] = Counter()
    used: dict[Path, set[str]] = {}
    for item in members:
        parts = _parts(item.filename)
        if not parts or any(part.startswith(".") or part == "__MACOSX" for part in parts):
            continue
        shown = readable("/".join(parts))
        if item.flag_bits & 1:
            problems[shown] = "is encrypted; unpack the archive with its password, give the folder"
            continue
        try:
            beside = parts[-1].lower().endswith(_BESIDE)
            if stat.S_ISLNK(item.external_attr >> 16) or not (beside or _is_image(archive, item)):
                others[PurePosixPath(parts[-1]).suffix.lower()] += 1
                continue
            if item.file_size > SMALL and item.file_size > MAX_RATIO * item.compress_size:
                problems[shown] = "is packed as nothing but a bomb is; unpack it by hand"
                continue
            if item.file_size > left:
                raise ImageReadError(
                    path,
                    f"more than {(MAX_BYTES, left)[left < MAX_BYTES]:,} bytes would come out of "
                    "it, or there is no room on the disk; unpack a part of it, give the folder",
                )
            target = _target(folder, parts, used)
            _write(archive, item, target)
            left -= item.file_size
            if not beside:
                files.append(target)
        except (*_DAMAGED, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk is full, not the file damaged
            problems[shown] = "is damaged in the archive; pack or copy it again"
    return Unpacked(folder, tuple(files), others, problems)


def _parts(name: str) -> list[str]:
    """The folders and the name of a file in an archive, without what leads out of it."""
    parts = name.replace("\\", "/").split("/")
    return [part for part in parts if part not in ("", ".", "..")]


def _is_image(archive: zipfile.ZipFile, item: zipfile.ZipInfo) -> bool:
    name = item.filename.lower()
    if name.endswith(_IMAGES):
        return True
    if PurePosixPath(name).name == "dicomdir":
        return False
    with archive.open(item) as file:
        return is_dicom_head(file.read(_HEAD))


def _target(folder: Path, parts: list[str], used: dict[Path, set[str]]) -> Path:
    """A place for a file below ``folder`` that no other one has."""
    for part in parts[:-1][:DEEPEST]:
        folder /= safe_file_name(part)
    name = parts[-1]
    end = next((each for each in (*_IMAGES, *_BESIDE) if name.lower().endswith(each)), "")
    stem = safe_file_name(name[: len(name) - len(end)] or "image")
    taken = used.setdefault(folder, set())
    free = f"{stem}{end}"
    if same_name_key(free, ignore_case=True) in taken:
        marks = {same_name_key(each.removesuffix(end), ignore_case=True) for each in taken}
        free = f"{numbered_name(stem, marks)}{end}"
    taken.add(same_name_key(free, ignore_case=True))
    return folder / free


def _write(archive: zipfile.ZipFile, item: zipfile.ZipInfo, target: Path) -> None:
    """Unpack one file, whole or not at all; zipfile checks its length and its checksum."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with archive.open(item) as source, target.open("xb") as file:
            shutil.copyfileobj(source, file, _CHUNK)
    except BaseException:
        with suppress(OSError):
            target.unlink()
        raise


def _remove_old(cache: Path, keep: Path) -> None:
    oldest = time.time() - KEPT_DAYS * 86_400
    for card in cache.glob(f"*/{_CARD}"):
        with suppress(OSError):
            if card.parent != keep and card.stat().st_mtime < oldest:
                shutil.rmtree(card.parent, ignore_errors=True)


def names_in(folder: Path, paths: Iterable[Path]) -> dict[Path, str]:
    """The path of each file below ``folder``, with "/"; through the archive it came out of."""
    names = {}
    archives: list[tuple[Path, str]] | None = None
    for path in paths:
        if path.is_relative_to(folder):
            names[path] = path.relative_to(folder).as_posix()
            continue
        if archives is None:
            archives = [
                (unpacked(each).folder, each.relative_to(folder).as_posix())
                for each in sorted(folder.rglob("*"))
                if is_archive(each)
            ]
        inside = ((top, name) for top, name in archives if path.is_relative_to(top))
        top, name = next(inside, (path.parent, ""))
        names[path] = f"{name}/{path.relative_to(top).as_posix()}".lstrip("/")
    return names


def by_archive(text: str) -> str:
    """A text for a person, in which what was unpacked is named through its archive.

    "/home/a/.cache/napari-usgseg/archives/KEY/study/DICOM/IM1: ..." is "study.zip/DICOM/IM1: ...".
    """
    place = re.escape(f"{cache_folder() / 'archives'}{os.sep}")
    return re.sub(rf"{place}[0-9a-f]{{24}}[\\/]([^\\/\n]+)", rf"\1{SUFFIX}", text)


def located(folder: Path, name: str) -> Path:
    """The file of a ``name_in`` a folder; unpacked again where its archive's cache is gone."""
    parts = PurePosixPath(name).parts
    for count, part in enumerate(parts[:-1], start=1):
        archive = folder.joinpath(*parts[:count])
        if part.lower().endswith(SUFFIX) and is_archive(archive):
            with suppress(ImageReadError):
                return unpacked(archive).folder.joinpath(*parts[count:])
    return folder / name
