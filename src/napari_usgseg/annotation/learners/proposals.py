"""What a prompt predictor proposes by itself: on the image that is shown, and on those around it.

None of it is an edit: nobody did it. It is shown on images that nobody has begun with, and made
anew (or taken away) there when another version, or none, comes into use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.types import Prompts
from ...jobs.requests import Loaded, ModelAnswer, Priority, ProposeRequest
from ...project.records import Draft, DraftObject, EventKind, ImageState, LabelMap
from ...project.versions import number_in
from ..commands import commit

if TYPE_CHECKING:
    from ..session import AnnotationSession


SHOWN, AHEAD = "propose", "propose ahead:"
"""What is awaited for the image that is shown, and (with its id) for another one."""


def is_untouched(draft: Draft) -> bool:
    """True where a person has no part in a draft: it is empty, or a prompt predictor's own."""
    return not draft.pending and all(
        item.ppn and item.prompts.is_empty and not item.by_hand for item in draft.objects
    )


class Proposals:
    """``session.predictor.proposals``."""

    def __init__(self, session: AnnotationSession) -> None:
        self._session = session
        self._nothing: dict[str, int] = {}
        self._by_person = 0
        """The generation that the person asked for; what else comes is no edit."""

    def forget(self) -> None:
        """Another folder is shown."""
        self._nothing.clear()

    def shown(self) -> None:
        """Bring the image that was just opened up to date."""
        session = self._session
        if session.record is None or session.loaded is None or session.labels is None:
            return
        image_id = session.record.image_id
        if not self._is_free(image_id, session.draft, session.labels):
            return
        number = self._number
        if number is None:
            if session.draft.objects:
                self._take(image_id, Draft(), {})
        elif not session.draft.objects or any(o.ppn != number for o in session.draft.objects):
            self._ask()

    def refresh(self) -> None:
        """Another version, mode or segmenter: look at the shown image and those around it again."""
        session = self._session
        session.progress.drop(SHOWN)
        self._nothing.clear()
        self.shown()
        if session.loaded is not None and session.store is not None:
            session.ahead.begin()

    def now(self) -> None:
        """The person wants the shown image segmented; what they pointed at or made stays."""
        if self._session.loaded is not None and self._session.predictor.learned() is not None:
            self._ask(by_person=True)

    def ahead_of(self, loaded: Loaded) -> ProposeRequest | None:
        """The request for an image that was read ahead; None where nothing is to be proposed."""
        session, number = self._session, self._number
        image_id, draft = loaded.record.image_id, loaded.draft
        if (
            number is None
            or session.read_only
            or self._nothing.get(image_id) == number
            or not self._is_free(image_id, draft, loaded.labels)
            or (draft.objects and all(item.ppn == number for item in draft.objects))
        ):
            return None
        generation = session.progress.begin(f"{AHEAD}{image_id}")
        return self._request(generation, loaded, Priority.PREFETCH)

    def receive(self, kind: str, answer: ModelAnswer) -> None:
        """Take what a prompt predictor proposes."""
        session = self._session
        if answer.error:
            session.predictor.is_broken(answer.error)
            return
        if kind != SHOWN:
            self._receive_ahead(kind.removeprefix(AHEAD), answer)
            return
        by_person = answer.generation == self._by_person
        if session.record is None or session.labels is None:
            return
        image_id, before = session.record.image_id, session.draft
        if not by_person and not self._is_free(image_id, before, session.labels):
            return  # the person was quicker
        kept = commit.kept_by_person(before) if by_person else ()
        draft = self._draft(answer, kept)
        session.facts["model"] = answer.model_id
        if by_person:
            session.prompting.edit_draft("propose", draft)
        elif draft.objects or before.objects:
            self._take(image_id, draft, {"seconds": round(answer.seconds, 4)})
        count = len(answer.proposals)
        session.facts["note"] = f"{count} proposed" if count else " ".join(answer.notes)

    # -- the parts -----------------------------------------------------------------------------

    @property
    def _number(self) -> int | None:
        """The version that proposes by itself now, or None."""
        predictor = self._session.predictor
        if not predictor.shows_by_itself or predictor.current is None:
            return None
        return predictor.current.number

    def _is_free(self, image_id: str, draft: Draft, labels: LabelMap) -> bool:
        """True where nobody has decided, labelled or begun anything."""
        session = self._session
        history = session.history
        return (
            session.browser.decided(image_id) is ImageState.UNTOUCHED
            and is_untouched(draft)
            and not labels.any()
            and all(step.image_id != image_id for step in history.steps[: history.position])
        )

    def _ask(self, by_person: bool = False) -> None:
        session = self._session
        assert session.loaded is not None
        generation = session.progress.begin(SHOWN, "Proposing...")
        if by_person:
            self._by_person = generation
        request = self._request(generation, session.loaded, Priority.TEXT)
        if request is not None:
            session.ask(request)

    def _request(
        self, generation: int, loaded: Loaded, priority: Priority
    ) -> ProposeRequest | None:
        session = self._session
        learned = session.predictor.learned()
        if learned is None:
            session.progress.end(generation)
            return None
        settings = session.settings
        source = session.source(loaded)
        return ProposeRequest(
            generation, source, settings.segmenter, learned, settings.cleaning, priority
        )

    def _receive_ahead(self, image_id: str, answer: ModelAnswer) -> None:
        session = self._session
        if image_id not in session.browser:
            return
        loaded = session.browser.take_loaded(image_id)
        if loaded is None or not self._is_free(image_id, loaded.draft, loaded.labels):
            return
        draft = self._draft(answer, ())
        if draft.objects or loaded.draft.objects:
            self._take(image_id, draft, {"seconds": round(answer.seconds, 4)})
        if not draft.objects and self._number is not None:
            self._nothing[image_id] = self._number

    def _draft(self, answer: ModelAnswer, kept: tuple[DraftObject, ...]) -> Draft:
        """What is proposed, beside what is kept of the person's."""
        session = self._session
        number = number_in(answer.model_id)
        version = session.predictor.get(number)
        ids = {} if version is None else {name: value for value, name in version.classes.items()}
        taken = {item.class_id for item in kept}
        found = tuple(
            DraftObject(ids[item.phrase], Prompts(), item, ppn=number)
            for item in answer.proposals
            if session.table.get(ids.get(item.phrase, 0)) is not None
            and ids[item.phrase] not in taken
        )
        pending = bool(kept) and session.draft.pending  # a prompt that came meanwhile asks on
        active = next((n for n, item in enumerate(kept) if item is session.draft.current), None)
        return Draft((*kept, *found), active if pending else None, pending, answer.model_id)

    def _take(self, image_id: str, draft: Draft, body: dict[str, float]) -> None:
        """Let a draft stand on an image, and write that down."""
        session = self._session
        here = session.record is not None and session.record.image_id == image_id
        session.note(
            EventKind.PROPOSAL, image_id, draft=draft, body={"model": draft.model_id, **body}
        )
        if not here:
            session.browser.propose(image_id, draft)
            return
        session.draft = draft
        session.draft_changed.emit()
        session.states_changed.emit()
