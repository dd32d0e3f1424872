"""Bone and other thin bright lines in the window: traced by clicks, mouse and keys."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.core.geometry import stroke_mask
from napari_usgseg.core.metrics import dice
from napari_usgseg.gui.canvas.tools import Tool
from tests.support.hand import hover, press_button

pytestmark = pytest.mark.gui

SIZE_HW = (200, 300)
ACROSS = np.arange(40, 260, dtype=np.float32)
BONE = np.stack([ACROSS, 90 + 25 * np.sin(ACROSS / 40)], axis=1)
WIDTH = 9


@pytest.fixture
def bone(person, tmp_path):
    """A folder with an image of a bright arc open, the trace tool in hand."""
    rng = np.random.default_rng(0)
    values = np.where(stroke_mask(BONE, WIDTH, SIZE_HW), 180.0, 40.0)
    grey = np.clip(values * rng.gamma(8, 1 / 8, SIZE_HW), 0, 255).astype(np.uint8)
    for name in ("a.png", "b.png"):
        Image.fromarray(grey).save(tmp_path / name)
    session = person.session
    person.open(tmp_path)
    session.set_settings(replace(session.settings, find_on_open=False))
    person.widget.correct.width.setValue(WIDTH)
    press_button(person, person.widget.correct.tools[Tool.TRACE])
    return person


def shown(person) -> np.ndarray:
    """The line (M, 2) XY that is drawn on the canvas; none is (0, 2)."""
    person.settle()
    data = person.layer("shapes").data if person.layer("shapes") is not None else []
    return np.asarray(data[-1])[:, ::-1] if len(data) else np.zeros((0, 2))


def double_click(person, x: float, y: float) -> None:
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    person.click(x, y)
    native = person.viewer.window._qt_viewer.canvas.native
    QTest.mouseDClick(
        native, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, person.canvas_point(x, y)
    )
    person.settle()


def test_two_clicks_on_a_bone_propose_it_and_undo_takes_that_back(bone):
    from qtpy.QtCore import Qt

    session = bone.session
    steps, zoom = session.undo_stack.count, bone.viewer.camera.zoom
    bone.click(*BONE[0])
    hover(bone, *BONE[120])
    assert np.linalg.norm(shown(bone)[-1] - BONE[120]) < 6, "it follows the mouse"
    double_click(bone, *BONE[-1])
    (item,) = session.proposal.objects
    assert dice(item.proposal.mask, stroke_mask(BONE, WIDTH, SIZE_HW)) > 0.88
    assert session.undo_stack.count == steps + 1
    assert session.undo_stack.next_undo.name == "trace"
    assert bone.viewer.camera.zoom == zoom, "napari does not zoom in on the double click"
    bone.press(Qt.Key.Key_U)
    bone.settle()
    assert not session.proposal.objects


def test_keys_end_a_trace_at_the_mouse_take_points_back_and_change_its_width(bone):
    from qtpy.QtCore import Qt

    bone.click(*BONE[0])
    bone.click(280, 180)
    bone.press(Qt.Key.Key_Backspace)
    for _ in range(4):
        bone.press(Qt.Key.Key_Up)
    hover(bone, *BONE[-1])
    bone.press(Qt.Key.Key_Return)
    bone.settle()
    (item,) = bone.session.proposal.objects
    assert dice(item.proposal.mask, stroke_mask(BONE, WIDTH + 4, SIZE_HW)) > 0.88
    assert bone.widget.correct.width.value() == WIDTH + 4, "the next one is as wide"
    assert not shown(bone).size
    names = {str(key) for key in bone.viewer.keymap}
    assert not {"Enter", "Escape", "Backspace", "Up", "Down"} & names, "they are napari's again"


@pytest.mark.parametrize("ended_by", ["Escape", "another tool", "another image"])
def test_a_trace_that_is_given_up_leaves_nothing(bone, ended_by):
    from qtpy.QtCore import Qt

    bone.click(*BONE[0])
    bone.click(*BONE[100])
    if ended_by == "another tool":
        bone.press(Qt.Key.Key_W)
    elif ended_by == "another image":
        bone.press(Qt.Key.Key_Period)
        bone.wait(lambda: bone.session.loaded is not None)
    else:
        bone.press(Qt.Key.Key_Escape)
    assert not shown(bone).size
    assert not bone.session.proposal.objects
    bone.press(Qt.Key.Key_Return)
    bone.settle()
    assert not bone.session.proposal.objects


def test_accepted_labels_are_traced_and_rubbed_out_along_a_line(bone):
    from qtpy.QtCore import Qt

    bone.press(Qt.Key.Key_E, Qt.KeyboardModifier.ShiftModifier)
    bone.click(*BONE[0])
    double_click(bone, *BONE[-1])
    drawn = bone.session.labels == 1
    assert dice(drawn, stroke_mask(BONE, WIDTH, SIZE_HW)) > 0.88
    bone.click(*BONE[0], shift=True)
    bone.click(*BONE[110], shift=True)
    bone.press(Qt.Key.Key_Return)
    bone.settle()
    assert 0.3 < (bone.session.labels == 1).sum() / drawn.sum() < 0.7


def test_a_dark_line_is_followed_where_alt_is_held_at_its_first_click(bone):
    from qtpy.QtCore import Qt

    loaded = bone.session.loaded
    loaded.pixels[:] = 255 - loaded.pixels
    bone.click(*BONE[0], alt=True)
    bone.click(*BONE[-1])
    bone.press(Qt.Key.Key_Return)
    bone.settle()
    (item,) = bone.session.proposal.objects
    assert dice(item.proposal.mask, stroke_mask(BONE, WIDTH, SIZE_HW)) > 0.85


def test_a_trace_of_one_point_says_what_is_missing(bone):
    double_click(bone, *BONE[0])
    assert not bone.session.proposal.objects
    assert "Click at one end" in bone.widget.status.text()


def test_a_trace_is_as_wide_as_those_accepted_and_lies_as_far_beside_the_line(bone):
    """The first band is drawn 4 pixels above the bone, and wider than it is."""
    from qtpy.QtCore import Qt

    session, above = bone.session, BONE - [0, 4]
    session.painting.stroke(above, 15)
    bone.press(Qt.Key.Key_G)
    bone.settle()
    bone.press(Qt.Key.Key_F2)
    bone.settle()
    assert session.record.path.name == "b.png"
    bone.wait(lambda: bone.widget.tools.width != WIDTH)
    assert abs(bone.widget.tools.width - 15) <= 1
    bone.click(*BONE[3])
    double_click(bone, *BONE[-4])
    (item,) = session.proposal.objects
    found = dice(item.proposal.mask, stroke_mask(above, 15, SIZE_HW))
    assert found > 0.92
    assert found > dice(item.proposal.mask, stroke_mask(BONE, 15, SIZE_HW)) + 0.1
