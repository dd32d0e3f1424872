"""Propagation over a loop: from what is a person's to all frames, and back in one step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_usgseg.annotation.loops.areas import LoopAreas
from napari_usgseg.core.metrics import dice
from napari_usgseg.io.tables import read_table
from napari_usgseg.jobs import inference
from napari_usgseg.project.records import ImageState
from napari_usgseg.segmentation.measuring import scale_key
from napari_usgseg.segmentation.propagation.reach import Direction, Reach
from tests.support.bench import Bench, opened_again
from tests.support.cine import lesion, write_loop
from tests.support.dicom import write_dicom

FRAMES = 12
SIZE_HW = (96, 128)
UNTOUCHED, PROPOSED, ACCEPTED = ImageState.UNTOUCHED, ImageState.PROPOSED, ImageState.ACCEPTED


@pytest.fixture
def loop(tmp_path):
    return write_loop(tmp_path, "b.tif", FRAMES, SIZE_HW)


@pytest.fixture
def bench(tmp_path, loop):
    bench = Bench(tmp_path)
    bench.session.navigation.open_folder(tmp_path)
    return bench


def name(frame: int) -> str:
    return f"b_{frame:04d}"


def draw(bench, frame: int, mask: np.ndarray) -> None:
    """Draw an object on a frame and propose it."""
    from napari_usgseg.annotation.commands.objects import by_hand
    from napari_usgseg.core.types import Prompts
    from napari_usgseg.project.records import ImageProposal, ProposedObject

    session = bench.session
    session.loops.go(frame)
    item = by_hand(ProposedObject(session.table.active, Prompts()), mask)
    session.edit_proposal("lasso as drawn", ImageProposal((item,), 0))


def masks(bench) -> dict[int, np.ndarray]:
    """What is proposed on each frame, as the store has it: the union of its masks."""
    store, found = bench.session.store, {}
    for record in store.records:
        objects = store.read_proposal(record.image_id).objects
        drawn = [item.proposal.mask for item in objects if item.has_mask]
        if drawn:
            found[record.frame] = np.any(drawn, axis=0)
    return found


def states(bench) -> list[ImageState]:
    return [bench.session.state_of(name(frame)) for frame in range(FRAMES)]


def test_one_frame_is_carried_to_all_others_both_ways_in_one_step(bench, loop):
    session = bench.session
    draw(bench, 5, lesion(loop, 5))
    before = session.undo_stack.count
    session.propagation.propagate()
    assert states(bench) == [PROPOSED] * FRAMES
    found = masks(bench)
    scores = [dice(found[frame], lesion(loop, frame)) for frame in range(FRAMES)]
    assert min(scores) > 0.85, scores
    assert session.undo_stack.count == before + 1
    assert session.record.image_id == name(5), "nobody is taken to another frame"
    assert "Propagated to 11 frames from 1 frame." in session.status.text
    assert [n for n in range(FRAMES) if session.loops.is_keyframe(n)] == [5]
    session.undo()
    assert states(bench) == [UNTOUCHED] * 5 + [PROPOSED] + [UNTOUCHED] * 6
    session.redo()
    assert states(bench) == [PROPOSED] * FRAMES
    session.undo()
    again = opened_again(bench)
    assert states(again) == [UNTOUCHED] * 5 + [PROPOSED] + [UNTOUCHED] * 6
    again.session.redo()
    for frame, mask in masks(again).items():
        np.testing.assert_array_equal(mask, found[frame])


@pytest.mark.parametrize(
    ("reach", "gone_to"),
    [
        (Reach(2), [3, 4, 6, 7, 9, 10]),
        (Reach(2, Direction.FORWARD), [6, 7, 9, 10]),
        (Reach(None, Direction.BACKWARD), [0, 1, 2, 3, 4, 6, 7]),
    ],
)
def test_it_goes_as_far_from_the_keyframes_as_is_asked_for(bench, loop, reach, gone_to):
    session = bench.session
    for frame in (5, 8):
        draw(bench, frame, lesion(loop, frame))
    session.propagation.propagate(reach=reach)
    assert sorted(set(masks(bench)) - {5, 8}) == gone_to
    session.propagation.propagate()
    assert states(bench) == [PROPOSED] * FRAMES, "and all the rest when that is asked for"


def test_a_run_survives_a_restart_and_is_taken_back_after_it(bench, loop):
    draw(bench, 0, lesion(loop, 0))
    bench.session.propagation.propagate()
    found = masks(bench)
    bench.session.loops.go(7)
    again = opened_again(bench)
    assert states(again) == [PROPOSED] * FRAMES
    shown = [item.proposal.mask for item in again.session.proposal.objects]
    np.testing.assert_array_equal(np.any(shown, axis=0), found[7])
    assert [n for n in range(FRAMES) if again.session.loops.is_keyframe(n)] == [0]
    again.session.undo()
    assert states(again) == [PROPOSED] + [UNTOUCHED] * (FRAMES - 1)
    assert not again.session.proposal.objects


def test_what_is_accepted_or_corrected_is_never_proposed_over(bench, loop):
    session = bench.session
    wrong = np.zeros(SIZE_HW, bool)
    wrong[5:20, 5:20] = True
    draw(bench, 0, lesion(loop, 0))
    draw(bench, 6, wrong)
    session.editing.accept()
    draw(bench, 9, wrong)
    session.loops.go(3)
    session.navigation.mark_empty()
    session.loops.go(4)
    session.navigation.skip()
    session.loops.go(10)
    session.navigation.flag()
    session.propagation.propagate()
    found = masks(bench)
    assert sorted(found) == [0, 1, 5, 7, 8, 9, 11], "towards an empty frame it ends half way"
    np.testing.assert_array_equal(found[9], wrong)
    np.testing.assert_array_equal(found[0], lesion(loop, 0))
    labels = session.store.read_labels(session.image_queue.get(name(6)))
    np.testing.assert_array_equal(labels > 0, wrong)
    assert dice(found[8], lesion(loop, 8)) < 0.1, "it comes from the frames next to it"
    assert states(bench)[3] is ImageState.EMPTY


def test_a_correction_goes_to_the_next_fixed_points_and_changes_nothing_else(bench, loop):
    session = bench.session
    draw(bench, 0, lesion(loop, 0))
    session.propagation.propagate()
    session.loops.go(4)
    session.editing.accept()
    before = masks(bench)
    shifted = np.roll(lesion(loop, 8), 6, axis=1)
    draw(bench, 8, shifted)
    session.propagation.propagate()
    after = masks(bench)
    np.testing.assert_array_equal(after[8], shifted)
    for frame in (1, 2, 3):
        np.testing.assert_array_equal(after[frame], before[frame])
    for frame in (5, 6, 7, 9, 10, 11):
        assert (after[frame] != before[frame]).any(), frame
    session.undo()
    for frame, mask in masks(bench).items():
        np.testing.assert_array_equal(mask, shifted if frame == 8 else before[frame])


def test_a_second_run_has_nothing_to_do_and_says_so(bench, loop):
    session = bench.session
    draw(bench, 0, lesion(loop, 0))
    session.propagation.propagate()
    count = session.undo_stack.count
    session.propagation.propagate()
    assert session.undo_stack.count == count
    assert "Every frame is labelled, or propagated" in bench.notes[-1][1]
    session.loops.accept(range(FRAMES))
    assert states(bench) == [ACCEPTED] * FRAMES
    session.propagation.propagate()
    assert states(bench) == [ACCEPTED] * FRAMES


def test_taking_a_keyframe_away_makes_what_came_from_it_due_again(bench, loop):
    session = bench.session
    draw(bench, 0, lesion(loop, 0))
    session.propagation.propagate()
    only_first = masks(bench)
    draw(bench, 11, np.roll(lesion(loop, 11), 8, axis=0))
    session.propagation.propagate()
    session.loops.go(11)
    session.prompting.clear_prompts()
    session.propagation.propagate()
    for frame, mask in masks(bench).items():
        np.testing.assert_array_equal(mask, only_first[frame])


def test_a_range_is_accepted_in_one_step(bench, loop):
    session = bench.session
    draw(bench, 0, lesion(loop, 0))
    session.propagation.propagate()
    session.loops.accept(range(2, 6))
    assert states(bench) == [PROPOSED] * 2 + [ACCEPTED] * 4 + [PROPOSED] * 6
    session.undo()
    assert states(bench) == [PROPOSED] * FRAMES
    session.loops.accept(range(FRAMES))
    assert states(bench) == [ACCEPTED] * FRAMES


def test_objects_keep_their_class_and_where_they_are_told_apart_their_number(bench, loop):
    session = bench.session
    session.editing.set_labelling("instance")
    session.editing.add_class("vessel")
    first, second = np.zeros(SIZE_HW, bool), np.zeros(SIZE_HW, bool)
    first[20:40, 20:40] = True
    second[50:70, 70:90] = True
    labels = np.zeros(SIZE_HW, np.uint16)
    labels[first], labels[second] = 2001, 2003
    session.editing.painted(labels)
    session.editing.accept()
    session.propagation.propagate()
    for record in session.store.records[1:]:
        objects = session.store.read_proposal(record.image_id).objects
        assert [(item.class_id, item.number) for item in objects] == [(2, 1), (2, 3)]
    session.loops.accept(range(FRAMES))
    labels = session.store.read_labels(session.image_queue.get(name(3)))
    assert set(np.unique(labels)) == {0, 2001, 2003}


def test_pieces_of_a_class_are_objects_of_their_own_but_for_specks(bench, loop):
    session = bench.session
    both = np.zeros(SIZE_HW, bool)
    both[20:40, 20:40] = both[50:70, 70:90] = both[80, 10] = True
    draw(bench, 0, both)
    session.propagation.propagate()
    objects = session.store.read_proposal(name(1)).objects
    assert len(objects) == 2
    assert not (objects[0].proposal.mask & objects[1].proposal.mask).any()
    assert [item.class_id for item in objects] == [1, 1]


def test_it_is_said_where_an_object_is_lost(bench, loop, tmp_path):
    import tifffile

    from napari_usgseg.phantoms.loop import make_phantom_loop

    slide = make_phantom_loop(1, 24, SIZE_HW, kind="cysts-and-vessels", motion="slide")
    folder = tmp_path / "slide"
    folder.mkdir()
    tifffile.imwrite(folder / "b.tif", slide.frames, photometric="minisblack")
    visible = [(slide.instances == n).any((1, 2)) for n in np.unique(slide.instances)[1:]]
    number = next(n for n, seen in enumerate(visible, start=1) if seen[0] and not seen[-1])
    bench = Bench(folder)
    bench.session.navigation.open_folder(folder)
    draw(bench, 0, slide.instances[0] == np.unique(slide.instances)[number])
    bench.session.propagation.propagate()
    assert "is not seen on frame" in bench.session.status.text
    assert bench.session.state_of(name(23)) is UNTOUCHED
    count = bench.session.undo_stack.count
    bench.session.propagation.propagate()
    assert bench.session.undo_stack.count == count, "where it has left is known"


def test_nothing_is_propagated_from_nothing(bench):
    bench.session.propagation.propagate()
    assert "label an object on one frame" in bench.notes[-1][1]
    assert bench.session.undo_stack.count == 0
    bench.session.navigation.mark_empty()
    bench.session.propagation.propagate()
    assert "label an object on one frame" in bench.notes[-1][1]


def test_a_read_only_folder_is_left_alone(bench, loop):
    draw(bench, 0, lesion(loop, 0))
    bench.session.store.read_only = "it is read only"
    bench.session.propagation.propagate()
    assert "it is read only" in bench.notes[-1][1]
    assert states(bench)[1:] == [UNTOUCHED] * 11


class Slow(Bench):
    """Its propagations go on when the test says so, a frame at a time."""

    def __init__(self, folder):
        self.run = None
        super().__init__(folder)

    def answer(self, job) -> None:
        if job.function is not inference.propagate:
            super().answer(job)
            return
        words: list = []
        self.outcome = self.models.run(job.function, *job.args, lane=job.lane, tell=words.append)
        self.run, self.words = job, words

    def go_on(self, frames: int) -> None:
        for _ in range(frames):
            self.run.receive(self.words.pop(0))


@pytest.fixture
def slow(tmp_path, loop):
    bench = Slow(tmp_path)
    bench.session.navigation.open_folder(tmp_path)
    draw(bench, 0, lesion(loop, 0))
    bench.session.propagation.propagate()
    return bench


def test_frames_come_one_by_one_and_what_the_person_does_meanwhile_stays(slow, loop):
    session = slow.session
    slow.go_on(2)
    assert states(slow) == [PROPOSED] * 3 + [UNTOUCHED] * 9
    assert "Propagating: 2 of 11 frames" in session.status.text
    session.loops.go(6)
    session.prompting.add_box((10, 10), (40, 40))
    session.loops.go(8)
    session.navigation.mark_empty()
    session.navigation.step(-1)
    mine = masks(slow)[6]
    slow.go_on(9)
    slow.run.receive(slow.outcome)
    assert session.runs.run is None
    assert states(slow)[8] is ImageState.EMPTY
    np.testing.assert_array_equal(masks(slow)[6], mine)
    steps = [step.name for step in session.undo_stack.steps]
    assert steps == ["lasso as drawn", "propagate", "box", "mark empty"]
    for _ in range(3):
        session.undo()
    assert states(slow) == [PROPOSED] + [UNTOUCHED] * 11


def test_what_is_done_on_a_frame_while_its_proposal_is_on_the_way_stays(slow):
    session = slow.session
    session.loops.go(1)
    slow.hold = True
    slow.go_on(1)  # the frame is looked at as it is...
    session.prompting.draw_lasso(np.array([[5, 5], [40, 5], [40, 40], [5, 40]], np.float32))
    mine = session.proposal
    slow.release()  # ...and not as the person has it by now
    assert session.proposal is mine
    slow.go_on(10)
    slow.run.receive(slow.outcome)
    assert session.loops.is_keyframe(1)
    assert len(masks(slow)) == 12


def test_a_class_that_is_deleted_meanwhile_does_not_come_back(slow):
    session = slow.session
    session.editing.add_class("cyst")
    session.loops.go(0)
    session.prompting.clear_prompts()
    session.editing.delete_class(1)
    assert session.table.get(1) is None
    slow.go_on(3)
    assert not masks(slow)


def test_stopped_it_keeps_what_it_has_and_the_next_run_does_the_rest(slow):
    session = slow.session
    slow.go_on(4)
    session.runs.stop()
    assert not session.runs.is_running
    assert not slow.run.is_awaited
    slow.go_on(2)
    assert states(slow) == [PROPOSED] * 5 + [UNTOUCHED] * 7
    assert "Stopped: 4 frames of 11" in session.status.text
    session.propagation.propagate()
    assert slow.run.args[3] == tuple(range(5, 12))
    slow.go_on(7)
    slow.run.receive(slow.outcome)
    assert states(slow) == [PROPOSED] * 12


def test_undo_ends_a_run_and_takes_it_back(slow):
    slow.go_on(4)
    slow.session.undo()
    assert states(slow) == [PROPOSED] + [UNTOUCHED] * 11
    slow.go_on(1)
    assert states(slow) == [PROPOSED] + [UNTOUCHED] * 11


def test_another_folder_ends_a_run(slow, tmp_path):
    slow.go_on(1)
    write_loop(tmp_path / "other", "b.tif", 3)
    slow.session.navigation.open_folder(tmp_path / "other")
    slow.go_on(1)
    assert slow.session.runs.run is None
    assert slow.session.image_queue.count(UNTOUCHED) == 3


def test_a_full_disk_ends_a_run_and_nothing_accepted_is_lost(slow, monkeypatch):
    from napari_usgseg.core.errors import LabelWriteError
    from napari_usgseg.project.project import Project

    record = Project.record

    def refuse(store, events):
        raise LabelWriteError(store.root, "the disk is full")

    slow.go_on(2)
    monkeypatch.setattr(Project, "record", refuse)
    slow.go_on(2)
    assert slow.session.runs.run is None
    monkeypatch.setattr(Project, "record", record)
    slow.session.retry()
    again = opened_again(slow)
    assert states(again)[:3] == [PROPOSED] * 3
    again.session.undo()
    assert states(again) == [PROPOSED] + [UNTOUCHED] * 11


def test_a_frame_that_cannot_be_decoded_costs_itself_alone(tmp_path, loop):
    import tifffile

    path = tmp_path / "b.tif"
    with tifffile.TiffFile(path) as file:
        page = file.pages[4]
        at = page.tags["Compression"].valueoffset
    with open(path, "r+b") as file:
        file.seek(at)
        file.write((5).to_bytes(2, "little"))  # it says LZW, and is not
    bench = Bench(tmp_path)
    bench.session.navigation.open_folder(tmp_path)
    draw(bench, 0, lesion(loop, 0))
    bench.session.propagation.propagate()
    assert states(bench) == [PROPOSED] * 4 + [UNTOUCHED] + [PROPOSED] * 7
    assert "1 frame cannot be read" in bench.session.status.text


def test_only_marked_frames_are_gone_to_where_some_are_marked(bench, loop):
    draw(bench, 2, lesion(loop, 2))
    bench.session.propagation.propagate(range(1, 5))
    assert states(bench) == [UNTOUCHED] + [PROPOSED] * 4 + [UNTOUCHED] * 7
    bench.session.propagation.propagate()
    assert states(bench) == [PROPOSED] * 12


def test_the_frame_whose_label_would_help_most_is_suggested_until_it_has_one(bench, loop):
    loops = bench.session.loops
    assert not loops.go_to_suggested()
    draw(bench, 0, lesion(loop, 0))
    draw(bench, 11, np.roll(lesion(loop, 11), 25, axis=1))
    bench.session.propagation.propagate()
    scores = [loops.score(n) for n in range(FRAMES)]
    assert scores[0] is scores[11] is None, "they are the person's"
    suggested = loops.suggested
    first = suggested[0]
    assert len(set(suggested)) == 3
    assert not {0, 11} & set(suggested)
    for expected in (*suggested, first):
        assert loops.go_to_suggested()
        assert loops.here == expected
    again = opened_again(bench).session.loops
    assert [again.score(n) for n in range(FRAMES)] == pytest.approx(scores, abs=1e-3)
    assert again.suggested == suggested
    again.accept(range(first, first + 1))
    assert first not in again.suggested


def test_areas_stay_those_of_their_loop_whatever_is_shown_meanwhile(bench, loop, tmp_path):
    session, told = bench.session, []
    write_dicom(tmp_path / "c.dcm", np.zeros((1, *SIZE_HW), np.uint8), PixelSpacing=[0.5, 0.5])
    session.navigation.open_folder(tmp_path)
    session.areas.measured.connect(told.append)
    frames = session.loops.frames
    draw(bench, 1, lesion(loop, 1))
    session.loops.accept(range(1, 2))
    bench.hold = True
    session.areas.measure()
    still = session.image_queue.records[-1].image_id
    session.navigation.open_image(still)
    bench.release()
    assert session.record.image_id == still
    assert session.loaded.about.spacing_mm == (0.5, 0.5)
    assert told[-1].frames == frames
    assert [area.frame for area in told[-1].areas] == [1]
    session.areas.save(tmp_path / "areas.csv", told[-1])
    (row,) = read_table(tmp_path / "areas.csv")
    assert row["area_mm2"] == "", "the loop's own file says nothing of it"


def test_areas_over_time_are_in_millimetres_by_what_the_person_said(bench, loop, tmp_path):
    session, told = bench.session, []
    draw(bench, 0, lesion(loop, 0))
    said = {scale_key(SIZE_HW, None): 0.5}
    session.set_settings(replace(session.settings, mm_per_pixel=said))
    session.areas.measured.connect(told.append)
    session.areas.measure()
    session.areas.save(tmp_path / "areas.csv", told[-1])
    (row,) = read_table(tmp_path / "areas.csv")
    assert float(row["area_mm2"]) == pytest.approx(int(row["area_px"]) * 0.25, abs=1e-3)


def test_areas_are_measured_as_they_are_and_written_into_a_new_file_only(bench, loop, tmp_path):
    session, told = bench.session, []
    session.areas.measured.connect(told.append)
    session.areas.measure()
    assert told[-1].areas == ()
    draw(bench, 0, lesion(loop, 0))
    session.propagation.propagate()
    session.loops.accept(range(3, 4))
    session.areas.measure()
    measured = told[-1]
    areas = measured.areas
    found = {frame: int(mask.sum()) for frame, mask in masks(bench).items()}
    found[3] = int((session.store.read_labels(session.image_queue.get(name(3))) > 0).sum())
    assert {area.frame: area.pixels for area in areas} == found
    assert [area.frame for area in areas if area.score is None] == [0, 3]
    path = tmp_path / "areas.csv"
    session.areas.save(path, measured)
    rows = read_table(path)
    assert [int(row["area_px"]) for row in rows] == [found[n] for n in range(FRAMES)]
    assert {row["area_mm2"] for row in rows} == {""}, "nothing says how large a pixel is"
    session.areas.save(path, LoopAreas(()))
    assert len(read_table(path)) == FRAMES
    assert session.status.error
