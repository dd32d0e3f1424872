"""Clicks in the window are answered as corrections of the mask that the person sees."""

from __future__ import annotations

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
