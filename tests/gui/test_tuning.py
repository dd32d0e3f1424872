"""The detector learns what was accepted, and Find uses it: the Tune tab in a real viewer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from napari_usgseg.annotation.learners.training import TrainingPlan
from napari_usgseg.gui.panels.learn_panel import TRAIN, TUNE
from napari_usgseg.project.records import ImageState

pytestmark = [pytest.mark.gui, pytest.mark.usefixtures("no_giving_way")]

LABELLED = 4
PHRASE = "fetal head"
SHORT = TrainingPlan(steps=4, batch=1)
LONG = TrainingPlan(steps=4000, views=0, batch=1)


@pytest.fixture
def labeller(person, heads_folder, heads):
    """A person who has labelled four images of a class with a name."""
    person.labels_by_hand(heads_folder, heads, LABELLED)
    person.session.editing.rename_class(1, PHRASE)
    person.settle()
    return person


def open_tune(person):
    """Unfold Learn and turn to the Tune tab."""
    person.widget.folds.set_open("Learn")
    person.widget.learning.setCurrentIndex(1)
    return person.widget.tune


def test_accepted_images_tune_the_detector_and_find_uses_it(labeller, heads_folder):
    session, widget = labeller.session, labeller.widget
    tuning, view = session.tuning, open_tune(labeller)
    assert f"{PHRASE} {LABELLED}" in widget.tune.purpose.text()
    assert "Base: nano" in widget.tune.purpose.text()
    assert not widget.find_panel.tuned.text()
    tuning.plan = SHORT
    view.train.click()
    labeller.wait(lambda: tuning.training is not None)
    assert view.bar.isVisible()
    assert view.cancel.isVisible()
    labeller.wait_for_training(lambda: tuning.training is None)
    assert view.curves.losses
    labeller.wait(lambda: bool(tuning.versions))
    version = tuning.versions[-1]
    assert version.images == LABELLED
    assert "Dice" in view.verdict.text()
    assert view.version.itemText(1).startswith("v1: Dice")
    assert ("no better" in view.version.itemText(1)) == (not version.promoted)
    assert (tuning.current is not None) == version.promoted
    hint = widget.minimumSizeHint()
    assert (hint.width() <= 360, hint.height() <= 820) == (True, True), hint

    if tuning.current is None:
        view.version.setCurrentIndex(1)
        view.version.activated.emit(1)
        labeller.wait(lambda: tuning.current is not None)
    widget.folds.close_all()
    assert widget.find_panel.tuned.text() == "nano, tuned v1"
    assert PHRASE in widget.find_panel.tuned.toolTip()
    widget.find_panel.phrase.setText(PHRASE)
    widget.find_panel.run.click()
    labeller.settle()
    assert "uned v1" in widget.status.text(), "the status line says who was asked"
    if session.proposal.objects:
        assert widget.assist.badge.text() == f"Found by the phrase '{PHRASE}', tuned v1"

    nano = session.settings
    session.set_settings(replace(nano, detector="another"))
    assert "tuned from nano" in view.why.text()
    assert not widget.find_panel.tuned.isVisible()
    session.set_settings(nano)
    assert not view.why.text()
    assert widget.find_panel.tuned.isVisible()

    view.version.setCurrentIndex(0)
    view.version.activated.emit(0)
    labeller.wait(lambda: tuning.current is None)
    assert not widget.find_panel.tuned.isVisible()
    widget.find_panel.run.click()
    labeller.settle()
    assert "tuned" not in widget.status.text().lower()
    assert session.image_queue.places(ImageState.ACCEPTED) == list(range(LABELLED))


def test_a_tuning_that_is_cancelled_leaves_nothing(labeller, heads_folder):
    tuning, view = labeller.session.tuning, open_tune(labeller)
    tuning.plan = LONG
    view.train.click()
    labeller.wait_until_it_learns(tuning)
    view.cancel.click()
    labeller.wait(lambda: tuning.training is None)
    labeller.settle()
    assert not tuning.versions
    assert not tuning.paused
    assert view.train.isVisible()
    left = heads_folder / "usgseg" / "models" / "tuning"
    assert not [path for path in left.rglob("*") if path.is_file()]


def test_a_tuning_goes_on_when_the_folder_is_opened_again(
    labeller, employ, inference, heads_folder
):
    tuning = labeller.session.tuning
    tuning.plan = LONG
    tuning.train()
    labeller.wait_until_it_learns(tuning)
    labeller.widget.shut_down()
    later = employ(inference)
    later.open(heads_folder)
    tuning = later.session.tuning
    later.wait(lambda: tuning.training is not None)
    assert tuning.training.resumed
    view = open_tune(later)
    assert "going on" in view.bar.format()
    view.pause.click()
    later.wait(lambda: tuning.training is None and tuning.paused)
    assert view.train.text() == "Resume"
    view.cancel.click()
    later.wait(lambda: not tuning.paused)
    assert view.train.text() == "Tune now"
    later.widget.shut_down()


def test_what_goes_on_in_one_tab_is_said_in_the_other(labeller):
    session, page = labeller.session, labeller.widget.learning
    session.prompt_predictor.plan = LONG
    view = open_tune(labeller)
    assert view.train.isEnabled()
    assert not view.why.isVisible()
    page.learn.train.click()
    labeller.wait_until_it_learns(session.prompt_predictor)
    assert page.tabText(0).startswith(f"{TRAIN} ")
    assert page.tabText(0).endswith(" %")
    assert page.tabText(1) == TUNE
    assert not view.train.isEnabled()
    assert view.why.isVisible()
    assert view.why.text() == view.train.toolTip() == session.tuning.cannot_train
    session.prompt_predictor.cancel()
    labeller.wait(lambda: view.train.isEnabled())
    assert page.tabText(0) == TRAIN
    assert not view.why.isVisible()


def test_the_tabs_are_turned_and_tuning_is_begun_by_keyboard_alone(labeller):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QApplication

    page, tuning = labeller.widget.learning, labeller.session.tuning
    labeller.widget.folds.set_open("Learn")
    labeller.viewer.window._qt_window.activateWindow()
    page.tabBar().setFocus(Qt.FocusReason.TabFocusReason)
    labeller.wait(page.tabBar().hasFocus)
    QTest.keyClick(page.tabBar(), Qt.Key.Key_Right)
    assert page.currentWidget() is page.tune
    for _ in range(4):
        if QApplication.focusWidget() is page.tune.train:
            break
        QTest.keyClick(QApplication.focusWidget(), Qt.Key.Key_Tab)
    assert page.tune.train.hasFocus()
    tuning.plan = LONG
    QTest.keyClick(page.tune.train, Qt.Key.Key_Space)
    labeller.wait(lambda: tuning.training is not None)
    QTest.keyClick(QApplication.focusWidget(), Qt.Key.Key_Tab)
    tuning.cancel()
    labeller.wait(lambda: tuning.training is None)


def test_every_control_of_both_tabs_has_a_tooltip(at_work):
    from qtpy.QtWidgets import QAbstractButton, QAbstractSpinBox, QComboBox, QProgressBar

    page = at_work.widget.learning
    at_work.widget.folds.set_open("Learn")
    kinds = (QAbstractButton, QAbstractSpinBox, QComboBox, QProgressBar)
    for form in (page.learn, page.tune):
        found = [child for kind in kinds for child in form.findChildren(kind)]
        assert len(found) >= 5
        assert [child for child in found if not child.toolTip()] == []
    assert all(page.tabToolTip(index) for index in range(page.count()))
