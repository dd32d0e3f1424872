"""Deciding about an image: accepting what is proposed, setting it aside, flagging it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from ...core.geometry import mask_extent
from ...io.labels import Labelling, LabelMap, next_code, values_in
from ...project.records import Edit, ImageProposal, ImageState, ProposedObject, difference
from ...segmentation.propose import compose
from ..state import AnnotationState, Change, Refused

NOTHING = (
    "Nothing is proposed or labelled here. Draw it, mark the image as empty, or go on to the next."
)
LABELLED = "This image has labels: it is not empty. Delete them first (Edit labels, Shift+click)."


def accept(state: AnnotationState) -> Change:
    """Accept what is proposed, and the labels as they are.

    Raises:
        Refused: there is neither; that an image is empty is a statement of its own.
    """
    labels, proposal = state.settled_labels(), state.proposal
    decided = state.unflagged if state.decided is ImageState.FLAGGED else state.decided
    if decided is not ImageState.ACCEPTED and not proposal.has_masks and not labels.any():
        raise Refused(NOTHING)
    after, yielded = merged(labels, proposal.objects, state.settings.overwrite, state.labelling)
    patch = difference(labels, after)
    edit = None
    if patch is not None or state.decided is not ImageState.ACCEPTED or proposal.objects:
        states = (state.decided, ImageState.ACCEPTED)
        edit = Edit("accept", state.image_id, (proposal, ImageProposal()), patch, states)
    said = f"{yielded} pixels of other labels were left as they are." if yielded else ""
    return Change(edit, said=said)


def accept_among(state: AnnotationState) -> Edit | None:
    """The edit that accepts an image together with others; None where it stays as it is.

    That is so without anything on it, for else it would be said that it is empty, and where its
    proposal is awaited.
    """
    with suppress(Refused):
        if state.settled_labels().any() or state.proposal.has_masks:
            return accept(state).edit
    return None


def accept_all(state: AnnotationState, edits: Sequence[Edit | None]) -> Change:
    """Accept several images in one edit.

    Args:
        state: of the document.
        edits: of each image (``accept_among``).

    Raises:
        Refused: all of them stay as they are.
    """
    parts = tuple(edit for edit in edits if edit is not None)
    if not parts:
        raise Refused("Nothing is proposed or drawn on the marked images.", "warning")
    left = len(edits) - len(parts)
    said = "1 image is accepted" if len(parts) == 1 else f"{len(parts)} images are accepted"
    said += f"; {left} without anything new stay as they are." if left else "."
    name = "accept 1 image" if len(parts) == 1 else f"accept {len(parts)} images"
    return Change(Edit(name, parts=parts), said=said)


def mark_empty(state: AnnotationState) -> Change:
    """Say that there is nothing to label in the image; what is proposed is dropped.

    Raises:
        Refused: it has labels.
    """
    labels = state.settled_labels()
    if labels.any():
        raise Refused(LABELLED, "warning")
    if state.decided is ImageState.ACCEPTED and not state.proposal.objects:
        return Change()
    states = (state.decided, ImageState.ACCEPTED)
    proposals = (state.proposal, ImageProposal())
    return Change(Edit("mark empty", state.image_id, proposals, state=states))


def skip(state: AnnotationState) -> Change:
    """Set the image aside; labels that it has are kept, and are accepted as little as before."""
    state.shown_labels()
    if state.decided in (ImageState.ACCEPTED, ImageState.FLAGGED):
        return Change()
    states = (state.decided, ImageState.SKIPPED)
    return Change(Edit("skip", state.image_id, (state.proposal, ImageProposal()), state=states))


def flag(state: AnnotationState) -> Change:
    """Flag the image for review, or take its flag away; labels and proposals are kept."""
    state.shown_labels()
    name, after = "flag for review", ImageState.FLAGGED
    if state.decided is ImageState.FLAGGED:
        name, after = "take flag away", state.unflagged
    return Change(Edit(name, state.image_id, state=(state.decided, after)))


def merged(
    labels: LabelMap,
    objects: Sequence[ProposedObject],
    overwrite: bool = False,
    labelling: Labelling = "semantic",
) -> tuple[LabelMap, int]:
    """A label map with accepted objects in it.

    Args:
        labels: (H, W).
        objects: those with a mask are drawn; where two overlap, the higher score wins.
        overwrite: let them replace other labels under them.
        labelling: draw each object with its class, or with a code of its own.

    Returns:
        The new map, and how many pixels of the objects gave way to labels that were there.
    """
    drawn = [item for item in objects if item.has_mask]
    proposals = [item.proposal for item in drawn if item.proposal is not None]
    extents = [extent for one in proposals if (extent := mask_extent(one.mask)) is not None]
    if not extents:
        return labels, 0
    window = tuple(
        slice(min(side.start for side in sides), max(side.stop for side in sides))
        for sides in zip(*extents, strict=True)
    )  # a person waits for it
    values = [item.class_id for item in drawn]
    if labelling == "instance":
        values = codes_of(drawn, values_in(labels))
    here = labels[window]
    parts = [replace(one, mask=one.mask[window]) for one in proposals]
    new = compose(parts, values, here.shape)
    free = (new > 0) if overwrite else (new > 0) & ((here == 0) | (here == new))
    after = labels.astype(np.promote_types(labels.dtype, new.dtype))
    after[window] = np.where(free, new, here)
    return after, int(np.count_nonzero((new > 0) & ~free))


def codes_of(objects: Sequence[ProposedObject], used: Sequence[int]) -> list[int]:
    """A code for each object: with the number that it wants, if that is free, else the next one."""
    codes: list[int] = []
    for item in objects:
        codes.append(next_code([*used, *codes], item.class_id, item.number))
    return codes
