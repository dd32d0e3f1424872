from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_usgseg.io.groups import DUPLICATE_BITS, average_hash, join_groups
from napari_usgseg.io.images import read_image

quick = settings(deadline=None, max_examples=60)


def picture(seed):
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    return coarse.repeat(10, 0).repeat(10, 1)


def test_a_picture_with_callipers_and_one_of_another_size_are_near_duplicates():
    image = picture(0)
    marked = image.copy()
    marked[30, 10:40] = 255
    halved = np.repeat(np.repeat(image, 2, 0), 2, 1)
    hashes = [average_hash(each) for each in (image, marked, halved, picture(1))]
    assert join_groups(["a", "b", "c", "d"], hashes) == ["a", "a", "a", "d"]


def test_groups_that_share_a_near_duplicate_are_one_with_all_their_images():
    hashes = [average_hash(picture(seed)) for seed in (0, 1, 2, 0, 3)]
    assert join_groups(["p1", "p1", "p2", "p2", "p3"], hashes) == ["p1"] * 4 + ["p3"]


def test_no_image_gives_no_group():
    assert join_groups([], np.zeros((0, 256), bool)) == []


@quick
@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 24)), min_size=1, max_size=30),
    st.integers(0, 9),
)
def test_joining_is_what_comparing_every_pair_gives(images, seed):
    rng = np.random.default_rng(seed)
    base = rng.random((7, 256)) > 0.5
    hashes = np.array([base[kind] ^ (np.arange(256) < bits) for kind, bits in images])
    groups = [str(index) for index in range(len(images))]
    joined = join_groups(groups, hashes)
    reached = (hashes[:, None] != hashes[None]).sum(-1) <= DUPLICATE_BITS
    for _ in images:
        reached = reached @ reached
    for index, row in enumerate(reached):
        assert [name == joined[index] for name in joined] == row.tolist()


@pytest.mark.data
def test_few_of_many_real_images_are_near_duplicates(data_folder):
    paths = sorted((data_folder / "busi" / "images").glob("*.png"))[:60]
    joined = join_groups([p.stem for p in paths], [average_hash(read_image(p)) for p in paths])
    assert len(set(joined)) > 40
