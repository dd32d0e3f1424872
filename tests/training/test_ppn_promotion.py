"""Promotion: what is measured on, and that a worse prompt predictor is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_usgseg.errors import Cancelled, DatasetError
from napari_usgseg.io.phantoms import make_phantom
from napari_usgseg.models.nano import NanoSam
from napari_usgseg.models.ppn_card import read_card
from napari_usgseg.models.sam import SamSegmenter
from napari_usgseg.training.ppn_promotion import (
    folds,
    honest_scores,
    joined_groups,
    judge,
    train_and_measure,
)
from napari_usgseg.training.ppn_task import PpnTraining
from napari_usgseg.training.ppn_train import PpnSettings
from napari_usgseg.training.ppn_views import LabelledImage


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
    parts = folds(images)
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
    early = {images[i].group for i in folds(images[:40])[0].test}
    late = {images[i].group for i in folds(images)[0].test}
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
        folds(noise(12, 1))


def test_only_a_better_one_is_promoted_and_the_sentence_says_what_was_measured():
    old = {"a": 0.6, "b": 0.8, "gone": 1.0}
    better = judge({"a": 0.7, "b": 0.8, "new": 0.1}, old, "PPN v2")
    assert better.promoted
    assert (better.new_dice, better.old_dice, better.images) == pytest.approx((0.75, 0.7, 2))
    assert "Dice 0.750, PPN v2 0.700, on 2 images" in better.sentence
    assert not judge({"a": 0.6, "b": 0.8}, old, "PPN v2").promoted  # equal is not better
    worse = judge({"a": 0.1, "b": 0.9}, old, "the text prompt")
    assert not worse.promoted
    assert worse.sentence.startswith("Not used: Dice 0.500, the text prompt 0.700")
    assert not judge({"c": 1.0}, old, "PPN v2").promoted


@pytest.fixture(scope="module")
def tiny() -> SamSegmenter:
    torch.manual_seed(3)
    return SamSegmenter(NanoSam(64), "nano-00000003")


def phantoms(count: int) -> list[LabelledImage]:
    made = [make_phantom(n, (64, 96), "breast") for n in range(count)]
    return [LabelledImage(f"p{n}", f"g{n}", p.image, p.labels) for n, p in enumerate(made)]


def test_few_images_are_cross_validated_and_all_are_learnt_from(tmp_path, tiny):
    settings = PpnSettings(steps=2, task=PpnTraining(batch=1, views=0))
    images, seen = phantoms(4), []
    model = train_and_measure(
        images, {1: "tumor"}, tiny, tmp_path, settings,
        progress=lambda step, steps, figures: seen.append((step, steps)),
    )  # fmt: skip
    assert seen == [(n, 8) for n in range(1, 9)]
    card = read_card(tmp_path)
    assert card == model.card
    assert len(card.images) == 4
    assert card.scores["method"] == "3-fold cross-validation"
    assert set(card.scores["per_image"]) == {"p0", "p1", "p2", "p3"}
    fold = read_card(tmp_path / "fold-1")
    assert len(fold.images) in (2, 3)
    more = phantoms(5)
    assert set(honest_scores(model, more)) == {"p0", "p1", "p2", "p3", "p4"}
    assert honest_scores(model, images) == card.scores["per_image"]


def test_a_stopped_measurement_goes_on_where_it_was(tmp_path, tiny):
    settings = PpnSettings(steps=3, task=PpnTraining(batch=1, views=0))
    images, steps = phantoms(4), []
    with pytest.raises(Cancelled):
        train_and_measure(
            images, {1: "tumor"}, tiny, tmp_path, settings,
            progress=lambda step, total, figures: steps.append(step),
            cancelled=lambda: len(steps) == 5,
        )  # fmt: skip
    before = len(steps)
    stopped = train_and_measure(
        images, {1: "tumor"}, tiny, tmp_path, settings,
        progress=lambda step, total, figures: steps.append(step),
    )  # fmt: skip
    assert steps[before] == 6
    whole = train_and_measure(images, {1: "tumor"}, tiny, tmp_path / "whole", settings)
    assert stopped.card.weights_sha256 == whole.card.weights_sha256
    assert stopped.card.scores == whole.card.scores
