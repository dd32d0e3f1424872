"""Project on disk: a folder of images and what people made of them; and the same in memory.

    <images>/usgseg/project.sqlite   the event log, which is the truth
    <images>/usgseg/labels/          label maps, for other programs; they follow from the events
    <images>/usgseg/classes.json     the classes, for other programs
    <images>/usgseg/models/          prompt predictors and adapters trained here (``versions``)
    <images>/usgseg/locks/           who has it open

An event is first in the log, then the label file is written beside its place and renamed, then it
is noted that the file shows the event. So whatever is killed when: no file is torn, and what the
files lack is written at the next opening.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DatasetError, ImageReadError, LabelWriteError, readable
from ..core.types import ImageRecord, LabelClass
from ..io.images import as_shown
from ..io.names import same_name_key
from ..io.reading.files import OpenFiles
from ..io.reading.frames import FileAbout
from .database import FILE, Database
from .event_log import EventLog, ImageRow
from .images import (
    ImageFile,
    as_record,
    content_hash,
    file_stat,
    find_images,
    is_text,
    keep_images,
    known_images,
    scan,
)
from .label_files import Projection, has_file
from .locks import AnnotatorLock, checked_name
from .records import (
    ClassTable,
    Edit,
    Event,
    EventKind,
    ImageProposal,
    ImageState,
    LabelMap,
    SaveReport,
    Steps,
    StoredEvent,
)

LABEL_FOLDER = "usgseg"


class LabelStore(ABC):
    """Images, label maps, classes, settings, and the event log that all but the images follow from.

    One thread at a time calls the methods (the file thread); the attributes are fixed once it is
    open.

    Attributes:
        name: what a person calls it: the folder's or the layer's name.
        annotator: whose labels these are; "" for the first annotator, who needs no name.
        read_only: why nothing can be written here, and the cure; "" where it can.
        held: True where that is because somebody else labels here under the same name.
        root: of the project, or None in memory.
        folder: of the images, or None in memory.
        records: the images, in the order in which they are labelled.
        problems: sentences about files that cannot be used.
        log: the events.
    """

    name: str
    annotator: str = ""
    read_only: str = ""
    held: bool = False
    root: Path | None = None
    folder: Path | None = None
    records: tuple[ImageRecord, ...]
    problems: tuple[str, ...] = ()
    log: EventLog

    def __init__(self) -> None:
        self._warnings: list[str] = []

    @abstractmethod
    def read_image(self, record: ImageRecord) -> NDArray[np.uint8]:
        """(H, W, 3) RGB uint8."""

    def about(self, record: ImageRecord) -> FileAbout | None:
        """What an image's file says of spacing, regions and rate; None where there is none."""
        return None

    @abstractmethod
    def read_labels(self, record: ImageRecord, *, take_in: bool = True) -> LabelMap | None:
        """The label map (H, W), or None where there is none yet.

        What another program wrote is taken into the event log, unless ``take_in`` is False: for a
        reader beside the person who has the image open and would not see it change.
        """

    @abstractmethod
    def drawn(self) -> frozenset[str]:
        """The images with labels that nobody accepted."""

    @abstractmethod
    def close(self) -> None:
        """Let others have it; nothing can be read or written here any more."""

    @property
    def cache_folder(self) -> Path | None:
        """Where what can be made anew (embeddings) may be kept; None where nothing may."""
        return None if self.root is None or self.read_only else self.root / "cache"

    @property
    def models_folder(self) -> Path | None:
        """Where this annotator's prompt predictors are; None where there can be none."""
        if self.root is None:
            return None
        return self.root / "models" / (f"by-{self.annotator}" if self.annotator else "")

    def take_warnings(self) -> tuple[str, ...]:
        """Sentences about what was found amiss since the last call (a label file taken in, ...)."""
        found = tuple(self._warnings)
        self._warnings.clear()
        return found

    # -- what follows from the events ------------------------------------------------------------

    def states(self) -> dict[str, ImageState]:
        """The state of every image by its id.

        An untouched one with a proposal, or with labels that nobody accepted, is proposed.
        """
        rows, drawn = self.log.images(), self.drawn()

        def state(image_id: str) -> ImageState:
            row = rows.get(image_id, ImageRow(image_id))
            waits = row.proposed or image_id in drawn
            proposed = waits and row.state is ImageState.UNTOUCHED
            return ImageState.PROPOSED if proposed else row.state

        return {record.image_id: state(record.image_id) for record in self.records}

    def empty(self) -> frozenset[str]:
        """The accepted images on which nothing is labelled."""
        rows = self.log.images().values()
        accepted = (row for row in rows if row.state is ImageState.ACCEPTED)
        return frozenset(row.image_id for row in accepted if row.blank)

    def table(self) -> ClassTable | None:
        """The classes and the picked one; None where none are written down yet."""
        return self.log.table()

    def classes(self) -> tuple[LabelClass, ...]:
        """The classes of the label maps; () where none are written down yet."""
        table = self.log.table()
        return () if table is None else table.classes

    def settings(self) -> dict[str, Any]:
        """The settings that were kept, and ``last``: the image that was shown last."""
        return self.log.settings()

    def annotators(self) -> tuple[str, ...]:
        """The names of those who labelled here, "" (the first, who needs none) ahead."""
        return self.log.annotators()

    def read_state(self, image_id: str) -> tuple[ImageState, tuple[ImageState, ...]]:
        """What was decided about an image, and what it was before each of its flags."""
        return self.log.image(image_id).state, self.log.unflagged(image_id)

    def read_proposal(self, image_id: str) -> ImageProposal:
        """What is proposed on an image and not yet accepted."""
        return self.proposal(self.log.image(image_id).document)

    # -- the events ------------------------------------------------------------------------------

    def record(self, events: Sequence[Event]) -> SaveReport:
        """Add events in one transaction, and bring the label files up to date.

        Events that are there already (by their serial) are passed over, so that a batch that
        failed can be sent again with what came after it.

        Raises:
            LabelWriteError: they cannot be written, or a label map has another size than its
                image; nothing of the batch is lost by sending it again.
        """
        if self.read_only:
            raise LabelWriteError(self.root or "memory", self.read_only)
        return self._follow(self.log.record(events))

    def _follow(self, changed: Sequence[str]) -> SaveReport:
        """Bring up to date what is kept beside the events."""
        return SaveReport(None)

    def steps(self) -> Steps:
        """The edits that can be undone and redone."""
        return self.log.steps()

    def read_step(self, number: int) -> Edit:
        """An edit with all its content.

        Raises:
            DatasetError: there is no such edit.
        """
        return self.log.read_step(number)

    def events(self, after: int = 0) -> Iterator[StoredEvent]:
        """The events of all annotators in order, from the one that follows ``after``."""
        return self.log.events(after)

    def proposal(self, document: str | None) -> ImageProposal:
        """What was proposed, by the document that an event names."""
        return self.log.decoder.proposal(document)


class MemoryStore(LabelStore):
    """One image in memory, such as a napari layer, whose labels last as long as the window.

    Args:
        name: what the person calls the image.
        image: (H, W, 3) RGB uint8.
        about: what its file says of spacing and regions, where that is known.
    """

    def __init__(self, name: str, image: NDArray[np.uint8], about: FileAbout | None = None) -> None:
        super().__init__()
        self._about = about
        self.name = name
        image_id = (
            "".join(c if c.isalnum() or c in "-_. " else "_" for c in name).strip() or "image"
        )
        size_hw = image.shape[:2]
        self.records = (ImageRecord(image_id, Path(name), None, size_hw),)
        self._image = image
        self.log = EventLog(Database(None), "", lambda _: size_hw)

    def read_image(self, record: ImageRecord) -> NDArray[np.uint8]:
        """(H, W, 3) RGB uint8."""
        return self._image

    def about(self, record: ImageRecord) -> FileAbout | None:
        """What is known of the image's spacing and regions; None where nothing is."""
        return self._about

    def read_labels(self, record: ImageRecord, *, take_in: bool = True) -> LabelMap | None:
        """The label map, or None; no other program can write it."""
        row, labels = self.log.image(record.image_id), self.log.labels(record.image_id)
        if not has_file(row, labels):
            return None
        return np.zeros(record.size_hw, np.uint8) if labels is None else labels

    def drawn(self) -> frozenset[str]:
        """The image, where it has labels that nobody accepted."""
        image_id = self.records[0].image_id
        labels = self.log.labels(image_id)
        waits = labels is not None and bool(labels.any())
        accepted = self.log.image(image_id).state is ImageState.ACCEPTED
        return frozenset((image_id,)) if waits and not accepted else frozenset()

    def close(self) -> None:
        """Forget it."""
        self.log.database.close()


class Project(LabelStore):
    """Folder of images, their labels, and everything that was done to them.

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

    root: Path
    folder: Path

    def __init__(
        self,
        folder: str | Path,
        labels_root: str | Path | None = None,
        *,
        annotator: str = "",
        write: bool = True,
    ) -> None:
        super().__init__()
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
        self._stale: set[str] = set()
        self._files = OpenFiles()
        database = self._open()
        try:
            if is_project:
                self.folder, paths = find_images(_images_of(database, self.root))
            self.log = EventLog(database, self.annotator, lambda name: self._images[name].size_hw)
            self._check_annotator()
            images = self.folder.parent if self.folder.name == "images" else self.folder
            self.name = readable(images.name)
            self._projection = Projection(self.root, self.log, self._warnings)
            self._images = known_images(database)
            problems = self._look_through(paths)
            problems += self._projection.open(self.records, write=not self.read_only)
            self.problems = (*problems, *self.take_warnings())
            # Last of all: what fails above leaves another window of this program as it is.
            self._lock.take_over()
        except BaseException:
            self.close()
            raise

    # -- opening and closing -------------------------------------------------------------------

    def _open(self) -> Database:
        """The database, for writing where that is possible and nobody else does it."""
        file = self.root / FILE
        if not self.read_only:
            try:
                # The lock is asked for ahead of the database, for opening may migrate it.
                if self._lock.acquire():
                    self._database = Database(file)
                    return self._database
                self.held = True
                self.read_only = (
                    f"{self._lock.holder()} is labelling here; look at everything, or open it "
                    "under a name of your own: your labels are kept beside those"
                )
            except LabelWriteError as error:
                self._lock.release()
                self.read_only = (
                    f"{readable(self.root)}: {error.cause.split(';')[0]}; look at everything, or "
                    "keep your labels in another folder (Open... > Folder, labels elsewhere...)"
                )
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
        names, key = self.log.annotators(), same_name_key(self.annotator, ignore_case=True)
        for name in names:
            if self.annotator not in names and same_name_key(name, ignore_case=True) == key:
                raise DatasetError(
                    self.root, f"{name!r} labels here already; type the name like this, or another"
                )

    def close(self) -> None:
        """Let others have it; a second time does nothing."""
        self._files.close()
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
            with self.log.transaction():
                for old, path in found.moved:
                    body = {"path": path, "was": old.path}
                    self.log.add(EventKind.IMAGE, old.image_id, body=body)
        rows = self.log.images() if found.gone else {}
        lost = [item for item in found.gone if rows.get(item.image_id, ImageRow("")).label_seq]
        return [
            *found.problems,
            *(
                f"{self.folder / item.path}: the image of {item.image_id} is gone; its labels are "
                "kept, put the image back to go on with it"
                for item in lost
            ),
        ]

    # -- images --------------------------------------------------------------------------------

    def read_image(self, record: ImageRecord) -> NDArray[np.uint8]:
        """(H, W, 3) RGB uint8.

        Raises:
            ImageReadError: the file is gone, damaged, no image, or has another size by now.
        """
        try:
            pixels = as_shown(record.path, self._files.stored(record.path, record.frame))
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

    def about(self, record: ImageRecord) -> FileAbout | None:
        """What an image's file says of spacing, regions and rate; None where it cannot be read."""
        with suppress(ImageReadError):
            return self._files.about(record.path)
        return None

    def _forget_header(self, record: ImageRecord) -> None:
        """Have the sizes in a file read anew at the next opening, whatever its time says."""
        if self.read_only or record.image_id not in self._images:
            return
        path = self._images[record.image_id].path
        self._stale.add(path)
        stale = [replace(i, stat=(0, 0)) for i in self._images.values() if i.path == path]
        with suppress(LabelWriteError), self.log.transaction():  # else it is said again
            keep_images(self._database, stale)

    def _note_content(self, item: ImageFile, path: Path) -> None:
        """Keep the hash of an image's content, and say so where it is another than before."""
        stat = file_stat(path)
        if item.sha256 is not None and item.checked and item.stat == stat:
            return
        sha256 = content_hash(path)
        # All frames of a loop share one file, which is hashed once.
        same = [other for other in self._images.values() if other.path == item.path]
        fresh = [replace(other, stat=stat, sha256=sha256, checked=True) for other in same]

        another = item.sha256 is not None and sha256 != item.sha256
        try:
            with self.log.transaction():
                keep_images(self._database, fresh)
                if another:
                    body = {"path": item.path, "sha256": sha256, "was": item.sha256}
                    self.log.add(EventKind.IMAGE, item.image_id, body=body)
        except LabelWriteError as error:  # the image can be looked at all the same
            self._warnings.append(str(error))
            return
        self._images.update((other.image_id, other) for other in fresh)
        if another:
            self._warnings.append(
                f"{path}: the image was changed since it was read last; its labels are kept, "
                "check that they still fit"
            )

    # -- labels --------------------------------------------------------------------------------

    def read_labels(self, record: ImageRecord, *, take_in: bool = True) -> LabelMap | None:
        """The label map of the image's size, or None where there is none.

        ``take_in`` False leaves another program's version out of the history.

        Raises:
            ImageReadError: the label map is of another size than the image; or the file is damaged
                and the history knows none.
        """
        return self._projection.read(record, take_in)

    def drawn(self) -> frozenset[str]:
        """The images with labels that nobody accepted, by their label files."""
        rows = self.log.images().values()
        kept = (row for row in rows if row.fingerprint is not None)
        return frozenset(row.image_id for row in kept if row.state is not ImageState.ACCEPTED)

    def _follow(self, changed: Sequence[str]) -> SaveReport:
        return self._projection.follow(changed)


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
