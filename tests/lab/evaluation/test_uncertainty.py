from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_usgseg.lab.evaluation.report import interval, paired_difference

scores = st.lists(st.floats(0, 1), min_size=2, max_size=30)


@settings(max_examples=50, deadline=None)
@given(scores)
def test_an_interval_lies_within_the_values_and_repeats(values):
    groups = [str(n) for n in range(len(values))]
    low, high = interval(values, groups)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    assert (low, high) == interval(values, groups)


def test_images_of_one_patient_are_drawn_together_and_tell_less():
    values = [0.2, 0.2, 0.2, 0.9, 0.9, 0.9, 0.5, 0.5, 0.5]
    apart = interval(values, [str(n) for n in range(9)])
    together = interval(values, list("aaabbbccc"))
    assert together[1] - together[0] > apart[1] - apart[0]


def test_one_group_gives_no_interval():
    assert interval([0.1, 0.2], ["a", "a"]) is None


@settings(max_examples=50, deadline=None)
@given(scores, st.integers(0, 5))
def test_the_difference_turns_its_sign_when_the_two_change_places(values, seed):
    other = np.random.default_rng(seed).random(len(values))
    groups = [str(n) for n in range(len(values))]
    there, back = paired_difference(values, other, groups), paired_difference(other, values, groups)
    assert there.difference == pytest.approx(-back.difference)
    assert there.p == pytest.approx(back.p)
    assert (there.greater, there.less) == (back.less, back.greater)


def test_the_same_values_do_not_differ():
    same = paired_difference([0.3, 0.4], [0.3, 0.4], ["a", "b"])
    assert (same.difference, same.p, same.greater, same.less) == (0, 1, 0, 0)


def test_p_is_scipy_s():
    from scipy.stats import wilcoxon

    rng = np.random.default_rng(0)
    first, second = rng.random(20), rng.random(20)
    found = paired_difference(first, second, [str(n) for n in range(20)])
    assert found.p == pytest.approx(wilcoxon(second - first, zero_method="pratt").pvalue)
