"""The images of a store: which is shown, how far each is, and what is kept of those left."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import replace

from ..store.base import ImageState, LabelMap, LabelStore
from ..types import ImageRecord
from .draft import Draft
from .image_queue import ImageQueue
from .outbox import Outbox
from .requests import Loaded

KEPT_IMAGES = 5
"""The current one, two to come, the one before, and where the person came from."""
KEPT_DRAFTS = 32


class Browser(ImageQueue):
    """A walk through the images of a store.

    Args:
        store: of the images, or None before anything is opened.
        states: of every image by its id.
        outbox: what the store is not known to have; images that it is about are not let go.
        drawn: the images with labels that nobody accepted.
    """

    def __init__(
        self,
        store: LabelStore | None = None,
        states: dict[str, ImageState] | None = None,
        outbox: Outbox | None = None,
        drawn: Collection[str] = (),
    ) -> None:
        super().__init__(() if store is None else store.records, states, drawn)
        self.store = store
        self._outbox = outbox
        self._loaded: OrderedDict[str, Loaded] = OrderedDict()
        self._drafts: OrderedDict[str, Draft] = OrderedDict()

    def leave(self, loaded: Loaded | None, labels: LabelMap | None, draft: Draft) -> None:
        """Keep what is worth keeping of the current image for coming back to it."""
        if loaded is None or labels is None:
            return
        self.keep(replace(loaded, labels=labels, draft=draft))
        image_id = loaded.record.image_id
        self._drafts.pop(image_id, None)
        if draft.objects:
            self._drafts[image_id] = draft
            while len(self._drafts) > KEPT_DRAFTS:
                forgotten, _ = self._drafts.popitem(last=False)
                if self.store is not None and self.store.read_only:  # else the store has it
                    self.set_proposed(forgotten, False)

    def keep(self, loaded: Loaded) -> None:
        """Keep an image that was read; the one not used for longest goes, if it is saved."""
        self._loaded[loaded.record.image_id] = loaded
        self._loaded.move_to_end(loaded.record.image_id)
        surplus = len(self._loaded) - KEPT_IMAGES
        if surplus > 0:
            unsaved = set[str]()
            if self._outbox is not None and self.store is not None:
                unsaved = self._outbox.changed(self.store)
            for image_id in [key for key in self._loaded if key not in unsaved][:surplus]:
                del self._loaded[image_id]

    def propose(self, image_id: str, draft: Draft) -> None:
        """Let something else be proposed on an image that is not shown."""
        if image_id in self._loaded:
            self._loaded[image_id] = replace(self._loaded[image_id], draft=draft)
        if self._drafts.pop(image_id, None) is not None and draft.objects:
            self._drafts[image_id] = draft
        self.set_proposed(image_id, draft.has_masks)

    def take_loaded(self, image_id: str) -> Loaded | None:
        """The image as read before, if it is still kept."""
        if image_id in self._loaded:
            self._loaded.move_to_end(image_id)
        return self._loaded.get(image_id)

    def take_draft(self, image_id: str) -> Draft | None:
        """What was proposed on an image when it was left; None where it was not kept here."""
        return self._drafts.pop(image_id, None)

    def nearby(self) -> tuple[ImageRecord, ...]:
        """The images that are likely to be wanted soon, the likeliest first."""
        found = dict.fromkeys(self.neighbour(by) for by in (1, 2, -1))
        return tuple(self.get(image_id) for image_id in found if image_id is not None)
