"""Effort on an image: time, prompts and models of one annotator, read from the events.

Only what a person sets off counts as time: from one such event to the next while an image is open.
A pause longer than ``IDLE_SECONDS`` counts as that long, for nobody knows when the person left. A
visit whose ``leave`` says how long the person was at work (the session sees more, such as a long
stroke) takes that figure instead.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from ..models.grounding.phrases import split_phrases
from ..project.project import LabelStore
from ..project.records import BY_RUNS, EventKind, ImageState, StoredEvent

IDLE_SECONDS = 30.0
"""The longest pause that counts as work, here and for a ``Stopwatch``."""

BY_PHRASE = "phrase"
"""The source of a proposal that a phrase found; others are named by the edit: "click", "box"."""

BY_PPN = "prompt predictor"
"""The source of a proposal that a prompt predictor made by itself."""

BY_PROPAGATION = "propagation"
"""The source of a proposal that came from other frames of a loop."""

UNASKED = (BY_PPN, BY_PROPAGATION)


class Way(StrEnum):
    """Way in which accepted labels came about."""

    UNCHANGED = "unchanged"
    CHANGED = "changed"
    DISCARDED = "thrown away"
    BY_HAND = "by hand"
    EMPTY = "nothing there"


@dataclass(frozen=True, slots=True)
class First:
    """The first proposal on an image.

    Attributes:
        source: what it came from: "phrase", "click", "box", ...
        model: that made it.
        document: of the proposal, to be read with ``LabelStore.proposal``.
    """

    source: str
    model: str
    document: str

    @property
    def name(self) -> str:
        """Model and source, as a report names them."""
        return f"{self.source}: {self.model}" if self.model else self.source


@dataclass(frozen=True, slots=True)
class Search:
    """Phrases that were looked for together, which of them found something, and how many objects.

    Phrases are in lower case; ``document`` is of what was found, or None.
    """

    phrases: tuple[str, ...]
    found: int
    found_phrases: tuple[str, ...] = ()
    document: str | None = None


@dataclass(frozen=True, slots=True)
class ClassQuality:
    """One class of a proposal beside what was accepted of it; ``phrase`` found it, or ""."""

    class_id: int
    phrase: str
    dice: float
    hd95_px: float


@dataclass(frozen=True, slots=True)
class Quality:
    """A proposal beside what was accepted: means over its classes."""

    classes: tuple[ClassQuality, ...]

    @property
    def dice(self) -> float:
        """In [0, 1]; 1 where nothing was changed."""
        return sum(item.dice for item in self.classes) / len(self.classes)

    @property
    def hd95_px(self) -> float:
        """In pixels; 0 where nothing was changed."""
        return sum(item.hd95_px for item in self.classes) / len(self.classes)


@dataclass(slots=True)
class ImageEffort:
    """Effort of one annotator on one image.

    Attributes:
        image_id: of the image.
        annotator: "" for the first.
        began_at: seconds since 1970 of the first event.
        accepted_at: of the last accept, or None where the image is not accepted now.
        active_s: seconds at work, over all visits.
        waited_s: seconds that the models took for what was asked here.
        visits: how often the image was opened.
        edits: how often each kind of edit was done, by its name, undone ones too.
        undone: how often one was taken back.
        models: that answered, the one that answered last at the end.
        searches: phrases that were looked for.
        first: the first proposal, or None.
        way: how the accepted labels came about; None where nothing is accepted.
        labels_seq: of the last event that touched the labels.
        state: of the image now.
        quality: of the first proposal beside what was accepted, once it was measured.
    """

    image_id: str
    annotator: str
    began_at: float
    accepted_at: float | None = None
    active_s: float = 0.0
    waited_s: float = 0.0
    visits: int = 0
    edits: Counter[str] = field(default_factory=Counter)
    undone: int = 0
    models: list[str] = field(default_factory=list)
    searches: list[Search] = field(default_factory=list)
    first: First | None = None
    way: Way | None = None
    labels_seq: int = 0
    state: ImageState = ImageState.UNTOUCHED
    quality: Quality | None = None

    @property
    def clicks(self) -> int:
        """Clicks, positive and negative."""
        return self.edits["click"]


def span(seconds: float) -> str:
    """A time for reading: "40 s", "12 min" or "3.5 h"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def efforts(
    events: Iterable[StoredEvent],
    annotator: str,
    states: Mapping[str, ImageState],
    idle: float = IDLE_SECONDS,
) -> tuple[ImageEffort, ...]:
    """What one annotator did, one row for each image that was touched, in the order of beginning.

    Args:
        events: of the project, in order.
        annotator: whose; others' events are passed over.
        states: of the images now; one that is gone keeps the state that it was given last.
        idle: seconds; a longer pause counts as that long.
    """
    followers: dict[str, _Follower] = {}
    unseen: dict[str, StoredEvent] = {}
    clock = _Clock(idle)
    for event in map(_as_proposal, events):
        if event.annotator != annotator or event.image_id is None:
            continue
        follower = followers.get(event.image_id)
        if follower is None:
            if event.kind is EventKind.PROPOSAL:  # nobody has seen it yet
                unseen[event.image_id] = event
                continue
            follower = _Follower(ImageEffort(event.image_id, annotator, event.at))
            followers[event.image_id] = follower
            if event.image_id in unseen:
                follower.follow(unseen.pop(event.image_id))
        if event.kind in _PERSON:
            clock.follow(event, follower.row)
        follower.follow(event)
    return tuple(
        follower.finished(states.get(image_id, follower.row.state))
        for image_id, follower in followers.items()
    )


def _as_proposal(event: StoredEvent) -> StoredEvent:
    """What a run over a loop brought a frame, as a proposal that nobody asked for; others stay."""
    if (
        event.kind is not EventKind.EDIT
        or event.image_id is None
        or event.body["name"] not in BY_RUNS
    ):
        return event
    source = event.body.get("source", BY_PROPAGATION)
    body = event.body | {"draft": event.body["draft"][1], "source": source}
    return replace(event, kind=EventKind.PROPOSAL, body=body)


_PERSON = (
    EventKind.EDIT,
    EventKind.ANSWER,
    EventKind.UNDO,
    EventKind.REDO,
    EventKind.TAKEN_BACK,
    EventKind.SEARCH,
    EventKind.OPEN,
    EventKind.LEAVE,
)
_LABELS = (EventKind.WRITTEN, EventKind.EXTERNAL, EventKind.IMPORT, EventKind.UNDO, EventKind.REDO)


@dataclass
class _Clock:
    """The image that one annotator is at, and since when."""

    idle: float
    row: ImageEffort | None = None
    at: float = 0.0
    visit_s: float = 0.0

    def follow(self, event: StoredEvent, row: ImageEffort) -> None:
        if event.kind is EventKind.OPEN:
            row.visits += 1
            self.visit_s = 0.0
        elif self.row is not None and self.row is not row:
            return  # an edit of several images: the person is at another one
        elif self.row is row:
            # The computer's clock may be set back, so a gap may be below 0.
            gap = min(max(event.at - self.at, 0.0), self.idle)
            row.active_s += gap
            self.visit_s += gap
        else:  # work without an opening: the history began in the middle of it
            self.visit_s = 0.0
        self.row, self.at = row, event.at
        if event.kind is EventKind.LEAVE:
            if "active_s" in event.body:
                # The stopwatch of the window saw mouse moves as well and is right; it takes the
                # place of the gaps that were counted until here.
                row.active_s += float(event.body["active_s"]) - self.visit_s
            self.row = None


@dataclass
class _Follower:
    """One image of one annotator, while the events go by.

    ``document`` is what is proposed now (``proposed``: it has masks), ``asked`` the last prompt's
    name, ``answered`` the document of the prompts that it answers, ``found`` what a find proposed
    whose search is still to come (the two are written in either order), ``accepted`` the documents
    that were accepted and not taken back.
    """

    row: ImageEffort
    document: str | None = None
    proposed: bool = False
    asked: str = ""
    answered: str | None = None
    found: str | None = None
    accepted: list[str] = field(default_factory=list)
    painted: bool = False

    def follow(self, event: StoredEvent) -> None:
        body = event.body
        if event.kind is EventKind.EDIT:
            self._edit(event, body)
        elif event.kind is EventKind.SEARCH:
            self._search(body)
        elif event.kind is EventKind.ANSWER:
            self.row.waited_s += float(body.get("seconds", 0.0))
            model = str(body.get("model", ""))
            self._name_model(model)
            pending = body.get("pending")
            if pending in (self.document, self.answered):  # several objects may be asked for
                self._propose(self.asked, model, body)
                self.answered = pending
        elif event.kind is EventKind.PROPOSAL:
            self._unasked(body)
        elif "draft" in body:
            self._back_or_again(event.kind, body)
        self.row.undone += event.kind is EventKind.UNDO
        self.painted |= event.kind is EventKind.EXTERNAL
        if event.kind in _LABELS or "patch" in body or "state" in body:
            self.row.labels_seq = event.seq

    def _edit(self, event: StoredEvent, body: dict[str, Any]) -> None:
        name, row = str(body.get("name", "")), self.row
        row.edits[name] += 1
        if "state" in body:
            row.state = ImageState(body["state"][1])
        accepts = "state" in body and row.state is ImageState.ACCEPTED
        if accepts:
            row.accepted_at = event.at
        if "draft" not in body:
            self.painted |= "patch" in body
            return
        if accepts and self.proposed and self.document is not None:
            self.accepted.append(self.document)
        if not accepts:
            self.asked = name
        document = body["draft"][1]
        source = BY_PHRASE if name == "find" else name
        self._propose(source, "", {"draft": document, "proposed": body.get("proposed", False)})
        if name == "find" and document is not None:
            self.found = document
            if row.searches and row.searches[-1].document is None:
                self._pair(row.searches.pop())

    def _search(self, body: dict[str, Any]) -> None:
        self.row.waited_s += float(body.get("seconds", 0.0))
        self._name_model(" + ".join(body[k] for k in ("detector", "segmenter") if body.get(k)))
        search = Search(
            tuple(split_phrases(str(body.get("phrase", "")))),
            int(body.get("found", 0)),
            tuple({str(name).casefold(): None for name in body.get("phrases", ())}),
        )
        if self.found is not None:
            self._pair(search)
        else:
            self.row.searches.append(search)

    def _pair(self, search: Search) -> None:
        """Bring a search and the document of what it found together, whichever came first."""
        row = self.row
        document, self.found = self.found, None
        row.searches.append(replace(search, document=document if search.found else None))
        first = row.first
        if row.models and first is not None and first.document == document and not first.model:
            row.first = replace(first, model=row.models[-1])

    def _unasked(self, body: dict[str, Any]) -> None:
        """A model's own: the one that the person found counts, not those before it."""
        model, row = str(body.get("model", "")), self.row
        self._name_model(model)
        if row.first is not None and row.first.source in UNASKED and not row.edits:
            row.first = None
        self._propose(str(body.get("source", BY_PPN)), model, body)

    def _propose(self, source: str, model: str, body: dict[str, Any]) -> None:
        self._show(body)
        if self.row.first is None and self.proposed and self.document is not None:
            self.row.first = First(source, model, self.document)

    def _back_or_again(self, kind: EventKind, body: dict[str, Any]) -> None:
        """Undo and redo: what is proposed changes, and an accept may be gone or be back."""
        document = body["draft"]
        if kind is EventKind.UNDO and self.accepted and document == self.accepted[-1]:
            self.accepted.pop()
        again = kind is EventKind.REDO and self.proposed and document is None
        if again and self.document is not None:
            self.accepted.append(self.document)
        self._show(body)

    def _show(self, body: dict[str, Any]) -> None:
        self.document, self.proposed = body.get("draft"), bool(body.get("proposed", False))
        self.answered = None

    def _name_model(self, name: str) -> None:
        models = self.row.models
        models[:] = [*(model for model in models if model != name), *([name] if name else [])]

    def finished(self, state: ImageState) -> ImageEffort:
        row = self.row
        row.state, row.visits = state, max(row.visits, 1)
        if state is not ImageState.ACCEPTED:
            row.accepted_at = None
        row.way = None if row.accepted_at is None else self._way()
        return row

    def _way(self) -> Way:
        first = self.row.first
        if not self.accepted:
            if first is not None:
                return Way.DISCARDED
            return Way.BY_HAND if self.painted else Way.EMPTY
        same = first is not None and self.accepted == [first.document]
        return Way.UNCHANGED if same and not self.painted else Way.CHANGED


def about_the_work(store: LabelStore) -> list[str]:
    """Lines of Markdown for a data card: who accepted, with which models, in what time.

    Args:
        store: whose accepted images are exported.
    """
    rows = efforts(store.events(), store.annotator, store.states())
    accepted = [row for row in rows if row.accepted_at is not None]
    if not accepted:
        return []
    who = store.annotator or "the first annotator, who gave no name"
    seconds = sum(row.active_s for row in rows)
    lines = [
        "## How it was made",
        "",
        f"{len(accepted)} images were accepted by {who}, in {span(seconds)} of work "
        f"({span(seconds / len(accepted))} an image).",
    ]
    ways = Counter(row.way for row in accepted if row.way is not None)
    if ways:
        told = ", ".join(f"{ways[way]} {WAYS[way]}" for way in Way if ways[way])
        lines.append(f"First proposals: {told}.")
    models = dict.fromkeys(name for row in accepted for name in row.models)
    if models:
        lines += ["", "Models:", "", *(f"- {name}: {_licences(name)}" for name in models)]
    return lines


WAYS = {
    Way.UNCHANGED: "accepted as they were",
    Way.CHANGED: "changed before",
    Way.DISCARDED: "thrown away",
    Way.BY_HAND: "made by hand",
    Way.EMPTY: "with nothing there",
}


def _licences(name: str) -> str:
    """Of the models that a name consists of, as far as they are known by it."""
    from ..models.registry import DETECTORS, SEGMENTERS

    known = {item.name: item.licence for item in (*SEGMENTERS.values(), *DETECTORS.values())}
    parts = [part.rpartition("-")[0] or part for part in name.split(" + ")]
    found = dict.fromkeys(f"{part}: {known[part]}" for part in parts if part in known)
    return "weights under " + ", ".join(found) if found else "licence of the weights not known"


class Stopwatch:
    """Seconds in which a person was at work, from what they do.

    A pause counts as ``IDLE_SECONDS`` at most: then they went away.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: float | None = None
        self._seconds = 0.0

    def touch(self) -> None:
        """The person did something; called for every edit, and may be for every mouse move."""
        now = self._clock()
        if self._last is not None:
            self._seconds += min(now - self._last, IDLE_SECONDS)
        self._last = now

    def take(self) -> float:
        """The seconds since the last call, with this one counted as something done."""
        self.touch()
        seconds, self._seconds = self._seconds, 0.0
        return seconds
