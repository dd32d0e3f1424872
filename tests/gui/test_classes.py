"""Classes in the window, by mouse and keys: each object keeps the class that it was given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_usgseg.gui.canvas.tools import Tool
from napari_usgseg.io.labels import read_classes
from tests.support.hand import (
    add_class,
    choose_labelling,
    click_chip,
    find,
    hover,
    press_button,
    press_empty,
    press_g,
    saved,
)

pytestmark = pytest.mark.gui

BOXES = (
    ((60, 60), (90, 80), (140, 130)),
    ((300, 200), (350, 220), (400, 290)),
    ((320, 30), (350, 60), (430, 110)),
)
"""Three boxes that do not touch, as the mouse draws them."""
CENTRES = ((100, 95), (350, 245), (375, 70))


def quiet(person):
    """The same person, with the box tool in hand; no phrase is looked for by itself."""
    person.session.set_settings(replace(person.session.settings, find_on_open=False))
    person.widget.tools.arm(Tool.BOX)
    return person


@pytest.fixture
def drawing(at_work):
    return quiet(at_work)


def draw(person, number: int) -> None:
    """Drag one of the boxes and wait for its mask."""
    person.drag(*BOXES[number])
    person.wait(lambda: not person.session.is_waiting)
    person.settle()


def names(person) -> list[str]:
    return [item.name for item in person.session.table.classes]


def proposed(person) -> list[str]:
    table = person.session.table
    return [table.get(item.class_id).name for item in person.session.proposal.objects]


def inside(mask: np.ndarray, number: int) -> bool:
    (x0, y0), _, (x1, y1) = BOXES[number]
    return (
        bool(mask.any())
        and not np.delete(
            np.delete(mask, np.s_[y0 - 30 : y1 + 30], 0), np.s_[x0 - 30 : x1 + 30], 1
        ).any()
    )


def test_three_classes_take_one_key_and_one_box_each(drawing, phantom_folder):
    from qtpy.QtCore import Qt

    drawing.session.editing.rename_class(1, "femoral head")
    add_class(drawing, "os ilium")
    add_class(drawing, "os ischium")
    for number, key in enumerate((Qt.Key.Key_1, Qt.Key.Key_2, Qt.Key.Key_3)):
        drawing.press(key, Qt.KeyboardModifier.AltModifier)
        draw(drawing, number)
    assert proposed(drawing) == ["femoral head", "os ilium", "os ischium"]
    image_id = press_g(drawing, go_on=True)
    found = saved(phantom_folder, image_id)
    assert list(found) == ["femoral head", "os ilium", "os ischium"]
    assert all(inside(mask, number) for number, mask in enumerate(found.values()))


def test_three_classes_drawn_without_waiting_are_all_there(drawing, phantom_folder):
    from qtpy.QtCore import Qt

    add_class(drawing, "os ilium")
    add_class(drawing, "os ischium")
    for number, key in enumerate((Qt.Key.Key_1, Qt.Key.Key_2, Qt.Key.Key_3)):
        drawing.press(key, Qt.KeyboardModifier.AltModifier)
        drawing.drag(*BOXES[number])
    drawing.wait(lambda: not drawing.session.is_waiting)
    found = saved(phantom_folder, press_g(drawing))
    assert list(found) == ["object", "os ilium", "os ischium"]
    assert all(inside(mask, number) for number, mask in enumerate(found.values()))


def test_a_box_that_overlaps_an_object_of_another_class_begins_one_of_the_picked(drawing):
    draw(drawing, 0)
    add_class(drawing, "os ilium")
    drawing.drag((100, 100), (130, 120), (200, 180))
    drawing.wait(lambda: not drawing.session.is_waiting)
    assert proposed(drawing) == ["object", "os ilium"]
    assert drawing.session.proposal.objects[0].prompts.box[0] < 70, "the first is as it was"


def test_a_picked_class_renames_nothing_and_says_how_that_is_done(drawing, phantom_folder):
    from qtpy.QtCore import Qt

    draw(drawing, 0)
    add_class(drawing, "os ischium")
    assert drawing.session.table.active == 2
    assert proposed(drawing) == ["object"]
    text = drawing.widget.status.text()
    assert "'os ischium'" in text
    assert "'object'" in text
    assert "Shift+click" in text
    drawing.press(Qt.Key.Key_1, Qt.KeyboardModifier.AltModifier)
    drawing.press(Qt.Key.Key_2, Qt.KeyboardModifier.AltModifier)
    click_chip(drawing, "object")
    click_chip(drawing, "os ischium")
    assert proposed(drawing) == ["object"]
    assert list(saved(phantom_folder, press_g(drawing))) == ["object"]


def test_shift_and_a_click_on_a_new_class_give_it_to_the_object_under_work(drawing, phantom_folder):
    draw(drawing, 0)
    add_class(drawing, "cyst")
    click_chip(drawing, "object")
    click_chip(drawing, "cyst", shift=True)
    assert proposed(drawing) == ["cyst"]
    assert drawing.session.table.active == 1, "the picked class stays"
    assert drawing.widget.classes.list.currentItem().text() == "object"
    assert "'cyst' now" in drawing.widget.status.text()
    assert set(np.unique(drawing.layer("proposal").data)) == {0, 2}
    assert list(saved(phantom_folder, press_g(drawing))) == ["cyst"]


def test_the_key_gives_the_picked_class_to_the_object_under_the_mouse(drawing, phantom_folder):
    from qtpy.QtCore import Qt

    shift = Qt.KeyboardModifier.ShiftModifier
    draw(drawing, 0)
    draw(drawing, 1)
    add_class(drawing, "cyst")
    hover(drawing, *CENTRES[0])
    drawing.press(Qt.Key.Key_R, shift)
    assert proposed(drawing) == ["cyst", "object"], "not the one that was drawn last"
    hover(drawing, 10, 370)
    drawing.press(Qt.Key.Key_R, shift)
    assert proposed(drawing) == ["cyst", "object"], "there is nothing under the mouse"
    found = saved(phantom_folder, press_g(drawing))
    assert inside(found["cyst"], 0)
    assert inside(found["object"], 1)


@pytest.mark.parametrize("labelling", ["per class", "per object"])
def test_the_class_of_an_accepted_object_is_changed_and_undo_takes_that_back(
    drawing, phantom_folder, labelling
):
    from qtpy.QtCore import Qt

    choose_labelling(drawing, labelling)
    draw(drawing, 0)
    draw(drawing, 1)
    image_id = press_g(drawing)
    before = drawing.session.labels.copy()
    add_class(drawing, "cyst")
    hover(drawing, *CENTRES[1])
    drawing.press(Qt.Key.Key_R, Qt.KeyboardModifier.ShiftModifier)
    drawing.wait(lambda: not drawing.session.outbox.stores())
    found = saved(phantom_folder, image_id)
    assert inside(found["object"], 0)
    assert inside(found["cyst"], 1)
    assert np.array_equal(drawing.session.labels > 0, before > 0)
    drawing.press(Qt.Key.Key_U)
    drawing.settle()
    assert np.array_equal(drawing.session.labels, before)


def test_the_key_fills_the_holes_of_the_object_under_the_mouse(drawing, phantom_folder):
    from qtpy.QtCore import Qt

    shift = Qt.KeyboardModifier.ShiftModifier
    draw(drawing, 0)
    image_id = press_g(drawing)
    whole = drawing.session.labels.copy()
    x, y = CENTRES[0]
    drawing.session.painting.box((x - 4, y - 4), (x + 4, y + 4), positive=False)
    holed = drawing.session.labels.copy()
    assert holed[y, x] == 0
    hover(drawing, x + 8, y + 8)
    drawing.press(Qt.Key.Key_Y, shift)
    assert np.array_equal(drawing.session.labels, whole)
    drawing.wait(lambda: not drawing.session.outbox.stores())
    assert inside(saved(phantom_folder, image_id)["object"], 0)
    drawing.press(Qt.Key.Key_Y, shift)
    assert "no hole" in drawing.widget.status.text()
    drawing.press(Qt.Key.Key_U)
    drawing.settle()
    assert np.array_equal(drawing.session.labels, holed)


def test_an_accepted_object_that_was_pointed_at_is_given_a_class_by_its_chip(
    drawing, phantom_folder
):
    draw(drawing, 0)
    draw(drawing, 1)
    image_id = press_g(drawing)
    add_class(drawing, "cyst")
    press_button(drawing, drawing.widget.correct.on_labels)
    drawing.widget.tools.arm(Tool.POINT)
    drawing.click(*CENTRES[0])
    click_chip(drawing, "cyst", shift=True)
    drawing.wait(lambda: not drawing.session.outbox.stores())
    found = saved(phantom_folder, image_id)
    assert inside(found["cyst"], 0)
    assert inside(found["object"], 1)


def test_after_an_accept_was_undone_a_class_can_be_given(drawing, phantom_folder):
    from qtpy.QtCore import Qt

    draw(drawing, 0)
    press_g(drawing)
    drawing.press(Qt.Key.Key_U)
    drawing.settle()
    assert proposed(drawing) == ["object"]
    drawing.press(Qt.Key.Key_Q, Qt.KeyboardModifier.ShiftModifier)  # none is under work now
    add_class(drawing, "cyst")
    click_chip(drawing, "cyst", shift=True)
    assert proposed(drawing) == ["cyst"]
    assert list(saved(phantom_folder, press_g(drawing))) == ["cyst"]


def test_a_class_that_no_image_has_is_deleted_and_undo_brings_it_back(drawing, phantom_folder):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    add_class(drawing, "cyst")
    add_class(drawing, "typo")
    press_button(drawing, drawing.widget.classes.minus)
    assert names(drawing) == ["object", "cyst"]
    drawing.press(Qt.Key.Key_U)
    drawing.settle()
    assert names(drawing) == ["object", "cyst", "typo"]
    click_chip(drawing, "typo")
    QTest.keyClick(drawing.widget.classes.list, Qt.Key.Key_Delete)
    drawing.settle()
    assert names(drawing) == ["object", "cyst"]
    drawing.wait(lambda: not drawing.session.outbox.stores())
    kept = read_classes(phantom_folder / "usgseg" / "classes.json")
    assert [item.name for item in kept] == ["object", "cyst"]
    add_class(drawing, "septum")
    assert drawing.session.table.active == 4, "no other class gets the number of one that is gone"


@pytest.mark.parametrize("where", ["accepted here", "accepted elsewhere", "proposed elsewhere"])
def test_a_class_that_an_image_has_is_not_deleted(drawing, where):
    from qtpy.QtCore import Qt

    add_class(drawing, "cyst")
    draw(drawing, 0)
    first = drawing.session.record.image_id
    if where.startswith("accepted"):
        press_g(drawing, go_on=where == "accepted elsewhere")
    else:
        drawing.press(Qt.Key.Key_Period)
        drawing.wait(lambda: drawing.session.loaded is not None)
        drawing.settle()
    press_button(drawing, drawing.widget.classes.minus)
    assert names(drawing) == ["object", "cyst"]
    assert first in drawing.widget.status.text()
    assert any(first in text for level, text in drawing.notes if level == "warning")


def test_what_a_phrase_found_is_of_the_class_that_it_names(drawing, truth, phantom_folder):
    add_class(drawing, "cyst")
    draw(drawing, 1)
    press_g(drawing)
    click_chip(drawing, "cyst")
    find(drawing, "Breast  Tumor")
    assert names(drawing) == ["object", "cyst", "breast tumor"]
    text = drawing.widget.status.text()
    assert "'breast tumor' (a new class)" in text
    assert set(proposed(drawing)) == {"breast tumor"}
    image_id = press_g(drawing, go_on=True)
    assert set(saved(phantom_folder, image_id)) == {"cyst", "breast tumor"}
    click_chip(drawing, "cyst")
    find(drawing, "BREAST TUMOR")
    assert names(drawing) == ["object", "cyst", "breast tumor"]
    if drawing.session.proposal.objects:
        assert set(proposed(drawing)) == {"breast tumor"}
    assert drawing.session.table.get(drawing.session.table.active).name == "breast tumor"


def test_a_search_that_fails_makes_no_class_and_the_next_one_names_the_first(
    drawing, phantom_folder
):
    find(drawing, "fetal head")
    assert not drawing.session.proposal.objects
    assert names(drawing) == ["object"]
    first = press_empty(drawing)
    find(drawing, "breast tumor")
    assert names(drawing) == ["breast tumor"]
    second = press_g(drawing)
    assert list(saved(phantom_folder, second)) == ["breast tumor"]
    assert not saved(phantom_folder, first)


@pytest.mark.parametrize("where", ["proposed here", "accepted", "painted elsewhere"])
def test_a_search_does_not_rename_what_was_drawn_before(drawing, phantom_folder, where):
    from qtpy.QtCore import Qt

    find(drawing, "fetal head")
    first = drawing.session.record.image_id
    if where == "painted elsewhere":
        press_button(drawing, drawing.widget.correct.on_labels)
    draw(drawing, 1)
    if where == "accepted":
        press_g(drawing, go_on=True)
    elif where == "painted elsewhere":
        assert drawing.session.labels.any()
        drawing.press(Qt.Key.Key_Period)
        drawing.wait(lambda: drawing.session.loaded is not None)
        drawing.settle()
    find(drawing, "breast tumor")
    assert names(drawing) == ["object", "breast tumor"]
    assert set(proposed(drawing)) >= {"breast tumor"}
    if where == "proposed here":
        assert proposed(drawing)[0] == "object"
        press_g(drawing)
    drawing.wait(lambda: not drawing.session.outbox.stores())
    found = saved(phantom_folder, first)
    assert inside(found["object"], 1)


def test_what_is_drawn_after_a_search_that_failed_is_said_beforehand(drawing, phantom_folder):
    drawing.session.editing.rename_class(1, "nerve")
    find(drawing, "fetal head")
    assert "What you draw now is 'nerve'" in drawing.widget.status.text()
    add_class(drawing, "fetal head")
    click_chip(drawing, "nerve")
    find(drawing, "fetal head")
    assert "What you draw now is 'fetal head'" in drawing.widget.status.text()
    draw(drawing, 1)
    assert list(saved(phantom_folder, press_g(drawing))) == ["fetal head"]


def test_several_phrases_go_to_classes_of_their_own(person, phantom_folder):
    """A phrase that finds nothing makes no class."""
    person.open(phantom_folder)
    quiet(person)
    add_class(person, "cyst")
    find(person, "fetal head. breast tumor")
    assert names(person) == ["object", "cyst", "breast tumor"]
    assert set(proposed(person)) == {"breast tumor"}
    assert person.session.table.get(person.session.table.active).name == "cyst"
    assert "fetal head" in person.widget.status.text()
