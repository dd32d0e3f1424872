"""Prefetch: images are encoded before the first click, those around the current one read too."""

from __future__ import annotations

from collections.abc import Callable

from ..jobs import Lane, Scope, files, inference
from ..jobs.files import Loaded
from .document import AnnotationDocument
from .state import MODEL


class Prefetch:
    """``session.prefetch``: the next two images and the previous one, in the order of the queue.

    One image is read at a time, so that a person who goes elsewhere waits for one at the most; each
    is encoded as soon as it is read, and segmented where a prompt predictor shows masks by itself.
    The worker does that only while nobody waits for it.

    Args:
        document: what is open.
        propose: has an image that was read segmented; False where nothing is to be proposed on it.
        encoded: hears of the model that encoded the current image.
    """

    def __init__(
        self,
        document: AnnotationDocument,
        propose: Callable[[Loaded], bool],
        encoded: Callable[[str], None],
    ) -> None:
        self._document, self._propose, self._encoded = document, propose, encoded
        self._asked: set[str] = set()

    def prepare(self, text: str) -> None:
        """Encode the image that is shown, so that the first click waits for nothing."""
        document = self._document
        document.ask(
            inference.embed,
            document.source(),
            document.settings.segmenter,
            lane=Lane.CLICKS,
            key="embed",
            scope=Scope.IMAGE,
            text=text,
            aside=True,
            kind=MODEL,
            done=self._encoded,
        )

    def begin(self) -> None:
        """Look around the image that is shown now; what was going on for another one is dropped."""
        self._document.jobs.cancel(Scope.PREFETCH)
        self._asked.clear()
        self._go_on()

    def _go_on(self) -> None:
        """Read the next image that is not there yet."""
        document = self._document
        if document.store is None:
            return
        for record in document.image_queue.nearby():
            if record.image_id in self._asked:
                continue
            self._asked.add(record.image_id)
            kept = document.image_queue.take_loaded(record.image_id)
            if kept is None:
                document.ask(
                    files.load_image,
                    document.store,
                    record,
                    lane=Lane.FILES,
                    key="prefetch",
                    scope=Scope.PREFETCH,
                    done=self._take,
                    failed=lambda _: self._go_on(),  # said when it is opened
                    late=lambda loaded: warn_of(document, loaded),
                )
                return
            self._encode(kept)

    def _take(self, loaded: Loaded) -> None:
        """Keep an image that was read, have it encoded, and read the next one."""
        image_queue = self._document.image_queue
        image_queue.learn(loaded)
        image_queue.keep(loaded)
        self._encode(loaded)
        self._go_on()

    def _encode(self, loaded: Loaded) -> None:
        document = self._document
        # Segmenting encodes too, so it is one or the other.
        if not self._propose(loaded):
            document.ask(
                inference.embed,
                document.source(loaded),
                document.settings.segmenter,
                lane=Lane.PREFETCH,
                scope=Scope.PREFETCH,
            )


def warn_of(document: AnnotationDocument, loaded: Loaded) -> None:
    """Say what is to be said of an image as it was read, for the store says it once."""
    if loaded.warning:
        document.notified.emit("warning", loaded.warning)
