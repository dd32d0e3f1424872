"""Ten corrected images, then the images segment themselves: the loop in a real viewer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_usgseg.annotation.learners.training import TrainingPlan
from napari_usgseg.annotation.settings import Mode
from napari_usgseg.gui.panels.prompt_panels import NOBODY
from napari_usgseg.project.records import ImageState
from tests.support.person import HEADS

pytestmark = [pytest.mark.gui, pytest.mark.usefixtures("no_giving_way")]

LABELLED = HEADS - 2
SHORT = TrainingPlan(steps=12, views=0)
LONG = TrainingPlan(steps=4000, views=0)


@pytest.mark.weak
def test_from_the_first_accepted_image_on_a_weak_proposal_is_shown_and_named(
    person, heads_folder, heads
):
    labeller = person.labels_by_hand(heads_folder, heads, 1)
    session, assist = labeller.session, labeller.widget.assist
    labeller.wait_for_training(lambda: bool(session.proposal.objects))
    labeller.settle()
    assert assist.badge.text() == "Weak proposal, from 1 image"
    assert assist.modes[Mode.AUTONOMOUS].isEnabled()
    assert labeller.layer("proposal").data.any()
    assert session.editing.accept()
    session.navigation.step(1)
    labeller.wait_for_training(lambda: "2 images" in assist.badge.text())
    session.set_settings(replace(session.settings, weak_proposals=False))
    labeller.wait(lambda: assist.badge.text() == NOBODY)


@pytest.fixture
def labeller(person, heads_folder, heads):
    """A person who has labelled ten images by hand and looks at the eleventh."""
    return person.labels_by_hand(heads_folder, heads, LABELLED)


def test_ten_images_train_a_predictor_and_the_next_segments_itself(labeller, heads_folder):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    session, widget = labeller.session, labeller.widget
    assist, learn = widget.assist, widget.learn
    assert session.prompt_predictor.offer
    assert assist.offer_line.isVisible()
    assert assist.badge.text() == NOBODY
    assert not assist.modes[Mode.AUTONOMOUS].isEnabled(), "there is nothing to segment with yet"
    assert "accept" in assist.modes[Mode.AUTONOMOUS].toolTip() or session.prompt_predictor.why_not

    widget.folds.set_open("Learn")
    assert widget.folds.open_one == "Learn"
    assert widget.find_panel.isVisible(), "the dock stays as it is"
    session.prompt_predictor.plan = SHORT
    assist.train.click()
    labeller.wait(lambda: session.prompt_predictor.training is not None)
    assert not assist.offer_line.isVisible(), "what is going on is not offered"
    assert learn.cancel.isVisible()
    labeller.wait_for_training(
        lambda: session.prompt_predictor.training is None or learn.curves.losses
    )
    labeller.wait_for_training(lambda: session.prompt_predictor.training is None)
    labeller.wait(lambda: bool(session.prompt_predictor.versions))
    version = session.prompt_predictor.versions[-1]
    assert "Dice" in learn.verdict.text()
    assert learn.version.count() == 2
    assert version.images == LABELLED

    if session.prompt_predictor.current is None:  # so short a training need not beat the phrase
        learn.version.setCurrentIndex(1)
        learn.version.activated.emit(1)
        labeller.wait(lambda: session.prompt_predictor.current is not None)
    labeller.wait(lambda: bool(session.proposal.objects))
    labeller.settle()
    assert assist.modes[Mode.AUTONOMOUS].isChecked()
    assert {item.ppn for item in session.proposal.objects} == {1}
    assert assist.badge.text() == version.badge
    assert version.badge.startswith("PPN v1, held-out Dice")
    assert labeller.layer("proposal").data.any()

    before = session.proposal.objects[0].proposal.mask.copy()
    inside = np.argwhere(before)
    y, x = (int(v) for v in inside[len(inside) // 2])
    labeller.click(x, y, shift=True)
    labeller.wait(lambda: any(not i.prompts.is_empty for i in session.proposal.objects))
    labeller.settle()
    assert "with your prompts" in assist.badge.text()

    name = session.record.image_id
    labeller.press(Qt.Key.Key_G)
    labeller.wait(lambda: session.record.image_id != name and session.loaded is not None)
    labeller.wait(lambda: bool(session.proposal.objects))
    assert session.state_of(name) is ImageState.ACCEPTED
    assert session.proposal.objects[0].ppn == 1, "the next image has proposals too"

    labeller.press(Qt.Key.Key_O, Qt.KeyboardModifier.ShiftModifier)
    labeller.settle()
    assert session.prompt_predictor.mode is Mode.SEMI
    assert assist.modes[Mode.SEMI].isChecked()
    assert session.proposal.objects == ()
    widget.folds.close_all()
    QTest.mouseClick(assist.propose, Qt.MouseButton.LeftButton)
    labeller.wait(lambda: bool(session.proposal.objects))
    labeller.settle()
    assert {item.ppn for item in session.proposal.objects} == {1}, "a button asks for it"
    assert session.undo_stack.next_undo.name == "propose"
    widget.folds.set_open("Learn")
    learn.version.setCurrentIndex(0)
    learn.version.activated.emit(0)
    labeller.wait(lambda: session.prompt_predictor.current is None)
    assert assist.modes[Mode.MANUAL].isChecked()
    assert not assist.propose.isEnabled()
    assert assist.propose.toolTip() == session.prompt_predictor.why_not


def test_a_training_that_is_cancelled_leaves_nothing(labeller, heads_folder):
    session, widget = labeller.session, labeller.widget
    session.prompt_predictor.plan = LONG
    session.set_settings(replace(session.settings, train_after=25))
    widget.folds.set_open("Learn")
    assert "15 more until it learns" in widget.learn.purpose.text()
    widget.learn.train.click()
    labeller.wait_for_training(
        lambda: session.prompt_predictor.training and session.prompt_predictor.training.left
    )
    assert widget.learn.bar.format().endswith(" left"), "how long it takes"
    assert "more until it learns" not in widget.learn.purpose.text(), "for it learns"
    widget.learn.cancel.click()
    labeller.wait(lambda: session.prompt_predictor.training is None)
    labeller.settle()
    assert not session.prompt_predictor.versions
    assert not session.prompt_predictor.paused
    assert widget.learn.train.isVisible()
    assert not (heads_folder / "usgseg" / "models" / "training" / "training.pt").exists()


def test_a_training_goes_on_when_the_folder_is_opened_again(
    labeller, employ, inference, heads_folder
):
    session = labeller.session
    session.prompt_predictor.plan = LONG
    session.prompt_predictor.train()
    labeller.wait_for_training(
        lambda: session.prompt_predictor.training and session.prompt_predictor.training.losses
    )
    labeller.widget.shut_down()
    later = employ(inference)
    later.open(heads_folder)
    later.wait(lambda: later.session.prompt_predictor.training is not None)
    assert later.session.prompt_predictor.training.resumed
    later.widget.folds.set_open("Learn")
    assert "going on" in later.widget.learn.bar.format()
    later.session.prompt_predictor.cancel()
    later.wait(lambda: later.session.prompt_predictor.training is None)
    later.widget.shut_down()


def test_an_offer_can_be_declined_and_is_marked_at_the_fold(labeller):
    widget = labeller.widget
    assert widget.assist.offer_line.isVisible()
    assert "•" in widget.folds._buttons["Learn"].text()
    widget.assist.later.click()
    assert not labeller.session.prompt_predictor.offer
    assert not widget.assist.offer_line.isVisible()
    assert widget.folds._buttons["Learn"].text() == "Learn"


def test_how_much_is_needed_is_set_on_the_page(at_work):
    session, learn = at_work.session, at_work.widget.learn
    learn.form.controls["train_after"].value = 25
    learn.form.controls["train_by_itself"].value = True
    assert (session.settings.train_after, session.settings.train_by_itself) == (25, True)
    assert "25 more" in learn.purpose.text()
    assert not learn.train.isEnabled(), "nothing is accepted yet"
    assert learn.train.toolTip()
