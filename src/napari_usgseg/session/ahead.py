"""What is done while a person looks: the images around this one are read and encoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .proposals import AHEAD
from .requests import EmbedRequest, Loaded, LoadRequest, Priority

if TYPE_CHECKING:
    from .annotator import AnnotationSession


class Ahead:
    """``session.ahead``: the next two images and the previous one, in the order of the queue.

    One image is read at a time, so that a person who goes elsewhere waits for one at the most; each
    is encoded as soon as it is read, and segmented where a prompt predictor shows masks by itself.
    The worker does that only while nobody waits for it.
    """

    def __init__(self, session: AnnotationSession) -> None:
        self._session = session
        self._asked: set[str] = set()

    def begin(self) -> None:
        """Look around the image that is shown now; what was going on for another one is dropped."""
        self._session.progress.drop("ahead", "prefetch")
        self._session.progress.drop_all(AHEAD)
        self._asked.clear()
        self.go_on()

    def take(self, loaded: Loaded) -> None:
        """Keep an image that was read ahead, have it encoded, and read the next one."""
        self._session.browser.keep(loaded)
        self._encode(loaded)
        self.go_on()

    def go_on(self) -> None:
        """Read the next image that is not there yet."""
        session = self._session
        if session.store is None:
            return
        for record in session.browser.nearby():
            if record.image_id in self._asked:
                continue
            self._asked.add(record.image_id)
            kept = session.browser.take_loaded(record.image_id)
            if kept is None:
                generation = session.progress.begin("ahead")
                session.ask(LoadRequest(generation, session.store, record))
                return
            self._encode(kept)

    def _encode(self, loaded: Loaded) -> None:
        session = self._session
        proposal = session.predictor.proposals.ahead_of(loaded)
        if proposal is not None:
            session.ask(proposal)
            return
        generation = session.progress.begin("prefetch")
        source, segmenter = session.source(loaded), session.settings.segmenter
        session.ask(EmbedRequest(generation, source, segmenter, Priority.PREFETCH))
