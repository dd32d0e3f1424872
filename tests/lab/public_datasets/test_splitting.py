from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from napari_usgseg.lab.public_datasets.prepare import split_like
from napari_usgseg.lab.public_datasets.registry import known_datasets

quick = settings(deadline=None, max_examples=60)
GROUPS = st.lists(st.integers(0, 12).map(str), max_size=80)


def names(count):
    return [f"i{number:04d}" for number in range(count)]


@quick
@given(GROUPS, st.integers(0, 5), st.sampled_from([None, (176, 50, 26), (0, 0, 9), (5, 3, 2)]))
def test_every_item_is_on_one_side_and_no_group_on_two(groups, seed, counts):
    ids = names(len(groups))
    split = split_like("d", ids, groups, counts, seed)
    sides = [split.train, split.val, split.test]
    assert sorted(item for side in sides for item in side) == ids
    of = dict(zip(ids, groups, strict=True))
    seen = [{of[item] for item in side} for side in sides]
    assert sum(map(len, seen)) == len(set(groups))


def test_the_paper_s_counts_are_met_where_every_image_is_a_group():
    for known in known_datasets():
        if known.split:
            ids = names(known.images)
            split = split_like(known.name, ids, ids, known.split)
            assert (len(split.train), len(split.val), len(split.test)) == known.split, known.name


def test_other_numbers_of_images_get_the_paper_s_shares():
    ids = names(635)
    split = split_like("AUL", ids, ids, (351, 120, 62))
    assert (len(split.val), len(split.test)) == (143, 74)


def test_unseen_data_sets_are_for_testing_only_however_many_images_there_are():
    split = split_like("Luminous", names(341), names(341), (0, 0, 296))
    assert (split.train, split.val, len(split.test)) == ((), (), 341)


def test_few_large_groups_still_give_every_side_something():
    groups = ["a"] * 50 + ["b"] * 40 + ["c"] * 30 + ["d"] * 20
    split = split_like("volumes", names(140), groups, None)
    assert min(len(split.train), len(split.val), len(split.test)) > 0


def test_the_order_of_items_and_other_runs_change_nothing():
    ids = names(50)
    one = split_like("d", ids, ids, None, seed=3)
    other = split_like("d", ids[::-1], ids[::-1], None, seed=3)
    assert one == other
    assert one != split_like("d", ids, ids, None, seed=4)
