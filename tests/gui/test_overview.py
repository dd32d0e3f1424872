"""Looking over what is done: a grid with contours, filtered, marked and accepted by hand."""

from __future__ import annotations

import pytest
from qtpy.QtCore import Qt
from qtpy.QtGui import QHideEvent
from qtpy.QtTest import QTest

from napari_usgseg.gui.panels.overview import HEIGHT, WIDTH
from napari_usgseg.project.records import ImageState

pytestmark = pytest.mark.gui
CONTROL = Qt.KeyboardModifier.ControlModifier


@pytest.fixture
def looking(at_work):
    """A person with proposals on the first two of four images, who looks at all of them."""
    session, window = at_work.session, at_work.widget.overview
    for record in session.image_queue.records[:2]:
        session.navigation.open_image(record.image_id)
        at_work.wait(lambda: session.loaded is not None)
        at_work.settle()
        session.prompting.clear_prompts()
        session.prompting.add_box((80, 80), (180, 160))
        at_work.wait(lambda: session.proposal.has_masks and not session.is_waiting)
        at_work.settle()
    at_work.press(Qt.Key.Key_Apostrophe)
    at_work.wait(window.isVisible)
    ids = [record.image_id for record in session.image_queue.records]
    at_work.wait(lambda: all(session.overview.get(name) is not None for name in ids))
    return at_work


def shown(window) -> list[str]:
    return [window.model.image_id(n) for n in range(window.model.rowCount())]


def click(window, row: int, held=Qt.KeyboardModifier.NoModifier) -> None:
    """Click on an image of the grid."""
    at = window.grid.visualRect(window.model.index(row)).center()
    QTest.mouseClick(window.grid.viewport(), Qt.MouseButton.LeftButton, held, at)


def choose(person, combo, text: str) -> None:
    """Choose an entry of a box as by its list."""
    combo.setFocus()
    combo.showPopup()
    view = combo.view()
    index = combo.model().index(combo.findText(text), 0)
    view.setCurrentIndex(index)
    QTest.keyClick(view, Qt.Key.Key_Return)
    person.wait(lambda: combo.currentText() == text)


def test_marked_images_are_accepted_by_a_key_and_taken_back_by_another(looking):
    session, window = looking.session, looking.widget.overview
    first, second, third, _ = [record.image_id for record in session.image_queue.records]
    assert shown(window)[:3] == [first, second, third]
    cell = window.grid.visualRect(window.model.index(0))
    assert (cell.width() > WIDTH, cell.height() > HEIGHT) == (True, True), "picture and name fit"
    looking.wait(lambda: window.model.data(window.model.index(0), 1) is not None)
    before = session.undo_stack.count
    click(window, 0)
    click(window, 1, CONTROL)
    click(window, 2, CONTROL)
    assert window.marked == [first, second, third]
    assert window.count.text().startswith("4 of 4 shown, 3 marked")
    QTest.keyClick(window.grid, Qt.Key.Key_G)
    looking.wait(lambda: session.state_of(first) is ImageState.ACCEPTED)
    assert session.state_of(second) is ImageState.ACCEPTED
    assert session.state_of(third) is not ImageState.ACCEPTED, "nothing is on it"
    assert session.undo_stack.count == before + 1
    looking.settle()
    assert looking.layer("labels").data.any(), "the shown one is drawn"
    QTest.keyClick(window.grid, Qt.Key.Key_U)
    looking.wait(lambda: session.state_of(first) is ImageState.PROPOSED)
    assert session.state_of(second) is ImageState.PROPOSED
    QTest.mouseClick(window.accept_marked, Qt.MouseButton.LeftButton)
    looking.wait(lambda: session.state_of(second) is ImageState.ACCEPTED)


def test_filters_and_a_key_that_opens_the_marked_image(looking):
    session, window = looking.session, looking.widget.overview
    first, second, third, fourth = [r.image_id for r in session.image_queue.records]
    assert session.record.image_id == second
    choose(looking, window.states, "proposed")
    assert shown(window) == [first, second]
    choose(looking, window.states, "all")
    choose(looking, window.empty, "nothing on it")
    assert shown(window) == [third, fourth]
    choose(looking, window.empty, "something on it")
    choose(looking, window.classes, session.table.classes[0].name)
    assert shown(window) == [first, second]
    score = min(session.overview.get(name).score for name in (first, second))
    window.score.setFocus()
    window.score.selectAll()
    QTest.keyClicks(window.score, f"{score - 0.02:.2f}")
    QTest.keyClick(window.score, Qt.Key.Key_Tab)
    assert shown(window) == []
    window.score.stepUp()
    window.score.stepUp()
    assert shown(window)
    window.score.setValue(window.score.minimum())
    assert window.score.text() == "any score"
    assert shown(window) == [first, second]
    click(window, 0)
    QTest.keyClick(window.grid, Qt.Key.Key_Return)
    looking.wait(lambda: session.record.image_id == first and session.loaded is not None)
    assert not window.isVisible(), "the image is what is looked at now"
    looking.settle()
    assert session.overview.left == 0
    QTest.mouseClick(looking.widget.images.look_over, Qt.MouseButton.LeftButton)
    looking.wait(window.isVisible)


def test_marks_stay_through_another_filter_and_neighbours_are_one_range(looking):
    session, window = looking.session, looking.widget.overview
    first, second, _, fourth = [r.image_id for r in session.image_queue.records]
    click(window, 0)
    click(window, 1, CONTROL)
    click(window, 3, CONTROL)
    choose(looking, window.states, "proposed")
    assert window.marked == [first, second]
    rows = window.model.rows_of([second, fourth, first])
    assert [(part.top(), part.bottom()) for part in rows] == [(0, 1)]
    assert "2 marked" in window.count.text()


class MadeSmall(QHideEvent):
    """What a window gets when the desktop makes it small."""

    def spontaneous(self) -> bool:
        return True


def test_a_window_that_was_made_small_goes_on_reading(looking):
    session, window = looking.session, looking.widget.overview
    first = session.image_queue.records[0].image_id
    window.hideEvent(MadeSmall())
    click(window, 0)
    QTest.keyClick(window.grid, Qt.Key.Key_G)
    looking.wait(lambda: session.state_of(first) is ImageState.ACCEPTED)
    looking.wait(lambda: session.overview.get(first) is not None)
    assert session.overview.get(first).score is None
