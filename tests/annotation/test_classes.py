"""Which class an object has: that of its phrase, or the one that was picked when it was drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_usgseg.annotation import class_table
from napari_usgseg.core.types import LabelClass
from napari_usgseg.jobs.files import find_use
from napari_usgseg.jobs.inference import segment_prompt
from napari_usgseg.project.arrays import table_from_json, table_to_json
from napari_usgseg.project.records import ClassTable
from tests.support.bench import Bench

PLACES = [(12, 12), (40, 12), (68, 12), (12, 46), (40, 46), (68, 46)]
"""Points whose discs are apart."""


@pytest.fixture
def plain(bench):
    """A session in which nothing is looked for by itself."""
    session = bench.session
    session.set_settings(replace(session.settings, find_on_open=False))
    return session


def names(session) -> list[str]:
    return [item.name for item in session.table.classes]


def proposed(session) -> list[str]:
    return [session.table.get(item.class_id).name for item in session.proposal.objects]


# -- picking -----------------------------------------------------------------------------------


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["pick", "add", "draw", "correct", "accept", "undo", "find"]),
            st.integers(0, 5),
        ),
        max_size=14,
    )
)
def test_no_order_of_picks_and_prompts_changes_the_class_of_what_is_there(
    folder, tmp_path_factory, actions
):
    """Each place is drawn with a class, and keeps it whatever is picked afterwards."""
    from shutil import copy

    here = tmp_path_factory.mktemp("picks")
    for file in folder.glob("*.png"):
        copy(file, here)
    session = Bench(here).session
    session.set_settings(replace(session.settings, find_on_open=False))
    session.navigation.open_folder(here)
    for name in ("ilium", "ischium"):
        session.editing.add_class(name)
    drawn: dict[int, int] = {}
    for action, number in actions:
        x, y = PLACES[number]
        at = [item for item in session.proposal.objects if item.mask_at(x, y)]
        labelled = int(session.labels[y, x])
        match action:
            case "pick":
                session.editing.pick_class(1 + number % len(session.table.classes))
            case "add":
                session.editing.add_class(f"class of place {number}")
            case "draw" if not at and not labelled:
                drawn[number] = 1 + number % len(session.table.classes)
                session.editing.pick_class(drawn[number])
                session.prompting.add_box((x - 8, y - 8), (x + 8, y + 8))
            case "correct":
                session.prompting.add_point(x + 1, y, positive=False)
            case "accept":
                session.editing.accept()
            case "undo":
                session.undo()
            case "find":
                session.prompting.find("septum")  # is not there
        for place, class_id in drawn.items():
            px, py = PLACES[place][0] - 4, PLACES[place][1]
            here_now = {item.class_id for item in session.proposal.objects if item.mask_at(px, py)}
            assert here_now | {int(session.labels[py, px])} <= {0, class_id}


def test_a_picked_class_holds_for_the_next_object_and_that_is_said(plain):
    plain.prompting.add_box((5, 5), (25, 25))
    plain.editing.add_class("ilium")
    assert proposed(plain) == ["object"]
    assert "'ilium' is for the next object" in plain.status.text
    plain.prompting.add_box((20, 20), (40, 40))  # it overlaps the other one
    assert proposed(plain) == ["object", "ilium"]
    plain.prompting.add_point(30, 38)
    assert len(plain.proposal.objects) == 2, "a second prompt corrects the new object"
    plain.editing.pick_class(1)
    plain.prompting.add_point(15, 12)
    assert proposed(plain) == ["object", "ilium"]
    assert plain.proposal.active == 0, (
        "a click into an object of its class takes that one to work on"
    )
    before = plain.proposal.objects[1]
    plain.prompting.add_point(30, 5)
    assert proposed(plain) == ["object", "ilium"]
    assert plain.proposal.objects[0].mask_at(30, 5), "and one beside it corrects it"
    assert plain.proposal.objects[1] is before


def test_a_negative_prompt_corrects_what_it_meets_whatever_is_picked(plain):
    plain.prompting.add_box((5, 5), (35, 35))
    before = plain.proposal.objects[0].proposal.mask
    plain.editing.add_class("ilium")
    plain.prompting.add_point(15, 15, positive=False)
    assert proposed(plain) == ["object"]
    assert plain.proposal.objects[0].proposal.mask.sum() < before.sum()
    plain.prompting.add_point(15, 15)
    assert proposed(plain) == ["object", "ilium"], "the next positive one is of the picked class"


def test_a_pick_holds_on_every_image(plain):
    plain.prompting.add_box((5, 5), (25, 25))
    plain.navigation.step(1)
    plain.editing.add_class("ilium")
    plain.navigation.step(-1)
    before = plain.proposal.objects[0]
    plain.prompting.add_point(15, 10)
    assert proposed(plain) == ["object", "ilium"]
    assert plain.proposal.objects[0] is before


def test_who_is_quicker_than_the_model_loses_no_object(bench, plain):
    bench.hold = True
    plain.prompting.add_box((5, 5), (25, 25))
    plain.editing.add_class("ilium")
    plain.prompting.add_box((20, 20), (40, 40))
    plain.editing.add_class("ischium")
    plain.prompting.add_box((45, 30), (70, 50))
    assert plain.is_waiting
    bench.release()
    assert proposed(plain) == ["object", "ilium", "ischium"]
    assert all(item.has_mask for item in plain.proposal.objects)
    assert plain.proposal.active == 2
    masks = [item.proposal.mask for item in plain.proposal.objects]
    assert masks[0][15, 15]
    assert masks[1][30, 30]
    assert masks[2][40, 57]
    plain.editing.accept()
    assert set(np.unique(plain.labels)) == {0, 1, 2, 3}
    while plain.undo_stack.next_undo is not None:
        plain.undo()
    assert not plain.proposal.objects
    assert names(plain) == ["object"]


def test_what_has_no_answer_yet_can_be_called_off(bench, plain):
    bench.hold = True
    plain.prompting.add_box((5, 5), (25, 25))
    plain.prompting.add_box((45, 30), (70, 50))
    newest = bench.held_for(segment_prompt)[-1]
    bench.answer(newest)
    plain.prompting.cancel()
    bench.release()
    assert not plain.is_waiting
    (item,) = plain.proposal.objects
    assert item.mask_at(57, 40)
    assert plain.undo_stack.position == 1


# -- an object's class -------------------------------------------------------------------------


def test_a_class_is_given_to_the_active_object_and_undo_takes_it_back(plain):
    plain.prompting.add_box((5, 5), (25, 25))
    plain.prompting.add_box((45, 30), (70, 50))
    plain.editing.add_class("cyst")
    plain.editing.give_class(2)
    assert proposed(plain) == ["object", "cyst"]
    assert plain.proposal.active == 1
    plain.undo()
    assert proposed(plain) == ["object", "object"]
    plain.editing.give_class(2, at=(15, 15))
    assert proposed(plain) == ["cyst", "object"]
    plain.editing.give_class(2, at=(15, 15))
    assert "'cyst' already" in plain.status.text


def test_of_several_objects_none_is_chosen_for_the_person(plain):
    plain.prompting.find("cyst. nodule")
    plain.editing.add_class("septum")
    plain.editing.give_class(3)
    assert proposed(plain) == ["cyst", "nodule"]
    assert "Which object?" in plain.status.text
    plain.editing.give_class(3, at=(2, 2))
    assert proposed(plain) == ["cyst", "nodule"]


def test_an_object_that_was_given_a_class_is_kept_by_a_search(plain):
    plain.prompting.find("cyst")
    plain.editing.add_class("septum")
    plain.editing.give_class(2)
    plain.prompting.find("cyst")
    assert proposed(plain) == ["septum", "cyst"]


def test_no_class_is_given_while_an_answer_is_awaited(bench, plain):
    plain.prompting.add_box((5, 5), (25, 25))
    plain.editing.add_class("cyst")
    bench.hold = True
    plain.prompting.add_point(15, 15, positive=False)
    plain.editing.give_class(2)
    assert proposed(plain) == ["object"]
    assert "Wait for the proposal" in plain.facts["note"]
    bench.release()
    plain.editing.give_class(2)
    assert proposed(plain) == ["cyst"]
    plain.undo()
    plain.undo()
    assert not plain.proposal.pending
    assert plain.proposal.has_masks


@pytest.mark.parametrize("labelling", ["semantic", "instance"])
def test_an_accepted_object_is_given_a_class(plain, on_disk, labelling):
    plain.editing.set_labelling(labelling)
    plain.prompting.add_box((5, 5), (25, 25))
    plain.prompting.add_box((45, 30), (70, 50))
    plain.editing.accept()
    before = plain.labels
    plain.editing.add_class("cyst")
    plain.editing.give_class(2, at=(15, 15))
    assert plain.labels[15, 15] == (2 if labelling == "semantic" else 2001)
    assert plain.labels[40, 57] == before[40, 57]
    assert np.array_equal(plain.labels > 0, before > 0)
    assert np.array_equal(on_disk("a"), plain.labels)
    plain.editing.give_class(2, at=(57, 40))
    assert plain.labels[40, 57] == (2 if labelling == "semantic" else 2002)
    plain.undo()
    plain.undo()
    assert np.array_equal(plain.labels, before)


def test_the_accepted_object_that_was_pointed_at_last_is_given_the_class(plain):
    plain.prompting.add_box((5, 5), (25, 25))
    plain.editing.accept()
    plain.editing.add_class("cyst")
    plain.editing.give_class(2)
    assert plain.labels[15, 15] == 2, "the only one"
    plain.editing.pick_class(1)
    plain.prompting.add_box((45, 30), (70, 50))
    plain.editing.accept()
    plain.editing.give_class(2)
    assert plain.labels[40, 57] == 1, "of two nobody knows which"
    plain.painting.pick(57, 40)
    plain.editing.give_class(2)
    assert plain.labels[40, 57] == 2
    plain.navigation.step(1)
    plain.navigation.step(-1)
    assert plain.state.pointed is None


# -- phrases -----------------------------------------------------------------------------------


@pytest.mark.parametrize("phrase", ["cyst", "CYST", "  Cyst ", "cyst."])
def test_a_phrase_goes_to_the_class_of_its_name_whatever_is_picked(plain, phrase):
    plain.editing.rename_class(1, "nerve")
    plain.editing.add_class("Cyst")
    plain.editing.pick_class(1)
    plain.prompting.find(phrase)
    assert proposed(plain) == ["Cyst"]
    assert names(plain) == ["nerve", "Cyst"]
    assert "found 1 'Cyst', best" in plain.status.text
    assert plain.table.active == 2, "who looks for it means it next, too"


@pytest.mark.parametrize("name", ["Fetal Head", " fetal  head", "ｆｅｔａｌ head", "FETAL\thead"])
def test_one_name_may_be_written_in_many_ways(name):
    classes = (LabelClass(1, "nerve", "#e69f00"), LabelClass(2, "fetal head", "#56b4e9"))
    assert class_table.named(ClassTable(classes, 1), name) is classes[1]
    assert class_table.named(ClassTable(classes, 1), f"{name}s") is None


def test_a_new_phrase_makes_a_class_and_says_so(plain):
    plain.editing.rename_class(1, "breast tumor")
    plain.prompting.find("nodule")
    assert names(plain) == ["breast tumor", "nodule"]
    assert proposed(plain) == ["nodule"]
    assert "found 1 'nodule' (a new class)" in plain.status.text
    plain.editing.accept()
    assert set(np.unique(plain.labels)) == {0, 2}
    plain.undo()
    plain.undo()
    assert names(plain) == ["breast tumor"]
    assert plain.table.active == 1


def test_only_what_was_found_makes_a_class(plain):
    plain.prompting.find("fetal head")
    assert names(plain) == ["object"]
    plain.editing.rename_class(1, "nerve")
    plain.prompting.find("fetal head. nodule. kidney")
    assert names(plain) == ["nerve", "nodule"]
    assert proposed(plain) == ["nodule"]
    assert "found 1 'nodule' (a new class)" in plain.status.text
    assert "kidney" in plain.status.text
    assert plain.table.active == 1, "of several phrases none is picked"


def test_a_class_whose_name_has_a_full_stop_takes_what_its_name_finds(plain):
    plain.editing.rename_class(1, "nerve")
    plain.editing.add_class("cyst. nodule")
    plain.prompting.find("Cyst. Nodule")
    assert names(plain) == ["nerve", "cyst. nodule"]
    assert proposed(plain) == ["cyst. nodule"] * 2


def test_a_search_by_itself_leaves_the_picked_class_alone(bench, folder):
    session = bench.session
    session.prompting.find("cyst")
    session.editing.add_class("septum")
    session.editing.accept()
    session.navigation.step(1)
    assert proposed(session) == ["cyst"], "looked for by itself"
    assert session.table.get(session.table.active).name == "septum"


def test_who_picks_a_class_while_the_search_goes_on_keeps_it(bench, plain):
    plain.editing.rename_class(1, "nerve")
    plain.editing.add_class("septum")
    bench.hold = True
    plain.prompting.find("cyst")
    plain.editing.pick_class(1)
    bench.release()
    assert proposed(plain) == ["cyst"]
    assert plain.table.active == 1


def test_what_was_drawn_before_a_search_is_not_renamed(plain):
    plain.prompting.find("fetal head")
    plain.prompting.add_box((5, 40), (25, 58))
    plain.prompting.find("nodule")
    assert names(plain) == ["object", "nodule"]
    assert proposed(plain) == ["object", "nodule"]


@pytest.mark.parametrize("kind", ["accepted", "proposed", "painted"])
def test_what_another_image_has_is_not_renamed_by_the_first_search_that_finds(plain, kind):
    if kind == "painted":
        plain.painting.box((10, 10), (20, 20))
    else:
        plain.prompting.add_box((5, 40), (25, 58))
    if kind == "accepted":
        plain.editing.accept()
    plain.navigation.step(1)
    plain.prompting.find("nodule")
    assert names(plain) == ["object", "nodule"]
    assert proposed(plain) == ["nodule"]


def test_the_first_search_that_finds_names_the_first_class(plain):
    plain.prompting.find("fetal head")
    plain.editing.accept()  # nothing there
    plain.navigation.step(1)
    plain.prompting.find("septum")
    plain.prompting.find("nodule")
    assert names(plain) == ["nodule"]
    assert [item.class_id for item in plain.proposal.objects] == [1]


def test_where_it_cannot_be_known_nothing_is_renamed(bench, plain):
    """A label map that cannot be read may hold the class."""
    plain.prompting.add_box((5, 40), (25, 58))
    plain.editing.accept()
    (bench.folder / "usgseg" / "labels" / "a.png").write_bytes(b"no image")
    plain.navigation.step(1)
    plain.prompting.find("nodule")
    assert names(plain) == ["object", "nodule"]


def test_a_cancel_while_it_is_looked_up_leaves_all_as_it_was(bench, plain):
    answer = bench.answer
    held = []

    def hold_back(job) -> None:
        if job.function is find_use:
            held.append(job)
        else:
            answer(job)

    bench.answer = hold_back
    plain.prompting.find("nodule")
    assert plain.is_waiting
    assert held
    plain.prompting.cancel()
    answer(held[0])
    assert names(plain) == ["object"]
    assert not plain.proposal.objects
    assert not plain.is_waiting


# -- deleting ----------------------------------------------------------------------------------


def test_a_class_that_nothing_has_is_deleted_and_comes_back(bench, folder, plain):
    plain.editing.add_class("cyst")
    plain.editing.add_class("typo")
    plain.editing.pick_class(1)
    plain.editing.delete_class(3)
    assert names(plain) == ["object", "cyst"]
    assert plain.table.active == 1
    assert "'typo' is deleted" in plain.status.text
    plain.undo()
    assert names(plain) == ["object", "cyst", "typo"]
    plain.redo()
    plain.editing.pick_class(2)
    plain.editing.delete_class(2)
    assert names(plain) == ["object"]
    assert plain.table.active == 1
    plain.close()
    again = Bench(folder)
    again.session.navigation.open_folder(folder)
    assert names(again.session) == ["object"]
    again.session.editing.add_class("septum")
    assert again.session.table.active == 4, "the number of a class that is gone is not used again"
    again.session.undo()
    again.session.undo()
    assert names(again.session) == ["object", "cyst"]


def test_the_only_class_stays(plain):
    plain.editing.delete_class(1)
    assert names(plain) == ["object"]
    assert "rename" in plain.status.text


@pytest.mark.parametrize("kind", ["accepted", "proposed", "painted"])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_class_that_an_image_has_is_not_deleted_and_the_image_is_named(
    bench, plain, kind, elsewhere
):
    plain.editing.add_class("cyst")
    if kind == "painted":
        plain.painting.box((10, 10), (20, 20))
    else:
        plain.prompting.add_box((5, 40), (25, 58))
    if kind == "accepted":
        plain.editing.accept()
    if elsewhere:
        plain.navigation.step(1)
    plain.editing.delete_class(2)
    assert names(plain) == ["object", "cyst"]
    assert any("image a" in text for level, text in bench.notes if level == "warning")
    if elsewhere:
        plain.navigation.step(-1)
    while plain.undo_stack.next_undo.name != "add class":
        plain.undo()
    plain.editing.delete_class(2)
    assert names(plain) == ["object"], "once it is taken away"


def test_a_class_is_not_deleted_while_it_is_not_known_to_be_saved(bench, plain):
    plain.editing.add_class("cyst")
    plain.unsaved = "disk full"
    plain.editing.delete_class(2)
    assert names(plain) == ["object", "cyst"]
    assert any("disk full" in text for _, text in bench.notes)


@given(st.sets(st.integers(1, 65535), min_size=2, max_size=6), st.data())
def test_a_table_without_a_class_keeps_the_others_and_gives_no_number_twice(ids, data):
    classes = tuple(LabelClass(value, f"class {value}", "#e69f00") for value in sorted(ids))
    active, gone = data.draw(st.sampled_from(sorted(ids))), data.draw(st.sampled_from(sorted(ids)))
    before = ClassTable(classes, active)
    after = class_table.without_class(before, gone)
    assert after.classes == tuple(item for item in classes if item.class_id != gone)
    assert after.active in ids - {gone}
    assert active == gone or after.active == active
    assert table_from_json(table_to_json(after)) == after
    added = class_table.with_class(after, "new")
    assert added.active not in ids or max(ids) == 65535
    assert len({item.class_id for item in added.classes}) == len(added.classes)
    assert all(1 <= item.class_id <= 65535 for item in added.classes)
