"""Light heads: fitted in seconds, saved as prompt predictors are, and measured out of fold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_usgseg.core.metrics import dice
from napari_usgseg.core.types import Prompts
from napari_usgseg.learning import promotion
from napari_usgseg.learning.labelled import LabelledImage
from napari_usgseg.learning.light import LightTraining, out_of_fold_dice, train_light
from napari_usgseg.models.ppn.model import load_ppn
from napari_usgseg.phantoms.phantom import make_phantom

CLASSES = {1: "breast tumor", 4: "nowhere else"}


@pytest.fixture(scope="module")
def images(nano_segmenter):
    made = []
    for seed in range(4):
        phantom = make_phantom(seed, (96, 128), "breast")
        labels = (phantom.labels == 1).astype(np.uint8)
        if seed == 0:
            labels[:12, :12] = 4
        embedding = nano_segmenter.embed(phantom.image, str(seed))
        made.append(LabelledImage(str(seed), str(seed), phantom.image, labels, embedding))
    return made


@pytest.fixture(scope="module")
def light(images, nano_segmenter, tmp_path_factory):
    folder = tmp_path_factory.mktemp("light") / "head"
    how = LightTraining(views=0)
    return train_light(images[:3], CLASSES, nano_segmenter, folder, how), folder


def test_what_it_learned_is_found_on_another_image_and_a_class_that_is_not_there_is_not(
    light, images
):
    found = light[0].predict(images[3].embedding)
    assert found[1].object_score >= 0
    assert dice(images[3].labels == 1, found[1].masks[0]) > 0.5
    assert found[4].object_score < 0


def test_its_folder_is_a_prompt_predictors_and_gives_the_same_masks_again(
    light, images, nano_segmenter
):
    model, folder = light
    assert {path.name for path in folder.iterdir()} == {"ppn.json", "ppn.safetensors"}
    again = load_ppn(folder, nano_segmenter)
    assert again.card.classes == CLASSES
    for value, found in model.predict(images[3].embedding).items():
        other = again.predict(images[3].embedding)[value]
        np.testing.assert_array_equal(other.low_res_logits, found.low_res_logits)


def test_a_persons_click_joins_what_it_learned(light, images):
    mask = light[0].predict(images[3].embedding)[1].masks[0]
    rows, columns = np.nonzero(mask)
    point = np.array([[columns[0], rows[0]]], np.float32)
    prompts = Prompts(point_coords=point, point_labels=np.array([0]))
    refined = light[0].for_class(1).predict(images[3].embedding, prompts)
    assert not refined.masks[0][rows[0], columns[0]]


def test_the_same_seed_gives_the_same_head(images, nano_segmenter, tmp_path):
    how = LightTraining(steps=3, views=1)
    ids = [
        train_light(images[:2], {1: "a"}, nano_segmenter, tmp_path / name, h).card.ppn_id
        for name, h in (("a", how), ("b", how), ("c", replace(how, seed=1)))
    ]
    assert ids[0] == ids[1] != ids[2]


def test_out_of_fold_scores_are_of_heads_that_learned_from_none_of_the_images_group(
    images, nano_segmenter, tmp_path
):
    scores = out_of_fold_dice(images, CLASSES, nano_segmenter, tmp_path)
    assert set(scores) == {"0", "1", "2", "3"}
    assert np.mean([each[1] for each in scores.values()]) > 0.3
    assert scores["0"][4] == 0.0  # it is on this image alone
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("dice", "weak", "promoted"), [
    (0.9, True, True), (0.6, True, False), (0.6, False, True),
])  # fmt: skip
def test_a_first_prompt_predictor_must_beat_what_proposes_weakly_where_that_is_on(
    images, nano_segmenter, tmp_path, monkeypatch, dice, weak, promoted
):
    classes = {1: "zygomatic arch"}  # the text prompt refuses it, which counts as 0
    light = {image.image_id: {1: 0.7} for image in images}
    monkeypatch.setattr(promotion, "out_of_fold_dice", lambda *_: light)
    request = {"against": None, "adapter": None, "detector": "nano", "weak": weak}
    new = {image.image_id: dice for image in images}
    folder = tmp_path / "ppn-v1"
    verdict = promotion.compare_ppn(new, images, classes, nano_segmenter, request, folder)
    assert verdict.promoted is promoted
    assert (promotion.WEAK in verdict.sentence) is (weak and not promoted)
