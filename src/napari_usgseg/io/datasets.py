"""Data sets on disk in the layout of the protocol, and their splits.

    <name>/images/<id>.png   <name>/masks/<id>.png   <name>/dataset.json

``dataset.json`` holds at least ``name``, ``organ``, ``target``, ``labels`` (label value -> name)
and ``items`` with ``id`` and ``group`` (patient, video or case). Sam2Rad's
``Train|Test/{imgs,gts}`` is read too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import DatasetError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True, slots=True)
class DatasetItem:
    """One image with its mask; ``group`` is the patient, video or case that it comes from."""

    item_id: str
    group: str
    image_path: Path
    mask_path: Path
    finding: str | None = None
    spacing_mm: float | None = None


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
        return self.target if label == 1 else self.labels[label]

    def only(self, item_ids: Iterable[str]) -> Dataset:
        """The same data set with just the items of ``item_ids``, in the data set's order."""
        wanted = set(item_ids)
        kept = tuple(item for item in self.items if item.item_id in wanted)
        return Dataset(self.name, self.organ, self.target, self.labels, kept)


def read_dataset(folder: str | Path) -> Dataset:
    """Read a data set folder.

    Raises:
        DatasetError: the folder is in none of the layouts above, or a listed file is missing.
    """
    folder = Path(folder)
    if (folder / "dataset.json").is_file():
        return _read_protocol_layout(folder)
    if (folder / "Train" / "imgs").is_dir() or (folder / "Test" / "imgs").is_dir():
        return _read_sam2rad_layout(folder)
    raise DatasetError(
        folder,
        "no data set here: expected dataset.json with images/ and masks/ beside it, "
        "or Train/imgs and Train/gts; `usgseg export FOLDER --format png` writes the first, "
        "`usgseg datasets` makes it of public data sets and of train.CSV",
    )


def _read_protocol_layout(folder: Path) -> Dataset:
    path = folder / "dataset.json"
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        labels = {int(value): str(name) for value, name in card["labels"].items()}
        items = tuple(
            DatasetItem(
                item_id=str(entry["id"]),
                group=str(entry.get("group", entry["id"])),
                image_path=folder / "images" / f"{entry['id']}.png",
                mask_path=folder / "masks" / f"{entry['id']}.png",
                finding=entry.get("finding"),
                spacing_mm=entry.get("pixel_size_mm"),
            )
            for entry in card["items"]
        )
        dataset = Dataset(str(card["name"]), str(card["organ"]), str(card["target"]), labels, items)
    except (json.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(
            path,
            f"not a data set card ({type(error).__name__}: {error}); expected name, organ, "
            "target, labels and items with id and group",
        ) from error
    for item in dataset.items:
        for file in (item.image_path, item.mask_path):
            if not file.is_file():
                raise DatasetError(file, f"listed in {path.name} but missing")
    return dataset


def _read_sam2rad_layout(folder: Path) -> Dataset:
    items = []
    for part in ("Train", "Test"):
        for image in sorted((folder / part / "imgs").glob("*")):
            if image.suffix.lower() not in IMAGE_SUFFIXES:
                continue
            mask = next((folder / part / "gts").glob(f"{image.stem}.*"), None)
            if mask is None:
                raise DatasetError(image, f"no mask {image.stem}.* in {part}/gts")
            items.append(DatasetItem(f"{part}-{image.stem}", image.stem, image, mask))
    name = folder.name
    return Dataset(name, name, name.replace("_", " "), {1: name.replace("_", " ")}, tuple(items))


@dataclass(frozen=True, slots=True)
class Split:
    """Item ids of the three sides of a data set; no group is on two sides."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]


def split_by_group(dataset: Dataset, seed: int = 0, val: float = 0.10, test: float = 0.15) -> Split:
    """Split by group, deterministic from ``seed`` and independent of the order of items.

    Groups are ordered by a hash of seed, data set and group; groups go to the test side until it
    holds the fraction ``test`` of the items, then to the validation side, then to training. A data
    set of at least three groups has at least one of them on the test side.
    """

    def rank(group: str) -> str:
        return hashlib.sha256(f"{seed}/{dataset.name}/{group}".encode()).hexdigest()

    members: dict[str, list[str]] = {}
    for item in dataset.items:
        members.setdefault(item.group, []).append(item.item_id)
    sides: dict[str, list[str]] = {"test": [], "val": [], "train": []}
    total = len(dataset.items)
    for group in sorted(members, key=rank):
        side = "train"
        if len(members) >= 3 and len(sides["test"]) < test * total:
            side = "test"
        elif len(members) >= 10 and len(sides["val"]) < val * total:
            side = "val"
        sides[side].extend(members[group])
    return Split(*(tuple(sorted(sides[side])) for side in ("train", "val", "test")))


def write_splits(datasets: Iterable[Dataset], path: str | Path, seed: int = 0) -> None:
    """Write the splits of ``datasets`` as JSON: {"seed": ..., "datasets": {name: {side: ids}}}."""
    save_splits({dataset.name: split_by_group(dataset, seed) for dataset in datasets}, path, seed)


def save_splits(splits: Mapping[str, Split], path: str | Path, seed: int = 0) -> None:
    """Write splits that were made elsewhere, by the name of their data set."""
    sides = {
        name: {side: list(getattr(split, side)) for side in ("train", "val", "test")}
        for name, split in splits.items()
    }
    text = json.dumps({"schema": 1, "seed": seed, "datasets": sides}, indent=1)
    Path(path).write_text(text + "\n", encoding="utf-8")


def read_splits(path: str | Path) -> dict[str, Split]:
    """Read what ``write_splits`` wrote.

    Raises:
        DatasetError: the file is missing or not a split file.
    """
    try:
        card = json.loads(Path(path).read_text(encoding="utf-8"))
        return {
            name: Split(tuple(s["train"]), tuple(s["val"]), tuple(s["test"]))
            for name, s in card["datasets"].items()
        }
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise DatasetError(
            path,
            f"not a split file ({type(error).__name__}: {error}); "
            "benchmarks/make_splits.py writes one",
        ) from error
