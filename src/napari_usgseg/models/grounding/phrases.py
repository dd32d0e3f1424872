"""The phrases of a text prompt, and which tokens belong to which of them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ...core.errors import PromptError
from ...core.types import FloatArray

DELIMITERS = (101, 102, 1012, 1029)
"""Token ids that part phrases ([CLS], [SEP], ".", "?"); transformers has them in its code."""


_PARTING = re.compile(r"[?!;。、،؛؟।\n\r\u2028\u2029]|(?<!\d)[.,]|[.,](?!\d)")
"""What parts phrases, in any script; a point or comma between two digits does not ("2.5 cm")."""


def split_phrases(text: str) -> tuple[str, ...]:
    """The phrases of a prompt in lower case, in order, each once.

    They are separated by full stops, commas, question and exclamation marks, semicolons or line
    ends: "Kidney, renal medulla" gives ("kidney", "renal medulla"). A point or a comma between two
    digits separates nothing: "2.5 cm cyst" is one phrase. What has neither letter nor digit is no
    phrase.
    """
    return tuple(dict.fromkeys(listed_phrases(text)))


def listed_phrases(text: str) -> tuple[str, ...]:
    """The same phrases, one that is said twice twice: "nerve. cyst. nerve" names three boxes."""
    normal = unicodedata.normalize("NFKC", text).lower()
    phrases = (" ".join(part.split()) for part in _PARTING.split(normal))
    return tuple(phrase for phrase in phrases if any(map(str.isalnum, phrase)))


def wanted_phrases(text: str, given_as: str = "the text prompt") -> tuple[str, ...]:
    """The phrases of a prompt that is to be looked for.

    Args:
        text: what a person typed.
        given_as: where, to be named in the error.

    Raises:
        PromptError: there is no phrase in it.
    """
    phrases = split_phrases(text)
    if not phrases:
        held = f" ({text.strip()!r} holds no word)" if text.strip() else ""
        raise PromptError(f"{given_as} is empty{held}: type what to find, such as 'breast tumor'")
    return phrases


def words_of(phrases: Iterable[str]) -> frozenset[str]:
    """The words of phrases in small letters, without numbers and single letters."""
    words = (word for phrase in phrases for word in re.findall(r"[^\W\d_]+", phrase.lower()))
    return frozenset(word for word in words if len(word) > 1)


FOREIGN = "is not among what this model was trained on"
"""What a note on a phrase says that is looked for in no image."""


def all_foreign(text: str, notes: Iterable[str]) -> bool:
    """Whether each phrase of a prompt is one that the notes call foreign to the model."""
    said = [note.lower() for note in notes]
    return all(
        any(note.startswith(f"'{phrase}' {FOREIGN}") for note in said)
        for phrase in split_phrases(text)
    )


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
