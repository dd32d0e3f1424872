"""Data sets of NIfTI volumes: every slice with its label map is an image."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError
from ..io.images import to_rgb_uint8
from .source import Pair, SourceItem, files_in


@dataclass(frozen=True, slots=True)
class NiftiVolumes:
    """Pairs of volumes whose names belong together.

    Attributes:
        image: regular expression for the whole relative path of a volume, with the named groups
            ``id`` and, where there is one, ``side``.
        labels: name of its label volume in terms of the groups.
        words: what is expected.
        axis: along which slices are taken.
        channel: of a label volume (H, W, D, C), where it has several; 0 is the first.
        marked: only slices on which something is marked are taken.
        values: label value in the volume -> label value here; {} takes whatever is not 0 as 1.
        known_from: see ``Layout``.
        sides: the data set's word for a side -> "train", "val" or "test".
        turned: slices are turned by 90 degrees, for NIfTI's first axis goes from left to right.
    """

    image: str
    labels: str
    words: str
    axis: int = 2
    channel: int = 0
    marked: bool = True
    values: Mapping[int, int] = field(default_factory=dict)
    known_from: str = ""
    sides: Mapping[str, str] = field(default_factory=dict)
    turned: bool = True

    def items(self, folder: Path) -> Iterator[SourceItem | Exception]:
        """See ``Layout``; a volume is a group. Label volumes are read here, images later."""
        pattern = re.compile(self.image, re.IGNORECASE)
        for file in files_in(folder):
            found = pattern.fullmatch(file)
            if found is None:
                continue
            words = {key: value or "" for key, value in found.groupdict().items()}
            mask = folder / self.labels.format(**words)
            if not mask.is_file():
                wanted = mask.relative_to(folder).as_posix()
                yield DatasetError(folder / file, f"has no label volume: expected {wanted}")
                continue
            try:
                values = self._label_values(mask)
                shape = _load(folder / file).shape[:3]
                if tuple(values.shape) != tuple(shape):
                    raise DatasetError(
                        mask, f"is {values.shape}, its volume {shape}; repair or remove the pair"
                    )
            except DatasetError as error:
                yield error
                continue
            slices = range(values.shape[self.axis])
            counted = values.any(axis=tuple(a for a in range(3) if a != self.axis))
            for number in slices:
                if self.marked and not counted[number]:
                    continue
                read = partial(self._read, folder / file, mask, number)
                case = re.sub(r"[^\w\-]+", "_", words["id"])
                side = self.sides.get(words.get("side", "").lower())
                yield SourceItem(f"{case}_{number:03d}", case, file, read, side=side)

    def _label_values(self, path: Path) -> NDArray[np.uint8]:
        volume = np.asanyarray(_load(path).dataobj)
        if volume.ndim == 4:
            volume = volume[..., self.channel]
        if not self.values:
            return (volume > 0).astype(np.uint8)
        labels = np.zeros(volume.shape, np.uint8)
        for there, here in self.values.items():
            labels[np.rint(volume) == there] = here
        return labels

    def _read(self, image: Path, mask: Path, number: int) -> Pair:
        pixels = np.take(np.asanyarray(_load(image).dataobj), number, self.axis)
        labels = np.take(self._label_values(mask), number, self.axis)
        if self.turned:
            pixels, labels = pixels.T, labels.T
        return to_rgb_uint8(np.ascontiguousarray(pixels)), np.ascontiguousarray(labels)


def _load(path: Path):  # type: ignore[no-untyped-def]
    import nibabel

    try:
        return nibabel.load(path)
    except (OSError, ValueError, EOFError, nibabel.filebasedimages.ImageFileError) as error:
        raise DatasetError(path, f"cannot be read as NIfTI ({error}); download it again") from error
