from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pytest

from napari_usgseg.core.types import Region
from napari_usgseg.io.reading.frames import FileAbout
from napari_usgseg.segmentation.measuring import (
    COLUMNS,
    PictureScale,
    Scale,
    Surfaces,
    by_person_in,
    cells,
    measure_labels,
    measure_object,
    scale_key,
    table,
    words,
)

SIZE = (120, 200)
LEFT = Region("B-mode", (0, 0, 100, 80), (0.1, 0.1), ("cm", "cm"))
RIGHT = Region("B-mode", (100, 0, 200, 80), (0.2, 0.4), ("cm", "cm"))
MOTION = Region("M-mode", (0, 80, 200, 120), None, ("cm", "s"))
DUAL = FileAbout("DICOM", None, (LEFT, RIGHT, MOTION))


def disc(x, y, radius=10, size=SIZE):
    rows, columns = np.mgrid[: size[0], : size[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def fan(apex, near, far, half, size):
    """The picture of a curved probe: speckle in a fan, black around it."""
    y, x = np.mgrid[: size[0], : size[1]]
    distance, angle = np.hypot(x - apex[0], y - apex[1]), np.arctan2(x - apex[0], y - apex[1])
    inside = (distance >= near) & (distance <= far) & (np.abs(angle) <= half)
    speckle = np.random.default_rng(0).integers(60, 220, size)
    return np.where(inside, speckle, 0).astype(np.uint8)


def test_an_object_is_measured_by_the_spacing_of_the_region_that_it_lies_in():
    scale = PictureScale.of(SIZE, DUAL)
    assert scale.within(20, 20, 40, 40) == Scale((0.1, 0.1), "scanner")
    assert scale.within(120, 20, 140, 40) == Scale((0.2, 0.4), "scanner")
    left, right = (measure_object(disc(x, 40), scale) for x in (50, 150))
    assert left.mm is not None
    assert right.mm is not None
    assert left.mm.area == pytest.approx(left.pixels.area * 0.01)
    assert left.mm.long_axis == pytest.approx(2.1, rel=0.01)
    assert right.mm.area == pytest.approx(left.pixels.area * 0.08)
    assert (right.mm.long_axis, right.mm.short_axis) == pytest.approx((8.4, 4.2), rel=0.03)


@pytest.mark.parametrize(
    ("x", "y"), [(100, 40), (50, 78), (50, 100)], ids=["two views", "edge", "M-mode"]
)
def test_across_regions_and_where_an_axis_is_time_nothing_is_measured_in_mm(x, y):
    found = measure_object(disc(x, y), PictureScale.of(SIZE, DUAL))
    assert found.mm is None
    assert found.scale is None
    assert found.pixels.area == disc(x, y).sum()


def test_a_motion_mode_in_a_picture_of_tissue_is_no_tissue():
    regions = (Region("B-mode", (0, 0, 200, 120), (0.1, 0.1)), MOTION)
    scale = PictureScale.of(SIZE, FileAbout("DICOM", (0.1, 0.1), regions))
    assert scale.within(10, 10, 20, 20) == Scale((0.1, 0.1), "scanner")
    assert scale.within(10, 90, 20, 100) is None


def test_without_regions_the_file_says_it_or_else_a_person():
    said = {scale_key(SIZE, None): 0.5, "9x9": 3.0}
    assert PictureScale.of(SIZE, FileAbout("TIFF", (0.1, 0.2)), said).whole == Scale(
        (0.1, 0.2), "file"
    )
    assert PictureScale.of(SIZE, FileAbout("image"), said).whole == Scale((0.5, 0.5), "person")
    assert PictureScale.of((7, 7), None, said).whole is None
    blind = (Region("B-mode", (0, 0, 100, 80)),)
    assert PictureScale.of(SIZE, FileAbout("DICOM", None, blind), said).whole is not None


def test_a_persons_spacing_is_of_one_scanner_at_one_depth():
    deep = FileAbout("DICOM", scanner="ACME Probe 9", depth_mm=120.0)
    said = {scale_key(SIZE, deep): 0.5}
    assert list(said) == ["120x200, ACME Probe 9, 120 mm deep"]
    assert PictureScale.of(SIZE, deep, said).whole == Scale((0.5, 0.5), "person")
    for other in (replace(deep, depth_mm=80.0), replace(deep, scanner="ACME 8"), None):
        assert PictureScale.of(SIZE, other, said).whole is None


def test_settings_of_another_hand_are_no_spacing():
    assert by_person_in({"mm_per_pixel": {"4x5": 0.1, "a": "b", "c": None, "d": 0, "e": 99}}) == {
        "4x5": 0.1
    }
    assert by_person_in({"mm_per_pixel": [1]}) == {}
    assert by_person_in({}) == {}


def test_pieces_of_a_class_are_objects_and_labels_per_object_are_theirs():
    labels = np.zeros(SIZE, np.uint16)
    labels[disc(30, 30)], labels[disc(90, 60, 15)], labels[disc(150, 90, 5)] = 1, 1, 2
    scale = PictureScale(SIZE)
    found = list(measure_labels(labels, "semantic", scale))
    assert [(item.value, item.class_id, item.number) for item in found] == [
        (1, 1, 1), (1, 1, 2), (2, 2, 1),
    ]  # fmt: skip
    assert [item.pixels.area for item in found] == [
        disc(30, 30).sum(), disc(90, 60, 15).sum(), disc(150, 90, 5).sum(),
    ]  # fmt: skip
    labels[labels == 1] = 1004
    other, whole = measure_labels(labels, "instance", scale)
    assert (whole.value, whole.class_id, whole.number) == (1004, 1, 4)
    assert whole.pixels.area == disc(30, 30).sum() + disc(90, 60, 15).sum()
    assert other.number == 1


def test_the_depth_in_a_linear_probes_picture_is_from_its_upper_edge():
    picture = np.zeros(SIZE, np.uint8)
    picture[10:110, 20:180] = np.random.default_rng(0).integers(60, 220, (100, 160))
    found = measure_object(disc(90, 60), PictureScale(SIZE, (), Scale((0.5, 0.5), "file")),
                           Surfaces(picture))  # fmt: skip
    assert found.depth_px == pytest.approx(40, abs=1.5)
    assert found.depth_mm == pytest.approx(20, abs=0.75)


def test_the_depth_in_a_curved_probes_picture_is_along_the_beam():
    size, apex = (300, 400), (200, -60)
    picture = fan(apex, 90, 340, 0.7, size)
    at = apex[0] + 220 * np.sin(0.5), apex[1] + 220 * np.cos(0.5)
    found = measure_object(disc(*at, 10, size), PictureScale(size), Surfaces(picture))
    assert found.depth_px == pytest.approx(220 - 10 - 90, abs=3)


def test_where_no_sector_is_sure_the_depth_is_from_the_regions_edge_or_not_known():
    nothing = np.zeros(SIZE, np.uint8)
    assert measure_object(disc(50, 40), PictureScale(SIZE), Surfaces(nothing)).depth_px is None
    region = Region("B-mode", (0, 5, 100, 80), (0.1, 0.1))
    found = measure_object(
        disc(50, 40), PictureScale.of(SIZE, FileAbout("DICOM", None, (region,))),
        Surfaces(nothing, (region,)),
    )  # fmt: skip
    assert found.depth_px == pytest.approx(25, abs=1)
    assert found.depth_mm == pytest.approx(2.5, abs=0.1)
    assert measure_object(disc(150, 40), PictureScale(SIZE), Surfaces(nothing, (region,))
                          ).depth_px is None  # fmt: skip


def test_the_table_has_both_units_and_is_empty_where_nothing_is_known():
    known = measure_object(disc(50, 40), PictureScale.of(SIZE, DUAL), None, 1, 1, 1)
    unknown = measure_object(disc(50, 100), PictureScale.of(SIZE, DUAL), None, 2, 2, 1)
    rows = [("a", cells(known, {1: "cyst, simple"})), ("b", cells(unknown, {}))]
    first, second = csv.DictReader(io.StringIO(table(rows).decode()))
    assert tuple(first) == ("image", *COLUMNS)
    assert (first["image"], first["class"], first["object"]) == ("a", "cyst, simple", "1")
    assert float(first["area_mm2"]) == pytest.approx(disc(50, 40).sum() / 100)
    assert float(first["long_axis_mm"]) == pytest.approx(2.1, rel=0.01)
    assert (first["spacing_row_mm"], first["spacing_from"]) == ("0.1", "scanner")
    assert (second["class"], second["area_mm2"], second["spacing_from"]) == ("2", "", "")
    assert float(second["area_px"]) == disc(50, 100).sum()


def test_in_words():
    assert words(measure_object(disc(50, 40), PictureScale.of(SIZE, DUAL))) == (
        "3.17 mm2, 2.1 x 2.1 mm"
    )
    assert words(measure_object(disc(50, 40), PictureScale(SIZE))) == "317 px2, 21 x 21 px"


@pytest.mark.parametrize("labelling", ["semantic", "instance"])
def test_an_object_measures_in_a_map_as_it_does_alone_in_the_picture(labelling):
    labels = np.zeros(SIZE, np.uint16)
    labels[disc(50, 40)], labels[disc(150, 40)] = 1001, 2001
    scale, surfaces = PictureScale.of(SIZE, DUAL), Surfaces(np.zeros(SIZE, np.uint8), DUAL.regions)
    for found in measure_labels(labels, labelling, scale, surfaces):
        alone = measure_object(labels == found.value, scale, surfaces)
        assert found.scale is not None
        assert (found.pixels, found.mm, found.scale) == (alone.pixels, alone.mm, alone.scale)
        assert (found.depth_px, found.depth_mm) == (alone.depth_px, alone.depth_mm)
