from __future__ import annotations

import json
import os
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from napari_usgseg.core.errors import DatasetError, ImageReadError, LabelWriteError
from napari_usgseg.core.types import LabelClass
from napari_usgseg.io import atomic
from napari_usgseg.io.atomic import write_over
from napari_usgseg.io.labels import (
    PALETTE,
    default_color,
    read_classes,
    read_labels,
    write_classes,
    write_labels,
)

quick = settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40))


@quick
@given(labels=hnp.arrays(st.sampled_from([np.uint8, np.uint16, np.int16, bool]), SHAPES))
def test_any_label_map_comes_back_as_it_was(tmp_path, labels):
    labels = np.abs(labels.astype(np.int64)) if labels.dtype == np.int16 else labels
    path = tmp_path / "labels.png"
    write_labels(path, labels, write_over)
    back = read_labels(path)
    assert back.shape == labels.shape
    assert np.array_equal(back, labels)
    assert back.dtype == (np.uint8 if labels.max() <= 255 else np.uint16)
    assert os.listdir(tmp_path) == ["labels.png"]


def test_a_file_that_is_there_stays_unless_told_otherwise(tmp_path):
    path = tmp_path / "a b ü.png"
    write_labels(path, np.ones((4, 5), int))
    before = path.read_bytes()
    with pytest.raises(LabelWriteError, match="is there already; choose another place"):
        write_labels(path, np.zeros((4, 5), int))
    assert path.read_bytes() == before
    write_labels(path, np.zeros((4, 5), int), write_over)
    assert not read_labels(path).any()


def test_a_failed_rename_leaves_the_old_file_and_no_temporary_one(tmp_path, monkeypatch):
    path = tmp_path / "labels.png"
    write_labels(path, np.ones((4, 5), int))
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "replace", full)
    with pytest.raises(LabelWriteError, match="disk is full"):
        write_labels(path, np.zeros((4, 5), int), write_over)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["labels.png"]


def test_an_interrupted_write_leaves_no_temporary_file(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic.os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_labels(tmp_path / "labels.png", np.ones((4, 5), int))
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_a_label_map_has_ordinary_permissions(tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    write_labels(tmp_path / "labels.png", np.ones((4, 5), int))
    assert (tmp_path / "labels.png").stat().st_mode == plain.stat().st_mode


def test_a_file_in_the_way_of_the_folder_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(LabelWriteError, match="file, not a folder"):
        write_labels(tmp_path / "file" / "labels.png", np.ones((4, 5), int))


@pytest.mark.parametrize(
    ("labels", "cause"),
    [
        (np.zeros((2, 3, 3), int), "shape"),
        (np.zeros((0, 3), int), "shape"),
        (np.zeros((2, 3)), "float64"),
        (np.full((2, 3), -1), "-1"),
        (np.full((2, 3), 65536), "65536"),
    ],
)
def test_what_is_no_label_map_is_refused_before_anything_is_written(tmp_path, labels, cause):
    with pytest.raises(LabelWriteError, match=cause):
        write_labels(tmp_path / "labels.png", labels)
    assert os.listdir(tmp_path) == []


def test_only_png_is_written(tmp_path):
    with pytest.raises(LabelWriteError, match=r"\.png"):
        write_labels(tmp_path / "labels.jpg", np.ones((4, 5), int))


def test_palette_and_grey_colour_masks_give_their_numbers(tmp_path):
    labels = np.array([[0, 1, 2], [3, 0, 1]], np.uint8)
    palette = Image.fromarray(labels, "P")
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    palette.save(tmp_path / "palette.png")
    Image.fromarray(np.repeat(labels[..., None], 3, axis=2)).save(tmp_path / "rgb.png")
    Image.fromarray(labels > 0).save(tmp_path / "bit.png")
    assert np.array_equal(read_labels(tmp_path / "palette.png"), labels)
    assert np.array_equal(read_labels(tmp_path / "rgb.png"), labels)
    assert np.array_equal(read_labels(tmp_path / "bit.png"), labels > 0)


def test_a_colour_image_is_no_label_map(tmp_path):
    Image.fromarray(np.eye(3, dtype=np.uint8)[None] * 9).save(tmp_path / "rgb.png")
    with pytest.raises(ImageReadError, match="colour image"):
        read_labels(tmp_path / "rgb.png")


def test_a_damaged_label_map_names_the_file(tmp_path):
    path = tmp_path / "labels.png"
    write_labels(path, np.random.default_rng(0).integers(0, 9, (50, 50)))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ImageReadError, match=r"labels\.png: truncated"):
        read_labels(path)
    with pytest.raises(ImageReadError, match="no such file"):
        read_labels(tmp_path / "absent.png")


CLASSES = [LabelClass(1, "breast tumor", "#e69f00"), LabelClass(300, "Zyste (groß)", "#56B4E9")]


def test_classes_come_back_in_order_of_their_numbers(tmp_path):
    path = tmp_path / "classes.json"
    write_classes(path, reversed(CLASSES))
    assert read_classes(path) == CLASSES
    card = json.loads(path.read_text(encoding="utf-8"))
    assert card["schema"] == 1
    assert card["classes"][0] == {"id": 1, "name": "breast tumor", "color": "#e69f00"}
    write_classes(path, CLASSES[:1], write_over)
    assert read_classes(path) == CLASSES[:1]
    with pytest.raises(LabelWriteError, match="is there already"):
        write_classes(path, CLASSES)


@pytest.mark.parametrize(
    "classes",
    [
        [LabelClass(0, "a", "#000000")],
        [LabelClass(1, " ", "#000000")],
        [LabelClass(1, "a", "red")],
        [LabelClass(1, "a", "#000000"), LabelClass(1, "b", "#000000")],
    ],
)
def test_classes_that_cannot_be_used_are_refused(tmp_path, classes):
    with pytest.raises(LabelWriteError):
        write_classes(tmp_path / "classes.json", classes)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"schema": 2, "classes": []}',
        '{"schema": 1}',
        '{"schema": 1, "classes": [{"id": 1}]}',
        '{"schema": 1, "classes": [{"id": 0, "name": "a", "color": "#000000"}]}',
    ],
)
def test_a_malformed_list_of_classes_says_what_was_expected(tmp_path, text):
    path = tmp_path / "classes.json"
    path.write_text(text)
    with pytest.raises(DatasetError, match="expected"):
        read_classes(path)


def test_every_class_has_a_colour_and_neighbours_differ():
    assert len(set(PALETTE)) == len(PALETTE) >= 8
    assert default_color(1) == PALETTE[0]
    assert default_color(len(PALETTE) + 1) == PALETTE[0]
