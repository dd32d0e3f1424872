from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from napari_usgseg.core.errors import DatasetError, ImageReadError, LabelWriteError
from napari_usgseg.core.types import LabelClass
from napari_usgseg.io.atomic import write_over
from napari_usgseg.io.labels import read_labels, write_labels
from napari_usgseg.project.project import Project
from napari_usgseg.project.records import ClassTable, Edit, Event, EventKind, ImageState, difference
from tests.support.labelling import (
    SIZE_HW,
    accept_labels,
    do,
    keep_settings,
    label_path,
    set_classes,
    set_state,
    some_labels,
)


def test_images_come_in_natural_order_and_untouched(folder: Path) -> None:
    store = Project(folder)
    assert [record.image_id for record in store.records] == ["1", "2", "10"]
    assert set(store.states().values()) == {ImageState.UNTOUCHED}
    assert store.records[0].size_hw == (20, 30)


def test_opening_for_reading_writes_nothing(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    store = Project(folder, write=False)
    store.read_image(store.records[0])
    store.read_labels(store.records[0])
    store.close()
    assert sorted(folder.rglob("*")) == before


def test_opening_writes_beside_the_images_only_and_leaves_them_alone(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    Project(folder).close()
    assert {p: p.read_bytes() for p in folder.iterdir() if p.is_file()} == before
    assert (folder / "usgseg" / "project.sqlite").is_file()


def test_a_label_map_comes_back_as_it_was_written_when_the_folder_is_opened_again(
    folder: Path,
) -> None:
    store = Project(folder)
    report = accept_labels(store, store.records[1], some_labels())
    set_classes(store, (LabelClass(1, "nodule", "#e69f00"),))
    assert report.path == folder / "usgseg" / "labels" / "2.png"
    again = Project(folder)
    assert again.states() == {
        "1": ImageState.UNTOUCHED,
        "2": ImageState.ACCEPTED,
        "10": ImageState.UNTOUCHED,
    }
    assert np.array_equal(again.read_labels(again.records[1]), some_labels())
    assert again.classes() == (LabelClass(1, "nodule", "#e69f00"),)


def test_skipped_images_and_settings_are_remembered(folder: Path) -> None:
    store = Project(folder)
    set_state(store, "10", ImageState.SKIPPED)
    keep_settings(store, {"phrase": "thyroid nodule", "last": "10"})
    again = Project(folder)
    assert again.states()["10"] is ImageState.SKIPPED
    assert again.settings() == {"phrase": "thyroid nodule", "last": "10"}
    set_state(again, "10", ImageState.UNTOUCHED)
    assert Project(folder).states()["10"] is ImageState.UNTOUCHED


def test_a_label_map_that_another_program_wrote_is_kept_as_a_backup(folder: Path) -> None:
    store = Project(folder)
    record = store.records[0]
    accept_labels(store, record, some_labels())
    path = label_path(store, record.image_id)
    foreign = np.full((20, 30), 7, np.uint8)
    write_labels(path, foreign, write_over)
    os.utime(path, ns=(1, 1))
    report = accept_labels(store, record, some_labels())
    assert report.backup is not None
    assert np.array_equal(read_labels(report.backup), foreign)
    assert np.array_equal(read_labels(path), some_labels())
    assert accept_labels(store, record, some_labels()).backup is None


def test_a_label_map_that_was_never_read_is_not_lost_either(folder: Path) -> None:
    foreign = np.full((20, 30), 3, np.uint8)
    store = Project(folder)
    write_labels(label_path(store, "1"), foreign)
    report = accept_labels(store, store.records[0], None)
    assert report.backup is not None
    assert np.array_equal(read_labels(report.backup), foreign)
    assert store.states()["1"] is ImageState.UNTOUCHED


def test_a_label_map_of_another_size_is_refused_with_both_sizes(folder: Path) -> None:
    store = Project(folder)
    write_labels(label_path(store, "1"), np.zeros((5, 6), np.uint8))
    with pytest.raises(ImageReadError, match=r"6 x 5 pixels.*30 x 20"):
        store.read_labels(store.records[0])


def test_a_label_map_of_another_size_than_the_image_is_not_recorded(folder: Path) -> None:
    store = Project(folder)
    for size_hw in ((5, 6), (40, 60)):
        patch = difference(np.zeros(size_hw, np.uint8), np.ones(size_hw, np.uint8))
        with pytest.raises(LabelWriteError, match=r"\(20, 30\); reload"):
            do(store, Edit("paint", "1", patch=patch))
    assert not list(store.events())
    assert store.read_labels(store.records[0]) is None


def test_files_that_are_no_images_are_named_and_the_others_go_on(folder: Path) -> None:
    (folder / "broken.png").write_bytes(b"not a picture")
    store = Project(folder)
    assert len(store.records) == 3
    assert any("broken.png" in problem for problem in store.problems)


def test_labels_go_to_the_folder_that_the_person_chose(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "labels of mine"
    store = Project(folder, elsewhere)
    accept_labels(store, store.records[0], some_labels())
    assert (elsewhere / "labels" / "1.png").is_file()
    assert not (folder / "usgseg").exists()


def test_the_images_folder_of_a_data_set_is_found(tmp_path: Path) -> None:
    (tmp_path / "wrist" / "images").mkdir(parents=True)
    Image.new("L", (8, 8)).save(tmp_path / "wrist" / "images" / "a.png")
    store = Project(tmp_path / "wrist")
    assert store.name == "wrist"
    assert store.folder == tmp_path / "wrist" / "images"


def test_each_frame_of_a_file_is_an_image(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((8, 9), value, np.uint8)) for value in (10, 200)]
    frames[0].save(tmp_path / "cine.tif", save_all=True, append_images=frames[1:])
    store = Project(tmp_path)
    assert [record.image_id for record in store.records] == ["cine_0000", "cine_0001"]
    assert store.read_image(store.records[1]).shape == (8, 9, 3)


def test_a_folder_without_images_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no image here; expected DICOM, PNG"):
        Project(tmp_path)
    with pytest.raises(DatasetError, match="no such folder"):
        Project(tmp_path / "nowhere")


def test_a_label_file_that_another_program_changed_is_taken_into_the_history(folder: Path) -> None:
    store = Project(folder)
    accept_labels(store, store.records[0], some_labels())
    foreign = some_labels(7)
    write_labels(label_path(store, "1"), foreign, write_over)
    assert np.array_equal(store.read_labels(store.records[0]), foreign)
    assert "changed by another program" in store.take_warnings()[0]
    assert not store.take_warnings()
    store.close()
    again = Project(folder)
    kinds = [event.kind.value for event in again.events()]
    assert kinds == ["edit", "external"]
    assert np.array_equal(again.read_labels(again.records[0]), foreign)


def test_label_files_that_were_changed_while_the_folder_was_closed_are_taken_in(
    folder: Path,
) -> None:
    store = Project(folder)
    accept_labels(store, store.records[0], some_labels())
    store.close()
    write_labels(folder / "usgseg" / "labels" / "1.png", some_labels(3), write_over)
    write_labels(folder / "usgseg" / "labels" / "10.png", some_labels(2))
    again = Project(folder)
    assert again.states()["10"] is ImageState.ACCEPTED
    assert np.array_equal(again.read_labels(again.records[0]), some_labels(3))
    assert np.array_equal(again.read_labels(again.records[2]), some_labels(2))


def test_label_files_that_are_gone_or_torn_come_back_from_the_history(folder: Path) -> None:
    store = Project(folder)
    for record in store.records:
        accept_labels(store, record, some_labels())
    store.close()
    (folder / "usgseg" / "labels" / "1.png").unlink()
    (folder / "usgseg" / "labels" / "2.png").write_bytes(b"torn")
    again = Project(folder)
    assert any("written anew" in problem for problem in again.problems)
    assert any("2.png" in problem for problem in again.problems)
    assert np.array_equal(read_labels(label_path(again, "1")), some_labels())
    assert np.array_equal(again.read_labels(again.records[1]), some_labels())
    assert "history" in again.take_warnings()[0]
    report = accept_labels(again, again.records[1], some_labels(2))
    assert report.backup is not None
    assert report.backup.read_bytes() == b"torn"


def test_a_flagged_image_keeps_its_labels(folder: Path) -> None:
    store = Project(folder)
    accept_labels(store, store.records[0], some_labels())
    set_state(store, "1", ImageState.FLAGGED)
    store.close()
    again = Project(folder)
    assert again.states()["1"] is ImageState.FLAGGED
    assert np.array_equal(read_labels(label_path(again, "1")), some_labels())


def with_class(folder: Path, class_id: int) -> None:
    """A project that has just this class."""
    store = Project(folder)
    tables = ClassTable((), 0), ClassTable((LabelClass(class_id, "cyst", "#e69f00"),), class_id)
    store.record([Event(1, EventKind.EDIT, None, Edit("add class", table=tables))])
    store.close()


@pytest.mark.parametrize("kind", ["anti-aliased", "alpha", "0 and 255"])
def test_a_mask_of_another_program_is_the_only_class(folder: Path, kind: str) -> None:
    with_class(folder, 7)
    hard = np.zeros((80, 120), np.uint8)
    hard[10:60, 20:90] = 255
    size = SIZE_HW[::-1]
    mask = Image.fromarray(hard).resize(size, Image.Resampling.NEAREST)
    if kind == "anti-aliased":
        mask = mask.filter(ImageFilter.GaussianBlur(0.6))
    expected = np.where(np.asarray(mask) >= 128, 7, 0)
    if kind == "alpha":
        image = Image.new("RGBA", size, (9, 99, 200, 0))
        image.putalpha(mask)
        mask = image
    path = folder / "usgseg" / "labels" / "1.png"
    path.parent.mkdir(exist_ok=True)
    mask.save(path)
    store = Project(folder)
    assert np.array_equal(store.read_labels(store.records[0]), expected)
    said = [line for line in (*store.problems, *store.take_warnings()) if str(path) in line]
    assert len(said) == (kind != "0 and 255")


def test_values_of_another_program_that_are_no_classes_are_named(folder: Path) -> None:
    with_class(folder, 1)
    path = folder / "usgseg" / "labels" / "1.png"
    write_labels(path, some_labels(5))
    store = Project(folder)
    assert np.array_equal(store.read_labels(store.records[0]), some_labels(5))
    said = (*store.problems, *store.take_warnings())
    assert any("no classes yet, 5" in line for line in said)
    store.close()
    ramp = np.tile(np.arange(30, dtype=np.uint8) * 8, (20, 1))
    Image.fromarray(ramp).save(folder / "usgseg" / "labels" / "2.png")
    again = Project(folder)
    assert any("holds the values 8, 16, 24, 32, 40 (20, 20" in line for line in again.problems)
    assert np.array_equal(again.read_labels(again.records[0]), some_labels(5))
