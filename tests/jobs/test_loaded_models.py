"""The loaded models with real networks, several threads and a real folder for its embeddings."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_usgseg.core.types import Prompts
from napari_usgseg.io.images import content_key
from napari_usgseg.jobs import Lane, Outcome
from napari_usgseg.jobs.inference import embed, load_segmenter, segment_prompt
from napari_usgseg.jobs.loaded_models import (
    KEPT_IMAGES,
    ImageSource,
    LoadedModels,
    MissingImageError,
    PrefetchGate,
)
from napari_usgseg.models.embedding_cache import CachePlace
from napari_usgseg.models.sam.nano import NanoSam
from napari_usgseg.models.sam.sam import SamSegmenter
from napari_usgseg.segmentation.postprocess import PostprocessSettings

WAIT_S = 60
CLICK = Prompts(np.array([[30, 20]], np.float32), np.ones(1, np.int32))


class Counting(SamSegmenter):
    """A real network that says when it is at its work, and can be held there."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(NanoSam(64), "nano-random")
        self.encoded: list[str] = []
        self.held: dict[str, threading.Event] = {}
        self.reached = threading.Event()

    def embed(self, image, image_id=""):
        self.encoded.append(image_id)
        if image_id in self.held:
            self.reached.set()
            self.held[image_id].wait(WAIT_S)
        return super().embed(image, image_id)


@pytest.fixture
def segmenter() -> Counting:
    return Counting()


@pytest.fixture
def models(segmenter) -> LoadedModels:
    return LoadedModels(lambda name: segmenter)


def source(seed: int, place: CachePlace | None = None) -> ImageSource:
    image = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), np.uint8)
    return ImageSource(content_key(image), image, place)


def click(models: LoadedModels, of: ImageSource, segmenter: str = "nano") -> Outcome:
    return models.run(segment_prompt, of, segmenter, CLICK, PostprocessSettings())


def shown(models: LoadedModels, of: ImageSource) -> Outcome:
    return models.run(embed, of, "nano")


def ahead(models: LoadedModels, of: ImageSource) -> Outcome:
    return models.run(embed, of, "nano", lane=Lane.PREFETCH)


def start(work) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_once_an_image_is_encoded_a_prompt_needs_neither_encoder_nor_pixels(models, segmenter):
    image = source(1)
    assert not shown(models, image).error
    assert click(models, replace(image, pixels=None)).result.proposals
    assert segmenter.encoded == [image.key]


def test_a_prompt_without_pixels_of_an_image_unknown_here_asks_for_them(models):
    with pytest.raises(MissingImageError):
        click(models, replace(source(1), pixels=None))


def test_what_one_run_encoded_the_next_finds_on_the_disk(segmenter, tmp_path):
    image = source(1, CachePlace(tmp_path))
    first = LoadedModels(lambda name: segmenter)
    before = click(first, image).result.proposals[0]
    first.writer.finish()
    again = LoadedModels(lambda name: segmenter)
    after = click(again, replace(image, pixels=None)).result.proposals[0]
    assert segmenter.encoded == [image.key], "not encoded again, and no pixels were needed"
    assert np.mean(before.mask != after.mask) < 0.01


def test_without_a_folder_nothing_is_written(models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    click(models, source(1))
    models.writer.finish()
    assert not list(tmp_path.rglob("*"))


def test_a_torn_embedding_is_made_anew(segmenter, tmp_path):
    image = source(1, CachePlace(tmp_path))
    first = LoadedModels(lambda name: segmenter)
    click(first, image)
    first.writer.finish()
    (file,) = tmp_path.rglob("*.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    again = LoadedModels(lambda name: segmenter)
    assert click(again, image).result.proposals
    again.writer.finish()
    assert segmenter.encoded == [image.key] * 2
    assert len(file.read_bytes()) == len(whole)


def test_another_model_does_not_take_the_embedding_of_the_first(tmp_path):
    image = source(1, CachePlace(tmp_path))
    both = {"one": Counting(), "two": Counting()}
    both["two"].model_id = "nano-other"
    for name in both:
        models = LoadedModels(lambda name: both[name])
        assert click(models, image, name).result.model_id == both[name].model_id
        models.writer.finish()
    assert [len(model.encoded) for model in both.values()] == [1, 1]


def test_a_click_on_the_image_that_is_being_encoded_ahead_waits_for_that_and_not_for_another(
    models, segmenter
):
    image = source(1)
    segmenter.held[image.key] = threading.Event()
    answers = []
    first = start(lambda: answers.append(ahead(models, image)))
    assert segmenter.reached.wait(WAIT_S)
    second = start(lambda: answers.append(click(models, image)))
    segmenter.held[image.key].set()
    first.join(WAIT_S)
    second.join(WAIT_S)
    assert segmenter.encoded == [image.key]
    assert [answer.error for answer in answers] == ["", ""]


def test_work_ahead_stands_still_while_a_person_waits_for_another_image(segmenter):
    models, here, there = LoadedModels(lambda name: segmenter), source(1), source(2)
    models.run(load_segmenter, "nano")
    segmenter.held[here.key] = threading.Event()
    urgent = start(lambda: click(models, here))
    assert segmenter.reached.wait(WAIT_S)
    done = []
    prefetch = start(lambda: done.append(ahead(models, there)))
    prefetch.join(0.2)
    assert segmenter.encoded == [here.key], "not even begun"
    assert not done
    segmenter.held[here.key].set()
    urgent.join(WAIT_S)
    prefetch.join(WAIT_S)
    assert segmenter.encoded == [here.key, there.key]
    assert done[0].error == ""


def test_an_encoding_ahead_that_is_under_way_lets_a_click_go_first(models, segmenter):
    """A click on another image is answered while the one ahead stands between two of its parts."""
    here, there = source(1), source(2)
    shown(models, here)
    order = []

    def do(what, work) -> None:
        work()
        order.append(what)

    segmenter.held[there.key] = threading.Event()
    prefetch = start(lambda: do("prefetch", lambda: ahead(models, there)))
    assert segmenter.reached.wait(WAIT_S)
    with models._gate.urgent():
        segmenter.held[there.key].set()
        prefetch.join(0.3)
        assert prefetch.is_alive(), "it waits, though nothing but our block holds it up"
        do("click", lambda: click(models, here))
    prefetch.join(WAIT_S)
    assert order == ["click", "prefetch"]


def test_work_ahead_goes_on_when_a_person_needs_just_that():
    gate, through = PrefetchGate(), threading.Event()
    with gate.urgent():
        waiting = start(lambda: (gate.give_way("next"), through.set()))
        waiting.join(0.05)
        assert not through.is_set()
        with gate.needing("next"):
            assert through.wait(WAIT_S)
    assert gate.give_way("another")


def test_work_ahead_stands_still_for_a_while_only(monkeypatch):
    monkeypatch.setattr("napari_usgseg.jobs.loaded_models.PATIENCE_SECONDS", 0.01)
    gate = PrefetchGate()
    with gate.urgent():
        assert not gate.give_way("next")


def test_what_is_not_used_for_longest_is_forgotten(models, segmenter):
    images = [source(seed) for seed in range(KEPT_IMAGES + 1)]
    for image in images:
        shown(models, image)
    assert click(models, replace(images[-1], pixels=None)).result.proposals
    with pytest.raises(MissingImageError):
        click(models, replace(images[0], pixels=None))


def test_a_model_that_could_not_be_loaded_is_tried_again(segmenter):
    faults = [MemoryError(), None]

    def load(name: str) -> Counting:
        if (fault := faults.pop(0)) is not None:
            raise fault
        return segmenter

    models = LoadedModels(load)
    assert "smaller model" in models.run(load_segmenter, "nano").error
    assert models.run(load_segmenter, "nano").result == segmenter.model_id


def test_a_model_that_two_lanes_ask_for_at_once_is_loaded_once(segmenter):
    loaded, go = [], threading.Event()

    def load(name: str) -> Counting:
        loaded.append(name)
        go.wait(WAIT_S)
        return segmenter

    models, results = LoadedModels(load), []
    threads = [start(lambda: results.append(models.segmenter("nano"))) for _ in range(2)]
    threads[1].join(0.1)
    go.set()
    for thread in threads:
        thread.join(WAIT_S)
    assert loaded == ["nano"]
    assert results == [segmenter, segmenter]
