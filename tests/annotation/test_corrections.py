"""Clicks in the window are answered as corrections of the mask that the person sees."""

from __future__ import annotations

import numpy as np
import pytest

from napari_usgseg.jobs.inference import segment_prompt


def asked(session):
    """The masks that prompts were asked to correct, in order."""
    previous = []

    def look(job):
        if job.function is segment_prompt:
            previous.append(job.args[4])

    session.requested.connect(look)
    return look, previous


def test_a_first_click_corrects_nothing_and_a_second_one_the_answer_to_the_first(session):
    _look, previous = asked(session)
    session.prompting.add_point(20, 20)
    first = session.proposal.objects[0].proposal
    session.prompting.add_point(23, 20, positive=False)
    assert previous[0] is None
    assert previous[1] is first.mask


def test_a_box_over_an_object_asks_for_a_new_mask(session):
    _look, previous = asked(session)
    session.prompting.add_point(20, 20)
    session.prompting.add_box((10, 10), (40, 40))
    assert previous[1] is None


def test_a_click_on_what_a_phrase_found_corrects_it(session):
    _look, previous = asked(session)
    session.prompting.find("cyst")
    found = session.proposal.objects[0].proposal
    session.prompting.add_point(31, 20)
    assert previous[0] is found.mask


def line(*points):
    return np.array(points, np.float32)


@pytest.mark.parametrize("first", ["click", "scribble"])
def test_a_negative_click_never_adds_what_an_earlier_one_took_away(session, first):
    session.prompting.add_point(30, 30)
    if first == "click":
        session.prompting.add_point(38, 30)
    else:
        session.prompting.add_scribble(line((34, 30), (38, 30)))
    session.prompting.add_point(38, 30, positive=False)
    before = session.proposal.objects[0].proposal.mask
    assert not before[30, 38]
    session.prompting.add_point(25, 30, positive=False)
    after = session.proposal.objects[0].proposal.mask
    assert not (after & ~before).any()
    assert 0 < after.sum() < before.sum()


def test_a_positive_click_never_takes_away_what_an_earlier_one_added(session):
    session.prompting.add_box((10, 10), (60, 50))
    session.prompting.add_point(30, 30, positive=False)
    session.prompting.add_point(30, 30)
    before = session.proposal.objects[0].proposal.mask
    assert before[30, 30]
    session.prompting.add_point(62, 30)
    assert not (before & ~session.proposal.objects[0].proposal.mask).any()


def test_prompts_that_were_not_answered_yet_all_stay(bench):
    session = bench.session
    session.prompting.add_box((10, 10), (60, 50))
    bench.hold = True
    for x in (30, 34, 38):
        session.prompting.add_point(x, 30, positive=False)
    assert len(session.proposal.objects[0].prompts.point_coords) == 3
    bench.release()
    assert not any(session.proposal.objects[0].mask_at(x, 30) for x in (30, 34, 38))
