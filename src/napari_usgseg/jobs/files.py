"""Work for the file thread: each function is a job, done one at a time and in order.

To add one, write it here and submit it where its result is used.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..core.errors import FileError, UsgsegError
from ..core.notes import listening
from ..core.types import ImageRecord, LabelClass
from ..effort.efforts import about_the_work
from ..io.images import content_key, to_rgb_uint8
from ..io.labels import labelling_in, semantic, values_in
from ..io.reading.frames import FileAbout
from ..project.images import beside_images
from ..project.project import LabelStore, MemoryStore, Project
from ..project.records import (
    ClassTable,
    Edit,
    Event,
    ImageProposal,
    ImageState,
    LabelMap,
    SaveReport,
    Steps,
)
from ..project.versions import ModelKind, Versions, VersionStore
from .runner import Job, Outcome, outcome_of

SHOWN_AT_ONCE = 12_000_000
"""Pixels; more are handed to the screen in a smaller copy, which takes less than a tenth second."""
REDUCED_BY = 4
AT_ONCE = 16
"""Images whose labels one job reads where many are looked through: saving and opening wait no
longer than a moment."""

TOLD = 5
"""So many files that could not be read are named after an import."""


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """An image as read.

    Attributes:
        record: of the image.
        key: names this content for good.
        pixels: (H, W, 3) RGB uint8.
        labels: (H, W).
        proposal: what was proposed on it when it was read.
        state: what was decided about it, by whoever wrote its labels last.
        unflagged: its states before each flag that is not undone, the newest last.
        warning: a sentence for the person who looks at it, or "".
        notes: (file, text) of what is odd about it and was read all the same (``core.notes``).
        about: what its file says of spacing, regions and rate; None where there is none.
        reduced: smaller copies of the pixels for the screen, where they are very many.
        is_grey: its three channels are one; looked up here, for it takes long on a wide image.
        values: of the labels as read, but 0.
    """

    record: ImageRecord
    key: str
    pixels: NDArray[np.uint8]
    labels: LabelMap
    proposal: ImageProposal = field(default_factory=ImageProposal)
    state: ImageState = ImageState.UNTOUCHED
    unflagged: tuple[ImageState, ...] = ()
    warning: str = ""
    notes: tuple[tuple[str, str], ...] = ()
    about: FileAbout | None = None
    reduced: tuple[NDArray[np.uint8], ...] = ()
    is_grey: bool = False
    values: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A store with all that the session shows of it at once.

    ``others`` are the other annotators who labelled here, "" the first one; ``versions`` are the
    prompt predictors that were trained here, ``adapters`` the tuned detectors; ``drawn`` are the
    images with labels that nobody accepted, ``empty`` the accepted ones without any; ``left_out``
    says what else is in the folder.
    """

    store: LabelStore
    states: dict[str, ImageState]
    table: ClassTable | None
    settings: dict[str, Any]
    steps: Steps
    others: tuple[str, ...] = ()
    versions: Versions = field(default_factory=Versions)
    adapters: Versions = field(default_factory=Versions)
    drawn: frozenset[str] = frozenset()
    empty: frozenset[str] = frozenset()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Prior:
    """Earlier work on an image: its label map (H, W) or None, and the proposal behind it.

    The proposal is what is proposed there, or else what was accepted last.
    """

    labels: LabelMap | None
    proposal: ImageProposal


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """Work on an image as it is kept: its label map (H, W), and what is proposed."""

    record: ImageRecord
    labels: LabelMap
    proposal: ImageProposal


SUMMARY_SIDE = 160
"""The longer side of the picture in a summary is not longer, in pixels."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Summary of what is on an image, in a few bytes.

    Attributes:
        classes: in its labels or its proposals.
        score: of its least sure proposal, or None.
        size_hw: of the picture.
        picture: its class map, made small: (h, w) uint16, compressed.
    """

    classes: frozenset[int]
    score: float | None
    size_hw: tuple[int, int]
    picture: bytes

    def labels(self) -> NDArray[np.uint16]:
        """The small class map (h, w); what is proposed is in it where nothing is labelled."""
        values = np.frombuffer(zlib.decompress(self.picture), np.uint16)
        return values.reshape(self.size_hw)


class FileThread:
    """Runner of ``Lane.FILES``: does everything that it was given, in order, saves above all."""

    def __init__(self) -> None:
        # One thread and not more: a save must come before the reading of the same image that was
        # asked for after it, and a store is used by one thread at a time.
        self._pool = ThreadPoolExecutor(1, "usgseg-files")

    def submit(self, job: Job, answer: Callable[[Outcome], None]) -> None:
        """Do a job; ``answer`` is called with its outcome, on this thread."""
        with suppress(RuntimeError):  # it is closed, and nobody waits for anything any more
            self._pool.submit(lambda: answer(run_file_job(job)))

    def close(self) -> None:
        """Finish what is queued and stop; a second time does nothing."""
        self._pool.shutdown()


def run_file_job(job: Job) -> Outcome:
    """Do a file job on this thread; after an error the saves that wait can still be done."""
    assert callable(job.function)
    function = job.function
    return outcome_of(
        lambda: function(*job.args),
        "restore a copy",
        "not enough memory for this image; close other programs, or scale the image down",
        "check disk and permissions",
    )


def open_folder(folder: Path, labels_root: Path | None = None, annotator: str = "") -> Opened:
    """Look through a folder of images, for an annotator: "" is the first, who needs no name."""
    return _opened(Project(folder, labels_root, annotator=annotator))


def open_array(name: str, array: NDArray[Any], about: FileAbout | None = None) -> Opened:
    """Take an image that is in memory already: any array of one image, and what is known of it."""
    return _opened(MemoryStore(name, to_rgb_uint8(array), about))


def _opened(store: LabelStore) -> Opened:
    others = tuple(name for name in store.annotators() if name != store.annotator)
    beside: tuple[str, ...] = ()
    if isinstance(store, Project):
        beside = beside_images(store.folder)
    return Opened(
        store,
        store.states(),
        store.table(),
        store.settings(),
        store.steps(),
        others,
        _versions(store, "ppn"),
        _versions(store, "lora"),
        store.drawn(),
        store.empty(),
        beside,
    )


def _versions(store: LabelStore, kind: ModelKind) -> Versions:
    if store.models_folder is None:
        return Versions()
    version_store = VersionStore(store.models_folder, kind)
    if store.read_only:
        return version_store.read()
    try:
        return version_store.register()
    except UsgsegError as error:
        found = version_store.read()
        return replace(found, problems=(*found.problems, str(error)))


def load_image(store: LabelStore, record: ImageRecord) -> Loaded:
    """Read an image and its label map."""
    warning = ""
    with listening() as heard:
        pixels = store.read_image(record)
    labels: LabelMap | None = None
    try:
        labels = store.read_labels(record)
    except FileError as error:
        # A damaged label file must not keep the image from being opened.
        warning = f"{error} (it is kept as a backup when you save this image)"
    if labels is None:
        labels = np.zeros(pixels.shape[:2], np.uint8)
    proposal = store.read_proposal(record.image_id)
    states = store.read_state(record.image_id)
    warning = " ".join(filter(None, (warning, *store.take_warnings())))
    key, notes = content_key(pixels), tuple(heard)
    about = store.about(record)
    return Loaded(
        record,
        key,
        pixels,
        labels,
        proposal,
        *states,
        warning,
        notes,
        about,
        reduced=reduced(pixels),
        is_grey=not (pixels != pixels[..., :1]).any(),
        values=tuple(values_in(labels)),
    )


def reduced(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], ...]:
    """Copies (h, w, 3) of an image (H, W, 3), each a quarter as wide, until one is small.

    There are none of an image that a screen shows at once.
    """
    copies: list[NDArray[np.uint8]] = []
    while pixels.shape[0] * pixels.shape[1] > SHOWN_AT_ONCE:
        # Each from the one before: all of them together cost a sixteenth more than the first alone.
        pixels = np.asarray(Image.fromarray(pixels).reduce(REDUCED_BY))
        copies.append(pixels)
    return tuple(copies)


def save(store: LabelStore, events: tuple[Event, ...]) -> tuple[SaveReport, str]:
    """Add events to the history of a store, and bring its label files up to date.

    Args:
        store: to save in.
        events: all that the store is not known to have; it passes over what it has.

    Returns:
        What was saved, and a sentence for the person, or "".
    """
    saved = store.record(events)
    return saved, " ".join(store.take_warnings())


def read_step(store: LabelStore, number: int) -> Edit:
    """Read the content of an old step of the history."""
    return store.read_step(number)


def read_prior(store: LabelStore, record: ImageRecord) -> Prior:
    """Read what a person made of another image, to begin with it on the current one."""
    image_id = record.image_id
    labels = store.read_labels(record, take_in=False)
    proposal = store.read_proposal(image_id)
    if not proposal.objects:
        proposal = store.log.accepted_proposal(image_id)
    return Prior(labels, proposal)


def classes_present(
    store: LabelStore, images: tuple[ImageRecord, ...]
) -> dict[str, tuple[int, ...]]:
    """The classes in the label maps of a few images, where they can be read."""
    labelling = labelling_in(store.settings())
    found: dict[str, tuple[int, ...]] = {}
    for record in images:
        try:
            labels = store.read_labels(record, take_in=False)
        except FileError:  # said when the image is opened
            labels = None
        values = [] if labels is None else values_in(semantic(labels, labelling))
        found[record.image_id] = tuple(values)
    return found


def read_contents(store: LabelStore, images: tuple[ImageRecord, ...]) -> dict[str, Content]:
    """What a person made of some images; those whose labels cannot be read are left out."""
    found = {}
    for record in images:
        with suppress(FileError):  # said when the image is opened
            labels = store.read_labels(record, take_in=False)
            if labels is None:
                labels = np.zeros(record.size_hw, np.uint8)
            proposal = store.read_proposal(record.image_id)
            found[record.image_id] = Content(record, labels, proposal)
    return found


def summarise(store: LabelStore, images: tuple[ImageRecord, ...]) -> dict[str, Summary]:
    """Summaries of some images; of those that can be read."""
    labelling = labelling_in(store.settings())
    return {
        image_id: summary_of(semantic(item.labels, labelling), item.proposal)
        for image_id, item in read_contents(store, images).items()
    }


def summary_of(class_map: LabelMap, proposal: ImageProposal) -> Summary:
    """The summary of an image with a class map (H, W) and what is proposed on it."""
    shrink = max(1.0, max(class_map.shape) / SUMMARY_SIDE)
    size = tuple(max(1, round(length / shrink)) for length in class_map.shape)
    places = np.ix_(
        *(
            # Picked pixels and no mean: values are numbers of classes.
            np.linspace(0, length - 1, wanted).round().astype(int)
            for length, wanted in zip(class_map.shape, size, strict=True)
        )
    )
    small = class_map[places].astype(np.uint16)
    classes, scores = set(values_in(class_map)), []
    for item in proposal.objects:
        if item.proposal is not None and item.has_mask:
            small[item.proposal.mask[places] & (small == 0)] = item.class_id
            classes.add(item.class_id)
            scores.append(float(item.proposal.score))
    least = min(scores, default=None)
    return Summary(frozenset(classes), least, small.shape, zlib.compress(small.tobytes()))


def find_use(store: LabelStore, class_id: int, but: str = "") -> str:
    """The first image, other than ``but``, that has a class in its labels or its proposals, or "".

    One whose labels cannot be read may have it.
    """
    labelling = labelling_in(store.settings())
    for record in store.records:
        if record.image_id == but:
            continue
        proposal = store.read_proposal(record.image_id)
        if any(item.class_id == class_id for item in proposal.objects):
            return record.image_id
        try:
            labels = store.read_labels(record, take_in=False)
        except FileError:
            return record.image_id
        if labels is not None and class_id in values_in(semantic(labels, labelling)):
            return record.image_id
    return ""


def change_versions(store: LabelStore, kind: ModelKind, action: str, *values: Any) -> Versions:
    """Change the model versions: an action of ``VersionStore``, with its arguments."""
    if store.models_folder is None:
        return Versions()
    version_store = VersionStore(store.models_folder, kind)
    changed: Versions = (
        version_store.read() if store.read_only else getattr(version_store, action)(*values)
    )
    return changed


def close_store(store: LabelStore) -> None:
    """Let others have a store."""
    store.close()


def import_labels(
    store: LabelStore, path: Path, events: tuple[Event, ...], after: int
) -> tuple[str, str]:
    """Take another program's labels as proposals, as ``project.exchange.import_labels``.

    Args:
        store: whose images are meant.
        path: of a file or a folder.
        events: all that the store is not known to have; they come ahead of the import's.
        after: the last serial of theirs.

    Returns:
        What is there now, and sentences about what is not, or "".
    """
    from ..project.exchange import import_labels as take_in  # the dock opens without it

    store.record(events)
    report = take_in(store, path, after=after)
    failed = [f"{item.image_id}: {item.error}" for item in report.failures]
    more = [f"and {len(failed) - TOLD} more could not be read"] if len(failed) > TOLD else []
    told = [*report.remarks(), *failed[:TOLD], *more, *store.take_warnings()]
    return report.summary, ". ".join(told)


def export_labels(
    store: LabelStore,
    out: Path,
    organ: str,
    target: str | None,
    classes: tuple[LabelClass, ...],
    overwrite: bool,
    groups: str | None,
    format: str,
    measurements: bool = False,
) -> tuple[Path, str]:
    """Write a data set of everything that is accepted, as ``project.exchange.export_store``.

    Returns:
        Its folder, and sentences for the person, or "".
    """
    from ..project.exchange import export_store  # the dock opens without it

    report = export_store(
        store,
        out,
        organ=organ,
        target=target,
        classes=classes,
        groups=groups,
        format=format,
        made=about_the_work(store),
        measurements=measurements,
        overwrite=overwrite,
    )
    return report.whole(), " ".join((*report.ungrouped, *report.notes))
