from __future__ import annotations

from pathlib import Path

import pytest

import napari_usgseg
from napari_usgseg.gui import preferences
from napari_usgseg.gui.canvas.tools import Tool
from napari_usgseg.gui.keys import key_of

pytestmark = pytest.mark.gui

MANIFEST = Path(napari_usgseg.__file__).parent / "napari.yaml"


@pytest.fixture
def in_preferences(own_preferences) -> object:
    """napari's preferences with ours in them, kept in a folder of the test."""
    if own_preferences is None:
        pytest.skip("this napari has no preferences for plugins")
    return own_preferences


def test_a_key_chosen_in_the_preferences_works_at_once_and_is_kept(
    in_preferences, employ, inference, phantom_folder, tmp_path
):
    from qtpy.QtCore import Qt

    in_preferences.shortcuts.box = "Shift-B"
    person = employ(inference)
    person.open(phantom_folder)
    box = person.widget.correct.tools[Tool.BOX]
    assert box.toolTip().endswith("[Shift+B]")
    person.press(Qt.Key.Key_B, Qt.KeyboardModifier.ShiftModifier)
    assert person.widget.tools.tool is Tool.BOX
    person.press(Qt.Key.Key_Q)
    in_preferences.shortcuts.box = "Shift-Y"
    assert box.toolTip().endswith("[Shift+Y]")
    assert key_of("box") == "Shift+Y"
    person.press(Qt.Key.Key_B, Qt.KeyboardModifier.ShiftModifier)
    assert person.widget.tools.tool is Tool.POINT, "the former key is free again"
    person.press(Qt.Key.Key_Y, Qt.KeyboardModifier.ShiftModifier)
    assert person.widget.tools.tool is Tool.BOX
    person.widget.shut_down()
    assert "box: Shift-Y" in (tmp_path / "napari-usgseg.yaml").read_text()
    assert not any("usgseg" in getattr(f, "__name__", "") for f in person.viewer.keymap.values())


def test_tooltips_follow_keys_that_change_places(in_preferences, employ, inference):
    person = employ(inference)
    previous, following = person.widget.images.previous, person.widget.images.next
    in_preferences.shortcuts.next = ","
    assert following.toolTip() == "Go to the image after.", "the key is still another's"
    in_preferences.shortcuts.previous = "."
    assert previous.toolTip() == "Go to the image before. [.]"
    assert following.toolTip() == "Go to the image after. [,]"
    in_preferences.shortcuts.accept_and_next = "Y"
    assert person.widget.accept.toolTip().endswith("[Y]")
    assert person.widget.overview.accept_marked.text() == "Accept marked  (Y)"
    in_preferences.shortcuts.accept_and_next = ""
    assert person.widget.overview.accept_marked.text() == "Accept marked"
    person.widget.shut_down()


def test_a_key_that_was_chosen_works_in_the_overview_too(
    in_preferences, employ, inference, phantom_folder
):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    person = employ(inference)
    person.open(phantom_folder)
    session, window = person.session, person.widget.overview
    first = session.record.image_id
    session.painting.box((20, 20), (60, 60))
    in_preferences.shortcuts.accept_and_next = "Control-Shift-Y"
    window.look()
    person.wait(window.isActiveWindow)
    window.grid.selectAll()
    QTest.keyClick(window.grid, Qt.Key.Key_G)
    held = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier
    assert session.state_of(first).name == "PROPOSED", "the former key is free again"
    QTest.keyClick(window.grid, Qt.Key.Key_Y, held)
    person.wait(lambda: session.state_of(first).name == "ACCEPTED")
    person.widget.shut_down()


def test_the_annotators_name_is_kept_in_the_preferences(
    in_preferences, employ, inference, phantom_folder, tmp_path
):
    first = employ(inference)
    first.open(phantom_folder)
    first.widget.opening.set_annotator("anna")
    first.wait(lambda: first.session.store.annotator == "anna")
    first.settle()
    first.widget.shut_down()
    assert "name: anna" in (tmp_path / "napari-usgseg.yaml").read_text()
    again = employ(inference)
    again.open(phantom_folder)
    assert again.session.store.annotator == "anna"
    assert again.widget.title.title.text().endswith(" - anna")
    again.widget.shut_down()


def test_without_preferences_every_key_is_that_of_the_table(monkeypatch):
    def absent(_: str) -> None:
        raise KeyError("no such plugin")

    monkeypatch.setattr("napari.settings.get_plugin_settings", absent, raising=False)
    preferences._section.cache_clear()
    assert preferences.keys() == {}
    assert preferences.annotator() == ""
    preferences.set_annotator("anna")
    assert key_of("accept and next") == "G"
    preferences._section.cache_clear()
