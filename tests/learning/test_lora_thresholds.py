"""An adapter without images to stop by gets its thresholds from what it can honestly be asked."""

from __future__ import annotations

import numpy as np
import pytest

from napari_usgseg.learning.labelled import LabelledImage
from napari_usgseg.learning.lora import validation
from napari_usgseg.learning.lora.data import CheckImage
from napari_usgseg.learning.lora.train import LoraSettings, cross_validate_lora
from napari_usgseg.learning.lora.validation import THRESHOLDS, AskedImage, thresholds
from napari_usgseg.models.lora.card import read_adapter_card
from napari_usgseg.phantoms.phantom import make_phantom

TINY = LoraSettings(rank=4, steps=1, batch=1, image_size=64)
NOTHING = np.zeros((0, 4), np.float32)


def phantoms(count: int, same_group: bool = False) -> list[LabelledImage]:
    made = [make_phantom(n, (64, 96), "breast") for n in range(count)]
    return [
        LabelledImage(f"p{n}", "g" if same_group else f"g{n}", p.image, 3 * (p.labels == 1))
        for n, p in enumerate(made)
    ]


def answer(image_id: str, phrase: str, up_to: float) -> AskedImage:
    """Right up to a threshold, and nothing found above it."""
    image = CheckImage(image_id, np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8)), {1: phrase})
    dice = (up_to + 1e-6 >= THRESHOLDS).astype(np.float32)
    return AskedImage(image, phrase, NOTHING, np.zeros(0), NOTHING, dice)


def test_each_phrase_has_the_threshold_that_suits_its_own_answers():
    answers = [answer(f"i{n}", "nerve", 0.35) for n in range(4)]
    answers += [answer(f"i{n}", "cyst", 0.9) for n in range(4)]
    least = thresholds(answers, 0.8)
    assert least["cyst"] == pytest.approx(0.8)
    assert 0.24 <= least["nerve"] <= 0.35


@pytest.fixture
def asked(monkeypatch):
    """Which images each adapter is asked on, with answers that need a low threshold."""
    seen: dict[str, list[str]] = {}

    def ask(detector, images):
        _, _, adapter = detector.model_id.partition("+")  # none while it is being tuned
        name = adapter.rsplit("-", 1)[0] or "learnt"
        seen.setdefault(name, []).extend(image.image_id for image in images)
        least = {"fold-1": 0.3, "fold-2": 0.4, "fold-3": 0.5}.get(name, 0.35)
        return [answer(image.image_id, "zygomatic arch", least) for image in images]

    monkeypatch.setattr(validation, "ask", ask)
    return seen


def trained(out, images):
    score = {3: 0.5}
    phrases = {3: "zygomatic arch"}
    return cross_validate_lora(images, phrases, "nano", out, TINY, lambda d: lambda image: score)


def test_of_few_images_each_fold_is_asked_on_what_it_did_not_learn_from(tmp_path, asked):
    card = trained(tmp_path, phantoms(3))
    for number in (1, 2, 3):
        learnt = read_adapter_card(tmp_path / f"fold-{number}").images
        assert not set(learnt) & set(asked[f"fold-{number}"])
    del asked["learnt"]
    assert sorted(name for names in asked.values() for name in names) == ["p0", "p1", "p2"]
    least = card.box_thresholds["zygomatic arch"]
    assert least < 0.5
    assert read_adapter_card(tmp_path).box_thresholds == card.box_thresholds
    own = [
        read_adapter_card(tmp_path / f"fold-{n}").box_thresholds["zygomatic arch"]
        for n in (1, 2, 3)
    ]
    assert own[0] > own[2]  # a fold's own answers do not count for it


def test_where_no_fold_tells_the_images_learnt_from_do(tmp_path, asked, monkeypatch):
    monkeypatch.setattr("napari_usgseg.learning.cross_validation.LEAST_HELD_OUT", 4)
    images = [*phantoms(6, same_group=True), *phantoms(8)[7:]]
    card = trained(tmp_path, images)
    assert set(asked) == {"learnt"}
    assert len(asked["learnt"]) == len(card.images) == 6
    assert card.box_thresholds["zygomatic arch"] < 0.5
