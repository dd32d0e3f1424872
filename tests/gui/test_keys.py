from __future__ import annotations

import pytest

from napari_usgseg.gui.keys import SHORTCUTS
from napari_usgseg.gui.tools import Tool

pytestmark = pytest.mark.gui


def test_no_key_and_no_name_is_used_twice():
    keys = [shortcut.key for shortcut in SHORTCUTS]
    names = [shortcut.name for shortcut in SHORTCUTS]
    assert len(set(keys)) == len(keys)
    assert len(set(names)) == len(names)


def test_no_shortcut_is_one_of_naparis_own():
    from app_model.types import KeyBinding
    from napari.layers import Image, Labels, Points, Shapes
    from napari.utils.shortcuts import default_shortcuts

    ours = {KeyBinding.from_str(shortcut.key.replace("-", "+")) for shortcut in SHORTCUTS}
    taken = {KeyBinding.from_str(str(key)) for keys in default_shortcuts.values() for key in keys}
    for kind in (Image, Labels, Points, Shapes):
        taken |= {key for key in kind.class_keymap if isinstance(key, KeyBinding)}
    assert not ours & taken


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
    assert at_work.session.record.image_id == first
    assert at_work.session.browser.committed == 0
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


def test_backtick_turns_the_sign_and_h_hides_the_overlays(at_work):
    from qtpy.QtCore import Qt

    at_work.press(Qt.Key.Key_QuoteLeft)
    assert not at_work.widget.tools.positive
    assert at_work.widget.correct.minus.isChecked()
    at_work.press(Qt.Key.Key_H)
    assert not at_work.layer("labels").visible
    assert at_work.layer("image").visible
    at_work.press(Qt.Key.Key_H)
    assert at_work.layer("labels").visible
