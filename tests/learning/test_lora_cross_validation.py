"""An adapter is measured on images that it did not learn from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_usgseg.core.errors import Cancelled, DatasetError
from napari_usgseg.learning.labelled import LabelledImage
from napari_usgseg.learning.lora.data import PROJECT, tuning_data
from napari_usgseg.learning.lora.train import LoraSettings, cross_validate_lora
from napari_usgseg.models.lora.card import is_adapter, read_adapter_card
from napari_usgseg.phantoms.phantom import make_phantom

TINY = LoraSettings(rank=4, steps=3, batch=1, image_size=64)
PHRASES = {3: "zygomatic arch"}


def phantoms(count: int) -> list[LabelledImage]:
    made = [make_phantom(n, (64, 96), "breast") for n in range(count)]
    return [
        LabelledImage(f"p{n}", f"g{n}", p.image, 3 * (p.labels == 1)) for n, p in enumerate(made)
    ]


def run(out, seen, asked, **options):
    """Cross-validate on three images; what is told and which model is asked on what is added."""

    def scorer(detector):
        def score(image):
            asked.append((detector.model_id, image.image_id))
            return {3: 0.25}

        return score

    return cross_validate_lora(
        phantoms(3), PHRASES, "nano", out, TINY, scorer,
        progress=lambda step, steps, figures: seen.append((step, steps)), **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A cross-validation without a stop: its folder, its card, what was told and asked."""
    out, seen, asked = tmp_path_factory.mktemp("whole"), [], []
    return out, run(out, seen, asked), seen, asked


def test_few_images_are_cross_validated_and_all_are_learnt_from(whole):
    out, card, seen, asked = whole
    assert seen == [(n, 9) for n in range(1, 10)]
    assert card == read_adapter_card(out)
    assert is_adapter(out)
    assert card.images == ("p0", "p1", "p2")
    assert card.scores["method"] == "3-fold cross-validation"
    assert card.scores["per_class"] == {f"p{n}": {"3": 0.25} for n in range(3)}
    for number in (1, 2, 3):
        learnt = read_adapter_card(out / f"fold-{number}").images
        (measured,) = (image for model, image in asked if f"+fold-{number}-" in model)
        assert sorted([*learnt, measured]) == ["p0", "p1", "p2"]


def test_a_stopped_tuning_goes_on_to_the_same_adapter(whole, tmp_path):
    seen: list = []
    with pytest.raises(Cancelled):
        run(tmp_path, seen, [], cancelled=lambda: len(seen) == 3)
    before = len(seen)
    stopped = run(tmp_path, seen, [])
    assert seen[before][0] == before + 1 == 4
    assert stopped == whole[1]
    weights = "adapter_model.safetensors"
    assert (tmp_path / weights).read_bytes() == (whole[0] / weights).read_bytes()


def test_a_project_is_learned_with_numbers_of_its_own_and_only_its_named_classes():
    images = [replace(image, labels=image.labels * 100) for image in phantoms(9)]
    images[0].labels[:4] = 7
    data = tuning_data(images, {300: "nerve"}, 0, 64)
    assert {value for image in data.training for value in np.unique(image.labels)} == {0, 1}
    assert data.training[0].phrases == {1: "nerve"}
    assert {image.dataset for image in data.training} == {PROJECT}
    assert len(data.training) == 6
    assert len(data.checking) == 3
    checked = {image.image_id for image in data.checking}
    assert data.image_ids == tuple(f"p{n}" for n in range(9))
    assert len(checked) == 3
    rare = [replace(image, labels=image.labels * (n in (3, 5))) for n, image in enumerate(images)]
    for seed in range(12):  # the class is never only on images to stop by
        learned = tuning_data(rare, {300: "nerve"}, seed, 64).training
        assert any(image.labels.any() for image in learned)
    assert tuning_data(images[:7], {300: "nerve"}, 0, 64).checking == ()
    with pytest.raises(DatasetError, match="no image shows a class"):
        tuning_data(images, {5: "nerve"}, 0, 64)
