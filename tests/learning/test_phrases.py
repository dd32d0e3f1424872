"""Phrasings: what training sees, and what is kept for the test of understanding."""

import numpy as np
import pytest

from napari_usgseg.learning.phrases import (
    ABSENT_ORGANS,
    CONCEPTS,
    HELD_OUT_ABSENT,
    NEW_CONCEPTS,
    absent_phrases,
    concept_of,
    draw_absent,
    draw_phrase,
)


def test_held_out_phrasings_are_never_trained_on():
    trained = {
        phrase for concept in (*CONCEPTS, *NEW_CONCEPTS) for phrase in concept.phrases
    } | set(ABSENT_ORGANS)
    for concept in (*CONCEPTS, *NEW_CONCEPTS):
        assert not trained & set(concept.held_out)
    assert not trained & set(HELD_OUT_ABSENT)


@pytest.mark.parametrize("concept", [*CONCEPTS, *NEW_CONCEPTS], ids=lambda concept: concept.name)
def test_every_target_has_many_phrasings_and_its_plain_name(concept):
    drawn = {draw_phrase(concept, np.random.default_rng(seed)) for seed in range(200)}
    assert concept.name in drawn
    assert len(drawn) >= 4


def test_a_target_without_a_concept_is_learned_by_its_own_name():
    concept = concept_of("Renal medulla (right)")
    assert concept.name == "renal medulla"
    assert "renal medulla" in draw_phrase(concept, np.random.default_rng(0))


def test_what_an_image_may_show_is_never_asked_for_as_absent():
    breast = concept_of("breast tumor")
    lesions = {p for c in CONCEPTS if c.family == "lesion" for p in c.phrases}
    drawn = {draw_absent([breast], np.random.default_rng(seed)) for seed in range(400)}
    assert not drawn & lesions
    assert "fetal head" in drawn


def test_a_known_finding_is_sometimes_said():
    breast = concept_of("breast tumor")
    drawn = {draw_phrase(breast, np.random.default_rng(s), "malignant") for s in range(200)}
    assert any(phrase.startswith("malignant") for phrase in drawn)
    assert not any(phrase.startswith("benign") for phrase in drawn)


def test_a_target_that_is_taught_is_never_absent_as_an_organ_without_a_target():
    taught = (*CONCEPTS, *NEW_CONCEPTS)
    named = {phrase for concept in NEW_CONCEPTS for phrase in (concept.name, *concept.phrases)}
    assert named & set(absent_phrases())  # the shipped weights were not taught them
    assert not named & set(absent_phrases(taught))
    assert not any("ovary" in phrase for phrase in absent_phrases(taught))


def test_on_a_healthy_ovary_a_tumor_is_absent_but_on_a_tumor_no_ovary_is():
    taught = (*CONCEPTS, *NEW_CONCEPTS)
    ovary, tumor = concept_of("ovary"), concept_of("ovarian tumor")

    def asked(present) -> set[str]:
        return {draw_absent([present], np.random.default_rng(s), taught) for s in range(600)}

    assert asked(ovary) & set(tumor.phrases)
    assert not asked(tumor) & {ovary.name, *ovary.phrases}


def test_the_kind_of_an_ovarian_tumor_is_asked_for_where_it_is_known():
    tumor = concept_of("ovarian tumor")
    drawn = {draw_phrase(tumor, np.random.default_rng(s), "teratoma") for s in range(100)}
    assert "dermoid" in drawn
    plain = {draw_phrase(tumor, np.random.default_rng(s)) for s in range(100)}
    assert "dermoid" not in plain
