from __future__ import annotations

import numpy as np
import pytest

from napari_usgseg.annotation.commands import prompts
from napari_usgseg.core.metrics import dice
from napari_usgseg.gui.canvas.tools import Tool
from napari_usgseg.io.labels import read_labels

pytestmark = pytest.mark.gui


@pytest.fixture
def lesion(at_work, truth) -> np.ndarray:
    """The true mask of the largest lesion of the first phantom."""
    from napari_usgseg.annotation.regions import pieces

    return pieces(truth(at_work.session.record.image_id) == 1)[0]


@pytest.fixture
def by_hand(at_work):
    """The first phantom with two accepted boxes, drawn with the box tool on the labels."""
    at_work.widget.correct.on_labels.click()
    at_work.widget.tools.arm(Tool.BOX)
    at_work.drag((60, 60), (100, 90), (140, 140))
    at_work.settle()
    at_work.session.prompting.new_object()
    at_work.drag((260, 60), (300, 90), (340, 140))
    at_work.settle()
    return at_work


def around(mask: np.ndarray, wider: float = 1.1) -> list[tuple[float, float]]:
    """A closed line round a mask, by the farthest pixel in each of 24 directions."""
    rows, columns = np.nonzero(mask)
    x, y = columns.mean(), rows.mean()
    angle = np.arctan2(rows - y, columns - x)
    distance = np.hypot(rows - y, columns - x)
    corners = []
    for direction in np.linspace(-np.pi, np.pi, 24, endpoint=False):
        near = np.abs(np.angle(np.exp(1j * (angle - direction)))) < 0.2
        reach = wider * distance[near].max()
        corners.append((x + reach * np.cos(direction), y + reach * np.sin(direction)))
    return [*corners, corners[0]]


def control_click(person, x: float, y: float) -> None:
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    native = person.viewer.window._qt_viewer.canvas.native
    held = Qt.KeyboardModifier.ControlModifier
    QTest.mouseClick(native, Qt.MouseButton.LeftButton, held, person.canvas_point(x, y))


def on_disk(person, folder) -> np.ndarray:
    person.settle()
    name = f"{person.session.record.image_id}.png"
    return read_labels(folder / "usgseg" / "labels" / name)


def test_a_lasso_round_a_lesion_proposes_it(at_work, lesion):
    from qtpy.QtCore import Qt

    at_work.press(Qt.Key.Key_W, Qt.KeyboardModifier.ShiftModifier)
    assert at_work.widget.tools.tool is Tool.LASSO
    at_work.drag(*around(lesion))
    at_work.wait(lambda: at_work.session.proposal.has_masks)
    at_work.settle()
    assert dice(lesion, at_work.session.proposal.objects[0].proposal.mask) > 0.7
    assert not at_work.session.labels.any()
    assert at_work.layer("proposal").data.any()
    shapes = at_work.layer("shapes")
    assert shapes.nshapes == 1, "the drawn line is gone, the box that it became is there"


def test_a_lasso_and_a_stroke_edit_the_labels_themselves(at_work, lesion, phantom_folder):
    from qtpy.QtCore import Qt

    at_work.press(Qt.Key.Key_E, Qt.KeyboardModifier.ShiftModifier)
    assert at_work.widget.correct.on_labels.isChecked()
    at_work.widget.correct.tools[Tool.LASSO].click()
    at_work.drag(*around(lesion, 1.0))
    filled = on_disk(at_work, phantom_folder)
    assert dice(lesion, filled > 0) > 0.85
    assert not at_work.session.proposal.objects
    at_work.widget.correct.minus.click()
    at_work.widget.correct.tools[Tool.SCRIBBLE].click()
    at_work.layer("labels").brush_size = 9
    rows, columns = np.nonzero(lesion)
    x, y = float(columns.mean()), float(rows.mean())
    at_work.drag((x - 15, y), (x, y), (x + 15, y))
    rubbed = on_disk(at_work, phantom_folder)
    assert not rubbed[round(y), round(x)]
    assert 9 * 25 < np.count_nonzero(filled) - np.count_nonzero(rubbed) < 11 * 45
    assert np.array_equal(at_work.layer("labels").data, rubbed)
    at_work.press(Qt.Key.Key_U)
    assert np.array_equal(on_disk(at_work, phantom_folder), filled)


def test_accepted_objects_are_split_deleted_and_taken_up_again(by_hand, phantom_folder):
    from napari_usgseg.annotation.regions import pieces

    tools, session = by_hand.widget.tools, by_hand.session
    tools.arm(Tool.SPLIT)
    by_hand.drag((100, 50), (101, 100), (100, 150))
    assert len(pieces(on_disk(by_hand, phantom_folder) > 0)) == 3
    tools.arm(Tool.POINT)
    by_hand.click(80, 100, shift=True)
    left = on_disk(by_hand, phantom_folder)
    assert len(pieces(left > 0)) == 2
    assert not left[100, 80]
    control_click(by_hand, 300, 100)
    by_hand.settle()
    assert not session.labels[100, 300]
    assert session.proposal.objects[0].mask_at(300, 100)
    by_hand.widget.correct.on_proposal.click()
    by_hand.click(330, 70, shift=True)
    by_hand.wait(lambda: not session.is_waiting)
    by_hand.settle()
    assert not session.proposal.objects[0].mask_at(330, 70)


def test_proposed_objects_are_merged_and_cut_out_of_the_labels(by_hand, phantom_folder):
    tools, session = by_hand.widget.tools, by_hand.session
    before = on_disk(by_hand, phantom_folder)
    by_hand.widget.correct.on_proposal.click()
    tools.arm(Tool.BOX)
    by_hand.drag((120, 200), (150, 230), (180, 260))
    by_hand.wait(lambda: not session.is_waiting and session.proposal.has_masks)
    by_hand.drag((120, 80), (150, 100), (190, 130))
    by_hand.wait(lambda: not session.is_waiting and len(session.proposal.objects) == 2)
    by_hand.settle()
    masks = [item.proposal.mask for item in session.proposal.objects]
    (start, end) = (np.argwhere(mask).mean(0)[::-1] for mask in masks)
    tools.arm(Tool.MERGE)
    by_hand.drag(tuple(start), tuple((start + end) / 2), tuple(end))
    by_hand.settle()
    (item,) = session.proposal.objects
    assert np.array_equal(item.proposal.mask, masks[0] | masks[1])
    by_hand.widget.correct.on_labels.click()
    tools.arm(Tool.SUBTRACT)
    overlap = item.proposal.mask & (before > 0)
    assert overlap.any()
    by_hand.drag(tuple(end), (100, 110), (70, 100))
    after = on_disk(by_hand, phantom_folder)
    assert np.array_equal(after > 0, (before > 0) & ~item.proposal.mask)
    assert not session.proposal.objects


def test_objects_told_apart_have_codes_shades_and_a_brush_of_their_own(
    person, phantom_folder, tmp_path
):
    choice = person.widget.classes.labelling
    choice.setCurrentIndex(1)
    choice.activated.emit(1)
    person.open(phantom_folder)
    session = person.session
    assert session.settings.labelling == "instance"
    person.widget.correct.on_labels.click()
    person.widget.tools.arm(Tool.BOX)
    person.drag((60, 60), (100, 90), (140, 140))
    person.settle()
    session.prompting.new_object()
    person.settle()
    layer = person.layer("labels")
    assert layer.selected_label == 1002
    person.drag((260, 60), (300, 90), (340, 140))
    assert set(np.unique(on_disk(person, phantom_folder))) == {0, 1001, 1002}
    assert not np.allclose(layer.get_color(1001), layer.get_color(1002))
    session.prompting.new_object()
    person.settle()
    layer.mode = "paint"
    layer.paint((200, 200), layer.selected_label)
    session.flush()
    assert set(np.unique(on_disk(person, phantom_folder))) == {0, 1001, 1002, 1003}
    layer.mode = "pan_zoom"
    choice.setCurrentIndex(0)
    choice.activated.emit(0)
    assert session.settings.labelling == "instance"
    assert choice.currentIndex() == 1, "the choice goes back to what is so"
    assert any("one label for each object already" in text for _, text in person.notes)
    assert session.editing.accept()
    session.export(tmp_path / "out", "breast", "breast tumor")
    person.wait(lambda: (tmp_path / "out" / "dataset.json").is_file())
    person.settle()
    (file,) = (tmp_path / "out" / "instances").glob("*.png")
    assert np.array_equal(read_labels(file), session.labels)


def test_the_mask_of_the_previous_image_begins_this_one(at_work, lesion):
    from qtpy.QtCore import Qt

    session = at_work.session
    at_work.widget.tools.arm(Tool.LASSO)
    at_work.drag(*around(lesion))
    at_work.wait(lambda: session.proposal.has_masks)
    first = session.record.image_id
    at_work.press(Qt.Key.Key_G)
    at_work.wait(lambda: session.record.image_id != first and session.loaded is not None)
    at_work.settle()
    at_work.press(Qt.Key.Key_T, Qt.KeyboardModifier.ShiftModifier)
    at_work.wait(lambda: session.proposal.has_masks)
    at_work.settle()
    assert session.proposal.objects[0].prompts.mask_input is not None


def test_the_paint_button_is_down_while_naparis_brush_has_the_mouse(at_work):
    correct, layer = at_work.widget.correct, at_work.layer("labels")
    correct.paint.click()
    assert str(layer.mode) == "paint"
    assert correct.paint.isChecked()
    assert not any(control.isChecked() for control in correct.tools.values())
    correct.paint.click()
    assert not correct.paint.isChecked()
    assert correct.tools[Tool.POINT].isChecked()
    at_work.viewer.layers.selection.active = layer
    layer.mode = "erase"  # by napari's own buttons
    assert correct.paint.isChecked()
    assert not correct.tools[Tool.POINT].isChecked()
    correct.tools[Tool.POINT].click()
    assert str(layer.mode) == "pan_zoom"
    assert correct.tools[Tool.POINT].isChecked()


def test_the_usual_key_takes_back_a_stroke_of_the_brush_and_a_click(at_work):
    from qtpy.QtCore import Qt

    session, control = at_work.session, Qt.KeyboardModifier.ControlModifier
    at_work.widget.correct.paint.click()
    at_work.drag((60, 60), (100, 60), (140, 60))
    at_work.settle()
    assert session.labels.any()
    at_work.press(Qt.Key.Key_Z, control)
    at_work.settle()
    assert not session.labels.any()
    assert not at_work.layer("labels").data.any()
    at_work.press(Qt.Key.Key_Z, control | Qt.KeyboardModifier.ShiftModifier)
    at_work.settle()
    assert session.labels.any()
    at_work.widget.tools.arm(Tool.POINT)
    at_work.viewer.layers.selection.active = at_work.layer("image")
    at_work.click(300, 200)
    at_work.wait(lambda: session.proposal.has_masks)
    at_work.settle()
    at_work.press(Qt.Key.Key_Z, control)
    at_work.settle()
    assert not session.proposal.objects
    assert session.labels.any()


def let_go_later(person, tool: Tool, *corners: tuple[float, float], seen=lambda: None) -> None:
    """Press with Shift, let Shift go while the mouse is still held, then draw and release it."""
    from qtpy.QtCore import QEvent, QPointF, Qt
    from qtpy.QtGui import QMouseEvent
    from qtpy.QtWidgets import QApplication

    person.widget.tools.arm(tool)
    native = person.viewer.window._qt_viewer.canvas.native
    left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
    shift, bare = Qt.KeyboardModifier.ShiftModifier, Qt.KeyboardModifier.NoModifier
    steps = [(QEvent.Type.MouseButtonPress, corners[0], left, left, shift)]
    steps += [(QEvent.Type.MouseMove, at, none, left, bare) for at in corners[1:]]
    steps += [(QEvent.Type.MouseButtonRelease, corners[-1], left, none, bare)]
    for kind, (x, y), button, held, keys in steps:
        if kind is QEvent.Type.MouseButtonRelease:
            seen()
        at = QPointF(person.canvas_point(x, y))
        there = QPointF(native.mapToGlobal(at.toPoint()))
        QApplication.sendEvent(native, QMouseEvent(kind, at, there, button, held, keys))
        QApplication.processEvents()
    person.settle()


def test_keys_and_switches_count_as_the_mouse_goes_down(at_work):
    session, tools = at_work.session, at_work.widget.tools
    session.prompting.add_box((60, 60), (140, 140))
    at_work.wait(lambda: session.proposal.has_masks)
    at_work.settle()
    let_go_later(at_work, Tool.POINT, (100, 100))
    (item,) = session.proposal.objects
    assert item.prompts.point_labels.tolist() == [0], "Shift was held: a part is taken away"
    let_go_later(at_work, Tool.BOX, (70, 70), (150, 110), (150, 150))
    (item,) = session.proposal.objects
    assert item.prompts.box[0] == pytest.approx(70, abs=2), "of the object under work"

    def another_gesture() -> None:
        tools.set_as_drawn(False)
        tools.set_positive(True)
        tools.set_on_labels(True)

    session.do(prompts.draw_lasso, np.array(square(60, 140), np.float32))
    at_work.settle()
    whole = session.proposal.objects[-1].proposal.mask
    tools.set_as_drawn(True)
    let_go_later(at_work, Tool.LASSO, *square(80, 120), seen=another_gesture)
    part = session.proposal.objects[-1].proposal.mask
    assert not part[100, 100]
    assert part.sum() == pytest.approx(whole.sum() - 41 * 41, abs=300)
    assert not session.labels.any()


def square(low: float, high: float) -> list[tuple[float, float]]:
    return [(low, low), (high, low), (high, high), (low, high), (low, low)]
