"""The strip of a loop in a real window: under the picture, by mouse and by key, and in motion."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from napari_usgseg.core.metrics import dice
from napari_usgseg.gui.canvas.drawing import ONION
from napari_usgseg.gui.panels.strip import COLORS, KEYFRAME, UNASKED
from napari_usgseg.project.exchange import import_labels
from napari_usgseg.project.project import Project
from napari_usgseg.project.records import ImageState
from tests.support.cine import lesion, write_loop

pytestmark = pytest.mark.gui

FRAMES = 12


@pytest.fixture
def at_loop(person, tmp_path):
    """A person with a loop of twelve frames open."""
    write_loop(tmp_path / "loops", "heart.tif", FRAMES)
    person.open(tmp_path / "loops")
    return person


def mouse(person, kind, frame, shift=False):
    from qtpy.QtCore import QEvent, QPointF, Qt
    from qtpy.QtGui import QMouseEvent
    from qtpy.QtWidgets import QApplication

    bar = person.widget.strip.bar
    at = QPointF(bar.place_of(frame).center())
    left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
    names = {
        "press": (QEvent.Type.MouseButtonPress, left, left),
        "move": (QEvent.Type.MouseMove, none, left),
        "release": (QEvent.Type.MouseButtonRelease, left, none),
    }
    held = Qt.KeyboardModifier.ShiftModifier if shift else Qt.KeyboardModifier.NoModifier
    event_type, button, buttons = names[kind]
    global_at = QPointF(bar.mapToGlobal(at.toPoint()))
    QApplication.sendEvent(bar, QMouseEvent(event_type, at, global_at, button, buttons, held))


def shows(person, loop, frame) -> bool:
    return np.array_equal(person.layer("image").data, loop.frames[frame])


def test_a_loop_is_one_row_and_has_a_strip_and_a_still_has_none(person, phantom_folder):
    write_loop(phantom_folder, "zz.tif", FRAMES)
    person.open(phantom_folder)
    model, strip = person.widget.images.model, person.widget.strip
    assert not strip.isVisible()
    assert model.rowCount() == 5
    assert model.data(model.index(4)) == f"○  zz.tif   {FRAMES} frames"
    person.widget.images.list.clicked.emit(model.index(4))
    person.settle()
    assert person.session.record.image_id == "zz_0000"
    assert strip.isVisible()
    canvas = person.viewer.window._qt_viewer.canvas.native
    window = person.viewer.window._qt_window
    below = strip.mapTo(window, strip.rect().topLeft()).y()
    assert below >= canvas.mapTo(window, canvas.rect().bottomLeft()).y(), "under the picture"
    assert strip.where.text() == f"frame 1 of {FRAMES}"
    person.session.navigation.mark_empty()
    person.settle()
    assert model.data(model.index(4)) == f"◐  zz.tif   {FRAMES} frames: 1 empty"
    person.session.navigation.open_image(person.session.image_queue.records[0].image_id)
    person.settle()
    assert not strip.isVisible()


def test_a_click_opens_a_frame_and_a_drag_shows_those_that_it_passes(at_loop, tmp_path):
    loop = write_loop(tmp_path / "again", count=FRAMES)
    session, bar = at_loop.session, at_loop.widget.strip.bar
    mouse(at_loop, "press", 4)
    mouse(at_loop, "release", 4)
    at_loop.settle()
    assert session.record.image_id == "heart_0004"
    assert shows(at_loop, loop, 4)
    mouse(at_loop, "press", 4)
    mouse(at_loop, "move", 7)
    at_loop.wait(lambda: shows(at_loop, loop, 7))
    assert session.record.image_id == "heart_0004", "it is looked at in passing"
    assert not at_loop.layer("labels").visible
    mouse(at_loop, "release", 8)
    at_loop.wait(lambda: session.record.image_id == "heart_0008" and session.loaded is not None)
    at_loop.settle()
    assert shows(at_loop, loop, 8)
    assert at_loop.layer("labels").visible
    mouse(at_loop, "press", 2, shift=True)
    mouse(at_loop, "move", 5, shift=True)
    mouse(at_loop, "release", 5, shift=True)
    assert bar.marks == range(2, 6)
    assert session.loops.here == 8, "marking goes nowhere"
    mouse(at_loop, "press", 3)
    mouse(at_loop, "release", 3)
    assert not bar.marks


def test_the_contours_of_a_frame_in_passing_are_its_own(at_loop):
    session = at_loop.session
    drawn = session.labels.copy()
    drawn[20:40, 30:60] = 1
    session.editing.painted(drawn)
    session.editing.accept()
    session.loops.go(5)
    at_loop.settle()
    assert not at_loop.layer("proposal").data.any()
    mouse(at_loop, "press", 5)
    mouse(at_loop, "move", 0)
    at_loop.wait(lambda: session.loops.here == 0)
    at_loop.settle()
    assert at_loop.layer("proposal").data.any()
    mouse(at_loop, "move", 1)
    at_loop.wait(lambda: session.loops.here == 1)
    at_loop.settle()
    assert not at_loop.layer("proposal").data.any()
    session.flush()
    at_loop.settle()
    assert session.loops.here == 1
    assert not session.labels.any(), "what was looked at in passing is not taken for painted"


def test_onion_skin_is_what_is_on_the_frame_before_in_grey(at_loop):
    session = at_loop.session
    drawn = session.labels.copy()
    drawn[20:40, 30:60] = 1
    session.editing.painted(drawn)
    session.editing.accept_and_next()
    at_loop.wait(lambda: session.loops.here == 1 and session.loaded is not None)
    at_loop.settle()
    layer = at_loop.layer("proposal")
    assert not layer.data.any()
    at_loop.widget.display.set_view(replace(session.settings.view, onion_skin=True))
    at_loop.wait(lambda: layer.data.any())
    assert set(np.unique(layer.data)) == {0, ONION}
    assert np.allclose(layer.get_color(ONION)[:3], 0.6)
    session.loops.go(3)
    at_loop.settle()
    at_loop.wait(lambda: not layer.data.any())


def test_each_state_has_its_colour_and_keyframes_stand_out(at_loop):
    session, bar = at_loop.session, at_loop.widget.strip.bar
    session.loops.go(3)
    at_loop.settle()
    session.navigation.mark_empty()
    at_loop.settle()
    session.navigation.skip()
    at_loop.settle()
    colors = [bar.color_of(frame) for frame in range(FRAMES)]
    expected = {3: COLORS[ImageState.EMPTY], 4: COLORS[ImageState.SKIPPED]}
    assert colors == [expected.get(n, COLORS[ImageState.UNTOUCHED]) for n in range(FRAMES)]
    picture = bar.grab().toImage()
    ratio = picture.width() / bar.width()

    def pixel(frame, y):
        return picture.pixelColor(int(bar.place_of(frame).center().x() * ratio), int(y * ratio))

    assert pixel(3, KEYFRAME / 2).name() == COLORS[ImageState.EMPTY]
    assert pixel(7, KEYFRAME / 2).name() != COLORS[ImageState.UNTOUCHED]
    assert pixel(7, KEYFRAME + 8).name() == COLORS[ImageState.UNTOUCHED]


def test_it_plays_at_its_own_rate_leaves_frames_out_and_stops_where_it_is(at_loop, monkeypatch):
    from qtpy.QtCore import Qt

    from napari_usgseg.gui.panels import strip as module

    session, strip, now = at_loop.session, at_loop.widget.strip, [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    seen: list[int] = []
    session.loops.peeked_at.connect(lambda: seen.append(session.loops.here))
    at_loop.press(Qt.Key.Key_Backslash)
    assert strip.play.text() == "Stop"
    at_loop.wait(lambda: session.loops.here == 1)
    now[0] += 5.5 / session.loops.rate
    at_loop.wait(lambda: session.loops.here == 6)
    now[0] += 9 / session.loops.rate
    at_loop.wait(lambda: session.loops.here == 3)  # over and over
    assert set(seen) == {1, 6, 3}, "those that no time was for are left out"
    assert session.record.image_id == "heart_0000"
    at_loop.press(Qt.Key.Key_Backslash)
    assert strip.play.text() == "Play"
    at_loop.settle()
    assert session.loops.peeked is None
    assert session.record.image_id == "heart_0003"
    count = len(seen)
    at_loop.qtbot.wait(150)
    assert len(seen) == count


def test_it_plays_after_something_was_painted_that_is_handed_in_only_then(at_loop, monkeypatch):
    from qtpy.QtCore import Qt

    from napari_usgseg.gui.panels import strip as module

    session, strip, now = at_loop.session, at_loop.widget.strip, [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    layer = at_loop.layer("labels")
    layer.data[20:40, 30:60] = 1  # as under a brush that is not lifted yet
    at_loop.press(Qt.Key.Key_Backslash)
    assert strip.play.text() == "Stop"
    assert session.state_of("heart_0000") is ImageState.PROPOSED
    for frame in (1, 4, 7):
        at_loop.wait(lambda frame=frame: session.loops.here == frame)
        now[0] += 3.01 / session.loops.rate
    assert strip.play.text() == "Stop"
    at_loop.press(Qt.Key.Key_Backslash)
    at_loop.settle()


def test_a_click_into_a_moving_picture_stops_it_and_prompts_nothing(at_loop):
    from qtpy.QtCore import Qt

    session = at_loop.session
    at_loop.press(Qt.Key.Key_Backslash)
    at_loop.wait(lambda: session.loops.peeked is not None)
    at_loop.click(60, 40)
    at_loop.settle()
    assert not session.loops.peeks
    assert at_loop.widget.strip.play.text() == "Play"
    assert not session.proposal.objects
    assert session.undo_stack.count == 0


def test_keys_go_from_keyframe_to_keyframe(at_loop):
    from qtpy.QtCore import Qt

    session = at_loop.session
    for frame in (2, 9):
        session.loops.go(frame)
        at_loop.settle()
        session.navigation.mark_empty()
        at_loop.settle()
    at_loop.press(Qt.Key.Key_PageUp)
    at_loop.settle()
    assert session.loops.here == 9
    at_loop.press(Qt.Key.Key_PageUp)
    at_loop.settle()
    assert session.loops.here == 2
    at_loop.press(Qt.Key.Key_PageDown)
    at_loop.settle()
    assert session.loops.here == 9


def test_the_strip_leaves_with_the_dock_and_comes_back_after_it_was_closed(at_loop, tmp_path):
    strip = at_loop.widget.strip
    at_loop.viewer.window.remove_dock_widget(strip)
    at_loop.session.navigation.step(1)
    at_loop.settle()
    assert not strip.isVisible(), "who has closed it does not want it for this loop"
    write_loop(tmp_path / "other", "b.tif", 3)
    at_loop.open(tmp_path / "other")
    assert strip.isVisible()
    at_loop.widget.shut_down()
    assert not strip.isVisible()


def propose_the_lesion(person, loop, frame) -> None:
    """Go to a frame and outline the lesion with the lasso, taken as it is drawn."""
    from skimage.measure import find_contours

    session = person.session
    session.loops.go(frame)
    person.settle()
    outline = max(find_contours(np.pad(lesion(loop, frame), 1), 0.5), key=len)[:, ::-1] - 1
    session.prompting.draw_lasso(outline.astype(np.float32))
    person.settle()


def finished(person) -> None:
    session = person.session
    person.wait(lambda: not session.runs.is_running)
    person.settle()
    person.wait(lambda: not session.outbox.of(session.store))


def proposed(session, frame):
    store = session.store
    return [
        item.proposal.mask
        for item in store.read_proposal(f"heart_{frame:04d}").objects
        if item.has_mask
    ]


def test_a_number_beside_the_button_says_how_many_frames_are_gone_to(at_loop, tmp_path):
    session, strip = at_loop.session, at_loop.widget.strip
    loop = write_loop(tmp_path / "truth", count=FRAMES)
    propose_the_lesion(at_loop, loop, 4)
    assert strip.reach.text() == "all frames"
    strip.reach.setValue(3)
    strip.direction.setCurrentText("forward")
    strip.propagate.click()
    finished(at_loop)
    assert [n for n in range(FRAMES) if proposed(session, n)] == [4, 5, 6, 7]
    strip.direction.setCurrentText("both ways")
    strip.propagate.click()
    finished(at_loop)
    assert [n for n in range(FRAMES) if proposed(session, n)] == list(range(1, 8))


def test_a_phrase_is_found_on_the_marked_frames_in_the_background(at_loop):
    session, strip = at_loop.session, at_loop.widget.strip
    session.set_settings(replace(session.settings, phrase="breast tumor"))
    for kind, frame in (("press", 2), ("move", 5), ("release", 5)):
        mouse(at_loop, kind, frame, shift=True)
    strip.find.click()
    assert session.runs.is_running
    assert strip.propagate.text() == "Stop"
    assert not strip.find.isEnabled()
    finished(at_loop)
    assert strip.find.isEnabled()
    some = [n for n in range(FRAMES) if proposed(session, n)]
    assert some, session.status.text
    assert set(some) <= {2, 3, 4, 5}
    assert all(strip.bar.color_of(n) == UNASKED for n in some)
    assert session.undo_stack.next_undo.name == "find on frames"


def test_prompt_propagate_correct_undo_accept_all_export_import(at_loop, tmp_path):
    """The whole way of a loop, in a real window with the real worker process."""
    from qtpy.QtCore import Qt

    session, strip = at_loop.session, at_loop.widget.strip
    loop = write_loop(tmp_path / "truth", count=FRAMES)
    propose_the_lesion(at_loop, loop, 0)
    at_loop.press(Qt.Key.Key_L, Qt.KeyboardModifier.ControlModifier)
    finished(at_loop)
    assert [strip.bar.color_of(frame) for frame in range(FRAMES)] == [
        COLORS[ImageState.PROPOSED],
        *[UNASKED] * (FRAMES - 1),
    ]
    first = [dice(proposed(session, n)[0], lesion(loop, n)) for n in range(1, FRAMES)]
    assert min(first) > 0.8, first
    # a correction in the middle, where a person sees it
    session.loops.go(6)
    at_loop.settle()
    assert at_loop.layer("proposal").data.any()
    before = {n: proposed(session, n)[0] for n in range(1, FRAMES)}
    rows, columns = np.nonzero(before[6])
    at_loop.click(float(columns[rows == rows.min()].mean()), float(rows.min()) - 6)
    at_loop.settle()
    at_loop.wait(lambda: session.loops.is_keyframe(6))
    corrected = proposed(session, 6)[0]
    assert (corrected != before[6]).any()
    strip.propagate.click()
    finished(at_loop)
    np.testing.assert_array_equal(proposed(session, 6)[0], corrected)
    assert any((proposed(session, n)[0] != before[n]).any() for n in (5, 7))
    assert session.undo_stack.next_undo.name == "propagate"
    # and the run is taken back in one step
    at_loop.press(Qt.Key.Key_U)
    at_loop.settle()
    for n in (1, 3, 5, 7, 9):
        np.testing.assert_array_equal(proposed(session, n)[0], before[n])
    np.testing.assert_array_equal(proposed(session, 6)[0], corrected)
    at_loop.press(Qt.Key.Key_U, Qt.KeyboardModifier.ShiftModifier)
    at_loop.settle()
    assert strip.accept.text() == f"Accept all ({FRAMES})"
    strip.accept.click()
    at_loop.settle()
    assert session.image_queue.count(ImageState.ACCEPTED) == FRAMES
    assert not strip.accept.isEnabled()
    maps = [session.store.read_labels(record) for record in session.store.records]
    session.export(tmp_path / "out", "breast", format="coco")
    at_loop.settle()
    other = tmp_path / "other"
    write_loop(other, count=FRAMES)
    with closing(Project(other)) as project:
        report = import_labels(project, tmp_path / "out")
        assert len(report.imported) == FRAMES, report
        for record, labels in zip(project.records, maps, strict=True):
            (item,) = project.read_proposal(record.image_id).objects
            np.testing.assert_array_equal(item.proposal.mask, labels > 0)


def test_areas_are_a_curve_in_the_colour_of_the_class_and_a_table(at_loop, tmp_path, monkeypatch):
    from qtpy.QtWidgets import QFileDialog

    from napari_usgseg.gui.panels.areas import AreasDialog

    session, strip = at_loop.session, at_loop.widget.strip
    loop = write_loop(tmp_path / "truth", count=FRAMES)
    propose_the_lesion(at_loop, loop, 0)
    session.propagation.propagate()
    finished(at_loop)
    strip.areas.click()
    (dialog,) = strip.findChildren(AreasDialog)
    at_loop.wait(lambda: len(dialog.curves.measured.areas) == FRAMES)
    assert "ejection fraction" in dialog.note.text()
    assert "No diagnosis" in dialog.note.text()
    curve = dialog.curves.curves[1]
    assert [frame for frame, _ in curve] == list(range(FRAMES))
    assert all(pixels > 0 for _, pixels in curve)
    color = session.table.get(1).color
    assert dialog.curves.color_of(1) == color
    picture = dialog.curves.grab().toImage()
    drawn = {
        picture.pixelColor(x, y).name()
        for x in range(0, picture.width(), 2)
        for y in range(picture.height())
    }
    assert color in drawn
    path = tmp_path / "areas.csv"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))
    dialog.save.click()
    at_loop.wait(path.is_file)
    assert len(path.read_text().splitlines()) == 1 + FRAMES
    dialog.close()


def test_a_run_can_be_stopped_and_clicks_go_on_meanwhile(at_loop, tmp_path):
    session, strip = at_loop.session, at_loop.widget.strip
    loop = write_loop(tmp_path / "long", "heart.tif", 60, (192, 256))
    at_loop.open(tmp_path / "long")
    propose_the_lesion(at_loop, loop, 30)
    strip.propagate.click()
    at_loop.wait(lambda: session.runs.run is not None and len(session.runs.run.done) > 3)
    assert strip.propagate.text() == "Stop"
    assert at_loop.widget.status.cancel.isVisible()
    session.loops.go(59)
    at_loop.wait(lambda: session.loaded is not None)
    session.prompting.add_box((40, 40), (90, 90))
    at_loop.wait(lambda: session.proposal.has_masks and not session.proposal.pending)
    if session.runs.is_running:
        strip.propagate.click()
    finished(at_loop)
    states = [session.loops.state_of(frame) for frame in range(60)]
    assert states[59] is ImageState.PROPOSED
    at_loop.wait(lambda: session.loops.is_keyframe(59))
    assert 4 <= states.count(ImageState.PROPOSED) <= 60
