from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.gui.canvas.tools import Tool
from napari_usgseg.io.datasets import read_dataset
from napari_usgseg.io.labels import read_classes, read_labels
from napari_usgseg.project.records import ImageState

pytestmark = pytest.mark.gui


def centre_of(mask: np.ndarray) -> tuple[int, int]:
    """The pixel (x, y) deepest inside a mask."""
    from scipy import ndimage

    row, column = np.unravel_index(ndimage.distance_transform_edt(mask).argmax(), mask.shape)
    return int(column), int(row)


def test_the_whole_way_from_a_folder_to_a_data_set(at_work, truth, phantom_folder, tmp_path):
    from qtpy.QtCore import Qt

    session = at_work.session
    first = session.record.image_id
    lesion = truth(first) == 1
    x, y = centre_of(lesion)

    at_work.click(x, y)
    at_work.wait(lambda: session.proposal.has_masks)
    at_work.settle()
    mask = session.proposal.objects[0].proposal.mask
    assert mask[y, x]
    outline = at_work.layer("proposal").data.copy()
    assert outline.any()
    places = (np.argwhere(outline) * at_work.layer("proposal").scale + 1e-6).astype(int)
    assert mask[tuple(places.T)].all(), "the outline is drawn where the mask is"
    assert not at_work.layer("labels").data.any(), "a proposal is not mixed into the labels"
    assert len(at_work.layer("points").data) == 1
    assert np.allclose(at_work.layer("points").data[0], (y, x), atol=1.5)

    rim = int(np.flatnonzero(mask[y]).max()) - 1  # a negative click is one into an object
    at_work.click(rim, y, shift=True)
    at_work.wait(lambda: len(session.proposal.objects[0].prompts.point_labels) == 2)
    at_work.settle()
    assert session.proposal.objects[0].prompts.point_labels.tolist() == [1, 0]
    at_work.press(Qt.Key.Key_U)
    at_work.settle()
    assert np.array_equal(at_work.layer("proposal").data, outline), "undo takes one click back"

    at_work.press(Qt.Key.Key_G)
    at_work.wait(lambda: session.record.image_id != first and session.loaded is not None)
    at_work.settle()
    path = phantom_folder / "usgseg" / "labels" / f"{first}.png"
    assert np.array_equal(read_labels(path), mask.astype(np.uint8))
    assert session.state_of(first) is ImageState.ACCEPTED
    assert not at_work.layer("labels").data.any(), "the next image has no labels yet"
    assert not at_work.layer("proposal").data.any()

    at_work.press(Qt.Key.Key_Comma)
    at_work.wait(lambda: session.record.image_id == first)
    at_work.settle()
    assert np.array_equal(at_work.layer("labels").data, read_labels(path))

    at_work.widget.export.export_to(tmp_path / "out")
    at_work.wait(lambda: (tmp_path / "out" / "dataset.json").is_file())
    at_work.settle()
    exported = read_dataset(tmp_path / "out")
    assert [item.item_id for item in exported.items] == [first]
    assert np.array_equal(read_labels(exported.items[0].mask_path), read_labels(path))


def test_a_phrase_that_is_typed_finds_the_lesion_of_a_phantom(at_work, truth):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    from napari_usgseg.core.metrics import dice

    field, session = at_work.widget.find_panel.phrase, at_work.session
    QTest.keyClicks(field, "breast tumor")
    QTest.keyClick(field, Qt.Key.Key_Return)
    assert session.jobs.awaits("text")
    scores = []
    for record in session.image_queue.records:
        session.navigation.open_image(record.image_id)
        at_work.wait(lambda: session.loaded is not None and not session.is_waiting)
        at_work.settle()
        assert "found" in session.status.text
        masks = [item.proposal.mask for item in session.proposal.objects]
        if masks:
            assert at_work.layer("proposal").data.any()
            scores.append(dice(truth(record.image_id) == 1, np.any(masks, axis=0)))
    assert max(scores) > 0.5
    assert session.table.classes[0].name == "breast tumor"


def test_what_is_not_there_is_said(at_work):
    at_work.widget.find_panel.phrase.setText("fetal head")
    at_work.widget.find_panel.find()
    at_work.settle()
    assert not at_work.session.proposal.has_masks
    assert "fetal head" in at_work.widget.status.text()
    assert "Nothing to accept" in at_work.widget.accept.text()


def test_undo_after_accept_and_next_goes_back_to_the_image_and_takes_the_labels_back(
    at_work, phantom_folder
):
    from qtpy.QtCore import Qt

    session = at_work.session
    first = session.record.image_id
    at_work.click(256, 190)
    at_work.wait(lambda: session.proposal.has_masks)
    at_work.press(Qt.Key.Key_G)
    at_work.wait(lambda: session.record.image_id != first and session.loaded is not None)
    at_work.settle()
    at_work.press(Qt.Key.Key_U)
    at_work.wait(lambda: session.record.image_id == first)
    at_work.settle()
    assert not at_work.layer("labels").data.any()
    assert session.proposal.has_masks, "the proposal is there again"
    assert session.state_of(first) is ImageState.PROPOSED
    assert not (phantom_folder / "usgseg" / "labels" / f"{first}.png").exists()
    at_work.press(Qt.Key.Key_U, Qt.KeyboardModifier.ShiftModifier)
    at_work.settle()
    assert at_work.layer("labels").data.any()


def test_a_box_is_dragged_and_a_scribble_is_drawn_without_moving_the_view(at_work):
    from qtpy.QtCore import Qt

    session, camera = at_work.session, at_work.viewer.camera.center
    at_work.press(Qt.Key.Key_W)
    assert at_work.widget.tools.tool is Tool.BOX
    at_work.drag((100, 90), (150, 120), (220, 200))
    at_work.wait(lambda: len(session.proposal.objects) == 1)
    at_work.settle()
    assert np.allclose(session.proposal.objects[0].prompts.box, (100, 90, 220, 200), atol=2)
    assert at_work.layer("shapes").shape_type == ["rectangle"]
    at_work.press(Qt.Key.Key_K)
    at_work.drag((300, 100), (320, 120), (340, 110), (360, 120))
    at_work.wait(lambda: session.proposal.objects[-1].prompts.scribbles != ())
    at_work.settle()
    line, sign = session.proposal.objects[-1].prompts.scribbles[0]
    assert sign == 1
    assert np.allclose(line[0], (300, 100), atol=2)
    assert "path" in at_work.layer("shapes").shape_type
    assert at_work.viewer.camera.center == camera


def test_a_stroke_does_not_end_on_another_image_than_it_began_on(at_work, monkeypatch):
    from qtpy.QtCore import Qt

    session, show = at_work.session, at_work.widget.bridge.show_stroke
    at_work.press(Qt.Key.Key_W)

    def next_image(*stroke):
        show(*stroke)
        if session.image_queue.position == 0:
            at_work.press(Qt.Key.Key_Period)
            at_work.wait(lambda: session.loaded is not None)

    monkeypatch.setattr(at_work.widget.bridge, "show_stroke", next_image)
    at_work.drag((100, 90), (150, 120), (220, 200))
    at_work.settle()
    assert session.image_queue.position == 1
    assert not session.proposal.objects


def test_with_the_point_tool_a_drag_pans_and_makes_no_prompt(at_work):
    camera = at_work.viewer.camera.center
    at_work.drag((100, 90), (150, 120), (220, 200))
    assert not at_work.session.proposal.objects
    assert at_work.viewer.camera.center != camera


def test_painting_by_hand_with_naparis_brush_is_saved(at_work, phantom_folder):
    from qtpy.QtCore import Qt

    first = at_work.session.record.image_id
    at_work.press(Qt.Key.Key_J)
    assert at_work.layer("labels").mode == "paint"
    at_work.drag((100, 90), (130, 90), (160, 90))
    at_work.settle()
    painted = at_work.layer("labels").data
    assert painted[90, 130] == 1
    path = phantom_folder / "usgseg" / "labels" / f"{first}.png"
    assert np.array_equal(read_labels(path), painted)
    assert not at_work.session.proposal.objects, "the brush is not taken for a prompt"
    at_work.press(Qt.Key.Key_U)
    at_work.settle()
    assert not at_work.layer("labels").data.any()
    assert not path.exists()


def test_what_napari_takes_back_and_a_polygon_after_it_are_both_kept(at_work):
    layer = at_work.layer("labels")
    with layer.block_history():
        layer.data_setitem((np.array([5]), np.array([6])), 1)
    at_work.wait(lambda: bool(at_work.session.labels[5, 6]))
    at_work.settle()
    layer.undo()
    layer.paint_polygon(np.array([[10, 10], [10, 40], [40, 40]]), 1)
    at_work.wait(lambda: bool(at_work.session.labels.any()) and not at_work.session.labels[5, 6])
    at_work.settle()
    assert at_work.session.labels[12, 30] == 1
    assert np.array_equal(layer.data, at_work.session.labels)


def test_a_label_painted_without_a_class_gets_one(at_work, phantom_folder):
    layer = at_work.layer("labels")
    layer.data_setitem((np.array([5, 5]), np.array([6, 7])), 4)
    at_work.widget.session.editing.accept()
    at_work.settle()
    assert [item.class_id for item in at_work.session.table.classes] == [1, 4]
    stored = read_classes(phantom_folder / "usgseg" / "classes.json")
    assert [item.class_id for item in stored] == [1, 4]


def test_reopening_the_folder_goes_on_where_the_person_was(at_work, phantom_folder):
    session = at_work.session
    at_work.session.editing.rename_class(1, "nodule")
    at_work.click(256, 190)
    at_work.wait(lambda: session.proposal.has_masks)
    session.editing.accept_and_next()
    at_work.settle()
    second = session.record.image_id
    at_work.open(phantom_folder)
    assert session.record.image_id == second
    assert session.image_queue.accepted_count == 1
    assert session.table.classes[0].name == "nodule"


def test_layers_that_the_person_renames_or_deletes_do_no_harm(at_work):
    session = at_work.session
    at_work.layer("labels").name = "mine now"
    at_work.click(256, 190)
    at_work.wait(lambda: session.proposal.has_masks)
    at_work.settle()
    for role in ("proposal", "points", "image"):
        at_work.viewer.layers.remove(at_work.layer(role))
    at_work.session.editing.accept()
    at_work.settle()
    assert at_work.viewer.layers["mine now"].data.any()
    at_work.viewer.layers.remove(at_work.layer("labels"))
    before = session.labels.copy()
    session.navigation.step(1)
    at_work.wait(lambda: session.loaded is not None)
    at_work.settle()
    assert at_work.layer("image") is not None
    assert at_work.layer("labels") is not None
    session.navigation.step(-1)
    at_work.settle()
    assert np.array_equal(at_work.layer("labels").data, before)


def test_the_persons_own_layers_are_left_alone(person, phantom_folder):
    own = person.viewer.add_labels(np.ones((20, 30), np.uint8), name="labels (accepted)")
    person.open(phantom_folder)
    person.click(256, 190)
    person.wait(lambda: person.session.proposal.has_masks)
    person.session.editing.accept()
    person.settle()
    assert own in person.viewer.layers
    assert own.data.all()
    assert person.layer("labels") is not own


@pytest.mark.parametrize("rgb", [False, True])
def test_an_open_image_layer_with_a_scale_is_labelled_in_its_place(person, rgb):
    rng = np.random.default_rng(0)
    shape = (120, 200, 3) if rgb else (120, 200)
    image = rng.integers(0, 255, shape).astype(np.uint8 if rgb else np.uint16)
    layer = person.viewer.add_image(
        image, name="B-mode", rgb=rgb, scale=(0.2, 0.1), translate=(3, 5)
    )
    person.widget.use_open_layer()
    person.wait(lambda: person.session.loaded is not None)
    person.settle()
    assert np.allclose(person.layer("labels").scale, (0.2, 0.1))
    assert np.allclose(person.layer("labels").translate, (3, 5))
    person.click(150, 40)
    person.wait(lambda: bool(person.session.proposal.objects))
    person.settle()
    assert np.allclose(
        person.session.proposal.objects[0].prompts.point_coords, [[150, 40]], atol=0.6
    )
    assert np.allclose(person.layer("points").scale, (0.2, 0.1))
    assert person.layer("image") is layer
    assert np.array_equal(layer.data, image)


def test_labels_of_a_layer_without_a_file_stay_in_the_viewer_when_a_folder_is_opened(
    person, phantom_folder
):
    person.viewer.add_image(np.zeros((60, 80), np.uint8), name="B-mode")
    person.widget.use_open_layer()
    person.wait(lambda: person.session.loaded is not None)
    person.settle()
    labels = person.session.labels.copy()
    labels[10:20, 30:40] = 1
    person.session.editing.painted(labels)
    person.settle()
    drawn = person.layer("labels")
    person.open(phantom_folder)
    assert drawn in person.viewer.layers
    assert drawn.name == "labels of B-mode"
    assert np.array_equal(drawn.data, labels)
    assert person.layer("labels") is not drawn
    assert not person.layer("labels").data.any()


def test_a_layer_with_units_is_labelled_in_the_same_units(person):
    from napari.utils.notifications import notification_manager

    image = np.random.default_rng(0).integers(0, 255, (60, 80), np.uint8)
    person.viewer.add_image(image, scale=(0.2, 0.1), units=("mm", "mm"))
    before = len(notification_manager.records)
    person.widget.use_open_layer()
    person.wait(lambda: person.session.loaded is not None)
    person.settle()
    for role in ("labels", "proposal", "points", "shapes"):
        assert person.layer(role).units == person.layer("image").units
    said = [note.message for note in notification_manager.records[before:]]
    assert not [text for text in said if "units" in text], said


def test_what_cannot_be_opened_leaves_the_image_layer_in_hand_as_it_is(person, tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (60, 80), np.uint8)
    layer = person.viewer.add_image(image, scale=(0.2, 0.1), translate=(3, 5))
    person.widget.use_open_layer()
    person.wait(lambda: person.session.loaded is not None)
    person.settle()
    (tmp_path / "empty").mkdir()
    person.widget.open_folder(tmp_path / "empty")
    person.wait(lambda: bool(person.notes))
    assert "no image here" in person.notes[0][1]
    person.layer("labels").data_setitem((np.array([5]), np.array([6])), 1)
    person.session.editing.accept()
    person.settle()
    assert person.layer("image") is layer
    assert np.allclose(person.layer("labels").scale, (0.2, 0.1))
    assert person.widget.accept.text().startswith("Keep"), "and nothing is to be tried again"


def test_an_image_layer_that_is_no_image_leaves_the_open_folder_as_it_is(at_work):
    ours = at_work.layer("image")
    layer = at_work.viewer.add_image(np.ones((60, 80)), name="mine")
    at_work.widget.bridge.adopt(layer)
    at_work.session.navigation.open_array("mine", np.ones((60, 80), complex))
    at_work.wait(lambda: bool(at_work.notes))
    assert "expected bool, integers or floats" in at_work.notes[0][1]
    assert at_work.layer("image") is ours
    assert ours in at_work.viewer.layers


def test_a_lazy_image_layer_is_computed_off_the_qt_thread(person):
    import threading

    import dask.array

    threads = []

    def compute(block):
        if block.size == 60 * 80:
            threads.append(threading.current_thread())
        return block

    stack = dask.array.zeros((3, 60, 80), np.uint8, chunks=(1, 60, 80)).map_blocks(compute)
    layer = person.viewer.add_image(stack, contrast_limits=(0, 255))
    del threads[:]
    array = person.widget.bridge.adopted.current_slice(layer)
    assert array.shape == (60, 80)
    assert not threads
    person.widget.use_open_layer()
    person.wait(lambda: person.session.loaded is not None)
    assert threads
    assert threading.main_thread() not in threads
    person.settle()


def test_without_an_image_layer_the_person_is_told_what_to_do(person):
    from napari.utils.notifications import notification_manager

    person.widget.use_open_layer()
    assert "open a folder" in notification_manager.records[-1].message


def test_a_damaged_image_is_named_and_the_next_one_can_be_opened(person, phantom_folder):
    files = sorted(phantom_folder.glob("*.png"))
    person.open(phantom_folder)
    files[3].write_bytes(files[3].read_bytes()[:4000])
    person.session.navigation.open_image(files[3].stem)
    person.wait(lambda: person.session.status.error)
    assert files[3].name in person.session.status.text
    assert "Retry" in person.widget.accept.text()
    person.session.navigation.step(-1)
    person.wait(lambda: person.session.loaded is not None)
    assert not person.session.status.error


def test_a_model_that_is_not_there_is_an_error_with_a_cure(at_work):
    from dataclasses import replace

    session = at_work.session
    session.set_settings(replace(session.settings, segmenter="no-such-model"))
    at_work.wait(lambda: session.status.error)
    assert "no-such-model" in session.status.text
    assert any(level == "error" for level, _ in at_work.notes)


def test_classes_are_added_renamed_and_picked(at_work):
    from qtpy.QtCore import Qt

    panel, session = at_work.widget.classes, at_work.session
    panel.name.setText("cyst")
    panel.add()
    assert session.table.active == 2
    assert at_work.layer("labels").selected_label == 2
    at_work.press(Qt.Key.Key_1, Qt.KeyboardModifier.AltModifier)
    assert session.table.active == 1
    panel.list.item(1).setText("simple cyst")
    at_work.wait(lambda: session.table.get(2).name == "simple cyst")
    at_work.layer("labels").selected_label = 2
    assert session.table.active == 2
    session.undo()
    assert session.table.get(2).name == "cyst"


def test_the_dock_fits_a_small_screen_whatever_is_unfolded(at_work):
    from qtpy.QtWidgets import QApplication

    widget = at_work.widget
    assert len(widget.folds.names) >= 5
    too_large = {}
    for name in ("", *widget.folds.names, "thresholds"):
        if name == "thresholds":
            widget.find_panel.fold.expand()
        elif name:
            widget.folds.set_open(name)
        QApplication.processEvents()
        assert name == "thresholds" or widget.folds.open_one == name
        hint = widget.minimumSizeHint()
        if hint.width() > 360 or hint.height() > 820:
            too_large[name] = (hint.width(), hint.height())
    assert too_large == {}


@pytest.fixture
def at_a_large_image(person, phantom_set, tmp_path):
    """A person in front of 12 megapixels, which take long to search and to encode."""
    folder = tmp_path / "large"
    folder.mkdir()
    small = Image.open(sorted((phantom_set / "images").glob("*.png"))[0])
    small.resize((4000, 3000)).save(folder / "large.png")
    person.open(folder)
    return person


def test_cancel_stops_a_search_and_leaves_the_proposal_as_it_was(at_a_large_image):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    person = at_a_large_image
    session, widget = person.session, person.widget
    person.click(2000, 1500)
    person.wait(lambda: session.proposal.has_masks)
    person.settle()
    before, steps = session.proposal, session.undo_stack.position
    shown = person.layer("proposal").data.copy()
    assert not widget.status.cancel.isVisible()
    widget.find_panel.phrase.setText("breast tumor")
    widget.find_panel.find()
    person.wait(
        lambda: not person.widget.workers.inference._queue.qsize()
    )  # the worker is at it now
    assert session.jobs.awaits("text")
    assert widget.status.cancel.isVisible()
    assert not widget.accept.isEnabled()
    QTest.mouseClick(widget.status.cancel, Qt.MouseButton.LeftButton)
    assert not widget.status.cancel.isVisible()
    assert not session.status.busy
    assert widget.accept.isEnabled()
    person.wait(lambda: widget.workers.inference.is_idle)
    person.settle()
    assert session.proposal is before
    assert session.undo_stack.position == steps
    assert np.array_equal(person.layer("proposal").data, shown)
    person.click(1000, 900)
    person.wait(lambda: session.undo_stack.position == steps + 1 and not session.is_waiting)
    person.press(Qt.Key.Key_G)
    person.wait(lambda: session.image_queue.accepted_count == 1)


def test_every_control_says_what_it_does(person):
    from qtpy.QtWidgets import QAbstractButton, QAbstractSpinBox, QComboBox, QLineEdit

    kinds = (QAbstractButton, QAbstractSpinBox, QComboBox, QLineEdit)
    silent = [
        child
        for kind in kinds
        for child in person.widget.findChildren(kind)
        if not child.toolTip() and not isinstance(child.parent(), kinds)
        if not child.isHidden()  # the sign of remarks has none before there is a remark
    ]
    assert not silent


def test_taking_the_dock_away_ends_the_worker_process_and_keeps_the_work(employ, phantom_folder):
    import os

    person = employ()
    person.open(phantom_folder)
    person.layer("labels").data_setitem((np.array([5]), np.array([6])), 1)
    first = person.session.record.image_id
    worker = person.widget.workers.inference.process_id
    assert worker is not None
    person.viewer.window.remove_dock_widget(person.widget)
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
    assert read_labels(phantom_folder / "usgseg" / "labels" / f"{first}.png")[5, 6] == 1
    mouse = person.viewer.mouse_drag_callbacks
    assert not any("usgseg" in callback.__module__ for callback in mouse)
    assert not any("usgseg" in getattr(f, "__name__", "") for f in person.viewer.keymap.values())


def test_the_dock_can_be_opened_again_on_the_layers_that_it_left(
    person, inference, qtbot, phantom_folder
):
    person.open(phantom_folder)
    person.viewer.window.remove_dock_widget(person.widget)
    person.widget.deleteLater()
    qtbot.wait(100)
    steps = person.session.undo_stack.count
    again = type(person)(person.viewer, qtbot, inference)
    again.open(phantom_folder)
    layer = again.layer("labels")
    assert layer is person.layer("labels")
    with layer.block_history():
        layer.data_setitem((np.array([5]), np.array([6])), 1)
    again.settle()
    assert again.session.labels[5, 6] == 1
    assert person.session.undo_stack.count == steps
    again.widget.shut_down()


def test_garbage_collections_leave_alone_what_was_there_as_long_as_the_dock_is_open(
    person, phantom_folder
):
    import gc

    person.open(phantom_folder)
    person.wait(lambda: gc.get_freeze_count() > 10_000)
    person.widget.shut_down()
    assert gc.get_freeze_count() == 0


def test_closing_napari_ends_the_worker_process(employ, window, phantom_folder):
    import os

    from qtpy.QtCore import QCoreApplication, QEvent

    person = employ()
    person.open(phantom_folder)
    worker = person.widget.workers.inference.process_id
    window.give_up()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


def test_try_it_on_a_phantom_opens_phantoms(person, monkeypatch, tmp_path: Path):
    monkeypatch.setattr("tempfile.mkdtemp", lambda **_: str(tmp_path))
    person.widget.first.phantom.click()
    person.wait(lambda: person.session.loaded is not None)
    assert len(person.session.image_queue.records) >= 3


def test_the_list_of_images_takes_the_room_in_a_dock_that_is_opened_a_second_time(
    employ, inference, phantom_folder, qtbot
):
    person = employ(inference)
    person.widget.shut_down()
    person.viewer.window.remove_dock_widget(person.widget.parent())
    again = type(person)(person.viewer, qtbot, inference)
    again.open(phantom_folder)
    below = again.widget.height() - again.widget.status.geometry().bottom()
    assert below < again.widget.images.list.height()
    again.widget.shut_down()
    qtbot.waitUntil(lambda: inference.is_idle, timeout=180_000)


def test_no_word_on_a_button_is_cut_off_in_a_larger_font(at_work):
    from napari.settings import get_settings
    from qtpy.QtWidgets import QPushButton

    appearance = get_settings().appearance
    before = appearance.font_size
    try:
        appearance.font_size = before + 6
        at_work.qtbot.wait(300)
        shown = [x for x in at_work.widget.findChildren(QPushButton) if x.isVisible() and x.text()]
        assert len(shown) > 20
        for control in shown:
            text = control.fontMetrics().horizontalAdvance(control.text())
            assert control.width() >= text, control.text()
    finally:
        appearance.font_size = before


def test_a_phrase_that_the_model_does_not_know_is_not_looked_for_on_every_image(at_work):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    session, field = at_work.session, at_work.widget.find_panel.phrase
    asked = []
    session.requested.connect(lambda job: asked.append(job.key))
    field.setFocus()
    QTest.keyClicks(field, "zygomatic arch")
    QTest.keyClick(field, Qt.Key.Key_Return)
    at_work.wait(lambda: "zygomatic arch" in session.status.text and not session.status.busy)
    assert asked.count("text") == 1
    for _ in range(2):
        before = session.record.image_id
        at_work.press(Qt.Key.Key_Period)
        at_work.wait(lambda name=before: session.record.image_id != name)
        at_work.wait(lambda: session.loaded is not None)
        at_work.settle()
        assert "press Find to try again" in session.status.text
    assert asked.count("text") == 1
    QTest.mouseClick(at_work.widget.find_panel.run, Qt.MouseButton.LeftButton)
    at_work.wait(lambda: asked.count("text") == 2)
    at_work.settle()
