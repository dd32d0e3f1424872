"""Answers to file requests; runs on the file worker, one request at a time and in order."""

from __future__ import annotations

import numpy as np

from ..errors import FileError, UsgsegError
from ..io.images import content_key, to_rgb_uint8
from ..store.base import ImageState, LabelMap, LabelStore
from ..store.export import export_labelled
from ..store.folder import FolderStore
from ..store.memory import MemoryStore
from .requests import (
    ExportRequest,
    FileAnswer,
    FileRequest,
    Loaded,
    LoadRequest,
    OpenArrayRequest,
    Opened,
    OpenFolderRequest,
    RememberRequest,
    SaveRequest,
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


def _answer(request: FileRequest) -> FileAnswer:
    generation = request.generation
    match request:
        case OpenFolderRequest():
            opened = _opened(FolderStore(request.folder, request.labels_root))
            return FileAnswer(generation, request, opened=opened)
        case OpenArrayRequest():
            opened = _opened(MemoryStore(request.name, to_rgb_uint8(request.array)))
            return FileAnswer(generation, request, opened=opened)
        case LoadRequest():
            return _load(request)
        case SaveRequest():
            return _save(request)
        case RememberRequest():
            if request.values:
                request.store.remember(request.values)
            if request.classes is not None:
                request.store.write_classes(request.classes)
            return FileAnswer(generation, request)
        case ExportRequest():
            out = export_labelled(
                request.store,
                request.out,
                organ=request.organ,
                target=request.target,
                classes=request.classes,
                overwrite=request.overwrite,
            )
            return FileAnswer(generation, request, exported=out)


def _opened(store: LabelStore) -> Opened:
    return Opened(store, store.states(), store.classes(), store.settings())


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
    loaded = Loaded(record, content_key(pixels), pixels, labels)
    return FileAnswer(request.generation, request, loaded=loaded, warning=warning)


def _save(request: SaveRequest) -> FileAnswer:
    store, record = request.store, request.record
    if request.state is ImageState.COMMITTED:
        store.write_classes(request.classes)
        saved = store.write_labels(record, request.labels)
    else:
        saved = store.write_labels(record, None)
    store.skip(record.image_id, request.state is ImageState.SKIPPED)
    return FileAnswer(request.generation, request, saved=saved)
