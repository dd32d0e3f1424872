"""Copies: prompts and masks of the image before, and what else is of the picked class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...core.types import BoolArray, Prompts
from ...io.labels import Labelling, LabelMap, class_of, instance_of, values_in
from ...jobs.files import Prior
from ...jobs.inference import Found
from ...project.records import ProposedObject
from ...segmentation.propose import as_logits
from .. import regions
from ..state import AnnotationState, Change, Refused

KNOWN = 0.3
"""What is found is known already where this share of it is labelled or proposed."""
LEAST_SHARE = 0.0005
"""A component with a smaller share of the image is no object to copy; the protocol's figure."""


def add_objects(
    state: AnnotationState, name: str, made: Sequence[ProposedObject], model_id: str
) -> Change:
    """Propose objects beside what is proposed, as the edit called ``name``.

    A prompt that came meanwhile goes on correcting its own object.
    """
    proposal = state.proposal
    objects = (*proposal.objects, *made)
    active = len(objects) - 1 if len(made) == 1 else None
    if proposal.current is not None and proposal.current.is_asked:
        active = proposal.active
    new = replace(proposal, objects=objects, active=active, model_id=model_id)
    return Change(state.propose(name, new))


def add_alike(state: AnnotationState, name: str, class_id: int, found: Found) -> Change:
    """Propose what was found of a class and is neither labelled nor proposed yet."""
    covered = state.shown_labels() > 0
    for item in state.proposal.objects:
        if item.proposal is not None:
            covered = covered | item.proposal.mask
    made: list[ProposedObject] = []
    for proposal in found.proposals:
        size = np.count_nonzero(proposal.mask)
        if np.count_nonzero(proposal.mask & covered) <= KNOWN * size:
            made.append(ProposedObject(class_id, Prompts(), proposal))
            covered = covered | proposal.mask
    known = state.table.get(class_id)
    class_name = "" if known is None else known.name
    if not made:
        raise Refused(" ".join(found.notes) or f"No other '{class_name}' found in this image.")
    change = add_objects(state, name, made, found.model_id)
    return replace(change, said=f"found {len(made)} more of '{class_name}'")


def prompts_of(prior: Prior) -> tuple[ProposedObject, ...]:
    """The prompts of the image before; where a phrase found an object, its box."""
    found: list[ProposedObject] = []
    for item in prior.proposal.objects:
        prompts = replace(item.prompts, mask_input=None)
        if prompts.is_empty and item.proposal is not None:
            prompts = Prompts(box=item.proposal.box)
        if not prompts.is_empty:
            found.append(ProposedObject(item.class_id, prompts, number=item.number))
    return tuple(found)


def masks_of(prior: Prior, labelling: Labelling) -> tuple[ProposedObject, ...]:
    """The accepted objects of the image before as prompts, or failing that its proposed ones."""
    labels, found = prior.labels, list[ProposedObject]()
    for value in [] if labels is None else values_in(labels):
        assert labels is not None
        number = instance_of(value, labelling)
        parts = [labels == value] if number else _components(labels, value)
        item = ProposedObject(class_of(value, labelling), Prompts(), number=number)
        found.extend(_prompted(item, part) for part in parts)
    if not found:
        proposed = ((item, item.proposal) for item in prior.proposal.objects if item.has_mask)
        found = [_prompted(item, proposal.mask) for item, proposal in proposed if proposal]
    return tuple(found)


def _components(labels: LabelMap, value: int) -> list[BoolArray]:
    least = LEAST_SHARE * labels.size
    return [part for part in regions.pieces(labels == value) if np.count_nonzero(part) >= least]


def _prompted(item: ProposedObject, mask: BoolArray) -> ProposedObject:
    prompts = Prompts(box=regions.box_of(mask), mask_input=as_logits(mask))
    return ProposedObject(item.class_id, prompts, number=item.number)
