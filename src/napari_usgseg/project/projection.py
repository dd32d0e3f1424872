"""Keeps label files and ``classes.json`` in step with the history, both ways."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from ..core.errors import DatasetError, ImageReadError, LabelWriteError
from ..core.types import ImageRecord, LabelClass
from ..io.atomic import write_over
from ..io.images import image_size
from ..io.labels import read_classes, read_labels, write_classes
from ..io.notes import listening
from .common import has_file
from .event_log import ImageRow, Journal
from .label_files import LabelFiles
from .records import ClassTable, EventKind, ImageState, LabelMap, SaveReport, difference

STATE = "state.json"
CLASSES = "classes.json"


def take_over(journal: Journal, root: Path, labelled: Collection[str]) -> list[str]:
    """Take classes, settings and skipped images into the history, within a transaction.

    Args:
        journal: of the first annotator.
        root: where the first version kept its files.
        labelled: ids of images with a label map, which are committed whatever the state file says.

    Returns:
        Sentences about files that cannot be used.
    """
    problems: list[str] = []
    if labelled:
        journal.take(EventKind.SETTINGS, body={"labelling": "semantic"})
    path = root / CLASSES
    if path.is_file():
        try:
            classes = tuple(read_classes(path))
            if classes:
                table = ClassTable(classes, classes[0].class_id)
                journal.take(EventKind.IMPORT, table=table)
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
                journal.take(EventKind.SETTINGS, body=settings)
            for image_id in skipped:
                if image_id not in labelled:
                    states = (ImageState.UNTOUCHED, ImageState.SKIPPED)
                    journal.take(EventKind.IMPORT, image_id, state=states)
    return problems


TOGETHER = 32
"""So many label files are taken into the history in one transaction."""


class Projection:
    """The files of one annotator beside the history.

    Args:
        root: of the project.
        journal: the history.
        warnings: where sentences go about what was found amiss.
    """

    def __init__(self, root: Path, journal: Journal, warnings: list[str]) -> None:
        self.files = LabelFiles(root, journal.annotator)
        self._root = root
        self._journal = journal
        self._warnings = warnings
        self._behind: set[str] = set()
        journal.shortcut = self._from_file

    # -- from the files to the history ---------------------------------------------------------

    def take_over(self, records: Sequence[ImageRecord], write: bool) -> list[str]:
        """Bring history and files together at opening.

        A folder of the first version is taken over, label files that another program wrote are
        taken in, and what the files lack is written.

        Args:
            records: of the images that are there.
            write: False leaves the files as they are.

        Returns:
            Sentences about what cannot be used.
        """
        journal, problems = self._journal, list[str]()
        if not journal.database.writable:
            return problems
        on_disk = self.files.fingerprints()
        problems += self._first_version()
        rows = journal.images()

        def is_foreign(record: ImageRecord) -> bool:
            row = rows.get(record.image_id, ImageRow(record.image_id))
            found = on_disk.get(record.image_id)
            behind = row.label_seq != row.written_seq
            return found is not None and found != row.fingerprint and not behind

        foreign = [record for record in records if is_foreign(record)]
        for begin in range(0, len(foreign), TOGETHER):
            problems += self._try_all(foreign[begin : begin + TOGETHER])
        rows = journal.images()
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

    def _first_version(self) -> list[str]:
        """Take over what the first version left, whoever opens the folder first."""
        first = self._journal
        if first.annotator:
            first = Journal(first.database, "", first.size_of)
        problems: list[str] = []

        def work() -> None:
            if first.database.row("SELECT 1 FROM event WHERE annotator = '' LIMIT 1") is None:
                labelled = LabelFiles(self._root, "").fingerprints()
                problems.extend(take_over(first, self._root, labelled))

        first.together(work)
        return problems

    def _try_all(self, records: Iterable[ImageRecord]) -> list[str]:
        """Take some label files in, in one transaction; gives sentences about the others."""
        problems: list[str] = []

        def work() -> None:
            for record in records:
                try:
                    self._take_in(record)
                except ImageReadError as error:
                    problems.append(str(error))

        self._journal.together(work)
        return problems

    def _take_in(self, record: ImageRecord) -> None:
        """Take a label file that this project did not write into the history.

        Raises:
            ImageReadError: it is damaged, of another size than the image, or holds values that are
                no classes of the project.
        """
        image_id, journal = record.image_id, self._journal
        row, on_disk = journal.image(image_id), self.files.fingerprint(image_id)
        with listening() as notes:
            labels = self._foreign(record)
        self._warnings += notes.lines()
        before = journal.labels(image_id)
        if before is None or before.shape != labels.shape:
            before = np.zeros(record.size_hw, np.uint8)
        patch = difference(before, labels)
        kept = row.state in (ImageState.ACCEPTED, ImageState.FLAGGED)
        if patch is not None or not kept:
            state = None if kept else (row.state, ImageState.ACCEPTED)
            kind = EventKind.EXTERNAL if row.written_seq else EventKind.IMPORT
            journal.take(kind, image_id, patch=patch, state=state)
            if row.written_seq:
                self._warnings.append(
                    f"{self.files.path(image_id)}: was changed by another program; its version "
                    "is taken over, the one before it is in the history"
                )
        journal.written(journal.image(image_id), on_disk)

    def _foreign(self, record: ImageRecord) -> LabelMap:
        return self.files.read(record, [item.class_id for item in self._classes()])

    def read(self, record: ImageRecord, take_in: bool = True) -> LabelMap | None:
        """The label map of an image, or None; see ``LabelStore.read_labels``."""
        image_id, journal = record.image_id, self._journal
        row, on_disk = journal.image(image_id), self.files.fingerprint(image_id)
        if on_disk is not None and on_disk != row.fingerprint and row.label_seq == row.written_seq:
            try:
                if not take_in or not journal.database.writable:
                    return self._foreign(record)
                journal.together(lambda: self._take_in(record))
            except ImageReadError as error:
                if not row.label_seq:
                    raise
                self._warnings.append(f"{error} (the version of the history is shown)")
            row = journal.image(image_id)
        labels = journal.labels(image_id)
        if labels is not None and labels.shape != record.size_hw:
            if labels.any():
                raise self.files.another_size(record, labels)
            labels = None
        if not has_file(row, labels):
            return None
        return np.zeros(record.size_hw, np.uint8) if labels is None else labels

    def _from_file(self, row: ImageRow) -> LabelMap | None:
        """The label map from its file, where that shows the whole history."""
        if row.fingerprint is None or row.label_seq != row.written_seq:
            return None
        if self.files.fingerprint(row.image_id) != row.fingerprint:
            return None
        with suppress(ImageReadError):
            return read_labels(self.files.path(row.image_id))
        return None

    # -- from the history to the files ---------------------------------------------------------

    def follow(self, changed: Sequence[str]) -> SaveReport:
        """Write what the history has and the files have not; "" stands for the classes.

        Raises:
            LabelWriteError: a file cannot be written; it is tried again at the next call.
        """
        self._behind.update(changed)
        report = SaveReport(None)
        failed: LabelWriteError | None = None
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
        row, labels = self._journal.image(image_id), self._journal.labels(image_id)
        wanted = labels if has_file(row, labels) else None
        if wanted is None and row.state is ImageState.ACCEPTED:
            wanted = np.zeros(self._journal.size_of(image_id), np.uint8)
        on_disk = self.files.fingerprint(image_id)
        backup = None
        foreign = on_disk is not None and on_disk != row.fingerprint
        if (foreign and not self._shows(image_id, wanted)) or self._outgrown(image_id, wanted):
            backup = self.files.keep(image_id)
        self._journal.written(row, self.files.write(image_id, wanted))
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
        return (self.files.folder if self._journal.annotator else self._root) / CLASSES

    def _classes(self) -> list[LabelClass]:
        table = self._journal.table()
        return [] if table is None else sorted(table.classes, key=lambda item: item.class_id)

    def _classes_differ(self) -> bool:
        classes = self._classes()
        if not classes:
            return False
        with suppress(DatasetError):
            return read_classes(self._classes_path()) != classes
        return True
