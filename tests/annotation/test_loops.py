"""A loop is images that share a path: its frames, its keyframes, and a look in passing."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.annotation.image_queue import ImageQueue
from napari_usgseg.core.types import ImageRecord
from napari_usgseg.project.records import ImageState
from tests.support.bench import Bench, opened_again, with_square
from tests.support.cine import write_loop

FRAMES = 6


@pytest.fixture
def loop_bench(tmp_path):
    """A still, a loop of six frames and another still."""
    write_loop(tmp_path, "b.tif", FRAMES, (60, 80))
    for name in ("a", "c"):
        Image.fromarray(np.full((60, 80), ord(name), np.uint8)).save(tmp_path / f"{name}.png")
    bench = Bench(tmp_path)
    bench.session.navigation.open_folder(tmp_path)
    return bench


def frame(number: int) -> str:
    return f"b_{number:04d}"


def draw(session, at: int = 5) -> None:
    session.editing.painted(with_square(session.labels, at))


def test_frames_that_share_a_path_are_one_entry(tmp_path):
    def record(name, number, path):
        return ImageRecord(name, tmp_path / path, number, (8, 8))

    queue = ImageQueue(
        [
            record("a", None, "a.png"),
            *(record(f"b{n}", n, "b.tif") for n in range(3)),
            *(record(f"c{n}", n, "c.tif") for n in range(2)),
            record("d", None, "d.png"),
        ]
    )
    assert queue.entries == (range(1), range(1, 4), range(4, 6), range(6, 7))
    assert [queue.entry_of(place) for place in range(7)] == [0, 1, 1, 1, 2, 2, 3]
    assert queue.loop == ()
    queue.go("b1")
    assert [each.image_id for each in queue.loop] == ["b0", "b1", "b2"]
    assert not queue.is_begun_loop
    queue.set_state("b0", ImageState.ACCEPTED)
    assert queue.is_begun_loop
    assert queue.count(ImageState.UNTOUCHED, queue.entries[1]) == 2
    assert queue.resume_in(queue.entries[1]) == "b1"
    assert queue.resume_in(queue.entries[2]) == "c0"
    queue.go("d")
    assert (queue.loop, queue.is_begun_loop) == ((), False)
    assert ImageQueue().entries == ()


def test_a_still_is_no_loop_and_a_frame_knows_where_it_is(loop_bench):
    session = loop_bench.session
    assert (session.record.image_id, session.loops.frames, session.loops.here) == ("a", (), None)
    session.navigation.step(1)
    assert len(session.loops.frames) == FRAMES
    assert session.loops.here == 0
    session.loops.go(4)
    assert (session.record.image_id, session.loops.here) == (frame(4), 4)
    session.navigation.open_image("c")
    assert session.loops.frames == ()


def test_keyframes_are_what_a_person_accepted_drew_or_prompted(loop_bench):
    session, loops = loop_bench.session, loop_bench.session.loops
    session.navigation.open_image(frame(1))
    draw(session)
    session.editing.accept()
    loops.go(3)
    session.prompting.add_box((10, 10), (40, 40))
    loops.go(4)
    draw(session)
    loops.go(5)
    session.navigation.mark_empty()
    session.navigation.step(-1)
    assert [loops.is_keyframe(n) for n in range(FRAMES)] == [False, True, False, True, True, True]
    loops.go(0)
    visited = []
    while loops.step_keyframe(1):
        visited.append(loops.here)
    assert visited == [1, 3, 4, 5]
    assert "no keyframe after" in session.status.text
    loops.go(2)
    assert loops.step_keyframe(-1)
    assert loops.here == 1
    again = opened_again(loop_bench).session.loops
    assert [again.is_keyframe(n) for n in range(FRAMES)] == [False, True, False, True, True, True]


def test_a_search_runs_by_itself_on_the_first_frame_of_a_loop_only(loop_bench):
    session = loop_bench.session
    session.prompting.find("cyst")
    session.navigation.step(1)
    assert session.proposal.has_masks
    session.navigation.step(1)
    assert session.loops.here == 1
    assert not session.proposal.objects
    session.navigation.open_image("c")
    assert session.proposal.has_masks


def test_a_frame_in_passing_is_neither_opened_nor_worked_on(loop_bench):
    session, loops = loop_bench.session, loop_bench.session.loops
    session.navigation.step(1)
    draw(session)
    opened = []
    session.image_changed.connect(lambda: opened.append(session.record.image_id))
    loops.peek(3)
    assert (loops.here, session.record.image_id, opened) == (3, frame(0), [])
    assert np.array_equal(loops.peeked.pixels, session.store.read_image(loops.frames[3]))
    assert not session.editing.accept(), "what is seen is not accepted unseen, nor what is not seen"
    assert session.state_of(frame(0)) is ImageState.PROPOSED
    assert opened == [frame(3)]
    assert loops.peeked is None
    assert session.record.image_id == frame(3)


def test_of_frames_in_passing_those_are_left_out_that_there_is_no_time_for(loop_bench):
    session, loops = loop_bench.session, loop_bench.session.loops
    session.navigation.step(1)
    loop_bench.hold = True
    for number in range(1, FRAMES):
        loops.peek(number)
    assert len(loop_bench.held) == 1
    loop_bench.release()
    assert loops.here == FRAMES - 1
    loops.land()
    assert session.record.image_id == frame(FRAMES - 1)


def test_going_on_from_a_frame_in_passing_goes_on_from_there(loop_bench):
    session, loops = loop_bench.session, loop_bench.session.loops
    session.navigation.step(1)
    loops.peek(3)
    session.navigation.step(1)
    assert session.record.image_id == frame(4)


def test_the_rate_of_a_loop_is_its_own_or_a_usual_one(loop_bench):
    session = loop_bench.session
    session.navigation.step(1)
    assert session.loops.rate == 20.0
