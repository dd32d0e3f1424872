"""Formats "png-color" and "png-classes": masks as pictures, in colours or one of each class.

    images/<id>.png  masks/<id>.png           in the classes' colours, background black
    images/<id>.png  masks/<class>/<id>.png   255 where the class is, 0 elsewhere
    classes.json                              numbers, names and colours

Both hold classes, no objects. A class's folder has its name, made safe (``io.names``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from ...core.errors import DatasetError
from ...core.types import LabelClass
from ..labels import (
    CLASSES_FILE,
    PALETTE,
    read_classes,
    rgb_of,
    values_in,
    write_classes,
    write_png,
)
from ..masks import black_and_white, fitted, read_colors, read_mask_file
from ..names import safe_file_names
from ..outputs import OutputFolder
from ..search import IMAGE_SUFFIXES
from .objects import (
    colors_of,
    files_below,
    image_entry,
    names_of,
    pack,
    unpacked,
    write_picture,
)
from .records import Entry, ExportAbout, ExportImage, LabelledImage, LabelledObject, LabelSet

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
