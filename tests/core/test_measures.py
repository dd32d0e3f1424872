from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_usgseg.core.measures import Measures, circumference, measure

SPACINGS = [(1.0, 1.0), (0.1, 0.1), (0.1, 0.25), (0.3, 0.08)]


def ellipse(long_mm, short_mm, angle, spacing):
    """An ellipse with these axes, drawn in pixels of the spacing (row, column)."""
    reach = long_mm / 2 + 3 * max(spacing)
    rows, columns = (int(2 * reach / step) + 1 for step in spacing)
    y, x = np.mgrid[:rows, :columns] * np.reshape(spacing, (2, 1, 1)) - reach
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return (along / long_mm) ** 2 + (across / short_mm) ** 2 <= 0.25


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("angle", [0.0, 0.6, np.pi / 2])
def test_an_ellipse_has_its_axes_area_and_circumference_in_any_spacing(spacing, angle):
    step = max(spacing)
    long_mm, short_mm = 60 * step, 40 * step
    found = measure(ellipse(long_mm, short_mm, angle, spacing), spacing)
    round_it = circumference(long_mm, short_mm)
    assert found.area == pytest.approx(np.pi * long_mm * short_mm / 4, rel=0.01)
    square = spacing[0] == spacing[1]
    assert found.perimeter == pytest.approx(round_it, rel=0.01 if square else 0.04)
    assert found.long_axis == pytest.approx(long_mm, abs=step)
    assert found.short_axis == pytest.approx(short_mm, abs=step)
    assert found.ellipse_long == pytest.approx(long_mm, rel=0.01)
    assert found.ellipse_short == pytest.approx(short_mm, rel=0.01)
    assert found.ellipse_circumference == pytest.approx(round_it, rel=0.01)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_rectangle_has_its_area_exactly_and_its_diagonal(spacing):
    mask = np.zeros((90, 120), bool)
    mask[20:70, 10:90] = True
    height, width = 50 * spacing[0], 80 * spacing[1]
    found, diagonal = measure(mask, spacing), np.hypot(height, width)
    assert found.area == pytest.approx(height * width)
    assert found.perimeter == pytest.approx(2 * (height + width), rel=0.02)
    assert found.long_axis == pytest.approx(diagonal, rel=0.01)
    assert found.short_axis == pytest.approx(2 * height * width / diagonal, rel=0.02)


def test_a_circle_of_known_circumference():
    assert circumference(20, 20) == pytest.approx(20 * np.pi)
    assert circumference(100, 80) == pytest.approx(283.6161, rel=1e-5), "by the elliptic integral"


def test_holes_do_not_count_into_the_perimeter_and_pieces_do():
    disc = ellipse(40, 40, 0, (1, 1))
    ring = disc.copy()
    ring[20:27, 20:27] = False
    assert measure(ring).perimeter == pytest.approx(measure(disc).perimeter)
    assert measure(ring).area == disc.sum() - 49
    both = np.hstack([disc, disc])
    assert measure(both).perimeter == pytest.approx(2 * measure(disc).perimeter)


@given(
    st.integers(1, 12), st.integers(1, 12), st.integers(0, 30), st.integers(0, 30),
    st.sampled_from(SPACINGS),
)  # fmt: skip
def test_whatever_is_small_or_at_the_edge_is_measured_where_it_lies_and_anywhere(
    rows, columns, top, left, spacing
):
    mask = np.zeros((42, 42), bool)
    mask[top : top + rows, left : left + columns] = True
    found = measure(mask, spacing)
    assert found.area == pytest.approx(rows * columns * spacing[0] * spacing[1])
    assert min(found.long_axis, found.short_axis, found.perimeter) > 0
    assert found.short_axis <= found.long_axis * (1 + 1e-6)
    assert found.ellipse_short <= found.ellipse_long
    moved = measure(np.pad(mask, ((7, 0), (0, 9))), spacing)
    for name in Measures.__dataclass_fields__:
        assert getattr(moved, name) == pytest.approx(getattr(found, name), rel=1e-4)
    turned = measure(mask.T, spacing[::-1])
    assert turned.perimeter == pytest.approx(found.perimeter, rel=1e-4)
