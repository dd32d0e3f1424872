"""Beginning with what is there: prompts or masks of the image before, other objects of a class."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ...core.types import BoolArray, Prompts, TextPrompt
from ...io.labels import class_of, instance_of, values_in
from ...jobs import Lane, Scope, files, inference
from ...jobs.files import Prior
from ...jobs.inference import Found
from ...models.grounding.phrases import as_phrase
from ...project.records import LabelMap, ProposedObject
from ..status import MODEL
from . import regions
from .commit import FIRST_CLASS

if TYPE_CHECKING:
    from ..session import AnnotationSession


PROMPTS, MASKS, ALIKE = "copy prompts", "copy masks", "all of this class"
"""Names of the edits."""
KNOWN = 0.3
"""What is found is known already where this share of it is labelled or proposed."""
LEAST_SHARE = 0.0005
"""A component with a smaller share of the image is no object to copy; the protocol's figure."""


class Copying:
    """``session.copying``: from the image before to this one, from one object to all of a class.

    What is copied is segmented anew on this image and then proposed beside what is there, as one
    edit. Nothing changes before the answer has come.
    """

    def __init__(self, session: AnnotationSession) -> None:
        self._session = session

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
        record = session.browser.get(before)
        session.ask(
            files.read_prior,
            session.store,
            record,
            lane=Lane.FILES,
            key="prior",
            scope=Scope.PROPOSAL,
            text=f"Reading what was done on {before}...",
            done=lambda prior: self._segment(name, prior, record.size_hw),
        )

    def _segment(self, name: str, prior: Prior, size_hw: tuple[int, int]) -> None:
        """Have what was done on the previous image, of so many pixels, segmented here."""
        session = self._session
        if session.labels is None:
            return
        if tuple(size_hw) != session.labels.shape:
            session.say("The previous image has another size, so nothing can be copied from it.")
            return
        items = pointed_at(prior) if name == PROMPTS else self._masked(prior)
        if not items:
            what = "prompt" if name == PROMPTS else "mask"
            session.say(f"There is no {what} on the previous image.")
            return
        chosen = session.settings
        session.ask(
            inference.segment_objects,
            session.source(),
            chosen.segmenter,
            tuple(item.prompts for item in items),
            chosen.cleaning,
            lane=Lane.CLICKS,
            key="objects",
            scope=Scope.PROPOSAL,
            text="Segmenting...",
            kind=MODEL,
            done=lambda found: self._take(name, items, found),
        )

    def _take(self, name: str, items: tuple[ProposedObject, ...], found: Found) -> None:
        """Propose what was copied, with the masks that it has on this image."""
        session = self._session
        session.credit(found)
        pairs = zip(items, found.proposals, strict=True)
        made = [replace(item, proposal=proposal) for item, proposal in pairs]
        made = [item for item in made if item.has_mask]
        if not made:
            session.say("Nothing was found at the places of the previous image.")
            return
        self._propose(name, made, found)
        session.say(f"{len(made)} of {len(items)} copied.")

    def alike(self) -> None:
        """Look for the other objects of the picked class, by its name.

        In 35 cases with several objects of a class, one of them given (phantoms, and usgra's
        validation and training side), the class's name through the detector found the others with
        an F1 of 0.68, likeness to the given one in the segmenter's features with 0.38 at best.
        """
        session = self._session
        if session.loaded is None or session.is_waiting:
            return
        item = session.table.get(session.table.active)
        phrase = "" if item is None else as_phrase(item.name)  # one phrase, commas in it or not
        if item is None or item.name == FIRST_CLASS or not phrase:
            session.say("Name the class first: double-click it, and type what it shows.")
            return
        chosen = session.settings
        session.ask(
            inference.segment_text,
            session.source(),
            chosen.segmenter,
            session.tuner.detector,
            TextPrompt(phrase, chosen.box_threshold, chosen.text_threshold),
            chosen.cleaning,
            session.tuner.fallback,
            lane=Lane.PHRASES,
            key="alike",
            scope=Scope.PROPOSAL,
            text=f"Looking for more of '{item.name}'...",
            kind=MODEL,
            done=lambda found: self._take_alike(item.class_id, found),
        )

    def _take_alike(self, class_id: int, answer: Found) -> None:
        """Propose what was found of a class and is neither labelled nor proposed yet."""
        session = self._session
        session.credit(answer)
        if session.labels is None:
            return
        covered = session.labels > 0
        for item in session.proposal.objects:
            if item.proposal is not None:
                covered = covered | item.proposal.mask
        made: list[ProposedObject] = []
        for proposal in answer.proposals:
            size = np.count_nonzero(proposal.mask)
            if np.count_nonzero(proposal.mask & covered) <= KNOWN * size:
                made.append(ProposedObject(class_id, Prompts(), proposal))
                covered = covered | proposal.mask
        known = session.table.get(class_id)
        name = "" if known is None else known.name
        if not made:
            session.say(" ".join(answer.notes) or f"No other '{name}' found in this image.")
            return
        self._propose(ALIKE, made, answer)
        session.say(f"found {len(made)} more of '{name}'")

    def _propose(self, name: str, made: list[ProposedObject], answer: Found) -> None:
        """Add objects to the proposal; a prompt that came meanwhile goes on correcting its own."""
        proposal = self._session.proposal
        objects = (*proposal.objects, *made)
        active = len(objects) - 1 if len(made) == 1 else None
        if proposal.pending:
            active = proposal.active
        new = replace(proposal, objects=objects, active=active, model_id=answer.model_id)
        self._session.prompting.edit_proposal(name, new)

    def _masked(self, prior: Prior) -> tuple[ProposedObject, ...]:
        """The previous image's accepted objects, or failing that its proposed ones."""
        labels, labelling = prior.labels, self._session.settings.labelling
        found: list[ProposedObject] = []
        if labels is not None:
            for value in values_in(labels):
                number = instance_of(value, labelling)
                parts = [labels == value] if number else _components(labels, value)
                item = ProposedObject(class_of(value, labelling), Prompts(), number=number)
                found.extend(_prompted(item, part) for part in parts)
        if not found:
            proposed = ((item, item.proposal) for item in prior.proposal.objects if item.has_mask)
            found = [_prompted(item, proposal.mask) for item, proposal in proposed if proposal]
        return tuple(found)


def pointed_at(prior: Prior) -> tuple[ProposedObject, ...]:
    """The prompts of the previous image; where a phrase found an object, its box."""
    found: list[ProposedObject] = []
    for item in prior.proposal.objects:
        prompts = replace(item.prompts, mask_input=None)
        if prompts.is_empty and item.proposal is not None:
            prompts = Prompts(box=item.proposal.box)
        if not prompts.is_empty:
            found.append(ProposedObject(item.class_id, prompts, number=item.number))
    return tuple(found)


def _components(labels: LabelMap, value: int) -> list[BoolArray]:
    least = LEAST_SHARE * labels.size
    return [part for part in regions.pieces(labels == value) if np.count_nonzero(part) >= least]


def _prompted(item: ProposedObject, mask: BoolArray) -> ProposedObject:
    prompts = Prompts(box=regions.box_of(mask), mask_input=regions.as_logits(mask))
    return ProposedObject(item.class_id, prompts, number=item.number)
