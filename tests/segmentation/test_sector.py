"""The sector of a picture is found by its pixels, whatever is written round it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from napari_usgseg.phantoms.phantom import make_phantom
from napari_usgseg.segmentation.sector import find_sector


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("seed", [0, 1, 2, 5])
def test_the_sector_of_a_phantom_is_found(seed):
    phantom = make_phantom(seed, (240, 320))
    sector = find_sector(phantom.image)
    assert iou(sector.mask((240, 320)), phantom.visible) >= 0.97


def test_letters_and_a_ruler_are_none_of_it():
    phantom = make_phantom(1, (240, 320))
    canvas = np.zeros((320, 460, 3), np.uint8)
    canvas[50:290, 90:410] = phantom.image
    truth = np.zeros((320, 460), bool)
    truth[50:290, 90:410] = phantom.visible
    image = Image.fromarray(canvas)
    draw = ImageDraw.Draw(image)
    for line in range(4):
        draw.text((4, 8 + 14 * line), "TIs 0.4  MI 1.1", fill=(220, 220, 220))
    draw.rectangle((440, 30, 448, 120), fill=(180, 180, 180))
    for tick in range(40, 300, 20):
        draw.line((452, tick, 458, tick), fill=(255, 255, 255))
    assert iou(find_sector(np.asarray(image)).mask((320, 460)), truth) >= 0.96


def test_nothing_is_found_where_there_is_nothing():
    assert find_sector(np.zeros((60, 80), np.uint8)) is None
    assert find_sector(np.full((60, 80), 130, np.uint8)) is None


def test_a_rectangle_is_of_whole_pixels():
    image = np.zeros((100, 140), np.uint8)
    image[10:90, 30:120] = np.random.default_rng(0).integers(5, 200, (80, 90))
    sector = find_sector(image)
    assert (sector.kind, sector.values) == ("rectangle", (30, 10, 120, 90))
