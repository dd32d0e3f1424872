"""Label maps as PNG files: what the history makes, where every other program can read it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import numpy as np

from ..core.errors import DatasetError, ImageReadError, LabelWriteError
from ..core.types import ImageRecord
from ..io.atomic import write_atomically, write_over
from ..io.labels import STEP, write_labels
from ..io.masks import as_labels, read_mask_file, whole_numbers
from ..io.names import safe_file_name
from ..io.notes import remark
from .records import LabelMap

NEW_CLASSES = 20
"""More values that are no classes are no label map, but greys."""

Fingerprint = tuple[int, int]
"""When a file was written last (ns), and how many bytes it has."""


class LabelFiles:
    """The label files of one annotator.

        labels/<image_id>.png                 of the first annotator
        labels/by-<name>/<image_id>.png       of another
        labels/backup/<image_id>.<time>.png   versions that another program wrote meanwhile

    Args:
        root: of the project.
        annotator: "" for the first.
    """

    def __init__(self, root: Path, annotator: str) -> None:
        self.folder = root / "labels" / f"by-{annotator}" if annotator else root / "labels"

    def path(self, image_id: str) -> Path:
        """Where the label map of an image is, or will be; never outside of the folder."""
        inside = Path(image_id).name == image_id
        return self.folder / f"{image_id if inside else safe_file_name(image_id)}.png"

    def fingerprint(self, image_id: str) -> Fingerprint | None:
        """Of the file as it is now; None where there is none."""
        try:
            status = self.path(image_id).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return status.st_mtime_ns, status.st_size

    def fingerprints(self) -> dict[str, Fingerprint]:
        """Of all label files."""
        found: dict[str, Fingerprint] = {}
        if not self.folder.is_dir():
            return found
        with os.scandir(self.folder) as entries:
            for entry in entries:
                stem, suffix = os.path.splitext(entry.name)
                if suffix == ".png" and not stem.startswith(".") and entry.is_file():
                    status = entry.stat()
                    found[stem] = (status.st_mtime_ns, status.st_size)
        return found

    def clean(self) -> None:
        """Remove what a killed process left half written."""
        if self.folder.is_dir():
            for path in self.folder.glob(".*.tmp"):
                with suppress(OSError):
                    path.unlink()

    def read(self, record: ImageRecord, classes: Sequence[int]) -> LabelMap:
        """The label map that another program wrote, by the rules of ``io.masks``.

        A few values that are no classes are taken, and said: each becomes a class.

        Args:
            record: of the image.
            classes: numbers of the project's classes; [] where it has none yet: all are taken.

        Raises:
            ImageReadError: it is damaged, of another size than the image, or holds greys that are
                no numbers of classes.
        """
        path = self.path(record.image_id)
        mask = read_mask_file(path)
        values = np.unique(mask.values)
        known = {*classes, *(int(v) for v in values if v >= STEP and v // STEP in classes)}
        try:
            labels = as_labels(path, mask, sorted(known))
        except DatasetError as error:
            strange = [f"{value:g}" for value in values if value not in (0, *known)]
            numbers = whole_numbers(mask.values)
            if numbers is None or mask.lossy or len(strange) > NEW_CLASSES:
                raise ImageReadError(path, error.cause) from error
            listed = ", ".join(strange)
            remark(path, f"holds values that are no classes yet, {listed}; now they are")
            labels = numbers
        if labels.shape != record.size_hw:
            raise self.another_size(record, labels)
        return labels

    def another_size(self, record: ImageRecord, labels: LabelMap) -> ImageReadError:
        """The error that says that a label map does not fit its image."""
        return ImageReadError(
            self.path(record.image_id),
            f"a label map of {labels.shape[1]} x {labels.shape[0]} pixels, but the image "
            f"{record.path.name} has {record.size_hw[1]} x {record.size_hw[0]}; move the file "
            "away, or put back the image that it was made on",
        )

    def write(self, image_id: str, labels: LabelMap | None) -> Fingerprint | None:
        """Write a label map atomically, or remove the file where ``labels`` is None.

        Raises:
            LabelWriteError: the folder cannot be written.
        """
        path = self.path(image_id)
        if labels is not None:
            write_labels(path, labels, write_over)
            return self.fingerprint(image_id)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise LabelWriteError(
                path, f"cannot be removed ({error.strerror or error}); remove it by hand"
            ) from error
        return None

    def keep(self, image_id: str) -> Path:
        """Copy the file away, for it is another program's version.

        Raises:
            LabelWriteError: it cannot be read or copied.
        """
        path = self.path(image_id)
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
        backup = self.folder / "backup" / f"{path.stem}.{stamp}.png"
        try:
            write_atomically(backup, path.read_bytes())
        except OSError as error:
            raise LabelWriteError(
                path,
                "was changed by another program and cannot be read "
                f"({error.strerror or error}); move it away and save again",
            ) from error
        return backup
