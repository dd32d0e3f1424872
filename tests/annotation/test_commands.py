"""Commands are pure: no session, nothing changed in place, and an inverse takes the edit back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_usgseg.annotation.commands import accept, classes, objects, paint, prompts
from napari_usgseg.annotation.state import AnnotationState, Change, Refused
from napari_usgseg.core.types import ImageRecord, Prompts
from napari_usgseg.project.records import ProposedObject
from tests.support.bench import SIZE_HW


@pytest.fixture
def state(tmp_path) -> AnnotationState:
    """Two objects of class 1 accepted, and one proposed between them; two have a hole."""
    labels = np.zeros(SIZE_HW, np.uint8)
    labels[5:15, 5:15] = labels[5:15, 40:50] = 1
    labels[7:9, 7:9] = 0
    labels.setflags(write=False)
    mask = np.zeros(SIZE_HW, bool)
    mask[5:15, 20:35] = True
    mask[7:9, 22:24] = False
    nothing = AnnotationState().proposal
    item = objects.by_hand(ProposedObject(1, Prompts()), mask)
    return AnnotationState(
        record=ImageRecord("a", tmp_path / "a.png", None, SIZE_HW),
        labels=labels,
        proposal=replace(nothing, objects=(item,), active=0),
    )


LINE = np.array([[27, 0], [27, 20]], np.float32)
COMMANDS = {
    "click": ("proposal", lambda state: prompts.add_point(state, 60, 40)),
    "box": ("proposal", lambda state: prompts.add_box(state, (50, 30), (70, 50))),
    "drop object": ("proposal", lambda state: prompts.drop_object(state, 27, 10)),
    "clear": ("proposal", prompts.clear),
    "split": ("proposal", lambda state: objects.split(state, LINE)),
    "fill holes": ("proposal", objects.fill_holes),
    "grow": ("proposal", objects.grow),
    "smooth": ("proposal", objects.smooth),
    "delete object": ("labels", lambda state: objects.delete(state, 10, 10)),
    "take up again": ("labels proposal", lambda state: objects.lift(state, 10, 10)),
    "accept": ("labels proposal decision", accept.accept),
    "skip": ("proposal decision", accept.skip),
    "flag for review": ("decision", accept.flag),
    "add class": ("classes", lambda state: classes.add_class(state, "cyst")),
    "rename class": ("classes", lambda state: classes.rename_class(state, 1, "cyst")),
    "stroke on labels": ("labels", lambda state: paint.stroke(state, LINE, 3)),
    "box on labels, taken away": (
        "labels",
        lambda state: paint.box(state, (0, 0), (20, 20), positive=False),
    ),
}
"""Name of the edit -> what it changes, and the command."""


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_gives_an_edit_that_its_inverse_takes_back(state, name) -> None:
    changes, command = COMMANDS[name]
    change = command(state)
    assert isinstance(change, Change)
    assert change.edit is not None
    assert change.edit.name == name
    before = change.state or state
    after = before.after(change.edit)
    back = after.after(change.edit.inverse())
    assert np.array_equal(back.labels, state.labels)
    assert back.proposal is state.proposal
    assert back.table.classes == state.table.classes
    differs = {
        "labels": not np.array_equal(after.labels, state.labels),
        "proposal": after.proposal.objects != state.proposal.objects,
        "decision": change.edit.state is not None and len(set(change.edit.state)) == 2,
        "classes": after.table.classes != state.table.classes,
    }
    assert [part for part, other in differs.items() if other] == changes.split()


def test_a_command_without_an_image_or_beside_it_refuses(state) -> None:
    for command in (accept.accept, accept.skip, prompts.clear):
        with pytest.raises(Refused):
            command(AnnotationState())
    with pytest.raises(Refused, match="no object here"):
        objects.delete(state, 70, 50)
    with pytest.raises(Refused, match="already"):
        classes.give_class(state, 1, (27, 10))
    with pytest.raises(Refused):
        accept.accept(replace(state, awaits_proposal=True))


def test_holes_of_the_object_under_work_or_under_the_mouse_are_filled(state) -> None:
    proposed = state.after(objects.fill_holes(state).edit)
    item = proposed.proposal.current
    assert item.proposal.mask[5:15, 20:35].all()
    assert item.proposal.mask.sum() == 150
    assert (item.class_id, item.by_hand) == (1, True)
    assert proposed.labels is state.labels
    with pytest.raises(Refused, match="no hole"):
        objects.fill_holes(proposed)

    accepted = state.after(objects.fill_holes(state, (10, 10)).edit)
    assert (accepted.labels[5:15, 5:15] == 1).all()
    assert accepted.proposal is state.proposal
    for at, words in (((45, 10), "no hole"), ((70, 50), "no object here")):
        with pytest.raises(Refused, match=words):
            objects.fill_holes(state, at)


def test_an_object_grows_shrinks_and_is_smoothed_over_no_other_label(state) -> None:
    labels = np.zeros(SIZE_HW, np.uint8)
    labels[10:30, 10:30], labels[10:30, 30:40] = 1, 2
    labels[10, 10] = 0
    bare = replace(state, labels=labels, proposal=replace(state.proposal, objects=(), active=None))
    grown = bare.after(objects.grow(bare, (20, 20)).edit).labels
    assert (grown[labels == 2] == 2).all()
    assert (grown[labels == 1] == 1).all()
    assert (grown == 1)[9:31, 9:30].sum() > 20 * 20
    shrunk = bare.after(objects.grow(bare, (20, 20), -2).edit).labels
    assert (shrunk == 1).sum() < 18 * 18
    assert not (shrunk[labels != 1] != labels[labels != 1]).any()
    smooth = bare.after(objects.smooth(bare, (20, 20)).edit).labels
    assert 0 < (smooth == 1).sum() < (labels == 1).sum(), "corners are rounded"
    for change in (objects.grow, objects.smooth):
        with pytest.raises(Refused, match="no object here"):
            change(bare, (70, 50))
    with pytest.raises(Refused, match="gone"):
        objects.grow(bare, (20, 20), -30)


def test_another_label_in_a_hole_stays(state) -> None:
    labels = np.array(state.labels)
    labels[7, 7] = 2
    after = objects.fill_holes(replace(state, labels=labels), (10, 10)).edit.patch.applied(labels)
    assert after[7, 7] == 2
    assert (after[5:15, 5:15] == 1).sum() == 99
