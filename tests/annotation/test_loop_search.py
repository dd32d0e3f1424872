"""A phrase on all frames of a loop: what is proposed, what is left alone, and the way back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_usgseg.core.types import Detections
from napari_usgseg.effort.efforts import BY_PHRASE, efforts
from napari_usgseg.jobs import inference
from napari_usgseg.project.records import ImageState
from tests.annotation.test_propagation import FRAMES, SIZE_HW, draw, masks, name, states
from tests.support.bench import Bench, BoxDetector, opened_again
from tests.support.cine import lesion, write_loop

UNTOUCHED, PROPOSED, ACCEPTED = ImageState.UNTOUCHED, ImageState.PROPOSED, ImageState.ACCEPTED


@pytest.fixture
def loop(tmp_path):
    return write_loop(tmp_path, "b.tif", FRAMES, SIZE_HW)


class Leaves(BoxDetector):
    """Finds what it looks for on the first six images that it sees."""

    def __init__(self) -> None:
        self.seen = 0

    def detect(self, image, prompt):
        self.seen += 1
        found = super().detect(image, prompt)
        return found if self.seen <= 6 else Detections(found.boxes[:0], found.scores[:0], ())


@pytest.fixture
def bench(tmp_path, loop):
    bench = Bench(tmp_path)
    bench.session.navigation.open_folder(tmp_path)
    bench.session.loops.go(4)
    bench.session.settings = replace(bench.session.settings, phrase="cyst")
    return bench


def test_a_phrase_is_looked_for_on_all_frames_and_taken_back_in_one_step(bench):
    session = bench.session
    before = session.undo_stack.count
    session.loop_search.find()
    assert states(bench) == [PROPOSED] * FRAMES
    assert "Found on 12 of 12 frames." in session.status.text
    cyst = next(item for item in session.table.classes if item.name == "cyst")
    found = masks(bench)
    assert all(mask[20, 20] and not mask[0, 0] for mask in found.values())
    objects = session.store.read_proposal(name(9)).objects
    assert [item.class_id for item in objects] == [cyst.class_id]
    assert not any(session.loops.is_keyframe(n) for n in range(FRAMES)), "they are a model's"
    assert session.loops.score(3) == pytest.approx(0.9)
    assert session.undo_stack.count == before + 1
    session.undo()
    assert states(bench) == [UNTOUCHED] * FRAMES
    assert cyst not in session.table.classes
    again = opened_again(bench)
    again.session.redo()
    assert states(again) == [PROPOSED] * FRAMES
    assert cyst in again.session.table.classes
    for frame, mask in masks(again).items():
        np.testing.assert_array_equal(mask, found[frame])


def test_what_is_a_persons_is_left_alone_and_only_marked_frames_are_searched(bench, loop):
    session = bench.session
    draw(bench, 5, lesion(loop, 5))
    session.loops.go(6)
    session.navigation.mark_empty()
    session.loops.go(7)
    session.navigation.skip()
    mine = masks(bench)[5]
    session.loop_search.find(range(4, 9))
    assert sorted(masks(bench)) == [4, 5, 8]
    np.testing.assert_array_equal(masks(bench)[5], mine)
    session.loop_search.find(range(5, 8))
    assert "Every frame that you ask for is labelled" in session.status.text


def test_frames_on_which_nothing_is_found_are_said_and_stay_as_they_are(bench):
    session = bench.session
    session.settings = replace(session.settings, find_on_open=False)
    detector = Leaves()
    bench.models.detector = lambda name: detector
    session.loops.go(0)
    session.loop_search.find()
    assert sorted(masks(bench)) == list(range(6))
    assert "Found on 6 of 12 frames. Nothing on frames 7 to 12." in session.status.text


def test_the_frame_that_is_looked_at_and_those_behind_it_come_first(bench):
    bench.hold = True
    bench.session.loop_search.find()
    for job in bench.held:
        bench.hold = True
        bench.answer(job)
    (search,) = bench.held_for(inference.search_loop)
    assert search.args[3] == (*range(4, FRAMES), *range(4))
    bench.session.runs.stop()
    assert not search.is_awaited


def test_propagation_from_a_frame_of_the_person_takes_the_place_of_what_was_found(bench, loop):
    session = bench.session
    session.loop_search.find()
    draw(bench, 0, lesion(loop, 0))
    session.propagation.propagate()
    found = masks(bench)
    assert not np.array_equal(found[6], found[0])
    ious = [(m & lesion(loop, n)).sum() / (m | lesion(loop, n)).sum() for n, m in found.items()]
    assert min(ious) > 0.7


def test_the_ledger_says_that_a_phrase_found_it(bench):
    session = bench.session
    session.loop_search.find()
    session.loops.go(2)
    session.editing.accept()
    session.flush()
    store = session.store
    (row,) = (r for r in efforts(store.events(), "", store.states()) if r.image_id == name(2))
    assert row.first.source == BY_PHRASE
    assert row.first.model == "boxes + discs"


def test_without_a_phrase_or_a_loop_nothing_begins_and_it_is_said_why(bench):
    session = bench.session
    session.settings = replace(session.settings, phrase="")
    session.loop_search.find()
    assert "Type what to look for" in bench.notes[-1][1]
    session.loop_search.propose_learned()
    assert "Nothing is learnt yet" in bench.notes[-1][1]
    assert states(bench) == [UNTOUCHED] * FRAMES
