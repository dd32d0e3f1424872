"""Beginning with what is there: the previous image's prompts or masks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..io.instances import class_of, instance_of, values_in
from ..store.records import DraftObject, LabelMap
from ..types import BoolArray, Prompts
from . import regions
from .requests import ModelAnswer, ObjectsRequest, Prior, PriorRequest

if TYPE_CHECKING:
    from .annotator import AnnotationSession

PROMPTS, MASKS = "copy prompts", "copy masks"
"""Names of the edits."""
LEAST_SHARE = 0.0005
"""A component with a smaller share of the image is no object to copy; the protocol's figure."""


class Copying:
    """``session.copying``: from the image before to this one, as along a cine loop.

    What is copied is segmented anew on this image and then proposed beside what is there, as one
    edit. Nothing changes before the answer has come.
    """

    def __init__(self, session: AnnotationSession) -> None:
        self._session = session
        self._name = PROMPTS
        self._items: tuple[DraftObject, ...] = ()

    def prompts(self) -> None:
        """Point at the same places as on the previous image."""
        self._ask(PROMPTS)

    def masks(self) -> None:
        """Begin with the masks of the previous image, each fitted to this one."""
        self._ask(MASKS)

    def _ask(self, name: str) -> None:
        session = self._session
        before = session.browser.neighbour(-1)
        if session.store is None or session.loaded is None or session.is_waiting:
            return
        if before is None:
            session.say("There is no image before this one to copy from.")
            return
        self._name = name
        generation = session.progress.begin("prior", f"Reading what was done on {before}...")
        session.ask(PriorRequest(generation, session.store, session.browser.get(before)))

    def take(self, prior: Prior, size_hw: tuple[int, int]) -> None:
        """Take what was done on the previous image, of so many pixels; have it segmented here."""
        session = self._session
        if session.labels is None:
            return
        if tuple(size_hw) != session.labels.shape:
            session.say("The previous image has another size, so nothing can be copied from it.")
            return
        items = pointed_at(prior) if self._name == PROMPTS else self._masked(prior)
        if not items:
            what = "prompt" if self._name == PROMPTS else "mask"
            session.say(f"There is no {what} on the previous image.")
            return
        self._items = items
        chosen = session.settings
        generation = session.progress.begin("objects", "Segmenting...")
        prompts = tuple(item.prompts for item in items)
        source = session.source()
        session.ask(ObjectsRequest(generation, source, chosen.segmenter, prompts, chosen.cleaning))

    def receive(self, answer: ModelAnswer) -> None:
        """Propose what was copied, with the masks that it has on this image."""
        session = self._session
        pairs = zip(self._items, answer.proposals, strict=True)
        made = [replace(item, proposal=proposal) for item, proposal in pairs]
        made = [item for item in made if item.has_mask]
        if not made:
            session.say("Nothing was found at the places of the previous image.")
            return
        draft = session.draft
        objects = (*draft.objects, *made)
        active = len(objects) - 1 if len(made) == 1 else None
        new = replace(draft, objects=objects, active=active, model_id=answer.model_id)
        session.prompting.edit_draft(self._name, new)
        session.say(f"{len(made)} of {len(self._items)} copied.")

    def _masked(self, prior: Prior) -> tuple[DraftObject, ...]:
        """The previous image's accepted objects, or failing that its proposed ones."""
        labels, labelling = prior.labels, self._session.settings.labelling
        found: list[DraftObject] = []
        if labels is not None:
            for value in values_in(labels):
                number = instance_of(value, labelling)
                parts = [labels == value] if number else _components(labels, value)
                item = DraftObject(class_of(value, labelling), Prompts(), number=number)
                found.extend(_prompted(item, part) for part in parts)
        if not found:
            proposed = ((item, item.proposal) for item in prior.draft.objects if item.has_mask)
            found = [_prompted(item, proposal.mask) for item, proposal in proposed if proposal]
        return tuple(found)


def pointed_at(prior: Prior) -> tuple[DraftObject, ...]:
    """The prompts of the previous image; where a phrase found an object, its box."""
    found: list[DraftObject] = []
    for item in prior.draft.objects:
        prompts = replace(item.prompts, mask_input=None)
        if prompts.is_empty and item.proposal is not None:
            prompts = Prompts(box=item.proposal.box)
        if not prompts.is_empty:
            found.append(DraftObject(item.class_id, prompts, number=item.number))
    return tuple(found)


def _components(labels: LabelMap, value: int) -> list[BoolArray]:
    least = LEAST_SHARE * labels.size
    return [part for part in regions.pieces(labels == value) if np.count_nonzero(part) >= least]


def _prompted(item: DraftObject, mask: BoolArray) -> DraftObject:
    prompts = Prompts(box=regions.box_of(mask), mask_input=regions.as_logits(mask))
    return DraftObject(item.class_id, prompts, number=item.number)
