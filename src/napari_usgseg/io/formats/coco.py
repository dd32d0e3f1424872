"""Formats "coco" and "coco-polygons": images/ and annotations.json, COCO instances.

    {"images": [{"id", "file_name", "width", "height", "group", "split"}],
     "annotations": [{"id", "image_id", "category_id", "segmentation", "bbox", "area", "iscrowd"}],
     "categories": [{"id", "name"}]}

A mask is run lengths, or polygons in which a hole is joined to the rim by a way there and back, so
that both give the same pixels in ``pycocotools``. An object without a segmentation comes in as its
box.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as run_lengths

from ...core.errors import DatasetError, readable
from ...core.types import BoolArray, LabelClass
from ..labels import MAX_LABEL, default_color, is_color
from ..outputs import OutputFolder
from .objects import (
    at_size,
    box_of,
    check_count,
    checked_number,
    checked_size,
    class_name,
    colors_of,
    holds,
    image_entry,
    malformed,
    objects_of,
    read_json,
    write_json,
    write_picture,
)
from .polygons import corner_rings, corners_mask, joined
from .records import Entry, ExportAbout, ExportImage, LabelledImage, LabelledObject, LabelSet

CARD = "annotations.json"


@dataclass(frozen=True, slots=True)
class Coco:
    """The format, with masks as run lengths or as polygons."""

    polygons: bool

    def write_image(self, folder: OutputFolder, item: ExportImage) -> Entry:
        """Write the image; its objects are in the entry."""
        file = write_picture(folder, "images", item)
        about = image_entry(item)
        image = {"file_name": file} | {k: v for k, v in about.items() if k not in ("file", "side")}
        image["split"] = about["side"]
        image.pop("id")
        return {"image": image, "annotations": [self._object(*each) for each in objects_of(item)]}

    def _object(self, class_id: int, mask: BoolArray) -> Entry:
        # order="F": pycocotools counts runs down the columns, and refuses an array in any other
        # order.
        runs = run_lengths.encode(mask.astype("uint8", order="F"))
        segmentation: Any = {"size": list(mask.shape), "counts": runs["counts"].decode()}
        if self.polygons:
            rims = [joined(outer, holes) for outer, holes in corner_rings(mask)]
            segmentation = [rim.ravel().tolist() for rim in rims]
        return {
            "category_id": class_id,
            "segmentation": segmentation,
            "bbox": run_lengths.toBbox(runs).tolist(),
            "area": int(mask.sum()),
            "iscrowd": 0,
        }

    def write_card(
        self, folder: OutputFolder, about: ExportAbout, entries: Sequence[Entry]
    ) -> None:
        """Number images and objects, name the classes, write ``annotations.json``."""
        images = [{"id": number, **entry["image"]} for number, entry in enumerate(entries, start=1)]
        objects = [
            {"image_id": number, **each}
            for number, entry in enumerate(entries, start=1)
            for each in entry["annotations"]
        ]
        colors = colors_of(about)
        licences = [{"id": 1, "name": about.licence, "url": ""}] if about.licence else []
        info = {"description": about.name, "organ": about.organ, "target": about.target}
        card = {
            "info": info | {"labelling": about.labelling},
            "licenses": licences,
            "categories": [
                {"id": value, "name": name, "supercategory": about.organ, "color": colors[value]}
                for value, name in sorted(about.labels.items())
            ],
            "images": images,
            "annotations": [{"id": number, **each} for number, each in enumerate(objects, start=1)],
        }
        write_json(folder, CARD, card)

    def recognises(self, path: Path) -> bool:
        """A JSON file with images and annotations, or a folder with one."""
        return _card(path) is not None

    def read(self, path: Path) -> LabelSet:
        """All images of the card, whatever kind of segmentation each object has."""
        return _read(path)


RUN_LENGTHS, POLYGONS = Coco(polygons=False), Coco(polygons=True)
write_image, write_card = RUN_LENGTHS.write_image, RUN_LENGTHS.write_card
recognises, read = RUN_LENGTHS.recognises, RUN_LENGTHS.read


def _card(path: Path) -> Path | None:
    places = [path] if path.is_file() else [path / CARD, *sorted(path.glob("*.json"))]
    places += [] if path.is_file() else sorted(path.glob("annotations/*.json"))
    found = (place for place in places if place.suffix.lower() == ".json" and place.is_file())
    return next((each for each in found if holds(each, b'"images"', b'"annotations"')), None)


def _read(path: Path) -> LabelSet:
    card_path = _card(path)
    if card_path is None:
        raise DatasetError(path, "no COCO file here: expected JSON with images and annotations")
    card = read_json(card_path)
    with malformed(card_path, "is no COCO file; expected images, annotations and categories"):
        classes = _classes(card_path, card["categories"])
        numbers = {int(item["id"]): index for index, item in enumerate(card["categories"])}
        by_image: dict[Any, list[Any]] = defaultdict(list)
        for each in card["annotations"]:
            by_image[each["image_id"]].append(each)
        rows = [(image, by_image.get(image["id"], [])) for image in card["images"]]
        names = [(str(image["file_name"]), Path(str(image["file_name"])).name) for image, _ in rows]
        info = card.get("info")
        told_apart = not isinstance(info, dict) or info.get("labelling") != "semantic"
    found = [
        LabelledImage(card_path, each, _reader(card_path, image, objects, numbers, classes))
        for each, (image, objects) in zip(names, rows, strict=True)
    ]
    return LabelSet(found, classes, told_apart)


def _classes(path: Path, categories: Any) -> list[LabelClass]:
    """The categories, numbered as they are where that can be a label map's value."""
    ids = [int(item["id"]) for item in categories]
    if len(set(ids)) < len(ids):
        raise DatasetError(path, "two categories have one id; give each its own")
    # A category 0 would be background here; then all are numbered anew.
    keep = all(1 <= number <= MAX_LABEL for number in ids)
    made = []
    for index, item in enumerate(categories, start=1):
        number = int(item["id"]) if keep else index
        made.append(LabelClass(number, class_name(item["name"], number), _color(item, number)))
    return made


def _color(item: Any, number: int) -> str:
    color = str(item.get("color", ""))
    return color if is_color(color) else default_color(number)


def _reader(
    path: Path, image: Any, objects: list[Any], numbers: dict[int, int], classes: list[LabelClass]
) -> Any:
    """What reads the objects of one image."""

    def read_objects(size_hw: tuple[int, int]) -> list[LabelledObject]:
        found = []
        with malformed(path, f"{readable(image['file_name'])}: an annotation that is none"):
            own = (image.get("height", size_hw[0]), image.get("width", size_hw[1]))
            own = checked_size(path, own, size_hw)
            check_count(path, len(objects), size_hw)
            for each in objects:
                class_id = classes[numbers[checked_number(path, each["category_id"])]].class_id
                found.append(_object(path, each, class_id, own, size_hw))
        return found

    return read_objects


def _object(
    path: Path, each: Any, class_id: int, own: tuple[int, int], size_hw: tuple[int, int]
) -> LabelledObject:
    segmentation = each.get("segmentation")
    if not segmentation:
        x, y, width, height = (float(side) * size_hw[1] / own[1] for side in each["bbox"])
        # COCO's box is corner and size; here the last pixel is inside.
        return LabelledObject(class_id, None, box_of([x, y, x + width - 1, y + height - 1]))
    if isinstance(segmentation, dict):
        mask = _of_runs(segmentation, own)
    else:
        mask = corners_mask(segmentation, own)
    return LabelledObject(class_id, at_size(path, mask, size_hw))


def _of_runs(segmentation: Any, own: tuple[int, int]) -> BoolArray:
    """The mask of run lengths, which must fill the image exactly.

    Raises:
        ValueError: they do not.
    """
    if [int(side) for side in segmentation["size"]] != list(own):
        raise ValueError(f"run lengths of size {segmentation['size']}, the image has {list(own)}")
    counts = segmentation["counts"]
    runs = _lengths(counts) if isinstance(counts, str) else [int(count) for count in counts]
    if min(runs, default=0) < 0 or sum(runs) != own[0] * own[1]:
        raise ValueError("run lengths that do not fill the image")
    values = np.arange(len(runs)) % 2 == 1
    # Runs go down the columns.
    return np.repeat(values, runs).reshape(own[::-1]).T.copy()


def _lengths(text: str) -> list[int]:
    """The numbers in COCO's compressed run lengths: five bits a sign, later ones differences.

    ``pycocotools`` reads the same, without looking where it ends.
    """
    runs: list[int] = []
    value = shift = 0
    for sign in text.encode("ascii"):
        bits = sign - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("run lengths with signs that are none")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("run lengths that were cut off")
    return runs
