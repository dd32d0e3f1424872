"""Burned-in text: found beside the ultrasound whatever its size, and not where there is none."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from napari_usgseg.io.images import read_image
from napari_usgseg.phantoms.phantom import make_phantom
from napari_usgseg.segmentation.burned_in import find_text, text_mask

SHARED = Path(os.environ.get("USGSEG_DATA", "absent")).parent
real = pytest.mark.skipif(not SHARED.is_dir(), reason="the real files are not here")


def picture(seed: int, lines: list[str], size: int, level: int, ground: int = 0):
    """A phantom with lines of text on its left, and where they are."""
    image = np.asarray(make_phantom(seed).image)
    image = image if image.ndim == 3 else np.repeat(image[..., None], 3, 2)
    image = np.pad(image, ((30, 30), (200, 0), (0, 0)))
    image[:, :190] = ground
    drawn = Image.fromarray(image)
    draw, font = ImageDraw.Draw(drawn), ImageFont.load_default(size=size)
    boxes = []
    for number, line in enumerate(lines):
        place = (5, 35 + 2 * size * number)
        draw.text(place, line, font=font, fill=(level,) * 3)
        boxes.append([int(side) for side in draw.textbbox(place, line, font=font)])
    return np.asarray(drawn), boxes


@pytest.mark.parametrize("size", [10, 13, 18, 26])
@pytest.mark.parametrize(("level", "ground"), [(255, 0), (140, 0), (230, 60), (10, 200)])
def test_text_beside_the_sector_is_found(size, level, ground):
    lines = ["DOE, JANE", "ID 12345", "1980-02-03"]
    image, boxes = picture(3, lines, size, level, ground)
    tissue = np.zeros(image.shape[:2], bool)
    tissue[:, 200:] = True
    covered = text_mask(find_text(image, tissue), image.shape[:2])
    strokes = np.abs(image[..., 0].astype(int) - ground) > 0.5 * abs(level - ground)
    for x0, y0, x1, y1 in boxes:
        line = np.s_[y0:y1, x0:x1]
        assert (covered[line] & strokes[line]).sum() >= 0.9 * strokes[line].sum()


def test_phantoms_without_text_have_none():
    found = 0
    for seed in range(12):
        phantom = make_phantom(seed)
        found += len(find_text(phantom.image, phantom.visible))
    assert found == 0


def test_the_text_of_a_large_picture_is_found_where_it_is():
    image, boxes = picture(3, ["DOE, JANE"], 26, 255)
    large = np.asarray(Image.fromarray(image).resize((3 * image.shape[1], 3 * image.shape[0])))
    tissue = np.zeros(large.shape[:2], bool)
    tissue[:, 600:] = True
    covered = text_mask(find_text(large, tissue), large.shape[:2])
    x0, y0, x1, y1 = (3 * side for side in boxes[0])
    line = np.s_[y0:y1, x0:x1]
    strokes = large[line].max(axis=2) > 128
    assert (covered[line] & strokes).sum() >= 0.9 * strokes.sum()


def test_an_empty_picture_has_none():
    assert find_text(np.zeros((40, 50), np.uint8)) == []


def test_a_line_is_covered_with_a_rim():
    mask = text_mask([(5, 6, 9, 8)], (10, 10), rim=1)
    assert mask.sum() == 6 * 4
    assert mask[5, 4]
    assert mask[8, 9]


@real
@pytest.mark.parametrize(
    ("name", "box", "lines"),
    [("neck_1.dcm", (140, 80, 770, 510), 10), ("gdcm-US-ALOKA-16.dcm", (32, 24, 640, 416), 9),
     ("US1_J2KR.dcm", (10, 90, 620, 340), 14), ("hip_171554.dcm", (150, 40, 870, 680), 9)],
)  # fmt: skip
def test_the_text_of_scanners_is_found(name, box, lines):
    image = read_image(SHARED / "dicom" / name)
    tissue = np.zeros(image.shape[:2], bool)
    x0, y0, x1, y1 = box
    tissue[y0:y1, x0:x1] = True
    assert len(find_text(image, tissue)) >= lines


@real
@pytest.mark.parametrize("name", ["busi", "hc18"])
def test_real_pictures_without_text_have_none(name):
    files = sorted((SHARED / "data" / name).rglob("images/*"))
    pictures = files[:: max(1, len(files) // 8)]
    found = 0
    for path in pictures:
        found += bool(find_text(read_image(path)))
    assert len(pictures) >= 8
    assert found <= 1
