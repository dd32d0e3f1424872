"""What a sonographer may type: many phrasings of every target, and of what is not there.

A concept is what one label of a data set means. ``phrases.toml`` holds them all, with phrasings or
the words of which a small grammar makes them. Some words and word orders are kept out of training
and serve as the test of whether the text is understood rather than looked up.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import product
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Concept:
    """One thing that can be asked for.

    Attributes:
        name: the target phrase as data set cards give it.
        family: concepts of one family are never negatives of one another, because nobody can
            tell a lesion without its surroundings (thyroid nodule, breast tumor).
        organ: words for the organ alone; asked for where the organ's only target is this one.
        phrases: complete phrasings for training.
        held_out: complete phrasings for the test of understanding, never trained on.
    """

    name: str
    family: str
    organ: str
    phrases: tuple[str, ...]
    held_out: tuple[str, ...] = ()


def _compose(nouns: Sequence[str], organs: Sequence[str]) -> tuple[str, ...]:
    """For every pair: "breast tumor", "tumors of the breast", "tumor in the breast" and so on."""
    made = []
    for noun, organ in product(nouns, organs):
        plural = (
            noun[:-1] + "ies" if noun.endswith("y") else noun + ("es" if noun[-1] in "sx" else "s")
        )
        made += [
            f"{organ} {noun}",
            f"{organ} {plural}",
            f"{noun} in the {organ}",
            f"{plural} of the {organ}",
            f"the {organ} {noun}",
            f"{noun} of the {organ}",
        ]
    return tuple(made)


def _concept(card: dict[str, Any]) -> Concept:
    made = _compose(card.get("nouns", ()), card.get("organs", ()))
    phrases = (*made, *card["phrases"])
    return Concept(card["name"], card["family"], card["organ"], phrases, tuple(card["held_out"]))


_BOOK = tomllib.loads(
    resources.files(__package__).joinpath("phrases.toml").read_text(encoding="utf-8")
)
_LESIONS = tuple(_BOOK["lesions"])

CONCEPTS = tuple(_concept(card) for card in _BOOK["concept"])
ALIASES = {alias: card["name"] for card in _BOOK["concept"] for alias in card.get("aliases", ())}
"""What data set cards call a concept beside its name."""

ABSENT_ORGANS: tuple[str, ...] = tuple(_BOOK["absent_organs"])
ABSENT_LESION_ORGANS: tuple[str, ...] = tuple(_BOOK["absent_lesion_organs"])
HELD_OUT_ABSENT: tuple[str, ...] = tuple(_BOOK["held_out_absent"])


def concept_of(phrase: str) -> Concept:
    """The concept of a data set's phrase for a label; a new one, of its own family, if unknown."""
    key = phrase.lower().split("(")[0].strip()
    for concept in CONCEPTS:
        if concept.name == ALIASES.get(key, key):
            return concept
    made = (key, f"the {key}", f"{key}s", f"{key} in this image")
    return Concept(key, key, key, made)


def draw_phrase(concept: Concept, rng: np.random.Generator, finding: str | None = None) -> str:
    """A training phrasing of ``concept``; a third of the time its plain name.

    Where the finding is known ("benign", "malignant"), it is sometimes said.
    """
    if finding in ("benign", "malignant") and rng.random() < 0.15:
        noun = str(rng.choice(["tumor", "lesion", "mass"]))
        organ = str(rng.choice([f"{concept.organ} ", ""]))
        return f"{finding} {organ}{noun}"
    if rng.random() < 0.3:
        return concept.name
    return str(rng.choice(list(concept.phrases)))


def draw_absent(present: Sequence[Concept], rng: np.random.Generator) -> str:
    """A phrase for something that an image does not show, given the concepts that it may show."""
    draw = rng.random()
    families = {concept.family for concept in present}
    if "lesion" in families:  # a lesion may be a cyst
        families.add("cyst")
    others = [concept for concept in CONCEPTS if concept.family not in families]
    if draw < 0.5 and others:
        return draw_phrase(others[int(rng.integers(len(others)))], rng)
    if draw < 0.65:
        organ = str(rng.choice(ABSENT_LESION_ORGANS))
        return str(rng.choice(_compose(_LESIONS, (organ,))))
    return str(rng.choice(ABSENT_ORGANS))


def absent_phrases() -> tuple[str, ...]:
    """Everything that ``draw_absent`` may ask for of organs that no training image shows."""
    lesions = tuple(p for organ in ABSENT_LESION_ORGANS for p in _compose(_LESIONS, (organ,)))
    return (*ABSENT_ORGANS, *lesions)


def all_phrases(concepts: Sequence[Concept]) -> tuple[str, ...]:
    """Every phrasing of ``concepts``, and of what is not there, in training and for tests."""
    own = (p for c in concepts for p in (c.name, c.organ, *c.phrases, *c.held_out))
    return (*own, *absent_phrases(), *HELD_OUT_ABSENT)
