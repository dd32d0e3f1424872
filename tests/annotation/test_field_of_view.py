"""A picture of two views side by side, as a scanner writes it, in a session."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.support.bench import SIZE_HW, Bench
from tests.support.dicom import region, write_dicom

HALF = SIZE_HW[1] // 2


@pytest.fixture
def folder(tmp_path):
    screen = np.random.default_rng(1).integers(0, 255, (1, *SIZE_HW)).astype(np.uint8)
    boxes = [(x, 0, x + HALF - 1, SIZE_HW[0] - 1) for x in (0, HALF)]
    write_dicom(
        tmp_path / "dual.dcm", screen, SequenceOfUltrasoundRegions=[region(box) for box in boxes]
    )
    return tmp_path


def only_mask(session):
    (item,) = session.proposal.objects
    return item.proposal.mask


def test_both_views_are_encoded_before_the_first_click(bench: Bench):
    key = bench.session.loaded.key
    assert bench.segmenter.embedded == [f"{key}-0-0-40-60", f"{key}-40-0-80-60"]
    bench.session.prompting.add_point(50, 30)
    assert len(bench.segmenter.embedded) == 2


def test_a_click_in_a_view_is_answered_there_and_reaches_over_no_border(session):
    session.prompting.add_point(HALF + 2, 30)
    mask = only_mask(session)
    assert mask.shape == SIZE_HW
    assert mask[30, HALF : HALF + 8].all()
    assert not mask[:, :HALF].any()
    session.prompting.add_point(HALF + 9, 30)
    assert only_mask(session)[30, HALF + 12]


def test_a_phrase_is_looked_for_in_each_view(session):
    session.prompting.find("cyst")
    places = [tuple(item.proposal.box) for item in session.proposal.objects]
    assert sorted(places) == [(10, 10, 30, 30), (50, 10, 70, 30)]


def test_who_switches_it_off_has_the_whole_picture_seen_and_the_object_made_anew(bench: Bench):
    session = bench.session
    session.prompting.add_point(HALF + 2, 30)
    session.set_settings(replace(session.settings, crop_to_regions=False))
    assert bench.segmenter.embedded[-1] == session.loaded.key
    assert only_mask(session)[30, HALF - 3]
    session.set_settings(replace(session.settings, crop_to_regions=True))
    assert not only_mask(session)[:, :HALF].any()
