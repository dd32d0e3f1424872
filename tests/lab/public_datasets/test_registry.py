from __future__ import annotations

import re
from dataclasses import asdict

import pytest
from pydantic import TypeAdapter, ValidationError

from napari_usgseg.core.errors import DatasetError
from napari_usgseg.lab.public_datasets.registry import (
    KnownDataset,
    find_dataset,
    known_dataset,
    known_datasets,
)


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
        assert item.target
        assert item.licence


def test_names_are_found_in_any_case_and_others_are_refused_with_what_there_is():
    assert find_dataset("busi") is known_dataset("BUSI")
    assert find_dataset("nobody's") is None
    with pytest.raises(DatasetError, match="BUS-BRA"):
        known_dataset("nobody's")


def test_every_layout_says_where_it_was_read_about_and_what_files_look_like():
    for item in known_datasets():
        assert item.layout.source, item.name
        assert item.layout.files, item.name
        assert item.groups, item.name


def test_an_annotation_is_found_by_names_that_its_image_has():
    for item in known_datasets():
        for pattern in item.layout.image:
            names = set(re.compile(pattern).groupindex)
            for rule in item.layout.masks:
                assert set(re.compile(rule.pattern).groupindex) <= names, item.name
            for template in (item.layout.item, item.layout.group or ""):
                assert set(re.findall(r"\{(\w+)\}", template)) <= names, item.name


def test_merged_and_kept_labels_are_of_classes_that_the_annotations_have():
    for item in known_datasets():
        findings = set(item.layout.empty_findings) | {"benign", "malignant"}
        has = set()
        for rule in item.layout.masks:
            templated = rule.class_name == "{finding}"
            has |= findings if templated else set(rule.classes or {rule.class_name})
        assert set(item.merged) <= has, item.name
        assert {name for rule in item.kept for name in rule.classes} <= has, item.name
        assert item.phrases[0] == item.target


def test_names_are_found_without_regard_to_hyphens():
    assert find_dataset("busuclm") is known_dataset("BUS-UCLM")


@pytest.mark.parametrize("place", ["card", "layout", "mask"])
def test_a_misspelt_key_is_an_error(place):
    card = asdict(known_datasets()[0])
    taken = {"card": card, "layout": card["layout"], "mask": card["layout"]["masks"][0]}[place]
    taken["ignor"] = ["x"]
    with pytest.raises(ValidationError, match="ignor"):
        TypeAdapter(KnownDataset).validate_python(card)
