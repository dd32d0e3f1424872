"""Image queue of a store: which is shown, how far each is, and what is kept of those left."""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict, deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from heapq import merge

from psygnal import Signal

from ..core.types import ImageRecord
from ..jobs.files import Loaded
from ..project.project import LabelStore
from ..project.records import Edit, ImageProposal, ImageState, LabelMap
from .undo import Outbox

HOUR_S = 3600.0
LEAST_TIMES = 4
"""So many accepted images must be known before a pace is told."""
KEPT_IMAGES = 5
"""The current one, two to come, the one before, and where the person came from."""
KEPT_PROPOSALS = 32


class ImageQueue:
    """Images with their states; those in each state are kept in order, so no step looks at all.

    ``state_changed`` carries the id of the one image whose state is shown otherwise from now on.

    Args:
        records: of the images, in order.
        states: of every image by its id.
        drawn: the images with labels that nobody accepted.
        empty: the accepted images on which nothing is labelled.
        store: of the images, or None before anything is opened.
        outbox: what the store is not known to have; images that it is about are not let go.

    Attributes:
        only: the state of the images to go through, or None for all.
        entries: indices of the images of each file, in order: many of a loop, else one.
    """

    state_changed = Signal(str)

    def __init__(
        self,
        records: Sequence[ImageRecord] = (),
        states: dict[str, ImageState] | None = None,
        drawn: Collection[str] = (),
        store: LabelStore | None = None,
        outbox: Outbox | None = None,
        empty: Collection[str] = (),
    ) -> None:
        self.store = store
        self.records: tuple[ImageRecord, ...] = tuple(records)
        self.only: ImageState | None = None
        self._index = {record.image_id: n for n, record in enumerate(self.records)}
        self.entries: tuple[range, ...] = tuple(_entries(self.records))
        self._entry_of = [n for n, entry in enumerate(self.entries) for _ in entry]
        self._current: int | None = None
        self._decided: dict[str, ImageState] = {}
        self._unflagged: dict[str, tuple[ImageState, ...]] = {}
        self._proposed: set[str] = set()
        self._drawn: set[str] = set(drawn)
        self._shown: dict[str, ImageState] = {}
        self._places: dict[ImageState, list[int]] = {state: [] for state in ImageState}
        self._accept_times: deque[float] = deque()
        self._outbox = outbox or Outbox()
        self._loaded: OrderedDict[str, Loaded] = OrderedDict()
        self._proposals: OrderedDict[str, ImageProposal] = OrderedDict()
        for n, record in enumerate(self.records):
            state = (states or {}).get(record.image_id, ImageState.UNTOUCHED)
            self._decided[record.image_id] = state
            if state is ImageState.PROPOSED:
                self._decided[record.image_id] = ImageState.UNTOUCHED
                self._proposed.add(record.image_id)
            if state is ImageState.ACCEPTED:
                if record.image_id in empty:
                    state = ImageState.EMPTY
                else:
                    self._drawn.add(record.image_id)
            self._shown[record.image_id] = state
            self._places[state].append(n)

    # -- where we are --------------------------------------------------------------------------

    @property
    def record(self) -> ImageRecord | None:
        """The current image."""
        return None if self._current is None else self.records[self._current]

    @property
    def position(self) -> int | None:
        """Index of the current image."""
        return self._current

    def go(self, image_id: str) -> None:
        """Make an image the current one."""
        self._current = self._index[image_id]

    def index_of(self, image_id: str) -> int:
        """Index of an image in ``records``."""
        return self._index[image_id]

    def get(self, image_id: str) -> ImageRecord:
        """The record of an image."""
        return self.records[self._index[image_id]]

    def entry_of(self, place: int) -> int:
        """Index in ``entries`` of the file of an image, which is given by its index."""
        return self._entry_of[place]

    @property
    def is_begun_loop(self) -> bool:
        """True where the current image is a frame of a loop on which there is something already."""
        entry = range(0) if self._current is None else self.entries[self.entry_of(self._current)]
        return len(entry) > 1 and self.count(ImageState.UNTOUCHED, entry) < len(entry)

    @property
    def loop(self) -> tuple[ImageRecord, ...]:
        """The frames of the loop that the current image is of; () where it is none of a loop."""
        entry = range(0) if self._current is None else self.entries[self.entry_of(self._current)]
        return self.records[entry.start : entry.stop] if len(entry) > 1 else ()

    def records_of(self, images: Iterable[str]) -> tuple[ImageRecord, ...]:
        """The records of some images, of those that are here."""
        return tuple(self.get(image_id) for image_id in images if image_id in self)

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._index

    # -- states --------------------------------------------------------------------------------

    def state_of(self, image_id: str) -> ImageState:
        """The state of an image as it is shown.

        It is proposed where something waits to be accepted, empty where it was accepted without
        any label.
        """
        return self._shown[image_id]

    def decided(self, image_id: str) -> ImageState:
        """The state of an image whatever is proposed on it."""
        return self._decided[image_id]

    def set_state(self, image_id: str, state: ImageState) -> None:
        """Note what was decided about an image."""
        self._decided[image_id] = state
        self._show(image_id)

    def learn(self, loaded: Loaded) -> None:
        """Note a state as the store has it: another program may have labelled the image."""
        image_id = loaded.record.image_id
        self._decided[image_id] = loaded.state
        self._unflagged[image_id] = loaded.unflagged
        self.set_drawn(image_id, bool(loaded.labels.any()))

    def unflagged(self, image_id: str) -> ImageState:
        """The state that a flagged image had before."""
        return (self._unflagged.get(image_id) or (ImageState.UNTOUCHED,))[-1]

    def note_flags(self, edit: Edit, undone: bool = False) -> None:
        """Note which images an edit flags, and what they were; or that it is undone."""
        for part in edit.parts or (edit,):
            image_id, states = part.image_id, part.state
            if image_id is not None and states is not None and states[1] is ImageState.FLAGGED:
                before = self._unflagged.get(image_id, ())
                self._unflagged[image_id] = before[:-1] if undone else (*before, states[0])

    def set_proposed(self, image_id: str, proposed: bool) -> None:
        """Note that a proposal waits on an image, or waits no more."""
        (self._proposed.add if proposed else self._proposed.discard)(image_id)
        self._show(image_id)

    def set_drawn(self, image_id: str, drawn: bool) -> None:
        """Note that an image has labels, accepted or not, or has none."""
        (self._drawn.add if drawn else self._drawn.discard)(image_id)
        self._show(image_id)

    def is_drawn(self, image_id: str) -> bool:
        """True where an image has labels, accepted or not."""
        return image_id in self._drawn

    @property
    def has_labels(self) -> bool:
        """True where an image was accepted, or something was drawn on one."""
        return bool(self._drawn) or self.accepted_count + self.count(ImageState.FLAGGED) > 0

    def _show(self, image_id: str) -> None:
        before, state, at = self._shown[image_id], self._decided[image_id], self._index[image_id]
        waits = image_id in self._proposed or image_id in self._drawn
        if state is ImageState.UNTOUCHED and waits:
            state = ImageState.PROPOSED
        elif state is ImageState.ACCEPTED and image_id not in self._drawn:
            state = ImageState.EMPTY
        if state is before:
            return
        # Sorted lists of indices: a step through 100 000 frames costs a bisection and no walk.
        places = self._places[before]
        del places[bisect_left(places, at)]
        insort(self._places[state], at)
        self._shown[image_id] = state
        self.state_changed.emit(image_id)

    @property
    def accepted(self) -> list[ImageRecord]:
        """The accepted images, in order, those that are empty among them."""
        places = merge(self._places[ImageState.ACCEPTED], self._places[ImageState.EMPTY])
        return [self.records[place] for place in places]

    def count(self, state: ImageState, within: range | None = None) -> int:
        """How many images are shown in a state, of all or of those with some indices."""
        places = self._places[state]
        if within is None:
            return len(places)
        return bisect_left(places, within.stop) - bisect_left(places, within.start)

    @property
    def accepted_count(self) -> int:
        """How many images are accepted, those that are empty among them."""
        return self.count(ImageState.ACCEPTED) + self.count(ImageState.EMPTY)

    @property
    def left(self) -> int:
        """How many images nobody has decided about."""
        return self.count(ImageState.UNTOUCHED) + self.count(ImageState.PROPOSED)

    def places(self, state: ImageState) -> Sequence[int]:
        """Indices of the images in a state, in order; not to be changed."""
        return self._places[state]

    # -- what comes next -----------------------------------------------------------------------

    def neighbour(self, by: int) -> str | None:
        """The image so many places on among those that the filter lets through; None past an end.

        The current image need not be one of them.
        """
        here = -1 if self._current is None else self._current
        if self.only is None:
            at = here + by
            return self.records[at].image_id if 0 <= at < len(self.records) else None
        places = self._places[self.only]
        # The current image need not be in the list (another filter), hence the two sides of the
        # bisection.
        at = bisect_right(places, here) + by - 1 if by > 0 else bisect_left(places, here) + by
        return self.records[places[at]].image_id if 0 <= at < len(places) else None

    def next_untouched(self) -> str | None:
        """The next untouched or proposed image after this one, round the end; None if none."""
        here = -1 if self._current is None else self._current
        ahead: list[int] = []
        round_the_end: list[int] = []
        for state in (ImageState.UNTOUCHED, ImageState.PROPOSED):
            places = self._places[state]
            after = bisect_right(places, here)
            ahead += places[after : after + 1]
            round_the_end += [place for place in places[:1] if place < here]
        found = ahead or round_the_end
        return self.records[min(found)].image_id if found else None

    def named(self, part: str) -> str | None:
        """The next image after this one, round the end, whose file's name holds ``part``."""
        wanted, here = part.strip().casefold(), -1 if self._current is None else self._current
        if not wanted:
            return None
        for record in (*self.records[here + 1 :], *self.records[: here + 1]):
            if wanted in record.path.name.casefold() or wanted in record.image_id.casefold():
                return record.image_id
        return None

    def resume_in(self, entry: range) -> str:
        """The image of a file to begin with: its first that nobody has decided about, or first."""
        open_ones = (ImageState.UNTOUCHED, ImageState.PROPOSED)
        left = (place for place in entry if self._shown[self.records[place].image_id] in open_ones)
        return self.records[next(left, entry.start)].image_id

    def resume_at(self, last: object) -> str | None:
        """The image to begin with: the last one, or the first untouched, or the first."""
        if isinstance(last, str) and last in self._index:
            return last
        first = self.records[0].image_id if self.records else None
        return self.next_untouched() or first

    # -- pace ----------------------------------------------------------------------------------

    def note_accept(self, edit: Edit) -> None:
        """Note an edit that a person just did, for the pace, if it accepts the image it is of.

        Images that are accepted together (its parts) tell nothing of how long one takes.
        """
        accepted, states = ImageState.ACCEPTED, edit.state
        if states is not None and states[1] is accepted and states[0] is not accepted:
            self._accept_times.append(time.monotonic())

    def per_hour(self) -> int | None:
        """Images accepted one by one per hour, of the last hour; None before the fourth."""
        times, now = self._accept_times, time.monotonic()
        while times and times[0] < now - HOUR_S:
            times.popleft()
        if len(times) < LEAST_TIMES:
            return None
        # n accepts enclose n - 1 images; and a second at least, so that a burst is no infinite
        # pace.
        return round(HOUR_S * (len(times) - 1) / max(now - times[0], 1.0))

    def hours_left(self) -> float | None:
        """How long the rest takes at this pace; None where no pace is known."""
        pace = self.per_hour()
        return self.left / pace if pace else None

    # -- what is kept ------------------------------------------------------------------------

    def leave(
        self, loaded: Loaded | None, labels: LabelMap | None, proposal: ImageProposal
    ) -> None:
        """Keep what is worth keeping of the current image for coming back to it."""
        if loaded is None or labels is None:
            return
        self.keep(replace(loaded, labels=labels, proposal=proposal))
        image_id = loaded.record.image_id
        self._proposals.pop(image_id, None)
        if proposal.objects:
            self._keep_proposal(image_id, proposal)

    def _keep_proposal(self, image_id: str, proposal: ImageProposal) -> None:
        self._proposals[image_id] = proposal
        while len(self._proposals) > KEPT_PROPOSALS:
            forgotten, _ = self._proposals.popitem(last=False)
            if self.store is not None and self.store.read_only:  # else the store has it
                self.set_proposed(forgotten, False)

    def keep(self, loaded: Loaded) -> None:
        """Keep an image that was read; the one not used for longest goes, if it is saved."""
        self._loaded[loaded.record.image_id] = loaded
        self._loaded.move_to_end(loaded.record.image_id)
        surplus = len(self._loaded) - KEPT_IMAGES
        if surplus > 0:
            unsaved = set() if self.store is None else self._outbox.changed(self.store)
            for image_id in [key for key in self._loaded if key not in unsaved][:surplus]:
                del self._loaded[image_id]

    def propose(self, image_id: str, proposal: ImageProposal) -> None:
        """Let something else be proposed on an image that is not shown."""
        if image_id in self._loaded:
            self._loaded[image_id] = replace(self._loaded[image_id], proposal=proposal)
        self._proposals.pop(image_id, None)
        if proposal.objects:  # it may be read at this moment as it was before
            self._keep_proposal(image_id, proposal)
        self.set_proposed(image_id, proposal.has_masks)

    def apply(self, edit: Edit) -> None:
        """Follow an edit of an image that is not shown.

        A patch does not tell whether labels are left around it: where the image is not kept, and
        labels were taken away, ``set_drawn`` is for who has read it.
        """
        image_id, loaded = edit.image_id, self._loaded.get(edit.image_id or "")
        if image_id is None or image_id not in self:
            return
        if edit.patch is not None:
            if loaded is not None:
                labels = edit.patch.applied(loaded.labels)
                self._loaded[image_id] = replace(loaded, labels=labels)
                self.set_drawn(image_id, bool(labels.any()))
            elif edit.patch.after.any():
                self.set_drawn(image_id, True)
        if edit.proposal is not None:
            self.propose(image_id, edit.proposal[1])
        if edit.state is not None:
            self.set_state(image_id, edit.state[1])

    def take_loaded(self, image_id: str) -> Loaded | None:
        """The image as read before, if it is still kept."""
        if image_id in self._loaded:
            self._loaded.move_to_end(image_id)
        return self._loaded.get(image_id)

    def take_proposal(self, image_id: str) -> ImageProposal | None:
        """What was proposed on an image when it was left; None where it was not kept here."""
        return self._proposals.pop(image_id, None)

    def nearby(self) -> tuple[ImageRecord, ...]:
        """The images that are likely to be wanted soon, the likeliest first."""
        found = dict.fromkeys(self.neighbour(by) for by in (1, 2, -1))
        return tuple(self.get(image_id) for image_id in found if image_id is not None)


def _entries(records: Sequence[ImageRecord]) -> Iterator[range]:
    """Indices of the images of each file: frames of one file that follow each other."""
    start = 0
    for end in range(1, len(records) + 1):
        before = records[end - 1]
        same = end < len(records) and records[end].path == before.path
        if not same or before.frame is None:
            yield range(start, end)
            start = end
