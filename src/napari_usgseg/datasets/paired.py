"""Data sets that keep each image and its masks as picture files whose names belong together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ..errors import DatasetError
from ..io.images import read_image
from ..types import BoolArray
from .source import Pair, SourceItem, files_in

Marked = Literal["bright", "dark", "outline"]
"""How a mask picture marks an object: above half grey, below it, or by its closed outline."""

GREY = 127


@dataclass(frozen=True, slots=True)
class PairedFiles:
    """Names of images and of their masks.

    Attributes:
        image: regular expression for the whole relative path of an image, with named groups: ``id``
            and, where there are such, ``patient``, ``finding`` and ``side``.
        masks: label value -> pattern of its mask files (``fnmatch``), in which ``{id}`` and the
            other groups stand for what ``image`` found; several files become one mask.
        colors: label value -> RGB colours, where one colour picture (``masks[1]``) shows all.
        marked: see ``Marked``.
        name: the id of an image, in terms of the groups.
        empty_findings: findings whose images have no mask file.
        patient: what groups of ``image`` name the patient, as a format; "" where none is known.
        sides: the data set's word for a side -> "train", "val" or "test".
        words: what is expected.
        known_from: see ``Layout``.
    """

    image: str
    masks: Mapping[int, str]
    words: str
    known_from: str = ""
    colors: Mapping[int, tuple[tuple[int, int, int], ...]] = field(default_factory=dict)
    marked: Marked = "bright"
    name: str = "{id}"
    empty_findings: tuple[str, ...] = ()
    patient: str = ""
    sides: Mapping[str, str] = field(default_factory=dict)

    def items(self, folder: Path) -> Iterator[SourceItem | Exception]:
        """See ``Layout``; an image without its mask is an error."""
        files = files_in(folder)
        by_parent: dict[str, list[str]] = {}
        for file in files:
            by_parent.setdefault(file.rpartition("/")[0], []).append(file)
        pattern = re.compile(self.image, re.IGNORECASE)
        for file in files:
            found = pattern.fullmatch(file)
            if found is None:
                continue
            words = {key: value or "" for key, value in found.groupdict().items()}
            masks = {
                label: _matching(_filled(mask, words), by_parent)
                for label, mask in self.masks.items()
            }
            finding = words.get("finding", "").lower() or None
            if not any(masks.values()) and finding not in self.empty_findings:
                wanted = " or ".join(mask.format(**words) for mask in self.masks.values())
                yield DatasetError(folder / file, f"has no mask: expected {wanted} beside it")
                continue
            item_id = re.sub(r"[^\w\-]+", "_", self.name.format(**words)).strip("_")
            yield SourceItem(
                item_id=item_id,
                group=self.patient.format(**words) if self.patient else item_id,
                source=file,
                read=partial(self._read, folder, file, masks),
                finding=finding,
                side=self.sides.get(words.get("side", "").lower()),
            )

    def _read(self, folder: Path, file: str, masks: Mapping[int, list[str]]) -> Pair:
        image = read_image(folder / file)
        labels = np.zeros(image.shape[:2], np.uint8)
        for label, names in masks.items():
            for name in names:
                pixels = _picture(folder / name)
                if pixels.shape[:2] != labels.shape:
                    raise DatasetError(
                        folder / name,
                        f"is {pixels.shape[1]}x{pixels.shape[0]} pixels, its image "
                        f"{labels.shape[1]}x{labels.shape[0]}; repair or remove the pair",
                    )
                if self.colors:
                    for value, shades in self.colors.items():
                        labels[_near(pixels, shades)] = value
                else:
                    labels[marked(pixels, self.marked)] = label
        return image, labels


def marked(pixels: NDArray[np.uint8], how: Marked) -> BoolArray:
    """The object (H, W) bool that a mask picture (H, W, 3) marks."""
    from scipy import ndimage

    grey = pixels.max(axis=2)
    if how == "dark":
        return grey <= GREY
    # Masks of 0 and 1, or of 0 and a label's number, are as common as those of 0 and 255.
    bright = grey > (GREY if grey.max() > GREY else 0)
    if how == "outline":
        return np.asarray(ndimage.binary_fill_holes(bright), bool)
    return bright


def _near(pixels: NDArray[np.uint8], shades: tuple[tuple[int, int, int], ...]) -> BoolArray:
    """Pixels that are nearer to one of the colours than half grey in every channel."""
    near = np.zeros(pixels.shape[:2], bool)
    for shade in shades:
        near |= (np.abs(pixels.astype(np.int16) - shade) <= GREY // 2).all(axis=2)
    return near


def _filled(pattern: str, words: Mapping[str, str]) -> str:
    """``pattern`` with the groups in place, their own brackets taken literally."""
    literal = {key: re.sub(r"([*?\[])", r"[\1]", value) for key, value in words.items()}
    return pattern.format(**literal)


def _matching(pattern: str, by_parent: Mapping[str, list[str]]) -> list[str]:
    """Files of one folder that match; suffixes in any case."""
    parent = re.sub(r"\[([*?\[])\]", r"\1", pattern.rpartition("/")[0])
    wanted = pattern.lower()
    return [file for file in by_parent.get(parent, ()) if fnmatchcase(file.lower(), wanted)]


def _picture(path: Path) -> NDArray[np.uint8]:
    """A mask picture as (H, W, 3) uint8; palettes are taken as colours."""
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise DatasetError(path, f"cannot be read as a mask ({error}); download it again") from error
