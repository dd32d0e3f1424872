"""Weak proposals: from the first accepted image on, named so, and gone when a PPN is in use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_usgseg.annotation.settings import Mode
from napari_usgseg.core.metrics import dice
from napari_usgseg.project.records import ImageState
from napari_usgseg.project.versions import model_name
from tests.support import loop_bench


@pytest.fixture
def work(tmp_path, models, forked_trainings):
    """A bench on four phantoms with weak proposals, and the truths."""
    folder = tmp_path / "images"
    folder.mkdir()
    truths = loop_bench.write_phantoms(folder, 4)
    bench = loop_bench.LoopBench(models, weak=True)
    bench.session.navigation.open_folder(folder)
    yield bench, truths
    bench.close()


def heads(session) -> list[Path]:
    return sorted(session.store.models_folder.glob("weak*"))


def test_after_the_first_accepted_image_the_next_has_a_weak_proposal_that_is_named_so(work):
    bench, truths = work
    session, predictor = bench.session, bench.session.prompt_predictor
    assert predictor.off.startswith("Nothing is learnt yet")
    bench.accept("00", truths[0])
    assert predictor.off == ""
    session.navigation.open_image("01")
    (item,) = session.proposal.objects
    assert item.ppn == predictor.number < 0
    assert dice(truths[1] > 0, item.proposal.mask) > 0.3
    assert predictor.made_by(item.ppn) == "Weak proposal, from 1 image"
    assert predictor.badge(session.proposal.model_id) == "Weak proposal, from 1 image"
    assert model_name(session.proposal.model_id) == "weak proposals"
    assert session.state_of("01") is ImageState.PROPOSED
    assert predictor.why_not.startswith("Nothing is learnt yet")  # by a PPN, that is


def test_every_accept_refreshes_what_is_proposed_on_images_that_nobody_touched(work):
    bench, truths = work
    session, predictor = bench.session, bench.session.prompt_predictor
    bench.accept("00", truths[0])
    session.navigation.open_image("03")
    first = predictor.number
    assert {item.ppn for item in session.proposal.objects} == {first}
    bench.accept("01", truths[1])
    session.navigation.open_image("03")
    assert predictor.number not in (0, first)
    assert {item.ppn for item in session.proposal.objects} == {predictor.number}
    assert predictor.made_by(predictor.number) == "Weak proposal, from 2 images"
    assert predictor.made_by(first) == "Weak proposal, from other images than now"
    assert len(heads(session)) == 1  # those of before are removed


def test_the_same_labels_are_not_learned_twice_and_are_there_again_at_the_next_opening(work):
    bench, truths = work
    session = bench.session
    bench.accept("00", truths[0])
    (place,) = heads(session)
    written = (place / "ppn.safetensors").stat().st_mtime_ns
    number = session.prompt_predictor.number
    session.navigation.open_folder(session.store.folder)
    assert session.prompt_predictor.number == number
    assert (place / "ppn.safetensors").stat().st_mtime_ns == written


def test_when_nothing_is_accepted_any_more_or_it_is_switched_off_nothing_is_proposed(work):
    bench, truths = work
    session, predictor = bench.session, bench.session.prompt_predictor
    bench.accept("00", truths[0])
    session.navigation.open_image("01")
    assert session.proposal.objects
    session.set_settings(replace(session.settings, weak_proposals=False))
    assert session.proposal.objects == ()
    session.set_settings(replace(session.settings, weak_proposals=True))
    assert session.proposal.objects
    session.undo()  # of the accept, on the other image
    session.navigation.open_image("01")
    assert predictor.number == 0
    assert session.proposal.objects == ()


def test_what_a_person_draws_stays_and_semi_shows_nothing_by_itself(work):
    bench, truths = work
    session, predictor = bench.session, bench.session.prompt_predictor
    session.navigation.open_image("02")
    session.prompting.add_box((30, 20), (90, 70))
    drawn = session.proposal.objects
    bench.accept("00", truths[0])
    session.navigation.open_image("02")
    assert session.proposal.objects == drawn
    predictor.set_mode(Mode.SEMI)
    session.navigation.open_image("01")
    assert session.proposal.objects == ()
    predictor.propose()
    assert {item.ppn for item in session.proposal.objects} == {predictor.number}


def test_a_click_on_a_weak_proposal_corrects_it(work):
    bench, truths = work
    session = bench.session
    bench.accept("00", truths[0])
    session.navigation.open_image("01")
    mask = session.proposal.objects[0].proposal.mask
    row, column = (int(values[len(values) // 2]) for values in np.nonzero(mask))
    session.prompting.add_point(float(column), float(row), positive=False)
    assert not session.proposal.objects[0].proposal.mask[row, column]
