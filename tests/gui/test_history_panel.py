from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_usgseg.gui.panels.history_panel import FIRST, HistoryModel
from napari_usgseg.project.records import ImageState, Step

pytestmark = pytest.mark.gui


@dataclass
class Notes:
    """Steps as a history lists them."""

    steps: tuple[Step, ...] = ()
    position: int = 0


def rows(model: HistoryModel) -> list[str]:
    return [model.data(model.index(row)) for row in range(model.rowCount())]


def pale(model: HistoryModel) -> list[bool]:
    from qtpy.QtCore import Qt

    role = Qt.ItemDataRole.ForegroundRole
    return [model.data(model.index(row), role) is not None for row in range(model.rowCount())]


@given(st.lists(st.tuples(st.sampled_from(["do", "undo", "redo", "forget"]), st.integers(0, 9))))
def test_the_list_is_the_history_whatever_happened_between_two_looks(qapp, actions):
    model, past, number = HistoryModel(), Notes(), 0
    model.show(past.steps, past.position)
    for action, count in actions:
        if action == "do":
            number += 1
            done = past.steps[: past.position]
            past = Notes((*done, Step(number, "click", f"image {number}")), past.position + 1)
        elif action == "forget":
            kept = tuple(step for step in past.steps if step.number % 3)
            past = Notes(kept, min(past.position, len(kept)))
        else:
            to = past.position + (count if action == "redo" else -count)
            past = Notes(past.steps, min(max(to, 0), len(past.steps)))
        if count % 2:
            model.show(past.steps, past.position)
    model.show(past.steps, past.position)
    assert rows(model) == [FIRST, *(f"click   {step.image_id}" for step in past.steps)]
    assert pale(model) == [row > past.position for row in range(1 + len(past.steps))]


def test_a_new_step_is_added_without_making_the_list_anew(qapp):
    model = HistoryModel()
    steps = tuple(Step(n, "accept", str(n)) for n in range(1, 5001))
    model.show(steps[:-1], 4999)
    resets, changed = [], []
    model.modelReset.connect(lambda: resets.append(1))
    model.dataChanged.connect(lambda a, b, *_: changed.append(b.row() - a.row() + 1))
    model.show(steps, 5000)
    assert model.rowCount() == 5001
    assert not resets
    assert sum(changed) <= 2


def test_a_click_on_a_step_goes_there_and_forth_again_across_images(at_work):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    session, panel = at_work.session, at_work.widget.history
    first, second = (record.image_id for record in session.image_queue.records[:2])
    at_work.widget.folds.set_open("History")
    at_work.settle()
    start = session.undo_stack.position
    painted = session.labels.copy()
    painted[40:90, 50:120] = 1
    session.editing.painted(painted)
    session.editing.add_class("cyst")
    session.navigation.step(1)
    at_work.wait(lambda: session.loaded is not None)
    session.navigation.mark_empty()
    at_work.wait(lambda: session.loaded is not None)
    at_work.settle()
    names = rows(panel.model)[1 + start :]
    assert names == [f"paint   {first}", "add class", f"mark empty   {second}"]

    def click(row: int) -> None:
        index = panel.model.index(row)
        panel.list.scrollTo(index)
        centre = panel.list.visualRect(index).center()
        QTest.mouseClick(
            panel.list.viewport(), Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, centre
        )

    click(start)
    at_work.wait(lambda: session.undo_stack.position == start)
    at_work.settle()
    assert session.record.image_id == first
    assert not session.labels.any()
    assert len(session.table.classes) == 1
    assert session.image_queue.accepted_count == 0
    assert pale(panel.model)[-3:] == [True] * 3
    click(start + 3)
    at_work.wait(lambda: session.undo_stack.position == start + 3)
    at_work.settle()
    assert session.image_queue.accepted_count == 1
    assert session.state_of(first) is ImageState.PROPOSED, "what was painted is not accepted"
    assert len(session.table.classes) == 2
    assert panel.list.currentIndex().row() == start + 3
    assert pale(panel.model)[-3:] == [False] * 3
