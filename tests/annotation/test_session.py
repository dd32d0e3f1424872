from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_usgseg.io.atomic import write_over
from napari_usgseg.jobs.inference import segment_prompt
from napari_usgseg.project.records import ImageState


def test_a_click_makes_a_proposal_and_leaves_the_labels_alone(session, on_disk):
    session.prompting.add_point(20, 20)
    assert session.proposal.has_masks
    assert not session.proposal.pending
    assert session.proposal.objects[0].mask_at(20, 20)
    assert not session.labels.any()
    assert on_disk("a") is None
    assert session.state_of("a") is ImageState.PROPOSED


def test_accepting_writes_the_label_map_and_going_on_shows_the_next_image(session, on_disk):
    session.prompting.add_point(20, 20)
    mask = session.proposal.objects[0].proposal.mask
    assert session.editing.accept_and_next()
    assert session.record.image_id == "b"
    assert np.array_equal(on_disk("a"), mask.astype(np.uint8))
    assert session.state_of("a") is ImageState.ACCEPTED
    assert session.status.text.count("saved")


def test_a_second_click_corrects_the_same_object_and_feeds_the_mask_back(session):
    session.prompting.add_point(20, 20)
    first = session.proposal.objects[0].proposal
    session.prompting.add_point(23, 20, positive=False)
    assert len(session.proposal.objects) == 1
    prompts = session.proposal.objects[0].prompts
    assert prompts.point_labels.tolist() == [1, 0]
    assert prompts.mask_input is first.low_res_logits
    assert session.proposal.objects[0].proposal.mask.sum() < first.mask.sum()


def test_a_negative_click_with_nothing_proposed_is_explained(session):
    session.prompting.add_point(20, 20, positive=False)
    assert not session.proposal.objects
    assert "find or draw an object first" in session.status.text


def test_a_click_outside_the_image_does_nothing(session):
    session.prompting.add_point(-3, 20)
    session.prompting.add_point(80, 20)
    assert not session.proposal.objects


def test_a_box_elsewhere_is_another_object_and_with_shift_it_is_of_the_one_under_work(session):
    session.prompting.add_box((5, 5), (20, 20))
    session.prompting.add_box((60, 50), (40, 30))
    assert len(session.proposal.objects) == 2
    assert session.proposal.objects[1].prompts.box.tolist() == [40, 30, 60, 50]
    session.prompting.add_box((42, 32), (64, 54), anew=True)
    assert len(session.proposal.objects) == 2
    assert session.proposal.objects[1].prompts.box.tolist() == [42, 32, 64, 54]


def test_a_positive_click_beyond_the_box_takes_the_box_away(session):
    session.prompting.add_box((10, 10), (30, 30))
    session.prompting.add_point(33, 20)
    assert len(session.proposal.objects) == 1
    assert session.proposal.objects[0].prompts.box is None


def test_a_phrase_finds_what_is_there_and_says_what_is_not(session):
    session.prompting.find("cyst")
    assert [item.proposal.phrase for item in session.proposal.objects] == ["cyst"]
    assert "found 1" in session.status.text
    assert session.table.classes[0].name == "cyst", "the nameless first class takes the phrase"
    session.prompting.find("fetal head")
    assert "No 'fetal head' found" in session.status.text
    assert [item.proposal.phrase for item in session.proposal.objects] == ["cyst"], "and stays"


def test_each_of_several_phrases_gets_its_class(session):
    session.prompting.find("cyst. nodule.")
    assert [item.name for item in session.table.classes] == ["cyst", "nodule"]
    assert [item.class_id for item in session.proposal.objects] == [1, 2]
    session.editing.accept()
    assert set(np.unique(session.labels)) == {0, 1, 2}
    session.undo()
    session.undo()
    assert [item.name for item in session.table.classes] == ["object"]


def test_a_click_on_what_a_phrase_found_corrects_that_object(session):
    session.prompting.find("cyst. nodule")
    nodule = session.proposal.objects[1].proposal
    session.prompting.add_point(57, 35, positive=False)
    assert session.proposal.active == 1
    assert session.proposal.objects[1].prompts.box.tolist() == nodule.box.tolist()
    assert session.proposal.objects[1].proposal.mask.sum() < nodule.mask.sum()


def test_one_wrong_object_of_several_can_be_dropped(session):
    session.prompting.find("cyst. nodule")
    session.prompting.drop_object(20, 20)
    assert [item.proposal.phrase for item in session.proposal.objects] == ["nodule"]
    session.prompting.drop_object(2, 2)
    assert len(session.proposal.objects) == 1
    session.undo()
    assert len(session.proposal.objects) == 2


def test_finding_again_keeps_what_the_person_pointed_at(session):
    session.prompting.add_point(70, 5)
    session.prompting.find("cyst")
    session.prompting.find("cyst")
    assert len(session.proposal.objects) == 2


def test_accepting_leaves_other_labels_as_they_are_unless_told_to(session):
    session.prompting.add_box((10, 10), (40, 40))
    session.editing.accept()
    before = session.labels
    session.editing.add_class("cyst")
    session.prompting.add_box((30, 10), (60, 40))
    session.editing.accept()
    kept = before == 1
    assert (session.labels[kept] == 1).all()
    assert (session.labels == 2).any()
    session.undo()
    session.set_settings(replace(session.settings, overwrite=True))
    session.editing.accept()
    assert (session.labels[kept] == 2).any()


def test_an_image_with_nothing_in_it_is_empty_where_that_is_stated(session, on_disk):
    assert not session.editing.accept_and_next()
    assert on_disk("a") is None
    assert "mark the image as empty" in session.facts["note"]
    session.navigation.mark_empty()
    assert on_disk("a") is not None
    assert not on_disk("a").any()
    session.undo()
    assert on_disk("a") is None
    assert session.state_of("a") is ImageState.UNTOUCHED


def test_nothing_is_accepted_while_an_answer_is_awaited(bench, on_disk):
    bench.hold = True
    bench.session.prompting.find("cyst")
    assert not bench.session.editing.accept_and_next()
    assert bench.session.record.image_id == "a"
    bench.release()
    assert bench.session.editing.accept_and_next()
    assert on_disk("a").any()


def test_an_answer_for_an_image_that_was_left_is_dropped(bench):
    session = bench.session
    bench.hold = True
    session.prompting.add_point(20, 20)
    stale = bench.held
    bench.held, bench.hold = [], False
    session.navigation.open_image("b")
    for request in stale:
        bench.answer(request)
    assert session.record.image_id == "b"
    assert not session.proposal.objects
    session.navigation.open_image("a")
    assert not session.proposal.objects, "a prompt that was never answered is gone"
    assert session.undo_stack.next_undo is None


def test_only_the_newest_of_two_quick_clicks_counts_and_both_can_be_undone(bench):
    session = bench.session
    bench.hold = True
    session.prompting.add_point(20, 20)
    session.prompting.add_point(26, 20)
    late, newest = bench.held_for(segment_prompt)
    bench.hold, bench.held = False, []
    bench.answer(newest)
    bench.answer(late)
    assert session.proposal.objects[0].prompts.point_labels.tolist() == [1, 1]
    both = session.proposal.objects[0].proposal.mask
    session.undo()
    assert not session.proposal.pending, "the first click is asked again, for it had no answer"
    assert session.proposal.objects[0].proposal.mask.sum() < both.sum()
    session.undo()
    assert not session.proposal.objects


def test_going_back_to_an_image_finds_its_proposal_again(session):
    session.prompting.add_point(20, 20)
    session.navigation.step(1)
    assert session.state_of("a") is ImageState.PROPOSED
    session.navigation.step(-1)
    assert session.proposal.has_masks


def test_undo_goes_back_to_the_image_where_it_was_done(session, on_disk):
    session.prompting.add_point(20, 20)
    session.editing.accept_and_next()
    session.undo()
    assert session.record.image_id == "a"
    assert not session.labels.any()
    assert session.proposal.has_masks
    assert on_disk("a") is None
    session.redo()
    assert on_disk("a").any()


def test_undo_does_not_overwrite_labels_that_changed_elsewhere(session, folder, on_disk):
    from napari_usgseg.io.labels import write_labels

    session.prompting.add_point(20, 20)
    session.editing.accept()
    session.navigation.open_image("b")
    foreign = np.full(session.labels.shape, 3, np.uint8)
    write_labels(folder / "usgseg" / "labels" / "a.png", foreign, write_over)
    session.navigation.open_folder(folder)
    session.navigation.open_image("a")
    session.undo()
    assert np.array_equal(on_disk("a"), foreign)
    assert "class 3" in [item.name for item in session.table.classes]


def test_painting_by_hand_is_saved_and_can_be_undone(session, on_disk):
    painted = session.labels.copy()
    painted[3:6, 4:9] = 1
    session.editing.painted(painted)
    assert np.array_equal(on_disk("a"), painted)
    session.undo()
    assert on_disk("a") is None
    session.redo()
    assert np.array_equal(on_disk("a"), painted)


def test_a_model_that_cannot_be_loaded_is_said_and_the_prompt_taken_back(bench):
    session = bench.session
    session.set_settings(replace(session.settings, segmenter="missing"))
    session.prompting.add_point(20, 20)
    assert session.status.error
    assert "choose another" in session.status.text
    assert ("error", "no model 'missing'; choose another") in bench.notes
    assert not session.proposal.objects
    session.set_settings(replace(session.settings, segmenter="nano"))
    session.prompting.add_point(20, 20)
    assert session.proposal.has_masks
    assert not session.status.error


def test_a_phrase_is_looked_for_on_each_untouched_image_as_it_opens(session):
    session.prompting.find("cyst")
    session.editing.accept_and_next()
    assert session.record.image_id == "b"
    assert session.proposal.has_masks
    session.navigation.step(-1)
    assert not session.proposal.has_masks, "not on an image that is accepted"


def test_the_folder_opens_where_the_person_was_with_models_and_phrase(bench, folder):
    bench.session.prompting.find("cyst")
    bench.session.editing.accept_and_next()
    again = type(bench)(folder)
    again.session.navigation.open_folder(folder)
    assert again.session.record.image_id == "b"
    assert again.session.settings.phrase == "cyst"
    assert again.session.table.classes[0].name == "cyst"
    assert again.session.image_queue.accepted_count == 1


def test_skipping_sets_an_image_aside_without_a_label_map(session, on_disk):
    session.navigation.skip()
    assert session.record.image_id == "b"
    assert session.state_of("a") is ImageState.SKIPPED
    assert on_disk("a") is None
    session.undo()
    assert session.state_of("a") is ImageState.UNTOUCHED


def test_export_without_any_label_says_what_to_do(bench, tmp_path):
    bench.session.export(tmp_path / "out", "breast", "cyst")
    assert bench.session.status.error
    assert "accept at least one" in bench.session.status.text


ACTIONS = st.sampled_from(
    ["point", "negative", "box", "find", "accept", "paint", "class", "next", "previous"]
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(ACTIONS, st.integers(0, 79), st.integers(0, 59)), max_size=12))
def test_undoing_everything_leads_back_to_the_beginning(folder, tmp_path_factory, actions):
    from shutil import copy

    from tests.support.bench import Bench, act

    here = tmp_path_factory.mktemp("undo")
    for file in folder.glob("*.png"):
        copy(file, here)
    bench = Bench(here)
    session = bench.session
    session.set_settings(replace(session.settings, find_on_open=False))
    session.navigation.open_folder(here)
    classes = session.table.classes
    for action, x, y in actions:
        act(session, action, x, y)
    after = {path.name: path.read_bytes() for path in here.glob("usgseg/labels/*.png")}
    count = 0
    while session.undo_stack.next_undo is not None:
        session.undo()
        count += 1
    assert session.table.classes == classes
    assert not list(here.glob("usgseg/labels/*.png"))
    for image_id in "abc":
        session.navigation.open_image(image_id)
        assert not session.labels.any()
        assert not session.proposal.has_masks
    for _ in range(count):
        session.redo()
    again = {path.name: path.read_bytes() for path in here.glob("usgseg/labels/*.png")}
    assert again == after


def test_no_two_classes_have_one_name(session):
    session.editing.rename_class(1, "nerve")
    session.editing.add_class("vessel")
    session.editing.add_class(" Nerve ")
    assert [item.name for item in session.table.classes] == ["nerve", "vessel"]
    assert session.table.active == 1
    session.editing.rename_class(2, "nerve")
    assert [item.name for item in session.table.classes] == ["nerve", "vessel"]
    session.editing.rename_class(1, "Nerve")
    assert session.table.classes[0].name == "Nerve"
