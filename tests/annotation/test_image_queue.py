from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_usgseg.annotation import image_queue
from napari_usgseg.annotation.image_queue import ImageQueue
from napari_usgseg.core.types import ImageRecord
from napari_usgseg.project.records import Edit, ImageState

UNTOUCHED, PROPOSED, COMMITTED, EMPTY, SKIPPED, FLAGGED = ImageState


def queue_of(*states: ImageState) -> ImageQueue:
    records = [
        ImageRecord(f"{n:04d}", Path(f"{n:04d}.png"), None, (4, 4)) for n in range(len(states))
    ]
    ids = [record.image_id for record in records]
    stored = [COMMITTED if state is EMPTY else state for state in states]
    empty = [image_id for image_id, state in zip(ids, states, strict=True) if state is EMPTY]
    return ImageQueue(records, dict(zip(ids, stored, strict=True)), empty=empty)


def brute_force(queue: ImageQueue, only: ImageState | None, by: int) -> str | None:
    here = -1 if queue.position is None else queue.position
    ids = [record.image_id for record in queue.records]
    passing = [n for n, i in enumerate(ids) if only is None or queue.state_of(i) is only]
    side = [n for n in passing if (n > here if by > 0 else n < here)]
    side = side if by > 0 else side[::-1]
    return ids[side[abs(by) - 1]] if len(side) >= abs(by) else None


STATES = st.lists(st.sampled_from(list(ImageState)), min_size=1, max_size=12)


@given(STATES, st.data())
def test_the_way_on_is_what_looking_at_every_image_finds(states, data):
    queue = queue_of(*states)
    ids = [record.image_id for record in queue.records]
    for _ in range(6):
        image_id = data.draw(st.sampled_from(ids))
        match data.draw(st.sampled_from(["go", "decide", "propose", "withdraw", "draw", "erase"])):
            case "go":
                queue.go(image_id)
            case "decide":
                decisions = [UNTOUCHED, COMMITTED, SKIPPED, FLAGGED]
                queue.set_state(image_id, data.draw(st.sampled_from(decisions)))
            case "propose":
                queue.set_proposed(image_id, True)
            case "withdraw":
                queue.set_proposed(image_id, False)
            case "draw":
                queue.set_drawn(image_id, True)
            case "erase":
                queue.set_drawn(image_id, False)
    for state in ImageState:
        assert queue.count(state) == sum(queue.state_of(i) is state for i in ids)
        assert [ids[n] for n in queue.places(state)] == [
            i for i in ids if queue.state_of(i) is state
        ]
    accepted = [record.image_id for record in queue.accepted]
    assert accepted == [i for i in ids if queue.decided(i) is COMMITTED]
    assert queue.accepted_count == len(accepted)
    for only in (None, *ImageState):
        queue.only = only
        for by in (1, -1, 2, -2):
            assert queue.neighbour(by) == brute_force(queue, only, by)
    here = -1 if queue.position is None else queue.position
    round_the_end = ids[here + 1 :] + ids[: max(here, 0)]
    free = [i for i in round_the_end if queue.decided(i) is UNTOUCHED]
    assert queue.next_untouched() == (free[0] if free else None)


def test_a_proposal_shows_on_an_untouched_image_only_and_comes_back_with_an_undo():
    queue = queue_of(UNTOUCHED, COMMITTED)
    queue.set_proposed("0000", True)
    queue.set_proposed("0001", True)
    assert [queue.state_of(i) for i in ("0000", "0001")] == [PROPOSED, COMMITTED]
    queue.set_state("0000", COMMITTED)
    queue.set_state("0000", UNTOUCHED)
    assert queue.state_of("0000") is PROPOSED
    assert queue.decided("0000") is UNTOUCHED


def test_an_accepted_image_is_empty_as_long_as_nothing_is_labelled_on_it():
    queue = queue_of(UNTOUCHED, EMPTY, COMMITTED)
    queue.set_state("0000", COMMITTED)
    assert [queue.state_of(f"000{n}") for n in range(3)] == [EMPTY, EMPTY, COMMITTED]
    queue.set_drawn("0001", True)
    queue.set_drawn("0002", False)
    assert [queue.state_of(f"000{n}") for n in range(3)] == [EMPTY, COMMITTED, EMPTY]
    assert queue.decided("0002") is COMMITTED
    assert queue.accepted_count == 3
    queue.set_state("0000", FLAGGED)
    queue.note_flags(Edit("flag", "0000", state=(COMMITTED, FLAGGED)))
    assert (queue.state_of("0000"), queue.unflagged("0000")) == (FLAGGED, COMMITTED)


def test_only_the_image_that_changed_is_told():
    queue = queue_of(*[UNTOUCHED] * 5)
    told: list[str] = []
    queue.state_changed.connect(told.append)
    queue.set_state("0003", COMMITTED)
    queue.set_state("0003", COMMITTED)
    queue.set_proposed("0001", True)
    queue.set_proposed("0001", True)
    assert told == ["0003", "0001"]


def test_an_image_is_found_by_a_part_of_its_name_round_the_end():
    queue = queue_of(*[UNTOUCHED] * 30)
    queue.go("0013")
    assert queue.named("3") == "0023"
    assert queue.named("0013.PNG") == "0013"
    assert queue.named("000") == "0000"
    assert queue.named("nodule") is None
    assert queue.named("  ") is None


def test_the_pace_is_told_after_four_commits_and_forgets_what_is_an_hour_old(monkeypatch):
    now = 0.0
    monkeypatch.setattr(image_queue.time, "monotonic", lambda: now)
    queue = queue_of(*[UNTOUCHED] * 100, SKIPPED)
    for n in range(10):
        now = 60.0 * n
        assert (queue.per_hour() is None) == (n < 4)
        accept = Edit("accept", f"{n:04d}", state=(UNTOUCHED, COMMITTED))
        queue.note_accept(accept)
        queue.apply(accept)
    assert queue.per_hour() == 60
    assert queue.hours_left() == pytest.approx(90 / 60)
    now = 540.0 + 3601.0
    assert queue.per_hour() is None
    assert queue.hours_left() is None


def test_opening_goes_to_the_last_image_or_the_first_without_labels():
    queue = queue_of(COMMITTED, SKIPPED, UNTOUCHED, UNTOUCHED)
    assert queue.resume_at("0003") == "0003"
    assert queue.resume_at("gone") == "0002"
    assert queue_of(COMMITTED, FLAGGED).resume_at(None) == "0000"
    assert ImageQueue().resume_at(None) is None


def test_a_step_of_accepting_looks_at_few_of_ten_thousand_images():
    looked: list[int] = []

    class Counting(list):
        def __getitem__(self, index):
            looked.append(1)
            return super().__getitem__(index)

        def __iter__(self):
            looked.append(len(self))
            return super().__iter__()

    queue = queue_of(*[UNTOUCHED] * 10_000)
    queue._places = {state: Counting(places) for state, places in queue._places.items()}
    queue.records = Counting(queue.records)
    queue.only = UNTOUCHED
    queue.go("5000")
    looked.clear()
    for _ in range(20):
        image_id = queue.record.image_id
        queue.set_proposed(image_id, True)
        queue.set_state(image_id, COMMITTED)
        queue.go(queue.neighbour(1))
        queue.next_untouched()
        assert queue.accepted_count + queue.left == 10_000
    assert queue.record.image_id == "5020"
    assert 0 < sum(looked) < 20 * 60, "bisection, not a walk over all images"


def test_walking_follows_the_filter(session):
    session.navigation.flag()
    assert session.state_of("a") is FLAGGED
    assert session.record.image_id == "b"
    session.navigation.open_image("c")
    session.navigation.flag()
    session.navigation.open_image("b")
    session.navigation.show_only(FLAGGED)
    assert session.navigation.step(1)
    assert session.record.image_id == "c"
    assert session.navigation.step(-1)
    assert session.record.image_id == "a"
    assert not session.navigation.step(-1)
    session.navigation.show_only(UNTOUCHED)
    assert session.navigation.mark_empty()
    assert session.record.image_id == "b"


def test_what_is_prefetched_follows_the_filter(bench):
    session = bench.session
    session.navigation.open_image("c")
    session.navigation.flag()
    session.navigation.open_image("a")
    bench.hold = True
    session.navigation.show_only(FLAGGED)
    assert [record.image_id for record in session.image_queue.nearby()] == ["c"]
    session.navigation.show_only(None)
    assert "b" in [record.image_id for record in session.image_queue.nearby()]


def test_a_flag_keeps_labels_and_proposal_and_goes_with_a_second_press_or_an_undo(session):
    session.prompting.add_point(20, 20)
    session.editing.accept()
    labels = session.labels
    session.prompting.add_point(60, 40)
    session.navigation.flag()
    assert session.state_of("a") is FLAGGED
    session.navigation.step(-1)
    assert (session.labels == labels).all()
    assert session.proposal.has_masks
    session.navigation.flag()
    assert session.state_of("a") is COMMITTED
    assert session.record.image_id == "a"
    session.undo()
    assert session.state_of("a") is FLAGGED
    session.editing.accept()
    assert session.state_of("a") is COMMITTED


def test_taking_a_flag_away_accepts_nothing_that_only_an_undone_step_accepted(session):
    session.navigation.flag()
    session.navigation.open_image("a")
    session.prompting.add_box((10, 10), (40, 40))
    session.editing.accept()
    assert session.state_of("a") is COMMITTED
    session.undo()
    session.undo()
    assert session.state_of("a") is FLAGGED
    session.navigation.flag()
    assert session.state_of("a") is UNTOUCHED
    session.undo()
    session.undo()
    assert session.state_of("a") is UNTOUCHED
    session.redo()
    session.redo()
    session.undo()
    session.navigation.flag()
    assert session.state_of("a") is UNTOUCHED


def test_going_to_a_name_that_is_not_there_is_said(session):
    assert session.navigation.go_to_name("c.p")
    assert session.record.image_id == "c"
    assert not session.navigation.go_to_name("kidney")
    assert "kidney" in session.status.text
    assert session.record.image_id == "c"
