"""Answers that meet a session that has gone on meanwhile."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.io.labels import read_labels
from napari_usgseg.jobs.inference import segment_prompt
from napari_usgseg.project.records import ImageState
from tests.support.bench import SIZE_HW, Bench, opened_again, with_square


def test_a_click_while_a_phrase_is_looked_for_gets_its_mask_too(bench) -> None:
    bench.hold = True
    bench.session.prompting.find("cyst")
    bench.session.prompting.add_point(60, 50)
    bench.release()
    proposal = bench.session.proposal
    assert not proposal.pending
    assert [item.has_mask for item in proposal.objects] == [True, True]
    assert proposal.objects[proposal.active].mask_at(60, 50)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("second", ["click", "box"])
def test_a_correction_that_has_no_answer_yet_outlives_a_prompt_for_another_object(
    bench, order, second
) -> None:
    session = bench.session
    session.prompting.add_point(20, 20)
    bench.hold = True
    session.prompting.add_point(27, 20)
    if second == "click":
        session.prompting.add_point(60, 45)
    else:
        session.prompting.add_box((50, 35), (70, 55))
    for job in bench.held_for(segment_prompt)[::order]:
        assert session.is_waiting
        bench.answer(job)
    corrected, other = session.proposal.objects
    assert corrected.mask_at(30, 20)
    assert other.mask_at(60, 45)
    assert not session.proposal.pending
    bench.release()
    again = opened_again(bench).session
    assert again.proposal.objects[0].mask_at(30, 20), "the store has it, too"
    assert again.proposal.objects[1].mask_at(60, 45)
    again.undo()
    assert [item.mask_at(30, 20) for item in again.proposal.objects] == [True]
    again.undo()
    assert not again.proposal.objects[0].mask_at(30, 20)


def test_calling_off_leaves_what_was_answered_and_takes_back_the_rest(bench) -> None:
    session = bench.session
    session.prompting.add_point(20, 20)
    bench.hold = True
    session.prompting.add_point(27, 20)
    session.prompting.add_point(60, 45)
    correction, _ = bench.held_for(segment_prompt)
    bench.answer(correction)
    session.prompting.cancel()
    (item,) = session.proposal.objects
    assert item.mask_at(30, 20)
    assert session.proposal.active == 0
    assert session.undo_stack.position == 2
    session.prompting.add_point(27, 26)
    session.prompting.add_point(60, 45)
    session.prompting.cancel()
    assert session.proposal.objects == (item,)


def test_who_undoes_a_quick_prompt_has_the_one_before_answered(bench) -> None:
    session = bench.session
    session.prompting.add_point(20, 20)
    bench.hold = True
    session.prompting.add_point(27, 20)
    session.prompting.add_point(60, 45)
    session.undo()
    bench.release()
    (item,) = session.proposal.objects
    assert item.mask_at(30, 20)
    assert not session.proposal.pending


def test_another_object_is_taken_to_work_on_while_an_answer_is_awaited(bench) -> None:
    session = bench.session
    session.prompting.add_point(20, 20)
    bench.hold = True
    session.prompting.add_point(60, 45)
    session.prompting.pick_object(0)
    assert session.proposal.active == 0
    bench.release()
    assert [item.has_mask for item in session.proposal.objects] == [True, True]
    assert session.proposal.active == 0
    again = opened_again(bench).session
    assert [item.has_mask for item in again.proposal.objects] == [True, True]


def test_what_was_looked_for_keeps_the_class_that_it_was_looked_for(bench) -> None:
    session = bench.session
    session.editing.rename_class(1, "cyst")
    session.editing.add_class("nodule")
    session.editing.pick_class(1)
    bench.hold = True
    session.copying.alike()
    session.editing.pick_class(2)
    bench.release()
    assert [item.class_id for item in session.proposal.objects] == [1]


def test_a_warning_about_an_image_that_was_prefetched_is_said_once_when_it_is_shown(bench) -> None:
    for image_id in "bca":
        bench.session.navigation.open_image(image_id)
    bench.session.close()
    Image.new("L", SIZE_HW[::-1], 9).save(bench.folder / "b.png")
    again = Bench(bench.folder)
    again.session.navigation.open_folder(bench.folder)
    assert again.session.record.image_id == "a"
    assert not again.notes
    again.session.navigation.step(1)
    ((level, text),) = again.notes
    assert level == "warning"
    assert "b.png: the image was changed" in text
    again.session.navigation.step(-1)
    again.session.navigation.step(1)
    assert len(again.notes) == 1


def test_an_image_that_another_program_labelled_meanwhile_is_accepted(bench, folder) -> None:
    for n in range(6):
        Image.new("L", SIZE_HW[::-1], 20 * n).save(folder / f"z{n}.png")
    bench.session.navigation.open_folder(folder)
    labels = with_square(np.zeros(SIZE_HW, np.uint8))
    (folder / "usgseg" / "labels").mkdir(exist_ok=True)
    Image.fromarray(labels).save(folder / "usgseg" / "labels" / "z5.png")
    bench.session.navigation.open_image("z5")
    assert np.array_equal(bench.session.labels, labels)
    assert bench.session.state_of("z5") is ImageState.ACCEPTED


def test_an_export_leaves_the_open_image_and_its_file_in_step(bench, on_disk, tmp_path_factory):
    session = bench.session
    session.editing.painted(with_square(session.labels))
    session.editing.accept()
    path = bench.folder / "usgseg" / "labels" / "a.png"
    theirs = with_square(np.zeros(SIZE_HW, np.uint8), at=40)
    Image.fromarray(theirs).save(path)
    out = tmp_path_factory.mktemp("exported") / "out"
    session.export(out, "x", "y")
    assert np.array_equal(read_labels(out / "masks" / "a.png"), theirs)
    session.editing.painted(with_square(session.labels, at=20))
    assert np.array_equal(on_disk("a"), session.labels)
    (backup,) = (path.parent / "backup").iterdir()
    assert np.array_equal(read_labels(backup), theirs)


def test_copying_from_an_image_leaves_its_labels_and_its_file_in_step(bench, on_disk) -> None:
    session = bench.session
    session.editing.painted(with_square(session.labels))
    session.navigation.step(1)
    theirs = with_square(np.zeros(SIZE_HW, np.uint8), at=40)
    Image.fromarray(theirs).save(bench.folder / "usgseg" / "labels" / "a.png")
    session.copying.masks()
    assert session.proposal.has_masks
    session.navigation.step(-1)
    session.editing.painted(with_square(session.labels, at=20))
    assert np.array_equal(on_disk("a"), session.labels)


def test_labels_of_an_image_that_has_another_size_by_now_are_kept_as_was_said(bench) -> None:
    bench.session.editing.painted(with_square(bench.session.labels))
    Image.new("L", (12, 10)).save(bench.folder / "a.png")
    again = opened_again(bench)
    session = again.session
    session.navigation.open_image("a")
    assert any("kept as a backup when you save" in text for _, text in again.notes)
    session.editing.painted(with_square(session.labels, at=2))
    (backup,) = (bench.folder / "usgseg" / "labels" / "backup").iterdir()
    assert read_labels(backup).shape == SIZE_HW
