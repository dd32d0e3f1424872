"""The door for work off the session's thread: what supersedes what, and what is dropped."""

from __future__ import annotations

import pytest

from napari_usgseg.core.errors import UsgsegError
from napari_usgseg.jobs import Job, Jobs, Lane, Outcome, Scope
from napari_usgseg.jobs.runner import outcome_of


class Office:
    """Jobs that are done when the test says so."""

    def __init__(self) -> None:
        self.run: list[Job] = []
        self.ended: list[Job] = []
        self.taken: list = []
        self.jobs = Jobs(self.run.append, self.ended.append)

    def submit(self, lane: Lane = Lane.CLICKS, **how) -> Job:
        number = len(self.run)
        return self.jobs.submit(
            max, number, lane=lane, done=lambda result: self.taken.append(result), **how
        )


@pytest.fixture
def office() -> Office:
    return Office()


def test_a_newer_job_of_a_key_supersedes_the_older_one_whichever_ends_first(office):
    first, second = office.submit(key="prompt"), office.submit(key="prompt")
    assert office.ended == [first]
    second.receive(Outcome("new"))
    first.receive(Outcome("old"))
    assert office.taken == ["new"]
    assert not office.jobs.awaited


def test_jobs_without_a_key_stand_beside_one_another(office):
    for job in [office.submit(), office.submit()]:
        job.receive(Outcome(job.args))
    assert office.taken == [(0,), (1,)]


def test_a_scope_is_dropped_together_and_nothing_else(office):
    click, phrase = office.submit(scope=Scope.PROPOSAL), office.submit(scope=Scope.PROPOSAL)
    saved = office.submit(Lane.FILES)
    assert office.jobs.awaits(Scope.PROPOSAL)
    assert office.jobs.cancel(Scope.PROPOSAL)
    assert office.ended == [click, phrase]
    assert not office.jobs.cancel(Scope.PROPOSAL)
    assert saved.is_awaited


def test_what_must_not_be_lost_of_a_dropped_job_is_handed_over(office):
    late: list = []
    job = office.submit(key="open", late=late.append)
    job.cancel()
    job.receive(Outcome("a store"))
    assert (office.taken, late) == ([], ["a store"])
    failing = office.submit(key="open", late=late.append)
    failing.cancel()
    failing.receive(Outcome(error="no such folder"))
    assert late == ["a store"]


def test_a_job_that_is_to_end_early_is_awaited_and_one_that_is_dropped_is_told_nothing(office):
    told: list = []
    job = office.submit(Lane.TRAINING, told=told.append)
    job.stop()
    job.receive({"kind": "stopped"})
    job.receive(Outcome(0))
    assert (office.ended, told, office.taken) == ([job], [{"kind": "stopped"}], [0])
    job.receive({"kind": "step"})
    assert len(told) == 1


def test_the_line_names_what_a_person_waits_for_before_what_is_prepared(office):
    office.submit(text="Preparing...", aside=True)
    assert office.jobs.text() == "Preparing..."
    office.submit(text="Segmenting...")
    office.submit(Lane.PREFETCH)
    assert office.jobs.text() == "Segmenting..."
    office.submit(Lane.PHRASES, text="Looking...", scope=Scope.PROPOSAL)
    assert office.jobs.text() == "Looking..."
    office.jobs.cancel(Scope.PROPOSAL)
    assert office.jobs.text() == "Segmenting..."


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (UsgsegError("no model; choose another"), "no model; choose another"),
        (MemoryError(), "too little"),
        (OSError("the disk is full"), "the disk is full; look"),
        (ValueError("odd"), "ValueError: odd (details on the terminal; restore)"),
    ],
)
def test_whatever_goes_wrong_is_a_sentence_with_its_cure(error, text):
    def work() -> None:
        raise error

    assert outcome_of(work, "restore", "too little", "look") == Outcome(error=text)
