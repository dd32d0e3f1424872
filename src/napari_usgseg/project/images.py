"""The image files of a project: their ids stay the same, and a renamed file is found again.

Sizes come from headers and are kept, so that a folder that was opened before is opened without
reading a single file. An image's content is hashed when it is read for the first time.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..core.errors import DatasetError, ImageReadError, readable
from ..core.types import ImageRecord
from ..io.archives import is_archive, located, names_in
from ..io.atomic import sha256_of
from ..io.images import image_files
from ..io.names import numbered_name, safe_file_name, same_name_key
from ..io.reading.files import READ, frame_sizes, image_stem, is_dicom
from ..io.search import FoundImages, left_out, search_images
from .database import Database
from .records import FileStat

TO_SEARCH = "open each of them by itself"
"""How the folders below one are labelled."""
DEEPEST = 5
"""Folders below one that are looked into for patients, studies and series."""
LONGEST_ID = 220
"""Bytes of an id: a label file and its backups are named by it, and a name has 255."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image, or a frame of one, as the table ``image`` knows it.

    Attributes:
        image_id: for good.
        path: relative to the folder of images, with "/".
        frame: index within a file of several, or None.
        size_hw: (H, W).
        stat: of the file when its header was read.
        sha256: of its content, or None before it was read for the first time.
        checked: False where the file changed since it was hashed.
    """

    image_id: str
    path: str
    frame: int | None
    size_hw: tuple[int, int]
    stat: FileStat
    sha256: str | None = None
    checked: bool = False


@dataclass(frozen=True, slots=True)
class Scan:
    """Scan of a folder: usable images, sentences about the others, and what has gone."""

    files: tuple[ImageFile, ...]
    problems: tuple[str, ...]
    gone: tuple[ImageFile, ...]
    moved: tuple[tuple[ImageFile, str], ...]


def find_images(folder: Path) -> tuple[Path, list[Path]]:
    """The folder of images, and the files in it: ``folder`` itself, or its folder ``images``.

    What is in a ZIP archive there is in it, too. Where there is no image but DICOM in the folders
    below, as of patients and studies, these are it.

    Raises:
        DatasetError: the folder does not exist, or there is no image in it.
    """
    if is_archive(folder):
        raise DatasetError(folder, "a ZIP archive; open its folder, where its images are listed")
    if not folder.is_dir():
        raise DatasetError(folder, "no such folder; choose the folder that holds the images")
    for candidate in (folder, folder / "images"):
        if candidate.is_dir():
            files = image_files([candidate])
            if files:
                return candidate, files
    if files := [path for path in _studies(folder).files if is_dicom(path)]:
        return folder, files
    expected = f"no image here; expected {READ} in it or in its images folder"
    said = " ".join(left_out(folder).sentences(TO_SEARCH)).removesuffix(".")
    raise DatasetError(folder, f"{expected}. {said}" if said else expected)


def _studies(folder: Path) -> FoundImages:
    return search_images([folder], recursive=True, deepest=DEEPEST)


def beside_images(folder: Path) -> tuple[str, ...]:
    """Sentences about what else a folder of images holds, and what of it cannot be used."""
    found = search_images([folder])
    others: tuple[str, ...] = ()
    if not found.files:
        found = _studies(folder)
        count = sum(not is_dicom(path) for path in found.files)
        if count == 1:
            others = (
                "1 image in the folders below is no DICOM and was left out: open its folder by "
                "itself.",
            )
        elif count:
            others = (
                f"{count} images in the folders below are no DICOM and were left out: open each "
                "of their folders by itself.",
            )
    return (*map(str, found.problems), *others, *found.left_out.sentences(TO_SEARCH))


def unique_ids(files: Iterable[Path], taken: Iterable[str] = ()) -> list[str]:
    """An id for each file: its stem, its whole name where stems collide, numbered where both do.

    No two ids differ by case or the form of umlauts only, for an id is a label file's name too.

    Args:
        files: the new files.
        taken: ids of files that have theirs already.
    """
    files = list(files)
    stems = [image_stem(path) for path in files]
    counts = Counter(map(_key, stems))
    used = {_key(image_id) for image_id in taken}
    ids: list[str] = []
    for path, stem in zip(files, stems, strict=True):
        alone = counts[_key(stem)] == 1 and _key(stem) not in used
        ids.append(_take(stem if alone or stem not in path.name else path.name, used))
    return ids


def _take(wanted: str, used: set[str]) -> str:
    """An id, numbered where it is used already; used from now on."""
    if len(wanted.encode()) > LONGEST_ID:
        wanted = safe_file_name(wanted)
    return numbered_name(wanted, used)


def _key(image_id: str) -> str:
    return same_name_key(image_id, ignore_case=True)


def content_hash(path: Path) -> str:
    """The SHA-256 of a file.

    Raises:
        ImageReadError: it cannot be read.
    """
    try:
        return sha256_of(path)
    except OSError as error:
        raise ImageReadError(
            path, f"cannot be read ({error.strerror or error}); check the disk"
        ) from error


def known_images(database: Database) -> dict[str, ImageFile]:
    """The table ``image``, by id."""
    rows = database.rows(
        "SELECT image_id, path, frame, height, width, size, mtime_ns, sha256, checked FROM image"
    )
    return {
        row[0]: ImageFile(
            row[0], row[1], row[2], (row[3], row[4]), (row[5], row[6]), row[7], bool(row[8])
        )
        for row in rows
    }


def keep_images(database: Database, files: Iterable[ImageFile]) -> None:
    """Write rows of the table ``image``, within a transaction."""
    for item in files:
        database.execute(
            "INSERT OR REPLACE INTO image VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                item.image_id,
                item.path,
                item.frame,
                *item.size_hw,
                *item.stat,
                item.sha256,
                int(item.checked),
            ),
        )


def scan(folder: Path, files: Iterable[Path], known: Mapping[str, ImageFile]) -> Scan:
    """Bring what is known of a folder together with the files that are in it now.

    A file whose name is no UTF-8 cannot be kept, for the project and its exports hold text.

    Args:
        folder: of the images.
        files: in it, in the order in which they are labelled.
        known: what is known of it, by id.
    """
    of_path: dict[str, list[ImageFile]] = defaultdict(list)
    for item in known.values():
        of_path[item.path].append(item)
    everything = {name: path for path, name in names_in(folder, files).items()}
    here = {name: path for name, path in everything.items() if is_text(name)}
    stats = {name: file_stat(path) for name, path in here.items()}
    new = [name for name in here if name not in of_path]
    gone = [name for name in of_path if name not in here]
    moved: list[tuple[ImageFile, str]] = []
    # Ahead of new ids, so that a renamed file keeps its id, and with it its labels.
    for old, name in _renamed(folder, gone, new, of_path, stats):
        moved += [(item, name) for item in of_path[old]]
        of_path[name] = [replace(item, path=name) for item in of_path.pop(old)]
    fresh = [name for name in new if name not in of_path]
    ids = dict(zip(fresh, unique_ids([here[n] for n in fresh], known), strict=True))
    used = {image_id.casefold() for image_id in known}
    found: list[ImageFile] = []
    problems = [
        f"{readable(path)}: its name is no UTF-8, as out of an old archive; rename the file to "
        "label it"
        for name, path in everything.items()
        if name not in here
    ]
    for name, path in here.items():
        rows = sorted(of_path.get(name, ()), key=lambda item: item.frame or 0)
        # Same size and time: the header is not read again. This is what opens a known folder of
        # thousands of images in a moment.
        if rows and rows[0].stat == stats[name]:
            found += rows
            continue
        try:
            found += list(_read_header(ids.get(name, ""), path, name, stats[name], rows, used))
        except ImageReadError as error:
            problems.append(str(error))
    missing = [item for name, rows in of_path.items() if name not in here for item in rows]
    return Scan(tuple(found), tuple(problems), tuple(missing), tuple(moved))


def is_text(name: str) -> bool:
    """Whether a name can be written as UTF-8; Python keeps bytes of others as they are."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def file_stat(path: Path) -> FileStat:
    """Of a file as it is now; (0, 0) where there is none."""
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return status.st_size, status.st_mtime_ns


def _read_header(
    image_id: str,
    path: Path,
    name: str,
    stat: FileStat,
    rows: list[ImageFile],
    used: set[str],
) -> Iterator[ImageFile]:
    """One entry, or one for each frame of a file that has several; ids that are known stay."""
    sizes = frame_sizes(path)
    single = len(sizes) == 1 and not any(item.frame is not None for item in rows)
    by_frame = {item.frame: item for item in rows}
    base = image_id or (rows[0].image_id.rsplit("_", 1)[0] if rows else path.stem)
    for index, size_hw in enumerate(sizes):
        frame = None if single else index
        row = by_frame.get(frame)
        if row is not None:
            yield replace(row, size_hw=size_hw, stat=stat, checked=False)
            continue
        image_id = _take(base if frame is None else f"{base}_{frame:04d}", used)
        yield ImageFile(image_id, name, frame, size_hw, stat)


def _renamed(
    folder: Path,
    gone: Iterable[str],
    new: Iterable[str],
    of_path: Mapping[str, list[ImageFile]],
    stats: Mapping[str, FileStat],
) -> Iterator[tuple[str, str]]:
    """Pairs (old path, new path) of files with the same content."""
    candidates: dict[int, list[str]] = defaultdict(list)
    for name in new:
        # By size, so that only files that can be the same are hashed.
        candidates[stats[name][0]].append(name)
    hashes: dict[str, str] = {}
    for old in gone:
        row = of_path[old][0]
        alike = candidates.get(row.stat[0], [])
        if row.sha256 is None:  # never read: only its size and time can tell
            same = [name for name in alike if stats[name] == row.stat]
            same = same if len(same) == 1 else []
        else:
            same = []
            for name in alike:
                if name not in hashes:
                    hashes[name] = content_hash(located(folder, name))
                if hashes[name] == row.sha256:
                    same.append(name)
                    break
        if same:
            # One file is taken for one that is gone, for copies of it have the same hash.
            alike.remove(same[0])
            yield old, same[0]


def as_record(folder: Path, item: ImageFile) -> ImageRecord:
    """The record of an image."""
    return ImageRecord(item.image_id, located(folder, item.path), item.frame, item.size_hw)
