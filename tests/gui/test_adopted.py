"""Image layers of the person's own, labelled where they are."""

from __future__ import annotations

import numpy as np
import pytest

from napari_usgseg.gui.canvas.tools import ANOTHER_FRAME


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (3, 96, 128), np.uint8)


def use(person, layer) -> None:
    person.viewer.layers.selection.active = layer
    before = person.session.store
    person.widget.use_open_layer()
    person.wait(lambda: person.session.store is not before)
    person.wait(lambda: person.session.loaded is not None)
    person.settle()


def test_labels_lie_over_an_image_that_was_opened_after_them(at_work, frames):
    layer = at_work.viewer.add_image(frames[0], name="scan")
    use(at_work, layer)
    layers = at_work.viewer.layers
    roles = ["labels", "proposal", "shapes", "points"]
    places = [layers.index(at_work.layer(role)) for role in roles]
    assert places == sorted(places)
    assert layers.index(layer) < places[0]


def test_another_frame_of_a_stack_is_shown_alone_and_takes_no_prompt(person, frames):
    layer = person.viewer.add_image(frames, name="cine")
    person.viewer.dims.set_current_step(0, 1)
    use(person, layer)
    assert person.session.record.image_id == "cine frame 1"
    person.viewer.dims.set_current_step(0, 2)
    assert not person.layer("labels").visible
    person.widget.display.dress()
    assert not person.layer("labels").visible, "nor when the window comes forward"
    person.click(40, 40)
    person.settle()
    assert not person.session.proposal.objects
    assert ("warning", ANOTHER_FRAME) in person.notes
    person.viewer.dims.set_current_step(0, 1)
    assert person.layer("labels").visible
    person.click(40, 40)
    person.wait(lambda: bool(person.session.proposal.objects))
    person.settle()


def test_labels_of_one_frame_do_not_lie_over_the_next_one(person, frames):
    layer = person.viewer.add_image(frames, name="cine")
    person.viewer.dims.set_current_step(0, 0)
    use(person, layer)
    person.layer("labels").data_setitem((np.array([5]), np.array([6])), 1)
    person.settle()
    person.viewer.dims.set_current_step(0, 2)
    use(person, layer)
    kept = person.viewer.layers["labels of cine frame 0"]
    assert kept.data.sum() == 1
    assert not kept.visible
    assert person.layer("labels").visible
    assert not person.layer("labels").data.any()
    assert np.array_equal(person.session.loaded.pixels[..., 0], frames[2])


def test_an_image_of_another_scale_than_the_folders_comes_into_view(at_work, frames):
    before = at_work.viewer.camera.zoom
    use(at_work, at_work.viewer.add_image(frames[0], name="scan", scale=(0.1, 0.1)))
    assert at_work.viewer.camera.zoom > 5 * before
    assert np.allclose(at_work.viewer.camera.center[-2:], (4.8, 6.4), atol=0.2)
