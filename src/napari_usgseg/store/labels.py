"""Label maps as PNG files: what the history makes, where every other program can read it."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from ..errors import ImageReadError, LabelWriteError
from ..io.atomic import write_atomically, write_over
from ..io.labels import read_labels, write_labels
from ..io.names import safe_file_name
from ..types import ImageRecord
from .records import LabelMap

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

    def read(self, record: ImageRecord) -> LabelMap:
        """The label map as the file has it.

        Raises:
            ImageReadError: the file is damaged, or of another size than the image.
        """
        labels = read_labels(self.path(record.image_id))
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
