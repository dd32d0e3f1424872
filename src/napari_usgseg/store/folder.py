"""Labels beside the images of a folder.

    <folder>/usgseg/labels/<image_id>.png     label maps, 0 background
    <folder>/usgseg/labels/backup/            versions that somebody else wrote meanwhile
    <folder>/usgseg/classes.json              the classes
    <folder>/usgseg/state.json                what was skipped, settings, the last image

Every file is replaced through a temporary file and a rename, so none is ever torn.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError, ImageReadError, LabelWriteError
from ..io.atomic import write_atomically
from ..io.images import frame_count, image_files, image_size, read_image
from ..io.labels import read_classes, read_labels, write_classes, write_labels
from ..types import ImageRecord, LabelClass
from .base import ImageState, LabelMap, SaveReport

LABEL_FOLDER = "usgseg"
Fingerprint = tuple[int, int] | None


class FolderStore:
    """A folder of images and what a person made of them.

    Args:
        folder: of images; where it has none itself but has an ``images`` folder, that one.
        labels_root: where to keep labels; None is ``usgseg`` inside the folder.

    Raises:
        DatasetError: the folder does not exist, or there is no image in it.
    """

    def __init__(self, folder: str | Path, labels_root: str | Path | None = None) -> None:
        self.folder, files = _find_images(Path(folder))
        self.root = Path(labels_root) if labels_root is not None else self.folder / LABEL_FOLDER
        records: list[ImageRecord] = []
        problems: list[str] = []
        for image_id, path in zip(unique_ids(files), files, strict=True):
            try:
                records.extend(_records(image_id, path))
            except ImageReadError as error:
                problems.append(str(error))
        self._records = tuple(records)
        self._problems = tuple(problems)
        self._known: dict[str, Fingerprint] = {}
        self._state = self._read_state()

    @property
    def name(self) -> str:
        """The folder's name; the data set's where the images are in its ``images`` folder."""
        return self.folder.parent.name if self.folder.name == "images" else self.folder.name

    @property
    def cache_folder(self) -> Path | None:
        """Where what can be made anew may be kept."""
        return self.root / "cache"

    @property
    def records(self) -> tuple[ImageRecord, ...]:
        """The readable images in natural order."""
        return self._records

    @property
    def problems(self) -> tuple[str, ...]:
        """One sentence for each file that is no readable image."""
        return self._problems

    def label_path(self, image_id: str) -> Path:
        """Where the label map of an image is, or will be."""
        return self.root / "labels" / f"{image_id}.png"

    def states(self) -> dict[str, ImageState]:
        """Committed where there is a label map, skipped where a person said so."""
        folder = self.root / "labels"
        labelled = {path.stem for path in folder.glob("*.png")} if folder.is_dir() else set()
        skipped = set(self._state["skipped"])

        def state(image_id: str) -> ImageState:
            if image_id in labelled:
                return ImageState.COMMITTED
            return ImageState.SKIPPED if image_id in skipped else ImageState.UNTOUCHED

        return {record.image_id: state(record.image_id) for record in self._records}

    def classes(self) -> tuple[LabelClass, ...]:
        """The classes of ``classes.json``, or ()."""
        path = self.root / "classes.json"
        return tuple(read_classes(path)) if path.is_file() else ()

    def settings(self) -> dict[str, Any]:
        """What ``remember`` kept."""
        return dict(self._state["settings"])

    def read_image(self, record: ImageRecord) -> NDArray[np.uint8]:
        """(H, W, 3) RGB uint8.

        Raises:
            ImageReadError: the file is gone, damaged or no image.
        """
        return read_image(record.path, record.frame)

    def read_labels(self, record: ImageRecord) -> LabelMap | None:
        """The label map of the image's size, or None where there is none.

        Raises:
            ImageReadError: the file is damaged, or of another size than the image.
        """
        path = self.label_path(record.image_id)
        seen = _fingerprint(path)
        if seen is None:
            self._known[record.image_id] = None
            return None
        labels = read_labels(path)
        if labels.shape != record.size_hw:
            raise ImageReadError(
                path,
                f"a label map of {labels.shape[1]} x {labels.shape[0]} pixels, but the image "
                f"{record.path.name} has {record.size_hw[1]} x {record.size_hw[0]}; move the file "
                "away, or put back the image that it was made on",
            )
        self._known[record.image_id] = seen
        return labels

    def write_labels(self, record: ImageRecord, labels: LabelMap | None) -> SaveReport:
        """Write a label map atomically; None removes it.

        A file that is not the one last read or written here is kept as a backup first.

        Raises:
            LabelWriteError: the folder cannot be written, or the map has another size.
        """
        path = self.label_path(record.image_id)
        if labels is not None and labels.shape != record.size_hw:
            raise LabelWriteError(
                path,
                f"a label map of shape {labels.shape} for an image of {record.size_hw}; "
                "reload the image",
            )
        backup = self._keep_foreign(record.image_id, path)
        if labels is not None:
            write_labels(path, labels, overwrite=True)
        else:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise LabelWriteError(
                    path, f"cannot be removed ({error.strerror or error}); remove it by hand"
                ) from error
        self._known[record.image_id] = _fingerprint(path)
        return SaveReport(None if labels is None else path, backup)

    def _keep_foreign(self, image_id: str, path: Path) -> Path | None:
        """Copy the file away where it is not the version that this store knows."""
        on_disk = _fingerprint(path)
        if on_disk is None or on_disk == self._known.get(image_id):
            return None
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
        backup = path.parent / "backup" / f"{image_id}.{stamp}.png"
        try:
            write_atomically(backup, path.read_bytes())
        except OSError as error:
            raise LabelWriteError(
                path,
                "was changed by another program and cannot be read "
                f"({error.strerror or error}); move it away and accept again",
            ) from error
        return backup

    def write_classes(self, classes: tuple[LabelClass, ...]) -> None:
        """Write ``classes.json`` atomically."""
        write_classes(self.root / "classes.json", classes)

    def skip(self, image_id: str, skipped: bool) -> None:
        """Set an image aside, or take it up again."""
        marked = set(self._state["skipped"])
        wanted = marked | {image_id} if skipped else marked - {image_id}
        if wanted != marked:
            self._write_state({**self._state, "skipped": sorted(wanted)})

    def remember(self, values: dict[str, Any]) -> None:
        """Keep settings beside those that are there."""
        merged = {**self._state["settings"], **values}
        if merged != self._state["settings"]:
            self._write_state({**self._state, "settings": merged})

    def _read_state(self) -> dict[str, Any]:
        """The state file; a damaged one is set aside, since labels do not depend on it."""
        path = self.root / "state.json"
        state: dict[str, Any] = {"schema": 1, "skipped": [], "settings": {}}
        if not path.is_file():
            return state
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            state["skipped"] = [str(image_id) for image_id in found["skipped"]]
            state["settings"] = dict(found["settings"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._problems += (
                f"{path}: not readable ({type(error).__name__}); settings start afresh, "
                "labels are not affected",
            )
        return state

    def _write_state(self, state: dict[str, Any]) -> None:
        text = json.dumps(state, indent=1) + "\n"
        write_atomically(self.root / "state.json", text.encode(), overwrite=True)
        self._state = state


def unique_ids(files: Iterable[Path]) -> list[str]:
    """An id for each file: its stem, its whole name where stems collide, numbered where both do."""
    files = list(files)
    stems = [path.stem.casefold() for path in files]
    ids: list[str] = []
    taken: set[str] = set()
    for path, stem in zip(files, stems, strict=True):
        base = path.stem if stems.count(stem) == 1 else path.name
        image_id, number = base, 2
        while image_id.casefold() in taken:
            image_id, number = f"{base}-{number}", number + 1
        taken.add(image_id.casefold())
        ids.append(image_id)
    return ids


def _find_images(folder: Path) -> tuple[Path, list[Path]]:
    if not folder.is_dir():
        raise DatasetError(folder, "no such folder; choose the folder that holds the images")
    for candidate in (folder, folder / "images"):
        if candidate.is_dir():
            files = [path for path in image_files([candidate]) if path.parent == candidate]
            if files:
                return candidate, files
    raise DatasetError(
        folder, "no image here; expected PNG, JPEG, BMP or TIFF files in it or in its images folder"
    )


def _records(image_id: str, path: Path) -> list[ImageRecord]:
    """One record, or one for each frame of a file that has several."""
    size_hw = image_size(path)
    frames = frame_count(path) if path.suffix.lower() in (".tif", ".tiff") else 1
    if frames == 1:
        return [ImageRecord(image_id, path, None, size_hw)]
    return [ImageRecord(f"{image_id}_{n:04d}", path, n, size_hw) for n in range(frames)]


def _fingerprint(path: Path) -> Fingerprint:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size
