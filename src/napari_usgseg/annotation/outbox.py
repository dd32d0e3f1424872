"""Outbox of events that are not yet known to be in a store."""

from __future__ import annotations

from ..project.project import LabelStore
from ..project.records import Event, EventKind

CHANGES = (
    EventKind.EDIT,
    EventKind.ANSWER,
    EventKind.UNDO,
    EventKind.REDO,
    EventKind.TAKEN_BACK,
    EventKind.PROPOSAL,
)
"""What changes labels, states or proposals."""


class Outbox:
    """Events on their way to the store; each stays here until the store says that it has it.

    So when a save fails (a full disk), nothing is lost: the next save, or a retry, sends it again
    with all that came after it, in order. The store passes over what it has.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[LabelStore, list[Event]]] = {}

    def put(self, store: LabelStore, event: Event) -> None:
        """Add an event."""
        self._waiting.setdefault(id(store), (store, []))[1].append(event)

    def of(self, store: LabelStore) -> tuple[Event, ...]:
        """What a store is not known to have, in order."""
        return tuple(self._waiting.get(id(store), (store, []))[1])

    def changed(self, store: LabelStore) -> set[str]:
        """The images of which a store is not known to have everything that was done."""
        return {
            event.image_id for event in self.of(store) if event.image_id and event.kind in CHANGES
        }

    def arrived(self, store: LabelStore, serial: int) -> None:
        """A store has everything up to an event."""
        kept = [event for event in self.of(store) if event.serial > serial]
        self._waiting.pop(id(store), None)
        if kept:
            self._waiting[id(store)] = (store, kept)

    def inherit(self, store: LabelStore, serial: int) -> None:
        """A store has taken the place of another of the same annotator's labels.

        Args:
            store: that was opened.
            serial: of the last event in it.
        """
        here = getattr(store, "root", store), store.annotator
        for former in self.stores():
            if (getattr(former, "root", former), former.annotator) == here:
                self.arrived(former, serial)

    def stores(self) -> tuple[LabelStore, ...]:
        """The stores that are not known to have everything."""
        return tuple(store for store, _ in self._waiting.values())
