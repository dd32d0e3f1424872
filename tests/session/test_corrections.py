"""Clicks in the window are answered as corrections of the mask that the person sees."""

from __future__ import annotations

from napari_usgseg.jobs.requests import PromptRequest


def asked(session):
    requests = []
    session.requested.connect(
        lambda request: requests.append(request) if isinstance(request, PromptRequest) else None
    )
    return requests


def test_a_first_click_corrects_nothing_and_a_second_one_the_answer_to_the_first(session):
    requests = asked(session)
    session.prompting.add_point(20, 20)
    first = session.draft.objects[0].proposal
    session.prompting.add_point(23, 20, positive=False)
    assert requests[0].previous is None
    assert requests[1].previous is first.mask


def test_a_box_over_an_object_asks_for_a_new_mask(session):
    requests = asked(session)
    session.prompting.add_point(20, 20)
    session.prompting.add_box((10, 10), (40, 40))
    assert requests[1].previous is None


def test_a_click_on_what_a_phrase_found_corrects_it(session):
    requests = asked(session)
    session.prompting.find("cyst")
    found = session.draft.objects[0].proposal
    session.prompting.add_point(31, 20)
    assert requests[0].previous is found.mask
