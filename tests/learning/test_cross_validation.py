"""Promotion: what is measured on, and that a worse model is refused."""

from __future__ import annotations

import numpy as np
import pytest

from napari_usgseg.core.errors import DatasetError
from napari_usgseg.learning.cross_validation import (
    Fold,
    cross_validate,
    folds,
    how_measured,
    joined_groups,
    partitions,
)
from napari_usgseg.learning.labelled import LabelledImage
from napari_usgseg.learning.promotion import judge


def noise(count: int, groups: int, seed: int = 0) -> list[LabelledImage]:
    rng = np.random.default_rng(seed)
    return [
        LabelledImage(
            f"i{n}", f"g{n % groups}", rng.integers(0, 255, (32, 32, 3), np.uint8),
            np.ones((32, 32), np.uint8),
        )
        for n in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize(("count", "groups"), [(10, 10), (12, 4), (29, 7), (30, 30), (80, 9)])
def test_no_group_is_on_two_sides_and_folds_cover_what_they_should(count, groups):
    images = noise(count, groups)
    parts = partitions(images)
    assert len(parts) == (1 if count >= 30 else 3)
    for part in parts:
        assert sorted(part.train + part.test) == list(range(count))
        assert not {images[i].group for i in part.train} & {images[i].group for i in part.test}
        assert part.test
        assert len(part.train) >= len(part.test)
    if count < 30:
        assert sorted(i for part in parts for i in part.test) == list(range(count))


def test_a_group_that_is_kept_out_stays_kept_out_as_images_come():
    images = noise(90, 45)
    early = {images[i].group for i in partitions(images[:40])[0].test}
    late = {images[i].group for i in partitions(images)[0].test}
    assert early <= late


def test_near_duplicates_are_one_group():
    images = noise(4, 4)
    twin = LabelledImage("t", "elsewhere", images[2].image.copy(), images[2].labels)
    twin.image[0, 0] = 255 - twin.image[0, 0]
    groups = joined_groups([*images, twin])
    assert groups[4] == groups[2]
    assert len(set(groups)) == 4


def test_one_group_cannot_be_measured():
    with pytest.raises(DatasetError, match="of one group"):
        partitions(noise(12, 1))


def test_only_a_better_one_is_promoted_and_the_sentence_says_what_was_measured():
    old = {"a": 0.6, "b": 0.8, "gone": 1.0}
    better = judge({"a": 0.7, "b": 0.8, "new": 0.1}, old, "PPN v2")
    assert better.promoted
    assert (better.dice, better.rival_dice, better.images) == pytest.approx((0.75, 0.7, 2))
    said = "In use now: Dice 0.75 on 2 images that it had not learnt from, PPN v2 0.70."
    assert (better.rival, better.sentence) == ("PPN v2", said)
    assert not judge({"a": 0.6, "b": 0.8}, old, "PPN v2").promoted  # equal is not better
    worse = judge({"a": 0.1, "b": 0.9}, old, "the text prompt")
    assert not worse.promoted
    assert worse.sentence.startswith("Not used, for it is no better: Dice 0.50 on 2 images")
    assert worse.sentence.endswith("the text prompt 0.70.")
    assert not judge({"c": 1.0}, old, "PPN v2").promoted
    assert judge({}, old, "PPN v2").dice == 0, "it was measured on nothing"


def test_a_label_that_is_the_other_sides_own_mask_need_not_be_outlined_as_it_did():
    old = {"own": 1.0, "drawn": 0.6, "empty": 1.0}
    new = {"own": 0.93, "drawn": 0.64, "empty": 1.0}
    assert not judge(new, old, "PPN v2").promoted  # nobody said where something is labelled
    verdict = judge(new, old, "PPN v2", labelled={"own", "drawn"})
    assert verdict.promoted
    assert verdict.sentence.startswith("In use now: Dice 0.86 on 3 images")
    assert "On 1 of them the label is an outline by PPN v2, accepted as it was" in verdict.sentence
    assert "a Dice of 0.9 or more counts as equal, so that 0.86 counts as 0.88." in verdict.sentence
    far = judge({**new, "own": 0.89}, old, "PPN v2", labelled={"own", "drawn"})
    assert not far.promoted
    assert "counts as equal" not in far.sentence
    missed = judge({**new, "empty": 0.0}, old, "PPN v2", labelled={"own", "drawn"})
    assert not missed.promoted  # nothing is labelled there, so it is nobody's mask
    assert not judge({"own": 0.95}, {"own": 1.0}, "PPN v2", {"own"}).promoted  # equal, not better


def test_few_images_take_a_training_for_each_fold_and_one_on_all(tmp_path):
    images = noise(6, 6)
    images[0].labels[:] = 2
    *parts, whole = folds(images, {1: "nerve", 2: "artery"}, tmp_path, 30)
    assert [fold.folder.name for fold in parts] == ["fold-1", "fold-2", "fold-3"]
    assert [fold.steps for fold in (*parts, whole)] == [20, 20, 20, 30]
    assert whole.folder == tmp_path
    assert whole.train == tuple(range(6))
    without = [fold for fold in parts if 0 in fold.test]
    assert [fold.classes for fold in without] == [{1: "nerve"}]
    (only,) = folds(noise(40, 40), {1: "nerve"}, tmp_path, 30)
    assert (only.folder, only.steps) == (tmp_path, 30)


def test_the_verdict_says_that_cross_validation_is_shorter():
    said = " Measured in 2 shorter trainings, each without some of the images."
    assert how_measured({"method": "2-fold cross-validation"}) == said
    assert how_measured({"method": "held-out groups"}) == ""


def test_a_fold_without_a_class_is_no_step_of_the_training(tmp_path):
    images, told = noise(3, 3), []
    whole = {1: "cyst"}
    needed = [
        Fold((1, 2), (0,), whole, tmp_path / "fold-1", 20),
        Fold((0, 2), (1,), {}, tmp_path / "fold-2", 20),
        Fold((0, 1), (2,), whole, tmp_path / "fold-3", 20),
        Fold((0, 1, 2), (), whole, tmp_path, 30),
    ]

    def train(fold, progress):
        progress(1, fold.steps, {})
        return fold.folder.name

    cross_validate(
        images, whole, needed, train, lambda model, image: {1: 0.5},
        lambda step, steps, figures: told.append((step, steps)),
    )  # fmt: skip
    assert told == [(1, 70), (21, 70), (41, 70)]
