"""Loaded models and recent images, shared by the lanes of the inference process (or by a test)."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from ..core.types import ImageEmbedding
from ..models.embedding_cache import CachePlace, CacheWriter, EmbeddingCache
from ..models.interfaces import AutoSegmenter, Detector, Segmenter
from .runner import Lane, Outcome, outcome_of

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
    # SAM 2.1 tiny on two busy cores, clicks while another image is encoded ahead, 60 each, in turn:
    # 246 ms in the median with this and 313 without; of the slowest 5 in 100, 382 and 450.
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


@dataclass(frozen=True, slots=True, eq=False)
class ImageSource:
    """Pixels to work on: ``key`` names this content for good, ``pixels`` are (H, W, 3) uint8.

    ``pixels`` is None on the way to a process that has the image already. ``cache`` is where its
    embedding may be kept on disk, or None.
    """

    key: str
    pixels: NDArray[np.uint8] | None
    cache: CachePlace | None = None


class MissingImageError(Exception):
    """A job came without pixels, and they are not kept here."""


def _registry_segmenter(name: str) -> Segmenter:
    from ..models.registry import load_segmenter

    return load_segmenter(name)


def _registry_detector(name: str) -> Detector:
    from ..models.registry import load_detector

    return load_detector(name)


class LoadedModels:
    """Models, images and embeddings of the last few jobs; safe from several threads.

    What a job in ``Lane.PREFETCH`` asks for stands still, between two parts of a network, while a
    job of another lane is done.

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
        self._ppns = Recent(2)
        self._turns = Turns()
        self._job = threading.local()
        self.writer = CacheWriter()

    def run(self, function: Callable[..., Any], *args: Any, lane: Lane = Lane.CLICKS) -> Outcome:
        """Do a job on this thread: ``function(self, *args)``.

        Raises:
            MissingImageError: its pixels are needed.
        """
        self._job.is_ahead = lane is Lane.PREFETCH
        self._job.start = time.perf_counter()
        missing = False

        def work() -> Any:
            nonlocal missing
            try:
                return function(self, *args)
            except MissingImageError:
                missing = True

        with contextlib.nullcontext() if self._job.is_ahead else self._turns.urgent():
            outcome = outcome_of(
                work, "try another model", "not enough memory; choose a smaller model"
            )
        if missing:
            raise MissingImageError
        return outcome

    def elapsed(self) -> float:
        """Seconds since this thread's job began."""
        return time.perf_counter() - float(self._job.start)

    def segmenter(self, name: str) -> Segmenter:
        """A segmenter, loaded where it is not."""
        return self._segmenters.get_or_make(name, lambda: self._load_segmenter(name))

    def detector(self, name: str) -> Detector:
        """A detector, loaded where it is not."""
        return self._detectors.get_or_make(name, lambda: self._load_detector(name))

    def ppn(self, folder: Path, segmenter: Segmenter) -> AutoSegmenter:
        """A prompt predictor of a segmenter, loaded where it is not."""

        def load() -> AutoSegmenter:
            from ..models.ppn.model import load_ppn

            return load_ppn(folder, segmenter)

        return self._ppns.get_or_make((folder, segmenter.model_id), load)

    def pixels(self, source: ImageSource) -> NDArray[np.uint8]:
        """The pixels (H, W, 3), from the job or from an earlier one.

        Raises:
            MissingImageError: neither has them.
        """
        if source.pixels is not None:
            self._images.put(source.key, source.pixels)
        pixels = self._images.get(source.key)
        if pixels is None:
            raise MissingImageError
        return cast(NDArray[np.uint8], pixels)

    def embedding(self, source: ImageSource, segmenter_name: str) -> ImageEmbedding:
        """The embedding of an image: from an earlier job, from the disk, or made now.

        Raises:
            MissingImageError: it must be made, and there are no pixels.
        """
        if source.pixels is not None:
            self.pixels(source)
        ahead = self._job.is_ahead
        if ahead:
            self._turns.give_way(source.key)
        segmenter = self.segmenter(segmenter_name)
        with contextlib.nullcontext() if ahead else self._turns.needing(source.key):
            return self._embeddings.get_or_make(
                (source.key, segmenter.model_id), lambda: self._encode(segmenter, source)
            )

    def _encode(self, segmenter: Segmenter, source: ImageSource) -> ImageEmbedding:
        """The embedding from the disk, or made now and put there."""
        cache = None
        if source.cache is not None:
            place = source.cache
            cache = self._caches.get_or_make(place, lambda: EmbeddingCache(place))
            kept = cache.get(source.key, segmenter.model_id)
            if kept is not None:
                return kept
        pixels = self.pixels(source)
        ahead = self._job.is_ahead
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
