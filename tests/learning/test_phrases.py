"""Phrasings: what training sees, and what is kept for the test of understanding."""

import numpy as np
import pytest

from napari_usgseg.learning.phrases import (
    ABSENT_ORGANS,
    CONCEPTS,
    HELD_OUT_ABSENT,
    concept_of,
    draw_absent,
    draw_phrase,
)


def test_held_out_phrasings_are_never_trained_on():
    trained = {phrase for concept in CONCEPTS for phrase in concept.phrases} | set(ABSENT_ORGANS)
    for concept in CONCEPTS:
        assert not trained & set(concept.held_out)
    assert not trained & set(HELD_OUT_ABSENT)


@pytest.mark.parametrize("concept", CONCEPTS, ids=lambda concept: concept.name)
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
