from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_usgseg.core.errors import DatasetError, ImageReadError, LabelWriteError
from napari_usgseg.core.types import LabelClass
from napari_usgseg.io.datasets import read_dataset
from napari_usgseg.io.images import as_shown
from napari_usgseg.io.labels import read_labels
from napari_usgseg.io.reading.frames import Stored
from napari_usgseg.project import project
from napari_usgseg.project.exchange import export_store
from napari_usgseg.project.project import MemoryStore, Project
from tests.support.dicom import write_dicom
from tests.support.labelling import accept_labels, keep_settings
from tests.support.screens import screen

CLASSES = (LabelClass(1, "cyst", "#e69f00"),)


def test_what_is_accepted_is_exported_and_nothing_else(tmp_path: Path) -> None:
    images = tmp_path / "in"
    images.mkdir()
    for name in "ab":
        Image.fromarray(np.full((12, 16), 90, np.uint8)).save(images / f"{name}.png")
    store = Project(images)
    labels = np.zeros((12, 16), np.uint8)
    labels[2:5, 3:9] = 1
    accept_labels(store, store.records[1], labels)
    out = export_store(
        store, tmp_path / "out", organ="breast", target="cyst", classes=CLASSES
    ).whole()
    dataset = read_dataset(out)
    assert [item.item_id for item in dataset.items] == ["b"]
    assert dataset.target == "cyst"
    assert np.array_equal(read_labels(dataset.items[0].mask_path), labels)


def test_the_target_is_the_name_of_class_1_unless_another_is_said(tmp_path: Path) -> None:
    images = tmp_path / "in"
    images.mkdir()
    Image.fromarray(np.full((12, 16), 90, np.uint8)).save(images / "a.png")
    store = Project(images)
    accept_labels(store, store.records[0], np.ones((12, 16), np.uint8))
    nodule = LabelClass(2, "nodule", "#56b4e9")
    for number, (classes, target) in enumerate(
        [((nodule, *CLASSES), "cyst"), (CLASSES, "cyst"), ((nodule,), "object")]
    ):
        out = export_store(store, tmp_path / f"out {number}", classes=classes).whole()
        assert read_dataset(out).target == target
    store.close()


def test_a_project_of_objects_told_apart_is_exported_for_evaluate_and_with_its_codes(
    tmp_path: Path, nano_segmenter
) -> None:
    from napari_usgseg.lab.evaluation.evaluate import EvaluationRequest, evaluate_dataset

    images = tmp_path / "in"
    images.mkdir()
    Image.fromarray(np.full((60, 80), 90, np.uint8)).save(images / "a.png")
    store = Project(images)
    keep_settings(store, {"labelling": "instance"})
    labels = np.zeros((60, 80), np.uint16)
    labels[5:30, 5:30], labels[32:55, 40:70] = 1001, 1002
    accept_labels(store, store.records[0], labels)
    out = export_store(
        store, tmp_path / "out", organ="breast", target="cyst", classes=CLASSES
    ).whole()
    assert np.array_equal(read_labels(out / "instances" / "a.png"), labels)
    dataset = read_dataset(out)
    assert dataset.labels == {1: "cyst"}
    assert np.array_equal(read_labels(dataset.items[0].mask_path), labels // 1000)
    scored = evaluate_dataset(dataset, nano_segmenter, None, EvaluationRequest("box"))
    assert len(scored.scores) == 1
    assert not scored.failures


def test_an_image_without_a_file_is_exported_with_its_pixels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (10, 14, 3)).astype(np.uint8)
    store = MemoryStore("a layer", pixels)
    labels = np.ones((10, 14), np.uint8)
    accept_labels(store, store.records[0], labels)
    out = export_store(
        store, tmp_path / "out", organ="breast", target="cyst", classes=CLASSES
    ).whole()
    item = read_dataset(out).items[0]
    assert np.array_equal(np.asarray(Image.open(item.image_path)), pixels)
    assert np.array_equal(read_labels(item.mask_path), labels)


def test_nothing_to_export_is_said(tmp_path: Path) -> None:
    store = MemoryStore("a layer", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(DatasetError, match="accept at least one"):
        export_store(store, tmp_path / "out", organ="", target="x", classes=CLASSES).whole()


def test_the_frames_of_a_loop_are_one_group_without_a_rule(tmp_path: Path) -> None:
    images = tmp_path / "in"
    images.mkdir()
    for name in ("loop", "other"):
        tifffile.imwrite(images / f"{name}.tif", np.zeros((3, 8, 9), np.uint8), photometric=1)
    store = Project(images)
    for record in store.records:
        accept_labels(store, record, np.ones((8, 9), np.uint8))
    about = {"organ": "breast", "target": "cyst", "classes": CLASSES}
    items = read_dataset(export_store(store, tmp_path / "out", **about).whole()).items
    assert [item.group for item in items] == ["loop"] * 3 + ["other"] * 3
    report = export_store(store, tmp_path / "ruled", **about, groups="(l)")
    assert [item.group for item in read_dataset(report.whole()).items] == ["l"] * 3 + ["other"] * 3
    assert "3 images (other_0000" in report.ungrouped[0]


def test_a_folder_that_may_not_be_written_is_refused_before_any_label_is_read(
    tmp_path: Path, monkeypatch
) -> None:
    images = tmp_path / "in"
    images.mkdir()
    Image.fromarray(np.zeros((8, 9), np.uint8)).save(images / "a.png")
    store = Project(images)
    accept_labels(store, store.records[0], np.ones((8, 9), np.uint8))
    monkeypatch.setattr(store, "read_labels", None)
    with pytest.raises(LabelWriteError, match="holds what this command reads"):
        export_store(store, images, organ="", target="x", classes=CLASSES, overwrite=True)


def accepted(folder: Path) -> Project:
    """A folder of the images "a" and "b", each with an accepted label map."""
    folder.mkdir()
    for name in "ab":
        Image.fromarray(np.full((8, 9), 90, np.uint8)).save(folder / f"{name}.png")
    store = Project(folder)
    for record in store.records:
        accept_labels(store, record, np.ones((8, 9), np.uint8))
    return store


def test_an_image_that_vanishes_as_it_is_read_is_reported_and_the_others_are_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = accepted(tmp_path / "in")

    def show_and_remove(path: Path, stored: Stored) -> np.ndarray:
        pixels = as_shown(path, stored)
        if path.stem == "a":
            path.unlink()
        return pixels

    monkeypatch.setattr(project, "as_shown", show_and_remove)
    report = export_store(store, tmp_path / "out", organ="breast", classes=CLASSES)
    assert report.exported == ("b",)
    (failure,) = report.failures
    assert failure.image_id == "a"
    assert isinstance(failure.error, ImageReadError)
    assert "a.png" in str(failure.error)


def test_an_image_whose_label_map_is_gone_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = accepted(tmp_path / "in")
    read = store.read_labels
    monkeypatch.setattr(
        store,
        "read_labels",
        lambda record, **how: None if record.image_id == "a" else read(record, **how),
    )
    report = export_store(store, tmp_path / "out", organ="breast", classes=CLASSES)
    assert report.exported == ("b",)
    (failure,) = report.failures
    assert failure.image_id == "a"
    assert "has no label map any more" in str(failure.error)


@pytest.mark.parametrize("groups", [None, "folder", r"(.*)/", "table"])
def test_who_a_patient_is_reaches_neither_name_nor_group_of_a_data_set(tmp_path, groups) -> None:
    folder = tmp_path / "Jane Zebrowski"
    folder.mkdir()
    for number in range(2):
        frames = np.full((1, 12, 16), 90, np.uint8)
        named = {"PatientName": "Zebrowski^Jane", "PatientID": "Z-77123"} if number else {}
        write_dicom(folder / f"scan{number}.dcm", frames, PatientBirthDate="19310405", **named)
    Image.fromarray(np.full((12, 16), 90, np.uint8)).save(folder / "picture.png")
    rule = groups
    if groups == "table":
        rule = str(tmp_path / "groups.csv")
        Path(rule).write_text("image,patient\nscan1.dcm,z77123\nscan0.dcm,05.04.1931\n")
    with closing(Project(folder)) as store:
        for record in store.records:
            accept_labels(store, record, np.ones((12, 16), np.uint8))
        report = export_store(store, tmp_path / "out", classes=CLASSES, groups=rule)
    dataset = read_dataset(report.whole())
    assert dataset.name.startswith("images-")
    assert any("the folder's name repeats who a patient is" in note for note in report.notes)
    for path in (tmp_path / "out").rglob("*"):
        text = path.name.encode() + (path.read_bytes() if path.is_file() else b"")
        for secret in (b"ebrowski", b"77123", b"1931"):
            assert secret not in text


def test_a_name_that_a_person_gave_stays(tmp_path: Path) -> None:
    folder = tmp_path / "Zebrowski"
    folder.mkdir()
    write_dicom(folder / "a.dcm", np.full((1, 12, 16), 90, np.uint8), PatientName="Zebrowski")
    with closing(Project(folder)) as store:
        accept_labels(store, store.records[0], np.ones((12, 16), np.uint8))
        out = export_store(store, tmp_path / "out", classes=CLASSES, name="mine").whole()
    assert read_dataset(out).name == "mine"


@pytest.fixture
def screens(tmp_path: Path) -> Project:
    """A project of two accepted pictures, one with a name beside the ultrasound."""
    images = tmp_path / "in"
    images.mkdir()
    Image.fromarray(screen()[0]).save(images / "named.png")
    Image.fromarray(screen(text="")[0]).save(images / "plain.png")
    store = Project(images)
    for record in store.records:
        accept_labels(store, record, np.ones(record.size_hw, np.uint8))
    return store


def test_burned_in_text_is_warned_of_and_stays(screens: Project, tmp_path: Path) -> None:
    report = export_store(screens, tmp_path / "out", classes=CLASSES)
    (note,) = report.notes
    assert "1 images seem to have text burned in (named): look before you share them" in note
    assert not (tmp_path / "out-check").exists()
    item = next(item for item in read_dataset(report.whole()).items if item.item_id == "named")
    np.testing.assert_array_equal(np.asarray(Image.open(item.image_path)), screen()[0])


def test_burned_in_text_is_black_where_that_is_asked_for(screens: Project, tmp_path: Path) -> None:
    report = export_store(screens, tmp_path / "out", classes=CLASSES, black_text=True)
    assert "what looks like text is black on 1 images (named)" in report.notes[0]
    items = {item.item_id: item.image_path for item in read_dataset(report.whole()).items}
    named, plain = (np.asarray(Image.open(items[name])) for name in ("named", "plain"))
    assert screen()[0][50:90, :190].max() == 255
    assert named[50:90, :190].max() == 0
    np.testing.assert_array_equal(named[:, 200:], screen()[0][:, 200:])
    np.testing.assert_array_equal(plain, screen(text="")[0])
    assert Image.open(tmp_path / "out-check" / "sheet.png").width > 600
