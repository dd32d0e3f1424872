"""Label maps as PNG files, which other programs read and write, kept in step with the event log."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import numpy as np

from ..core.errors import DatasetError, ImageReadError, LabelWriteError
from ..core.notes import listening, remark
from ..core.types import ImageRecord, LabelClass
from ..io.atomic import write_atomically, write_over
from ..io.images import image_size
from ..io.labels import CLASSES_FILE, STEP, read_classes, read_labels, write_classes, write_labels
from ..io.masks import as_labels, read_mask_file, whole_numbers
from ..io.names import safe_file_name
from .event_log import EventLog, ImageRow
from .records import ClassTable, EventKind, FileStat, ImageState, LabelMap, SaveReport, difference

NEW_CLASSES = 20
"""More values that are no classes are no label map, but greys."""


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

    def fingerprint(self, image_id: str) -> FileStat | None:
        """Of the file as it is now; None where there is none."""
        try:
            status = self.path(image_id).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return status.st_size, status.st_mtime_ns

    def fingerprints(self) -> dict[str, FileStat]:
        """Of all label files."""
        found: dict[str, FileStat] = {}
        if not self.folder.is_dir():
            return found
        with os.scandir(self.folder) as entries:
            for entry in entries:
                stem, suffix = os.path.splitext(entry.name)
                # A leading dot is a file half written (``io.atomic``), or one of macOS's
                # companions.
                if suffix == ".png" and not stem.startswith(".") and entry.is_file():
                    status = entry.stat()
                    found[stem] = (status.st_size, status.st_mtime_ns)
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
        # In an instance map a value is class x STEP + number.
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

    def write(self, image_id: str, labels: LabelMap | None) -> FileStat | None:
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
        # Microseconds, and write_atomically refuses a name that is taken: no backup replaces
        # another.
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


STATE = "state.json"
TOGETHER = 32
"""So many label files are taken into the event log in one transaction."""


def has_file(row: ImageRow, labels: LabelMap | None) -> bool:
    """True where an image has a label file: it is accepted, or something is labelled on it."""
    return row.state is ImageState.ACCEPTED or (labels is not None and bool(labels.any()))


class Projection:
    """Files of one annotator that follow from the event log: label maps and ``classes.json``.

    Args:
        root: of the project.
        log: the events.
        warnings: where sentences go about what was found amiss.
    """

    def __init__(self, root: Path, log: EventLog, warnings: list[str]) -> None:
        self.files = LabelFiles(root, log.annotator)
        self._root, self._log, self._warnings = root, log, warnings
        self._behind: set[str] = set()
        log.from_file = self._from_file

    # -- from the files to the events ----------------------------------------------------------

    def open(self, records: Sequence[ImageRecord], write: bool) -> list[str]:
        """Bring events and files together at opening.

        A folder of the first version is taken over, label files that another program wrote are
        taken in, and what the files lack is written.

        Args:
            records: of the images that are there.
            write: False leaves the files as they are.

        Returns:
            Sentences about what cannot be used.
        """
        log = self._log
        if not log.database.writable:
            return []
        on_disk = self.files.fingerprints()
        # Ahead of the foreign files: their classes are needed to read those.
        problems = self._take_over_first_version()
        rows = log.images()

        def is_foreign(record: ImageRecord) -> bool:
            row = rows.get(record.image_id, ImageRow(record.image_id))
            found = on_disk.get(record.image_id)
            # A file that differs while ours is behind is our own that was killed between rename and
            # note, or lies under a newer event: the history is right, and follow() keeps a backup
            # of the file.
            behind = row.label_seq != row.written_seq
            return found is not None and found != row.fingerprint and not behind

        foreign = [record for record in records if is_foreign(record)]
        # In small transactions: one for thousands of files would keep another annotator from
        # saving.
        for begin in range(0, len(foreign), TOGETHER):
            with log.transaction():
                for record in foreign[begin : begin + TOGETHER]:
                    try:
                        self._take_in(record)
                    except ImageReadError as error:
                        problems.append(str(error))
        rows = log.images()
        gone = [row for row in rows.values() if row.fingerprint and row.image_id not in on_disk]
        self._behind = {row.image_id for row in rows.values() if row.label_seq != row.written_seq}
        self._behind.update(row.image_id for row in gone)
        if write:
            self.files.clean()
            try:
                self.follow([""] if self._classes_differ() else [])
            except LabelWriteError as error:
                problems.append(str(error))
            else:
                if gone:
                    problems.append(
                        f"{self.files.folder}: {len(gone)} label files were gone and were written "
                        "anew from the history"
                    )
        return problems

    def _take_over_first_version(self) -> list[str]:
        """Take over what the first version left, whoever opens the folder first."""
        log = self._log
        if log.annotator:
            log = EventLog(log.database, "", log.size_of)
        with log.transaction():
            if log.database.row("SELECT 1 FROM event WHERE annotator = '' LIMIT 1") is not None:
                return []
            return take_over(log, self._root, LabelFiles(self._root, "").fingerprints())

    def _take_in(self, record: ImageRecord) -> None:
        """Take a label file that this project did not write into the event log.

        Raises:
            ImageReadError: it is damaged, of another size than the image, or holds values that are
                no classes of the project.
        """
        image_id, log = record.image_id, self._log
        row, on_disk = log.image(image_id), self.files.fingerprint(image_id)
        with listening() as notes:
            labels = self._foreign(record)
        self._warnings += notes.lines()
        before = log.labels(image_id)
        if before is None or before.shape != labels.shape:
            before = np.zeros(record.size_hw, np.uint8)
        patch = difference(before, labels)
        kept = row.state in (ImageState.ACCEPTED, ImageState.FLAGGED)
        if patch is not None or not kept:
            state = None if kept else (row.state, ImageState.ACCEPTED)
            # A label file from elsewhere means that somebody has labelled the image, hence
            # accepted; but what a person set aside (flagged) stays so.
            kind = EventKind.EXTERNAL if row.written_seq else EventKind.IMPORT
            log.add(kind, image_id, patch=patch, state=state)
            if row.written_seq:
                self._warnings.append(
                    f"{self.files.path(image_id)}: was changed by another program; its version "
                    "is taken over, the one before it is in the history"
                )
        # With the fingerprint from before the reading: a file that changes meanwhile differs from
        # it and is taken in next time.
        log.written(log.image(image_id), on_disk)

    def _foreign(self, record: ImageRecord) -> LabelMap:
        return self.files.read(record, [item.class_id for item in self._classes()])

    def read(self, record: ImageRecord, take_in: bool = True) -> LabelMap | None:
        """The label map of an image, or None; see ``LabelStore.read_labels``."""
        image_id, log = record.image_id, self._log
        row, on_disk = log.image(image_id), self.files.fingerprint(image_id)
        if on_disk is not None and on_disk != row.fingerprint and row.label_seq == row.written_seq:
            try:
                if not take_in or not log.database.writable:
                    return self._foreign(record)
                with log.transaction():
                    self._take_in(record)
            except ImageReadError as error:
                # Nothing is known of the image but this file; to show it as empty would invite
                # writing over it.
                if not row.label_seq:
                    raise
                self._warnings.append(f"{error} (the version of the history is shown)")
            row = log.image(image_id)
        labels = log.labels(image_id)
        if labels is not None and labels.shape != record.size_hw:
            if labels.any():
                raise self.files.another_size(record, labels)
            labels = None
        if not has_file(row, labels):
            return None
        return np.zeros(record.size_hw, np.uint8) if labels is None else labels

    def _from_file(self, row: ImageRow) -> LabelMap | None:
        """The label map from its file, where that shows all events."""
        if row.fingerprint is None or row.label_seq != row.written_seq:
            return None
        # Size and time (ns) and no hash: opening a folder of thousands of images reads no label
        # file.
        if self.files.fingerprint(row.image_id) != row.fingerprint:
            return None
        with suppress(ImageReadError):
            return read_labels(self.files.path(row.image_id))
        return None

    # -- from the events to the files ----------------------------------------------------------

    def follow(self, changed: Sequence[str]) -> SaveReport:
        """Write what the event log has and the files have not; "" stands for the classes.

        Raises:
            LabelWriteError: a file cannot be written; it is tried again at the next call.
        """
        self._behind.update(changed)
        report = SaveReport(None)
        failed: LabelWriteError | None = None
        # "" sorts first, so classes.json is there before a label map that uses a new class.
        for image_id in sorted(self._behind):
            try:
                if image_id:
                    report = self._bring_up(image_id)
                else:
                    write_classes(self._classes_path(), self._classes(), write_over)
                self._behind.discard(image_id)
            except LabelWriteError as error:  # one file that is in the way holds up no other
                failed = failed or error
        if failed is not None:
            raise failed
        return report

    def _bring_up(self, image_id: str) -> SaveReport:
        row, labels = self._log.image(image_id), self._log.labels(image_id)
        wanted = labels if has_file(row, labels) else None
        if wanted is None and row.state is ImageState.ACCEPTED:
            wanted = np.zeros(self._log.size_of(image_id), np.uint8)
        on_disk = self.files.fingerprint(image_id)
        backup = None
        foreign = on_disk is not None and on_disk != row.fingerprint
        if (foreign and not self._shows(image_id, wanted)) or self._outgrown(image_id, wanted):
            backup = self.files.keep(image_id)
        # First the file, then the note: killed between the two, the next opening finds the image
        # behind and writes the same again.
        self._log.written(row, self.files.write(image_id, wanted))
        return SaveReport(None if wanted is None else self.files.path(image_id), backup)

    def _shows(self, image_id: str, labels: LabelMap | None) -> bool:
        """True where the label file has these values, so that nothing is lost with it."""
        with suppress(ImageReadError):
            found = read_labels(self.files.path(image_id))
            return labels is not None and np.array_equal(found, labels)
        return False

    def _outgrown(self, image_id: str, labels: LabelMap | None) -> bool:
        """True where the label file is of the size that the image had before it was changed."""
        path = self.files.path(image_id)
        with suppress(ImageReadError):
            return labels is not None and path.is_file() and image_size(path) != labels.shape
        return False

    # -- classes -------------------------------------------------------------------------------

    def _classes_path(self) -> Path:
        return (self.files.folder if self._log.annotator else self._root) / CLASSES_FILE

    def _classes(self) -> list[LabelClass]:
        table = self._log.table()
        return [] if table is None else sorted(table.classes, key=lambda item: item.class_id)

    def _classes_differ(self) -> bool:
        classes = self._classes()
        if not classes:
            return False
        with suppress(DatasetError):
            return read_classes(self._classes_path()) != classes
        return True


def take_over(log: EventLog, root: Path, labelled: Collection[str]) -> list[str]:
    """Take classes, settings and skipped images into the event log, within a transaction.

    Args:
        log: of the first annotator.
        root: where the first version kept its files.
        labelled: ids of images with a label map, which are accepted whatever the state file says.

    Returns:
        Sentences about files that cannot be used.
    """
    problems: list[str] = []
    if labelled:
        log.add(EventKind.SETTINGS, body={"labelling": "semantic"})
    path = root / CLASSES_FILE
    if path.is_file():
        try:
            classes = tuple(read_classes(path))
            if classes:
                log.add(EventKind.IMPORT, table=ClassTable(classes, classes[0].class_id))
        except DatasetError as error:
            problems.append(str(error))
    path = root / STATE
    if path.is_file():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            skipped = [str(image_id) for image_id in found["skipped"]]
            settings = dict(found["settings"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            problems.append(
                f"{path}: not readable ({type(error).__name__}); settings start afresh, "
                "labels are not affected"
            )
        else:
            if settings:
                log.add(EventKind.SETTINGS, body=settings)
            for image_id in skipped:
                if image_id not in labelled:
                    states = (ImageState.UNTOUCHED, ImageState.SKIPPED)
                    log.add(EventKind.IMPORT, image_id, state=states)
    return problems
