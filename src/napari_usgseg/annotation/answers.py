"""What an answer does to the session."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from ..jobs.requests import (
    Answer,
    FileAnswer,
    LoadRequest,
    ModelAnswer,
    PresentRequest,
    PriorRequest,
    SaveRequest,
    ShelfRequest,
    StepRequest,
    TrainingAnswer,
)
from ..project.memory import MemoryStore
from ..project.records import EventKind
from ..project.versions import number_in, readable
from .learners.proposals import AHEAD, SHOWN
from .status import DELETE_CLASS, QUIET, USE

if TYPE_CHECKING:
    from .session import AnnotationSession


NOTHING_THERE = "Nothing found at this prompt. Try a box around the object."


def receive(session: AnnotationSession, answer: Answer) -> None:
    """Take an answer; one whose generation is no longer awaited is dropped."""
    if isinstance(answer, TrainingAnswer):
        for learner in session.learners:
            learner.take(answer)
        return
    kind = session.progress.end(answer.generation)
    if kind is not None and not answer.error:
        session.mended(kind)
    if isinstance(answer, FileAnswer) and isinstance(answer.request, ShelfRequest):
        kind_of = {learner.kind: learner for learner in session.learners}
        kind_of[answer.request.kind].take_shelf(answer)
        return
    if kind is None:
        if isinstance(answer, FileAnswer):
            _late(session, answer)
        return
    if isinstance(answer, FileAnswer):
        _file_answer(session, kind, answer)
    elif kind == SHOWN or kind.startswith(AHEAD):
        session.predictor.proposals.receive(kind, answer)
    elif answer.error:
        if kind not in QUIET:  # a detector that cannot be loaded is said when it is needed
            session.prompting.drop_pending()
            session.fail(answer.error, kind)
    elif kind == "prompt":
        _predicted(session, answer)
    elif kind == "left":
        _note(session, answer)
        session.prompting.take_left(answer)
    elif kind == "text":
        _note(session, answer)
        session.finding.receive(answer)
    elif kind == "objects":
        _note(session, answer)
        session.copying.receive(answer)
    elif kind == "alike":
        _note(session, answer)
        session.copying.receive_alike(answer)
    elif kind == "phantoms":
        assert session.phantoms is not None
        session.walk.open_folder(session.phantoms)
    else:
        session.facts["model"] = answer.model_id or session.facts.get("model", "")
        if kind in ("warm", "embed") and answer.model_id:
            session.predictor.segmenter_is(answer.model_id)


def _late(session: AnnotationSession, answer: FileAnswer) -> None:
    """Take what must not be lost of an answer that is no longer awaited."""
    if isinstance(answer.request, SaveRequest):
        _saved(session, answer)
    elif answer.opened is not None:  # nobody else could label there
        session.close_store(answer.opened.store)
    elif answer.loaded is not None and answer.loaded.warning:
        session.notified.emit("warning", answer.loaded.warning)


def _file_answer(session: AnnotationSession, kind: str, answer: FileAnswer) -> None:
    if isinstance(answer.request, SaveRequest):
        _saved(session, answer)
    elif kind == USE:
        session.finding.take_use(answer)
    elif kind == DELETE_CLASS:
        session.editing.take_use(answer)
    elif isinstance(answer.request, PresentRequest):
        session.predictor.take_present(answer)
    elif answer.error:
        if kind == "ahead":
            session.ahead.go_on()
        else:
            session.travel.stop()
            session.fail(answer.error, kind)
    elif answer.opened is not None:
        session.walk.use_store(answer.opened)
    elif answer.loaded is not None:
        assert isinstance(answer.request, LoadRequest)
        if answer.request.store is not session.store:
            return
        loaded = answer.loaded
        session.browser.learn(loaded.record.image_id, loaded.state, loaded.unflagged)
        if kind == "load":
            session.walk.show(answer.loaded)
        else:
            session.ahead.take(answer.loaded)
    elif answer.edit is not None:
        assert isinstance(answer.request, StepRequest)
        if answer.request.store is session.store:
            session.travel.take(answer.request.number, answer.edit)
    elif answer.prior is not None:
        assert isinstance(answer.request, PriorRequest)
        session.copying.take(answer.prior, answer.request.record.size_hw)
    elif answer.exported is not None:
        session.note(EventKind.EXPORT, body={"to": answer.exported.name})
        session.say(f"Exported to {answer.exported}")
        session.notified.emit("info", f"The data set is in {answer.exported}")
        if answer.warning:
            session.notified.emit("warning", answer.warning)


def _saved(session: AnnotationSession, answer: FileAnswer) -> None:
    request = answer.request
    assert isinstance(request, SaveRequest)
    if answer.error:
        session.facts.pop("saved", None)
        if session.unsaved != answer.error:
            session.unsaved = answer.error
            session.notified.emit("error", answer.error)
        return
    if request.events:
        session.outbox.arrived(request.store, request.events[-1].serial)
    if request.store is not session.store and request.store not in session.outbox.stores():
        session.close_store(request.store)
    if not session.outbox.stores():
        session.unsaved = ""
    if answer.warning:
        session.notified.emit("warning", answer.warning)
    assert answer.saved is not None
    if answer.saved.backup is not None:
        session.say(
            "The label file was changed by another program meanwhile; that version is kept as "
            f"{answer.saved.backup}",
            "warning",
        )
    if answer.saved.path is not None:
        session.facts["saved"] = f"saved {datetime.now():%H:%M}"
    elif request.loud:
        in_memory = isinstance(session.store, MemoryStore)
        session.facts["saved"] = "kept in this window only" if in_memory else ""


def _predicted(session: AnnotationSession, answer: ModelAnswer) -> None:
    pending = session.draft
    current = pending.current
    if current is None or not pending.pending or not answer.proposals:
        return
    assert pending.active is not None
    ppn = number_in(answer.model_id) or current.ppn
    item = replace(current, proposal=answer.proposals[0], ppn=ppn)
    answered = replace(
        pending.with_object(pending.active, item), pending=False, model_id=answer.model_id
    )
    seconds = round(answer.seconds, 4)
    session.answer_step(pending, answered, {"model": answer.model_id, "seconds": seconds})
    session.draft = answered
    _note(session, answer)
    if not item.has_mask:
        session.facts["note"] = NOTHING_THERE
    if answer.notes:  # why learned prompts did not join
        session.predictor.is_broken(" ".join(answer.notes))
    session.draft_changed.emit()
    session.states_changed.emit()
    session.prompting.ask_left()


def _note(session: AnnotationSession, answer: ModelAnswer) -> None:
    session.facts.pop("note", None)
    session.facts["model"] = readable(answer.model_id)
    if answer.fell_back:
        session.tuner.is_broken(answer.fell_back)
    milliseconds = 1000 * answer.seconds
    quick = milliseconds < 1000
    session.facts["time"] = f"{milliseconds:.0f} ms" if quick else f"{answer.seconds:.1f} s"
