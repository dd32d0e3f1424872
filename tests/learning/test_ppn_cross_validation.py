"""Promotion: what is measured on, and that a worse prompt predictor is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from napari_usgseg.core.errors import Cancelled
from napari_usgseg.learning.labelled import LabelledImage
from napari_usgseg.learning.ppn import (
    PpnSettings,
    PpnTraining,
    class_dice,
    cross_validate_ppn,
)
from napari_usgseg.learning.promotion import ppn_scores
from napari_usgseg.models.ppn.card import read_card
from napari_usgseg.models.sam.nano import NanoSam
from napari_usgseg.models.sam.sam import SamSegmenter
from napari_usgseg.phantoms.phantom import make_phantom


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
    model = cross_validate_ppn(
        images, {1: "tumor"}, tiny, tmp_path, settings,
        progress=lambda step, steps, figures: seen.append((step, steps)),
    )  # fmt: skip
    assert seen == [(n, 7) for n in range(1, 8)]  # 1, 2 and 2 for the folds, 2 for all
    card = read_card(tmp_path)
    assert card == model.card
    assert len(card.images) == 4
    assert card.scores["method"] == "3-fold cross-validation"
    assert set(card.scores["per_image"]) == {"p0", "p1", "p2", "p3"}
    fold = read_card(tmp_path / "fold-1")
    assert len(fold.images) in (2, 3)
    more = phantoms(5)
    assert set(ppn_scores(model, more, {1})) == {"p0", "p1", "p2", "p3", "p4"}
    assert ppn_scores(model, images, {1}) == card.scores["per_image"]


def test_a_stopped_measurement_goes_on_where_it_was(tmp_path, tiny):
    settings = PpnSettings(steps=3, task=PpnTraining(batch=1, views=0))
    images, steps = phantoms(4), []
    with pytest.raises(Cancelled):
        cross_validate_ppn(
            images, {1: "tumor"}, tiny, tmp_path, settings,
            progress=lambda step, total, figures: steps.append(step),
            cancelled=lambda: len(steps) == 5,
        )  # fmt: skip
    before = len(steps)
    stopped = cross_validate_ppn(
        images, {1: "tumor"}, tiny, tmp_path, settings,
        progress=lambda step, total, figures: steps.append(step),
    )  # fmt: skip
    assert steps[before] == 6
    whole = cross_validate_ppn(images, {1: "tumor"}, tiny, tmp_path / "whole", settings)
    assert stopped.card.weights_sha256 == whole.card.weights_sha256
    assert stopped.card.scores == whole.card.scores


def test_each_image_is_learnt_from_as_often_in_a_fold_and_views_are_encoded_once(
    tmp_path, tiny, monkeypatch
):
    encoded, embed = [], SamSegmenter.embed

    def counted(self, image, key=""):
        encoded.append(key)
        return embed(self, image, key)

    monkeypatch.setattr(SamSegmenter, "embed", counted)
    settings = PpnSettings(steps=18, task=PpnTraining(batch=2, views=1))
    held = [replace(image, embedding=embed(tiny, image.image, "")) for image in phantoms(6)]
    cross_validate_ppn(held, {1: "tumor"}, tiny, tmp_path, settings)
    assert [read_card(tmp_path / f"fold-{n}").training["steps"] for n in (1, 2, 3)] == [12] * 3
    assert read_card(tmp_path).training["steps"] == 18
    assert all(encoded.count(f"p{n}") <= 1 for n in range(6))  # one bent view of each image


def test_a_class_that_a_fold_has_nothing_of_is_not_found_there_and_stops_nothing(tmp_path, tiny):
    settings = PpnSettings(steps=1, task=PpnTraining(batch=1, views=0))
    images = [
        replace(image, labels=image.labels * 0) if n else image
        for n, image in enumerate(phantoms(4))
    ]
    card = cross_validate_ppn(images, {1: "tumor"}, tiny, tmp_path, settings).card
    assert set(card.scores["per_image"]) == {"p0", "p1", "p2", "p3"}
    assert card.scores["per_image"]["p0"] == 0  # the others have nothing to learn it from
    two = [replace(image, labels=image.labels * (n == 0) + 2) for n, image in enumerate(images)]
    classes = {1 + 2: "tumor", 2: "all"}
    card = cross_validate_ppn(two, classes, tiny, tmp_path / "two", settings).card
    assert card.scores["per_class"]["p0"]["3"] == 0
    whole = card.scores["per_class"]["p0"]["2"]
    assert card.scores["per_image"]["p0"] == pytest.approx(whole / 2)


def test_an_earlier_one_is_measured_over_the_classes_of_the_new_one(tmp_path, tiny):
    settings = PpnSettings(steps=1, task=PpnTraining(batch=1, views=0))
    images = phantoms(4)
    old = cross_validate_ppn(images, {1: "tumor", 2: "skin"}, tiny, tmp_path, settings)
    fresh = phantoms(5)[4:]
    each = class_dice(old, fresh[0])
    assert ppn_scores(old, fresh, {1})["p4"] == pytest.approx(each[1])
    per_class = old.card.scores["per_class"]
    again = ppn_scores(old, images, {1})
    assert again == pytest.approx({name: item["1"] for name, item in per_class.items()})
    wider = ppn_scores(old, fresh, {1, 9})["p4"]
    assert wider == pytest.approx((each[1] + 1) / 2)  # 9 is not there, and not found


def test_an_earlier_one_has_no_score_on_frames_of_a_video_that_it_learnt_from(tmp_path, tiny):
    settings = PpnSettings(steps=1, task=PpnTraining(batch=1, views=0))
    old = cross_validate_ppn(phantoms(4), {1: "tumor"}, tiny, tmp_path, settings)
    images = [replace(image, group="g0") if n == 4 else image
              for n, image in enumerate(phantoms(6))]  # fmt: skip
    assert set(ppn_scores(old, images, {1})) == {"p0", "p1", "p2", "p3", "p5"}
