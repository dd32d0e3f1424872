from __future__ import annotations

import pytest

from napari_usgseg.datasets.registry import find_dataset, known_dataset, known_datasets
from napari_usgseg.errors import DatasetError


def test_the_paper_s_counts_add_up():
    seen = [item for item in known_datasets() if item.seen]
    unseen = [item for item in known_datasets() if item.seen is False]
    assert (len(seen), len(unseen)) == (15, 3)
    assert sum(item.images for item in seen) == 18783
    assert sum(item.images for item in unseen) == 2808


def test_a_split_s_parts_make_up_the_whole():
    for item in known_datasets():
        if item.seen:
            assert sum(item.split) == item.images, item.name


def test_every_one_has_an_organ_and_a_phrase_for_label_one():
    for item in known_datasets():
        assert item.organ
        assert item.labels[1]
        assert item.licence


def test_names_are_found_in_any_case_and_others_are_refused_with_what_there_is():
    assert find_dataset("busi") is known_dataset("BUSI")
    assert find_dataset("nobody's") is None
    with pytest.raises(DatasetError, match="BUS-BRA"):
        known_dataset("nobody's")
