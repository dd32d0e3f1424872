"""A project on disk: a folder of images and what people made of them.

    <images>/usgseg/project.sqlite   the history, which is the truth
    <images>/usgseg/labels/          label maps, for other programs; made from the history
    <images>/usgseg/classes.json     the classes, for other programs
    <images>/usgseg/models/          prompt predictors trained here and adapters (``version_store``)
    <images>/usgseg/locks/           who has it open

An event is first in the history, then the label file is written beside its place and renamed, then
it is noted that the file shows the event. So whatever is killed when: no file is torn, and what the
files lack is written at the next opening.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DatasetError, ImageReadError, LabelWriteError, readable
from ..core.types import ImageRecord
from ..io.images import read_image
from ..io.names import same_name_key
from .common import JournalStore
from .database import FILE, Database
from .event_log import ImageRow, Journal
from .images import (
    ImageFile,
    Scan,
    as_record,
    content_hash,
    find_images,
    is_text,
    keep_images,
    known_images,
    scan,
)
from .locks import AnnotatorLock, checked_name
from .projection import Projection
from .records import EventKind, LabelMap, SaveReport

LABEL_FOLDER = "usgseg"


class Project(JournalStore):
    """A folder of images, their labels, and the whole history.

    Args:
        folder: of images (where it has none itself but has an ``images`` folder, that one), or of a
            project: one that holds ``project.sqlite``.
        labels_root: where the project is; None is ``usgseg`` inside the folder of images.
        annotator: whose labels; "" is the first annotator, who needs no name.
        write: False opens it for reading: nothing is written, and nobody is locked out.

    Raises:
        DatasetError: the folder does not exist, there is no image in it, the project is damaged or
            of a newer version, or the annotator's name cannot be used.
    """

    def __init__(
        self,
        folder: str | Path,
        labels_root: str | Path | None = None,
        *,
        annotator: str = "",
        write: bool = True,
    ) -> None:
        given = Path(folder)
        is_project = (given / FILE).is_file()
        if is_project:
            self.root = given
        else:
            self.folder, paths = find_images(given)
            self.root = Path(labels_root) if labels_root is not None else self.folder / LABEL_FOLDER
        self.annotator = checked_name(self.root, annotator)
        self.read_only = "" if write else "it was opened for reading only"
        self._lock = AnnotatorLock(self.root, self.annotator, self._lost)
        self._warnings: list[str] = []
        self._stale: set[str] = set()
        database = self._open()
        try:
            if is_project:
                self.folder, paths = find_images(_images_of(database, self.root))
            self._journal = Journal(
                database, self.annotator, lambda name: self._images[name].size_hw
            )
            self._check_annotator()
            self._projection = Projection(self.root, self._journal, self._warnings)
            self._images = known_images(database)
            problems = self._look_through(paths)
            problems += self._projection.take_over(self.records, write=not self.read_only)
            self._problems = (*problems, *self.take_warnings())
            self._lock.settle()
        except BaseException:
            self.close()
            raise

    # -- opening and closing -------------------------------------------------------------------

    def _open(self) -> Database:
        """The database, for writing where that is possible and nobody else does it."""
        file = self.root / FILE
        if not self.read_only:
            try:
                if self._lock.acquire():
                    self._database = Database(file)
                    return self._database
                self.read_only = (
                    f"{self._lock.holder()} is labelling here; look at everything, or open it "
                    "under a name of your own: your labels are kept beside those"
                )
            except LabelWriteError as error:
                self._lock.release()
                self.read_only = error.cause
            except BaseException:
                self._lock.release()
                raise
        self._database = Database(file, write=False) if file.is_file() else Database(None)
        return self._database

    def _check_annotator(self) -> None:
        """Refuse a name whose files would be another's where case does not count.

        Raises:
            DatasetError: there is one already.
        """
        names, key = self._journal.annotators(), same_name_key(self.annotator, ignore_case=True)
        for name in names:
            if self.annotator not in names and same_name_key(name, ignore_case=True) == key:
                raise DatasetError(
                    self.root, f"{name!r} labels here already; type the name like this, or another"
                )

    def close(self) -> None:
        """Let others have it; a second time does nothing."""
        self._database.close()
        self._lock.release()
        self.read_only = self.read_only or "it is closed; open it again"

    def _lost(self) -> None:
        self._database.close()
        self.read_only = "it was opened again in another window of this program; go on there"

    def _look_through(self, paths: Sequence[Path]) -> list[str]:
        """Find the images; gives sentences about those that cannot be used."""
        database, known = self._database, dict(self._images)
        found = scan(self.folder, paths, known)
        self._images.update((item.image_id, item) for item in found.files)
        self.records = tuple(as_record(self.folder, item) for item in found.files)
        if database.writable:
            with database.transaction():
                keep_images(database, (i for i in found.files if known.get(i.image_id) != i))
                _keep_place(database, self.root, self.folder)
        if found.moved and not self.read_only:
            self._journal.together(lambda: self._note_moved(found))
        rows = self._journal.images() if found.gone else {}
        lost = [item for item in found.gone if rows.get(item.image_id, ImageRow("")).label_seq]
        return [
            *found.problems,
            *(
                f"{self.folder / item.path}: the image of {item.image_id} is gone; its labels are "
                "kept, put the image back to go on with it"
                for item in lost
            ),
        ]

    def _note_moved(self, found: Scan) -> None:
        for old, path in found.moved:
            body = {"path": path, "was": old.path}
            self._journal.take(EventKind.IMAGE, old.image_id, body=body)

    @property
    def name(self) -> str:
        """The folder's name; the data set's where the images are in its ``images`` folder."""
        folder = self.folder.parent if self.folder.name == "images" else self.folder
        return readable(folder.name)

    @property
    def problems(self) -> tuple[str, ...]:
        """Sentences about files that cannot be used, found at opening."""
        return self._problems

    def take_warnings(self) -> tuple[str, ...]:
        """Sentences about what was found amiss since the last call."""
        found = tuple(self._warnings)
        self._warnings.clear()
        return found

    @property
    def cache_folder(self) -> Path | None:
        """Where what can be made anew may be kept."""
        return None if self.read_only else self.root / "cache"

    @property
    def models_folder(self) -> Path | None:
        """Where this annotator's prompt predictors are."""
        return self.root / "models" / (f"by-{self.annotator}" if self.annotator else "")

    # -- images --------------------------------------------------------------------------------

    def read_image(self, record: ImageRecord) -> NDArray[np.uint8]:
        """(H, W, 3) RGB uint8.

        Raises:
            ImageReadError: the file is gone, damaged, no image, or has another size by now.
        """
        try:
            pixels = read_image(record.path, record.frame)
        except ImageReadError:
            if record.frame is not None and record.path.is_file():  # perhaps no frame any more
                self._forget_header(record)
            raise
        if pixels.shape[:2] != record.size_hw:
            self._forget_header(record)
            raise ImageReadError(
                record.path,
                f"was changed and is {pixels.shape[1]} x {pixels.shape[0]} pixels now, not "
                f"{record.size_hw[1]} x {record.size_hw[0]}; open the folder again",
            )
        item = self._images.get(record.image_id)
        if not self.read_only and item is not None and item.path not in self._stale:
            self._note_content(item, record.path)
        return pixels

    def _forget_header(self, record: ImageRecord) -> None:
        """Have the sizes in a file read anew at the next opening, whatever its time says."""
        if self.read_only or record.image_id not in self._images:
            return
        path = self._images[record.image_id].path
        self._stale.add(path)
        stale = [replace(i, stat=(0, 0)) for i in self._images.values() if i.path == path]
        with suppress(LabelWriteError):  # then it is said again
            self._journal.together(lambda: keep_images(self._database, stale))

    def _note_content(self, item: ImageFile, path: Path) -> None:
        """Keep the hash of an image's content, and say so where it is another than before."""
        status = path.stat()
        stat = (status.st_size, status.st_mtime_ns)
        if item.sha256 is not None and item.checked and item.stat == stat:
            return
        sha256 = content_hash(path)
        same = [other for other in self._images.values() if other.path == item.path]
        fresh = [replace(other, stat=stat, sha256=sha256, checked=True) for other in same]

        def work() -> None:
            keep_images(self._database, fresh)
            if item.sha256 is not None and sha256 != item.sha256:
                body = {"path": item.path, "sha256": sha256, "was": item.sha256}
                self._journal.take(EventKind.IMAGE, item.image_id, body=body)

        try:
            self._journal.together(work)
        except LabelWriteError as error:  # the image can be looked at all the same
            self._warnings.append(str(error))
            return
        self._images.update((other.image_id, other) for other in fresh)
        if item.sha256 is not None and sha256 != item.sha256:
            self._warnings.append(
                f"{path}: the image was changed since it was read last; its labels are kept, "
                "check that they still fit"
            )

    # -- labels --------------------------------------------------------------------------------

    def label_path(self, image_id: str) -> Path:
        """Where the label map of an image is, or will be."""
        return self._projection.files.path(image_id)

    def read_labels(self, record: ImageRecord, *, take_in: bool = True) -> LabelMap | None:
        """The label map of the image's size, or None where there is none.

        ``take_in`` False leaves another program's version out of the history.

        Raises:
            ImageReadError: the label map is of another size than the image; or the file is damaged
                and the history knows none.
        """
        return self._projection.read(record, take_in)

    def _follow(self, changed: Sequence[str]) -> SaveReport:
        return self._projection.follow(changed)

    def rebuild(self) -> int:
        """Make states, steps and label files anew from the history; gives how many files.

        Raises:
            LabelWriteError: they cannot be written.
        """
        self._check_writable()
        self._journal.rebuild()
        rows = self._journal.images().values()
        self._follow([row.image_id for row in rows if row.label_seq])
        return len(self._projection.files.fingerprints())

    def _place(self) -> Path:
        return self.root


def _images_of(database: Database, root: Path) -> Path:
    """Where the images of a project are: as seen from it, or where they were."""
    rows = database.rows("SELECT key, value FROM project WHERE key LIKE 'images%'")
    places = {key: os.fsdecode(value) for key, value in rows}
    relative = root / places.get("images", "..")
    if relative.is_dir():
        return Path(os.path.normpath(relative))
    absolute = Path(places.get("images_absolute", relative))
    if absolute.is_dir():
        return absolute
    raise DatasetError(
        root,
        f"its images are neither at {readable(os.path.normpath(relative))} nor at "
        f"{readable(absolute)}; put them back, "
        "or open the folder of images and say that its labels are here",
    )


def _keep_place(database: Database, root: Path, folder: Path) -> None:
    """Note where the images are, within a transaction."""
    places = {"images_absolute": str(folder.absolute())}
    with suppress(ValueError):  # on another drive there is no relative path
        places["images"] = Path(os.path.relpath(folder.absolute(), root.absolute())).as_posix()
    for key, value in places.items():
        database.execute(
            "INSERT INTO project VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
            (key, value if is_text(value) else os.fsencode(value)),
        )
