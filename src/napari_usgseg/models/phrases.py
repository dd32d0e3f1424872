"""The phrases of a text prompt, and which tokens belong to which of them."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

import numpy as np

from ..errors import PromptError
from ..types import FloatArray

DELIMITERS = (101, 102, 1012, 1029)
"""Token ids that part phrases ([CLS], [SEP], ".", "?"); transformers has them in its code."""


def split_phrases(text: str) -> tuple[str, ...]:
    """The phrases of a prompt in lower case, in order, each once.

    They are separated by full stops, question marks, semicolons or line ends: "Kidney. Renal
    medulla" gives ("kidney", "renal medulla").
    """
    normal = unicodedata.normalize("NFKC", text).lower()
    phrases = (" ".join(part.split()) for part in re.split(r"[.?;\n\r]+", normal))
    return tuple(dict.fromkeys(phrase for phrase in phrases if phrase))


def as_phrase(name: str) -> str:
    """The name of a class as one phrase, in lower case; "" where there is no word in it."""
    return " ".join(split_phrases(name))


@dataclass(frozen=True, slots=True)
class PhraseSpan:
    """A phrase and its tokens ``start``..``stop`` - 1 in the tokenized prompt."""

    phrase: str
    start: int
    stop: int


def phrase_spans(phrases: tuple[str, ...], token_ids: list[int]) -> tuple[PhraseSpan, ...]:
    """Where each phrase's tokens are in the tokens of a prompt ("kidney. renal medulla.").

    Raises:
        PromptError: a phrase has no token of its own (it is made of signs that the tokenizer
            drops), so that phrases and tokens cannot be matched.
    """
    runs: list[tuple[int, int]] = []
    start = 0
    for position, token in enumerate([*token_ids, DELIMITERS[1]]):
        if token in DELIMITERS:
            if position > start:
                runs.append((start, position))
            start = position + 1
    if len(runs) != len(phrases):
        raise PromptError(
            f"the prompt {'. '.join(phrases)!r} has {len(phrases)} phrases, but the tokenizer sees "
            f"{len(runs)}: use words, separated by full stops"
        )
    return tuple(PhraseSpan(phrase, *run) for phrase, run in zip(phrases, runs, strict=True))


def phrase_scores(token_scores: FloatArray, spans: tuple[PhraseSpan, ...]) -> FloatArray:
    """(Q, T) scores of boxes for tokens to (Q, P) scores for phrases: the best of its tokens."""
    columns = [token_scores[:, span.start : span.stop].max(axis=1) for span in spans]
    return np.stack(columns, axis=1)
