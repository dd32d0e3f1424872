from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_usgseg.core.types import FieldOfView, Prompts, Region, TextPrompt
from napari_usgseg.segmentation.field_of_view import (
    ELSEWHERE,
    crop,
    embed_field,
    embed_fields,
    field_of,
    fields_of_view,
    logits_within,
    prompts_within,
    whole_logits,
    whole_mask,
)
from napari_usgseg.segmentation.postprocess import PostprocessSettings
from napari_usgseg.segmentation.propose import as_logits, propose_prompts, propose_text

SIZE = (60, 80)
LEFT, RIGHT = FieldOfView((0, 5, 36, 55), SIZE), FieldOfView((40, 5, 76, 55), SIZE)
AS_DRAWN = PostprocessSettings(enabled=False)


def region(box, kind="B-mode"):
    return Region(kind, box, (0.1, 0.1), ("cm", "cm"))


def boxes(*regions, size_hw=SIZE):
    return [field.box for field in fields_of_view(regions, size_hw)]


@st.composite
def fields(draw):
    height, width = draw(st.integers(8, 300)), draw(st.integers(8, 300))
    x0, y0 = draw(st.integers(0, width - 4)), draw(st.integers(0, height - 4))
    x1, y1 = draw(st.integers(x0 + 4, width)), draw(st.integers(y0 + 4, height))
    return FieldOfView((x0, y0, x1, y1), (height, width))


def test_models_look_at_each_region_of_tissue_from_left_to_right():
    regions = region((40, 5, 76, 55)), region((0, 5, 36, 55)), region((0, 56, 80, 60), "trace")
    assert boxes(*regions) == [(0, 5, 36, 55), (40, 5, 76, 55)]
    assert boxes() == []
    assert boxes(region((0, 0, 80, 60), "spectral")) == []


def test_a_box_of_colour_in_b_mode_is_no_further_view():
    assert boxes(region((0, 5, 76, 55)), region((20, 10, 60, 50), "colour")) == [(0, 5, 76, 55)]


def test_a_region_is_cut_at_the_picture_and_a_sliver_is_none():
    assert boxes(region((-5, -5, 900, 900))) == [(0, 0, 80, 60)]
    assert boxes(region((0, 0, 80, 10)), region((500, 0, 900, 60))) == []


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [
        (Prompts(np.array([[10, 20]], np.float32), np.array([1])), LEFT),
        (Prompts(np.array([[50, 20], [10, 20]], np.float32), np.array([1, 0])), RIGHT),
        (Prompts(np.array([[50, 20], [10, 20]], np.float32), np.array([1, 1])), None),
        (Prompts(np.array([[38, 20]], np.float32), np.array([1])), None),
        (Prompts(box=np.array([42, 10, 79, 50], np.float32)), RIGHT),
        (Prompts(scribbles=((np.array([[50, 9], [50, 20], [50, 40]], np.float32), 1),)), RIGHT),
        (Prompts(mask_input=as_logits(np.arange(80) + np.zeros((60, 1)) < 30)), LEFT),
        (Prompts(), None),
        (Prompts(np.zeros((1, 3), np.float32), np.array([1])), None),
        (Prompts(box=np.array([1, 2, 3], np.float32)), None),
    ],
)
def test_the_field_is_the_one_that_holds_all_that_is_pointed_at(prompts, expected):
    assert field_of((LEFT, RIGHT), prompts) is expected


@given(fields(), st.data())
def test_prompts_in_a_field_point_at_the_same_pixels_of_its_crop(field, data):
    x0, y0, x1, y1 = field.box
    inside = st.tuples(st.integers(x0, x1 - 1), st.integers(y0, y1 - 1))
    picture = np.arange(field.size_hw[0] * field.size_hw[1]).reshape(field.size_hw)
    points = np.array(data.draw(st.lists(inside, min_size=2, max_size=5)), np.float32)
    corners = np.concatenate([points[:2].min(0), points[:2].max(0)])
    prompts = Prompts(points, np.ones(len(points), np.int32), corners, ((points, 1),))
    found = prompts_within(field, prompts)
    assert found.box is not None
    for given_at, seen_at in (
        (points, found.point_coords),
        (points, found.scribbles[0][0]),
        (corners.reshape(2, 2), found.box.reshape(2, 2)),
    ):
        (x, y), (column, row) = given_at.astype(int).T, seen_at.astype(int).T
        np.testing.assert_array_equal(picture[y, x], crop(field, picture)[row, column])


@given(fields())
def test_what_lies_outside_of_a_field_is_left_out_and_boxes_are_cut(field):
    x0, y0, x1, y1 = field.box
    points = np.array([[x0 - 1, y0], [x0, y0 - 1], [x1, y0], [x0, y1], [x0, y0]], np.float32)
    prompts = Prompts(
        points,
        np.array([0, 0, 0, 0, 1], np.int32),
        np.array([-9, -9, 900, 900], np.float32),
        ((points[:1], 0),),
    )
    found = prompts_within(field, prompts)
    np.testing.assert_array_equal(found.point_coords, [[0, 0]])
    np.testing.assert_array_equal(found.point_labels, [1])
    assert found.box is not None
    np.testing.assert_array_equal(found.box, [0, 0, x1 - x0 - 1, y1 - y0 - 1])
    assert found.scribbles == ()


@given(fields(), st.integers(0, 2**16))
def test_a_mask_of_the_crop_comes_back_from_the_picture(field, seed):
    mask = np.random.default_rng(seed).random(crop(field, np.zeros(field.size_hw)).shape) < 0.5
    whole = whole_mask(field, mask)
    np.testing.assert_array_equal(crop(field, whole), mask)
    assert whole.sum() == mask.sum()
    beside = np.ones(field.size_hw, bool)
    assert whole_mask(field, mask, beside).sum() == mask.sum() + beside.sum() - mask.size
    assert beside.all(), "not changed in place"


def places(count, length):
    """Where the middles of ``count`` cells over ``length`` pixels are."""
    return (np.arange(count) + 0.5) * length / count - 0.5


@given(fields(), st.integers(4, 64), st.integers(4, 64))
def test_logits_lie_over_the_same_pixels_in_the_crop_and_in_the_picture(field, rows, columns):
    (height, width), (x0, y0, x1, y1) = field.size_hw, field.box
    slope = (places(rows, y1 - y0)[:, None] + places(columns, x1 - x0)).astype(np.float32)
    whole = whole_logits(field, slope)
    down, along = places(whole.shape[0], height), places(whole.shape[1], width)
    inside = whole != ELSEWHERE
    expected = (down - y0)[:, None] + (along - x0)
    cell = (y1 - y0) / rows + (x1 - x0) / columns
    np.testing.assert_allclose(whole[inside], expected[inside], atol=cell / 2 + 1e-3)
    outside = (down < y0 - 0.501)[:, None] | (along < x0 - 0.501)
    outside |= (down > y1 - 0.499)[:, None] | (along > x1 - 0.499)
    assert not inside[outside].any()
    flat = logits_within(field, (down[:, None] + along).astype(np.float32))
    seen = places(flat.shape[0], y1 - y0)[:, None] + y0 + places(flat.shape[1], x1 - x0) + x0
    step = height / whole.shape[0] + width / whole.shape[1]
    np.testing.assert_allclose(flat, seen, atol=step / 2 + 1e-3)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**16))
def test_logits_of_whole_cells_come_back_as_they_were(across, down, seed):
    field = FieldOfView((16 * across, 16 * down, 16 * across + 64, 16 * down + 32), (256, 256))
    logits = np.random.default_rng(seed).normal(size=(32, 64)).astype(np.float32)
    whole = whole_logits(field, logits)
    assert whole.shape == (256, 256)
    np.testing.assert_allclose(crop(field, whole), logits, rtol=1e-5)
    np.testing.assert_allclose(logits_within(field, whole), logits, rtol=1e-5)


def test_a_click_in_a_region_is_answered_in_the_picture_and_cut_at_the_region(plain_segmenter):
    image = np.zeros((*SIZE, 3), np.uint8)
    click = Prompts(np.array([[42, 30]], np.float32), np.array([1], np.int32))
    field = field_of((LEFT, RIGHT), click)
    embedding = embed_field(plain_segmenter, image, field)
    assert embedding.size_hw == (50, 36), "the rest is not seen"
    found = propose_prompts(plain_segmenter, embedding, click, AS_DRAWN)
    assert found.mask.shape == SIZE
    assert found.mask[30, 40:55].all()
    assert not found.mask[:, :40].any()
    np.testing.assert_array_equal(found.box, [40, 18, 54, 42])
    asked = plain_segmenter.asked[0]
    np.testing.assert_array_equal(asked.point_coords, [[2, 25]])


def test_a_correction_in_a_region_leaves_what_is_beside_it(plain_segmenter):
    image, beside = np.zeros((*SIZE, 3), np.uint8), np.zeros(SIZE, bool)
    beside[20:40, 10:60] = True
    click = Prompts(np.array([[70, 30]], np.float32), np.array([1], np.int32))
    embedding = embed_field(plain_segmenter, image, RIGHT)
    found = propose_prompts(plain_segmenter, embedding, click, AS_DRAWN, previous=beside)
    np.testing.assert_array_equal(found.mask[:, :40], beside[:, :40])
    assert found.mask[30, 70]
    assert found.low_res_logits is not None
    again = Prompts(click.point_coords, click.point_labels, mask_input=found.low_res_logits)
    propose_prompts(plain_segmenter, embedding, again, AS_DRAWN, previous=found.mask)
    seen = plain_segmenter.asked[-1].mask_input
    small = found.mask[5:55, 40:76][::4, ::4]
    assert np.mean((seen > 0) == small) > 0.85, "the logits are those of the crop again"


def test_a_sector_cuts_what_is_proposed(plain_segmenter):
    shape = np.zeros((50, 36), bool)
    shape[:25] = True
    field = FieldOfView(RIGHT.box, SIZE, shape)
    embedding = embed_field(plain_segmenter, np.zeros((*SIZE, 3), np.uint8), field)
    prompts = Prompts(box=np.array([45, 20, 60, 50], np.float32))
    found = propose_prompts(plain_segmenter, embedding, prompts, AS_DRAWN)
    np.testing.assert_array_equal(np.flatnonzero(found.mask.any(1))[[0, -1]], [20, 29])
    np.testing.assert_array_equal(found.box, [45, 20, 60, 50])


def test_a_phrase_is_looked_for_in_each_region(plain_segmenter, make_detector):
    image = np.zeros((*SIZE, 3), np.uint8)
    detector = make_detector([("cyst", (4, 6, 10, 12), 0.8)])
    embeddings = embed_fields(plain_segmenter, image, (LEFT, RIGHT))
    prompt = TextPrompt("cyst. nerve")
    found = propose_text(plain_segmenter, detector, image, prompt, AS_DRAWN, embeddings)
    assert [tuple(item.box) for item in found.items] == [(4, 11, 10, 17), (44, 11, 50, 17)]
    (note,) = found.notes
    assert "'nerve'" in note, "said once for the picture"
    assert detector.asked == [prompt, prompt]
