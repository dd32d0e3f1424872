"""LoRA tuning from end to end, on phantoms: it runs, stops, resumes, and forgets nothing."""

from __future__ import annotations

import ast
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from napari_usgseg.core.errors import Cancelled, CheckpointError, DatasetError, ModelError
from napari_usgseg.io.datasets import read_dataset, split_by_group
from napari_usgseg.learning.lora.data import UnrelatedPhrases, choose_images, part, strange_images
from napari_usgseg.learning.lora.train import (
    LoraSettings,
    TuneSettings,
    make_accelerator,
    train_lora,
    tune,
)
from napari_usgseg.learning.phrases import absent_phrases, concept_of
from napari_usgseg.models.lora.adapter import trained
from napari_usgseg.models.lora.card import read_adapter_card
from napari_usgseg.models.registry import load_detector
from napari_usgseg.phantoms.phantom import write_phantom_dataset

SMALL = LoraSettings(rank=4, steps=4, batch=2, image_size=64)


@pytest.fixture(scope="module")
def kidneys(tmp_path_factory):
    """Ten phantoms whose target is called by the name of an organ that nobody was taught."""
    folder = tmp_path_factory.mktemp("data") / "kidneys"
    write_phantom_dataset(folder, 10, seed=2)
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
    train_lora([kidneys], tmp_path, replace(SMALL, steps=2), grounder="nano-dino", pictures=False)
    tensors = weights(tmp_path)
    assert any(name.endswith("bbox_embed.0.layers.2.weight") for name in tensors)
    assert any(float(t.abs().max()) > 0 for n, t in tensors.items() if "lora_B" in n)
    assert load_detector(tmp_path).model_id.startswith("nano-dino-")
    assert not any("encoder.layers" in n and "decoder" not in n for n in tensors)


def test_an_interrupted_tuning_goes_on_to_the_same_adapter(kidneys, tmp_path):
    train_lora([kidneys], tmp_path / "whole", SMALL, pictures=False)
    seen = []

    def until_two(step, steps, figures):
        seen.append(step)

    with pytest.raises(Cancelled, match="--resume"):
        train_lora(
            [kidneys],
            tmp_path / "parts",
            SMALL,
            pictures=False,
            progress=until_two,
            cancelled=lambda: len(seen) >= 1,
        )
    assert len(seen) == 2
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
    pytest.importorskip("matplotlib", reason="needs the extra 'train'")
    pytest.importorskip("tensorboard", reason="needs the extra 'train'")
    train_lora([kidneys], tmp_path, replace(SMALL, steps=2), pictures=True)
    for name in ("losses.png", "validation.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert list((tmp_path / "tensorboard").iterdir())


def test_without_matplotlib_and_tensorboard_it_says_so_and_trains(kidneys, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_usgseg.learning.lora.pictures.find_spec", lambda name: None)
    lines = []
    train_lora([kidneys], tmp_path, replace(SMALL, steps=1), say=lines.append)
    assert any("napari-usgseg[train]" in line for line in lines)
    assert not (tmp_path / "losses.png").exists()
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


class Line(nn.Module):
    """A lesson that is a point on a line; the loss is its squared distance from its place."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(1))

    def forward(self, step, rng):
        return (self.place - rng.uniform(0.9, 1.1)).square().sum(), {}


def run(tmp_path, scores, settings, **options):
    kept = []
    lesson = Line()
    outcome = tune(
        lesson,
        settings,
        tmp_path / "state.pt",
        make_accelerator("no", settings.accumulate, on_cpu=True),
        check=lambda step: scores(step),
        keep=lambda kind, step, score: kept.append((kind, step)),
        **options,
    )
    return lesson, outcome, kept


def test_it_stops_when_validation_has_not_risen_for_the_patience(tmp_path):
    settings = TuneSettings(1000, 0.01, check_every=1, patience=20)
    _, outcome, kept = run(tmp_path, lambda step: [min(step, 7) / 10], settings)
    assert outcome.last_step == 27
    assert outcome.best == pytest.approx(0.7)
    assert kept[-1] == ("last", 27) or kept[-2] == ("best", 27)
    _, outcome, kept = run(tmp_path, lambda step: [0.9 if step == 3 else 0.1], settings)
    assert (outcome.last_step, outcome.best_step) == (23, 3)
    assert [step for kind, step in kept if kind == "best"][-1] == 3


def test_without_images_to_stop_by_the_last_step_is_the_best(tmp_path):
    _, outcome, kept = run(tmp_path, lambda step: [], TuneSettings(5, 0.01, check_every=2))
    assert (outcome.last_step, outcome.best_step) == (5, 5)
    assert kept[-2:] == [("best", 5), ("last", 5)]
    assert math.isinf(outcome.best)


def test_accumulated_parts_are_one_step_along_their_mean(tmp_path):
    settings = TuneSettings(1, 0.1, accumulate=4, warmup=0.0, clip_norm=1e9)
    lesson = Line()
    gradients = []
    lesson.place.register_post_accumulate_grad_hook(lambda p: gradients.append(float(p.grad)))
    tune(
        lesson,
        settings,
        tmp_path / "state.pt",
        make_accelerator("no", 4, on_cpu=True),
        check=lambda step: [],
        keep=lambda kind, step, score: None,
    )
    assert len(gradients) == 4
    wanted = [-2 * np.random.default_rng([0, 0, part, 0]).uniform(0.9, 1.1) for part in range(4)]
    assert gradients[-1] == pytest.approx(np.mean(wanted), rel=1e-4)
    assert float(lesson.place) == pytest.approx(0.1, rel=0.01)  # AdamW's first step is the rate


@pytest.mark.parametrize("decay", ["cosine", "step"])
def test_the_rate_rises_then_falls(tmp_path, decay):
    rates = []
    settings = TuneSettings(60, 1.0, decay=decay, check_every=60)
    run(tmp_path, lambda step: [], settings, progress=lambda s, n, figures: rates.append(figures))
    values = [figures["lr"] for figures in rates]
    assert values[0] < values[3] < values[4] <= 1.0
    assert max(values) > 0.95
    assert values[-1] <= 0.11
    top = values.index(max(values)) + 1
    assert values == sorted(values[:top]) + sorted(values[top:], reverse=True)


def test_a_loss_that_is_not_a_number_changes_nothing(tmp_path):
    class Broken(Line):
        def forward(self, step, rng):
            return self.place.sum() * math.nan, {}

    lesson = Broken()
    tune(
        lesson,
        TuneSettings(2, 0.1),
        tmp_path / "state.pt",
        make_accelerator("no", 1, on_cpu=True),
        check=lambda step: [],
        keep=lambda kind, step, score: None,
    )
    assert float(trained(lesson)["place"]) == 0.0


TWO = """
import sys
from pathlib import Path

import numpy as np
import torch
from napari_usgseg.learning.lora.train import TuneSettings, make_accelerator, tune

class Line(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.place = torch.nn.Parameter(torch.zeros(1))

    def forward(self, step, rng):
        return (self.place - rng.uniform(0.9, 1.1)).square().sum(), {}

lesson = Line()
found = []
lesson.place.register_post_accumulate_grad_hook(lambda p: found.append(float(p.grad)))
accelerator = make_accelerator("no", 1, on_cpu=True)
folder, place = Path(sys.argv[1]), accelerator.process_index
outcome = tune(
    lesson, TuneSettings(3, 0.1, check_every=1, clip_norm=1e9), folder / "state.pt", accelerator,
    check=lambda step: [1.0, 1.0] if place else [0.4],
    keep=lambda kind, step, score: (folder / f"{kind}-{place}").write_text(str(score)),
)
values = [float(lesson.place), lesson.place.grad is None, outcome.best]
(folder / f"end-{place}").write_text(repr(values))
"""


def test_two_processes_learn_one_network_and_agree_on_its_score(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(TWO)
    words = ["--standalone", "--nproc_per_node", "2", str(script), str(tmp_path)]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *words],
        check=True,
        env=environment,
        timeout=300,
    )
    one, other = ((tmp_path / f"end-{place}").read_text() for place in (0, 1))
    assert one == other
    assert ast.literal_eval(one)[2] == pytest.approx(0.8)
    assert float((tmp_path / "best-0").read_text()) == pytest.approx(0.8)
    assert not (tmp_path / "best-1").exists()


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
