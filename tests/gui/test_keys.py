from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import napari_usgseg
from napari_usgseg.gui import keys, preferences
from napari_usgseg.gui.canvas.tools import Tool
from napari_usgseg.gui.keys import SHORTCUTS, resolved, settable

pytestmark = pytest.mark.gui

MANIFEST = Path(napari_usgseg.__file__).parent / "napari.yaml"


def test_no_key_and_no_name_is_used_twice():
    names = [shortcut.name for shortcut in SHORTCUTS]
    assert len({preferences.parsed(shortcut.key) for shortcut in SHORTCUTS}) == len(SHORTCUTS)
    assert len(set(names)) == len(names)
    assert all(preferences.is_key(shortcut.key) for shortcut in SHORTCUTS)


def test_no_shortcut_is_one_of_naparis_own_on_the_viewer_or_any_layer(viewer):
    from napari import layers
    from napari.utils.shortcuts import default_shortcuts
    from napari.viewer import Viewer
    from qtpy.QtWidgets import QWidget

    taken = {str(key): name for name, found in default_shortcuts.items() for key in found}
    kinds = [Viewer, *(kind for kind in vars(layers).values() if isinstance(kind, type))]
    assert {layers.Image, layers.Labels, layers.Points, layers.Shapes} <= set(kinds)
    for kind in {parent for child in kinds for parent in child.__mro__}:
        taken |= {str(key): kind.__name__ for key in getattr(kind, "class_keymap", {})}
    for child in viewer.window._qt_window.findChildren(QWidget):
        for action in child.actions():
            taken |= {key.toString(): action.text() for key in action.shortcuts()}
    ours = {str(preferences.parsed(shortcut.key)): shortcut.name for shortcut in SHORTCUTS}
    assert {key: (ours[key], taken[key]) for key in ours.keys() & taken.keys()} == {}


def test_every_key_but_the_digits_of_the_classes_is_offered_in_the_preferences():
    parts = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))["contributions"]["configurations"]
    offered = parts["shortcuts"]["properties"]
    expected = {
        item.setting: {
            "type": "string",
            "title": item.name,
            "default": item.key,
            "description": item.help,
        }
        for item in SHORTCUTS
        if settable(item)
    }
    assert offered == expected
    fixed = [item.name for item in SHORTCUTS if not settable(item)]
    assert fixed == [f"class {digit}" for digit in range(1, 10)]


def test_a_key_that_is_chosen_twice_stays_with_the_first_and_a_word_is_said():
    chosen, problems = resolved((("point", "B"), ("box", "shift+g"), ("scribble", "Foo")))
    assert chosen["point"] == "B"
    assert chosen["accept"] == "Shift-G"
    assert chosen["box"] == ""
    assert chosen["scribble"] == "K"
    assert len(problems) == 2
    assert "'accept'" in problems[0]
    assert "'box'" in problems[0]
    assert "'Foo'" in problems[1]


def test_a_key_can_be_given_up_and_two_can_change_places():
    chosen, problems = resolved((("point", "W"), ("box", "Q"), ("accept", "")))
    assert (chosen["point"], chosen["box"], chosen["accept"]) == ("W", "Q", "")
    assert problems == ()


def test_keys_do_nothing_while_the_person_types(at_work):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    first = at_work.session.record.image_id
    field = at_work.widget.find_panel.phrase
    at_work.viewer.window._qt_window.activateWindow()
    field.setFocus()
    at_work.wait(field.hasFocus)
    QTest.keyClicks(field, "gnqw,.")
    assert field.text() == "gnqw,."
    at_work.press(Qt.Key.Key_G)  # as if the key event had gone on to the canvas
    at_work.press(Qt.Key.Key_H)
    assert at_work.session.record.image_id == first
    assert at_work.session.image_queue.accepted_count == 0
    assert not at_work.widget.display.is_bare
    field.clearFocus()


def test_keys_work_when_a_button_of_the_dock_has_the_focus(at_work):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    button = at_work.widget.correct.undo
    QTest.keyClick(button, Qt.Key.Key_W)
    assert at_work.widget.tools.tool is Tool.BOX


def test_keys_work_whichever_layer_is_active(at_work):
    from qtpy.QtCore import Qt

    for role, key, tool in (
        ("labels", Qt.Key.Key_Q, Tool.POINT),
        ("proposal", Qt.Key.Key_W, Tool.BOX),
        ("points", Qt.Key.Key_K, Tool.SCRIBBLE),
        ("shapes", Qt.Key.Key_Q, Tool.POINT),
    ):
        at_work.viewer.layers.selection.active = at_work.layer(role)
        at_work.press(key)
        assert at_work.widget.tools.tool is tool


def test_backtick_turns_the_sign(at_work):
    from qtpy.QtCore import Qt

    at_work.press(Qt.Key.Key_QuoteLeft)
    assert not at_work.widget.tools.positive
    assert at_work.widget.correct.minus.isChecked()


def test_while_h_is_held_the_image_is_seen_alone(at_work):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    native = at_work.viewer.window._qt_viewer.canvas.native
    overlays = [at_work.layer(role) for role in ("labels", "proposal", "points", "shapes")]
    overlays[2].visible = False  # the person's own choice stays
    QTest.keyPress(native, Qt.Key.Key_H)
    assert [layer.visible for layer in overlays] == [False] * 4
    assert at_work.layer("image").visible
    QTest.keyRelease(native, Qt.Key.Key_H)
    assert [layer.visible for layer in overlays] == [True, True, False, True]


def test_a_key_held_while_another_window_comes_forward_hides_nothing_for_good(at_work):
    from qtpy.QtCore import QEvent, Qt
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QApplication

    window = at_work.viewer.window._qt_window
    QTest.keyPress(at_work.viewer.window._qt_viewer.canvas.native, Qt.Key.Key_H)
    assert not at_work.layer("labels").visible
    QApplication.sendEvent(window, QEvent(QEvent.Type.WindowDeactivate))
    assert at_work.layer("labels").visible


@pytest.mark.parametrize("tool", [Tool.BOX, Tool.SCRIBBLE])
def test_one_key_accepts_saves_goes_on_and_leaves_tool_and_class_in_hand(at_work, tool):
    from qtpy.QtCore import Qt

    session = at_work.session
    session.editing.add_class("cyst")
    at_work.widget.tools.arm(tool)
    ids = [record.image_id for record in session.image_queue.records]
    at_work.drag((200, 150), (230, 170), (280, 220))
    at_work.wait(lambda: session.proposal.has_masks and not session.is_waiting)
    at_work.press(Qt.Key.Key_QuoteLeft)
    for following in ids[1:3]:  # with a proposal, and with nothing to label
        if session.proposal.has_masks:
            at_work.press(Qt.Key.Key_G)
        else:
            at_work.press(Qt.Key.Key_0)
        at_work.wait(lambda: session.loaded is not None and not session.is_waiting)
        at_work.settle()
        assert session.record.image_id == following
        assert at_work.widget.tools.tool is tool
        assert at_work.widget.tools.positive
        assert session.table.active == 2
        assert at_work.layer("labels").selected_label == 2
    assert session.image_queue.accepted_count == 2
    at_work.drag((200, 150), (230, 170), (280, 220))
    at_work.wait(lambda: session.proposal.has_masks)
    assert session.proposal.objects[0].class_id == 2
    assert keys.typing() is False
