"""Selections of a phrase: words of place and size that choose among what a detector finds.

"largest breast tumor", "left kidney", "deepest cyst", "second nerve", "all cysts" (position- and
size-driven queries, as in FLanS). A detector knows no such words: they are read
before it is asked, and choose among its candidates. Left and right are the picture's.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from ...core.types import BoolArray
from .phrases import split_phrases

ALL = ("all", "every", "each")
ORDINALS = {"first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "last": -1}
ORDERS = {
    "largest": "size", "biggest": "size", "greatest": "size",
    "smallest": "-size", "tiniest": "-size",
    "leftmost": "x", "rightmost": "-x",
    "topmost": "y", "uppermost": "y", "shallowest": "y", "highest": "y", "nearest": "y",
    "deepest": "-y", "lowest": "-y", "lowermost": "-y", "bottommost": "-y", "farthest": "-y",
}  # fmt: skip
"""By what the candidates are put in order; with a sign, from the greatest on."""
SIDES = {"left": "x", "right": "-x", "upper": "y", "top": "y", "lower": "-y", "bottom": "-y"}
"""Halves of the picture."""
MIDDLE = ("central", "middle", "centre", "center")
PART_OF_A_NAME = {
    "left": r"ventric|atri|heart|lv|hepatic|coronary|lobe|bundle|carotid",
    "right": r"ventric|atri|heart|rv|hepatic|coronary|lobe|bundle|carotid",
    "upper": r"limb|arm|leg|lip|lobe|pole|lid|jaw",
    "lower": r"limb|arm|leg|lip|lobe|pole|lid|jaw|uterine|segment",
    "top": r"$^", "bottom": r"$^",
    "first": r"trimester|rib|web|dorsal", "second": r"trimester|rib|dorsal",
    "third": r"trimester|ventricle", "fourth": r"ventricle",
    "middle": r"cerebral|ear|finger|lobe|hepatic|meningeal", "central": r"vein|line|canal|nerv",
}  # fmt: skip
"""What an anatomist names so: "left ventricle" is one whatever side of the picture it is on."""
FILLING = ("the", "one", "of", "a", "an", "most", "on", "at", "in", "side", "to")
TRAILING = re.compile(r"^(.+?) (?:on|at|in|to) the (left|right|top|bottom)(?: side)?$")


@dataclass(frozen=True, slots=True)
class Selection:
    """One phrase of a prompt, as it is read.

    Attributes:
        asked: as it was typed, in lower case.
        phrase: what the detector is asked for.
        words: of place and size, in the order in which they choose; none takes every candidate.
        name: what is found is called.
    """

    asked: str
    phrase: str
    words: tuple[str, ...] = ()
    name: str = ""


def read_selections(text: str, known: Collection[str] = ()) -> tuple[Selection, ...]:
    """The phrases of a prompt, with their words of place and size apart.

    Two phrases that choose of the same are called as they were typed ("left kidney. right kidney"),
    others without those words.

    Args:
        text: what a person typed.
        known: phrases that the detector knows as they are, which are not read otherwise.
    """
    whole = {phrase.casefold() for phrase in known}
    read = [
        Selection(phrase, phrase) if phrase in whole else _read(phrase)
        for phrase in split_phrases(text)
    ]
    nouns = [item.phrase for item in read]
    return tuple(
        Selection(
            item.asked,
            item.phrase,
            item.words,
            item.asked if nouns.count(item.phrase) > 1 else item.phrase,
        )
        for item in read
    )


def names_in(text: str, known: Collection[str] = ()) -> tuple[str, ...]:
    """What the finds of a prompt are called, in its order, each once."""
    return tuple(dict.fromkeys(item.name for item in read_selections(text, known)))


def _read(asked: str) -> Selection:
    words: list[str] = []
    rest = asked
    if found := TRAILING.match(asked):
        rest = found[1]
        words.append(found[2])
    parts = rest.split()
    while len(parts) > 1:
        word, after = parts[0], " ".join(parts[1:])
        if word in FILLING:
            if not words and word != "the":
                break
        elif word in PART_OF_A_NAME and re.match(PART_OF_A_NAME[word], after):
            break
        elif word in (*ALL, *ORDINALS, *ORDERS, *SIDES, *MIDDLE):
            words.append(word)
        else:
            break
        parts = parts[1:]
    if not words:
        return Selection(asked, asked)
    noun = " ".join(parts)
    if any(word in ALL for word in words):
        noun = _singular(noun)
    return Selection(asked, noun, tuple(sorted(words, key=_rank)))


def _rank(word: str) -> int:
    """Sides first, then the order, then the number in it."""
    return 0 if word in SIDES else 1 if word in ORDERS or word in MIDDLE else 2


def _singular(noun: str) -> str:
    if noun.endswith("oses"):
        return noun[:-2] + "is"
    if noun.endswith("ies"):
        return noun[:-3] + "y"
    if noun.endswith("sses"):
        return noun[:-2]
    return noun[:-1] if re.search(r"[^suif]s$", noun) else noun


def select(
    selection: Selection, masks: Sequence[BoolArray], size_hw: tuple[int, int]
) -> tuple[list[int], str]:
    """Which of the candidates a selection chooses, and a sentence for the person.

    Args:
        selection: its words.
        masks: (H, W) bool each, not empty: what was found of its phrase.
        size_hw: (H, W) of the picture.

    Returns:
        Indices of ``masks``, in their order; and how that was read, "" where nothing was chosen.
    """
    chosen = list(range(len(masks)))
    if not selection.words or not masks:
        return chosen, ""
    height, width = size_hw
    middles = np.array([_middle(mask) for mask in masks]) / (width, height)
    by = {"x": middles[:, 0], "y": middles[:, 1], "size": np.array([m.sum() for m in masks])}
    ordered, one = "x", False
    for word in selection.words:
        if word in SIDES:
            ordered, one = SIDES[word], True
            axis = by[ordered[-1]]
            chosen = [i for i in chosen if (axis[i] < 0.5) == (ordered[0] != "-")]
        elif word in ORDERS:
            ordered, one = ORDERS[word], True
            if ordered.endswith("size"):  # the largest first
                ordered = "-size" if ordered == "size" else "size"
        elif word in MIDDLE:
            off = np.abs(middles - 0.5).max(axis=1)
            by["middle"], ordered, one = off, "middle", True
    number = next((ORDINALS[word] for word in selection.words if word in ORDINALS), 0)
    values = by[ordered.lstrip("-")]
    ranked = sorted(chosen, key=lambda i: -values[i] if ordered[0] == "-" else values[i])
    if number:
        place = number - 1 if number > 0 else number
        chosen = ranked[place : place + 1 or None] if -len(ranked) <= place else []
    elif one:
        chosen = ranked[:1]
    count = f"{len(masks)} found" if len(masks) > 1 else "1 found"
    if not chosen:
        return [], f"No '{selection.asked}' in the picture, of {count} of '{selection.phrase}'."
    if not one and not number:
        return chosen, ""
    how = "counted from the left of the picture" if not one else HOW[ordered.lstrip("-")]
    return sorted(chosen), f"'{selection.asked}': {len(chosen)} of {count}, {how}."


HOW = {
    "x": "left and right are the picture's",
    "y": "by its depth below the top of the picture",
    "size": "by its area",
    "middle": "by its distance from the picture's middle",
}


def _middle(mask: BoolArray) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    return float(columns.mean()), float(rows.mean())
