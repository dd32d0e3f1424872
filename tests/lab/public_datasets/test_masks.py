from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from napari_usgseg.core.errors import DatasetError
from napari_usgseg.core.notes import listening
from napari_usgseg.io.masks import RESCALED
from napari_usgseg.lab.public_datasets.annotations import (
    AnnotationReader,
    ddti_polygons,
    json_polygons,
    via_polygons,
)
from napari_usgseg.lab.public_datasets.registry import MaskRule

quick = settings(deadline=None, max_examples=40)
SIZE = (30, 40)
IMAGE = Path("a.png")
COLORS = {"benign": (0, 255, 0), "malignant": (255, 0, 0)}


@st.composite
def masks(draw):
    """(H, W) bool with up to three rectangles, apart from the corners."""
    mask = np.zeros(SIZE, bool)
    for _ in range(draw(st.integers(0, 3))):
        y, x = draw(st.integers(1, 20)), draw(st.integers(1, 30))
        mask[y : y + draw(st.integers(1, 8)), x : x + draw(st.integers(1, 8))] = True
    return mask


def decode(rule, values, lossy=False, invert=False):
    names = {"finding": "benign"}
    return AnnotationReader(invert).decode(rule, values, IMAGE, names, SIZE, lossy=lossy)


@quick
@given(
    masks(),
    st.sampled_from([(bool, 1), (np.uint8, 1), (np.uint8, 255), (np.uint16, 65535), (float, 1)]),
    st.sampled_from([None, 1, 3, 4]),
)
def test_two_valued_masks_of_every_type_and_number_of_channels_are_read(mask, coding, channels):
    kind, top = coding
    values = (mask * top).astype(kind)
    if channels:
        values = np.repeat(values[..., None], channels, 2)
        if channels == 4:
            values[..., 3] = top
    found, notes = decode(MaskRule("x"), values)
    assert (found["object"] == mask).all()
    assert notes == []


@quick
@given(masks())
def test_dark_objects_on_a_bright_ground_are_turned_by_the_rule_or_by_the_person(mask):
    values = np.where(mask, 0, 255).astype(np.uint8)
    assert (decode(MaskRule("x", inverted=True), values)[0]["object"] == mask).all()
    assert (decode(MaskRule("x"), values, invert=True)[0]["object"] == mask).all()
    if mask.any():
        assert "inverted" in decode(MaskRule("x"), values)[1][-1]


@quick
@given(masks(), st.integers(40, 95))
def test_a_mask_saved_as_jpeg_is_near_the_one_before(tmp_path_factory, mask, quality):
    path = tmp_path_factory.mktemp("mask") / "m.jpg"
    Image.fromarray(mask.astype(np.uint8) * 255).save(path, quality=quality)
    found, _ = AnnotationReader().read(MaskRule("x"), path, {}, IMAGE, SIZE)
    rim = 4 * sum(SIZE)
    assert (found["object"] != mask).sum() <= min(rim, 0.3 * mask.sum() + 1)


@quick
@given(masks(), masks())
def test_colors_and_numbers_say_the_class(first, second):
    second = second & ~first
    values = first.astype(np.uint8) + 2 * second.astype(np.uint8)
    rule = MaskRule("x", kind="values", classes={"a": (1,), "b": (2, 3)})
    found, notes = decode(rule, values)
    assert (found["a"] == first).all()
    assert (found["b"] == second).all()
    assert notes == []
    colors = np.zeros((*SIZE, 3), np.uint8)
    colors[first], colors[second] = COLORS["benign"], COLORS["malignant"]
    found, notes = decode(MaskRule("x", kind="colors", classes=COLORS), colors)
    assert (found["benign"] == first).all()
    assert (found["malignant"] == second).all()
    assert notes == []


def test_the_folder_s_finding_names_the_class():
    found, _ = decode(MaskRule("x", class_name="{finding}"), np.ones(SIZE, bool))
    assert list(found) == ["benign"]


def test_numbers_that_say_nothing_are_left_out_and_told():
    rule = MaskRule("x", kind="values", classes={"a": (1,)})
    found, notes = decode(rule, np.full(SIZE, 7, np.uint8))
    assert not found["a"].any()
    assert "7" in notes[0]


def test_a_mask_of_another_size_than_its_image_is_refused():
    with pytest.raises(DatasetError, match="must be the same"):
        decode(MaskRule("x"), np.zeros((40, 30), np.uint8))


def test_several_polygons_of_a_class_are_one_mask(tmp_path):
    path = tmp_path / "p.json"
    squares = [[[2, 2], [9, 2], [9, 9], [2, 9]], [[20, 12], [25, 12], [25, 16], [20, 16]]]
    path.write_text(json.dumps(squares), encoding="utf-8")
    rule = MaskRule("x", kind="polygon", class_name="mass")
    found, _ = AnnotationReader().read(rule, path, {}, IMAGE, SIZE)
    expected = np.zeros(SIZE, bool)
    expected[2:10, 2:10] = expected[12:17, 20:26] = True
    assert (found["mass"] == expected).all()


@pytest.mark.parametrize("text", ["", "{}", "[1, 2]", "[[1, 2], [3, 4]]", '[["a", 1], [2, 3]]'])
def test_what_is_no_polygon_is_refused_by_name(tmp_path, text):
    path = tmp_path / "p.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError) as error:
        json_polygons(path)
    assert error.value.path == path


def test_an_annotator_s_table_that_is_damaged_names_the_row(tmp_path):
    path = tmp_path / "v.csv"
    head = "filename,region_shape_attributes,region_attributes\n"
    path.write_text(head + "a.png,{},{}\nb.png,{broken,{}\n", encoding="utf-8")
    with pytest.raises(DatasetError, match="row 3"):
        via_polygons(path)
    path.write_text(head + "a.png,{},{}\n", encoding="utf-8")
    assert via_polygons(path) == {"a.png": {}}


def test_a_ddti_file_without_marks_has_no_image(tmp_path):
    path = tmp_path / "1.xml"
    path.write_text("<case><number>1</number></case>", encoding="utf-8")
    assert ddti_polygons(path) == {}
    path.write_text("<case><mark>", encoding="utf-8")
    with pytest.raises(DatasetError, match="cut off"):
        ddti_polygons(path)


# Outlines


def line(kind, width):
    """(H, W) bool: an ellipse in a picture of 120 x 160, its inside, and what was drawn of it."""
    box = (20, 15, 139, 104)
    drawn, inside = Image.new("L", (160, 120)), Image.new("L", (160, 120))
    ImageDraw.Draw(inside).ellipse(box, fill=255)
    pen = ImageDraw.Draw(drawn)
    if kind == "filled":
        pen.ellipse(box, fill=255)
    elif kind == "closed":
        pen.ellipse(box, outline=255, width=width)
    else:
        pen.arc(box, 30, 330, fill=255, width=width)
    return np.asarray(drawn), np.asarray(inside) > 0


@pytest.mark.parametrize("kind", ["filled", "closed", "open"])
@pytest.mark.parametrize("width", [1, 3, 9, 30])
def test_a_line_is_filled_and_what_is_filled_stays(kind, width):
    drawn, inside = line(kind, width)
    found, notes = AnnotationReader().decode(
        MaskRule("x", kind="outline"), drawn, IMAGE, {}, (120, 160)
    )
    assert (found["object"] != inside).mean() < (0.06 if kind == "open" else 0.005)
    assert len(notes) == (kind == "open")


@quick
@given(masks(), st.integers(2, 4), st.sampled_from(["binary", "values", "colors"]))
def test_a_mask_of_another_scale_is_brought_to_its_image_s_size(mask, scale, kind):
    large = np.kron(mask, np.ones((scale, scale), bool))
    values = {
        "binary": large.astype(np.uint8) * 255,
        "values": large.astype(np.uint8),
        "colors": large[..., None] * np.array(COLORS["benign"], np.uint8),
    }[kind]
    classes = {"values": {"object": (1,)}, "colors": {"object": COLORS["benign"]}}.get(kind)
    with listening() as heard:
        found, notes = decode(MaskRule("x", kind=kind, classes=classes), values)
    assert (found["object"] == mask).all()
    assert notes == []
    assert [text for _, text in heard] == [RESCALED]
