from __future__ import annotations

import numpy as np
import pytest

from napari_usgseg.core.errors import LabelWriteError
from napari_usgseg.core.types import LabelClass
from napari_usgseg.segmentation.request import FILL, draw_overlay, write_overlay

RED = LabelClass(1, "cyst", "#ff0000")


def test_an_area_is_tinted_its_outline_opaque_and_the_rest_untouched():
    image = np.full((20, 20, 3), 100, np.uint8)
    labels = np.zeros((20, 20), np.uint8)
    labels[5:15, 5:15] = 1
    drawn = draw_overlay(image, labels, [RED])
    np.testing.assert_array_equal(drawn[5, 5], [255, 0, 0])
    np.testing.assert_array_equal(
        drawn[10, 10], np.round((1 - FILL) * 100 + FILL * np.array([255, 0, 0]))
    )
    np.testing.assert_array_equal(drawn[labels == 0], image[labels == 0])
    assert (image == 100).all(), "the image itself is not drawn on"


def test_an_overlay_is_never_written_over_a_file(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"mine")
    image, labels = np.zeros((4, 4, 3), np.uint8), np.ones((4, 4), np.uint8)
    with pytest.raises(LabelWriteError):
        write_overlay(path, image, labels, [RED])
    assert path.read_bytes() == b"mine"
