"""Exchange with other programs: what is accepted goes out, their labels come in as proposals.

An import never touches what a person accepted, set aside or began: each image that has nothing yet
gets what the file says of it as proposed objects, to be corrected and accepted, in one edit that
can be undone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DatasetError, LabelWriteError, UsgsegError, readable
from ..core.geometry import box_within, mask_to_box
from ..core.types import (
    BoolArray,
    FieldOfView,
    FloatArray,
    ImageEmbedding,
    ImageRecord,
    LabelClass,
    Prompts,
)
from ..io.export import ExportFailure, ExportReport, export_images
from ..io.formats import DEFAULT_FORMAT, DEFAULT_ORGAN, read_labels_of
from ..io.formats.objects import check_count, pieces_of
from ..io.formats.records import LabelledImage, LabelledObject, LabelSet
from ..io.groups import ImageFinder, group_images, is_table
from ..io.labels import MAX_CLASS, MAX_LABEL, Labelling, LabelMap, labelling_in
from ..io.outputs import OutputFolder
from ..io.reading.files import instance_of, repeats_identity
from ..io.reading.identity import pseudonym
from ..models.interfaces import Segmenter
from ..segmentation.burned_in import find_text, text_mask
from ..segmentation.deidentified_archive import (
    MOST_TILES,
    SHEET_FILE,
    check_folder,
    pair,
    write_sheet,
)
from ..segmentation.field_of_view import embed_field, field_of, fields_of_view
from ..segmentation.postprocess import PostprocessSettings
from ..segmentation.propose import Proposal, as_logits, propose_prompts
from ..segmentation.sector import find_tissue
from .measuring import TABLE, write_measurements
from .project import LabelStore
from .records import (
    ClassTable,
    Edit,
    Event,
    EventKind,
    ImageProposal,
    ImageState,
    ProposedObject,
)


def export_store(
    store: LabelStore,
    out: str | Path,
    *,
    organ: str = DEFAULT_ORGAN,
    target: str | None = None,
    classes: Sequence[LabelClass] | None = None,
    name: str | None = None,
    groups: str | None = None,
    format: str = DEFAULT_FORMAT,
    licence: str = "",
    made: Sequence[str] = (),
    split: bool = True,
    black_text: bool = False,
    measurements: bool = False,
    overwrite: bool = False,
) -> ExportReport:
    """Write every accepted image with its label map; one that fails does not stop the others.

    Images that seem to have text burned in are named in the report's notes.

    Args:
        store: where the labels are.
        out: the data set's folder.
        organ: what the images show.
        target: the phrase for label 1; None takes the name of class 1.
        classes: of the label maps; None takes those that are written down in the store.
        name: of the data set; None takes the store's, or a pseudonym where that repeats who the
            patient of a DICOM file is.
        groups: which images belong together, a rule or a table (``io.groups``); None keeps the
            images of a patient's folder together, and the frames of a file.
        format: a name in ``io.formats.FORMATS``.
        licence: of the images, in the person's words.
        made: lines for the data card about how it was made (``effort.efforts.about_the_work``).
        split: part the patients into train, val and test; else all are on the side train.
        black_text: what looks like burned-in text becomes black; pictures before and after are in
            ``<out>-check/sheet.png``, which is no part of the data set.
        measurements: also write ``measurements.csv`` (``project.measuring``).
        overwrite: replace an earlier export that nobody changed since.

    Raises:
        DatasetError: nothing is accepted yet, or the table of groups cannot be used.
        LabelWriteError: ``out`` holds anything else, or cannot be written.
        PromptError: ``groups`` is no rule, or there is no such format.
    """
    states = store.states()
    done = [item for item in store.records if states[item.image_id] is ImageState.ACCEPTED]
    if not done:
        raise DatasetError(store.name, "nothing is labelled yet; accept at least one image first")
    classes = store.classes() if classes is None else classes
    target = target or next((item.name for item in classes if item.class_id == 1), "object")
    grouped = group_images(store.records, store.folder, groups)
    reads = [groups] if groups is not None and is_table(groups) else []

    def read(record: ImageRecord) -> tuple[NDArray[np.uint8], LabelMap]:
        labels = store.read_labels(record, take_in=False)
        if labels is None:
            raise DatasetError(record.path, "has no label map any more; accept it again")
        return texts.looked_at(record, store.read_image(record)), labels

    texts = _Texts(Path(out), [record.path for record in done], black_text, overwrite)
    notes = grouped.strangers()
    if name is None:
        name = store.name
        if any(repeats_identity(path, name) for path in {record.path for record in done}):
            name = pseudonym(name, "images")
            notes.append(
                f"the folder's name repeats who a patient is; the data set is called {name} "
                "instead: name it (--name), if you like"
            )
    report = export_images(
        done,
        read,
        out,
        name=name,
        organ=organ,
        target=target,
        classes=classes,
        groups=grouped.of,
        labelling=labelling_in(store.settings()),
        format=format,
        licence=licence,
        made=made,
        split=split,
        reads=reads,
        overwrite=overwrite,
    )
    if measurements:
        folder = OutputFolder(out, overwrite=True)
        notes += write_measurements(store, Path(out) / TABLE, folder.write)[2]
    return replace(
        report,
        ungrouped=tuple(grouped.missing(report.exported)),
        notes=(*notes, *report.notes, *texts.notes()),
    )


class _Texts:
    """Burned-in text of the images of an export: said, or black and on a sheet.

    Args:
        out: of the data set.
        reads: the images' files.
        black: whether it becomes black.
        overwrite: replace an earlier sheet.

    Raises:
        LabelWriteError: the sheet's place is a person's.
    """

    def __init__(self, out: Path, reads: Sequence[Path], black: bool, overwrite: bool) -> None:
        self._ids: list[str] = []
        self._tiles: list[NDArray[np.uint8]] = []
        self._beside: OutputFolder | None = None  # where text becomes black
        if black:
            place = check_folder(out)
            self._beside = OutputFolder(place, reads=reads, overwrite=overwrite)
            self._beside.check(place / SHEET_FILE)

    def looked_at(self, record: ImageRecord, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The image (H, W, 3), its text black where that is asked for."""
        lines = find_text(image, find_tissue(image))
        if not lines:
            return image
        self._ids.append(record.image_id)
        if self._beside is None:
            return image
        after = image.copy()
        after[text_mask(lines, image.shape[:2])] = 0
        if len(self._tiles) < MOST_TILES:
            self._tiles.append(pair(image, after, record.image_id, lines))
        return after

    def notes(self) -> list[str]:
        """What a person should know; the sheet is written."""
        if not self._ids:
            return []
        more = f" and {len(self._ids) - NAMED} more" if len(self._ids) > NAMED else ""
        named = f"{', '.join(self._ids[:NAMED])}{more}"
        if self._beside is None:
            return [
                f"{len(self._ids)} images seem to have text burned in ({named}): look before you "
                "share them, or export with --black-text"
            ]
        place = write_sheet(self._tiles, self._beside)
        return [
            f"what looks like text is black on {len(self._ids)} images ({named}): look at {place}"
        ]


TOGETHER = 32
"""So many images are imported in one transaction."""
NAMED = 10
"""So many images are named of those that did not come in."""
TOGETHER_PIXELS = 1 << 28
"""Or fewer, where the masks of their objects have more pixels (bytes) than this."""
EDIT = "import"
OPEN = (ImageState.UNTOUCHED, ImageState.PROPOSED)
"""States in which nobody has decided about an image."""


@dataclass(frozen=True, slots=True)
class ImportReport:
    """Report of an import.

    Attributes:
        format: of the file.
        imported: ids of the images that have proposals of it now.
        objects: how many these are.
        empty: ids of the images on which the file has no object, so that nothing is proposed.
        kept: ids of the images that were left as they are: accepted, set aside, or begun.
        unmatched: what the file calls images that are not here.
        failures: what could not be read, or belongs to no single image here.
        notes: sentences about what the file, or the project, cannot hold.
    """

    format: str
    imported: tuple[str, ...]
    objects: int
    empty: tuple[str, ...]
    kept: tuple[str, ...]
    unmatched: tuple[str, ...]
    failures: tuple[ExportFailure, ...]
    notes: tuple[str, ...]

    @property
    def summary(self) -> str:
        """What is there now, in a few words."""
        return f"{self.format}: {self.objects} objects proposed on {len(self.imported)} images"

    def remarks(self) -> list[str]:
        """Sentences about what did not come in, or otherwise than the file has it."""
        told = []
        for what, names in (
            ("images have nothing labelled in the file", self.empty),
            ("images were left as they are (accepted, set aside or begun)", self.kept),
            ("images of the file are not here", self.unmatched),
        ):
            if names:
                more = ", ..." if len(names) > NAMED else ""
                told.append(f"{len(names)} {what}: {', '.join(names[:NAMED])}{more}")
        return [*told, *self.notes]


def import_labels(
    store: LabelStore,
    path: str | Path,
    *,
    format: str | None = None,
    segmenter: Segmenter | None = None,
    replace_proposals: bool = False,
    after: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ImportReport:
    """Take what another program, or this one, labelled as proposals.

    Args:
        store: whose images are meant; they are found by id, path or file name, DICOM files also by
            their SOP instance UID.
        path: of a file or a folder.
        format: a name in ``io.formats.FORMATS``; None finds it.
        segmenter: makes masks of objects that have a box only; without one the box is the mask.
        replace_proposals: put what the file says in the place of what is proposed, too.
        after: the events' serials are above this one; a session that gives out serials itself keeps
            two more than there are images for them.
        progress: called with (images done, images in all); may raise ``Cancelled``.

    Raises:
        DatasetError: the file cannot be read, is of no known format, or names no image here.
        LabelWriteError: the project cannot be written.
        PromptError: there is no such format.
    """
    if store.read_only:
        raise LabelWriteError(store.root or "memory", store.read_only)
    name, labels = read_labels_of(Path(path), format)
    return _Import(store, Path(path), name, labels, segmenter, replace_proposals, after).run(
        progress
    )


class _Import:
    """One import under way."""

    def __init__(
        self,
        store: LabelStore,
        path: Path,
        format: str,
        labels: LabelSet,
        segmenter: Segmenter | None,
        replace_proposals: bool,
        after: int,
    ) -> None:
        self._store, self._path, self._format, self._labels = store, path, format, labels
        self._segmenter, self._replace = segmenter, replace_proposals
        self._serial = max(store.log.serial, after)
        self._states = store.states()
        self._finder = ImageFinder(store.records, store.folder)
        self._records = {record.image_id: record for record in store.records}
        self._labelling = labelling_in(store.settings())
        self._is_unlabelled = not store.annotators()  # so how it is labelled can be chosen
        self._imported: dict[str, int] = {}
        self._seen: set[str] = set()
        self._empty: list[str] = []
        self._kept: list[str] = []
        self._unmatched: list[str] = []
        self._failures: list[ExportFailure] = []
        self._boxes = self._overlaps = self._outside = self._merged = 0
        self._classes: Edit | None = None
        self._waiting: list[Edit] = []
        self._waiting_pixels = 0

    def run(self, progress: Callable[[int, int], None]) -> ImportReport:
        """Do it all; what cannot be read stops nothing else."""
        images = self._labels.images
        numbers = self._take_classes()
        for done, image in enumerate(images, start=1):
            try:
                self._take(image, numbers)
            except UsgsegError as error:
                self._failures.append(ExportFailure(readable(image.names[0]), error))
            if len(self._waiting) >= TOGETHER or self._waiting_pixels > TOGETHER_PIXELS:
                self._record()
            progress(done, len(images))
        self._record()
        if images and len(self._unmatched) == len(images):
            here = ", ".join(record.image_id for record in self._store.records[:3])
            raise DatasetError(
                self._path,
                f"names no image that is here: it has {', '.join(self._unmatched[:3])}, the "
                f"project {readable(here)}; open the folder of the images that it was made on",
            )
        return ImportReport(
            self._format,
            tuple(self._imported),
            sum(self._imported.values()),
            tuple(self._empty),
            tuple(self._kept),
            tuple(self._unmatched),
            tuple(self._failures),
            tuple(self._notes()),
        )

    def _notes(self) -> Iterable[str]:
        yield from self._labels.notes
        if self._boxes:
            how = (
                "their boxes are the masks: click into each, or name a model"
                if self._segmenter is None
                else f"{self._segmenter.model_id} made their masks"
            )
            yield f"{self._boxes} objects have a box only; {how}"
        if self._outside:
            yield f"{self._outside} objects have no pixel in their image and were left out"
        if self._overlaps:
            yield (
                f"in {self._overlaps} images objects overlap: accepted, each pixel belongs to one, "
                "to the one on top"
            )
        if self._merged:
            yield (
                f"in {self._merged} images several objects of a class become one when they are "
                "accepted, for this project has one label for each class"
            )

    # -- classes -------------------------------------------------------------------------------

    def _take_classes(self) -> dict[int, int]:
        """Number in the file -> number here; classes that are not here by name are added."""
        before = self._store.table()
        classes = list(before.classes) if before is not None else []
        # Classes are matched by name: numbers mean other things in other programs.
        by_name = {item.name.casefold(): item.class_id for item in classes}
        used = {item.class_id for item in classes}
        last = max([*used, before.last if before is not None else 0], default=0)
        numbers: dict[int, int] = {}
        for item in self._labels.classes:
            known = by_name.get(item.name.casefold())
            if known is None:
                # A number that a class which is gone has had is not given again
                # (``ClassTable.last``).
                known = item.class_id if item.class_id > last or not used else last + 1
                if known in used or not 1 <= known <= MAX_LABEL:
                    known = max([*used, last]) + 1
                last = max(last, known) if before is not None else last
                used.add(known)
                classes.append(replace(item, class_id=known))
                by_name[item.name.casefold()] = known
            numbers[item.class_id] = known
        if max(used, default=0) > MAX_LABEL:
            raise DatasetError(
                self._path, f"brings more classes than a label map holds {MAX_LABEL}"
            )
        if before is None and not classes:
            return numbers
        ordered = tuple(sorted(classes, key=lambda item: item.class_id))
        if before is None:
            table = ClassTable(ordered, ordered[0].class_id)
        else:
            table = replace(before, classes=ordered)
        if table != before:
            self._classes = Edit("import classes", table=(before or table, table))
        return numbers

    # -- images --------------------------------------------------------------------------------

    def _take(self, image: LabelledImage, numbers: dict[int, int]) -> None:
        """Propose the objects of one image.

        Raises:
            UsgsegError: it cannot be read, or which image is meant is not certain.
        """
        record = self._find(image)
        if record is None:
            self._unmatched.append(readable(image.names[0]))
            return
        image_id = record.image_id
        before = self._store.read_proposal(image_id)
        state = self._states[image_id]
        free = state is ImageState.UNTOUCHED and not before.objects
        replaced = self._replace and before.objects and state in OPEN
        if image_id in self._seen:
            raise DatasetError(image.path, f"says two things of the image {image_id!r}; take one")
        if not free and not replaced:
            self._kept.append(image_id)
            return
        self._seen.add(image_id)
        objects = self._objects(image, record, numbers)
        after = ImageProposal(tuple(objects), model_id=self._format)
        if not objects:
            self._empty.append(image_id)
            return
        self._imported[image_id] = len(objects)
        self._waiting.append(Edit(EDIT, image_id, (before, after)))
        self._waiting_pixels += len(objects) * record.size_hw[0] * record.size_hw[1]

    def _find(self, image: LabelledImage) -> ImageRecord | None:
        """The image that is meant; None where none is.

        Raises:
            DatasetError: several are.
        """
        for name, found in self._candidates(image):
            if image.frame is not None and len(found) > 1:
                found = [record for record in found if record.frame == image.frame]
            if len(found) > 1:
                raise DatasetError(
                    image.path,
                    f"{name!r} has {len(found)} frames here, and it is not said which is meant; "
                    f"name the frame, as in {found[0].image_id!r}",
                )
            if found:
                return found[0]
        return None

    def _candidates(self, image: LabelledImage) -> Iterator[tuple[str, list[ImageRecord]]]:
        """What is meant by each thing that the image is called, the best first."""
        if image.instance:
            yield image.names[0], self._instances.get(image.instance, [])
        for name in (*image.names, Path(image.names[-1]).stem):
            try:
                yield name, [self._records[image_id] for image_id in self._finder.find(name)]
            except ValueError as error:
                raise DatasetError(image.path, str(error)) from error

    @cached_property
    def _instances(self) -> dict[str, list[ImageRecord]]:
        """SOP instance UID -> frames of its file, of the DICOM files that are here."""
        of_path: dict[Path, list[ImageRecord]] = defaultdict(list)
        for record in self._store.records:
            of_path[record.path].append(record)
        return {uid: found for path, found in of_path.items() if (uid := instance_of(path))}

    def _objects(
        self, image: LabelledImage, record: ImageRecord, numbers: dict[int, int]
    ) -> list[ProposedObject]:
        volume = record.path.name.lower().endswith((".nii", ".nii.gz"))
        # Slices of a volume are shown as viewers show them, turned from how its file stores them.
        read = image.turned if volume and image.turned is not None else image.read
        found = list(read(record.size_hw))
        strange = sorted({item.class_id for item in found} - numbers.keys())
        if strange:
            raise DatasetError(
                image.path, f"has the classes {strange[:5]}, which are not named there; name them"
            )
        told = len({item.class_id for item in found}) < len(found)
        if self._labels.told_apart and told and self._labelling == "semantic":
            # Objects that the file tells apart would melt into one region; where nothing is
            # labelled yet the project can still become one of instances.
            if self._is_unlabelled and self._fits_instances(numbers):
                self._choose("instance")
            else:
                self._merged += 1
        if self._labelling == "instance" and not self._labels.told_apart:
            found = [each for item in found for each in _parted(item)]
            check_count(image.path, len(found), record.size_hw)
        # An encoding for each field of view that a box is in, and not for each box.
        embed = cache(partial(self._embed, record))
        made = [self._proposed(record, item, numbers[item.class_id], embed) for item in found]
        kept = [item for item in made if item is not None and item.has_mask]
        self._outside += len(made) - len(kept)
        if self._overlap(kept):
            self._overlaps += 1
            if self._labels.last_on_top:  # of equal scores the first is on top when accepted
                kept.reverse()
        return kept

    def _fits_instances(self, numbers: dict[int, int]) -> bool:
        """Whether all classes are among those whose objects can have numbers."""
        return max(numbers.values(), default=0) <= MAX_CLASS

    def _choose(self, labelling: Labelling) -> None:
        """Choose how the project is labelled, before anything is."""
        self._labelling = labelling
        self._serial += 1
        body = {"labelling": labelling}
        self._store.record([Event(self._serial, EventKind.SETTINGS, body=body)])

    def _proposed(
        self,
        record: ImageRecord,
        item: LabelledObject,
        class_id: int,
        embed: Callable[[FieldOfView | None], ImageEmbedding],
    ) -> ProposedObject | None:
        """One object with its mask; None where it has none in this image."""
        if item.mask is not None:
            box = mask_to_box(item.mask)
            if box is None:
                return None
            proposal = Proposal(item.mask, box, 1.0, "", 1.0, as_logits(item.mask))
            return ProposedObject(class_id, Prompts(), proposal, by_hand=True)
        box = None if item.box is None else box_within(item.box, record.size_hw)
        if box is None:
            return None
        self._boxes += 1
        prompts = Prompts(box=box)
        if self._segmenter is None:
            mask = _filled(box, record.size_hw)
            proposal = Proposal(mask, box, 1.0, "", 1.0, as_logits(mask))
            return ProposedObject(class_id, Prompts(), proposal, by_hand=True)
        about, settings = self._store.about(record), PostprocessSettings()
        fields = fields_of_view(() if about is None else about.regions, record.size_hw)
        embedding = embed(field_of(fields, prompts))
        proposal = propose_prompts(self._segmenter, embedding, prompts, settings)
        return ProposedObject(class_id, prompts, proposal, by_hand=True)

    def _embed(self, record: ImageRecord, field: FieldOfView | None) -> ImageEmbedding:
        """What the segmenter sees of an image."""
        assert self._segmenter is not None
        return embed_field(self._segmenter, self._store.read_image(record), field)

    @staticmethod
    def _overlap(objects: Sequence[ProposedObject]) -> bool:
        masks = [item.proposal.mask for item in objects if item.proposal is not None]
        # More pixels in all than in the union: so some are in two.
        total = sum(int(np.count_nonzero(mask)) for mask in masks)
        return bool(masks) and total > int(np.count_nonzero(np.any(masks, axis=0)))

    def _record(self) -> None:
        """Write what waits, in one transaction."""
        if not self._waiting:
            return
        if self._classes is not None:
            self._waiting.insert(0, self._classes)
            self._classes = None
        first = self._serial + 1
        self._serial += len(self._waiting)
        events = [
            Event(serial, EventKind.EDIT, edit.image_id, edit)
            for serial, edit in enumerate(self._waiting, start=first)
        ]
        self._waiting, self._waiting_pixels = [], 0
        self._store.record(events)


def _parted(item: LabelledObject) -> Iterable[LabelledObject]:
    """The connected pieces of a class's region, each an object; a box is one as it is."""
    if item.mask is None:
        return (item,)
    return (replace(item, mask=piece) for piece in pieces_of(item.mask))


def _filled(box: FloatArray, size_hw: tuple[int, int]) -> BoolArray:
    """The pixels (H, W) of a box."""
    mask = np.zeros(size_hw, bool)
    x0, y0, x1, y1 = (round(float(side)) for side in box)
    mask[y0 : y1 + 1, x0 : x1 + 1] = True
    return mask
