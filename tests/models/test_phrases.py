"""A prompt's phrases and the tokens that belong to each."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_usgseg.errors import PromptError
from napari_usgseg.models.phrases import PhraseSpan, phrase_scores, phrase_spans, split_phrases


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("Kidney. Renal  Medulla", ("kidney", "renal medulla")),
        ("breast tumor.", ("breast tumor",)),
        ("nodule?\ncyst;  cyst..", ("nodule", "cyst")),
        (" . ; ", ()),
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
