"""Phrases, clicks, boxes and scribbles: what a person points at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ...core.geometry import box_from_points
from ...core.types import FloatArray, TextPrompt
from ...jobs import Lane, Scope, inference
from ...jobs.inference import Found
from ...models.grounding.phrases import split_phrases
from ...project.records import Edit
from ...project.versions import number_in
from .. import drafts
from ..drafts import ImageProposal, ProposedObject
from ..status import MODEL, TEXT
from . import regions

if TYPE_CHECKING:
    from ..session import AnnotationSession


LEAST_SIDE = 2.0
"""A box with a shorter side, in pixels, is a slip of the hand."""
NOTHING_THERE = "Nothing found at this prompt. Try a box around the object."
NO_PROPOSAL = "A negative prompt takes away from a proposal: find or click an object first."


class Prompting:
    """``session.prompting``: prompts of all kinds, each an edit that can be taken back.

    Attributes:
        class_is_new: a class was picked since the last prompt, so that the next positive one means
            an object of that class and changes no other.
    """

    def __init__(self, session: AnnotationSession) -> None:
        self._session = session
        self.class_is_new = False
        session.image_changed.connect(self._forget)

    def _forget(self) -> None:
        self.class_is_new = False

    def find(self, phrase: str | None = None) -> None:
        """Look for a phrase (or the last one) in the current image."""
        session = self._session
        if phrase is not None and phrase.strip() != session.settings.phrase:
            session.set_settings(replace(session.settings, phrase=phrase.strip()))
        if session.loaded is None:
            return
        chosen = session.settings
        if not split_phrases(chosen.phrase):
            session.say(
                "Type what to look for, such as 'breast tumor', then press Find.", "warning"
            )
            return
        prompt = TextPrompt(chosen.phrase, chosen.box_threshold, chosen.text_threshold)
        session.jobs.cancel("alike", "use")
        session.ask(
            inference.segment_text,
            session.source(),
            chosen.segmenter,
            session.tuner.detector,
            prompt,
            chosen.cleaning,
            session.tuner.fallback,
            lane=Lane.PHRASES,
            key="text",
            scope=Scope.PROPOSAL,
            text=f"Looking for '{chosen.phrase}'...",
            kind=TEXT,
            done=session.finding.begin(chosen.phrase, by_person=phrase is not None),
        )

    def ask(self) -> None:
        """Have the active object segmented."""
        session, chosen = self._session, self._session.settings
        current = session.proposal.current
        if current is None or session.loaded is None:
            return
        session.ask(
            inference.segment_prompt,
            session.source(),
            chosen.segmenter,
            current.prompts,
            chosen.cleaning,
            current.corrected,
            session.predictor.joining(current.class_id),
            lane=Lane.CLICKS,
            key="prompt",
            scope=Scope.PROPOSAL,
            text="Segmenting...",
            kind=MODEL,
            done=self._predicted,
        )

    def _predicted(self, found: Found) -> None:
        """Put what was found in the place of the proposal that waits for it."""
        session, pending = self._session, self._session.proposal
        current = pending.current
        if current is None or not pending.pending:
            return
        assert pending.active is not None
        ppn = number_in(found.model_id) or current.ppn
        item = replace(current, proposal=found.proposals[0], ppn=ppn)
        answered = replace(
            pending.with_object(pending.active, item), pending=False, model_id=found.model_id
        )
        body = {"model": found.model_id, "seconds": round(found.seconds, 4)}
        session.answer_step(pending, answered, body)
        session.proposal = answered
        session.credit(found)
        if not item.has_mask:
            session.facts["note"] = NOTHING_THERE
        if found.notes:  # why learned prompts did not join
            session.predictor.is_broken(" ".join(found.notes))
        session.proposal_changed.emit()
        session.states_changed.emit()
        self._ask_left()

    def add_point(self, x: float, y: float, positive: bool = True) -> None:
        """Click at XY pixels: on the object, or on what is not the object."""
        session = self._session
        if session.labels is None:
            return
        height, width = session.labels.shape
        if not (-0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5):
            session.say(regions.OUTSIDE)
        else:
            class_id = session.table.active
            self._prompt(
                "click",
                lambda proposal: drafts.add_point(proposal, x, y, positive, class_id),
                positive,
            )

    def add_box(self, a: tuple[float, float], b: tuple[float, float]) -> None:
        """A box between two opposite corners in XY pixels."""
        session = self._session
        box = box_from_points(a, b)
        if session.labels is None:
            return
        reason = regions.why_no_box(box, session.labels.shape, LEAST_SIDE)
        if reason:
            session.say(reason)
            return
        size_hw, class_id = session.labels.shape, session.table.active
        self._prompt("box", lambda proposal: drafts.add_box(proposal, box, size_hw, class_id))

    def add_scribble(self, line: FloatArray, positive: bool = True) -> None:
        """A scribble (M, 2) in XY pixels."""
        session = self._session
        if session.labels is None:
            return
        part = regions.line_within(line, session.labels.shape)
        if min(len(part), len(line)) < 2:
            session.say(regions.OUTSIDE if len(line) > 1 else regions.NO_LINE)
            return
        line = part
        class_id = session.table.active
        self._prompt(
            "scribble",
            lambda proposal: drafts.add_scribble(proposal, line, positive, class_id),
            positive,
        )

    def add_lasso(self, polygon: FloatArray, positive: bool = True) -> None:
        """A closed line (M, 2) in XY pixels round an object, or round a part of it."""
        session = self._session
        if session.labels is None:
            return
        polygon = np.asarray(polygon, np.float32)
        reason = regions.why_no_lasso(polygon, session.labels.shape)
        if reason:
            session.say(reason)
            return
        size_hw, class_id = session.labels.shape, session.table.active
        self._prompt(
            "lasso",
            lambda proposal: drafts.add_lasso(proposal, polygon, positive, size_hw, class_id),
            positive,
        )

    def drop_object(self, x: float, y: float) -> None:
        """Take away the one proposed object at XY pixels."""
        session = self._session
        new = drafts.without_object_at(session.proposal, x, y)
        if new is not session.proposal and not session.proposal.pending:
            self.edit_proposal("drop object", new)

    def new_object(self) -> None:
        """The next prompt begins another object, and so does the next stroke of a brush."""
        session = self._session
        session.painting.new_object()
        if session.proposal.active is not None and not session.proposal.pending:
            self.edit_proposal("new object", replace(session.proposal, active=None))

    def clear_prompts(self) -> None:
        """Take back everything that is proposed on this image."""
        self.cancel()
        if self._session.proposal.objects:
            self.edit_proposal("clear", ImageProposal())

    def _ask_left(self) -> None:
        """Have those objects segmented whose prompt had no answer when the next one came."""
        session, chosen = self._session, self._session.settings
        left = tuple(
            item
            for item in session.proposal.objects
            if item.proposal is None and not item.prompts.is_empty
        )
        if not left:
            return

        def take(found: Found) -> None:
            session.credit(found)
            made = dict(zip(map(id, left), found.proposals, strict=True))
            proposal = session.proposal
            objects = tuple(
                replace(item, proposal=made[id(item)]) if id(item) in made else item
                for item in proposal.objects
            )
            self.edit_proposal("segment", replace(proposal, objects=objects))

        session.ask(
            inference.segment_objects,
            session.source(),
            chosen.segmenter,
            tuple(item.prompts for item in left),
            chosen.cleaning,
            lane=Lane.CLICKS,
            key="left",
            scope=Scope.PROPOSAL,
            text="Segmenting...",
            kind=MODEL,
            done=take,
        )

    def cancel(self) -> None:
        """Await no proposal any more."""
        self._session.jobs.cancel(Scope.PROPOSAL)
        self.drop_pending()
        self._session.tell()

    def drop_pending(self) -> None:
        """Take back a prompt that has no answer."""
        session = self._session
        while session.proposal.pending:
            before = session.take_back(session.proposal)
            session.proposal = drafts.unasked(session.proposal) if before is None else before
            session.proposal_changed.emit()

    def _prompt(
        self, name: str, add: Callable[[ImageProposal], ImageProposal], positive: bool = True
    ) -> None:
        """Do what ``add`` does to the proposal, or to the part of it that the prompt can mean."""
        session, proposal = self._session, self._session.proposal
        picked = session.table.active
        others: tuple[ProposedObject, ...] = ()
        if self.class_is_new and positive:
            others = tuple(item for item in proposal.objects if item.class_id != picked)
        meant = proposal
        if others:
            same = tuple(item for item in proposal.objects if item.class_id == picked)
            meant = replace(proposal, objects=same, active=None, pending=False)
        new = add(meant)
        if new is meant:
            session.say(NO_PROPOSAL)
            return
        self.class_is_new = self.class_is_new and not positive
        if others:
            active = None if new.active is None else len(others) + new.active
            new = replace(new, objects=(*others, *new.objects), active=active)
        self.edit_proposal(name, new)

    def edit_proposal(self, name: str, new: ImageProposal) -> None:
        """Replace what is proposed on the current image, as an edit called ``name``."""
        session = self._session
        if session.record is not None:
            session.do(Edit(name, session.record.image_id, proposal=(session.proposal, new)))
