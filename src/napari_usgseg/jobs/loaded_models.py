"""Loaded models and recent images, shared by the lanes of the inference process (or by a test)."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
from cachetools import LRUCache, cached
from cachetools.keys import hashkey
from numpy.typing import NDArray

from ..core.errors import Cancelled
from ..core.types import FieldOfView, ImageEmbedding
from ..models.embedding_cache import CachePlace, CacheWriter, EmbeddingCache
from ..models.interfaces import Detector, Segmenter
from ..models.ppn.card import AutoSegmenter
from ..segmentation.field_of_view import crop, field_key
from .runner import IN_THE_BACKGROUND, Lane, Outcome, outcome_of

KEPT_IMAGES = 6
KEPT_MODELS = 2
PATIENCE_SECONDS = 10.0
"""The longest that a prefetch stands still at once, whatever happens elsewhere."""


@dataclass(frozen=True, slots=True, eq=False)
class ImageSource:
    """Pixels to work on: ``key`` names this content for good, ``pixels`` are (H, W, 3) uint8.

    ``pixels`` is None on the way to a process that has the image already. ``cache`` is where its
    embedding may be kept on disk, or None. ``fields`` are what models look at, () all of it.
    """

    key: str
    pixels: NDArray[np.uint8] | None
    cache: CachePlace | None = None
    fields: tuple[FieldOfView, ...] = ()


class MissingImageError(Exception):
    """A job came without pixels, and they are not kept here."""


class PrefetchGate:
    """Gate that holds prefetches up while a person's own job is done, unless that awaits them."""

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
        """The block may wait for the prefetch of ``key``, so that must not stand still."""
        with self._changed:
            self._needed[key] += 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._needed -= Counter((key,))  # which drops what is not needed any more

    def give_way(self, key: str) -> bool:
        """Return once nothing urgent is going on, or ``key`` is needed for it.

        Returns:
            False where that took longer than ``PATIENCE_SECONDS``.
        """
        with self._changed:
            return self._changed.wait_for(
                lambda: not self._busy or key in self._needed, PATIENCE_SECONDS
            )


@contextmanager
def pausing(wait: Callable[[], None]) -> Iterator[None]:
    """Call ``wait`` before every part (``torch.nn.Module``) that this thread runs in the block.

    ``wait`` returns at once or later, or raises to give the work up. Other threads are not touched.
    """
    # SAM 2.1 tiny on two busy cores, clicks while another image is prefetched, 60 each, in turn:
    # 246 ms in the median with this and 313 without; of the slowest 5 in 100, 382 and 450.
    if "torch" not in sys.modules:
        yield  # then no network of torch's can be what is about to run
        return
    from torch.nn.modules.module import register_module_forward_pre_hook

    thread = threading.get_ident()

    def before(module: Any, inputs: Any) -> None:
        if threading.get_ident() == thread:
            wait()

    # The hook is global to the process, hence the comparison of threads: a click in its own lane
    # must not wait for itself.
    hook = register_module_forward_pre_hook(before)
    try:
        yield
    finally:
        hook.remove()


P = ParamSpec("P")
T = TypeVar("T")


def _keeping(
    count: int, make: Callable[P, T], key: Callable[..., Hashable] = hashkey
) -> Callable[P, T]:
    """A function whose newest values are kept; two threads that ask for one get the same one."""
    # A condition and not a lock: with a lock cachetools computes outside of it, and two lanes would
    # load the same model twice.
    return cached(LRUCache(count), key, condition=threading.Condition())(make)


class LoadedModels:
    """Models, images and embeddings of the last few jobs; safe from several threads.

    What a job in a lane ``IN_THE_BACKGROUND`` asks for stands still, between two parts of a
    network, while a job of another lane is done.

    Args:
        load_segmenter: from a name; None is the registry's.
        load_detector: from a name; None is the registry's.

    Attributes:
        segmenter: gives a segmenter by its name, loaded where it is not.
        detector: the same of a detector.
        ppn: gives the prompt predictor of a folder for a segmenter, loaded where it is not.
    """

    def __init__(
        self,
        load_segmenter: Callable[[str], Segmenter] | None = None,
        load_detector: Callable[[str], Detector] | None = None,
    ) -> None:
        from ..models import registry

        self.segmenter = _keeping(KEPT_MODELS, load_segmenter or registry.load_segmenter)
        self.detector = _keeping(KEPT_MODELS, load_detector or registry.load_detector)
        self.ppn = _keeping(KEPT_MODELS, _load_ppn, lambda folder, of: (folder, of.model_id))
        self._cache = _keeping(KEPT_MODELS, EmbeddingCache)
        self._embedding = _keeping(
            KEPT_IMAGES,
            self._encode,
            lambda segmenter, source, field: (field_key(source.key, field), segmenter.model_id),
        )
        self._images: LRUCache[str, NDArray[np.uint8]] = LRUCache(KEPT_IMAGES)
        self._images_lock = threading.Lock()
        self._gate = PrefetchGate()
        self._job = threading.local()
        self.writer = CacheWriter()

    def run(
        self,
        function: Callable[..., Any],
        *args: Any,
        lane: Lane = Lane.CLICKS,
        tell: Callable[[Any], None] = lambda word: None,
        is_dropped: Callable[[], bool] = lambda: False,
    ) -> Outcome:
        """Do a job on this thread: ``function(self, *args)``.

        Args:
            function: of the job.
            args: the others of its arguments.
            lane: that it is in.
            tell: is given what the job says on its way.
            is_dropped: says whether nobody waits for it any more.

        Raises:
            MissingImageError: its pixels are needed.
        """
        self._job.tell, self._job.is_dropped = tell, is_dropped
        self._job.gives_way = lane in IN_THE_BACKGROUND
        self._job.start = time.perf_counter()
        missing = False

        def work() -> Any:
            nonlocal missing
            try:
                return function(self, *args)
            except MissingImageError:
                missing = True

        # A background job must not hold up the gate at which it waits itself.
        with contextlib.nullcontext() if self._job.gives_way else self._gate.urgent():
            outcome = outcome_of(
                work, "try another model", "not enough memory; choose a smaller model"
            )
        # MissingImageError is part of the protocol and no fault: it must pass by outcome_of, which
        # would make it a sentence.
        if missing:
            raise MissingImageError
        return outcome

    def tell(self, word: Any) -> None:
        """Say something on the way of this thread's job, which ``Job.told`` hears."""
        self._job.tell(word)

    def give_way(self) -> None:
        """Stand still while a person's own job is done, in a job in the background.

        Raises:
            Cancelled: nobody waits for this thread's job any more.
        """
        if self._job.gives_way:
            self._gate.give_way("")
        if self._job.is_dropped():
            raise Cancelled

    def giving_way(self) -> contextlib.AbstractContextManager[None]:
        """A block that does ``give_way`` before each part of a network that this thread runs."""
        return pausing(self.give_way)

    def elapsed(self) -> float:
        """Seconds since this thread's job began."""
        return time.perf_counter() - float(self._job.start)

    def pixels(self, source: ImageSource) -> NDArray[np.uint8]:
        """The pixels (H, W, 3), from the job or from an earlier one.

        Raises:
            MissingImageError: neither has them.
        """
        with self._images_lock:
            if source.pixels is not None:
                self._images[source.key] = source.pixels
            if source.key not in self._images:
                raise MissingImageError
            return self._images[source.key]

    def embeddings(self, source: ImageSource, segmenter_name: str) -> list[ImageEmbedding]:
        """The embedding of each field of view of an image, or the one of all of it.

        Raises:
            MissingImageError: one must be made, and there are no pixels.
        """
        fields = source.fields or (None,)
        return [self.embedding(source, segmenter_name, field) for field in fields]

    def embedding(
        self, source: ImageSource, segmenter_name: str, field: FieldOfView | None = None
    ) -> ImageEmbedding:
        """The embedding of a field of an image: from an earlier job, from the disk, or made now.

        Raises:
            MissingImageError: it must be made, and there are no pixels.
        """
        if source.pixels is not None:
            self.pixels(source)
        if self._job.gives_way:
            # Before the model is loaded, too: loading takes the processor from a click as encoding
            # does.
            self._gate.give_way(source.key)
            return self._embedding(self.segmenter(segmenter_name), source, field)
        segmenter = self.segmenter(segmenter_name)
        # The click may find that a prefetch is encoding this very image. _embedding then waits for
        # it, and it must not wait for the click.
        with self._gate.needing(source.key):
            return self._embedding(segmenter, source, field)

    def _encode(
        self, segmenter: Segmenter, source: ImageSource, field: FieldOfView | None
    ) -> ImageEmbedding:
        """The embedding from the disk, or made now and put there."""
        cache, key = None, field_key(source.key, field)
        if source.cache is not None:
            cache = self._cache(source.cache)
            found = cache.get(key, segmenter.model_id)
            if found is not None:
                return replace(found, field=field)
        pixels = self.pixels(source)
        with self._pausing(source.key) if self._job.gives_way else contextlib.nullcontext():
            embedding = segmenter.embed(pixels if field is None else crop(field, pixels), key)
        if cache is not None:
            self.writer.put(cache, embedding)
        return replace(embedding, field=field)

    def _pausing(self, key: str) -> contextlib.AbstractContextManager[None]:
        patient = True

        def wait() -> None:
            nonlocal patient
            # Once patience has run out this encoding does not stand still again, else a person who
            # clicks without a pause would never get the next image.
            patient = patient and self._gate.give_way(key)

        return pausing(wait)


def _load_ppn(folder: Path, segmenter: Segmenter) -> AutoSegmenter:
    from ..models.ppn.model import load_ppn

    return load_ppn(folder, segmenter)
