"""Answers to model requests; lives in the worker process, or in a test."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import traceback
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from ..core.errors import UsgsegError
from ..core.types import ImageEmbedding
from ..models.embedding_cache import CachePlace, CacheWriter, EmbeddingCache
from ..models.interfaces import AutoSegmenter, Detector, Segmenter
from .requests import (
    EmbedRequest,
    ImageSource,
    LearnedPrompts,
    ModelAnswer,
    ModelRequest,
    ObjectsRequest,
    PhantomRequest,
    Priority,
    PromptRequest,
    ProposeRequest,
    TextRequest,
    WarmRequest,
)

PATIENCE_SECONDS = 10.0
"""The longest that work ahead stands still at once, whatever happens elsewhere."""


class Turns:
    """Work ahead waits while a person's own is being done, unless that one waits for it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._busy = 0
        self._needed: Counter[str] = Counter()

    @contextmanager
    def urgent(self) -> Iterator[None]:
        """A person waits for what is done in this block."""
        with self._changed:
            self._busy += 1
        try:
            yield
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()

    @contextmanager
    def needing(self, key: str) -> Iterator[None]:
        """The block may wait for what is done ahead under ``key``, so that must not stand still."""
        with self._changed:
            self._needed[key] += 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._needed[key] -= 1
                if not self._needed[key]:
                    del self._needed[key]

    def give_way(self, key: str) -> bool:
        """Return once nothing urgent is going on, or ``key`` is needed for it.

        Returns:
            False where that took longer than ``PATIENCE_SECONDS``.
        """
        with self._changed:
            return self._changed.wait_for(
                lambda: not self._busy or key in self._needed, PATIENCE_SECONDS
            )


T = TypeVar("T")


class Recent:
    """A few values by key; each is made once, even when two threads ask at the same time."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[object, object] = OrderedDict()
        self._guard = threading.Lock()
        self._making: dict[object, threading.Lock] = {}

    def get(self, key: object) -> object | None:
        """The value, or None where it is not (or no longer) kept."""
        with self._guard:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: object, value: object) -> None:
        """Keep a value; the one not used for longest goes."""
        with self._guard:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > self._size:
                self._values.popitem(last=False)

    def get_or_make(self, key: object, make: Callable[[], T]) -> T:
        """The value, made now if it is not kept; a second thread waits for the first."""
        with self._guard:
            lock = self._making.setdefault(key, threading.Lock())
        try:
            with lock:
                value = self.get(key)
                if value is None:
                    value = make()
                    self.put(key, value)
        finally:
            with self._guard:
                self._making.pop(key, None)
        return value  # type: ignore[return-value]


_here = threading.local()
_installed = threading.Lock()
_hook: Any = None


@contextmanager
def pausing(wait: Callable[[], None]) -> Iterator[None]:
    """Call ``wait`` before every part (``torch.nn.Module``) that this thread runs in the block.

    ``wait`` returns at once or later, or raises to give the work up. Other threads are not touched.
    """
    _install()
    before = getattr(_here, "wait", None)
    _here.wait = wait
    try:
        yield
    finally:
        _here.wait = before


def _install() -> None:
    """One hook for the process; without a ``wait`` in its thread it does nothing."""
    global _hook
    if "torch" not in sys.modules:
        return  # then no network of torch's can be what is about to run
    from torch.nn.modules.module import register_module_forward_pre_hook

    with _installed:
        if _hook is None:
            _hook = register_module_forward_pre_hook(_before)


def _before(module: Any, inputs: Any) -> None:
    wait = getattr(_here, "wait", None)
    if wait is not None:
        wait()


KEPT_IMAGES = 6
PHANTOMS = 6
"""To try the window on."""


def _registry_segmenter(name: str) -> Segmenter:
    from ..models.registry import load_segmenter

    return load_segmenter(name)


def _registry_detector(name: str) -> Detector:
    from ..models.registry import load_detector

    return load_detector(name)


class _MissingImageError(Exception):
    """The request came without pixels and they are not kept here."""


class Engine:
    """Loaded models and the embeddings of the last few images; safe from several threads.

    Work ahead (``Priority.PREFETCH``) stands still, between two parts of a network, while anything
    else is being answered.

    Args:
        load_segmenter: from a name; the registry's where it is left out.
        load_detector: from a name; the registry's where it is left out.
    """

    def __init__(
        self,
        load_segmenter: Callable[[str], Segmenter] = _registry_segmenter,
        load_detector: Callable[[str], Detector] = _registry_detector,
    ) -> None:
        self._load_segmenter = load_segmenter
        self._load_detector = load_detector
        self._segmenters = Recent(2)
        self._detectors = Recent(2)
        self._images = Recent(KEPT_IMAGES)
        self._embeddings = Recent(KEPT_IMAGES)
        self._caches = Recent(2)
        self._learned = Recent(2)
        self._turns = Turns()
        self.writer = CacheWriter()

    def answer(self, request: ModelRequest) -> ModelAnswer:
        """Do what a request asks; whatever goes wrong becomes an answer that says so."""
        start = time.perf_counter()
        blank = ModelAnswer(request.generation, type(request).__name__)
        ahead = request.priority == Priority.PREFETCH
        try:
            with contextlib.nullcontext() if ahead else self._turns.urgent():
                result = self._answer(request, blank)
        except _MissingImageError:
            result = replace(blank, missing_image=True)
        except UsgsegError as error:
            result = replace(blank, error=str(error))
        except MemoryError:
            result = replace(blank, error="not enough memory; choose a smaller model")
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            text = f"{type(error).__name__}: {error} (details on the terminal; try another model)"
            result = replace(blank, error=text)
        return replace(result, seconds=time.perf_counter() - start)

    def _answer(self, request: ModelRequest, blank: ModelAnswer) -> ModelAnswer:
        match request:
            case WarmRequest():
                model_id = ""
                if request.segmenter is not None:
                    model_id = self._segmenter(request.segmenter).model_id
                if request.detector is not None:
                    self._detector(request.detector)
                return replace(blank, model_id=model_id)
            case EmbedRequest():
                return replace(blank, model_id=self._embed(request).model_id)
            case PromptRequest():
                return self._predict(request, blank)
            case ObjectsRequest():
                return self._predict_all(request, blank)
            case TextRequest():
                return self._find(request, blank)
            case ProposeRequest():
                return self._propose(request, blank)
            case PhantomRequest():
                from ..phantoms.phantom import write_phantom_dataset

                write_phantom_dataset(request.folder, PHANTOMS, seed=0)
                return blank

    def _predict(self, request: PromptRequest, blank: ModelAnswer) -> ModelAnswer:
        from ..segmentation.propose import propose_prompts

        segmenter = self._segmenter(request.segmenter)
        embedding = self._embed(request)
        model_id, learned = segmenter.model_id, request.learned
        notes: tuple[str, ...] = ()
        if learned is not None:
            try:
                ppn = self._ppn(learned, segmenter)
            except UsgsegError as error:  # a click works all the same
                notes = (str(error),)
            else:
                if learned.class_id in ppn.card.classes:
                    segmenter = ppn.for_class(learned.class_id)
                    model_id = f"{learned.name}@{model_id}"
        proposal, _ = propose_prompts(
            segmenter, embedding, request.prompts, request.settings, request.previous
        )
        return replace(blank, proposals=(proposal,), notes=notes, model_id=model_id)

    def _propose(self, request: ProposeRequest, blank: ModelAnswer) -> ModelAnswer:
        from ..segmentation.propose import propose_auto

        segmenter = self._segmenter(request.segmenter)
        embedding = self._embed(request)
        found = propose_auto(self._ppn(request.learned, segmenter), embedding, request.settings)
        model_id = f"{request.learned.name}@{segmenter.model_id}"
        return replace(blank, proposals=found.items, notes=found.notes, model_id=model_id)

    def _predict_all(self, request: ObjectsRequest, blank: ModelAnswer) -> ModelAnswer:
        from ..segmentation.propose import propose_prompts

        segmenter = self._segmenter(request.segmenter)
        embedding = self._embed(request)
        found = (
            propose_prompts(segmenter, embedding, prompts, request.settings)
            for prompts in request.prompts
        )
        proposals = tuple(proposal for proposal, _ in found)
        return replace(blank, proposals=proposals, model_id=segmenter.model_id)

    def _find(self, request: TextRequest, blank: ModelAnswer) -> ModelAnswer:
        from ..segmentation.propose import propose_text

        segmenter = self._segmenter(request.segmenter)
        detector, fell_back = self._detector_for(request)
        embedding = self._embed(request)
        image = self._images.get(request.source.key)
        if image is None:
            raise _MissingImageError
        found = propose_text(
            segmenter,
            detector,
            cast(NDArray[np.uint8], image),
            request.prompt,
            request.settings,
            embedding,
        )
        return replace(
            blank,
            proposals=found.items,
            notes=found.notes,
            model_id=f"{detector.model_id} + {segmenter.model_id}",
            fell_back=fell_back,
        )

    def _ppn(self, learned: LearnedPrompts, segmenter: Segmenter) -> AutoSegmenter:
        def load() -> AutoSegmenter:
            from ..models.ppn.model import load_ppn

            return load_ppn(learned.folder, segmenter)

        return self._learned.get_or_make((learned.folder, segmenter.model_id), load)

    def _segmenter(self, name: str) -> Segmenter:
        return self._segmenters.get_or_make(name, lambda: self._load_segmenter(name))

    def _detector(self, name: str) -> Detector:
        return self._detectors.get_or_make(name, lambda: self._load_detector(name))

    def _detector_for(self, request: TextRequest) -> tuple[Detector, str]:
        """The detector, or its fallback and why that is asked."""
        try:
            return self._detector(request.detector), ""
        except UsgsegError as error:
            if not request.fallback:
                raise
            return self._detector(request.fallback), str(error)

    def _embed(
        self,
        request: EmbedRequest | PromptRequest | ObjectsRequest | TextRequest | ProposeRequest,
    ) -> ImageEmbedding:
        source: ImageSource = request.source
        if source.pixels is not None:
            self._images.put(source.key, source.pixels)
        ahead = request.priority == Priority.PREFETCH
        if ahead:
            self._turns.give_way(source.key)
        segmenter = self._segmenter(request.segmenter)
        with contextlib.nullcontext() if ahead else self._turns.needing(source.key):
            return self._embeddings.get_or_make(
                (source.key, segmenter.model_id), lambda: self._encode(segmenter, source, ahead)
            )

    def _encode(self, segmenter: Segmenter, source: ImageSource, ahead: bool) -> ImageEmbedding:
        """The embedding from the disk, or made now and put there."""
        cache = self._cache(source.cache)
        kept = None if cache is None else cache.get(source.key, segmenter.model_id)
        if kept is not None:
            return kept
        pixels = cast(NDArray[np.uint8] | None, self._images.get(source.key))
        if pixels is None:
            raise _MissingImageError
        with self._pausing(source.key) if ahead else contextlib.nullcontext():
            embedding = segmenter.embed(pixels, source.key)
        if cache is not None:
            self.writer.put(cache, embedding)
        return embedding

    def _pausing(self, key: str) -> contextlib.AbstractContextManager[None]:
        patient = True

        def wait() -> None:
            nonlocal patient
            patient = patient and self._turns.give_way(key)

        return pausing(wait)

    def _cache(self, place: CachePlace | None) -> EmbeddingCache | None:
        if place is None:
            return None
        return self._caches.get_or_make(place, lambda: EmbeddingCache(place))
