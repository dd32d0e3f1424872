"""LoRA tuning from end to end, on phantoms: it runs, stops, resumes, and forgets nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from napari_usgseg.core.errors import Cancelled, CheckpointError, DatasetError, ModelError
from napari_usgseg.io.datasets import read_dataset, split_by_group
from napari_usgseg.learning.lora.data import UnrelatedPhrases, choose_images, part, strange_images
from napari_usgseg.learning.lora.train import LoraSettings, train_lora
from napari_usgseg.learning.phrases import absent_phrases, concept_of
from napari_usgseg.models.lora.card import read_adapter_card
from napari_usgseg.models.registry import load_detector
from napari_usgseg.phantoms.phantom import write_phantom_dataset

SMALL = LoraSettings(rank=4, steps=4, batch=2, image_size=64)


@pytest.fixture(scope="module")
def kidneys(tmp_path_factory):
    """Ten phantoms whose target is called by the name of an organ that nobody was taught."""
    folder = tmp_path_factory.mktemp("data") / "kidneys"
    write_phantom_dataset(folder, 10, seed=2, size_hw=(96, 128))
    path = folder / "dataset.json"
    card = json.loads(path.read_text())
    card |= {"name": "kidneys", "organ": "kidney", "target": "kidney"}
    path.write_text(json.dumps({**card, "labels": {**card["labels"], "1": "kidney"}}))
    return read_dataset(folder)


def weights(folder):
    from safetensors.torch import load_file

    return load_file(folder / "adapter_model.safetensors")


def test_a_tuned_grounder_knows_the_new_organ_and_answers_the_old_ones_as_before(kidneys, tmp_path):
    lines = []
    much = replace(SMALL, lr=0.02, preset="phrase")
    card = train_lora([kidneys], tmp_path, much, say=lines.append, pictures=False)
    assert "kidney" in card.targets
    assert {"kidney", "the kidney", "kidneys"} <= set(card.phrases)
    assert len(card.images) == 10
    assert "kidneys/" in card.images[0]
    assert card == read_adapter_card(tmp_path)
    assert (tmp_path / "last" / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "training.pt").exists()
    before, after = load_detector("nano"), load_detector(tmp_path).tuned
    assert "kidney" in after.known.names
    pixels = torch.randn(1, 3, 256, 256)
    with torch.inference_mode():
        for phrase, changes in (("breast tumor", False), ("left atrium", False), ("kidney", True)):
            vector = before.encoder([phrase])
            pairs = [d.net.ask(d.net.encode(pixels), vector) for d in (before, after)]
            moved = float((pairs[0][0] - pairs[1][0]).abs().max())
            assert moved > 0.5 if changes else moved < 0.05, (phrase, moved)
    assert "to learn" in lines[0]
    assert "kidney" in lines[0]


def test_a_grounding_dino_is_tuned_and_its_best_adapter_loads(kidneys, tmp_path):
    train_lora([kidneys], tmp_path, replace(SMALL, steps=2), detector="nano-dino", pictures=False)
    tensors = weights(tmp_path)
    assert any(name.endswith("bbox_embed.0.layers.2.weight") for name in tensors)
    assert any(float(t.abs().max()) > 0 for n, t in tensors.items() if "lora_B" in n)
    assert load_detector(tmp_path).model_id.startswith("nano-dino-")
    assert not any("encoder.layers" in n and "decoder" not in n for n in tensors)


def test_an_interrupted_tuning_goes_on_to_the_same_adapter(kidneys, tmp_path):
    train_lora([kidneys], tmp_path / "whole", SMALL, pictures=False)
    seen = []

    def until_one(step, steps, figures):
        seen.append(step)

    with pytest.raises(Cancelled, match="--resume"):
        train_lora(
            [kidneys],
            tmp_path / "parts",
            SMALL,
            pictures=False,
            progress=until_one,
            cancelled=lambda: len(seen) >= 1,
        )
    assert len(seen) == 1
    train_lora([kidneys], tmp_path / "parts", SMALL, pictures=False, resume=True)
    whole, parts = (weights(tmp_path / name / "last") for name in ("whole", "parts"))
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-4, atol=1e-6, msg=name)
    log = (tmp_path / "parts" / "log.jsonl").read_text().splitlines()
    assert json.loads(log[-1])["step"] == 4
    finished = read_adapter_card(tmp_path / "parts")
    again = train_lora([kidneys], tmp_path / "parts", SMALL, pictures=False, resume=True)
    assert again == finished
    with pytest.raises(CheckpointError, match=r"another training.*settings"):
        train_lora(
            [kidneys], tmp_path / "parts", replace(SMALL, rank=8), pictures=False, resume=True
        )


def test_losses_and_validation_boxes_become_pictures(kidneys, tmp_path):
    pytest.importorskip("tensorboard", reason="needs the extra 'train'")
    train_lora([kidneys], tmp_path, replace(SMALL, steps=2), pictures=True)
    for name in ("losses.png", "validation.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert list((tmp_path / "tensorboard").iterdir())


def test_without_tensorboard_it_says_so_and_trains(kidneys, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_usgseg.learning.lora.validation.find_spec", lambda name: None)
    lines = []
    train_lora([kidneys], tmp_path, replace(SMALL, steps=1), say=lines.append)
    assert any("napari-usgseg[train]" in line for line in lines)
    assert not (tmp_path / "tensorboard").exists()
    assert read_adapter_card(tmp_path) is not None


def test_a_preset_of_the_other_kind_is_refused_before_anything_is_read(kidneys, tmp_path):
    with pytest.raises(ModelError, match="no preset 'paper'"):
        train_lora([kidneys], tmp_path, replace(SMALL, preset="paper"))


def test_images_to_stop_by_are_of_other_groups_than_those_learned_from(kidneys):
    data = choose_images([kidneys], None, None, 0, 64)
    learned, checked = len(data.training), {image.image_id for image in data.checking}
    assert learned + len(checked) == 10
    assert 2 <= len(checked) <= 5
    assert set(data.image_ids) > checked


def test_only_the_training_side_of_a_split_is_drawn_from(kidneys):
    split = split_by_group(kidneys, 0)
    data = choose_images([kidneys], None, {"kidneys": split}, 0, 64)
    assert {name.split("/")[1] for name in data.image_ids} == set(split.train)
    with pytest.raises(DatasetError, match="split file"):
        choose_images([kidneys], None, {"other": split}, 0, 64)


def test_what_may_be_beside_a_target_is_never_asked_for_as_absent():
    related = UnrelatedPhrases(["kidney"], load_detector("nano").encoder)
    rng = np.random.default_rng(0)
    asked = {related([concept_of("kidney")], rng) for _ in range(200)}
    assert len(asked) > 50
    assert asked.isdisjoint({"kidney", "renal cortex", "renal medulla", "kidney stone"})
    assert {"renal cortex", "kidney"} <= set(absent_phrases())


def test_phantoms_of_other_organs_show_what_the_target_is_not(kidneys):
    related = UnrelatedPhrases(["kidney"], load_detector("nano").encoder)
    data = choose_images([kidneys], None, None, 0, 64)
    images = strange_images(data, related, 0)
    assert images
    assert all(image.labels.max() == 0 and "kidney" in image.phrases.values() for image in images)
    lesions = UnrelatedPhrases(["breast tumor", "fetal head"], related.encoder)
    assert lesions.is_related("breast")
    assert lesions.is_related("fetal head")


def test_of_two_patients_the_smaller_one_says_when_to_stop():
    made = [SimpleNamespace(group="a" if n < 10 else "b") for n in range(20)]
    learned, checked = part(made[:19], 0)
    assert {item.group for item in checked} == {"b"}
    assert len(learned) == 10
    assert part(made[:10], 0) == (made[:10], [])


def test_a_stopped_tuning_is_not_judged_so_that_it_ends_at_once_and_one_out_of_time_is(
    kidneys, tmp_path
):
    figures = {}

    def told(step, steps, now):
        figures[step] = now

    options = {"pictures": False, "progress": told}
    with pytest.raises(Cancelled):
        train_lora([kidneys], tmp_path / "a", SMALL, cancelled=lambda: True, **options)
    assert "validation" not in figures[1]
    assert (tmp_path / "a" / "training.pt").is_file()
    train_lora([kidneys], tmp_path / "b", replace(SMALL, minutes=1e-6), **options)
    assert (max(figures), "validation" in figures[1]) == (1, True)
