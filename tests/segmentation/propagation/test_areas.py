"""Areas of labels over time, as a table."""

from __future__ import annotations

import numpy as np

from napari_usgseg.segmentation.propagation.areas import Area, area_table, areas_on


def test_each_label_of_a_frame_has_its_pixels_and_its_score():
    labels = np.zeros((4, 5), np.uint16)
    labels[0], labels[1, :2] = 3, 1002
    assert areas_on(7, labels, {1002: 0.5}) == [Area(7, 3, 5), Area(7, 1002, 2, 0.5)]
    assert areas_on(7, np.zeros((4, 5), np.uint8), {}) == []


def test_a_table_is_in_the_order_of_time_and_says_what_is_known():
    areas = [Area(2, 1, 10, 0.87654), Area(0, 2, 4), Area(0, 1, 6)]
    assert area_table(areas, 20.0, (0.5, 0.2)).decode().splitlines() == [
        "frame,seconds,label,area_px,area_mm2,score",
        "0,0.0,1,6,0.6,",
        "0,0.0,2,4,0.4,",
        "2,0.1,1,10,1.0,0.8765",
    ]
    assert area_table(areas[:1], None, None).decode().splitlines()[1] == "2,,1,10,,0.8765"
