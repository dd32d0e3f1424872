"""Formats "png", "png-color" and "png-classes": label maps and masks as PNG files.

"png" is the layout that evaluate and train read:

    images/<id>.png   masks/<id>.png     label maps of class numbers
    instances/<id>.png                   16 bits: class number * 1000 + n, where told apart
    classes.json      dataset.json

Label maps alone come in too, in a folder or a single one: one that another program made has the
name of its image. The other two hold classes, no objects; a class's folder has its name, made safe
(``io.names``):

    images/<id>.png  masks/<id>.png           in the classes' colours, background black
    images/<id>.png  masks/<class>/<id>.png   255 where the class is, 0 elsewhere
    classes.json                              numbers, names and colours
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...core.errors import DatasetError
from ...core.types import LabelClass
from .. import datasets
from ..images import card_entry
from ..labels import (
    CLASSES_FILE,
    PALETTE,
    default_color,
    read_classes,
    read_labels,
    rgb_of,
    values_in,
    write_classes,
    write_png,
)
from ..masks import as_labels, black_and_white, fitted, read_colors, read_mask_file
from ..names import safe_file_names
from ..outputs import OutputFolder
from ..search import IMAGE_SUFFIXES
from .objects import (
    colors_of,
    files_below,
    folder_of,
    holds,
    image_entry,
    names_of,
    objects_in,
    own_classes,
    pack,
    unpacked,
    write_picture,
)
from .records import Entry, ExportAbout, ExportImage, LabelledImage, LabelledObject, LabelSet

INSTANCES = "instances"
MOST_VALUES = 64
"""A picture of more values is no label map."""


def write_image(folder: OutputFolder, item: ExportImage) -> Entry:
    """Write the image, its label map, and its objects' codes where there are any."""
    datasets.write_pair(folder.root, item.file_name, item.image, item.labels, folder.write)
    if item.codes is not None:
        path = folder.root / INSTANCES / f"{item.file_name}.png"
        write_png(path, item.codes.astype("uint16"), folder.write)  # also where all are 0
    return datasets.image_entry(
        item.image_id,
        item.group,
        item.labels,
        source=item.source,
        pixel_size_mm=card_entry(item.spacing_mm),
    )


def write_card(folder: OutputFolder, about: ExportAbout, entries: Sequence[Entry]) -> None:
    """Write ``classes.json`` and ``dataset.json``."""
    write_classes(folder.root / CLASSES_FILE, about.classes, folder.write)
    datasets.write_card(
        folder.root,
        folder.write,
        name=about.name,
        organ=about.organ,
        target=about.target,
        labels=about.labels,
        items=entries,
        labelling=about.labelling,
        more={"licence": about.licence} if about.licence else None,
    )


def recognises(path: Path) -> bool:
    """A folder with a card that has items, Sam2Rad's layout, or the card itself."""
    folder = folder_of(path, datasets.DATASET_CARD)
    card = folder / datasets.DATASET_CARD
    return holds(card, b'"items"') if card.is_file() else datasets.is_dataset(folder)


def read(path: Path) -> LabelSet:
    """The items of a data set; label maps alone where there is no card."""
    folder = folder_of(path, datasets.DATASET_CARD)
    if not recognises(folder):
        return read_maps(path)
    found = datasets.read_dataset(folder)
    told_apart = (folder / INSTANCES).is_dir()
    classes = [LabelClass(v, n, default_color(v)) for v, n in sorted(found.labels.items())]

    def image(item: datasets.DatasetItem) -> LabelledImage:
        def objects(size_hw: tuple[int, int]) -> Sequence[LabelledObject]:
            labels = datasets.read_mask(item, size_hw)
            codes = folder / INSTANCES / item.mask_path.name
            if not codes.is_file():
                return objects_in(item.mask_path, labels, "semantic")
            return objects_in(codes, fitted(codes, read_labels(codes), size_hw), "instance")

        return LabelledImage(item.mask_path, (item.item_id, item.image_path.name), objects)

    images = [image(item) for item in found.items]
    return LabelSet(images, own_classes(folder / CLASSES_FILE, classes), told_apart)


def read_maps(path: Path) -> LabelSet:
    """Label maps in a folder, or a single one; ``classes.json`` beside them names the values.

    Raises:
        DatasetError: there is none.
    """
    folder = path if path.is_dir() else path.parent
    files = files_below(path, *IMAGE_SUFFIXES) if path.is_dir() else [path]
    try:
        classes = {item.class_id: item for item in read_classes(folder / CLASSES_FILE)}
    except DatasetError:
        classes = {}
    named = bool(classes)
    usable, odd = [], 0
    for file in files:
        try:
            values = np.unique(read_mask_file(file).values)
        except (DatasetError, OSError):
            odd += 1
            continue
        if not named and (len(values) > MOST_VALUES):
            odd += 1
            continue
        usable.append((file, values))
    if not usable:
        raise DatasetError(path, "holds no label map: expected grey PNG files of class numbers")
    if not named:
        numbers = sorted({int(v) for _, values in usable for v in values if v == int(v) > 0})
        numbers = [1] if numbers == [255] else numbers
        classes = {v: LabelClass(v, f"label {v}", default_color(v)) for v in numbers}

    def image(file: Path) -> LabelledImage:
        def objects(size_hw: tuple[int, int]) -> Sequence[LabelledObject]:
            labels: Any = as_labels(file, read_mask_file(file), sorted(classes))
            return objects_in(file, fitted(file, labels, size_hw), "semantic")

        name = file.relative_to(folder).as_posix()
        return LabelledImage(file, (name, file.name), objects)

    notes = (f"{odd} files are no label maps and were left out",) if odd else ()
    images = [image(file) for file, _ in usable]
    return LabelSet(images, list(classes.values()), told_apart=False, notes=notes)


# In colours, or a file for each class

MASKS = "masks"


@dataclass(frozen=True, slots=True)
class Pictures:
    """The format, in colours or with a file for each class."""

    colors: bool

    def write_image(self, folder: OutputFolder, item: ExportImage) -> Entry:
        """Write the image; its masks follow with the card, which knows all classes."""
        write_picture(folder, "images", item)
        return image_entry(item) | {"labels": pack(item.labels)}

    def write_card(
        self, folder: OutputFolder, about: ExportAbout, entries: Sequence[Entry]
    ) -> None:
        """Write the masks and ``classes.json``; classes of one colour get colours of their own."""
        names, colors = names_of(about), _distinct(colors_of(about))
        parts = safe_file_names(names.values())
        for entry in entries:
            labels, file = unpacked(entry), f"{entry['file']}.png"
            if self.colors:
                drawn = np.zeros((*labels.shape, 3), np.uint8)
                for value in values_in(labels):
                    drawn[labels == value] = rgb_of(colors[value])
                encoded = BytesIO()
                Image.fromarray(drawn).save(encoded, "PNG")
                folder.write(folder.root / MASKS / file, encoded.getvalue())
                continue
            for value, name in names.items():
                mask = (labels == value).astype(np.uint8) * 255
                write_png(folder.root / MASKS / parts[name] / file, mask, folder.write)
        classes = [LabelClass(value, name, colors[value]) for value, name in names.items()]
        write_classes(folder.root / CLASSES_FILE, classes, folder.write)

    def recognises(self, path: Path) -> bool:
        """A folder with masks/ and ``classes.json``; of its masks, whether they are in folders."""
        if not (path / MASKS).is_dir() or not (path / CLASSES_FILE).is_file():
            return False
        files = files_below(path / MASKS, *IMAGE_SUFFIXES)
        return bool(files) and (files[0].parent == path / MASKS) is self.colors

    def read(self, path: Path) -> LabelSet:
        """All classes of each image."""
        classes = read_classes(path / CLASSES_FILE)
        folders = safe_file_names(item.name for item in classes)
        files = files_below(path / MASKS, *IMAGE_SUFFIXES)
        names = dict.fromkeys(file.name for file in files)
        if not names:
            raise DatasetError(path, f"no masks here: expected them in {MASKS}/")

        def image(name: str) -> LabelledImage:
            place = path / MASKS / name

            def colored(size_hw: tuple[int, int]) -> Sequence[LabelledObject]:
                pixels = fitted(place, read_colors(place), size_hw)
                pixels = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
                unknown, found = pixels.any(-1), []
                for item in classes:
                    mask = (pixels == rgb_of(item.color)).all(-1)
                    unknown &= ~mask
                    if mask.any():
                        found.append(LabelledObject(item.class_id, mask))
                if unknown.any():
                    raise DatasetError(place, f"has colours that {CLASSES_FILE} does not name")
                return found

            def parted(size_hw: tuple[int, int]) -> Sequence[LabelledObject]:
                found = []
                for item in classes:
                    file = path / MASKS / folders[item.name] / name
                    if not file.is_file():
                        continue
                    values = fitted(file, read_mask_file(file).values, size_hw)
                    mask = black_and_white(values) if values.any() else values > 0
                    if mask is None:
                        raise DatasetError(file, "is no mask of one class in black and white")
                    if mask.any():
                        found.append(LabelledObject(item.class_id, mask))
                return found

            return LabelledImage(place, (name,), colored if self.colors else parted)

        return LabelSet([image(name) for name in names], classes, told_apart=False)


COLORS, CLASSES = Pictures(colors=True), Pictures(colors=False)


def _distinct(colors: dict[int, str]) -> dict[int, str]:
    """The colours, changed where two classes have one, or one has the background's black."""
    used, made = {"#000000"}, {}
    for value, color in colors.items():
        spare = (f"#{(int(base[1:], 16) + 0x010305 * turn) % 0x1000000:06x}"
                 for turn in range(256) for base in (color, *PALETTE))  # fmt: skip
        made[value] = next(each for each in spare if each.lower() not in used)
        used.add(made[value].lower())
    return made
