from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from napari_usgseg.annotation.settings import DESPECKLING, Settings, View
from napari_usgseg.gui.canvas.drawing import KEPT, THICK, Pictures, picture, screen_width, window
from napari_usgseg.jobs import files

pytestmark = pytest.mark.gui

VIEWS = st.builds(
    View,
    contours=st.booleans(),
    opacity=st.integers(0, 100).map(lambda percent: percent / 100),
    brightness=st.integers(-100, 100),
    contrast=st.integers(-100, 100),
    despeckling=st.sampled_from(DESPECKLING),
)


@given(VIEWS)
def test_a_view_is_remembered_as_it_is(view):
    assert Settings.from_json(Settings(view=view).to_json()).view == view


def test_a_view_that_makes_no_sense_takes_its_defaults():
    values = {"contours": 1, "opacity": 3, "brightness": 900, "despeckling": "magic"}
    assert Settings.from_json({"view": values}).view == View()


@given(VIEWS)
def test_grey_values_keep_their_order_whatever_the_view(view):
    low, high = window(view)
    assert 0 <= low < high <= 256
    ramp = np.arange(256, dtype=np.uint8)[None]
    shown = picture(ramp, replace(view, despeckling="off")).astype(int)
    assert (np.diff(shown[0]) >= 0).all()


def test_more_brightness_is_lighter_and_more_contrast_is_steeper():
    ramp = np.arange(256, dtype=np.uint8)[None]
    assert np.array_equal(picture(ramp, View()), ramp)
    middle = ramp[:, 100:160]
    assert (picture(middle, View(brightness=40)) > middle).all()
    assert (picture(middle, View(brightness=-40)) < middle).all()
    assert np.ptp(picture(middle, View(contrast=60))) > np.ptp(middle)
    assert (picture(ramp, View(contrast=60))[0, [0, -1]] == [0, 255]).all()


def test_of_an_image_in_grey_only_despeckling_is_made_off_the_qt_thread(qtbot):
    pictures = Pictures()
    grey = np.random.default_rng(0).integers(0, 255, (60, 80)).astype(np.uint8)
    colour = np.stack([grey, grey // 2, grey], axis=-1)
    bright, calm = View(brightness=30), View(despeckling="median")
    assert pictures.get("a", (grey,), bright)[0] is grey
    for key, pixels, view in (("b", colour, bright), ("c", grey, calm)):
        with qtbot.waitSignal(pictures.ready, timeout=20_000):
            assert pictures.get(key, (pixels,), view)[0] is pixels
        (made,) = pictures.get(key, (pixels,), view)
        assert np.array_equal(made, picture(pixels, view))
        assert not np.array_equal(made, pixels)
    assert len(pictures._kept) <= KEPT
    pictures.close()


def test_contours_opacity_and_despeckling_change_the_screen_and_nothing_else(
    at_work, phantom_folder
):
    from qtpy.QtCore import Qt

    session, panel = at_work.session, at_work.widget.view
    painted = session.labels.copy()
    painted[50:120, 60:160] = 1
    session.editing.painted(painted)
    at_work.settle()
    image, labels = at_work.layer("image"), at_work.layer("labels")
    pixels, before = session.loaded.pixels.copy(), session.labels.copy()
    shown = np.asarray(image.data).copy()
    at_work.press(Qt.Key.Key_C, Qt.KeyboardModifier.ShiftModifier)
    assert labels.contour == screen_width(at_work.widget.bridge.zoom)
    assert panel.form.value("contours")
    panel.form.controls["opacity"].value = 0.8
    at_work.wait(lambda: labels.opacity == 0.8)
    panel.form.controls["brightness"].value = 30
    at_work.wait(lambda: tuple(image.contrast_limits) == window(View(brightness=30)))
    at_work.press(Qt.Key.Key_D, Qt.KeyboardModifier.ShiftModifier)
    assert panel.form.value("despeckling") == "lee"
    at_work.wait(lambda: not np.array_equal(image.data, shown))
    assert np.array_equal(image.data, picture(shown, View(despeckling="lee")))
    assert np.array_equal(session.loaded.pixels, pixels)
    assert np.array_equal(session.labels, before)
    source = session.source()
    assert source.pixels is session.loaded.pixels, "models are sent the image as it was read"
    panel.reset.click()
    at_work.settle()
    assert np.array_equal(image.data, shown)
    assert labels.contour == 0
    assert session.settings.view == View()
    at_work.open(phantom_folder)
    assert np.array_equal(at_work.session.labels, before)


def test_what_is_set_in_naparis_own_controls_stays_when_something_else_is_changed(at_work):
    at_work.layer("labels").opacity = 0.8
    at_work.layer("image").contrast_limits = (10, 200)
    at_work.widget.display.toggle_contours()
    at_work.widget.display.toggle_despeckling()
    assert at_work.layer("labels").opacity == 0.8
    assert at_work.layer("image").contrast_limits == [10, 200]
    assert at_work.layer("labels").contour == screen_width(at_work.widget.bridge.zoom)


def test_the_view_is_that_of_the_folder_and_of_layers_made_anew(at_work, phantom_folder):
    session = at_work.session
    at_work.widget.display.set_view(View(contours=True, opacity=0.7, contrast=20))
    at_work.settle()
    at_work.open(phantom_folder)
    assert session.settings.view == View(contours=True, opacity=0.7, contrast=20)
    for role in ("image", "labels"):
        at_work.viewer.layers.remove(at_work.layer(role))
    session.navigation.step(1)
    at_work.wait(lambda: session.loaded is not None)
    at_work.settle()
    assert at_work.layer("labels").contour == screen_width(at_work.widget.bridge.zoom)
    assert at_work.layer("labels").opacity == 0.7
    assert tuple(at_work.layer("image").contrast_limits) == window(View(contrast=20))


def test_a_button_that_is_held_shows_the_image_alone(at_work):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    at_work.widget.folds.set_open("View")
    QTest.mousePress(at_work.widget.view.alone, Qt.MouseButton.LeftButton)
    assert not at_work.layer("labels").visible
    at_work.session.navigation.step(1)
    at_work.wait(lambda: at_work.session.loaded is not None)
    at_work.settle()
    assert not at_work.layer("labels").visible
    QTest.mouseRelease(at_work.widget.view.alone, Qt.MouseButton.LeftButton)
    assert at_work.layer("labels").visible


def test_the_zoom_stays_where_images_have_one_size_and_starts_anew_where_not(person, tmp_path):
    folder = tmp_path / "sizes"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, shape in (("a", (200, 300)), ("b", (200, 300)), ("c", (500, 400))):
        Image.fromarray(rng.integers(0, 255, shape).astype(np.uint8)).save(folder / f"{name}.png")
    person.open(folder)
    camera = person.viewer.camera

    def go(image_id: str) -> None:
        person.session.navigation.open_image(image_id)
        person.wait(lambda: person.session.loaded is not None)
        person.settle()

    camera.zoom, camera.center = 7.0, (0, 40, 60)
    go("b")
    assert camera.zoom == 7.0
    assert camera.center == (0, 40, 60)
    go("c")
    assert camera.zoom != 7.0
    assert camera.center[-2:] == pytest.approx((249.5, 199.5))
    camera.zoom = 7.0
    person.open(folder)
    assert person.session.record.image_id == "c"
    assert camera.zoom != 7.0


def folder_of_two_sizes(folder):
    """A large image, a small one, a large one again."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, shape in (("a", (1500, 2000)), ("b", (150, 200)), ("c", (1500, 2000))):
        Image.fromarray(rng.integers(0, 255, shape).astype(np.uint8)).save(folder / f"{name}.png")
    return folder


def test_each_image_fills_the_canvas_whatever_size_the_one_before_had(person, tmp_path):
    from qtpy.QtCore import Qt

    person.open(folder_of_two_sizes(tmp_path / "sizes"))
    canvas = person.viewer.window._qt_viewer.canvas.native
    for key in (None, Qt.Key.Key_Period, Qt.Key.Key_Period, Qt.Key.Key_Comma):
        if key is not None:
            person.press(key)
            person.wait(lambda: person.session.loaded is not None)
            person.settle()
        height, width = person.session.labels.shape
        corners = [person.canvas_point(x, y) for x, y in ((0, 0), (width, height))]
        filled = max(
            (corners[1].x() - corners[0].x()) / canvas.width(),
            (corners[1].y() - corners[0].y()) / canvas.height(),
        )
        assert 0.85 < filled <= 1.01, person.session.record.image_id


def test_an_image_that_vanished_shows_nothing_of_the_one_before(at_work, phantom_folder):
    from qtpy.QtCore import Qt

    session = at_work.session
    at_work.click(256, 190)
    at_work.wait(lambda: session.proposal.has_masks)
    at_work.settle()
    gone = session.image_queue.records[3].path
    pixels = gone.read_bytes()
    gone.unlink()
    session.navigation.open_image(session.image_queue.records[3].image_id)
    at_work.wait(lambda: session.failed == "load")
    ours = at_work.widget.bridge.layers.ours()
    assert ours
    assert not [layer.name for layer in ours if layer.visible]
    at_work.press(Qt.Key.Key_H)
    assert not [layer.name for layer in ours if layer.visible], "nor after a look without overlays"
    assert at_work.widget.accept.text().startswith("Retry")
    gone.write_bytes(pixels)
    at_work.widget.accept.click()
    at_work.wait(lambda: session.loaded is not None)
    at_work.settle()
    assert all(at_work.layer(role).visible for role in ("image", "labels", "proposal"))
    assert np.array_equal(at_work.layer("labels").data, session.labels)


def wide_image(person, tmp_path, monkeypatch, size_hw) -> np.ndarray:
    """Open noise (H, W) that is too large to be shown at once, and behind it a part of it."""
    monkeypatch.setattr(files, "SHOWN_AT_ONCE", 50_000)
    folder = tmp_path / "wide"
    folder.mkdir()
    grey = np.random.default_rng(0).integers(0, 255, size_hw).astype(np.uint8)
    Image.fromarray(grey).save(folder / "a.png")
    Image.fromarray(grey[:90, :120]).save(folder / "b.png")
    person.open(folder)
    return grey


def test_a_very_large_image_is_shown_in_smaller_copies_and_labelled_in_its_own_pixels(
    person, tmp_path, monkeypatch
):
    from qtpy.QtCore import Qt

    grey = wide_image(person, tmp_path, monkeypatch, (600, 900))
    layer = person.layer("image")
    assert layer.multiscale
    assert [level.shape for level in layer.data] == [(600, 900), (150, 225)]
    assert np.array_equal(layer.data[0], grey)
    person.click(700, 100)
    person.wait(lambda: bool(person.session.proposal.objects))
    person.settle()
    point = person.session.proposal.objects[0].prompts.point_coords
    assert np.allclose(point, [[700, 100]], atol=2)
    person.widget.display.toggle_despeckling()
    person.wait(lambda: not np.array_equal(person.layer("image").data[0], grey))
    person.press(Qt.Key.Key_Period)
    person.wait(lambda: person.session.loaded is not None)
    person.settle()
    assert not person.layer("image").multiscale
    assert person.layer("image").data.shape == (90, 120)


def test_labels_of_a_very_large_image_are_shown_reduced_and_are_exact_where_nobody_painted(
    person, tmp_path, monkeypatch
):
    wide_image(person, tmp_path, monkeypatch, (602, 901))
    session, tools = person.session, person.widget.tools
    session.painting.box((101, 51), (302, 203))
    person.settle()
    drawn = session.labels.copy()
    assert np.array_equal(np.argwhere(drawn)[[0, -1]], [[51, 101], [203, 302]])
    layer = person.layer("labels")
    assert np.array_equal(layer.data, drawn[::4, ::4])
    assert np.allclose(layer.extent.world, person.layer("image").extent.world, atol=4)
    tools.set_width(20)
    assert (layer.brush_size, tools.width) == (5, 20)
    layer.data_setitem((np.array([0, 150]), np.array([0, 225])), 1)  # its first pixel and its last
    person.wait(lambda: not np.array_equal(session.labels, drawn))
    changed = session.labels != drawn
    assert changed[:4, :4].all()
    assert changed[600:, 900:].all()
    assert changed.sum() == 16 + 2
    session.undo()
    person.settle()
    assert np.array_equal(session.labels, drawn)
    assert np.array_equal(layer.data, drawn[::4, ::4])


def test_contours_are_as_wide_on_the_screen_on_every_image_and_at_every_zoom(person, tmp_path):
    from qtpy.QtCore import Qt

    def thickness() -> float:
        """Screen pixels of the left border of the one box, in the row through its middle."""
        layer = person.layer("proposal")
        row = layer.data[layer.data.shape[0] // 2] > 0
        first = int(np.argmax(row))
        pixels = int(np.argmin(row[first:]))
        return pixels * float(layer.scale[-1]) * person.viewer.scene.camera.zoom

    person.open(folder_of_two_sizes(tmp_path / "sizes"))
    scale = {}
    for key in (None, Qt.Key.Key_Period):
        if key is not None:
            person.press(key)
            person.wait(lambda: person.session.loaded is not None)
            person.settle()
        height, width = person.session.labels.shape
        mask = np.zeros((height, width), bool)
        mask[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = True
        edge = np.array([[width, height]]) / 4
        person.widget.tools.set_as_drawn(True)
        corners = edge * [[1, 1], [3, 1], [3, 3], [1, 3]]
        person.session.prompting.draw_lasso(corners.astype(np.float32), True)
        person.settle()
        person.wait(lambda: person.layer("proposal").data.any())
        layer, image = person.layer("proposal"), person.layer("image")
        assert np.allclose(layer.extent.world, image.extent.world, atol=1.01)
        assert THICK / 2 <= thickness() <= 2.5 * THICK  # of the object under work: twice as wide
        person.viewer.scene.camera.zoom *= 2.5
        person.wait(lambda: person.widget.bridge._drawing.is_as_seen)
        person.settle()
        assert THICK / 2 <= thickness() <= 2.5 * THICK
        scale[width] = float(layer.scale[-1])
    assert scale[200] < 1 <= scale[2000]
