from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.project.records import ImageState
from tests.support.bench import Bench
from tests.support.labelling import label_path

SQUARE = np.array([[10, 10], [30, 10], [30, 30], [10, 30]], np.float32)
LINE = np.array([[5, 40], [70, 40]], np.float32)


@pytest.fixture
def told_apart(session):
    """An empty project with one label for each object."""
    assert session.editing.set_labelling("instance")
    return session


def test_a_lasso_adds_its_inside_to_the_labels_and_a_negative_one_takes_it_out(session, on_disk):
    session.painting.lasso(SQUARE)
    assert on_disk("a")[10:31, 10:31].all()
    assert np.count_nonzero(on_disk("a")) == 21 * 21
    assert session.state_of("a") is ImageState.PROPOSED
    session.painting.lasso(SQUARE - 10, positive=False)
    assert not on_disk("a")[:21, :21].any()
    assert np.count_nonzero(on_disk("a")) == 21 * 21 - 11 * 11
    session.undo()
    session.undo()
    assert on_disk("a") is None
    assert session.state_of("a") is ImageState.UNTOUCHED


def test_the_value_to_paint_with_is_read_without_a_look_at_the_whole_map(told_apart, monkeypatch):
    told_apart.painting.lasso(SQUARE)
    told_apart.prompting.new_object()
    assert told_apart.painting.value == 1002
    looked = []
    for module in ("session", "commands.paint"):
        name = f"napari_usgseg.annotation.{module}.values_in"
        monkeypatch.setattr(name, lambda labels: looked.append(labels) or [])
    assert told_apart.painting.value == 1002
    assert not looked


def test_a_stroke_is_as_wide_as_the_brush(session):
    session.painting.stroke(LINE, 7)
    rows = np.flatnonzero(session.labels[:, 35])
    assert rows.tolist() == [37, 38, 39, 40, 41, 42, 43]
    session.painting.stroke(LINE, 3, positive=False)
    assert np.flatnonzero(session.labels[:, 35]).tolist() == [37, 38, 42, 43]
    assert session.undo_stack.next_undo.name == "stroke on labels, taken away"


def test_a_box_fills_and_empties(session):
    session.painting.box((30, 30), (10, 10))
    assert np.count_nonzero(session.labels) == 21 * 21
    session.painting.box((0, 0), (200, 15), positive=False)
    assert not session.labels[:16].any()


def test_an_edit_takes_the_picked_class_also_over_another_one(session):
    session.painting.lasso(SQUARE)
    session.editing.add_class("cyst")
    session.painting.lasso(SQUARE + 5)
    assert session.labels[28, 28] == 2
    assert session.labels[12, 12] == 1
    session.painting.pick(12, 12)
    assert session.table.active == 1


def test_an_edit_that_changes_nothing_is_no_step(session):
    session.painting.lasso(SQUARE, positive=False)
    assert session.undo_stack.next_undo is None
    assert session.state_of("a") is ImageState.UNTOUCHED


def test_strokes_go_on_with_the_picked_object_until_another_begins(told_apart, on_disk):
    session = told_apart
    session.painting.lasso(SQUARE)
    assert session.painting.value == 1001
    session.painting.stroke(LINE, 5)
    assert set(np.unique(on_disk("a"))) == {0, 1001}
    session.prompting.new_object()
    assert session.painting.value == 1002
    session.painting.box((50, 5), (60, 15))
    assert set(np.unique(on_disk("a"))) == {0, 1001, 1002}
    with Image.open(label_path(session.store, "a")) as file:
        assert file.mode == "I;16"
    session.painting.pick(12, 12)
    assert session.painting.value == 1001
    session.painting.pick(1, 1)
    assert session.painting.value == 1003, "a click beside all objects begins a new one"
    session.editing.add_class("cyst")
    assert session.painting.value == 2001
    session.navigation.step(1)
    assert session.painting.value == 2001
    session.editing.pick_class(1)
    assert session.painting.value == 1001, "numbers begin anew on another image"


def test_a_brush_with_a_bare_class_number_paints_an_object(told_apart):
    session = told_apart
    painted = session.labels.copy()
    painted[3:6, 4:9] = 1
    session.editing.painted(painted)
    assert set(np.unique(session.labels)) == {0, 1001}
    painted = session.labels.copy()
    painted[3:6, 9:12] = 1
    session.editing.painted(painted)
    assert set(np.unique(session.labels)) == {0, 1001}, "the stroke goes on with the object"
    painted = session.labels.astype(np.uint16)
    painted[20:25, 4:9] = 7005
    session.editing.painted(painted)
    assert session.labels[22, 5] == 7005
    assert [item.class_id for item in session.table.classes] == [1, 7]


def test_the_thousandth_object_of_a_class_is_a_region_of_it(told_apart):
    session = told_apart
    painted = np.zeros(session.labels.shape, np.uint16)
    painted.flat[:999] = 1000 + np.arange(1, 1000)
    session.editing.painted(painted)
    session.prompting.new_object()
    assert session.painting.value == 1
    session.prompting.add_box((40, 30), (60, 50))
    session.editing.accept()
    assert session.labels[40, 50] == 1
    assert [item.class_id for item in session.table.classes] == [1]


def test_the_first_labels_bring_their_classes_with_them(bench) -> None:
    session = bench.session
    labels = session.labels.copy()
    labels[2:6, 2:6] = 1
    session.editing.painted(labels)
    written = json.loads((bench.folder / "usgseg" / "classes.json").read_text())
    assert [item["name"] for item in written["classes"]] == [session.table.classes[0].name]
    again = Bench(bench.folder)
    session.close()
    again.session.navigation.open_folder(bench.folder)
    assert again.session.store.classes() == session.table.classes
