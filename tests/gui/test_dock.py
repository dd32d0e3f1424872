"""The dock as a hand meets it: nothing moves under the mouse, and keys go where they should."""

from __future__ import annotations

import pytest

from napari_usgseg.gui.canvas.tools import Tool
from napari_usgseg.gui.widget import WIDTH

pytestmark = pytest.mark.gui

LONG = "The folder cannot be written, for reasons that take long to tell. " * 8


def places(person):
    """Where every control of the dock is that can be seen, in pixels of the dock."""
    from qtpy.QtCore import QPoint
    from qtpy.QtWidgets import QAbstractButton, QComboBox, QLineEdit, QListView

    dock, found = person.widget, {}
    person.qtbot.wait(60)
    for kind in (QAbstractButton, QComboBox, QLineEdit, QListView):
        for child in dock.findChildren(kind):
            if child.isVisible():
                found[child] = (child.mapTo(dock, QPoint(0, 0)), child.size())
    assert len(found) > 20
    return found


def with_font(person, size):
    """Napari's font in points; give back the former size."""
    from napari.settings import get_settings

    appearance = get_settings().appearance
    before, appearance.font_size = appearance.font_size, size
    person.qtbot.wait(300)
    return before


def click(control):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    QTest.mouseClick(control, Qt.MouseButton.LeftButton)


def type_where_the_focus_is(person, key):
    """Press a key as the window system does: to who has the focus, or else to the window."""
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QApplication

    QTest.keyClick(QApplication.focusWidget() or person.viewer.window._qt_window, key)


def test_the_dock_opens_narrow_and_leaves_the_rest_to_the_image(at_work):
    assert at_work.widget.width() <= WIDTH + 10
    canvas = at_work.viewer.window._qt_viewer.canvas.native
    assert canvas.width() > at_work.widget.width()


def test_no_text_however_long_moves_a_control(at_work):
    session = at_work.session
    before = places(at_work)
    session.say("Short.")
    assert places(at_work) == before
    session.say(LONG)
    assert places(at_work) == before
    session.fail(LONG)
    now = places(at_work)
    assert {control: now[control] for control in before} == before
    label = at_work.widget.status.label
    assert label.toolTip() == LONG
    assert label.text() == LONG
    session.failures.clear()


def test_an_offer_to_train_moves_no_control(at_work, truth):
    from dataclasses import replace

    session = at_work.session
    session.set_settings(replace(session.settings, train_after=3))
    before = places(at_work)
    for _ in range(3):
        labels = session.labels.copy()
        labels[truth(session.record.image_id) == 1] = 1
        session.editing.painted(labels)
        session.editing.accept_and_next()
        at_work.wait(lambda: session.loaded is not None)
        at_work.settle()
    at_work.wait(at_work.widget.assist.offer_line.isVisible)
    now = places(at_work)
    assert set(before) - set(now) == {at_work.widget.assist.propose}, "whose place the offer takes"
    assert {control: place for control, place in now.items() if control in before} == {
        control: place for control, place in before.items() if control in now
    }


@pytest.mark.parametrize("size", [12, 16])
def test_a_large_font_has_a_scroll_bar_and_cuts_nothing(at_work, size):
    from qtpy.QtWidgets import QLineEdit, QPushButton

    widget, window = at_work.widget, at_work.viewer.window._qt_window
    before = with_font(at_work, size)
    try:
        window.resize(1280, 720)
        at_work.qtbot.wait(300)
        height = window.height()
        assert height <= 760, "of which napari's own docks need more than ours"
        for name in (*widget.folds.names, ""):
            widget.folds.set_open(name) if name else widget.folds.close_all()
            at_work.qtbot.wait(50)
            assert window.height() == height, name
            bar = widget.scrolled.verticalScrollBar()
            assert bar.maximum() > 0
            assert bar.isVisible()
            for always in (widget.accept, widget.empty, widget.folds, widget.status.label):
                below = always.mapTo(widget, always.rect().bottomLeft()).y()
                assert below < widget.height()
            for control in widget.findChildren(QPushButton):
                if control.isVisible():
                    room = control.fontMetrics()
                    assert control.width() >= room.horizontalAdvance(control.text())
                    assert control.height() >= room.height(), control.text()
            for field in (*widget.findChildren(QLineEdit), widget.title.open):
                assert field.font().pointSize() == size, "napari's own style leaves them small"
        objects = widget.classes.objects.list
        at_work.session.prompting.add_box((80, 80), (180, 160))
        at_work.session.prompting.add_box((200, 80), (300, 160))
        at_work.wait(lambda: objects.count() == 2)
        at_work.settle()
        for chips in (objects, widget.classes.list):
            chip = chips.visualItemRect(chips.item(0))
            assert chips.viewport().rect().contains(chip), "not cut by the bar that scrolls them"
    finally:
        with_font(at_work, before)


def test_what_is_unfolded_is_scrolled_into_sight_and_its_name_stays_under_the_mouse(at_work):
    widget, window = at_work.widget, at_work.viewer.window._qt_window
    window.resize(1280, 720)
    at_work.wait(lambda: window.height() == 720)
    bar = {name: places(at_work)[made] for name, made in widget.folds._buttons.items()}
    for name, made in widget.folds._buttons.items():
        click(made)
        now = places(at_work)
        assert {other: now[button] for other, button in widget.folds._buttons.items()} == bar
        assert widget.folds.open_one == name
        assert not widget.folds.contents.visibleRegion().isEmpty(), name
    assert widget.find_panel.isVisibleTo(widget)


def test_the_fold_that_was_open_is_open_in_the_next_window(at_work, inference, qtbot):
    from napari_usgseg.gui.widget import UltrasoundWidget

    click(at_work.widget.folds._buttons["View"])
    again = UltrasoundWidget(at_work.viewer, inference)
    qtbot.addWidget(again)
    assert again.folds.open_one == "View"
    again.shut_down()


def test_what_the_keyboard_is_at_is_seen(at_work):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QApplication

    at_work.viewer.window._qt_window.activateWindow()
    at_work.widget.correct.tools[Tool.BOX].setFocus(Qt.FocusReason.TabFocusReason)
    at_work.wait(at_work.widget.correct.tools[Tool.BOX].hasFocus)
    seen = []
    for _ in range(8):
        control = QApplication.focusWidget()
        shown = control.grab().toImage()
        colours = {shown.pixelColor(x, 0).name() for x in range(4, shown.width() - 4)}
        seen.append("#1f8fd6" in colours)
        QTest.keyClick(control, Qt.Key.Key_Tab)
    assert all(seen), seen


def test_a_button_that_greys_itself_out_leaves_the_keys_to_the_image(at_work):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QApplication

    correct, session = at_work.widget.correct, at_work.session
    at_work.viewer.window._qt_window.activateWindow()
    for by_keyboard in (False, True):
        at_work.click(256, 190)
        at_work.wait(lambda: session.proposal.has_masks)
        at_work.settle()
        if by_keyboard:
            correct.clear.setFocus(Qt.FocusReason.TabFocusReason)
            at_work.wait(correct.clear.hasFocus)
            QTest.keyClick(correct.clear, Qt.Key.Key_Space)
        else:
            click(correct.clear)
        at_work.settle()
        assert not correct.clear.isEnabled()
        assert not at_work.widget.classes.name.hasFocus()
        at_work.widget.tools.arm(Tool.POINT)
        type_where_the_focus_is(at_work, Qt.Key.Key_W)
        assert at_work.widget.tools.tool is Tool.BOX
        at_work.widget.tools.arm(Tool.POINT)
        assert QApplication.focusWidget() is not at_work.widget.classes.name


def test_keys_work_after_a_drop_down_a_list_and_a_box_of_numbers_were_used(at_work):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QApplication

    widget = at_work.widget
    at_work.viewer.window._qt_window.activateWindow()
    choice = widget.images.filter
    choice.setFocus()
    at_work.wait(choice.hasFocus)
    choice.showPopup()
    view = choice.view()
    at = view.visualRect(choice.model().index(choice.findText("untouched"), 0)).center()
    QTest.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, pos=at)
    at_work.settle()
    assert choice.currentText() == "untouched"
    type_where_the_focus_is(at_work, Qt.Key.Key_W)
    assert widget.tools.tool is Tool.BOX
    assert choice.currentText() == "untouched", "the letter chose no row"
    widget.images.list.setFocus()
    type_where_the_focus_is(at_work, Qt.Key.Key_K)
    assert widget.tools.tool is Tool.SCRIBBLE
    widget.folds.set_open("Cleaning")
    number = widget.cleaning.steps.controls["min_area"].native
    number.setFocus()
    at_work.wait(number.hasFocus)
    number.selectAll()
    QTest.keyClicks(number, "25")
    QTest.keyClick(number, Qt.Key.Key_Return)
    at_work.wait(lambda: not number.hasFocus())
    assert at_work.session.settings.cleaning.min_area == 25
    type_where_the_focus_is(at_work, Qt.Key.Key_Q)
    assert widget.tools.tool is Tool.POINT
    assert QApplication.focusWidget() is not number


def test_pressing_the_button_of_the_armed_tool_keeps_it_armed(at_work):
    tools, buttons = at_work.widget.tools, at_work.widget.correct.tools
    for tool in (Tool.BOX, Tool.LASSO):
        for _ in range(2):
            click(buttons[tool])
            assert tools.tool is tool
            assert buttons[tool].isChecked()
