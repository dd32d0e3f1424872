"""From the events of a project to one row for each image and annotator: time, prompts, models.

Only what a person sets off counts as time: from one such event to the next while an image is open.
A pause longer than ``IDLE_SECONDS`` counts as that long, for nobody knows when the person left. A
visit whose ``leave`` says how long the person was at work (the session sees more, such as a long
stroke) takes that figure instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from ..models.grounding.phrases import split_phrases
from ..project.records import EventKind, ImageState, StoredEvent
from .efforts import BY_PHRASE, BY_PPN, IDLE_SECONDS, First, ImageEffort, Search, Way

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
class _Tally:
    """One image of one annotator, while the events go by."""

    image_id: str
    annotator: str
    began_at: float
    committed_at: float | None = None
    active_s: float = 0.0
    waited_s: float = 0.0
    visits: int = 0
    edits: Counter[str] = field(default_factory=Counter)
    undone: int = 0
    models: dict[str, None] = field(default_factory=dict)
    searches: list[Search] = field(default_factory=list)
    first: First | None = None
    document: str | None = None
    proposed: bool = False
    asked: str = ""
    found: str | None = None
    accepted: list[str] = field(default_factory=list)
    painted: bool = False
    labels_seq: int = 0
    state: ImageState = ImageState.UNTOUCHED

    def take(self, event: StoredEvent) -> None:
        body = event.body
        if event.kind is EventKind.EDIT:
            self._edit(event, body)
        elif event.kind is EventKind.SEARCH:
            self._search(body)
        elif event.kind is EventKind.ANSWER:
            self.waited_s += float(body.get("seconds", 0.0))
            model = str(body.get("model", ""))
            self._name_model(model)
            if self.document == body.get("pending"):
                self._propose(self.asked, model, body)
        elif event.kind is EventKind.PROPOSAL:
            self._ahead(body)
        elif "draft" in body:
            self._travel(event.kind, body)
        if event.kind is EventKind.UNDO:
            self.undone += 1
        if event.kind is EventKind.EXTERNAL:
            self.painted = True
        if event.kind in _LABELS or "patch" in body or "state" in body:
            self.labels_seq = event.seq

    def _edit(self, event: StoredEvent, body: dict[str, Any]) -> None:
        name = str(body.get("name", ""))
        self.edits[name] += 1
        if "state" in body:
            self.state = ImageState(body["state"][1])
        committed = "state" in body and self.state is ImageState.COMMITTED
        if committed:
            self.committed_at = event.at
        if "draft" not in body:
            self.painted = self.painted or "patch" in body
            return
        if committed and self.proposed and self.document is not None:
            self.accepted.append(self.document)
        if not committed:
            self.asked = name
        document = body["draft"][1]
        source = BY_PHRASE if name == "find" else name
        self._propose(source, "", {"draft": document, "proposed": body.get("proposed", False)})
        if name == "find" and document is not None:
            self.found = document
            if self.searches and self.searches[-1].document is None:
                self._pair(self.searches.pop())

    def _search(self, body: dict[str, Any]) -> None:
        self.waited_s += float(body.get("seconds", 0.0))
        model = " + ".join(str(body[key]) for key in ("detector", "segmenter") if body.get(key))
        self._name_model(model)
        search = Search(
            tuple(split_phrases(str(body.get("phrase", "")))),
            int(body.get("found", 0)),
            tuple({str(name).casefold(): None for name in body.get("phrases", ())}),
        )
        if self.found is not None:
            self._pair(search)
        else:
            self.searches.append(search)

    def _pair(self, search: Search) -> None:
        """Bring a search and the draft of what it found together, whichever came first."""
        document, self.found = self.found, None
        self.searches.append(replace(search, document=document if search.found else None))
        named = next(reversed(self.models), "")
        if self.first is not None and self.first.document == document and not self.first.model:
            self.first = replace(self.first, model=named)

    def _ahead(self, body: dict[str, Any]) -> None:
        """A prompt predictor's: the one that the person found counts, not those before it."""
        model = str(body.get("model", ""))
        self._name_model(model)
        if self.first is not None and self.first.source == BY_PPN and not self.edits:
            self.first = None
        self._propose(BY_PPN, model, body)

    def _propose(self, source: str, model: str, body: dict[str, Any]) -> None:
        self.document, self.proposed = body.get("draft"), bool(body.get("proposed", False))
        if self.first is None and self.proposed and self.document is not None:
            self.first = First(source, model, self.document)

    def _travel(self, kind: EventKind, body: dict[str, Any]) -> None:
        """Undo and redo: what is proposed changes, and an accept may be gone or be back."""
        document, proposed = body["draft"], bool(body.get("proposed", False))
        if kind is EventKind.UNDO and self.accepted and document == self.accepted[-1]:
            self.accepted.pop()
        again = kind is EventKind.REDO and self.proposed and document is None
        if again and self.document is not None:
            self.accepted.append(self.document)
        self.document, self.proposed = document, proposed

    def _name_model(self, name: str) -> None:
        if name:
            self.models.pop(name, None)
            self.models[name] = None

    def effort(self, state: ImageState) -> ImageEffort:
        committed = state is ImageState.COMMITTED
        return ImageEffort(
            self.image_id,
            self.annotator,
            self.began_at,
            self.committed_at if committed else None,
            self.active_s,
            self.waited_s,
            max(self.visits, 1),
            tuple(self.edits.items()),
            self.undone,
            tuple(self.models),
            tuple(self.searches),
            self.first,
            self._way() if committed and self.committed_at is not None else None,
            self.labels_seq,
            state,
        )

    def _way(self) -> Way:
        if not self.accepted:
            if self.first is not None:
                return Way.DISCARDED
            return Way.BY_HAND if self.painted else Way.EMPTY
        same = self.first is not None and self.accepted == [self.first.document]
        return Way.UNCHANGED if same and not self.painted else Way.CHANGED


@dataclass
class _Clock:
    """Where one annotator is, and since when."""

    tally: _Tally | None = None
    at: float = 0.0
    visit_s: float = 0.0

    def take(self, event: StoredEvent, tally: _Tally, idle: float) -> None:
        if event.kind is EventKind.OPEN:
            tally.visits += 1
            self.visit_s = 0.0
        elif self.tally is tally:
            gap = min(max(event.at - self.at, 0.0), idle)
            tally.active_s += gap
            self.visit_s += gap
        else:  # work without an opening: the history began in the middle of it
            self.visit_s = 0.0
        self.tally, self.at = tally, event.at
        if event.kind is EventKind.LEAVE:
            if "active_s" in event.body:
                tally.active_s += float(event.body["active_s"]) - self.visit_s
            self.tally = None


def efforts(
    events: Iterable[StoredEvent],
    annotator: str,
    states: dict[str, ImageState],
    idle: float = IDLE_SECONDS,
) -> tuple[ImageEffort, ...]:
    """What one annotator did, one row for each image that was touched, in the order of beginning.

    Args:
        events: of the project, in order.
        annotator: whose; others' events are passed over.
        states: of the images now; one that is gone keeps the state that it was given last.
        idle: seconds; a longer pause counts as that long.
    """
    tallies: dict[str, _Tally] = {}
    ahead: dict[str, StoredEvent] = {}
    clock = _Clock()
    for event in events:
        if event.annotator != annotator or event.image_id is None:
            continue
        tally = tallies.get(event.image_id)
        if tally is None:
            if event.kind is EventKind.PROPOSAL:  # nobody has seen it yet
                ahead[event.image_id] = event
                continue
            tally = tallies[event.image_id] = _Tally(event.image_id, annotator, event.at)
            if event.image_id in ahead:
                tally.take(ahead.pop(event.image_id))
        if event.kind in _PERSON:
            clock.take(event, tally, idle)
        tally.take(event)
    return tuple(
        tally.effort(states.get(image_id, tally.state)) for image_id, tally in tallies.items()
    )
