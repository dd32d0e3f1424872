"""The loop: what is counted, trained, promoted, proposed, and what is never touched."""

from __future__ import annotations

import json
import os
import shutil
import signal
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_usgseg.annotation.settings import Mode
from napari_usgseg.jobs import Lane, inference
from napari_usgseg.project.project import Project
from napari_usgseg.project.records import EventKind, ImageState
from napari_usgseg.project.versions import VersionStore, read_request
from tests.support import loop_bench
from tests.support.labelling import follow_anew


@pytest.fixture
def folder(tmp_path):
    tmp_path.joinpath("images").mkdir()
    return tmp_path / "images"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, models):
    """A project with four of seven images accepted and one promoted version; copied by tests."""
    folder = tmp_path_factory.mktemp("loop") / "images"
    folder.mkdir()
    truths = loop_bench.write_phantoms(folder, 7)
    bench = loop_bench.LoopBench(models, steps=30)
    bench.session.navigation.open_folder(folder)
    bench.session.editing.rename_class(1, "zygomatic arch")  # the text prompt refuses it
    for number in range(4):
        bench.accept(f"{number:02d}", truths[number])
    bench.train()
    predictor = bench.session.prompt_predictor
    assert predictor.current is not None, predictor.verdict
    bench.close()
    return folder


@pytest.fixture
def project(trained, tmp_path):
    """A copy of the trained project; images 04 and 05 have proposals."""
    return Path(shutil.copytree(trained, tmp_path / "copy" / "images"))


def number_of(proposal) -> set[int]:
    return {item.ppn for item in proposal.objects}


def test_images_of_a_class_are_counted_and_a_training_is_offered(folder, make_bench):
    truths = loop_bench.write_phantoms(folder, 5)
    bench = make_bench(folder)
    session, predictor = bench.session, bench.session.prompt_predictor
    session.set_settings(replace(session.settings, train_after=3))
    assert predictor.why_not.startswith("Nothing is learnt yet: accept 3 images")
    assert "Accept 3 images" in predictor.cannot_train
    told = []
    predictor.changed.connect(lambda: told.append(predictor.until_offer))
    for number in range(3):
        assert predictor.offer == ""
        bench.accept(f"{number:02d}", truths[number])
    assert told[-1] == predictor.until_offer == 0
    assert predictor.counts == {1: 3}
    assert predictor.offer == "3 images with 'object' are accepted: train?"
    session.undo()
    assert (predictor.counts, predictor.offer) == ({1: 2}, "")
    session.redo()
    assert predictor.offer
    predictor.dismiss()
    assert predictor.offer == ""
    assert predictor.until_offer == 2  # half as many again
    bench.accept("03", truths[3])
    bench.accept("04", truths[4])
    assert predictor.offer.startswith("5 images")


def test_accepted_images_are_counted_again_when_the_folder_is_opened(project, make_bench):
    bench = make_bench(project)
    assert bench.session.prompt_predictor.counts == {1: 4}
    assert bench.session.prompt_predictor.until_offer == 10  # as many again as at the last training


def test_a_first_one_that_beats_the_text_prompt_is_promoted_and_proposes(trained, make_bench):
    predictor = make_bench(trained).session.prompt_predictor
    version = predictor.current
    assert version is not None
    assert (version.number, version.images, version.per_class) == (1, 4, {1: 4})
    assert version.classes == {1: "zygomatic arch"}
    assert version.badge == f"PPN v1, held-out Dice {version.held_out_dice:.2f}, 4 images"
    assert predictor.verdict.startswith("In use now: Dice 0.")
    assert "on 4 images that it had not learnt from, the text prompt 0.00." in predictor.verdict
    assert "Measured in 3 shorter trainings, each without some of the images." in predictor.verdict
    assert f"Dice {version.held_out_dice:.2f}" in predictor.verdict
    assert version.outcome.startswith("PPN v1 is in use now: Dice 0.")
    assert not (Path(version.folder).parent / "training").exists()
    assert not list(version.folder.glob("fold-*"))


def test_opening_shows_what_was_learnt_and_the_next_images_have_it_before(project, make_bench):
    bench = make_bench(project)
    session = bench.session
    before = session.undo_stack.count
    session.navigation.open_image("04")
    assert number_of(session.proposal) == {1}
    badge = session.prompt_predictor.badge(session.proposal.model_id)
    assert badge.startswith("PPN v1, held-out Dice")
    assert session.undo_stack.count == before  # nobody did anything
    states = {name: session.state_of(name) for name in ("03", "04", "05", "06")}
    assert states == {
        "03": ImageState.ACCEPTED,
        "04": ImageState.PROPOSED,
        "05": ImageState.PROPOSED,
        "06": ImageState.PROPOSED,
    }
    asked = len(bench.proposed)
    session.navigation.step(1)
    assert number_of(session.proposal) == {1}
    assert [
        r for r in bench.proposed[asked:] if r.lane is not Lane.PREFETCH
    ] == []  # it was there already
    events = [e for e in session.store.events() if e.kind is EventKind.PROPOSAL]
    assert {e.image_id for e in events} == {"04", "05", "06"}
    assert all(e.body["model"].startswith("ppn-v1@nano-") for e in events)


def test_what_was_proposed_is_made_again_from_the_history(project, make_bench):
    bench = make_bench(project)
    bench.session.navigation.open_image("04")
    bench.close()
    with closing(Project(project)) as store:
        before = store.states(), len(store.read_proposal("04").objects)
        follow_anew(store)
        assert (store.states(), len(store.read_proposal("04").objects)) == before
        assert before[0]["04"] is ImageState.PROPOSED
        assert number_of(store.read_proposal("04")) == {1}


def test_a_click_on_top_refines_and_undo_brings_the_proposal_back(project, make_bench):
    bench = make_bench(project)
    session = bench.session
    session.navigation.open_image("04")
    proposal = session.proposal
    rows, columns = np.nonzero(proposal.objects[0].proposal.mask)
    session.prompting.add_point(float(columns[0]), float(rows[0]), positive=False)
    (item,) = session.proposal.objects
    assert item.ppn == 1
    assert len(item.prompts.point_coords) == 1
    assert session.proposal.model_id.startswith("ppn-v1@nano-")
    session.undo()
    assert session.proposal is proposal


def test_an_accepted_proposal_is_one_step_and_the_ledger_names_the_version(project, make_bench):
    from napari_usgseg.effort.efforts import BY_PPN, Way, efforts

    bench = make_bench(project)
    session = bench.session
    session.navigation.open_image("04")
    mask = session.proposal.objects[0].proposal.mask
    assert session.editing.accept()
    np.testing.assert_array_equal(session.labels > 0, mask)
    assert session.undo_stack.steps[-1].name == "accept"
    rows = {e.image_id: e for e in efforts(session.store.events(), "", session.store.states())}
    assert rows["04"].first.source == BY_PPN
    assert rows["04"].first.model.startswith("ppn-v1@")
    assert rows["04"].way is Way.UNCHANGED
    assert "05" not in rows  # proposed before it is shown, seen by nobody


def test_semi_shows_nothing_by_itself_but_joins_and_manual_does_neither(project, make_bench):
    bench = make_bench(project)
    session, predictor = bench.session, bench.session.prompt_predictor
    session.navigation.open_image("04")
    predictor.set_mode(Mode.SEMI)
    assert session.proposal.objects == ()
    assert session.state_of("04") is ImageState.UNTOUCHED
    session.prompting.add_box((30, 20), (90, 70))
    assert number_of(session.proposal) == {1}
    session.undo()
    predictor.set_mode(Mode.MANUAL)
    session.prompting.add_box((30, 20), (90, 70))
    assert number_of(session.proposal) == {0}
    assert session.proposal.model_id.startswith("nano-")
    again = make_bench(project, annotator="")
    assert again.session.prompt_predictor.mode is Mode.MANUAL  # kept with the project


def test_what_a_person_began_or_decided_is_never_touched(project, make_bench):
    bench = make_bench(project)
    session, predictor = bench.session, bench.session.prompt_predictor
    predictor.choose(None)
    session.navigation.open_image("04")
    session.prompting.add_box((30, 20), (90, 70))
    drawn = session.proposal
    session.navigation.open_image("05")
    session.navigation.skip()
    assert session.record.image_id == "06"
    painted = np.zeros(loop_bench.SIZE_HW, np.uint8)
    painted[10:20, 10:20] = 1
    session.editing.painted(painted)
    accepted = {n: session.store.read_labels(session.image_queue.get(n)) for n in ("00", "03")}
    predictor.choose(1)
    assert session.proposal.objects == ()
    for name in ("00", "03", "05"):
        session.navigation.open_image(name)
        assert session.proposal.objects == ()
    session.navigation.open_image("04")
    assert session.proposal.objects == drawn.objects
    for name, labels in accepted.items():
        record = session.image_queue.get(name)
        np.testing.assert_array_equal(session.store.read_labels(record), labels)


def test_cleared_proposals_do_not_come_back_by_themselves_but_when_asked_for(project, make_bench):
    bench = make_bench(project)
    session = bench.session
    session.navigation.open_image("04")
    session.prompting.clear_prompts()
    session.navigation.step(1)
    session.navigation.step(-1)
    assert session.proposal.objects == ()
    session.prompt_predictor.propose()
    assert number_of(session.proposal) == {1}
    session.undo()
    assert session.proposal.objects == ()


def test_what_was_touched_before_the_training_and_left_empty_has_a_proposal_too(
    project, make_bench
):
    bench = make_bench(project)
    session, predictor = bench.session, bench.session.prompt_predictor
    predictor.choose(None)
    for name in ("04", "05"):
        session.navigation.open_image(name)
        session.prompting.add_box((30, 20), (90, 70))
        session.prompting.clear_prompts()
        assert session.proposal.objects == ()
    predictor.choose(1)
    assert number_of(session.proposal) == {1}, "the shown one"
    session.navigation.open_image("04")
    assert number_of(session.proposal) == {1}
    session.prompting.clear_prompts()
    session.navigation.open_image("05")
    session.navigation.open_image("04")
    assert session.proposal.objects == (), "this one was taken away"
    predictor.set_mode(Mode.AUTONOMOUS)
    assert number_of(session.proposal) == {1}, "autonomous, pressed once more, asks for it"
    session.prompting.clear_prompts()
    copy_of(project, 2, promoted=True)
    predictor._use(VersionStore(session.store.models_folder).read())
    assert number_of(session.proposal) == {2}, "another version may try"


def test_what_a_person_asked_for_stays_when_nothing_is_shown_by_itself(project, make_bench):
    bench = make_bench(project)
    session, predictor = bench.session, bench.session.prompt_predictor
    predictor.set_mode(Mode.SEMI)
    session.navigation.open_image("04")
    predictor.propose()
    session.navigation.open_image("05")
    session.navigation.open_image("04")
    assert number_of(session.proposal) == {1}
    again = make_bench(project).session
    again.navigation.open_image("04")
    assert number_of(again.proposal) == {1}, "nor is it taken away at the next opening"


def copy_of(project: Path, number: int, promoted: bool) -> None:
    """Another version with the same weights."""
    models = project / "usgseg" / "models"
    place = Path(shutil.copytree(models / "ppn-v0001", models / f"ppn-v{number:04d}"))
    text = (place / "version.json").read_text()
    if not promoted:
        (place / "version.json").write_text(text.replace('"promoted": true', '"promoted": false'))


def test_after_a_promotion_untouched_proposals_are_made_anew(project, make_bench):
    bench = make_bench(project)
    session = bench.session
    session.navigation.open_image("04")
    session.navigation.open_image("05")
    copy_of(project, 2, promoted=True)
    session.prompt_predictor._use(VersionStore(session.store.models_folder).read())
    assert number_of(session.proposal) == {2}
    session.navigation.open_image("04")
    assert number_of(session.proposal) == {2}


def test_an_older_version_can_be_chosen_again_or_none_and_that_is_kept(project, make_bench):
    copy_of(project, 2, promoted=True)
    copy_of(project, 3, promoted=False)
    bench = make_bench(project)
    session, predictor = bench.session, bench.session.prompt_predictor
    assert [item.number for item in predictor.versions] == [1, 2, 3]
    assert predictor.current.number == 2
    session.navigation.open_image("04")
    assert number_of(session.proposal) == {2}
    predictor.choose(1)
    assert number_of(session.proposal) == {1}
    predictor.choose(None)
    assert session.proposal.objects == ()
    assert predictor.why_not.startswith("No version is in use")
    assert make_bench(project).session.prompt_predictor.current is None


def give_to_another_segmenter(
    project, number: int, other: str = "sam2.1-hiera-tiny-0123abcd"
) -> None:
    """Let a version's card say that it was trained on SAM 2.1, or on another one."""
    place = project / "usgseg" / "models" / f"ppn-v{number:04d}"
    segmenter = json.loads((place / "version.json").read_text())["base"]
    for name in ("ppn.json", "version.json"):
        text = (place / name).read_text().replace(segmenter, other)
        (place / name).write_text(text)


def test_a_version_of_a_former_nano_says_so_and_is_trained_again_by_one_click(project, make_bench):
    give_to_another_segmenter(project, 1, "nano-0123abcd")
    bench = make_bench(project)
    session, predictor = bench.session, bench.session.prompt_predictor
    assert predictor.why_not.startswith("PPN v1 belongs to a former nano (nano-0123abcd;")
    assert predictor.offer == "PPN v1 belongs to a former nano: train again?"
    predictor.dismiss()
    assert predictor.offer == ""
    session.navigation.open_folder(project)
    assert predictor.offer
    bench.train()  # what the button beside the offer does
    assert predictor.versions[-1].base.startswith("nano-")
    assert predictor.versions[-1].base != "nano-0123abcd"
    if predictor.versions[-1].promoted:
        assert predictor.why_not == predictor.offer == ""


def test_a_version_of_another_segmenter_is_not_used_and_says_why(project, make_bench):
    give_to_another_segmenter(project, 1)
    bench = make_bench(project)
    session, predictor = bench.session, bench.session.prompt_predictor
    session.navigation.open_image("04")
    assert session.proposal.objects == ()
    assert "was trained on sam2.1-hiera-tiny-0123abcd, not on nano-" in predictor.why_not
    session.prompting.add_box((30, 20), (90, 70))
    assert number_of(session.proposal) == {0}


def test_of_several_promoted_ones_the_newest_that_fits_the_segmenter_is_used(project, make_bench):
    copy_of(project, 2, promoted=True)
    give_to_another_segmenter(project, 2)
    bench = make_bench(project)
    session, predictor = bench.session, bench.session.prompt_predictor
    session.navigation.open_image("04")
    assert predictor.current.number == predictor.in_use == 1
    assert number_of(session.proposal) == {1}
    predictor.choose(2)
    assert predictor.current.number == 2
    assert "was trained on sam2.1-hiera-tiny-0123abcd" in predictor.why_not
    assert session.proposal.objects == ()
    assert make_bench(project).session.prompt_predictor.current.number == 2


def test_a_damaged_version_is_said_and_everything_else_works(project, make_bench):
    (project / "usgseg" / "models" / "ppn-v0001" / "ppn.safetensors").write_bytes(b"torn")
    bench = make_bench(project)
    session = bench.session
    session.navigation.open_image("06")
    assert session.proposal.objects == ()
    warnings = [text for level, text in bench.notes if level == "warning"]
    assert any("PPN v1 cannot be used" in text for text in warnings)
    session.prompting.add_box((30, 20), (90, 70))
    assert session.proposal.has_masks


def test_another_annotator_has_versions_of_their_own(project, make_bench):
    bench = make_bench(project, annotator="bea")
    predictor = bench.session.prompt_predictor
    assert predictor.versions == ()
    assert predictor.counts == {1: 0}
    assert bench.session.store.models_folder.name == "by-bea"


def test_a_worse_one_is_refused_and_the_old_one_stays(project, make_bench):
    bench = make_bench(project, steps=1)
    predictor = bench.session.prompt_predictor
    card = project / "usgseg" / "models" / "ppn-v0001" / "ppn.json"
    entry = json.loads(card.read_text())
    scores = entry["scores"]
    scores["per_image"] = dict.fromkeys(scores["per_image"], 1.0)
    for each in scores["per_class"].values():
        each.update(dict.fromkeys(each, 1.0))
    card.write_text(json.dumps(entry))
    bench.train()
    assert [item.promoted for item in predictor.versions] == [True, False]
    assert predictor.current.number == 1
    first, second = predictor.versions
    assert predictor.verdict.startswith("Not used, for it is no better: Dice 0.")
    assert "PPN v1 1.00" in predictor.verdict
    assert any("Not used" in text for _, text in bench.notes)
    # the list and the sentence give the same figures
    assert (first.held_out_dice, second.rival_dice) == (1.0, 1.0)
    assert f"Dice {second.held_out_dice:.2f} on" in predictor.verdict
    assert "not used, for it is no better: Dice 0." in bench.session.status.text


def test_a_training_that_is_cancelled_leaves_nothing_or_goes_on_as_wanted(project, make_bench):
    bench = make_bench(project, steps=400)
    session, predictor = bench.session, bench.session.prompt_predictor
    predictor.train()
    bench.pump(lambda: predictor.training.step > 2)
    assert 400 < predictor.training.steps <= 1202  # three folds of two thirds, and the whole
    assert predictor.cannot_train == "A training goes on already."
    predictor.cancel(keep=True)
    bench.pump(lambda: predictor.training is None)
    training = session.store.models_folder / "training"
    assert predictor.paused
    assert read_request(training)["paused"]
    again = make_bench(project)
    assert again.session.prompt_predictor.training is None  # it rests
    assert again.session.prompt_predictor.paused
    again.session.prompt_predictor.train()
    again.pump(lambda: again.session.prompt_predictor.training.step > 2)
    assert again.session.prompt_predictor.training.resumed
    again.session.prompt_predictor.cancel()
    again.pump(lambda: again.session.prompt_predictor.training is None)
    assert not training.exists()
    assert not again.session.prompt_predictor.paused
    assert [item.number for item in again.session.prompt_predictor.versions] == [1]


def test_a_training_that_is_killed_goes_on_by_itself_and_nothing_is_lost(project, make_bench):
    bench = make_bench(project, steps=6)
    predictor = bench.session.prompt_predictor
    predictor.train()
    bench.pump(lambda: predictor.training.step > 4)  # the first of three folds is done
    os.kill(bench.trainings.process_id, getattr(signal, "SIGKILL", signal.SIGTERM))
    bench.pump(lambda: predictor.training.resumed)
    assert any("ended from outside" in text for _, text in bench.notes)
    kept, steps = predictor.training, []
    predictor.changed.connect(lambda: steps.append(predictor.training and predictor.training.step))
    bench.pump(lambda: predictor.training is None)
    assert min(step for step in steps if step is not None and step != kept.step) > 3
    assert [item.number for item in predictor.versions] == [1, 2]
    assert predictor.versions[1].images == 4
    assert predictor.running.failure == ""


def test_closing_the_window_ends_it_and_opening_goes_on_with_the_same_labels(project, make_bench):
    bench = make_bench(project, steps=8)
    session = bench.session
    session.prompt_predictor.train()
    bench.pump(lambda: session.prompt_predictor.training.step > 2)
    process = bench.trainings.process_id
    bench.accept("04", np.ones(loop_bench.SIZE_HW, np.uint8))
    bench.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    again = make_bench(project)
    assert again.session.prompt_predictor.training.resumed
    again.pump(lambda: again.session.prompt_predictor.training is None)
    version = again.session.prompt_predictor.last
    assert (version.number, version.images) == (2, 4)  # not the fifth, which came later
    with closing(Project(project, write=False)) as store:
        assert list(store.states().values()).count(ImageState.ACCEPTED) == 5


def test_a_training_begins_by_itself_where_that_was_chosen(folder, make_bench):
    truths = loop_bench.write_phantoms(folder, 4)
    bench = make_bench(folder)
    session, predictor = bench.session, bench.session.prompt_predictor
    session.set_settings(replace(session.settings, train_after=3, train_by_itself=True))
    for number in range(3):
        assert predictor.training is None
        bench.accept(f"{number:02d}", truths[number])
    assert predictor.training is not None
    predictor.cancel()
    bench.pump(lambda: predictor.training is None)


def test_a_project_with_more_images_than_are_learnt_from_is_not_trained_again_at_once(
    project, make_bench
):
    path = project / "usgseg" / "models" / "ppn-v0001" / "version.json"
    entry = json.loads(path.read_text())
    path.write_text(json.dumps({**entry, "images": 2, "per_class": {"1": 4, "2": 3}}))
    bench = make_bench(project)
    session, predictor = bench.session, bench.session.prompt_predictor
    session.set_settings(replace(session.settings, train_after=2, train_by_itself=True))
    assert (predictor.until_offer, predictor.training) == (2, None)
    assert predictor.request(["00"])["counts"] == {1: 4}


def test_a_cancelled_training_is_not_gone_on_with_though_the_window_closed_meanwhile(
    project, make_bench
):
    bench = make_bench(project, steps=400)
    bench.session.prompt_predictor.train()
    bench.pump(lambda: bench.session.prompt_predictor.training.step > 0)
    bench.session.prompt_predictor.cancel()
    bench.close()
    again = make_bench(project).session.prompt_predictor
    assert (again.training, again.paused) == (None, True)
    again.cancel()
    assert again.unfinished is None


def test_no_other_training_begins_before_the_last_one_is_written_down(project, make_bench):
    bench = make_bench(project)
    session, predictor = bench.session, bench.session.prompt_predictor
    predictor.train()

    def end():
        bench.pump(lambda: predictor.running._closing)

    held = held_back(bench, end)
    assert (held[-1].args[2], predictor.training.phase) == ("register", "ending")
    assert "already" in predictor.cannot_train
    assert session.tuning.cannot_train == predictor.busy
    predictor.cancel()  # too late
    bench.run(held[-1])
    assert predictor.training is None
    assert [item.number for item in predictor.versions] == [1, 2]
    assert predictor.cannot_train == ""


def held_back(bench, do) -> list:
    """The jobs that ``do`` submits, which nobody does."""
    held: list = []
    bench.session.requested.disconnect(bench.run)
    bench.session.requested.connect(held.append)
    do()
    bench.session.requested.disconnect(held.append)
    bench.session.requested.connect(bench.run)
    return held


def test_a_proposal_that_was_asked_for_and_given_up_turns_no_later_one_into_an_edit(
    project, make_bench
):
    copy_of(project, 2, promoted=True)
    bench = make_bench(project)
    session, predictor = bench.session, bench.session.prompt_predictor
    session.navigation.open_image("04")
    before = session.undo_stack.count
    assert held_back(bench, predictor.propose)
    predictor.choose(1)
    assert number_of(session.proposal) == {1}
    assert session.undo_stack.count == before


def test_a_box_that_waits_for_its_answer_has_it_after_a_proposal_too(project, make_bench):
    bench = make_bench(project)
    session = bench.session
    session.prompt_predictor.set_mode(Mode.SEMI)
    session.navigation.open_image("04")
    held = held_back(bench, lambda: session.prompting.add_box((30, 20), (90, 70)))
    session.prompt_predictor.propose()
    assert session.proposal.pending
    for job in held:
        bench.run(job)
    assert not session.proposal.pending
    (item,) = session.proposal.objects
    assert item.has_mask
    assert not item.prompts.is_empty


def test_a_damaged_version_lets_prompts_be_and_is_used_once_it_is_mended(project, make_bench):
    weights = project / "usgseg" / "models" / "ppn-v0001" / "ppn.safetensors"
    whole = weights.read_bytes()
    bench = make_bench(project)
    session, predictor = bench.session, bench.session.prompt_predictor
    predictor.set_mode(Mode.SEMI)
    bench.models.ppn.cache.clear()
    weights.write_bytes(b"torn")
    session.navigation.open_image("04")
    session.prompting.add_box((30, 20), (90, 70))
    assert session.proposal.has_masks
    assert number_of(session.proposal) == {0}
    assert predictor.why_not.startswith("PPN v1 cannot be used")
    weights.write_bytes(whole)
    session.undo()
    predictor.choose(1)
    assert predictor.why_not == ""
    session.prompting.add_box((30, 20), (90, 70))
    assert number_of(session.proposal) == {1}


def test_what_is_prefetched_survives_a_cancel(project, make_bench):
    copy_of(project, 2, promoted=True)
    bench = make_bench(project)
    session, late = bench.session, []

    def slow_prefetch(job) -> None:
        prefetched = job.function is inference.segment_learned and job.lane is Lane.PREFETCH
        (late.append if prefetched else bench.run)(job)

    session.requested.disconnect(bench.run)
    session.requested.connect(slow_prefetch)
    session.navigation.open_image("04")
    session.prompting.cancel()
    assert late
    for job in late:
        bench.run(job)
    assert number_of(session.image_queue.take_loaded("05").proposal) == {2}


def test_a_training_that_rests_is_not_woken_by_the_next_accepted_image(folder, make_bench):
    truths = loop_bench.write_phantoms(folder, 4)
    bench = make_bench(folder)
    session, predictor = bench.session, bench.session.prompt_predictor
    for number in range(3):
        bench.accept(f"{number:02d}", truths[number])
    version_store = VersionStore(session.store.models_folder)
    version_store.begin(predictor.request(["00", "01", "02"]))
    predictor._use(version_store.pause())
    session.set_settings(replace(session.settings, train_after=3, train_by_itself=True))
    bench.accept("03", truths[3])
    assert predictor.training is None
    assert predictor.paused


def test_what_was_learned_is_proposed_on_all_frames_of_a_loop_in_one_step(project, make_bench):
    from tests.support.cine import write_loop

    write_loop(project, "zz.tif", 6)
    bench = make_bench(project)
    session = bench.session
    session.prompt_predictor.set_mode(Mode.MANUAL)
    session.navigation.open_image("zz_0000")
    names = [f"zz_{frame:04d}" for frame in range(6)]
    before = session.undo_stack.count
    session.loop_search.propose_learned()
    found = {n: session.store.read_proposal(n) for n in names}
    some = [n for n in names if found[n].objects]
    assert some, session.status.text
    assert all(number_of(found[n]) == {1} for n in some)
    assert found[some[0]].model_id.startswith("ppn-v1@nano-")
    assert f"Found on {len(some)} of 6 frames." in session.status.text
    assert session.undo_stack.count == before + 1
    session.undo()
    assert not any(session.store.read_proposal(n).objects for n in names)
