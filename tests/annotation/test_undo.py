"""Undo without limit, also across a restart; what could not be saved is sent again."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_usgseg.annotation.undo import KEPT, UndoStack
from napari_usgseg.io.atomic import write_over
from napari_usgseg.io.labels import read_labels, write_labels
from napari_usgseg.jobs.files import save
from napari_usgseg.project.project import Project
from napari_usgseg.project.records import Edit, EventKind, ImageProposal, ImageState, Step, Steps
from tests.support.bench import Bench, act
from tests.support.labelling import label_path


@pytest.fixture
def again(bench):
    """Closes the window and opens the folder in a new one."""

    def reopen(annotator: str = "") -> Bench:
        bench.session.close()
        new = Bench(bench.folder)
        new.session.settings = replace(new.session.settings, find_on_open=False)
        new.session.navigation.open_folder(bench.folder, annotator=annotator)
        return new

    return reopen


def test_everything_can_be_undone_after_a_restart_in_order(session, again, on_disk):
    session.prompting.add_point(20, 20)
    session.editing.accept()
    session.editing.add_class("wall")
    painted = session.labels.copy()
    painted[3:6, 4:9] = 2
    session.editing.painted(painted)
    session = again().session
    assert [step.name for step in session.undo_stack.steps] == [
        "click",
        "accept",
        "add class",
        "paint",
    ]
    session.undo()
    assert on_disk("a").max() == 1
    session.undo()
    assert len(session.table.classes) == 1
    session.undo()
    assert on_disk("a") is None
    assert session.proposal.has_masks
    session.undo()
    assert not session.proposal.objects
    for _ in range(4):
        session.redo()
    assert np.array_equal(on_disk("a"), painted)


def test_what_was_undone_before_a_restart_can_be_redone_after_it(session, again, on_disk):
    session.prompting.add_point(20, 20)
    session.editing.accept()
    accepted = on_disk("a")
    session.undo()
    session = again().session
    assert session.undo_stack.next_redo.name == "accept"
    assert session.proposal.has_masks
    session.redo()
    assert np.array_equal(on_disk("a"), accepted)


def test_a_proposal_survives_a_restart_and_can_be_corrected_and_accepted(session, again, on_disk):
    session.prompting.add_point(20, 20)
    mask = session.proposal.objects[0].proposal.mask
    bench = again()
    session = bench.session
    assert session.state_of("a") is ImageState.PROPOSED
    assert np.array_equal(session.proposal.objects[0].proposal.mask, mask)
    session.prompting.add_point(28, 20)
    assert session.proposal.objects[0].prompts.point_labels.tolist() == [1, 1]
    session.editing.accept()
    assert on_disk("a")[20, 26] == 1


def test_a_prompt_without_an_answer_when_the_window_died_waits_for_nothing(bench):
    bench.session.prompting.add_point(20, 20)
    bench.hold = True
    bench.session.prompting.add_point(60, 40)
    for job in bench.held_for(save):
        bench.answer(job)
    other = Bench(bench.folder)
    other.session.navigation.open_folder(bench.folder)
    assert not other.session.proposal.pending
    assert not other.session.is_waiting
    other.session.undo()
    assert len(other.session.proposal.objects) == 1


def test_undo_has_no_limit(session, again, on_disk):
    count = 2 * KEPT + 3
    for number in range(count):
        painted = session.labels.copy()
        painted[number // 60, number % 60] = 1
        session.editing.painted(painted)
    assert session.undo_stack.count == count
    for _ in range(count):
        session.undo()
    assert on_disk("a") is None
    session.go_to(count)
    assert int(on_disk("a").sum()) == count
    session = again().session
    session.go_to(5)
    assert int(on_disk("a").sum()) == 5


def test_going_to_a_step_passes_through_all_images_on_the_way(session, again, on_disk):
    for x in (20, 30, 40):
        session.prompting.add_point(x, 20)
        session.editing.accept_and_next()
    session = again().session
    session.go_to(0)
    assert all(on_disk(image_id) is None for image_id in "abc")
    assert session.undo_stack.position == 0
    session.go_to(4)
    assert [on_disk(image_id) is not None for image_id in "abc"] == [True, True, False]
    session.go_to(99)
    assert session.undo_stack.position == 4


def test_presses_of_undo_add_up_while_an_image_is_read(bench, on_disk):
    session = bench.session
    session.prompting.add_point(20, 20)
    session.editing.accept_and_next()
    session.image_queue._loaded.clear()
    bench.hold = True
    session.undo()
    session.undo()
    assert session.undo_stack.position == 2
    while bench.held:
        bench.answer(bench.held.pop(0))
    assert session.undo_stack.position == 0
    assert on_disk("a") is None


def fill_disk(session):
    """Let the database take nothing more; gives what frees the disk again."""
    database = session.store.log.database
    (pages,) = database.row("PRAGMA page_count")
    database.execute(f"PRAGMA max_page_count = {pages}")
    numbers = itertools.count()
    while not session.unsaved:
        session.editing.add_class(f"{next(numbers)} " + "x" * 500)
    return lambda: database.execute("PRAGMA max_page_count = 1000000")


def test_what_cannot_be_saved_is_kept_and_sent_again_in_order(bench, on_disk):
    session = bench.session
    free = fill_disk(session)
    classes = len(session.table.classes) - 1
    session.prompting.add_point(20, 20)
    session.editing.accept()
    session.navigation.step(1)
    session.prompting.add_point(30, 30)
    session.editing.accept()
    assert session.status.error
    assert "disk is full" in session.status.text
    assert on_disk("b") is None
    free()
    session.retry()
    assert not session.status.error
    assert not session.outbox.of(session.store)
    kept = session.image_queue._loaded["a"].labels
    assert np.count_nonzero(on_disk("a")) == np.count_nonzero(kept)
    assert on_disk("b")[30, 30]
    names = [step.name for step in session.store.steps().done]
    assert names == ["add class"] * classes + ["click", "accept"] * 2


def test_the_same_failure_is_not_told_again_with_every_click(bench):
    fill_disk(bench.session)
    for x in (10, 20, 30, 40):
        bench.session.prompting.add_box((x, 10), (x + 8, 30))
    assert len([level for level, _ in bench.notes if level == "error"]) == 1


def test_a_folder_that_somebody_else_labels_can_be_looked_at_and_nothing_is_changed(
    bench, monkeypatch, on_disk
):
    from napari_usgseg.project import locks

    # another process has the lock; tests/store/test_locks.py has a real one
    monkeypatch.setattr(locks.AnnotatorLock, "acquire", lambda self: False)
    bench.session.close()
    other = Bench(bench.folder)
    other.session.navigation.open_folder(bench.folder)
    session = other.session
    assert any("under a name of your own" in text for _, text in other.notes)
    session.prompting.add_point(20, 20)
    assert session.proposal.has_masks
    session.editing.accept()
    assert not session.labels.any()
    assert "Nothing was changed" in session.status.text
    assert on_disk("a") is None
    assert session.undo_stack.next_undo.name == "click"


def test_two_annotators_have_labels_and_a_history_of_their_own(session, again, folder, on_disk):
    session.prompting.add_point(20, 20)
    session.editing.accept()
    session = again("Ana").session
    assert session.undo_stack.count == 0
    assert not session.labels.any()
    session.prompting.add_point(60, 40)
    session.editing.accept()
    assert on_disk("a")[20, 20] == 1
    assert on_disk("a")[40, 60] == 0
    assert read_labels(folder / "usgseg" / "labels" / "by-Ana" / "a.png")[40, 60] == 1


def test_a_step_on_labels_that_were_changed_elsewhere_is_refused_and_forgotten(session, folder):
    session.prompting.add_point(20, 20)
    session.editing.accept()
    session.navigation.step(1)
    session.image_queue._loaded.clear()
    foreign = np.full(session.labels.shape, 3, np.uint8)
    write_labels(folder / "usgseg" / "labels" / "a.png", foreign, write_over)
    session.undo()
    assert "changed elsewhere" in session.status.text
    assert np.array_equal(read_labels(folder / "usgseg" / "labels" / "a.png"), foreign)
    assert session.undo_stack.count == 0
    assert not session.store.steps().done


def test_the_history_tells_how_long_a_person_was_at_work_and_what_was_looked_for(session):
    session.prompting.find("cyst. fetal head")
    session.editing.accept_and_next()
    events = list(session.store.events())
    kinds = [event.kind for event in events]
    assert kinds.index(EventKind.OPEN) < kinds.index(EventKind.SEARCH) < kinds.index(EventKind.EDIT)
    (search,) = [
        event for event in events if event.kind is EventKind.SEARCH and event.image_id == "a"
    ]
    assert search.body["found"] == 1
    assert search.body["phrases"] == ["cyst"]
    (leave,) = [event for event in events if event.kind is EventKind.LEAVE]
    assert leave.image_id == "a"
    assert leave.body["active_s"] >= 0


def test_a_long_pause_does_not_count_as_work():
    from napari_usgseg.effort.efforts import IDLE_SECONDS, Stopwatch

    now = [0.0]
    watch = Stopwatch(lambda: now[0])
    watch.touch()
    for pause in (3.0, 3600.0, 2.0):
        now[0] += pause
        watch.touch()
    assert watch.take() == 5.0 + IDLE_SECONDS
    now[0] += 1
    assert watch.take() == 1.0


def test_a_light_undo_stack_keeps_the_content_of_the_last_edits_only():
    stack = UndoStack(Steps((Step(4, "accept", "a"),), (Step(7, "paint", "a"),), 9), kept=2)
    assert (stack.next_undo.number, stack.next_redo.number) == (4, 7)
    numbers = [stack.push(Edit("click", "a", (ImageProposal(), ImageProposal()))) for _ in range(3)]
    assert numbers == [10, 11, 12]
    assert stack.next_redo is None
    assert [stack.content(number) is None for number in numbers] == [True, False, False]
    assert stack.back().number == 12
    assert stack.forth().number == 12


ACTIONS = st.sampled_from(
    ["point", "negative", "box", "find", "accept", "paint", "class", "next", "undo", "redo", "skip"]
)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(ACTIONS, st.integers(0, 70), st.integers(0, 50)), max_size=10))
def test_a_restart_at_any_point_changes_nothing_that_can_be_seen_or_undone(
    folder: Path, tmp_path_factory, actions
):
    here = tmp_path_factory.mktemp("restart")
    for file in folder.glob("*.png"):
        shutil.copy(file, here)
    bench = Bench(here)
    session = bench.session
    session.settings = replace(session.settings, find_on_open=False)
    session.navigation.open_folder(here)
    for action, x, y in actions:
        act(session, action, x, y)
    before = seen(session)
    session.close()
    other = Bench(here)
    session = other.session
    session.settings = replace(session.settings, find_on_open=False)
    session.navigation.open_folder(here)
    assert seen(session) == before
    session.go_to(0)
    assert not list(here.glob("usgseg/labels/*.png"))
    session.go_to(session.undo_stack.count)
    store = Project(here, write=False)
    for record in store.records:
        path = label_path(store, record.image_id)
        replayed = store.log.replayed(record.image_id)
        if path.is_file():
            labels = read_labels(path)
            assert np.array_equal(labels, 0 * labels if replayed is None else replayed)
    session.close()


def seen(session) -> tuple[object, ...]:
    """What a person sees of a session."""
    states = {
        record.image_id: session.state_of(record.image_id) for record in session.image_queue.records
    }
    masks = [item.proposal.mask.tobytes() for item in session.proposal.objects if item.proposal]
    return (
        states,
        session.record.image_id,
        session.labels.tobytes(),
        masks,
        session.undo_stack.steps,
        session.undo_stack.position,
        session.table.classes,
    )
