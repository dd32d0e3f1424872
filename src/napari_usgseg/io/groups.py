r"""Groups of images: of one patient, case or loop, so that a split tears none apart.

Without a rule, DICOM files have their patient as their group (under a pseudonym), images in folders
below the folder of images have the first of these (a folder for each patient), the frames of one
file are a group, and every other image is one of its own. A rule says it otherwise:

    folder       the folder that the image lies in
    prefix:_     what stands in the file's name before the first "_", or before any other sign
    (P\d+)_       a regular expression that is searched in the image's path: its first group
    groups.csv   a table: a column of ids or file names, and one of groups
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from ..core.errors import DatasetError, PromptError, readable
from ..core.types import ImageRecord
from .names import safe_file_name, same_name_key
from .reading.files import patient_of
from .tables import read_table

TABLES = (".csv", ".xlsx")
NAMED = 10
"""So many images or rows are named at most; the rest is counted."""
IMAGE_COLUMNS = (
    "image id", "id", "item id", "image", "image name", "file name", "image file name", "file",
    "image file", "path", "file path", "image path", "name", "frame", "scan",
)  # fmt: skip
GROUP_COLUMNS = (
    "group", "group id", "patient", "patient id", "subject", "subject id", "case", "case id",
    "loop", "loop id", "video", "video id", "study", "study id",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Groups:
    """The groups of images.

    Attributes:
        of: image id -> group, of every image.
        unmatched: the ids of which the rule says nothing; they have the group that they would have
            without a rule.
        unknown: rows of the table that name no image.
        rule: as it was given; None where there was none.
    """

    of: Mapping[str, str]
    unmatched: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    rule: str | None = None

    def missing(self, image_ids: Iterable[str]) -> list[str]:
        """A sentence about those of ``image_ids`` that the rule says nothing of; [] for none."""
        wanted = set(image_ids)
        names = [image_id for image_id in self.unmatched if image_id in wanted]
        if not names:
            return []
        return [
            f"groups {readable(self.rule)}: it says nothing of {_counted(names, 'image')}; they "
            "are grouped as without it"
        ]

    def strangers(self) -> list[str]:
        """A sentence about the table's rows that name no image; [] for none."""
        if not self.unknown:
            return []
        rows = _counted(self.unknown, "row")
        return [f"groups {readable(self.rule)}: it has {rows} without an image here"]


def _counted(names: Sequence[str], what: str) -> str:
    shown = ", ".join(readable(name) for name in names[:NAMED])
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{len(names)} {what}{'s' if len(names) > 1 else ''} ({shown}{more})"


def default_groups(records: Sequence[ImageRecord], folder: Path | None = None) -> dict[str, str]:
    """Image id -> group without a rule; ``folder`` is the one that the images are under."""
    patients = {path: patient_of(path) for path in {record.path for record in records}}
    return {
        record.image_id: patients[record.path] or _default_group(record, folder)
        for record in records
    }


def _default_group(record: ImageRecord, folder: Path | None) -> str:
    above, _, _ = _name(record, folder).partition("/")
    if above != record.path.name:
        return above
    return record.image_id if record.frame is None else record.path.stem


def group_images(
    records: Sequence[ImageRecord], folder: Path | None = None, rule: str | None = None
) -> Groups:
    """The group of each image.

    Args:
        records: all images of the folder.
        folder: that they are under; None takes their file names alone.
        rule: one of those in this module's docstring; None takes the groups without one.

    Raises:
        PromptError: it is no rule.
        DatasetError: the table cannot be read, lacks a column, has a row without a group, or gives
            an image two groups; it names the table, the row and what was expected.
    """
    groups = default_groups(records, folder)
    if rule is None:
        return Groups(groups)
    unknown: tuple[str, ...] = ()
    if is_table(rule):
        found, unknown = _of_table(Path(rule), records, folder)
    else:
        by_name = _by_name(rule)
        pairs = ((record.image_id, by_name(_name(record, folder))) for record in records)
        found = {image_id: group for image_id, group in pairs if group}
    unmatched = tuple(image_id for image_id in groups if image_id not in found)
    return Groups(groups | found, unmatched, unknown, rule)


def is_table(rule: str) -> bool:
    """Whether a rule is a file with a table."""
    return Path(rule).suffix.lower() in TABLES or (rule != "folder" and Path(rule).is_file())


def _name(record: ImageRecord, folder: Path | None) -> str:
    """The path of an image's file below ``folder``, with "/"."""
    if folder is not None and record.path.is_relative_to(folder):
        return record.path.relative_to(folder).as_posix()
    return record.path.name


def _by_name(rule: str) -> Callable[[str], str | None]:
    """From the path of an image to its group; None or "" where the rule does not fit it."""
    if rule == "folder":
        return lambda name: name.rpartition("/")[0]
    kind, colon, sign = rule.partition(":")
    if kind == "prefix" and colon and sign:
        return lambda name: _prefix(name.rpartition("/")[2], sign)
    expected = (
        f"groups {rule!r}: expected folder, prefix:_ (or another sign), a regular expression "
        r"with a group in brackets such as '(P\d+)_', or a CSV file that is there"
    )
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise PromptError(f"{expected} ({error})") from error
    if not pattern.groups:
        raise PromptError(expected)

    def search(name: str) -> str | None:
        match = pattern.search(name)
        return next(filter(None, match.groups()), None) if match else None

    return search


def _prefix(name: str, sign: str) -> str | None:
    before, found, _ = name.partition(sign)
    return before if found else None


def _of_table(
    path: Path, records: Sequence[ImageRecord], folder: Path | None
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Image id -> group, and the rows that name no image."""
    rows = read_table(path)
    if not rows:
        raise DatasetError(path, "has no row below the names of its columns; expected one an image")
    image_columns, group_column = _columns(path, list(rows[0]))
    finder = ImageFinder(records, folder)
    found: dict[str, tuple[str, int]] = {}
    unknown: list[str] = []
    for number, row in enumerate(rows, start=2):
        names = [row[column] for column in image_columns if row[column]]
        if not names:
            raise DatasetError(path, f"row {number} names no image; expected an id or a file name")
        try:
            images = next(filter(None, map(finder.find, names)), [])
        except ValueError as error:
            raise DatasetError(path, f"row {number}: {error}") from error
        if not images:
            unknown.append(f"row {number}: {names[0]}")
            continue
        group = row[group_column]
        if not group:
            raise DatasetError(
                path,
                f"row {number} ({names[0]}) has nothing in the column {group_column!r}; expected "
                "a patient, case or loop",
            )
        for image_id in images:
            other, first = found.setdefault(image_id, (group, number))
            if other != group:
                raise DatasetError(
                    path,
                    f"row {number} gives {names[0]!r} the group {group!r}, row {first} the group "
                    f"{other!r}; expected one group for each image",
                )
    return {image_id: group for image_id, (group, _) in found.items()}, tuple(unknown)


def _columns(path: Path, names: list[str]) -> tuple[list[str], str]:
    """The columns that may name an image, the best first, and the one that names the group."""
    by_key = {_key(name): name for name in reversed(names)}
    images = [by_key[key] for key in map(_key, IMAGE_COLUMNS) if key in by_key]
    groups = [by_key[key] for key in map(_key, GROUP_COLUMNS) if key in by_key]
    if len(names) == 2 and len(images) + len(groups) == 1:  # of two, the other one is the other
        (known,) = (*images, *groups)
        other = names[1 - names.index(known)]
        images, groups = images or [other], groups or [other]
    if not images or not groups:
        raise DatasetError(
            path,
            f"row 1 names the columns {', '.join(names)}; expected one with "
            "the image (such as image, id or file name) and one with its group (such as group, "
            "patient, case or loop)",
        )
    return images, groups[0]


def _key(column: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", column.casefold())


class ImageFinder:
    """Images by what a table may call them: id, path, file name, that without suffix, safe id.

    Args:
        records: the images.
        folder: that they are under; None takes their file names alone.
    """

    def __init__(self, records: Sequence[ImageRecord], folder: Path | None) -> None:
        self._folder = None if folder is None else folder.absolute().parts
        self._indexes: list[dict[str, list[tuple[str, str]]]] = []
        # All exact meanings come ahead of all without case, so "A.png" never means "a.png" where
        # both are there.
        for ignore_case in (False, True):
            indexes: list[dict[str, list[tuple[str, str]]]] = [{}, {}, {}, {}, {}]
            for record in records:
                name = _name(record, folder)
                keys = (
                    record.image_id,
                    name,
                    record.path.name,
                    record.path.stem,
                    safe_file_name(record.image_id),
                )
                for index, text in zip(indexes, keys, strict=True):
                    key = same_name_key(text, ignore_case)
                    index.setdefault(key, []).append((name, record.image_id))
            self._indexes += indexes

    def find(self, text: str) -> list[str]:
        """The ids of the images that are meant; all frames where a file is named.

        Raises:
            ValueError: two files could be meant.
        """
        for position, index in enumerate(self._indexes):
            for name in self._readings(text):
                images = index.get(same_name_key(name, position >= len(self._indexes) // 2), [])
                files = sorted({file for file, _ in images})
                if len(files) > 1:
                    raise ValueError(
                        f"{text!r} could be {files[0]} or {files[1]}; expected the whole path"
                    )
                if images:
                    return [image_id for _, image_id in images]
        return []

    def _readings(self, text: str) -> Iterator[str]:
        """The name as it stands, and what is left of it below the folder of the images."""
        yield text
        parts = [part for part in text.replace("\\", "/").split("/") if part not in ("", ".")]
        yield "/".join(parts)
        # A table may name files from a folder further up: where its path begins as our folder's
        # ends, the rest is below ours.
        for count in range(1, len(parts)):
            if self._folder is not None and list(self._folder[-count:]) == parts[:count]:
                yield "/".join(parts[count:])


# Near duplicates: images of one patient that no file name tells of

HASH_SIDE, DUPLICATE_BITS = 16, 8
"""Images whose average hashes differ in at most so many of 256 bits are near duplicates."""

_ROWS_AT_ONCE = 512


def average_hash(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(256,) bits of an image (H, W) or (H, W, 3): which of 16 x 16 means are above their mean."""
    small = Image.fromarray(image).convert("L").resize((HASH_SIDE, HASH_SIDE), Image.Resampling.BOX)
    values = np.asarray(small, np.float32).ravel()
    return values > values.mean()


def join_groups(groups: Sequence[str], hashes: ArrayLike) -> list[str]:
    """The group of each image; groups that share near duplicates become one.

    Args:
        groups: the group of each of N images.
        hashes: (N, 256) bool, of ``average_hash``.

    Returns:
        N names; a joined group has the name that comes first in the alphabet.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    names, of = np.unique(np.asarray(groups, object), return_inverse=True)
    bits = np.asarray(hashes, np.float32).reshape(len(groups), HASH_SIDE**2)
    ones = bits.sum(1)
    component = np.arange(len(names))
    for start in range(0, len(groups), _ROWS_AT_ONCE):
        rows = bits[start : start + _ROWS_AT_ONCE]
        # Hamming distance as a matrix product, |a| + |b| - 2 a.b, which is many times as fast as
        # comparing bits; in blocks of rows for the memory.
        differing = ones[start : start + len(rows), None] + ones[None] - 2 * rows @ bits.T
        first, second = np.nonzero(differing <= DUPLICATE_BITS)
        pairs = component[of[start + first]], component[of[second]]
        graph = coo_array((np.ones(len(first), bool), pairs), (len(names), len(names)))
        component = connected_components(graph, directed=False)[1][component]
    _, first_of = np.unique(component, return_index=True)  # in the alphabet, as ``names`` are
    return [str(names[first_of[component[group]]]) for group in of]
