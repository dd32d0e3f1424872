"""Areas of labels over time, as a table."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_usgseg.core.types import Region
from napari_usgseg.segmentation.measuring import FILE, PictureScale, Scale
from napari_usgseg.segmentation.propagation.areas import Area, area_table, areas_on, beats


def test_each_label_of_a_frame_has_its_pixels_and_its_score():
    labels = np.zeros((4, 5), np.uint16)
    labels[0], labels[1, :2] = 3, 1002
    found = areas_on(7, labels, {1002: 0.5})
    assert [(a.frame, a.label, a.pixels, a.score) for a in found] == [
        (7, 3, 5, None),
        (7, 1002, 2, 0.5),
    ]
    assert areas_on(7, np.zeros((4, 5), np.uint8), {}) == []


def test_a_table_is_in_the_order_of_time_and_says_what_is_known():
    areas = [Area(2, 1, 10, 0.87654, 9.0, 3.456, 1.0), Area(0, 2, 4), Area(0, 1, 6, mm2=0.6)]
    assert area_table(areas, 20.0).decode().splitlines() == [
        "frame,seconds,label,area_px,area_mm2,long_axis_mm,score",
        "0,0.0,1,6,0.6,0.0,",
        "0,0.0,2,4,,,",
        "2,0.1,1,10,1.0,3.46,0.8765",
    ]
    assert (
        area_table([Area(2, 1, 10, 0.87654, 9.0, 3.456)], None).decode().splitlines()[1]
        == "2,,1,10,,,0.8765"
    )


def ellipse(across: float, down: float) -> np.ndarray:
    y, x = np.mgrid[:120, :160]
    inside = ((x - 80) / across) ** 2 + ((y - 60) / down) ** 2 <= 1
    return inside.astype(np.uint8)


@given(st.integers(20, 40), st.integers(12, 20), st.sampled_from([None, (0.3, 0.3), (0.2, 0.4)]))
def test_the_ejection_fraction_of_an_ellipsoid_is_that_of_its_volumes(long, short, spacing):
    large, small = ellipse(long, short), ellipse(0.9 * long, 0.7 * short)
    scale = PictureScale(large.shape, (), spacing and Scale(spacing, FILE))
    areas = areas_on(0, large, {}, scale) + areas_on(5, small, {}, scale)
    beat = beats(areas)[1]
    assert (beat.largest.frame, beat.smallest.frame) == (0, 5)
    if spacing != (0.2, 0.4) or long * 0.4 > short * 0.2:  # the long axis is the one across
        # an ellipsoid of revolution about its long axis: L * S^2
        assert beat.ejection_fraction == pytest.approx(1 - 0.9 * 0.7**2, abs=0.06)
    assert beat.area_change == pytest.approx(1 - 0.9 * 0.7, abs=0.05)


def test_a_label_on_one_frame_has_no_beat():
    assert beats(areas_on(0, ellipse(30, 15), {})) == {}


def test_areas_are_by_the_region_that_holds_the_label_and_none_is_told_across_two():
    left = Region("B-mode", (0, 0, 80, 120), (0.1, 0.1), ("cm", "cm"))
    right = Region("B-mode", (80, 0, 160, 120), (0.2, 0.4), ("cm", "cm"))
    labels = np.zeros((120, 160), np.uint8)
    labels[10:20, 10:30], labels[10:20, 90:110], labels[50:60, 70:90] = 1, 2, 3
    found = areas_on(0, labels, {}, PictureScale(labels.shape, (left, right)))
    assert [area.mm2 for area in found] == [pytest.approx(2.0), pytest.approx(16.0), None]
    rows = [line.split(",") for line in area_table(found, None).decode().splitlines()[1:]]
    assert [row[4] for row in rows] == ["2.0", "16.0", ""]


def test_a_beat_is_of_the_frames_where_lengths_are_known():
    known = [Area(0, 1, 100, volume=8.0, mm2=4.0), Area(1, 1, 50, volume=2.0, mm2=2.0)]
    beat = beats([*known, Area(2, 1, 10, volume=900.0)])[1]
    assert (beat.largest, beat.smallest) == tuple(known)
    across = [Area(0, 1, 100, volume=8.0, mm2=4.0), Area(1, 1, 50, volume=900.0)]
    assert beats(across) == {}, "mm3 are not compared with cubed pixels"
