"""Answers to file requests; runs on the file worker, one request at a time and in order."""

from __future__ import annotations

import sys
import traceback
from dataclasses import replace

import numpy as np

from ..core.errors import FileError, UsgsegError
from ..io.images import content_key, to_rgb_uint8
from ..io.labels import labelling_in, semantic, values_in
from ..io.search import left_out
from ..project.export import export_store
from ..project.images import TO_SEARCH
from ..project.memory import MemoryStore
from ..project.project import ProjectStore
from ..project.records import LabelMap, LabelStore
from ..project.versions import ModelKind, Shelf, Versions
from .requests import (
    CloseRequest,
    ExportRequest,
    FileAnswer,
    FileRequest,
    Loaded,
    LoadRequest,
    OpenArrayRequest,
    Opened,
    OpenFolderRequest,
    PresentRequest,
    Prior,
    PriorRequest,
    SaveRequest,
    ShelfRequest,
    StepRequest,
    UseRequest,
)


def answer_file(request: FileRequest) -> FileAnswer:
    """Do what a file request asks; an error becomes an answer that says so."""
    try:
        return _answer(request)
    except UsgsegError as error:
        return FileAnswer(request.generation, request, error=str(error))
    except MemoryError:
        text = "not enough memory for this image; close other programs, or scale the image down"
        return FileAnswer(request.generation, request, error=text)
    except OSError as error:
        return FileAnswer(request.generation, request, error=f"{error}; check disk and permissions")
    except Exception as error:  # such as a damaged blob's; the saves that wait must still be done
        traceback.print_exc(file=sys.stderr)
        text = f"{type(error).__name__}: {error} (details on the terminal; restore a copy)"
        return FileAnswer(request.generation, request, error=text)


def _answer(request: FileRequest) -> FileAnswer:
    generation = request.generation
    match request:
        case OpenFolderRequest():
            store = ProjectStore(request.folder, request.labels_root, annotator=request.annotator)
            opened = _opened(store)
            return FileAnswer(generation, request, opened=opened)
        case OpenArrayRequest():
            opened = _opened(MemoryStore(request.name, to_rgb_uint8(request.array)))
            return FileAnswer(generation, request, opened=opened)
        case LoadRequest():
            return _load(request)
        case SaveRequest():
            return _save(request)
        case StepRequest():
            return FileAnswer(generation, request, edit=request.store.read_step(request.number))
        case PriorRequest():
            return FileAnswer(generation, request, prior=_prior(request))
        case PresentRequest():
            return FileAnswer(generation, request, present=_present(request))
        case UseRequest():
            return FileAnswer(generation, request, used=_used(request))
        case ShelfRequest():
            return FileAnswer(generation, request, versions=_shelf(request))
        case CloseRequest():
            request.store.close()
            return FileAnswer(generation, request)
        case ExportRequest():
            report = export_store(
                request.store,
                request.out,
                organ=request.organ,
                target=request.target,
                classes=request.classes,
                groups=request.groups,
                overwrite=request.overwrite,
            )
            said = " ".join((*report.ungrouped, *report.notes))
            return FileAnswer(generation, request, exported=report.whole(), warning=said)


def _opened(store: LabelStore) -> Opened:
    others = tuple(name for name in store.annotators() if name != store.annotator)
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
        _left_out(store),
    )


def _left_out(store: LabelStore) -> tuple[str, ...]:
    """Sentences about what a folder holds beside the images that are shown."""
    if not isinstance(store, ProjectStore):
        return ()
    return tuple(left_out(store.folder).sentences(TO_SEARCH))


def _versions(store: LabelStore, kind: ModelKind) -> Versions:
    if store.models_folder is None:
        return Versions()
    shelf = Shelf(store.models_folder, kind)
    if store.read_only:
        return shelf.read()
    try:
        return shelf.settle()
    except UsgsegError as error:
        found = shelf.read()
        return replace(found, problems=(*found.problems, str(error)))


def _shelf(request: ShelfRequest) -> Versions:
    folder = request.store.models_folder
    if folder is None:
        return Versions()
    shelf = Shelf(folder, request.kind)
    if request.store.read_only:
        return shelf.read()
    match request.action:
        case "settle":
            return shelf.settle()
        case "choose":
            return shelf.choose(request.number)
        case "begin":
            return shelf.begin(request.values)
        case "pause":
            return shelf.pause()
        case "resume":
            return shelf.resume(request.values)
        case "discard":
            return shelf.discard()


def _present(request: PresentRequest) -> dict[str, tuple[int, ...]]:
    """The classes in each label map that can be read."""
    records = {record.image_id: record for record in request.store.records}
    labelling = labelling_in(request.store.settings())
    found: dict[str, tuple[int, ...]] = {}
    for image_id in request.images:
        try:
            labels = request.store.read_labels(records[image_id], take_in=False)
        except FileError:  # said when the image is opened
            labels = None
        values = [] if labels is None else values_in(semantic(labels, labelling))
        found[image_id] = tuple(values)
    return found


def _used(request: UseRequest) -> str:
    """The first image that has a class; one whose labels cannot be read may have it."""
    store = request.store
    labelling = labelling_in(store.settings())
    for record in store.records:
        if record.image_id == request.but:
            continue
        draft = store.read_draft(record.image_id)
        if any(item.class_id == request.class_id for item in draft.objects):
            return record.image_id
        try:
            labels = store.read_labels(record, take_in=False)
        except FileError:
            return record.image_id
        if labels is not None and request.class_id in values_in(semantic(labels, labelling)):
            return record.image_id
    return ""


def _load(request: LoadRequest) -> FileAnswer:
    record, warning = request.record, ""
    pixels = request.store.read_image(record)
    labels: LabelMap | None = None
    try:
        labels = request.store.read_labels(record)
    except FileError as error:
        warning = f"{error} (it is kept as a backup when you save this image)"
    if labels is None:
        labels = np.zeros(pixels.shape[:2], np.uint8)
    draft = request.store.read_draft(record.image_id)
    states = request.store.read_state(record.image_id)
    warning = " ".join(filter(None, (warning, *request.store.take_warnings())))
    loaded = Loaded(record, content_key(pixels), pixels, labels, draft, *states, warning)
    return FileAnswer(request.generation, request, loaded=loaded)


def _prior(request: PriorRequest) -> Prior:
    store, image_id = request.store, request.record.image_id
    labels = store.read_labels(request.record, take_in=False)
    draft = store.read_draft(image_id)
    if not draft.objects:
        accepts = (
            step
            for step in store.steps().done
            if (step.name, step.image_id) == ("accept", image_id)
        )
        last = max(accepts, key=lambda step: step.number, default=None)
        drafts = None if last is None else store.read_step(last.number).draft
        draft = draft if drafts is None else drafts[0]
    return Prior(labels, draft)


def _save(request: SaveRequest) -> FileAnswer:
    saved = request.store.record(request.events)
    warning = " ".join(request.store.take_warnings())
    return FileAnswer(request.generation, request, saved=saved, warning=warning)
