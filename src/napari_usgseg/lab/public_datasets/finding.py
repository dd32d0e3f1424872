"""Finding the images of an original folder, and the annotations that belong to each."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ...core.errors import DatasetError, readable
from ...io.names import hidden_or_appledouble, safe_file_names, same_name_key
from ...io.search import natural_order
from ...io.tables import read_table
from .registry import KnownDataset, Layout, MaskRule, TableRule

RemarkKind = Literal["missing", "odd", "failed"]


@dataclass(frozen=True, slots=True)
class Remark:
    """Remark on one file, for a person.

    ``missing``: its counterpart is not there; ``failed``: it could not be used; both are left out.
    ``odd``: it is in, but look at it.
    """

    kind: RemarkKind
    path: str
    text: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", readable(self.path))


@dataclass(frozen=True, slots=True)
class FoundImage:
    """An image with its annotations.

    Attributes:
        path: of the image.
        item_id: a name that can be a file's.
        group: patient, case or video, or None where the data set names none.
        finding: what the folder or the table says ("benign"), or None.
        part: the authors' own part ("train", "test"), or None.
        spacing_mm: millimetres per pixel, from the table.
        names: the named groups of the path.
        annotations: for each rule of the layout, the files.
        empty_findings: findings without an object.
    """

    path: Path
    item_id: str
    group: str | None
    finding: str | None
    part: str | None
    spacing_mm: float | None
    names: dict[str, str]
    annotations: tuple[tuple[MaskRule, tuple[Path, ...]], ...]
    empty_findings: tuple[str, ...]


@dataclass(slots=True)
class Findings:
    """Findings in a folder: images in natural order, and remarks."""

    images: list[FoundImage] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)


def find_images(entry: KnownDataset, folder: Path) -> Findings:
    """Pair images and annotations by the layout of ``entry``.

    Raises:
        DatasetError: the folder is missing, or no file in it fits the layout.
    """
    if not folder.is_dir():
        raise DatasetError(folder, "no such folder; give the one that the data set was unpacked to")
    layout = entry.layout
    files = sorted(_walk(folder), key=natural_order)
    pictures = [f for f in files if not any(_match(p, f) for p in layout.ignore)]
    fitting = [
        [(file, match) for file in pictures if (match := _match(pattern, file))]
        for pattern in layout.image
    ]
    found = next((pairs for pairs in fitting if pairs), [])
    if not found:
        raise DatasetError(
            folder,
            f"no image of {entry.name} here among {len(files)} files; expected {layout.files} "
            f"(`usgseg datasets show {entry.name}` says more)",
        )
    findings = Findings()
    matches = [match for pairs in fitting for _, match in pairs]
    annotations = [_Annotations(rule, files, matches) for rule in layout.masks]
    table = _table(layout.table, folder, files, findings)
    seen: dict[str, str] = {}
    item_ids = [_safe(layout.item.format(**_lower(_names(match)))) for _, match in found]
    on_disk = safe_file_names(item_ids)
    for (file, match), wanted in zip(found, item_ids, strict=True):
        names, item_id = _names(match), on_disk[wanted]
        if item_id in seen:
            findings.remarks.append(
                Remark("failed", file, f"a second image {item_id}; the first is {seen[item_id]}")
            )
            continue
        seen[item_id] = file
        own = [(each.rule, tuple(folder / path for path in each.of(names))) for each in annotations]
        row = table.row(file.rpartition("/")[2]) or table.row(item_id)
        findings.images.append(_found(folder / file, item_id, names, row, layout, tuple(own)))
    findings.remarks += [
        Remark("missing", path, "an annotation without its image")
        for each in annotations
        for path in each.without_image()
    ]
    return findings


def _found(
    path: Path,
    item_id: str,
    names: dict[str, str],
    row: dict[str, str],
    layout: Layout,
    annotations: tuple[tuple[MaskRule, tuple[Path, ...]], ...],
) -> FoundImage:
    rule, low = layout.table, _lower(names)

    def cell(column: str | None) -> str | None:
        return row.get(column) or None if column else None

    group = cell(rule.group) if rule else None
    if group is None and layout.group is not None:
        group = readable(layout.group.format(**low))
    finding = low.get("finding") or (cell(rule.finding) if rule else None)
    try:
        spacing = float(cell(rule.spacing_mm) or "") if rule else None
    except ValueError:
        spacing = None
    return FoundImage(
        path=path,
        item_id=item_id,
        group=group,
        finding=finding.casefold() if finding else None,
        part=low.get("part"),
        spacing_mm=spacing,
        names=low,
        annotations=annotations,
        empty_findings=layout.empty_findings,
    )


def _walk(folder: Path) -> Iterator[str]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not hidden_or_appledouble(name)]
        relative = Path(place).relative_to(folder)
        shown = (name for name in names if not hidden_or_appledouble(name))
        yield from ((relative / name).as_posix() for name in shown)


def _match(pattern: str, file: str) -> re.Match[str] | None:
    return re.fullmatch(f"(?:.*/)?{pattern}", file, re.IGNORECASE)


def _names(match: re.Match[str]) -> dict[str, str]:
    return {key: value or "" for key, value in match.groupdict().items()}


_Key = tuple[str, ...]


class _Annotations:
    """The files of one rule by the names that they share with their image.

    Case counts where an image is named in just this case; else it does not.
    """

    def __init__(self, rule: MaskRule, files: list[str], images: list[re.Match[str]]) -> None:
        self.rule = rule
        self._shared = sorted(re.compile(rule.pattern).groupindex)
        self._images = {self._key(_names(match)) for match in images}
        self._files: dict[_Key, list[str]] = {}
        self._folded: dict[_Key, list[str]] = {}
        for file in files:
            match = _match(rule.pattern, file)
            if match:
                key = self._key(_names(match))
                self._files.setdefault(key, []).append(file)
                if key not in self._images:
                    self._folded.setdefault(_folded(key), []).append(file)

    def of(self, names: dict[str, str]) -> list[str]:
        """The files of the image with these named groups."""
        key = self._key(names)
        return self._files.get(key) or self._folded.get(_folded(key), [])

    def without_image(self) -> list[str]:
        """The files that no image has."""
        served = {_folded(key) for key in self._images if key not in self._files}
        return [file for key, files in self._folded.items() if key not in served for file in files]

    def _key(self, names: dict[str, str]) -> _Key:
        return tuple(same_name_key(names.get(name, "")) for name in self._shared)


def _folded(key: _Key) -> _Key:
    return tuple(same_name_key(part, ignore_case=True) for part in key)


class _Table:
    """Rows by the name of their image: the whole name first, then without suffix or case."""

    def __init__(self, rows: dict[str, dict[str, str]]) -> None:
        self._levels: list[dict[str, list[dict[str, str]]]] = [{}, {}, {}]
        for name, row in rows.items():
            for level, key in zip(self._levels, self._keys(name), strict=True):
                level.setdefault(key, []).append(row)

    def row(self, name: str) -> dict[str, str]:
        """The row of an image; {} where there is none, or it could be one of several."""
        for level, key in zip(self._levels, self._keys(name), strict=True):
            if key in level:
                return level[key][0] if len(level[key]) == 1 else {}
        return {}

    @staticmethod
    def _keys(name: str) -> tuple[str, str, str]:
        name = same_name_key(name.rpartition("/")[2])
        stem = re.sub(r"\.(?:png|jpe?g|bmp|tiff?|nii|nii\.gz)$", "", name, flags=re.IGNORECASE)
        return name, stem, same_name_key(stem, ignore_case=True)


def _table(rule: TableRule | None, folder: Path, files: list[str], findings: Findings) -> _Table:
    """The rows of the table; none where there is no table."""
    if rule is None:
        return _Table({})
    file = next((file for file in files if _match(rule.pattern, file)), None)
    if file is None:
        return _Table({})
    try:
        rows = read_table(folder / file)
    except DatasetError as error:
        findings.remarks.append(Remark("odd", file, error.cause))
        return _Table({})
    wanted = [name for name in (rule.id, rule.group, rule.finding, rule.spacing_mm) if name]
    absent = [name for name in wanted if rows and name not in rows[0]]
    if absent:
        findings.remarks.append(
            Remark("odd", file, f"no column {', '.join(absent)}; it has {', '.join(rows[0])}")
        )
    return _Table({row.get(rule.id, ""): row for row in rows})


def _lower(names: dict[str, str]) -> dict[str, str]:
    folders = {"finding", "part"}
    return {key: value.casefold() if key in folders else value for key, value in names.items()}


def _safe(text: str) -> str:
    return re.sub(r"[^\w.-]+", "_", same_name_key(text)).strip("_.") or "image"
