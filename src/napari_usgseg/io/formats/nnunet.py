"""Format "nnunet": nnU-Net v2's raw data, PNG files of one grey channel.

    imagesTr/<id>_0000.png  labelsTr/<id>.png   the sides train and val
    imagesTs/<id>_0000.png  labelsTs/<id>.png   the side test, which nnU-Net leaves alone
    dataset.json            splits_final.json   five folds by patient, for nnUNet_preprocessed

nnU-Net wants label values without gaps, so class numbers are counted anew; ``dataset.json`` keeps
the old ones under "usgseg".
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...core.errors import DatasetError, readable
from ...core.types import LabelClass
from ..labels import default_color, read_labels, write_png
from ..masks import fitted
from ..outputs import OutputFolder
from .objects import (
    checked_number,
    class_name,
    files_below,
    folder_of,
    holds,
    image_entry,
    malformed,
    names_of,
    numbered,
    objects_in,
    pack,
    read_json,
    unpacked,
    write_json,
)
from .records import Entry, ExportAbout, ExportImage, LabelledImage, LabelledObject, LabelSet

CARD = "dataset.json"
FOLDS = 5
RESERVED = ("background", "ignore")
"""Names that mean no class."""
ENDINGS = (".png", ".bmp", ".tif", ".tiff")


def write_image(folder: OutputFolder, item: ExportImage) -> Entry:
    """Write the image in grey; its labels follow with the card, which knows the classes' places."""
    image = np.asarray(Image.fromarray(item.image).convert("L"))
    part = "Ts" if item.side == "test" else "Tr"
    write_png(folder.root / f"images{part}" / f"{item.file_name}_0000.png", image, folder.write)
    return image_entry(item) | {"part": part, "labels": pack(item.labels)}


def write_card(folder: OutputFolder, about: ExportAbout, entries: Sequence[Entry]) -> None:
    """Write the labels, the folds and ``dataset.json``."""
    places = {value: place + 1 for value, place in numbered(about).items()}
    kind = np.uint8 if len(places) < 256 else np.uint16
    table = np.zeros(max(places, default=0) + 1, kind)
    for value, place in places.items():
        table[value] = place
    for entry in entries:
        labels = unpacked(entry)
        path = folder.root / f"labels{entry['part']}" / f"{entry['file']}.png"
        write_png(path, table[labels], folder.write)
    training = [entry for entry in entries if entry["part"] == "Tr"]
    write_json(folder, "splits_final.json", _folds(about.name, training), indent=1)
    named = names_of(about, *RESERVED)
    names = {"background": 0} | {named[value]: place for value, place in places.items()}
    content: dict[str, Any] = {
        "channel_names": {"0": "ultrasound"},
        "labels": names,
        "numTraining": len(training),
        "file_ending": ".png",
        "overwrite_image_reader_writer": "NaturalImage2DIO",
        "name": about.name,
        "licence": about.licence or "not stated",
        "usgseg": {"class_numbers": {str(place): value for value, place in places.items()}},
    }
    write_json(folder, CARD, content, indent=1)


def _folds(name: str, entries: Sequence[Entry]) -> list[dict[str, list[str]]]:
    """Folds in which no group is on both sides; one where there are too few groups."""
    groups = sorted(
        {entry["group"] for entry in entries},
        key=lambda group: hashlib.sha256(readable(f"{name}/{group}").encode()).hexdigest(),
    )
    count = min(FOLDS, len(groups))
    of = {group: index % max(count, 1) for index, group in enumerate(groups)}
    folds = []
    for fold in range(count):
        held = [entry["file"] for entry in entries if of[entry["group"]] == fold]
        rest = [entry["file"] for entry in entries if of[entry["group"]] != fold]
        folds.append({"train": sorted(rest) or sorted(held), "val": sorted(held)})
    return folds


def recognises(path: Path) -> bool:
    """A folder whose ``dataset.json`` names channels, or that file."""
    folder = folder_of(path, CARD)
    return (folder / CARD).is_file() and holds(folder / CARD, b'"file_ending"', b'"labels"')


def read(path: Path) -> LabelSet:
    """The labels of both parts."""
    folder = folder_of(path, CARD)
    place = folder / CARD
    card = read_json(place)
    with malformed(place, "is no card of nnU-Net v2"):
        ending = str(card["file_ending"]).lower()
        own = card.get("usgseg", {}).get("class_numbers", {})
        numbers = {}
        for name, value in card["labels"].items():
            if isinstance(value, list):
                raise DatasetError(place, "has regions of several labels; write it without")
            if (number := checked_number(place, value)) and name != "ignore":
                value = checked_number(place, own.get(str(number), number))
                numbers[number] = LabelClass(value, class_name(name, value), default_color(value))
    if ending not in ENDINGS:
        raise DatasetError(
            place,
            f"its files end in {ending}; expected one of {', '.join(ENDINGS)}: give the folder "
            "labelsTr itself for volumes",
        )
    places = [folder / part for part in ("labelsTr", "labelsTs") if (folder / part).is_dir()]
    files = [file for place in places for file in files_below(place, ending)]
    if not files:
        raise DatasetError(folder, "no labels here: expected labelsTr/<case>.png")

    def image(file: Path) -> LabelledImage:
        def objects(size_hw: tuple[int, int]) -> Sequence[LabelledObject]:
            labels = fitted(file, read_labels(file), size_hw)
            found = objects_in(file, labels, "semantic")
            known = (item for item in found if item.class_id in numbers)
            return [LabelledObject(numbers[each.class_id].class_id, each.mask) for each in known]

        return LabelledImage(file, (file.stem, f"{file.stem}_0000"), objects)

    return LabelSet([image(file) for file in files], list(numbers.values()), told_apart=False)
