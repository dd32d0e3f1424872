from __future__ import annotations

import json
import os

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from napari_usgseg.errors import DatasetError, ImageReadError
from napari_usgseg.io.atomic import write_over
from napari_usgseg.io.datasets import read_dataset, split_by_group
from napari_usgseg.io.export import export_images
from napari_usgseg.io.images import read_image
from napari_usgseg.io.labels import read_classes, read_labels, write_labels
from napari_usgseg.types import ImageRecord, LabelClass

CLASSES = [LabelClass(1, "breast tumor", "#e69f00"), LabelClass(2, "cyst", "#56b4e9")]
ABOUT = {"name": "mine", "organ": "breast", "target": "breast tumor", "classes": CLASSES}


def record_of(folder, image_id, pixels, labels, **more):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{image_id}.png"
    Image.fromarray(pixels).save(path)
    label_path = folder / "labels" / f"{image_id}.png"
    write_labels(label_path, labels, write_over)
    return ImageRecord(image_id, path, None, labels.shape, **more), label_path


@settings(deadline=None, max_examples=20)
@given(
    st.lists(
        st.tuples(st.integers(1, 20), st.integers(1, 20)).flatmap(
            lambda shape: st.tuples(
                hnp.arrays(np.uint8, (*shape, 3)),
                hnp.arrays(np.uint16, shape, elements=st.sampled_from([0, 1, 2, 700])),
            )
        ),
        min_size=1,
        max_size=3,
    )
)
def test_what_is_exported_is_read_back_pixel_by_pixel(tmp_path_factory, pairs):
    tmp_path = tmp_path_factory.mktemp("export")
    records = [
        record_of(tmp_path / "in", f"bild ü {index}", image, labels)
        for index, (image, labels) in enumerate(pairs)
    ]
    folder = export_images(records, tmp_path / "out", **ABOUT).whole()
    dataset = read_dataset(folder)
    assert (dataset.name, dataset.organ, dataset.target) == ("mine", "breast", "breast tumor")
    assert len(dataset.items) == len(pairs)
    for item, (image, labels) in zip(dataset.items, pairs, strict=True):
        assert np.array_equal(read_image(item.image_path), image)
        back = read_labels(item.mask_path)
        assert np.array_equal(back, labels)
        for value in np.unique(back[back > 0]):
            assert dataset.phrase(int(value))


@pytest.fixture
def pair(tmp_path):
    grey = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    labels = np.zeros((20, 30), np.uint8)
    labels[4:9, 5:12] = 1
    return record_of(tmp_path / "in", "a", grey, labels, spacing_mm=(0.2, 0.2))


def test_the_card_says_what_is_known_of_each_image(tmp_path, pair):
    folder = export_images([pair], tmp_path / "out", **ABOUT).whole()
    card = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    assert card["labels"] == {"1": "breast tumor", "2": "cyst"}
    assert card["items"] == [
        {
            "id": "a",
            "group": "a",
            "width": 30,
            "height": 20,
            "empty_mask": False,
            "source": "a.png",
            "pixel_size_mm": 0.2,
        }
    ]
    assert read_classes(folder / "classes.json") == CLASSES
    with Image.open(folder / "images" / "a.png") as image:
        assert image.mode == "L"


def test_deep_images_are_exported_by_the_rule_of_reading(tmp_path):
    deep = np.linspace(0, 4095, 600).reshape(20, 30).astype(np.uint16)
    pair = record_of(tmp_path, "deep", deep, np.ones((20, 30), int))
    folder = export_images([pair], tmp_path / "out", **ABOUT).whole()
    exported = read_image(folder / "images" / "deep.png")
    assert np.array_equal(exported, read_image(pair[0].path))


def test_groups_are_taken_from_the_mapping_and_frames_of_a_file_stay_together(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (6, 20, 30), np.uint8)
    video = tmp_path / "video.tif"
    tifffile.imwrite(video, frames, photometric="minisblack")
    write_labels(tmp_path / "labels.png", np.ones((20, 30), int))
    records = [
        (ImageRecord(f"video-{index}", video, index, (20, 30)), tmp_path / "labels.png")
        for index in range(6)
    ]
    out = export_images(records, tmp_path / "out", **ABOUT, groups={"video-5": "patient 7"}).whole()
    dataset = read_dataset(out)
    assert [item.group for item in dataset.items] == ["video"] * 5 + ["patient 7"]
    assert np.array_equal(read_image(dataset.items[3].image_path)[..., 0], frames[3])
    split = split_by_group(dataset)
    assert split.test == ()


def test_a_bad_image_is_reported_and_the_others_are_there(tmp_path, pair):
    damaged = record_of(tmp_path / "in", "b", np.zeros((9, 9), np.uint8), np.ones((9, 9), int))
    damaged[0].path.write_bytes(b"no image")
    small = record_of(tmp_path / "in", "c", np.zeros((9, 9), np.uint8), np.ones((8, 9), int))
    unlabelled = (ImageRecord("d", pair[0].path, None, (20, 30)), tmp_path / "absent.png")
    records = [damaged, small, pair, unlabelled]
    report = export_images(records, tmp_path / "out", **ABOUT)
    assert report.exported == ("a",)
    assert [failure.image_id for failure in report.failures] == ["b", "c", "d"]
    assert isinstance(report.failures[0].error, ImageReadError)
    assert "exactly" in str(report.failures[1].error)
    assert "no such file" in str(report.failures[2].error)
    assert [item.item_id for item in read_dataset(tmp_path / "out").items] == ["a"]
    assert sorted(os.listdir(tmp_path / "out" / "images")) == ["a.png"]


def test_the_short_way_names_what_was_left_out_and_keeps_the_rest(tmp_path, pair):
    damaged = record_of(tmp_path / "in", "b", np.zeros((9, 9), np.uint8), np.ones((9, 9), int))
    damaged[0].path.write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"1 images exported, 1 left out: b"):
        export_images([damaged, pair], tmp_path / "out", **ABOUT).whole()
    assert len(read_dataset(tmp_path / "out").items) == 1


def test_two_images_of_one_id_do_not_overwrite_each_other(tmp_path, pair):
    other = record_of(tmp_path / "other", "a", np.zeros((9, 9), np.uint8), np.ones((9, 9), int))
    report = export_images([pair, other], tmp_path / "out", **ABOUT, overwrite=True)
    assert "second image" in str(report.failures[0].error)
    assert read_labels(tmp_path / "out" / "masks" / "a.png").shape == (20, 30)


@pytest.mark.parametrize("image_id", ["../a", "a/b", "..\\a"])
def test_an_id_never_leaves_the_folder(tmp_path, pair, image_id):
    record = ImageRecord(image_id, pair[0].path, None, (20, 30))
    report = export_images([(record, pair[1])], tmp_path / "out", **ABOUT)
    assert "file name" in str(report.failures[0].error)
    assert not (tmp_path / "out").exists()


def test_a_data_set_that_is_there_stays_unless_told_otherwise(tmp_path, pair):
    export_images([pair], tmp_path / "out", **ABOUT).whole()
    before = (tmp_path / "out" / "dataset.json").read_bytes()
    with pytest.raises(DatasetError, match="exists already"):
        export_images([pair], tmp_path / "out", **{**ABOUT, "name": "other"}).whole()
    assert (tmp_path / "out" / "dataset.json").read_bytes() == before
    export_images([pair], tmp_path / "out", **{**ABOUT, "name": "other"}, overwrite=True).whole()
    assert read_dataset(tmp_path / "out").name == "other"


def test_objects_told_apart_are_exported_as_classes_and_as_codes(tmp_path):
    labels = np.zeros((6, 8), np.uint16)
    labels[0, :2], labels[2, :3], labels[4, 4:] = 1001, 1002, 2001
    pixels = np.zeros((6, 8, 3), np.uint8)
    records = [
        record_of(tmp_path / "in", "a", pixels, labels),
        record_of(tmp_path / "in", "nothing", pixels, np.zeros((6, 8), np.uint8)),
    ]
    out = export_images(records, tmp_path / "out", labelling="instance", **ABOUT).whole()
    dataset = read_dataset(out)
    assert dataset.labels == {1: "breast tumor", 2: "cyst"}
    assert np.array_equal(read_labels(dataset.items[0].mask_path), labels // 1000)
    for image_id, expected in (("a", labels), ("nothing", np.zeros_like(labels))):
        with Image.open(out / "instances" / f"{image_id}.png") as file:
            assert file.mode == "I;16"
            assert np.array_equal(np.asarray(file), expected)
    assert json.loads((out / "dataset.json").read_text())["labelling"] == "instance"


def test_an_export_of_classes_has_no_instances(tmp_path):
    pixels = np.zeros((6, 8, 3), np.uint8)
    records = [record_of(tmp_path / "in", "a", pixels, np.ones((6, 8), np.uint8))]
    out = export_images(records, tmp_path / "out", **ABOUT).whole()
    assert not (out / "instances").exists()
    assert "labelling" not in json.loads((out / "dataset.json").read_text())
