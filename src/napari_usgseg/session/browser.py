"""The images of a store: which is shown, how far each is, and what is kept of those left."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import replace

from ..store.base import ImageState, LabelMap, LabelStore
from ..types import ImageRecord
from .draft import Draft
from .requests import Loaded

KEPT_IMAGES = 4
KEPT_DRAFTS = 32


class Browser:
    """A walk through the images of a store.

    Args:
        store: of the images, or None before anything is opened.
        states: of every image by its id.
    """

    def __init__(
        self, store: LabelStore | None = None, states: dict[str, ImageState] | None = None
    ) -> None:
        self.store = store
        self.records: tuple[ImageRecord, ...] = () if store is None else store.records
        self._states = dict(states or {})
        self._index = {record.image_id: n for n, record in enumerate(self.records)}
        self._current: int | None = None
        self._loaded: OrderedDict[str, Loaded] = OrderedDict()
        self._drafts: OrderedDict[str, Draft] = OrderedDict()
        self._commit_times: list[float] = []

    @property
    def record(self) -> ImageRecord | None:
        """The current image."""
        return None if self._current is None else self.records[self._current]

    @property
    def position(self) -> int | None:
        """Index of the current image."""
        return self._current

    def index_of(self, image_id: str) -> int:
        """Index of an image in ``records``."""
        return self._index[image_id]

    def get(self, image_id: str) -> ImageRecord:
        """The record of an image."""
        return self.records[self._index[image_id]]

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._index

    def state_of(self, image_id: str, draft: Draft | None = None) -> ImageState:
        """The state of an image; ``draft`` is its draft where it is the current one."""
        state = self._states[image_id]
        draft = draft if draft is not None else self._drafts.get(image_id)
        if state is ImageState.UNTOUCHED and draft is not None and draft.has_masks:
            return ImageState.PROPOSED
        return state

    def set_state(self, image_id: str, state: ImageState) -> None:
        """Note that an image is committed, skipped or untouched."""
        if state is ImageState.COMMITTED and self._states[image_id] is not state:
            self._commit_times.append(time.monotonic())
        self._states[image_id] = state

    @property
    def committed(self) -> int:
        """How many images are committed."""
        return sum(state is ImageState.COMMITTED for state in self._states.values())

    def per_hour(self) -> int | None:
        """Images committed per hour, over the last hour at most; None before the fourth."""
        recent = [at for at in self._commit_times if at > time.monotonic() - 3600]
        if len(recent) < 4:
            return None
        span = max(time.monotonic() - recent[0], 1.0)
        return round(3600 * (len(recent) - 1) / span)

    def resume_at(self, last: object) -> str | None:
        """The image to begin with: the last one, or the first untouched, or the first."""
        if isinstance(last, str) and last in self._index:
            return last
        untouched = (
            r.image_id for r in self.records if self._states[r.image_id] is ImageState.UNTOUCHED
        )
        first = self.records[0].image_id if self.records else None
        return next(untouched, first)

    def go(self, image_id: str) -> None:
        """Make an image the current one."""
        self._current = self._index[image_id]

    def neighbour(self, by: int) -> str | None:
        """The image so many places on, or None past an end."""
        at = (-1 if self._current is None else self._current) + by
        return self.records[at].image_id if 0 <= at < len(self.records) else None

    def next_untouched(self) -> str | None:
        """The next untouched or proposed image after this one, round the end; None if none."""
        here = -1 if self._current is None else self._current
        order = [*self.records[here + 1 :], *self.records[: max(here, 0)]]
        free = (r.image_id for r in order if self._states[r.image_id] is ImageState.UNTOUCHED)
        return next(free, None)

    def leave(self, loaded: Loaded | None, labels: LabelMap | None, draft: Draft) -> None:
        """Keep what is worth keeping of the current image for coming back to it."""
        if loaded is None or labels is None:
            return
        self.keep(replace(loaded, labels=labels))
        image_id = loaded.record.image_id
        self._drafts.pop(image_id, None)
        if draft.objects:
            self._drafts[image_id] = draft
            while len(self._drafts) > KEPT_DRAFTS:
                self._drafts.popitem(last=False)

    def keep(self, loaded: Loaded) -> None:
        """Keep an image that was read; the one not used for longest goes."""
        self._loaded[loaded.record.image_id] = loaded
        self._loaded.move_to_end(loaded.record.image_id)
        while len(self._loaded) > KEPT_IMAGES:
            self._loaded.popitem(last=False)

    def take_loaded(self, image_id: str) -> Loaded | None:
        """The image as read before, if it is still kept."""
        return self._loaded.get(image_id)

    def take_draft(self, image_id: str) -> Draft:
        """What was proposed on an image when it was left."""
        return self._drafts.pop(image_id, Draft())

    def to_load_ahead(self) -> ImageRecord | None:
        """The next image, if it is not read yet."""
        following = self.neighbour(1)
        if following is None or following in self._loaded:
            return None
        return self.get(following)
