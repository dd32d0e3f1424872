"""The history: only added to, replayed to the same maps, undone and redone across openings."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_usgseg.core.types import LabelClass
from napari_usgseg.project.project import MemoryStore, Project
from napari_usgseg.project.records import (
    ClassTable,
    Edit,
    Event,
    EventKind,
    ImageProposal,
    ImageState,
    difference,
)
from tests.support.labelling import (
    SIZE_HW,
    follow_anew,
    label_path,
    some_labels,
    some_proposal,
    tables,
)

TABLE = ClassTable((LabelClass(1, "cyst", "#e69f00"),), 1)


def accept(serial: int, image_id: str = "1", before=None, after=None) -> Event:
    before = np.zeros(SIZE_HW, np.uint8) if before is None else before
    patch = difference(before, some_labels() if after is None else after)
    states = (ImageState.UNTOUCHED, ImageState.ACCEPTED)
    edit = Edit("accept", image_id, (some_proposal(), ImageProposal()), patch, states)
    return Event(serial, EventKind.EDIT, image_id, edit)


def propose(serial: int, image_id: str = "1", x: float = 4.0) -> Event:
    edit = Edit("click", image_id, (ImageProposal(), some_proposal(x)))
    return Event(serial, EventKind.EDIT, image_id, edit)


def asked_for(proposal: ImageProposal) -> ImageProposal:
    items = tuple(replace(item, is_asked=True) for item in proposal.objects)
    return replace(proposal, objects=items)


def test_an_accept_is_there_with_state_steps_and_label_file_after_opening_again(
    folder: Path,
) -> None:
    store = Project(folder)
    store.record([propose(1), accept(2)])
    store.close()
    again = Project(folder)
    assert again.states()["1"] is ImageState.ACCEPTED
    assert np.array_equal(again.read_labels(again.records[0]), some_labels())
    steps = again.steps()
    assert [step.name for step in steps.done] == ["click", "accept"]
    assert steps.serial == 2
    edit = again.read_step(2)
    assert edit.state == (ImageState.UNTOUCHED, ImageState.ACCEPTED)
    assert np.array_equal(edit.patch.applied(np.zeros(SIZE_HW, np.uint8)), some_labels())
    assert np.array_equal(
        edit.proposal[0].objects[0].proposal.mask, some_proposal().objects[0].proposal.mask
    )


def test_a_proposal_is_there_after_opening_again_and_the_image_says_so(folder: Path) -> None:
    store = Project(folder)
    store.record([propose(1, "2")])
    store.close()
    again = Project(folder)
    assert again.states()["2"] is ImageState.PROPOSED
    assert again.read_proposal("2").notes == ("a note",)
    again.record([Event(2, EventKind.UNDO, "2", step=1, proposal=ImageProposal())])
    assert again.states()["2"] is ImageState.UNTOUCHED
    assert not again.read_proposal("2").objects


def test_what_was_undone_can_be_redone_after_opening_again_until_something_new_is_done(
    folder: Path,
) -> None:
    store = Project(folder)
    store.record([accept(1), Event(2, EventKind.UNDO, "1", step=1, proposal=some_proposal())])
    assert not label_path(store, "1").exists()
    store.close()
    again = Project(folder)
    assert [step.number for step in again.steps().undone] == [1]
    again.record([Event(3, EventKind.REDO, "1", step=1, proposal=ImageProposal())])
    assert np.array_equal(again.read_labels(again.records[0]), some_labels())
    again.record(
        [Event(4, EventKind.UNDO, "1", step=1, proposal=some_proposal()), propose(5, "10")]
    )
    assert not again.steps().undone
    assert [step.number for step in again.steps().done] == [5]


def test_an_answer_takes_the_place_of_the_prompt_that_waited_for_it(folder: Path) -> None:
    store = Project(folder)
    pending = asked_for(some_proposal())
    answered = some_proposal()
    edit = Edit("click", "1", (ImageProposal(), pending))
    second = Edit("click", "1", (answered, asked_for(some_proposal(9))))
    store.record([Event(1, EventKind.EDIT, "1", edit)])
    assert store.read_proposal("1").pending
    body = {"model": "nano", "seconds": 0.1}
    store.record([Event(2, EventKind.ANSWER, "1", step=1, proposal=answered, body=body)])
    assert not store.read_proposal("1").pending
    store.record([Event(3, EventKind.EDIT, "1", second)])
    late = Event(4, EventKind.ANSWER, "1", step=1, proposal=answered, body=body)
    store.record([late])
    assert store.read_proposal("1").pending, "a late answer to an earlier prompt changes nothing"
    assert not store.read_step(1).proposal[1].pending
    assert store.read_step(3).proposal[1].pending


def test_the_answers_to_two_objects_that_one_prompt_left_waiting_are_kept(folder: Path) -> None:
    store = Project(folder)
    (one,), (two,) = some_proposal().objects, some_proposal(9).objects
    asked = tuple(replace(item, is_asked=True) for item in (one, two))
    both = ImageProposal(asked, 1)
    store.record([Event(1, EventKind.EDIT, "1", Edit("click", "1", (ImageProposal(), both)))])
    half = both.putting(asked[1], two)
    whole = half.putting(asked[0], one)
    for serial, proposal in ((2, half), (3, whole)):
        answer = Event(serial, EventKind.ANSWER, "1", step=1, proposal=proposal)
        store.record([answer])
        assert store.read_proposal("1").pending is (proposal is half)
    assert not store.read_step(1).proposal[1].pending


def test_events_that_are_sent_twice_are_kept_once(folder: Path) -> None:
    store = Project(folder)
    store.record([accept(1)])
    store.record([accept(1), propose(2, "2")])
    assert [event.kind for event in store.events()] == [EventKind.EDIT, EventKind.EDIT]


def test_a_batch_that_cannot_be_written_leaves_no_part_of_itself(folder: Path) -> None:
    store = Project(folder)
    unknown = Event(2, EventKind.UNDO, "1", step=77)
    with pytest.raises(Exception, match="no step 77"):
        store.record([accept(1), unknown])
    assert not list(store.events())
    assert store.states()["1"] is ImageState.UNTOUCHED
    store.record([accept(1)])
    assert np.array_equal(store.read_labels(store.records[0]), some_labels())


def test_the_history_can_be_neither_changed_nor_shortened(folder: Path) -> None:
    store = Project(folder)
    store.record([accept(1)])
    store.close()
    database = sqlite3.connect(folder / "usgseg" / "project.sqlite")
    for statement in (
        "UPDATE event SET body = '{}'",
        "DELETE FROM event",
        "UPDATE blob SET data = x''",
        "DELETE FROM blob",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="only added to"):
            database.execute(statement)
    database.close()


def test_classes_and_settings_belong_to_the_history_too(folder: Path) -> None:
    store = Project(folder)
    longer = ClassTable((*TABLE.classes, LabelClass(2, "wall", "#56b4e9")), 2)
    store.record(
        [
            Event(1, EventKind.EDIT, None, Edit("add class", table=(TABLE, longer))),
            Event(2, EventKind.SETTINGS, body={"phrase": "cyst"}),
            Event(3, EventKind.OPEN, "10"),
        ]
    )
    assert store.table() == longer
    assert store.settings() == {"phrase": "cyst", "last": "10"}
    store.record([Event(4, EventKind.UNDO, None, step=1)])
    assert store.table() == TABLE
    assert "wall" not in (folder / "usgseg" / "classes.json").read_text()


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["accept", "undo", "redo", "written", "propose"]),
        st.sampled_from(["1", "2"]),
        st.integers(0, 12),
    ),
    max_size=14,
)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(ACTIONS)
def test_label_files_states_and_steps_are_what_the_events_make(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, str, int]]
) -> None:
    store = Project(folder, tmp_path_factory.mktemp("project"))
    done: list[tuple[int, str]] = []
    undone: list[tuple[int, str]] = []
    for serial, (action, image_id, at) in enumerate(actions, start=1):
        record = next(item for item in store.records if item.image_id == image_id)
        labels = store.read_labels(record)
        labels = np.zeros(SIZE_HW, np.uint8) if labels is None else labels
        changed = labels.copy()
        changed[at : at + 3, at : at + 5] = 1 + at % 3
        if action == "written":
            states = (store.read_state(image_id)[0], ImageState.ACCEPTED)
            with store.log.transaction() as names:
                patch = difference(labels, changed)
                store.log.add(EventKind.WRITTEN, image_id, patch=patch, state=states)
            store._follow(names)
        elif action == "undo" and done:
            undone.append(done.pop())
            step, where = undone[-1]
            store.record(
                [Event(serial, EventKind.UNDO, where, step=step, proposal=ImageProposal())]
            )
        elif action == "redo" and undone:
            done.append(undone.pop())
            step, where = done[-1]
            store.record(
                [Event(serial, EventKind.REDO, where, step=step, proposal=ImageProposal())]
            )
        elif action in ("accept", "propose"):
            new = action == "propose"
            event = propose(serial, image_id) if new else accept(serial, image_id, labels, changed)
            store.record([event])
            done.append((serial, image_id))
            undone = []
    assert [step.number for step in store.steps().done] == [number for number, _ in done]
    for record in store.records:
        replayed = store.log.replayed(record.image_id)
        now = store.read_labels(record)
        if now is not None:
            assert np.array_equal(now, 0 * now if replayed is None else replayed)
    before, states, maps = tables(store), store.states(), files_of(store)
    follow_anew(store)
    assert tables(store) == before
    store.close()
    again = Project(folder, store.root)
    assert again.states() == states
    assert files_of(again) == maps, "what the files lack is written at the next opening"
    again.close()


def files_of(store: Project) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (store.root / "labels").glob("*.png")}


def test_a_layer_in_memory_has_the_same_history(folder: Path) -> None:
    store = MemoryStore("1", np.zeros((*SIZE_HW, 3), np.uint8))
    store.record([propose(1), accept(2)])
    assert store.states() == {"1": ImageState.ACCEPTED}
    assert np.array_equal(store.read_labels(store.records[0]), some_labels())
    assert store.read_step(2).name == "accept"
    store.record([Event(3, EventKind.UNDO, "1", step=2, proposal=some_proposal())])
    assert store.read_labels(store.records[0]) is None
    assert store.read_proposal("1").has_masks
