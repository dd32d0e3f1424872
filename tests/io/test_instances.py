from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_usgseg.io.labels import (
    MAX_CLASS,
    MAX_INSTANCE,
    MAX_LABEL,
    class_of,
    code_of,
    free_numbers,
    instance_color,
    instance_of,
    next_code,
    semantic,
    values_in,
)


@given(st.integers(1, MAX_CLASS), st.integers(1, MAX_INSTANCE))
def test_a_code_says_class_and_object_and_fits_into_16_bits(class_id, number):
    code = code_of(class_id, number)
    assert code <= MAX_LABEL
    assert class_of(code, "instance") == class_id
    assert instance_of(code, "instance") == number
    assert class_of(code, "semantic") == code


def test_a_bare_class_number_is_a_region_of_its_class():
    assert class_of(7, "instance") == 7
    assert instance_of(7, "instance") == 0


@given(hnp.arrays(np.uint16, (9, 7), elements=st.sampled_from([0, 1, 7, 1001, 1002, 7001, 64999])))
def test_the_classes_of_a_map_are_those_of_its_values(labels):
    classes = semantic(labels, "instance")
    assert classes.dtype == np.uint8
    assert np.array_equal(classes, np.vectorize(lambda v: class_of(int(v), "instance"))(labels))
    assert semantic(labels, "semantic") is labels


@given(hnp.arrays(np.uint16, (5, 6)))
def test_the_values_of_a_map_are_all_but_background(labels):
    assert values_in(labels) == [int(value) for value in np.unique(labels) if value]


def test_new_objects_are_numbered_above_the_highest_then_in_the_gaps():
    used = [1001, 1003, 2001, 5]
    assert free_numbers(used, 1, 2) == [4, 5]
    assert free_numbers(used, 3) == [1]
    assert free_numbers([1999, 1002], 1, 3) == [1, 3, 4]
    assert free_numbers([code_of(1, n) for n in range(1, 1000)], 1) == []


def test_the_next_code_is_the_wanted_one_where_it_is_free_and_else_another() -> None:
    assert next_code([1001, 1003], 1) == 1004
    assert next_code([1001, 1003], 1, wanted=2) == 1002
    assert next_code([1001, 1003], 1, wanted=3) == 1004
    assert next_code([code_of(1, n) for n in range(1, 1000)], 1) == 1, "a region of the class"
    assert next_code([], 65) == 65, "its codes do not fit into 16 bits"


def test_neighbouring_objects_of_a_class_have_shades_of_its_colour():
    shades = [instance_color("#e69f00", number) for number in range(6)]
    assert shades[0] == "#e69f00"
    assert shades[1] == "#e69f00"
    assert len(set(shades[1:6])) == 5
    assert instance_color("#e69f00", 6) == shades[1]
