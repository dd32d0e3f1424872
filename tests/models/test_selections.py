"""Words of place and size in a phrase, on made candidates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_usgseg.models.grounding.selections import names_in, read_selections, select

SIZE_HW = (100, 200)


WORDS = ["left", "right", "largest", "deepest", "second", "all", "top"]


def disc(x: int, y: int, radius: int) -> np.ndarray:
    rows, columns = np.ogrid[: SIZE_HW[0], : SIZE_HW[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


CANDIDATES = [disc(30, 20, 6), disc(90, 70, 12), disc(170, 40, 9)]
"""From left to right: shallow and small, deep and large, between."""


@pytest.mark.parametrize(
    ("asked", "noun", "chosen"),
    [
        ("largest breast tumor", "breast tumor", [1]),
        ("the smallest cyst", "cyst", [0]),
        ("left kidney", "kidney", [0]),
        ("right kidney", "kidney", [2]),
        ("kidney on the right", "kidney", [2]),
        ("rightmost nerve", "nerve", [2]),
        ("deepest cyst", "cyst", [1]),
        ("shallowest cyst", "cyst", [0]),
        ("second nerve", "nerve", [1]),
        ("last nerve", "nerve", [2]),
        ("second largest nerve", "nerve", [2]),
        ("largest left cyst", "cyst", [1]),
        ("central cyst", "cyst", [1]),
        ("fourth nerve", "nerve", []),
        ("all cysts", "cyst", [0, 1, 2]),
        ("all the nerves", "nerve", [0, 1, 2]),
        ("cyst", "cyst", [0, 1, 2]),
    ],
)
def test_words_of_place_and_size_choose_among_the_candidates(asked, noun, chosen):
    (selection,) = read_selections(asked)
    assert selection.phrase == noun
    found, said = select(selection, CANDIDATES, SIZE_HW)
    assert found == chosen
    if not found:
        assert asked in said


@pytest.mark.parametrize(
    "name",
    ["left ventricle", "the left atrium", "right ventricular wall", "left lobe of the liver",
     "lower limb nerve", "first trimester fetal head", "superficial aponeurosis", "one nerve",
     "largest", "third ventricle", "2.5 cm cyst"],
)  # fmt: skip
def test_names_that_hold_such_words_stay_names(name):
    (selection,) = read_selections(name)
    assert (selection.phrase, selection.words) == (name, ())


def test_what_the_detector_knows_as_it_is_is_asked_as_it_is():
    (selection,) = read_selections("Left kidney", known=["left kidney"])
    assert (selection.phrase, selection.words) == ("left kidney", ())


def test_nothing_on_that_side_is_said_and_another_side_is_not_taken():
    (selection,) = read_selections("left kidney")
    found, said = select(selection, CANDIDATES[2:], SIZE_HW)
    assert found == []
    assert "'left kidney'" in said


def test_left_and_right_are_said_to_be_the_pictures():
    (selection,) = read_selections("left kidney")
    assert "the picture's" in select(selection, CANDIDATES, SIZE_HW)[1]


def test_finds_are_called_by_the_noun_and_two_of_one_noun_as_they_were_asked():
    assert names_in("largest breast tumor. all cysts") == ("breast tumor", "cyst")
    assert names_in("left kidney. right kidney") == ("left kidney", "right kidney")


@given(st.text(max_size=40))
def test_whatever_is_typed_is_read_with_as_many_phrases_and_none_empty(text):
    from napari_usgseg.models.grounding.phrases import split_phrases

    read = read_selections(text)
    assert [item.asked for item in read] == list(split_phrases(text))
    assert all(item.phrase and item.name for item in read)


@given(
    st.lists(st.sampled_from(WORDS), max_size=4),
    st.integers(0, 3),
)  # fmt: skip
def test_a_selection_never_invents_a_candidate(words, count):
    (selection,) = read_selections(" ".join([*words, "cyst"]))
    chosen, _ = select(selection, CANDIDATES[:count], SIZE_HW)
    assert set(chosen) <= set(range(count))
    assert selection.phrase == "cyst"
