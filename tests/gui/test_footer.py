"""The primary button says what it will do; that an image is empty is a statement of its own."""

from __future__ import annotations

import numpy as np
import pytest

from napari_usgseg.gui.panels.images_panel import MARKS, progress_text
from napari_usgseg.io.labels import read_labels
from napari_usgseg.project.records import ImageState
from tests.support.hand import press_empty

pytestmark = pytest.mark.gui


def row_text(person, image_id: str) -> str:
    from qtpy.QtCore import Qt

    model = person.widget.images.model
    return model.data(model.row_of(image_id), Qt.ItemDataRole.DisplayRole)


def test_the_rhythm_of_g_stops_at_an_image_with_nothing_to_accept(at_work):
    from qtpy.QtCore import Qt

    session, widget = at_work.session, at_work.widget
    first = session.record.image_id
    at_work.widget.find_panel.phrase.setText("fetal head")
    at_work.widget.find_panel.find()
    at_work.settle()
    assert widget.accept.text() == "Nothing to accept yet"
    assert not widget.accept.isEnabled()
    for _ in range(3):
        at_work.press(Qt.Key.Key_G)
    at_work.settle()
    assert session.record.image_id == first
    assert session.image_queue.accepted_count == 0
    assert "mark the image as empty" in widget.status.text()


def test_one_key_states_that_an_image_is_empty_and_the_list_shows_it(at_work, phantom_folder):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    session, widget = at_work.session, at_work.widget
    first = press_empty(at_work)
    assert session.record.image_id != first
    assert session.state_of(first) is ImageState.EMPTY
    assert not read_labels(phantom_folder / "usgseg" / "labels" / f"{first}.png").any()
    assert row_text(at_work, first).startswith(MARKS[ImageState.EMPTY])
    assert row_text(at_work, first).endswith("empty")
    assert progress_text(session.image_queue).startswith("1 of 4 labelled, 1 of them empty")
    second = session.record.image_id
    QTest.mouseClick(widget.empty, Qt.MouseButton.LeftButton)
    at_work.wait(lambda: session.loaded is not None)
    at_work.settle()
    choice = widget.images.filter
    choice.setCurrentText("empty")
    choice.textActivated.emit("empty")
    model = widget.images.model
    shown = [model.image_id(model.index(n)) for n in range(model.rowCount())]
    assert shown == [first, second, session.record.image_id]
    at_work.press(Qt.Key.Key_U)
    at_work.wait(lambda: session.record.image_id == second and session.loaded is not None)
    at_work.settle()
    assert session.state_of(second) is ImageState.UNTOUCHED
    assert "Undid: mark empty" in widget.status.text()
    at_work.open(phantom_folder)
    assert session.state_of(first) is ImageState.EMPTY, "also in the next window"
    assert session.state_of(second) is ImageState.UNTOUCHED


def test_what_has_labels_is_not_empty_and_what_is_drawn_on_an_empty_image_makes_it_labelled(
    at_work, phantom_folder
):
    from qtpy.QtCore import Qt

    session, widget = at_work.session, at_work.widget
    labels = session.labels.copy()
    labels[20:60, 30:90] = 1
    session.editing.painted(labels)
    at_work.settle()
    first = session.record.image_id
    assert not widget.empty.isEnabled()
    assert press_empty(at_work) == session.record.image_id == first
    assert any("it is not empty" in text for _, text in at_work.notes)
    assert np.array_equal(session.labels, labels)
    at_work.press(Qt.Key.Key_G)
    at_work.wait(lambda: session.record.image_id != first and session.loaded is not None)
    at_work.settle()
    second = press_empty(at_work)
    at_work.press(Qt.Key.Key_Comma)
    at_work.wait(lambda: session.record.image_id == second and session.loaded is not None)
    at_work.settle()
    assert widget.accept.text().startswith("Keep")
    session.editing.painted(labels)
    at_work.settle()
    assert session.state_of(second) is ImageState.ACCEPTED
    at_work.open(phantom_folder)
    assert [session.state_of(name) for name in (first, second)] == [ImageState.ACCEPTED] * 2


def test_a_proposal_is_dropped_by_the_statement_and_comes_back_by_undo(at_work):
    from qtpy.QtCore import Qt

    session = at_work.session
    at_work.click(256, 190)
    at_work.wait(lambda: session.proposal.has_masks)
    at_work.settle()
    first = press_empty(at_work)
    assert session.state_of(first) is ImageState.EMPTY
    at_work.press(Qt.Key.Key_U)
    at_work.wait(lambda: session.record.image_id == first and session.loaded is not None)
    at_work.settle()
    assert session.proposal.has_masks
    assert session.state_of(first) is ImageState.PROPOSED


def test_an_undo_says_what_it_took_back_and_a_redo_what_it_did(at_work):
    from qtpy.QtCore import Qt

    at_work.press(Qt.Key.Key_W)
    at_work.drag((100, 90), (150, 120), (220, 200))
    at_work.wait(lambda: at_work.session.proposal.has_masks)
    at_work.settle()
    at_work.press(Qt.Key.Key_U)
    at_work.settle()
    assert at_work.widget.status.text().startswith("Undid: box")
    at_work.press(Qt.Key.Key_U, Qt.KeyboardModifier.ShiftModifier)
    at_work.settle()
    assert at_work.widget.status.text().startswith("Redid: box")


def test_no_hash_of_a_model_is_shown_to_a_person(at_work):
    import re

    at_work.widget.find_panel.phrase.setText("breast tumor")
    at_work.widget.find_panel.find()
    at_work.settle()
    model_id = at_work.session.proposal.model_id
    assert re.search(r"[0-9a-f]{8}", model_id)
    assert at_work.layer("proposal").metadata["model"] == model_id
    for text in (at_work.widget.status.text(), at_work.layer("proposal").name):
        assert not re.search(r"[0-9a-f]{8}", text), text
        assert "nano" in text
