"""Phrases that a sonographer may type: many phrasings of every target, and of what is not there.

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
        kinds: finding, as data say it -> its phrasings, which mean this concept where it is so.
        beside: families that may be in an image of this one without being labelled.
    """

    name: str
    family: str
    organ: str
    phrases: tuple[str, ...]
    held_out: tuple[str, ...] = ()
    kinds: tuple[tuple[str, tuple[str, ...]], ...] = ()
    beside: tuple[str, ...] = ()


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
    kinds = tuple((finding, tuple(some)) for finding, some in card.get("kinds", {}).items())
    held_out = tuple(card["held_out"])
    beside = tuple(card.get("beside", ()))
    return Concept(card["name"], card["family"], card["organ"], phrases, held_out, kinds, beside)


_BOOK = tomllib.loads(
    resources.files(__package__).joinpath("phrases.toml").read_text(encoding="utf-8")
)
_LESIONS = tuple(_BOOK["lesions"])

CONCEPTS = tuple(_concept(card) for card in _BOOK["concept"])
NEW_CONCEPTS = tuple(_concept(card) for card in _BOOK["new_concept"])
"""Concepts that the shipped weights were not taught: of other organs, for the next ones."""
ALIASES = {
    alias: card["name"]
    for card in (*_BOOK["concept"], *_BOOK["new_concept"])
    for alias in card.get("aliases", ())
}
"""What data set cards call a concept beside its name."""

ABSENT_ORGANS: tuple[str, ...] = tuple(_BOOK["absent_organs"])
ABSENT_LESION_ORGANS: tuple[str, ...] = tuple(_BOOK["absent_lesion_organs"])
HELD_OUT_ABSENT: tuple[str, ...] = tuple(_BOOK["held_out_absent"])


def concept_of(phrase: str) -> Concept:
    """The concept of a data set's phrase for a label; a new one, of its own family, if unknown."""
    key = phrase.lower().split("(")[0].strip()
    for concept in (*CONCEPTS, *NEW_CONCEPTS):
        if concept.name == ALIASES.get(key, key):
            return concept
    made = (key, f"the {key}", f"{key}s", f"{key} in this image")
    return Concept(key, key, key, made)


KIND_SHARE = 0.25
"""How often a known finding is asked for by its own name."""


def draw_phrase(concept: Concept, rng: np.random.Generator, finding: str | None = None) -> str:
    """A training phrasing of ``concept``; a third of the time its plain name.

    Where the finding is known ("benign", "malignant", a kind of ``concept``), it is sometimes said.
    """
    kinds = dict(concept.kinds).get(finding or "", ())
    if kinds and rng.random() < KIND_SHARE:
        return str(rng.choice(list(kinds)))
    if finding in ("benign", "malignant") and rng.random() < 0.15:
        noun = str(rng.choice(["tumor", "lesion", "mass"]))
        organ = str(rng.choice([f"{concept.organ} ", ""]))
        return f"{finding} {organ}{noun}"
    if rng.random() < 0.3:
        return concept.name
    return str(rng.choice(list(concept.phrases)))


def draw_absent(
    present: Sequence[Concept], rng: np.random.Generator, taught: Sequence[Concept] = CONCEPTS
) -> str:
    """A phrase for something that an image does not show, given the concepts that it may show.

    Args:
        present: what the image may show.
        rng: of the draw.
        taught: the targets of the training; nothing that is one of them is called absent as an
            organ without a target.
    """
    draw = rng.random()
    families = {family for concept in present for family in (concept.family, *concept.beside)}
    if "lesion" in families:  # a lesion may be a cyst
        families.add("cyst")
    others = [concept for concept in taught if concept.family not in families]
    if draw < 0.5 and others:
        return draw_phrase(others[int(rng.integers(len(others)))], rng)
    organs, lesion_organs = absent_organs(taught)
    if draw < 0.65:
        organ = str(rng.choice(lesion_organs))
        return str(rng.choice(_compose(_LESIONS, (organ,))))
    return str(rng.choice(organs))


def absent_organs(taught: Sequence[Concept]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Organs, and organs with lesions, of which nothing is a target of a training."""
    said = {p for c in taught if c in NEW_CONCEPTS for p in (c.name, *c.phrases)}
    lesions = {c.organ for c in taught if c in NEW_CONCEPTS and c.family == "lesion"}
    return (
        tuple(organ for organ in ABSENT_ORGANS if organ not in said),
        tuple(organ for organ in ABSENT_LESION_ORGANS if organ not in lesions),
    )


def absent_phrases(taught: Sequence[Concept] = CONCEPTS) -> tuple[str, ...]:
    """Everything that ``draw_absent`` may ask for of organs that no training image shows."""
    organs, lesion_organs = absent_organs(taught)
    lesions = tuple(p for organ in lesion_organs for p in _compose(_LESIONS, (organ,)))
    return (*organs, *lesions)


def all_phrases(concepts: Sequence[Concept]) -> tuple[str, ...]:
    """Every phrasing of ``concepts``, and of what is not there, in training and for tests."""
    own = (p for c in concepts for p in (c.name, c.organ, *c.phrases, *c.held_out))
    return (*own, *absent_phrases(), *HELD_OUT_ABSENT)
