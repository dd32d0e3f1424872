from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.support.bench import Bench


@pytest.fixture
def cine(session):
    """An image with an accepted click and an accepted box, and the next one open."""
    session.prompting.add_point(20, 20)
    session.prompting.new_object()
    session.prompting.add_box((45, 20), (70, 50))
    session.editing.accept_and_next()
    assert session.record.image_id == "b"
    return session


def test_the_prompts_of_the_previous_image_are_asked_on_this_one(cine):
    cine.copying.prompts()
    first, second = cine.proposal.objects
    assert first.prompts.point_coords.tolist() == [[20, 20]]
    assert second.prompts.box.tolist() == [45, 20, 70, 50]
    assert first.has_mask
    assert second.has_mask
    assert not cine.labels.any(), "they are proposed, not accepted"
    cine.undo()
    assert not cine.proposal.objects, "one step takes all of it back"
    cine.redo()
    assert len(cine.proposal.objects) == 2


def test_what_a_phrase_found_is_copied_as_its_box(session):
    session.prompting.find("cyst")
    session.editing.accept_and_next()
    session.prompting.clear_prompts()
    session.copying.prompts()
    assert session.proposal.objects[0].prompts.box.tolist() == [10, 10, 30, 30]


def test_the_masks_of_the_previous_image_are_fitted_to_this_one(bench, cine):
    cine.copying.masks()
    assert len(cine.proposal.objects) == 2
    for item in cine.proposal.objects:
        assert item.prompts.mask_input is not None
        assert item.prompts.box is not None
        assert item.has_mask
    assert {item.class_id for item in cine.proposal.objects} == {1}


def test_a_mask_that_is_only_proposed_is_copied_too(session):
    session.prompting.add_box((45, 20), (70, 50))
    session.navigation.step(1)
    session.copying.masks()
    assert len(session.proposal.objects) == 1


def test_a_copied_object_keeps_its_number_where_objects_are_told_apart(bench):
    session = bench.session
    session.editing.set_labelling("instance")
    session.prompting.add_box((5, 5), (20, 20))
    session.prompting.add_box((45, 20), (70, 50))
    session.editing.accept()
    where = {int(value): session.labels == value for value in (1001, 1002)}
    session.navigation.step(1)
    session.copying.masks()
    session.editing.accept()
    for value, mask in where.items():
        assert np.median(session.labels[mask]) == value


def test_prompts_are_copied_after_the_folder_was_closed_and_opened_again(cine, folder):
    cine.close()
    again = Bench(folder).session
    again.navigation.open_folder(folder)
    assert again.record.image_id == "b"
    again.copying.prompts()
    assert len(again.proposal.objects) == 2


def test_what_is_proposed_already_stays_beside_what_is_copied(cine):
    cine.prompting.add_point(75, 5)
    own = cine.proposal.objects[0]
    cine.copying.prompts()
    assert cine.proposal.objects[0] is own
    assert len(cine.proposal.objects) == 3


def test_a_cancelled_copy_leaves_the_proposal_as_it_was(bench, cine):
    cine.prompting.add_point(75, 5)
    before, steps = cine.proposal, cine.undo_stack.position
    bench.hold = True
    cine.copying.masks()
    assert cine.is_waiting
    assert not cine.editing.accept(), "there is nothing to accept yet"
    cine.prompting.cancel()
    assert not cine.is_waiting
    bench.release()
    assert cine.proposal is before
    assert cine.undo_stack.position == steps


def test_the_first_image_has_nothing_before_it(session):
    session.copying.prompts()
    assert "no image before this one" in session.status.text
    session.navigation.step(1)
    session.copying.prompts()
    assert "no prompt on the previous image" in session.status.text
    session.copying.masks()
    assert "no mask on the previous image" in session.status.text


def test_nothing_is_copied_from_an_image_of_another_size(folder):
    Image.fromarray(np.zeros((30, 40), np.uint8)).save(folder / "b.png")
    session = Bench(folder).session
    session.navigation.open_folder(folder)
    session.prompting.add_point(20, 20)
    session.editing.accept_and_next()
    session.copying.masks()
    assert "another size" in session.status.text
    assert not session.proposal.objects


def test_all_of_a_class_are_found_by_its_name_but_not_what_is_there_already(session):
    session.editing.rename_class(1, "nodule")
    session.prompting.add_box((5, 5), (20, 15))
    session.editing.accept()
    session.copying.alike()
    (item,) = session.proposal.objects
    assert item.class_id == 1
    assert item.proposal.phrase == "nodule"
    assert "found 1 more" in session.status.text
    session.copying.alike()
    assert len(session.proposal.objects) == 1
    assert "No other 'nodule'" in session.status.text
    session.editing.accept()
    session.copying.alike()
    assert not session.proposal.objects, "it is labelled now"
    session.undo()
    session.undo()
    assert not session.proposal.objects


def test_all_of_a_class_wants_a_class_with_a_name_that_is_found(session):
    session.copying.alike()
    assert "Name the class first" in session.status.text
    session.editing.rename_class(1, "fetal head")
    session.copying.alike()
    assert "No 'fetal head' found" in session.status.text
    assert session.undo_stack.next_undo.name == "rename class"


def test_a_cancelled_search_for_all_leaves_the_proposal_as_it_was(bench):
    session = bench.session
    session.prompting.find("cyst")
    before = session.proposal
    session.editing.add_class("nodule")
    bench.hold = True
    session.copying.alike()
    assert session.is_waiting
    session.prompting.cancel()
    bench.release()
    assert session.proposal is before


def test_a_click_while_a_copy_is_awaited_is_answered_too(bench, cine):
    bench.hold = True
    cine.copying.masks()
    prior = bench.held.pop()
    bench.answer(prior)
    objects = bench.held.pop()
    cine.prompting.add_point(75, 5)
    bench.answer(objects)
    assert cine.is_waiting
    bench.release()
    assert not cine.is_waiting
    assert len(cine.proposal.objects) == 3
    assert all(item.has_mask for item in cine.proposal.objects)
    assert cine.proposal.objects[cine.proposal.active].mask_at(75, 5)
