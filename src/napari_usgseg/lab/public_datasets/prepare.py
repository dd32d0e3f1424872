"""A public data set's original folder to the layout of the protocol.

    <out>/images/<id>.png   <out>/masks/<id>.png   <out>/dataset.json   <out>/classes.json
    <out>/splits.json       sides in the paper's proportions; no patient is on two of them
    <out>/report.json       what was left out, and what to look at

The original folder is only read. A file that cannot be used is reported and stops no other.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...core.errors import DatasetError, FileError, readable
from ...core.notes import listening
from ...core.types import BoolArray, LabelClass
from ...io.atomic import Write
from ...io.datasets import DATASET_CARD, Split, image_entry, write_card, write_pair, write_splits
from ...io.groups import average_hash, join_groups
from ...io.images import Spacing, card_entry, read_image, read_spacing, to_rgb_uint8
from ...io.labels import CLASSES_FILE, default_color, write_classes
from ...io.names import safe_file_names
from ...io.outputs import OutputFolder
from .annotations import AnnotationReader, Masks
from .finding import FoundImage, Remark, RemarkKind, find_images
from .nifti import Volume, is_nifti, read_nifti
from .registry import KnownDataset, LabelRule

EXTRA_SPLIT = (70, 20, 10)
"""Shares of training, validation and test without counts: the paper's scripts' own."""


def split_like(
    name: str,
    ids: Sequence[str],
    groups: Sequence[str],
    counts: tuple[int, int, int] | None,
    seed: int = 0,
) -> Split:
    """Split ``ids`` into as many as ``counts`` says, or by its shares where the total differs.

    Groups are ordered by a hash of seed, data set and group; each goes to the test side, else to
    the validation side, if that does not get more than its number by it, else to training. So the
    numbers are met exactly where groups are single images, and nearly where they are not; a side
    that would stay empty takes the smallest group where there are three or more.

    Args:
        name: of the data set.
        ids: N item ids.
        groups: N names: patient, case or video.
        counts: (train, val, test) of the paper; None: ``EXTRA_SPLIT``.
        seed: of the order.
    """

    def rank(group: str) -> str:
        return hashlib.sha256(f"{seed}/{name}/{group}".encode()).hexdigest()

    members: dict[str, list[str]] = {}
    for item, group in zip(ids, groups, strict=True):
        members.setdefault(group, []).append(item)
    wanted = _wanted(len(ids), counts or EXTRA_SPLIT)
    sides: dict[str, list[str]] = {"test": [], "val": [], "train": []}
    left = sorted(members, key=rank)
    for side, number in (("test", wanted[2]), ("val", wanted[1])):
        taken = []
        for group in left:
            if len(sides[side]) + len(members[group]) <= number:
                sides[side] += members[group]
                taken.append(group)
        if number and not taken and len(left) >= 3:
            taken = [min(left, key=lambda group: (len(members[group]), rank(group)))]
            sides[side] += members[taken[0]]
        left = [group for group in left if group not in set(taken)]
    for group in left:
        sides["train" if wanted[0] else "test"] += members[group]
    return Split(*(tuple(sorted(sides[side])) for side in ("train", "val", "test")))


def _wanted(total: int, counts: tuple[int, int, int]) -> tuple[int, int, int]:
    whole = sum(counts)
    if whole == total:
        return counts
    val, test = (round(total * count / whole) for count in counts[1:])
    return total - val - test, val, test


Step = Callable[[int, int, str], None]

_T = TypeVar("_T")
_R = TypeVar("_R")
_MAX_THREADS = 4


@dataclass(frozen=True, slots=True)
class PrepareReport:
    """Report on a data set that was prepared.

    Attributes:
        out: its folder.
        images: how many are in it.
        groups: of how many patients, cases, videos or sets of near duplicates.
        empty: how many show none of the target; they are left out unless asked for.
        split: the sides.
        like_paper: whether there are as many images as the paper counts.
        remarks: what was left out or is odd, by file.
    """

    out: Path
    images: int
    groups: int
    empty: int
    split: Split
    like_paper: bool
    remarks: tuple[Remark, ...]

    @property
    def left_out(self) -> int:
        """How many files could not be used."""
        return sum(remark.kind != "odd" for remark in self.remarks)


class _Missing(DatasetError):
    """An image has no annotation."""

    def __init__(self, found: FoundImage) -> None:
        finding = f" ({found.finding})" if found.finding else ""
        super().__init__(found.path, f"an image{finding} without its annotation")


@dataclass(frozen=True, slots=True, eq=False)
class _Frame:
    item_id: str
    image: NDArray[np.uint8]
    masks: Masks
    spacing_mm: Spacing | None


@dataclass(slots=True)
class _Result:
    """What became of one file: entries of the card, hashes, how many are empty, and remarks."""

    items: list[dict[str, Any]] = field(default_factory=list)
    hashes: list[NDArray[np.bool_]] = field(default_factory=list)
    empty: int = 0
    remarks: list[Remark] = field(default_factory=list)


def prepare_dataset(
    entry: KnownDataset,
    folder: str | Path,
    out: str | Path,
    *,
    keep_labels: bool = False,
    keep_empty: bool = False,
    invert: bool = False,
    seed: int = 0,
    overwrite: bool = False,
    progress: Step = lambda done, total, name: None,
) -> PrepareReport:
    """Read an original folder and write it in one layout.

    Args:
        entry: of the registry.
        folder: as downloaded and unpacked.
        out: a folder outside ``folder``.
        keep_labels: the labels of the original, not one for all.
        keep_empty: images that show none of the target too; the paper leaves them out.
        invert: masks are dark on bright.
        seed: of the split.
        overwrite: replace an earlier result that nobody changed since; what it held and this one
            does not goes.
        progress: called after each file with how many are done, of how many, and its name.

    Raises:
        DatasetError: the folder does not hold this data set, nothing of it could be used, or
            ``out`` is in it.
        LabelWriteError: ``out`` holds anything else, or the result cannot be written.
    """
    folder, out = Path(folder), Path(out)
    if out.resolve().is_relative_to(folder.resolve()):
        raise DatasetError(out, f"is inside {folder}, which is only read; choose another --out")
    written = OutputFolder(out, reads=[folder], overwrite=overwrite)
    written.check_only_own()
    findings = find_images(entry, folder)
    remarks, rules = list(findings.remarks), entry.label_rules(keep_labels)
    writing = Lock()

    def write(path: Path, data: bytes) -> None:
        with writing:
            written.remove(out / DATASET_CARD)  # what is cut off is no data set
            written.write(path, data)

    safe = safe_file_names(found.item_id for found in findings.images)
    images = [replace(found, item_id=safe[found.item_id]) for found in findings.images]
    work = partial(_prepare_image, AnnotationReader(invert), folder, out, rules, keep_empty, write)
    items: list[dict[str, Any]] = []
    hashes: list[NDArray[np.bool_]] = []
    empty = 0
    with listening() as notes, _in_threads(work, images) as results:
        for number, (found, result) in enumerate(zip(images, results, strict=True), 1):
            items += result.items
            hashes += result.hashes
            remarks += result.remarks
            empty += result.empty
            progress(number, len(images), _relative(found.path, folder))
    remarks += [Remark("odd", _relative(Path(path), folder), text) for path, text in notes]
    if not items:
        why = f"; the first: {remarks[0].path}: {remarks[0].text}" if remarks else ""
        raise DatasetError(folder, f"no image with its annotation could be used{why}")
    if entry.layout.group is None:
        for item, group in zip(
            items, join_groups([i["group"] for i in items], hashes), strict=True
        ):
            item["group"] = group
    return _finish(entry, written, rules, items, remarks, empty, seed)


@contextmanager
def _in_threads(work: Callable[[_T], _R], inputs: Sequence[_T]) -> Iterator[Iterator[_R]]:
    """The results in the order of the inputs; what has not begun at the end of the block is left.

    Decoding and encoding of images leave Python's lock alone, so threads do.
    """
    pool = ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1))
    # The first is done here: threads that import a package together can find it half made.
    first = [work(each) for each in inputs[:1]]
    try:
        # One context can be in one thread at a time: each image has a copy, and notes are heard.
        jobs = [partial(copy_context().run, work, each) for each in inputs[1:]]
        yield chain(first, pool.map(lambda job: job(), jobs))
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare_image(
    reader: AnnotationReader, folder: Path, out: Path, rules: tuple[LabelRule, ...],
    keep_empty: bool, write: Write, found: FoundImage,
) -> _Result:  # fmt: skip
    """Read and write one image, or the slices of a volume."""
    result = _Result()
    source = _relative(found.path, folder)
    try:
        for frame in _frames(found, reader, folder, result.remarks):
            labels = _label_map(frame, rules)
            result.empty += not labels.any()
            if not labels.any() and not keep_empty:
                continue
            write_pair(out, frame.item_id, frame.image, labels, write)
            group, spacing = found.group or frame.item_id, card_entry(frame.spacing_mm)
            about = {"source": source, "finding": found.finding, "part": found.part}
            entry = image_entry(frame.item_id, group, labels, **about, pixel_size_mm=spacing)
            result.items.append(entry)
            result.hashes.append(average_hash(frame.image))
    except FileError as error:
        kind: RemarkKind = "missing" if isinstance(error, _Missing) else "failed"
        own = error.path == found.path
        text = error.cause if own else f"{error.path.name}: {error.cause}"
        result.remarks.append(Remark(kind, source, text))
    return result


def _relative(path: Path, folder: Path) -> str:
    return readable(path.relative_to(folder).as_posix())


def _frames(
    found: FoundImage, reader: AnnotationReader, folder: Path, remarks: list[Remark]
) -> Iterator[_Frame]:
    """The image, or the slices of a volume, with the masks of each class."""
    if is_nifti(found.path):
        yield from _slices(found, reader, folder, remarks)
        return
    image = read_image(found.path)
    masks: Masks = {}
    for rule, paths in found.annotations:
        said = False
        for path in paths:
            own, notes = reader.read(rule, path, found.names, found.path, image.shape[:2])
            _note(remarks, path, folder, notes)
            said |= own is not None
            _join(masks, own or {})
        empty = found.finding is not None and found.finding in found.empty_findings
        if rule.required and not said and not empty:
            raise _Missing(found)
    said_mm = found.spacing_mm
    spacing = read_spacing(found.path) if said_mm is None else (said_mm, said_mm)
    yield _Frame(found.item_id, image, masks, spacing)


def _slices(
    found: FoundImage, reader: AnnotationReader, folder: Path, remarks: list[Remark]
) -> Iterator[_Frame]:
    volume = read_nifti(found.path)
    annotations: list[tuple[Any, Path, Volume]] = []
    for rule, paths in found.annotations:
        if rule.required and not paths:
            raise _Missing(found)
        for path in paths:
            marked = read_nifti(path)
            if marked.values.shape[:3] != volume.values.shape[:3]:
                raise DatasetError(
                    path,
                    f"is {marked.values.shape[:3]} voxels, its image {volume.values.shape[:3]}; "
                    "they must be the same",
                )
            annotations.append((rule, path, marked))
    noted: dict[Path, list[str]] = {}
    for index in range(volume.slices):
        image = to_rgb_uint8(volume.image(index))
        masks: Masks = {}
        for rule, path, marked in annotations:
            values = marked.image(index, rule.channel)
            own, notes = reader.decode(rule, values, path, found.names, image.shape[:2])
            noted.setdefault(path, []).extend(notes)
            _join(masks, own)
        suffix = f"_{index:03d}" if volume.slices > 1 else ""
        yield _Frame(found.item_id + suffix, image, masks, volume.pixel_size_mm)
    for path, notes in noted.items():
        counted = [f"{note} ({times} slices)" for note, times in Counter(notes).items()]
        _note(remarks, path, folder, counted)


def _join(masks: Masks, more: Masks) -> None:
    for name, mask in more.items():
        masks[name] = masks[name] | mask if name in masks else mask


def _note(remarks: list[Remark], path: Path, folder: Path, notes: list[str]) -> None:
    remarks += [Remark("odd", _relative(path, folder), note) for note in notes]


def _label_map(frame: _Frame, rules: tuple[LabelRule, ...]) -> NDArray[np.uint8]:
    """(H, W): label values 1.. in the order of ``rules``; the first lies on top."""
    labels = np.zeros(frame.image.shape[:2], np.uint8)
    for value, rule in reversed(list(enumerate(rules, 1))):
        for name in rule.classes:
            mask: BoolArray | None = frame.masks.get(name)
            if mask is not None:
                labels[mask] = value
    return labels


def _finish(
    entry: KnownDataset,
    written: OutputFolder,
    rules: tuple[LabelRule, ...],
    items: list[dict[str, Any]],
    remarks: list[Remark],
    empty: int,
    seed: int,
) -> PrepareReport:
    out, write = written.root, written.write
    names = {value: rule.name for value, rule in enumerate(rules, 1)}
    ids, groups = [i["id"] for i in items], [i["group"] for i in items]
    split = split_like(entry.name, ids, groups, entry.split, seed)
    filled = sum(not item["empty_mask"] for item in items)
    report = PrepareReport(
        out, len(items), len(set(groups)), empty, split, filled == entry.images, tuple(remarks)
    )
    write_card(
        out,
        write,
        name=entry.name,
        organ=entry.organ,
        target=rules[0].name,
        labels=names,
        items=items,
        more={"homepage": entry.homepage, "licence": entry.licence, "groups": entry.groups},
    )
    write_classes(
        out / CLASSES_FILE, [LabelClass(v, n, default_color(v)) for v, n in names.items()], write
    )
    write_splits({entry.name: split}, out / "splits.json", seed, write)
    card = {
        "schema": 1,
        "dataset": entry.name,
        "images": report.images,
        "paper_images": entry.images,
        "without_target": empty,
        "remarks": [asdict(remark) for remark in remarks],
    }
    text = json.dumps(card, indent=1, ensure_ascii=False) + "\n"
    write(out / "report.json", text.encode("utf-8"))
    written.remove_others()
    return report
