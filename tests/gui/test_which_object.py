"""Objects in the window, by mouse and keys: which one is meant, and which is under work."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_usgseg.annotation.regions import lasso_mask
from napari_usgseg.core.geometry import stroke_mask
from napari_usgseg.gui.canvas.tools import Tool
from tests.support.hand import add_class, click_chip, find, press_button

pytestmark = pytest.mark.gui

SHAPE = (384, 512)


@pytest.fixture
def drawing(at_work):
    """Nothing is looked for by itself, two classes, the box tool in hand."""
    session = at_work.session
    session.set_settings(replace(session.settings, find_on_open=False))
    add_class(at_work, "ilium")
    click_chip(at_work, "object")
    at_work.widget.tools.arm(Tool.BOX)
    return at_work


def answered(person) -> list:
    """The proposed objects, once all that was asked is answered and drawn."""
    person.wait(lambda: not person.session.is_waiting)
    person.settle()
    return list(person.session.proposal.objects)


def mask_of(item) -> np.ndarray:
    return item.proposal.mask


def chips(person) -> list[str]:
    shown = person.widget.classes.objects.list
    return [shown.item(row).text().rsplit(" ", 1)[0] for row in range(shown.count())]


def names(person) -> list[str]:
    return list(person.layer("names").features["name"])


def click_object_chip(person, row: int, shift: bool = False) -> None:
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    shown = person.widget.classes.objects.list
    held = Qt.KeyboardModifier.ShiftModifier if shift else Qt.KeyboardModifier.NoModifier
    at = shown.visualItemRect(shown.item(row)).center()
    QTest.mouseClick(shown.viewport(), Qt.MouseButton.LeftButton, held, at)
    person.settle()


def test_a_box_over_or_a_click_beside_an_object_begins_another_and_changes_none(drawing):
    session, tools = drawing.session, drawing.widget.tools
    drawing.drag((60, 60), (90, 80), (140, 130))
    (first,) = answered(drawing)
    drawing.drag((100, 100), (130, 120), (200, 180))
    kept, second = answered(drawing)
    assert kept is first, "a box that overlaps it"
    drawing.drag((110, 110), (150, 150), (210, 190), shift=True)
    kept, again = answered(drawing)
    assert kept is first
    assert again.prompts.box[2] > second.prompts.box[2], "with Shift it is the second's box"
    tools.arm(Tool.POINT)
    drawing.click(400, 300)
    assert len(answered(drawing)) == 3, "a click 200 pixels beside both"
    assert session.proposal.objects[:2] == (first, again)
    drawing.click(10, 370, shift=True)
    assert len(answered(drawing)) == 3
    assert "nothing proposed here" in drawing.widget.status.text()


def test_a_prompt_with_another_class_picked_begins_an_object_of_that(drawing):
    from qtpy.QtCore import Qt

    drawing.drag((60, 60), (90, 80), (140, 130))
    (head,) = answered(drawing)
    drawing.press(Qt.Key.Key_2, Qt.KeyboardModifier.AltModifier)
    drawing.widget.tools.arm(Tool.SCRIBBLE)
    drawing.drag((90, 95), (110, 97), (150, 97))
    kept, ilium = answered(drawing)
    assert kept is head
    assert ilium.class_id == 2
    drawing.widget.tools.arm(Tool.POINT)
    drawing.click(100, 95, alt=True)
    assert drawing.session.proposal.active == 0
    assert drawing.session.table.active == 1, "who works on an object means its class"
    inside = np.argwhere(mask_of(head))[0][::-1]
    drawing.click(*inside, shift=True)
    corrected, kept = answered(drawing)
    assert kept is ilium
    assert mask_of(corrected).sum() < mask_of(head).sum()


def test_objects_are_picked_reclassed_and_dropped_by_their_chips_and_by_keys(drawing):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    shift = Qt.KeyboardModifier.ShiftModifier
    session, row = drawing.session, drawing.widget.classes.objects
    for box in (((60, 60), (140, 130)), ((300, 200), (400, 290)), ((320, 30), (430, 110))):
        drawing.drag(*box)
        answered(drawing)
    assert chips(drawing) == ["object"] * 3
    assert names(drawing) == ["object", "object", "▸ object"]
    click_object_chip(drawing, 0)
    assert session.proposal.active == 0
    assert names(drawing)[0] == "▸ object"
    click_chip(drawing, "ilium", shift=True)
    assert chips(drawing) == ["ilium", "object", "object"]
    assert names(drawing)[0] == "▸ ilium"
    drawing.press(Qt.Key.Key_Semicolon)
    assert session.proposal.active == 1
    assert session.table.get(session.table.active).name == "object"
    assert row.list.currentRow() == 1
    drawing.press(Qt.Key.Key_Z, shift)
    drawing.settle()
    assert chips(drawing) == ["ilium", "object"]
    drawing.press(Qt.Key.Key_U)
    drawing.settle()
    assert len(chips(drawing)) == 3
    assert drawing.widget.status.text().startswith("Undid: drop object")
    click_object_chip(drawing, 2, shift=True)
    assert chips(drawing) == ["ilium", "object"]
    click_object_chip(drawing, 1)
    QTest.keyClick(row.list, Qt.Key.Key_Delete)
    drawing.settle()
    assert chips(drawing) == ["ilium"]


def test_new_object_begins_one_inside_of_another_by_button_and_by_key(drawing):
    from qtpy.QtCore import Qt

    drawing.drag((60, 60), (90, 80), (200, 180))
    (first,) = answered(drawing)
    drawing.widget.tools.arm(Tool.POINT)
    press_button(drawing, drawing.widget.classes.objects.new)
    assert "begins a new 'object'" in drawing.widget.status.text()
    drawing.click(130, 120)
    assert len(answered(drawing)) == 2
    drawing.press(Qt.Key.Key_Q, Qt.KeyboardModifier.ShiftModifier)
    drawing.click(130, 120)
    assert len(answered(drawing)) == 3
    assert drawing.session.proposal.objects[0] is first


def test_lasso_and_scribble_are_taken_as_drawn_where_the_switch_says_so(drawing):
    from qtpy.QtCore import Qt

    session, correct = drawing.session, drawing.widget.correct
    press_button(drawing, correct.as_drawn)
    drawing.widget.tools.arm(Tool.LASSO)
    thin = [(100, 100), (220, 120), (220, 128), (100, 108), (100, 100)]
    drawing.drag(*thin)
    thin = [drawing.pointed(*corner) for corner in thin]
    assert not session.is_waiting, "no model is asked"
    (bone,) = answered(drawing)
    drawn = lasso_mask(np.array(thin, np.float32), session.labels.shape)
    assert np.array_equal(mask_of(bone), drawn)
    assert chips(drawing) == ["object"]

    correct.width.setValue(17)
    assert drawing.layer("labels").brush_size == 17
    drawing.widget.tools.arm(Tool.SCRIBBLE)
    widths = []

    def look() -> None:
        drawing.widget.bridge.finish()
        widths.append(float(drawing.layer("shapes").edge_width[-1]))

    line = [(300, 300), (340, 310), (380, 300)]
    drawing.drag(*line, seen=look)
    assert widths == [17.0], "the preview is as wide as the stroke"
    _, stroke = answered(drawing)
    line = [drawing.pointed(*corner) for corner in line]
    wide = stroke_mask(np.array(line, np.float32), 17, session.labels.shape)
    assert np.array_equal(mask_of(stroke), wide)
    drawing.drag((320, 280), (325, 300), (330, 320), shift=True)
    assert mask_of(answered(drawing)[1]).sum() < mask_of(stroke).sum()

    drawing.press(Qt.Key.Key_Slash)
    assert correct.by_model.isChecked()
    press_button(drawing, correct.on_labels)
    assert correct.as_drawn.isChecked(), "labels are edited as drawn"
    assert not correct.by_model.isEnabled()
    drawing.layer("labels").brush_size = 9  # by napari's slider
    assert correct.width.value() == 9


def test_find_keeps_other_classes_and_one_that_finds_nothing_takes_nothing(
    drawing, phantom_folder, tmp_path
):
    import shutil

    session = drawing.session
    drawing.drag((300, 200), (400, 290))
    (drawn,) = answered(drawing)
    find(drawing, "breast tumor")
    found = answered(drawing)
    assert found[0] is drawn
    assert len(found) > 1
    find(drawing, "fetal head")
    assert answered(drawing) == found
    assert "fetal head" in drawing.widget.status.text()
    assert session.settings.phrase == "fetal head"
    other = tmp_path / "another folder"
    shutil.copytree(phantom_folder, other, ignore=shutil.ignore_patterns("usgseg"))
    drawing.open(other)
    assert drawing.widget.find_panel.phrase.text() == "", "a new folder has a phrase of its own"
    assert not session.proposal.objects
