from __future__ import annotations

from dataclasses import fields, replace
from typing import get_args, get_type_hints

import pytest
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_usgseg.annotation.session import AnnotationSession
from napari_usgseg.annotation.settings import Settings, View
from napari_usgseg.gui.forms import QUIET_MS, SettingsForm
from napari_usgseg.gui.panels.learn_panel import TrainingSettings
from napari_usgseg.gui.panels.prompt_panels import Thresholds
from napari_usgseg.gui.panels.settings_panels import (
    CHOOSE_FILE,
    Accepting,
    Cleaning,
    Looks,
    ModelPanel,
)
from napari_usgseg.segmentation.postprocess import PostprocessSettings

pytestmark = [pytest.mark.gui, pytest.mark.usefixtures("qapp")]

FORMS = [
    (Thresholds, "", {"box_threshold": 0.3, "text_threshold": 0.2, "find_on_open": False}),
    (Accepting, "", {"overwrite": True}),
    (
        TrainingSettings,
        "",
        {
            "train_after": 25,
            "train_by_itself": True,
            "weak_proposals": False,
            "tune_decoder": True,
        },
    ),
    (
        Cleaning,
        "cleaning",
        {"enabled": False, "keep": "largest", "min_area": 7, "fill_holes": 0.5, "smoothing": 1.5},
    ),
    (
        Looks,
        "view",
        {"contours": True, "opacity": 0.8, "brightness": -30, "despeckling": "median"},
    ),
]


class Heard:
    """A session, and each settings that it took."""

    def __init__(self) -> None:
        self.session = AnnotationSession()
        self.settings: list[Settings] = []
        self.session.settings_changed.connect(lambda: self.settings.append(self.session.settings))


@pytest.mark.parametrize(("record", "part", "values"), FORMS)
def test_a_change_reaches_the_settings_once_and_changes_nothing_else(qtbot, record, part, values):
    for name, value in values.items():
        heard = Heard()
        form = SettingsForm(heard.session, record, part)
        form.controls[name].value = value
        qtbot.waitUntil(lambda heard=heard: bool(heard.settings))
        qtbot.wait(2 * QUIET_MS if record is Looks else 0)
        change = {name: value}
        whole = Settings()
        if part:
            change = {part: replace(getattr(whole, part), **change)}
        assert heard.settings == [replace(whole, **change)]


@pytest.mark.parametrize(("record", "part", "values"), FORMS)
def test_settings_of_another_project_are_shown_without_an_echo(qtbot, record, part, values):
    heard = Heard()
    form = SettingsForm(heard.session, record, part)
    whole = Settings()
    change = {part: replace(getattr(whole, part), **values)} if part else values
    heard.session.set_settings(replace(whole, **change))
    assert {name: form.value(name) for name in values} == values
    heard.session.set_settings(whole)
    qtbot.wait(2 * QUIET_MS)
    assert len(heard.settings) == 2
    shown = {name: form.value(name) for name in form.controls}
    source = getattr(whole, part) if part else whole
    assert shown == {name: getattr(source, name) for name in shown}


@pytest.mark.parametrize(("name", "value"), [("contours", True), ("contrast", 30)])
def test_a_sliders_move_is_kept_where_another_field_changes_before_it_has_rested(
    qtbot, name, value
):
    heard = Heard()
    form = SettingsForm(heard.session, Looks, "view")
    form.controls["brightness"].value = 40
    form.controls[name].value = value
    qtbot.wait(2 * QUIET_MS)
    assert heard.session.settings.view == replace(View(brightness=40), **{name: value})
    assert form.value("brightness") == 40


def test_a_sliders_move_is_kept_where_settings_change_elsewhere_and_gives_way_to_its_own(qtbot):
    heard = Heard()
    form = SettingsForm(heard.session, Looks, "view")
    form.controls["brightness"].value = 40
    heard.session.set_settings(replace(Settings(), overwrite=True, view=View(contours=True)))
    qtbot.wait(2 * QUIET_MS)
    assert heard.session.settings.view == View(contours=True, brightness=40)
    form.controls["brightness"].value = 60
    heard.session.set_settings(Settings(view=View(brightness=-20)))
    qtbot.wait(2 * QUIET_MS)
    assert form.value("brightness") == -20
    assert heard.session.settings.view == View(brightness=-20)


def test_a_form_may_go_before_its_slider_has_rested(qtbot):
    heard = Heard()
    host = QWidget()
    form = SettingsForm(heard.session, Looks, "view")
    QVBoxLayout(host).addWidget(form)
    form.controls["brightness"].value = 40
    host.deleteLater()
    qtbot.wait(2 * QUIET_MS)
    assert heard.settings == []


def test_a_value_between_or_beyond_those_of_a_control_is_left_as_it_is(qtbot):
    heard = Heard()
    cleaning = SettingsForm(heard.session, Cleaning, "cleaning")
    looks = SettingsForm(heard.session, Looks, "view")
    given = Settings(
        cleaning=PostprocessSettings(min_area=5_000_000, fill_holes=0.125),
        view=View(opacity=0.4567),
    )
    heard.session.set_settings(given)
    cleaning.controls["opening"].value = 2
    looks.controls["contours"].value = True
    qtbot.wait(2 * QUIET_MS)
    assert heard.settings[-1] == replace(
        given,
        cleaning=replace(given.cleaning, opening=2),
        view=replace(given.view, contours=True),
    )


def test_the_forms_have_a_field_for_each_of_their_records_and_a_tooltip_for_each_field():
    assert [x.name for x in fields(Cleaning)] == [x.name for x in fields(PostprocessSettings)]
    assert [x.name for x in fields(Looks)] == [x.name for x in fields(View)]
    for record, part, _ in FORMS:
        form = SettingsForm(Heard().session, record, part)
        shown = {name: control.native.toolTip() for name, control in form.controls.items()}
        hints = get_type_hints(record, include_extras=True)
        said = {name: get_args(hint)[1]["tooltip"] for name, hint in hints.items()}
        assert shown == said
        assert all(said.values())


@pytest.mark.parametrize(
    ("name", "step"),
    [("min_area", 1), ("opening", 1), ("dilation", 1), ("fill_holes", 0.05), ("smoothing", 0.5)],
)
def test_one_step_of_a_number_in_cleaning(name, step):
    heard = Heard()
    form = SettingsForm(heard.session, Cleaning, "cleaning")
    before = getattr(PostprocessSettings(), name)
    form.controls[name].native.stepBy(1)
    assert getattr(heard.session.settings.cleaning, name) == pytest.approx(before + step)


def test_no_threshold_is_the_models_own_and_a_step_is_five_hundredths():
    heard = Heard()
    form = SettingsForm(heard.session, Thresholds)
    spin = form.controls["box_threshold"].native
    assert spin.text() == "the model's own"
    spin.stepBy(1)
    assert heard.session.settings.box_threshold == pytest.approx(0.05)
    spin.stepBy(-1)
    assert heard.session.settings.box_threshold is None


def test_a_model_from_a_file_is_chosen_in_a_dialog_and_shown_by_its_path(monkeypatch, tmp_path):
    heard = Heard()
    panel = ModelPanel(heard.session)
    choice = panel.form.controls["detector"]
    assert choice.value == "nano"
    monkeypatch.setattr(panel, "_ask", lambda kind: "")
    choice.value = CHOOSE_FILE
    assert choice.value == "nano", "a dialog that is dismissed changes nothing"
    assert heard.settings == []
    monkeypatch.setattr(panel, "_ask", lambda kind: str(tmp_path))
    choice.value = CHOOSE_FILE
    assert choice.value == heard.session.settings.detector == str(tmp_path)
    assert choice.choices[-1] == CHOOSE_FILE
    assert choice.native.itemText(choice.native.count() - 2) == str(tmp_path)
    heard.session.set_settings(Settings(segmenter="mine.pt"))
    assert panel.form.value("segmenter") == "mine.pt"
    assert panel.form.value("detector") == "nano"
    assert len(heard.settings) == 2
