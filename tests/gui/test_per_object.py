"""Labels per object, chosen after layers are there; what cannot be drawn loses nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.gui.canvas import drawing
from napari_usgseg.gui.canvas.tools import Tool
from napari_usgseg.gui.parts import reason
from napari_usgseg.io.labels import read_labels
from tests.support.hand import add_class, choose_labelling, click_chip, find, press_g, saved

pytestmark = pytest.mark.gui


def errors(person) -> list[str]:
    return [text for level, text in person.notes if level == "error"]


def labels_of(folder, image_id: str) -> np.ndarray:
    return read_labels(folder / "usgseg" / "labels" / f"{image_id}.png")


def test_per_object_can_be_chosen_after_a_folder_is_open(at_work, phantom_folder):
    choose_labelling(at_work, "per object")
    assert at_work.session.settings.labelling == "instance"
    find(at_work, "breast tumor")
    masks = [item.proposal.mask for item in at_work.session.proposal.objects]
    assert masks
    assert at_work.layer("proposal").data.any()
    assert at_work.layer("labels").selected_label == 1001
    image_id = press_g(at_work)
    found = labels_of(phantom_folder, image_id)
    assert np.unique(found).tolist() == [0, *range(1001, 1001 + len(masks))]
    assert np.array_equal(found > 0, np.any(masks, axis=0))
    assert np.array_equal(at_work.layer("labels").data, found)
    assert not errors(at_work)


def test_the_labelling_may_change_as_often_as_nothing_is_labelled(at_work, phantom_folder):
    for name in ("per object", "per class", "per object", "per class"):
        choose_labelling(at_work, name)
        at_work.settle()
    find(at_work, "breast tumor")
    assert at_work.session.proposal.has_masks
    assert at_work.layer("labels").selected_label == 1
    image_id = press_g(at_work)
    assert np.unique(labels_of(phantom_folder, image_id)).tolist() == [0, 1]
    assert not errors(at_work)


def test_naparis_brush_paints_an_object_after_the_labelling_was_changed(at_work, phantom_folder):
    choose_labelling(at_work, "per object")
    at_work.widget.tools.paint_by_hand()
    at_work.drag((100, 100), (120, 110), (140, 110))
    image_id = press_g(at_work)
    assert np.unique(labels_of(phantom_folder, image_id)).tolist() == [0, 1001]


@pytest.mark.parametrize("value", [255, 256, 300, 65535])
def test_a_class_of_any_number_can_be_picked_and_painted(person, phantom_folder, value):
    """Another program's label map may have them; the layer was made for small ones."""
    here = phantom_folder / "usgseg" / "labels"
    here.mkdir(parents=True)
    second = sorted(phantom_folder.glob("*.png"))[1]
    with Image.open(second) as image:
        other = np.zeros(image.size[::-1], np.uint16)
    other[:9, :9] = value
    Image.fromarray(other).save(here / second.name)
    person.open(phantom_folder)
    person.session.set_settings(replace(person.session.settings, find_on_open=False))
    person.session.navigation.open_image(second.stem)
    person.wait(lambda: person.session.loaded is not None)
    person.settle()
    person.session.navigation.step(-1)
    person.wait(lambda: person.session.loaded is not None)
    person.settle()
    click_chip(person, f"class {value}")
    assert person.layer("labels").selected_label == value
    person.widget.tools.paint_by_hand()
    person.drag((200, 100), (220, 110), (240, 110))
    image_id = press_g(person)
    assert np.unique(labels_of(phantom_folder, image_id)).tolist() == [0, value]
    find(person, "breast tumor")
    assert person.session.proposal.has_masks
    assert person.layer("proposal").data.any()
    assert not errors(person)


def broken(*_, **__):
    raise RuntimeError


PLACES = ["label_colors", "outlines", "prompt_marks", "put", "place_like"]


@pytest.mark.parametrize("place", PLACES)
def test_a_find_that_cannot_be_drawn_loses_nothing(at_work, phantom_folder, monkeypatch, place):
    """Whatever fails while it is drawn: the masks stay, G stores them, and the error has a text."""
    add_class(at_work, "cyst")  # so that a phrase brings a class and with it all colours anew
    with monkeypatch.context() as patch:
        patch.setattr(drawing, place, broken)
        find(at_work, "breast tumor")
        masks = [item.proposal.mask for item in at_work.session.proposal.objects]
        assert masks
        assert errors(at_work)
        assert all("RuntimeError" in text and "Nothing is lost" in text for text in errors(at_work))
        at_work.notes.clear()
        image_id = press_g(at_work)
        assert all(text.strip() for text in errors(at_work))
    found = saved(phantom_folder, image_id)
    assert list(found) == ["breast tumor"]
    assert np.array_equal(found["breast tumor"], np.any(masks, axis=0))
    at_work.widget.tools.arm(Tool.BOX)
    at_work.drag((60, 60), (90, 80), (140, 130))
    at_work.wait(lambda: at_work.session.proposal.has_masks)
    at_work.settle()
    assert np.array_equal(at_work.layer("labels").data > 0, found["breast tumor"]), "drawn again"
    assert at_work.layer("proposal").data.any()


def test_labels_that_could_not_be_drawn_are_not_taken_for_rubbed_out(
    at_work, phantom_folder, monkeypatch
):
    at_work.session.set_settings(replace(at_work.session.settings, find_on_open=False))
    find(at_work, "breast tumor")
    with monkeypatch.context() as patch:
        patch.setattr(drawing, "put", broken)
        image_id = press_g(at_work)
        before = labels_of(phantom_folder, image_id)
        assert before.any()
        assert not at_work.layer("labels").data.any(), "the layer does not show them"
        press_g(at_work, go_on=True)
    assert np.array_equal(labels_of(phantom_folder, image_id), before)


def test_a_panel_that_fails_is_an_error_with_a_text(at_work):
    at_work.session.proposal_changed.connect(broken)
    find(at_work, "breast tumor")
    assert at_work.session.proposal.has_masks
    assert any("RuntimeError" in text for text in errors(at_work))
    at_work.session.proposal_changed.disconnect(broken)


def test_an_exception_without_words_is_called_by_its_kind():
    from psygnal import EmitLoopError, Signal

    class Sender:
        sent = Signal()

    sender = Sender()
    sender.sent.connect(broken)
    assert reason(KeyError()) == "KeyError"
    assert reason(ValueError("\n\n too\nlarge ")) == "ValueError: too large"
    with pytest.raises(EmitLoopError) as caught:
        sender.sent.emit()
    assert reason(caught.value) == "RuntimeError"
