"""Adapters on real detectors: merged is applied, heads are parted, what was known stays."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_usgseg.core.errors import (
    CheckpointError,
    LabelWriteError,
    ModelError,
    ModelNotFoundError,
)
from napari_usgseg.core.types import TextPrompt
from napari_usgseg.learning.phrases import CONCEPTS
from napari_usgseg.models.grounding.grounding_dino import load_grounding_dino
from napari_usgseg.models.grounding.routing import TaughtPhrases
from napari_usgseg.models.lora.adapter import (
    DINO_PRESETS,
    NANO_PRESETS,
    add_adapter,
    load_adapter,
    save_adapter,
)
from napari_usgseg.models.lora.card import (
    AdapterCard,
    base_of,
    find_adapters,
    is_adapter,
    read_adapter_card,
    write_adapter_card,
)
from napari_usgseg.models.registry import load_detector, merge_to_folder
from napari_usgseg.phantoms.phantom import make_phantom

INPUTS = {"input_ids": torch.tensor([[101, 200, 1012, 102]])}


def shaken(tuned, size: float = 0.2):
    """``tuned`` with every tensor that a training changes away from its start."""
    torch.manual_seed(4)
    with torch.no_grad():
        for tensor in filter(lambda p: p.requires_grad, tuned.parameters()):
            tensor.add_(torch.randn_like(tensor) * size)
    return tuned


def boxes_of(model):
    torch.manual_seed(0)
    with torch.no_grad():
        return model.eval()(pixel_values=torch.randn(1, 3, 128, 128), **INPUTS).pred_boxes


@pytest.fixture(params=["decoder", "paper"])
def dino_adapter(request, dino_folder, tmp_path):
    """A Grounding DINO with a shaken adapter on it, and the adapter's folder."""
    model = load_grounding_dino(dino_folder).model
    tuned = shaken(add_adapter(model, DINO_PRESETS[request.param], 4, 4, str(dino_folder)))
    save_adapter(tuned, tmp_path / "adapter")
    return model, tmp_path / "adapter"


@pytest.fixture(scope="module")
def nano_adapter(tmp_path_factory):
    """A shaken adapter of the embedded `nano` detector, with a card."""
    detector = load_detector("nano")
    tuned = shaken(add_adapter(detector.net, NANO_PRESETS["decoder"], 4, 4, "nano"), 0.05)
    folder = tmp_path_factory.mktemp("adapters") / "kidney"
    save_adapter(tuned, folder)
    phrases = ("kidney", "the kidney", "kidneys")
    write_adapter_card(folder, AdapterCard("nano", detector.model_id, ("kidney",), phrases))
    return folder


def test_merging_gives_the_boxes_of_applying_and_the_adapter_changes_them(
    dino_adapter, dino_folder
):
    trained_model, folder = dino_adapter
    plain = boxes_of(load_grounding_dino(dino_folder).model)
    applied = boxes_of(load_adapter(load_grounding_dino(dino_folder).model, folder))
    merged = boxes_of(load_grounding_dino(dino_folder).with_adapter(folder).model)
    assert float((applied - plain).abs().max()) > 0.01
    torch.testing.assert_close(applied, boxes_of(trained_model), atol=1e-5, rtol=0)
    torch.testing.assert_close(merged, applied, atol=1e-4, rtol=0)


def test_without_parted_heads_a_merge_would_be_wrong(dino_adapter, dino_folder):
    from peft import PeftModel

    from napari_usgseg.models.lora.adapter import add_input_embeddings

    _, folder = dino_adapter
    model = load_grounding_dino(dino_folder).model
    add_input_embeddings(model)
    applied = boxes_of(PeftModel.from_pretrained(model, str(folder)))
    merged = boxes_of(PeftModel.from_pretrained(model, str(folder)).merge_and_unload())
    assert float((merged - applied).abs().max()) > 1e-3


def test_both_copies_of_a_box_head_have_learned_the_same(dino_adapter):
    model, _ = dino_adapter
    for own, twin in zip(model.bbox_embed, model.model.decoder.bbox_embed, strict=True):
        for (name, tensor), (_, other) in zip(
            own.state_dict().items(), twin.state_dict().items(), strict=True
        ):
            torch.testing.assert_close(tensor, other, msg=name)
    first, second = (model.bbox_embed[n].state_dict() for n in (0, 1))
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_a_merged_dino_is_a_folder_of_its_own_with_the_same_boxes(
    dino_adapter, dino_folder, tmp_path
):
    _, folder = dino_adapter
    merged = merge_to_folder(folder, tmp_path / "merged", str(dino_folder))
    applied = boxes_of(load_adapter(load_grounding_dino(dino_folder).model, folder))
    torch.testing.assert_close(boxes_of(load_detector(merged).model), applied, atol=1e-4, rtol=0)
    with pytest.raises(LabelWriteError, match="holds other files"):
        merge_to_folder(folder, merged, str(dino_folder))


def test_an_adapters_folder_brings_its_detector_and_its_phrases(nano_adapter, tmp_path):
    image = make_phantom(3).image
    prompt = TextPrompt("kidney. breast tumor", box_threshold=0.0)
    tuned = load_detector(nano_adapter)
    assert tuned.model_id == load_detector("nano", nano_adapter).model_id
    assert load_detector("nano").detect(image, prompt).notes
    assert not tuned.detect(image, prompt).notes
    assert "kidney" in tuned.detect(image, TextPrompt("thymus")).notes[0]
    merged = load_detector(merge_to_folder(nano_adapter, tmp_path / "merged"))
    assert "kidney" in merged.known.names
    vector, pixels = tuned.tuned.encoder(["kidney"]), torch.randn(1, 3, 256, 256)
    with torch.inference_mode():
        one, other = (d.net.ask(d.net.encode(pixels), vector) for d in (tuned.tuned, merged))
        plain = tuned.base.net.ask(tuned.base.net.encode(pixels), vector)
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-5)
    assert float((one[0] - plain[0]).abs().max()) > 0.1


def test_what_the_base_knows_too_is_answered_by_the_adapter_that_was_taught_it():
    base = load_detector("nano")
    known = base.known.learned
    for concept in CONCEPTS:
        phrases = (concept.name, *concept.phrases)
        taught = TaughtPhrases(phrases, base.encoder, known)
        assert all(taught(phrases)), concept.name
        others = [c.name for c in CONCEPTS if c.family != concept.family]
        assert not any(taught(others)), concept.name
    assert TaughtPhrases(("kidney",), base.encoder, known)(["kidneys", "nerve"]) == [True, False]


def test_each_target_of_an_adapter_has_its_threshold(tmp_path):
    base = load_detector("nano")
    fresh = load_detector("nano")
    folder = tmp_path / "adapter"
    save_adapter(add_adapter(fresh.net, NANO_PRESETS["decoder"], 4, 4, "nano"), folder)
    targets = ("breast tumor", "cyst")
    least = {"breast tumor": 0.99, "cyst": 0.1}
    card = AdapterCard("nano", base.model_id, targets, targets, box_thresholds=least)
    write_adapter_card(folder, card)
    detector = load_detector(folder)
    assert (detector.base.box_threshold, detector.tuned.box_threshold) == (0.8, 0.1)
    image = make_phantom(3, kind="breast").image
    everything = base.detect(image, TextPrompt("breast tumor. cyst. nerve", 0.0))
    usual = detector.detect(image, TextPrompt("breast tumor. cyst. nerve"))
    for phrase, score in {**least, "nerve": 0.8}.items():
        named = zip(everything.phrases, everything.scores, strict=True)
        wanted = [value for name, value in named if name == phrase and value >= score]
        assert usual.phrases.count(phrase) == len(wanted)
    assert base.detect(image, TextPrompt("breast tumor")).phrases == ("breast tumor",)
    assert "breast tumor" not in usual.phrases
    assert len(usual.priors) == len(usual.boxes) == len(usual.scores) == len(usual.phrases)
    assert "breast tumor" in detector.detect(image, TextPrompt("breast tumor", 0.5)).phrases
    assert load_detector(merge_to_folder(folder, tmp_path / "merged")).box_threshold == 0.1


def test_an_adapter_of_a_grounding_dino_leaves_what_is_near_its_phrases_to_the_base(dino_adapter):
    _, folder = dino_adapter
    base = base_of(folder)
    thyroid = next(concept for concept in CONCEPTS if concept.name == "thyroid nodule")
    phrases = (thyroid.name, *thyroid.phrases)
    model_id = load_detector(base).model_id
    write_adapter_card(folder, AdapterCard(base, model_id, (thyroid.name,), phrases))
    detector = load_detector(folder)
    asked = ["thyroid nodule", "nodules of the thyroid", "breast tumor", "left atrium", "nerve"]
    assert detector.is_taught(asked) == [True, True, False, False, False]


def test_a_grounding_dino_takes_an_adapters_threshold_and_keeps_it_merged(dino_adapter, tmp_path):
    _, folder = dino_adapter
    base = base_of(folder)
    model_id = load_detector(base).model_id
    card = AdapterCard(base, model_id, ("kidney",), box_thresholds={"kidney": 0.15})
    write_adapter_card(folder, card)
    assert load_detector(folder).box_threshold == 0.15
    merged = merge_to_folder(folder, tmp_path / "merged")
    assert load_detector(merged).box_threshold == 0.15


def test_an_adapter_answers_its_own_phrases_and_the_base_all_others(nano_adapter):
    image = make_phantom(3, kind="breast").image
    base, tuned = load_detector("nano"), load_detector(nano_adapter)
    for text in ("breast tumor", "cyst", "nerve. blood vessel", "lesion in the breast"):
        one, other = (d.detect(image, TextPrompt(text, 0.0)) for d in (base, tuned))
        assert one.phrases == other.phrases
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_array_equal(one.priors, other.priors)
    both = tuned.detect(image, TextPrompt("breast tumor. kidneys", 0.0))
    parts = [tuned.detect(image, TextPrompt(text, 0.0)) for text in ("breast tumor", "kidneys")]
    assert len(both) == sum(map(len, parts))
    assert set(both.phrases) == {p for part in parts for p in part.phrases}
    assert (np.diff(both.scores) <= 0).all()
    assert (
        tuned.is_taught(["kidney", "kidneys", "breast tumor", "liver"]) == [True] * 2 + [False] * 2
    )


def test_base_and_tuned_network_share_what_they_have_in_common(nano_adapter):
    tuned = load_detector(nano_adapter)
    own = {id(p) for p in tuned.tuned.net.parameters()}
    shared = {n for n, p in tuned.base.net.named_parameters() if id(p) in own}
    assert any(name.startswith("trunk.") for name in shared)
    assert not any(name.endswith("film.weight") for name in shared)


def test_two_adapters_at_once_and_another_models_adapter_are_refused(nano_adapter, tmp_path):
    with pytest.raises(ModelError, match="is a LoRA adapter itself"):
        load_detector(nano_adapter, nano_adapter)
    with pytest.raises(CheckpointError, match="not an adapter of this model"):
        load_detector("nano-dino", plain_copy(nano_adapter, tmp_path / "foreign"))
    card = read_adapter_card(nano_adapter)
    other = plain_copy(nano_adapter, tmp_path / "older")
    write_adapter_card(other, AdapterCard("nano", "nano-00000000", card.targets))
    with pytest.raises(CheckpointError, match="was trained on nano-00000000"):
        load_detector(other)


def plain_copy(folder: Path, to: Path) -> Path:
    """An adapter without our card, as from elsewhere."""
    shutil.copytree(folder, to)
    (to / "usgseg.json").unlink()
    return to


def test_an_adapter_from_elsewhere_names_its_base_or_is_asked_for_it(nano_adapter, tmp_path):
    elsewhere = plain_copy(nano_adapter, tmp_path / "elsewhere")
    assert base_of(elsewhere) == "nano"
    config = elsewhere / "adapter_config.json"
    config.write_text(config.read_text().replace('"nano"', "null"))
    with pytest.raises(CheckpointError, match="name the detector"):
        load_detector(elsewhere)
    assert load_detector("nano", elsewhere).model_id.startswith("nano-")


def test_adapters_are_found_wherever_they_lie(nano_adapter, tmp_path):
    plain_copy(nano_adapter, tmp_path / "a" / "b")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "adapter_config.json").write_text("{}")
    assert list(find_adapters([tmp_path])) == [tmp_path / "a" / "b"]
    assert not is_adapter(tmp_path / "c")
    with pytest.raises(ModelNotFoundError, match="usgseg train lora"):
        base_of(tmp_path / "c")


def test_a_damaged_card_is_named(nano_adapter, tmp_path):
    folder = plain_copy(nano_adapter, tmp_path / "damaged")
    (folder / "usgseg.json").write_text('{"schema": 1}')
    with pytest.raises(CheckpointError, match=r"usgseg\.json.*train it again"):
        load_detector(folder)
