"""A prompt's phrases and the tokens that belong to each."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_usgseg.core.errors import PromptError
from napari_usgseg.models.grounding.phrases import (
    PhraseSpan,
    as_phrase,
    listed_phrases,
    phrase_scores,
    phrase_spans,
    split_phrases,
    wanted_phrases,
    words_of,
)


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("Kidney. Renal  Medulla", ("kidney", "renal medulla")),
        ("breast tumor.", ("breast tumor",)),
        ("nodule?\ncyst;  cyst..", ("nodule", "cyst")),
        ("fetal head, nerve", ("fetal head", "nerve")),
        ("fetal head,nerve,", ("fetal head", "nerve")),
        ("胎头。神经，囊肿、肿瘤", ("胎头", "神经", "囊肿", "肿瘤")),
        ("Zyste！Nerv；Gefäß？", ("zyste", "nerv", "gefäß")),
        ("2.5 cm cyst. nerve", ("2.5 cm cyst", "nerve")),
        ("2,5 cm cyst, nerve", ("2,5 cm cyst", "nerve")),
        ("cyst of 3. nerve", ("cyst of 3", "nerve")),
        ("type 1, 2", ("type 1", "2")),
        ("nerve. --- . (?)", ("nerve",)),
        (" . ; ", ()),
        ("?", ()),
        ("!!! -- ... 🫀", ()),
        ("", ()),
    ],
)
def test_phrases_are_parted_lower_cased_and_kept_once(text, phrases):
    assert split_phrases(text) == phrases


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=60))
def test_splitting_what_was_split_changes_nothing(text):
    phrases = split_phrases(text)
    assert split_phrases(". ".join(phrases)) == phrases
    assert all(phrase == phrase.strip() and phrase for phrase in phrases)


@pytest.mark.parametrize("text", ["", " ", ".", "?", ";", ",", "。", "，、", "--", "()", "\n", "*"])
def test_one_function_says_what_an_empty_prompt_is(text):
    with pytest.raises(PromptError, match=r"^--text is empty.*'breast tumor'"):
        wanted_phrases(text, "--text")
    assert wanted_phrases(f"{text} cyst {text}")[-1].strip("-()* ") == "cyst"


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=30))
def test_a_prompt_is_empty_where_it_has_neither_letter_nor_digit(text):
    assert bool(split_phrases(text)) == any(map(str.isalnum, as_phrase(text)))


def test_a_phrase_that_is_said_twice_is_listed_twice():
    assert listed_phrases("Nerve. cyst, nerve") == ("nerve", "cyst", "nerve")


def test_words_are_letters_only():
    assert words_of(["The baby's 2.5 cm head", "Gefäß"]) == {"the", "baby", "cm", "head", "gefäß"}


def test_every_phrase_owns_all_tokens_between_two_full_stops():
    ids = [101, 252, 1012, 253, 254, 1012, 102]
    assert phrase_spans(("kidney", "renal medulla"), ids) == (
        PhraseSpan("kidney", 1, 2),
        PhraseSpan("renal medulla", 3, 5),
    )


def test_a_phrase_that_the_tokenizer_drops_is_refused():
    with pytest.raises(PromptError, match="2 phrases, but the tokenizer sees 1"):
        phrase_spans(("kidney", "\u200b"), [101, 252, 1012, 1012, 102])


def test_a_phrases_score_is_that_of_its_best_token():
    token_scores = np.array([[0.9, 0.1, 0.9, 0.2, 0.7, 0.9]], np.float32)
    spans = (PhraseSpan("kidney", 1, 2), PhraseSpan("renal medulla", 3, 5))
    np.testing.assert_allclose(phrase_scores(token_scores, spans), [[0.1, 0.7]])
