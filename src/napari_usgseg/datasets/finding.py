"""Finding the images of an original folder, and the annotations that belong to each."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..errors import DatasetError
from ..io.images import natural_order
from ..io.tables import read_table
from .records import KnownDataset, Layout, MaskRule, TableRule

RemarkKind = Literal["missing", "odd", "failed"]


@dataclass(frozen=True, slots=True)
class Remark:
    """What a person should know of one file.

    ``missing``: its counterpart is not there; ``failed``: it could not be used; both are left out.
    ``odd``: it is in, but look at it.
    """

    kind: RemarkKind
    path: str
    text: str


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
    """What a folder holds: images in natural order, and remarks."""

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
    annotations = [_annotations(rule, files) for rule in layout.masks]
    table = _table(layout.table, folder, files, findings)
    seen: dict[str, str] = {}
    for file, match in found:
        names = _names(match)
        item_id = _safe(layout.item.format(**_lower(names)))
        if item_id in seen:
            findings.remarks.append(
                Remark("failed", file, f"a second image {item_id}; the first is {seen[item_id]}")
            )
            continue
        seen[item_id] = file
        own = []
        for rule, by_key in zip(layout.masks, annotations, strict=True):
            paths = by_key.get(_key(rule, names), [])
            own.append((rule, tuple(folder / path for path in paths)))
        row = table.get(_stem(file)) or table.get(item_id.casefold()) or {}
        findings.images.append(_found(folder / file, item_id, names, row, layout, tuple(own)))
    for rule, by_key in zip(layout.masks, annotations, strict=True):
        known = {_key(rule, _names(match)) for pairs in fitting for _, match in pairs}
        findings.remarks += [
            Remark("missing", path, "an annotation without its image")
            for key, paths in by_key.items()
            for path in paths
            if key not in known
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
        group = layout.group.format(**low)
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
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        relative = Path(place).relative_to(folder)
        yield from ((relative / name).as_posix() for name in names if not name.startswith("."))


def _match(pattern: str, file: str) -> re.Match[str] | None:
    return re.fullmatch(f"(?:.*/)?{pattern}", file, re.IGNORECASE)


def _names(match: re.Match[str]) -> dict[str, str]:
    return {key: value or "" for key, value in match.groupdict().items()}


def _annotations(rule: MaskRule, files: list[str]) -> dict[tuple[str, ...], list[str]]:
    by_key: dict[tuple[str, ...], list[str]] = {}
    for file in files:
        match = _match(rule.pattern, file)
        if match:
            by_key.setdefault(_key(rule, _names(match)), []).append(file)
    return by_key


def _key(rule: MaskRule, names: dict[str, str]) -> tuple[str, ...]:
    shared = sorted(re.compile(rule.pattern).groupindex)
    return tuple(names.get(name, "").casefold() for name in shared)


def _table(
    rule: TableRule | None, folder: Path, files: list[str], findings: Findings
) -> dict[str, dict[str, str]]:
    """Rows of the table by the image's name without suffix; empty where there is no table."""
    if rule is None:
        return {}
    file = next((file for file in files if _match(rule.pattern, file)), None)
    if file is None:
        return {}
    try:
        rows = read_table(folder / file)
    except DatasetError as error:
        findings.remarks.append(Remark("odd", file, error.cause))
        return {}
    wanted = [name for name in (rule.id, rule.group, rule.finding, rule.spacing_mm) if name]
    absent = [name for name in wanted if rows and name not in rows[0]]
    if absent:
        findings.remarks.append(
            Remark("odd", file, f"no column {', '.join(absent)}; it has {', '.join(rows[0])}")
        )
    return {_stem(row.get(rule.id, "")): row for row in rows}


def _stem(file: str) -> str:
    name = file.rpartition("/")[2].casefold()
    return re.sub(r"\.(?:png|jpe?g|bmp|tiff?|nii|nii\.gz)$", "", name)


def _lower(names: dict[str, str]) -> dict[str, str]:
    folders = {"finding", "part"}
    return {key: value.casefold() if key in folders else value for key, value in names.items()}


def _safe(text: str) -> str:
    return re.sub(r"[^\w.-]+", "_", text).strip("_.") or "image"
