"""Data sets on disk in the layout of the protocol, and their splits.

    <name>/images/<id>.png   <name>/masks/<id>.png   <name>/dataset.json

``dataset.json`` holds at least ``name``, ``organ``, ``target``, ``labels`` (label value -> name)
and ``items`` with ``id`` and ``group`` (patient, video or case; else each image is its own).
Sam2Rad's ``Train|Test/{imgs,gts}`` is read too.

Other people's cards are read where they can only mean one thing: labels as a list of names (from
1, or from 0 where the first is the background) or of ``{"id": ..., "name": ...}``, or name -> label
value; items that are plain ids; images and masks that are JPEG, BMP or TIFF. 0 is never a label.

An id is a file's name with its suffix or without it (``io.names.pair_by_name``), in a folder of
``images`` and ``masks`` too ("case1/a"), never outside of them. Two items of one id or of one file
are refused, and so is an item that several files could belong to. Hidden files are not there.
Line breaks and bytes that are no UTF-8 are escapes in ids and names (``errors.readable``).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DatasetError, readable
from .atomic import Write, write_over
from .images import read_image
from .labels import CLASSES_FILE, Labelling, LabelMap, read_classes, write_image, write_labels
from .masks import as_labels, fitted, read_mask_file
from .names import NameFinder, hidden_or_appledouble, pair_by_name, same_name_key
from .reading.frames import Spacing
from .search import IMAGE_SUFFIXES

DATASET_CARD = "dataset.json"
"""Name of the file that describes a data set."""

BACKGROUND = ("background", "bg", "_background_", "")


@dataclass(frozen=True, slots=True)
class DatasetItem:
    """One image with its mask, whose files may turn out to be missing when they are read.

    ``group`` is the patient, video or case that it comes from; ``labels`` are the label values
    that the data set names (``read_mask``), () where they are not known; ``spacing_mm`` is of a
    pixel along (row, column).
    """

    item_id: str
    group: str
    image_path: Path
    mask_path: Path
    finding: str | None = None
    spacing_mm: Spacing | None = None
    labels: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set: ``target`` is the phrase for label 1, ``labels`` name every label value."""

    name: str
    organ: str
    target: str
    labels: dict[int, str]
    items: tuple[DatasetItem, ...]

    def phrase(self, label: int) -> str:
        """What a sonographer would type for ``label``: the target for 1, else the label's name."""
        return self.target if label == 1 and self.target.strip() else self.labels[label]

    def class_names(self) -> dict[int, str]:
        """The phrase of every label, with its number where two labels have the same phrase."""
        phrases = {label: self.phrase(label) for label in self.labels}
        folded = [phrase.casefold() for phrase in phrases.values()]
        return {
            label: phrase if folded.count(phrase.casefold()) == 1 else f"{phrase} ({label})"
            for label, phrase in phrases.items()
        }

    def only(self, item_ids: Iterable[str]) -> Dataset:
        """The same data set with just the items of ``item_ids``, in the data set's order."""
        wanted = set(item_ids)
        kept = tuple(item for item in self.items if item.item_id in wanted)
        return Dataset(self.name, self.organ, self.target, self.labels, kept)


def read_dataset(folder: str | Path) -> Dataset:
    """Read a data set folder.

    Raises:
        DatasetError: the folder is in none of the layouts above, or its card is not usable.
    """
    folder = Path(folder)
    if is_dataset(folder):
        own = (folder / DATASET_CARD).is_file()
        return _read_protocol_layout(folder) if own else _read_sam2rad_layout(folder)
    if not folder.is_dir():
        raise DatasetError(folder, "no such folder; check the path")
    raise DatasetError(
        folder,
        "no data set here: expected dataset.json with images/ and masks/ beside it, "
        "or Train/imgs and Train/gts; `usgseg export FOLDER --format png` writes the first, "
        "`usgseg datasets` makes it of public data sets and of train.CSV",
    )


def is_dataset(folder: Path) -> bool:
    """Whether a folder has a data set's card, or Sam2Rad's layout."""
    sides = (folder / side / "imgs" for side in ("Train", "Test"))
    return (folder / DATASET_CARD).is_file() or any(side.is_dir() for side in sides)


def _read_protocol_layout(folder: Path) -> Dataset:
    path = folder / DATASET_CARD
    try:
        card = json.loads(path.read_text(encoding="utf-8-sig"))
        labels = _labels(card["labels"])
        entries = [e if isinstance(e, dict) else {"id": e} for e in card["items"]]
        ids = [str(entry["id"]) for entry in entries]
        name, organ, target = (readable(card[key]) for key in ("name", "organ", "target"))
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(
            path,
            f"not a data set card ({type(error).__name__}: {error}); expected name, organ, "
            'target, labels such as {"1": "nerve"}, and items with id and group',
        ) from error
    if not ids:
        raise DatasetError(path, "lists no items; expected one with id and group for each image")
    _check_ids(path, ids)
    images = _paths(folder / "images", ids)
    masks = _paths(folder / "masks", ids)
    _check_masks(folder / "images", images, masks)
    items = tuple(
        _item(readable(item_id), entry, images[item_id], masks[item_id], tuple(labels))
        for item_id, entry in zip(ids, entries, strict=True)
    )
    return Dataset(name, organ, target, labels, items)


def _check_ids(path: Path, ids: list[str]) -> None:
    """Refuse ids of which two are one, or that lead out of the data set's folder.

    Raises:
        DatasetError: it names ``path``, the card, and the id.
    """
    seen: set[str] = set()
    for item_id in ids:
        if _leads_out(item_id, Path):
            raise DatasetError(
                path,
                f"the id {item_id!r} leads out of the data set's folder; give the name of a file "
                "in images and masks",
            )
        key = same_name_key(readable(item_id))
        if key in seen:
            raise DatasetError(path, f"lists the item {item_id!r} twice; give each its own id")
        seen.add(key)


def _check_masks(folder: Path, images: dict[str, Path], masks: dict[str, Path]) -> None:
    """Refuse a mask "a.png" of the item "a.jpg" where ``folder`` has another image named "a".

    Raises:
        DatasetError: it names the mask and both images.
    """
    finder = NameFinder(folder, IMAGE_SUFFIXES)
    for item_id, mask in masks.items():
        stem, suffix = os.path.splitext(item_id)
        bare = same_name_key(mask.stem) == same_name_key(Path(stem).name)
        if suffix.lower() not in IMAGE_SUFFIXES or not bare:
            continue
        for other in (finder.find(stem + each) for each in IMAGE_SUFFIXES):
            if other not in (None, images[item_id]) and mask.suffix.lower() != suffix.lower():
                raise DatasetError(
                    mask,
                    f"could be the mask of {item_id!r} or of {readable(other.name)}; name it "
                    f"{readable(Path(item_id).name)}.png or {readable(other.name)}.png",
                )


def _paths(folder: Path, ids: list[str]) -> dict[str, Path]:
    """The file of each item; where there is none, where the protocol wants it.

    Raises:
        DatasetError: a file cannot be told from another's (``pair_by_name``).
    """
    found = pair_by_name(folder, ids, IMAGE_SUFFIXES)
    paths = {item_id: folder / f"{item_id}.png" for item_id in ids}
    for item_id, path in found.items():
        if isinstance(path, DatasetError):
            raise path
        paths[item_id] = path
    return paths


def _labels(entry: Any) -> dict[int, str]:
    """Label value -> name, of the ways to write it that the module's docstring names.

    Raises:
        ValueError: it is none of them, or names no label; KeyError, TypeError likewise.
    """
    if isinstance(entry, list) and all(isinstance(name, str) for name in entry):
        first = 0 if entry and entry[0].strip().casefold() in BACKGROUND else 1
        pairs = list(enumerate(entry, first))
    elif isinstance(entry, list):
        pairs = [(each["id"] if "id" in each else each["value"], each["name"]) for each in entry]
    else:
        pairs = [
            (key, value["name"] if isinstance(value, dict) else value)
            for key, value in entry.items()
        ]
        if not all(str(key).strip().isdecimal() for key, _ in pairs):
            pairs = [(value, name) for name, value in pairs]
    labels = {
        int(value): readable(name).strip() or f"label {value}"
        for value, name in pairs
        if int(value)
    }
    if not labels or min(labels) < 0 or len(labels) < sum(bool(int(value)) for value, _ in pairs):
        raise ValueError(f"labels are {json.dumps(entry, ensure_ascii=False)}")
    return dict(sorted(labels.items()))


def _item(
    item_id: str, entry: dict[str, Any], image: Path, mask: Path, labels: tuple[int, ...]
) -> DatasetItem:
    group, finding = entry.get("group"), entry.get("finding")
    return DatasetItem(
        item_id=item_id,
        group=item_id if group in (None, "") else readable(group),
        image_path=image,
        mask_path=mask,
        finding=None if finding is None else readable(finding),
        spacing_mm=_spacing(entry.get("pixel_size_mm")),
        labels=labels,
    )


def _spacing(entry: Any) -> Spacing | None:
    """Millimetres per pixel (row, column): a number for both or a list; None where not stated."""
    try:
        row, column = map(float, entry if isinstance(entry, list) else (entry, entry))
    except (TypeError, ValueError):
        return None
    return (row, column) if all(0 < side < math.inf for side in (row, column)) else None


def _read_sam2rad_layout(folder: Path) -> Dataset:
    name = readable(folder.resolve().name)
    labels = _sam2rad_labels(folder) or {1: name.replace("_", " ")}
    items = []
    for part in ("Train", "Test"):
        images, masks = folder / part / "imgs", folder / part / "gts"
        files = _image_names(images)
        found = pair_by_name(masks, files, IMAGE_SUFFIXES)
        for file in files:
            mask = found.get(file, masks / f"{Path(file).stem}.png")
            if isinstance(mask, DatasetError):
                raise mask
            stem = readable(Path(file).stem)
            item_id, values = f"{part}-{stem}", tuple(labels)
            items.append(DatasetItem(item_id, stem, images / file, mask, labels=values))
    if not items:
        raise DatasetError(folder, "no images in Train/imgs or Test/imgs; put them there")
    target = labels.get(1, name.replace("_", " "))
    return Dataset(name, name, target, labels, tuple(items))


def _sam2rad_labels(folder: Path) -> dict[int, str]:
    """What ``classes.json`` names, where `usgseg datasets convert` wrote one; else {}."""
    try:
        return {entry.class_id: entry.name for entry in read_classes(folder / CLASSES_FILE)}
    except DatasetError:
        return {}


def _image_names(folder: Path) -> list[str]:
    """The images in a folder of Sam2Rad's, which may be missing, by name.

    Raises:
        DatasetError: two of them would be one item.
    """
    if not folder.is_dir():
        return []
    by_stem: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        if hidden_or_appledouble(path) or path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        other = by_stem.setdefault(same_name_key(readable(path.stem)), path.name)
        if other != path.name:
            raise DatasetError(
                path,
                f"and {readable(other)} would be one item, {path.stem!r}; rename one, and its mask",
            )
    return list(by_stem.values())


def read_mask(item: DatasetItem, size_hw: tuple[int, ...] | None = None) -> LabelMap:
    """The labels (H, W) of an item, by the rules of ``io.masks``.

    Args:
        item: of a data set.
        size_hw: (H, W) of its image, to which the mask is brought; None leaves it as it is.

    Raises:
        ImageReadError: the file is missing or damaged.
        DatasetError: it holds values that are no labels, or is of another shape than the image.
    """
    path = item.mask_path
    labels = as_labels(path, read_mask_file(path), item.labels)
    return labels if size_hw is None else fitted(path, labels, (size_hw[0], size_hw[1]))


def read_pair(item: DatasetItem) -> tuple[NDArray[np.uint8], LabelMap]:
    """The image (H, W, 3) of an item, and its labels (H, W).

    Raises:
        ImageReadError: one of the files is missing or damaged.
        DatasetError: as for ``read_mask``.
    """
    image = read_image(item.image_path)
    return image, read_mask(item, image.shape[:2])


def check_same_size(path: Path, labels: NDArray[Any], size_hw: tuple[int, ...]) -> None:
    """Refuse labels that were read from ``path`` and do not have their image's (H, W).

    Raises:
        DatasetError: they are of another size.
    """
    if labels.shape != size_hw:
        raise DatasetError(
            path,
            f"is {labels.shape[1]}x{labels.shape[0]} pixels, its image "
            f"{size_hw[1]}x{size_hw[0]}; a label map has exactly its image's size: make it anew, "
            "or put back the image that it was made on",
        )


def write_pair(
    folder: Path, file_name: str, image: NDArray[np.uint8], labels: NDArray[Any], write: Write
) -> None:
    """Write ``images/<file_name>.png`` and ``masks/<file_name>.png``.

    Args:
        folder: of the data set.
        file_name: a safe one (``io.names.safe_file_name``), without suffix.
        image: (H, W, 3) RGB uint8; grey where its channels are equal.
        labels: (H, W) label values.
        write: how a file is written.

    Raises:
        DatasetError: the two are not of one size.
        LabelWriteError: a file is there already, or cannot be written.
    """
    mask_path = folder / "masks" / f"{file_name}.png"
    check_same_size(mask_path, labels, image.shape[:2])
    write_image(folder / "images" / f"{file_name}.png", image, write)
    write_labels(mask_path, labels, write)


def image_entry(item_id: str, group: str, labels: LabelMap, **more: Any) -> dict[str, Any]:
    """The entry of an image in ``dataset.json``; what is None in ``more`` is left out."""
    return {
        "id": item_id,
        "group": group,
        "width": labels.shape[1],
        "height": labels.shape[0],
        "empty_mask": not labels.any(),
        **{key: value for key, value in more.items() if value is not None},
    }


def card_ids(file_names: Mapping[str, str]) -> dict[str, str]:
    """The id that a card gives each item, such that ``read_dataset`` takes it.

    It is the item's own, or its file's name where an id may not be so: one that is empty or leads
    out of a folder, or two that are one when they are read (``errors.readable``, umlauts).

    Args:
        file_names: id -> name of its files, without suffix, as ``safe_file_names`` gives them.
    """
    keys = {item_id: same_name_key(readable(item_id)) for item_id in file_names}
    counts = Counter(keys.values())
    return {
        item_id: item_id
        if item_id and not _leads_out(item_id, PureWindowsPath) and counts[keys[item_id]] == 1
        else file_name
        for item_id, file_name in file_names.items()
    }


def _leads_out(item_id: str, system: type[PurePath]) -> bool:
    """Whether an id leads out of its folder, on this system or on Windows (and so on any)."""
    return bool(system(item_id).anchor) or ".." in re.split(r"[/\\]", item_id)


def write_card(
    out: Path,
    write: Write,
    *,
    name: str,
    organ: str,
    target: str,
    labels: Mapping[int, str],
    items: Sequence[Mapping[str, Any]],
    labelling: Labelling = "semantic",
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write ``dataset.json``.

    ``items`` are of ``image_entry``, or have at least ``id`` and ``group``; ``more`` is what else
    the card says, such as home page and licence.

    Raises:
        LabelWriteError: it may not or cannot be written.
    """
    card: dict[str, Any] = {
        "schema": 1,
        "name": name,
        "organ": organ,
        "target": target,
        "labels": {str(value): labels[value] for value in sorted(labels)},
        **(more or {}),
        "count": len(items),
        "items": list(items),
    }
    if labelling == "instance":
        card["labelling"] = labelling
    text = json.dumps(card, indent=1, ensure_ascii=False) + "\n"
    write(out / DATASET_CARD, text.encode("utf-8", "backslashreplace"))  # names that are no UTF-8


SIDES = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Split:
    """Item ids of the three sides of a data set; no group is on two sides."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    def of(self, side: str) -> tuple[str, ...]:
        """The ids on one of ``SIDES``."""
        ids: tuple[str, ...] = getattr(self, side)
        return ids


def split_by_group(dataset: Dataset, seed: int = 0, val: float = 0.10, test: float = 0.15) -> Split:
    """Split by group, deterministic from ``seed`` and independent of the order of items."""
    groups = {item.item_id: item.group for item in dataset.items}
    sides = sides_by_group(dataset.name, groups, seed, val, test)
    return Split(*(tuple(sorted(i for i, s in sides.items() if s == side)) for side in SIDES))


def leave_one_out(dataset: Dataset) -> dict[str, Split]:
    """Folds by group: in the one that has a group's name that group is tested, all others train."""
    folds = {}
    for group in sorted({item.group for item in dataset.items}):
        test = tuple(sorted(item.item_id for item in dataset.items if item.group == group))
        train = tuple(sorted(item.item_id for item in dataset.items if item.group != group))
        folds[group] = Split(train, (), test)
    return folds


def sides_by_group(
    name: str, groups: Mapping[str, str], seed: int = 0, val: float = 0.10, test: float = 0.15
) -> dict[str, str]:
    """The side of each id, by its group, in the data set ``name``.

    Groups are ordered by a hash of seed, data set and group; groups go to the test side until it
    holds the fraction ``test`` of the items, then to the validation side, then to training. A data
    set of at least three groups has at least one of them on the test side.
    """

    def rank(group: str) -> str:
        return hashlib.sha256(f"{seed}/{readable(name)}/{readable(group)}".encode()).hexdigest()

    members: dict[str, list[str]] = {}
    for item_id, group in groups.items():
        members.setdefault(group, []).append(item_id)
    sides: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for group in sorted(members, key=rank):
        side = "train"
        if len(members) >= 3 and counts["test"] < test * len(groups):
            side = "test"
        elif len(members) >= 10 and counts["val"] < val * len(groups):
            side = "val"
        counts[side] += len(members[group])
        sides |= dict.fromkeys(members[group], side)
    return sides


def write_splits(
    splits: Mapping[str, Split],
    path: str | Path,
    seed: int = 0,
    write: Write = write_over,
    folds: Mapping[str, Mapping[str, Split]] | None = None,
) -> None:
    """Write splits as JSON: {"seed": ..., "datasets": {name of the data set: {side: ids}}}.

    ``folds`` (data set -> fold -> split), where there are any, go below "folds" in the same way.
    """

    def sides(some: Mapping[str, Split]) -> dict[str, Any]:
        return {name: {side: list(one.of(side)) for side in SIDES} for name, one in some.items()}

    card: dict[str, Any] = {"schema": 1, "seed": seed, "datasets": sides(splits)}
    if folds:
        card["folds"] = {name: sides(each) for name, each in folds.items()}
    write(Path(path), (json.dumps(card, indent=1) + "\n").encode("utf-8"))


def split_of(path: str | Path, name: str) -> Split:
    """The split of one data set in a split file; of a fold where ``path`` ends in "#" and its name.

    Raises:
        DatasetError: the file is no split file, or says nothing of the data set or of the fold.
    """
    file, mark, fold = str(path).rpartition("#")
    if mark:
        folds = read_folds(file).get(name, {})
        if fold not in folds:
            known = ", ".join(folds) or "none"
            raise DatasetError(file, f"has no fold '{fold}' of '{name}', only {known}")
        return folds[fold]
    splits = read_splits(path)
    if name not in splits:
        raise DatasetError(path, f"says nothing of '{name}', only of {', '.join(splits)}")
    return splits[name]


def read_splits(path: str | Path) -> dict[str, Split]:
    """Read what ``write_splits`` wrote.

    Raises:
        DatasetError: the file is missing or not a split file.
    """
    return _read_split_file(path, lambda card: _splits(card["datasets"]))


def read_folds(path: str | Path) -> dict[str, dict[str, Split]]:
    """Data set -> fold -> split of a split file; only of data sets of a few patients or cases.

    Raises:
        DatasetError: the file is missing or not a split file.
    """

    def folds(card: dict[str, Any]) -> dict[str, dict[str, Split]]:
        return {name: _splits(each) for name, each in card.get("folds", {}).items()}

    return _read_split_file(path, folds)


def _splits(sides: Mapping[str, Any]) -> dict[str, Split]:
    return {name: Split(*(tuple(each[side]) for side in SIDES)) for name, each in sides.items()}


_T = TypeVar("_T")


def _read_split_file(path: str | Path, take: Callable[[dict[str, Any]], _T]) -> _T:
    try:
        return take(json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            path,
            f"not a split file ({type(error).__name__}: {error}); "
            "benchmarks/make_splits.py writes one",
        ) from error
