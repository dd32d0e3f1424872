"""Answers that meet a session that has gone on meanwhile."""

from __future__ import annotations

import numpy as np
from PIL import Image

from napari_usgseg.io.labels import read_labels
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
