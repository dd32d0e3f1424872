"""Proposals of a prompt predictor by itself: on the image that is shown, and on those around it.

None of it is an edit: nobody did it. It is shown on images that nobody has begun with, and made
anew (or taken away) there when another version, or none, comes into use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.types import Prompts
from ...jobs import Lane, Scope, inference
from ...jobs.files import Loaded
from ...jobs.inference import Found
from ...project.records import EventKind, ImageProposal, ImageState, LabelMap, ProposedObject
from ...project.versions import number_in
from ..commands import commit
from ..status import MODEL

if TYPE_CHECKING:
    from ..session import AnnotationSession


def is_untouched(proposal: ImageProposal) -> bool:
    """True where a person has no part in a proposal: it is empty, or a prompt predictor's own."""
    return not proposal.pending and all(
        item.ppn and item.prompts.is_empty and not item.by_hand for item in proposal.objects
    )


class Proposals:
    """``session.predictor.proposals``."""

    def __init__(self, session: AnnotationSession) -> None:
        self._session = session
        self._nothing: dict[str, int] = {}

    def forget(self) -> None:
        """Another folder is shown."""
        self._nothing.clear()

    def shown(self) -> None:
        """Bring the image that was just opened up to date."""
        session = self._session
        if session.record is None or session.loaded is None or session.labels is None:
            return
        image_id = session.record.image_id
        if not self._is_free(image_id, session.proposal, session.labels):
            return
        number = self._number
        if number is None:
            if session.proposal.objects:
                self._stand(image_id, ImageProposal(), {})
        elif not session.proposal.objects or any(o.ppn != number for o in session.proposal.objects):
            self._ask()

    def refresh(self) -> None:
        """Another version, mode or segmenter: look at the shown image and those around it again."""
        session = self._session
        session.jobs.cancel("propose")
        self._nothing.clear()
        self.shown()
        if session.loaded is not None and session.store is not None:
            session.ahead.begin()

    def now(self) -> None:
        """The person wants the shown image segmented; what they pointed at or made stays."""
        if self._session.loaded is not None and self._session.predictor.learned() is not None:
            self._ask(by_person=True)

    def ask_ahead(self, loaded: Loaded) -> bool:
        """Have an image segmented that was read ahead; False where nothing is to be proposed."""
        session, number = self._session, self._number
        image_id, proposal = loaded.record.image_id, loaded.proposal
        learned = session.predictor.learned()
        if (
            number is None
            or learned is None
            or session.read_only
            or self._nothing.get(image_id) == number
            or not self._is_free(image_id, proposal, loaded.labels)
            or (proposal.objects and all(item.ppn == number for item in proposal.objects))
        ):
            return False
        session.ask(
            inference.segment_learned,
            session.source(loaded),
            session.settings.segmenter,
            learned,
            session.settings.cleaning,
            lane=Lane.PREFETCH,
            scope=Scope.AHEAD,
            done=lambda found: self._take_ahead(image_id, found),
            failed=session.predictor.is_broken,
        )
        return True

    # -- the parts -----------------------------------------------------------------------------

    @property
    def _number(self) -> int | None:
        """The version that proposes by itself now, or None."""
        predictor = self._session.predictor
        if not predictor.shows_by_itself or predictor.current is None:
            return None
        return predictor.current.number

    def _is_free(self, image_id: str, proposal: ImageProposal, labels: LabelMap) -> bool:
        """True where nobody has decided, labelled or begun anything."""
        session = self._session
        history = session.history
        return (
            session.browser.decided(image_id) is ImageState.UNTOUCHED
            and is_untouched(proposal)
            and not labels.any()
            and all(step.image_id != image_id for step in history.steps[: history.position])
        )

    def _ask(self, by_person: bool = False) -> None:
        """Have the shown image segmented; what the person did not ask for is no edit."""
        session, learned = self._session, self._session.predictor.learned()
        if learned is None:
            return
        session.ask(
            inference.segment_learned,
            session.source(),
            session.settings.segmenter,
            learned,
            session.settings.cleaning,
            lane=Lane.PHRASES,
            key="propose",
            scope=Scope.PROPOSAL,
            text="Proposing...",
            kind=MODEL,
            done=lambda found: self._take(found, by_person),
            failed=session.predictor.is_broken,
        )

    def _take(self, found: Found, by_person: bool) -> None:
        """Show what a prompt predictor proposes on the image that is shown."""
        session = self._session
        if session.record is None or session.labels is None:
            return
        image_id, before = session.record.image_id, session.proposal
        if not by_person and not self._is_free(image_id, before, session.labels):
            return  # the person was quicker
        proposal = self._proposal(found, commit.kept_by_person(before) if by_person else ())
        session.facts["model"] = found.model_id
        if by_person:
            session.prompting.edit_proposal("propose", proposal)
        elif proposal.objects or before.objects:
            self._stand(image_id, proposal, {"seconds": round(found.seconds, 4)})
        count = len(found.proposals)
        session.facts["note"] = f"{count} proposed" if count else " ".join(found.notes)

    def _take_ahead(self, image_id: str, found: Found) -> None:
        """Keep what a prompt predictor proposes on an image that was read ahead."""
        loaded = self._session.browser.take_loaded(image_id)
        if loaded is None or not self._is_free(image_id, loaded.proposal, loaded.labels):
            return
        proposal = self._proposal(found, ())
        if proposal.objects or loaded.proposal.objects:
            self._stand(image_id, proposal, {"seconds": round(found.seconds, 4)})
        if not proposal.objects and self._number is not None:
            self._nothing[image_id] = self._number

    def _proposal(self, answer: Found, kept: tuple[ProposedObject, ...]) -> ImageProposal:
        """What is proposed, beside what is kept of the person's."""
        session = self._session
        number = number_in(answer.model_id)
        version = session.predictor.get(number)
        ids = {} if version is None else {name: value for value, name in version.classes.items()}
        taken = {item.class_id for item in kept}
        found = tuple(
            ProposedObject(ids[item.phrase], Prompts(), item, ppn=number)
            for item in answer.proposals
            if session.table.get(ids.get(item.phrase, 0)) is not None
            and ids[item.phrase] not in taken
        )
        pending = bool(kept) and session.proposal.pending  # a prompt that came meanwhile asks on
        active = next((n for n, item in enumerate(kept) if item is session.proposal.current), None)
        return ImageProposal((*kept, *found), active if pending else None, pending, answer.model_id)

    def _stand(self, image_id: str, proposal: ImageProposal, body: dict[str, float]) -> None:
        """Let a proposal stand on an image, and write that down."""
        session = self._session
        here = session.record is not None and session.record.image_id == image_id
        session.note(
            EventKind.PROPOSAL,
            image_id,
            proposal=proposal,
            body={"model": proposal.model_id, **body},
        )
        if not here:
            session.browser.propose(image_id, proposal)
            return
        session.proposal = proposal
        session.proposal_changed.emit()
        session.states_changed.emit()
