"""What a new version is compared with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_usgseg.core.errors import Cancelled
from napari_usgseg.learning.labelled import LabelledImage
from napari_usgseg.learning.promotion import (
    TextScore,
    compare_lora,
    labelled_images,
    text_scores,
)
from napari_usgseg.models.grounding.routing import RoutedDetector
from napari_usgseg.models.lora.card import AdapterCard
from tests.support.bench import BoxDetector, DiscSegmenter

SIZE_HW = (60, 80)


class WithSpeck(DiscSegmenter):
    """The ellipse of the box, and a speck outside of it, which cleaning takes away."""

    def predict(self, embedding, prompts, multimask=None):
        found = super().predict(embedding, prompts, multimask)
        found.masks[:, 55:58, 2:6] = True
        return found


def image(number: int, label: int = 0) -> LabelledImage:
    pixels = np.random.default_rng(number).integers(0, 255, (*SIZE_HW, 3)).astype(np.uint8)
    y, x = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]]
    labels = (((x - 20) / 10) ** 2 + ((y - 20) / 10) ** 2 <= 1).astype(np.uint8) * label
    return LabelledImage(f"i{number}", f"g{number}", pixels, labels)


def test_the_text_prompt_is_measured_uncleaned_as_a_prompt_predictor_is():
    shown = image(0, 1)
    assert TextScore(BoxDetector(), DiscSegmenter(), {1: "Cyst"})(shown)[1] == pytest.approx(1.0)
    with_speck = shown.labels.copy()
    with_speck[55:58, 2:6] = 1
    score = TextScore(BoxDetector(), WithSpeck(), {1: "cyst"})
    assert score(replace(shown, labels=with_speck))[1] == pytest.approx(1.0)
    assert score(shown)[1] < 0.99


class Refusing(BoxDetector):
    """Says of every phrase that it was not trained on it."""

    def detect(self, image, prompt):
        notes = (f"'{prompt.text}' is not among what this model was trained on",)
        return replace(super().detect(image, replace(prompt, text="nothing")), notes=notes)


def test_a_phrase_that_is_refused_is_not_found_or_counts_nothing_at_all():
    empty, full = image(0), image(1, 1)
    score = TextScore(Refusing(), DiscSegmenter(), {1: "cyst"})
    assert (score(empty)[1], score(full)[1]) == (1.0, 0.0)
    strict = TextScore(Refusing(), DiscSegmenter(), {1: "cyst"}, refused=0.0)
    assert (strict(empty)[1], strict(full)[1]) == (0.0, 0.0)
    assert TextScore(BoxDetector(), DiscSegmenter(), {1: "?"}, refused=0.0)(full) == {1: 0.0}


def test_an_adapter_has_the_score_of_its_cross_validation_on_what_it_learnt():
    images = [image(0, 1), image(1, 1), image(2, 1)]
    kept = {"per_class": {"i0": {"1": 0.4}}}
    card = AdapterCard("nano", "nano-0", images=("i0", "i1"), scores=kept)
    wanted = {"i0", "i1", "i2"}
    scores = text_scores(BoxDetector(), card, DiscSegmenter(), images, {1: "cyst"}, wanted)
    assert scores == pytest.approx({"i0": 0.4, "i2": 1.0})
    only = text_scores(BoxDetector(), None, DiscSegmenter(), images, {1: "cyst"}, {"i1"})
    assert only == pytest.approx({"i1": 1.0})


def test_against_an_adapter_that_is_gone_the_detector_stands_as_it_is(tmp_path):
    request = {"detector": "nano", "against": 7}
    images = [image(0, 1), image(1, 1)]
    new = {"i0": 0.5, "i1": 0.5}
    verdict = compare_lora(new, images, {1: "?"}, DiscSegmenter(), request, tmp_path / "tuning")
    assert verdict.promoted
    assert "Dice 0.50 on 2 images" in verdict.sentence
    assert verdict.sentence.endswith("the detector as it is 0.00.")


def test_measuring_ends_when_it_is_told_to():
    with pytest.raises(Cancelled):
        TextScore(BoxDetector(), DiscSegmenter(), {1: "cyst"}, lambda: True)(image(0, 1))


def test_an_image_is_labelled_where_one_of_the_classes_is():
    images = [image(0), image(1, 1), image(2, 2)]
    assert labelled_images(images, {1: "cyst"}) == {"i1"}


class AnyPhrase(BoxDetector):
    """Finds whatever it is asked for in the place of a cyst."""

    def detect(self, image, prompt):
        found = super().detect(image, replace(prompt, text="cyst"))
        return replace(found, phrases=(prompt.text,))


@pytest.mark.parametrize("name", ["Großes Gefäß", "φλέβας"])
def test_a_class_may_be_named_in_any_script(name):
    score = TextScore(AnyPhrase(), DiscSegmenter(), {1: name})
    assert score(image(0, 1))[1] == pytest.approx(1.0)


def test_a_class_that_has_another_name_since_is_measured_as_the_detector_answers_it():
    images = [image(0, 1), image(1, 1)]
    kept = {"per_class": {"i0": {"1": 0.9}, "i1": {"1": 0.9}}}
    card = AdapterCard("nano", "nano-0", ("vein",), images=("i0", "i1"), scores=kept)
    routed = RoutedDetector(Refusing(), AnyPhrase(), lambda phrases: [p == "vein" for p in phrases])
    wanted = {"i0", "i1"}
    for name, dice in (("vein", 0.9), ("artery", 0.0)):
        scores = text_scores(routed, card, DiscSegmenter(), images, {1: name}, wanted)
        assert scores == pytest.approx({"i0": dice, "i1": dice})
    assert kept["per_class"]["i0"] == {"1": 0.9}
