"""The engine with real networks, several threads and a real folder for its embeddings."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_usgseg.core.types import Prompts
from napari_usgseg.io.images import content_key
from napari_usgseg.jobs.engine import KEPT_IMAGES, Engine, Turns
from napari_usgseg.jobs.requests import (
    EmbedRequest,
    ImageSource,
    Priority,
    PromptRequest,
    WarmRequest,
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
def engine(segmenter) -> Engine:
    return Engine(lambda name: segmenter)


def source(seed: int, place: CachePlace | None = None) -> ImageSource:
    image = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), np.uint8)
    return ImageSource(content_key(image), image, place)


def click(of: ImageSource, generation: int = 9) -> PromptRequest:
    return PromptRequest(generation, of, "nano", CLICK, PostprocessSettings())


def ahead(of: ImageSource) -> EmbedRequest:
    return EmbedRequest(1, of, "nano", Priority.PREFETCH)


def start(work) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_once_an_image_is_encoded_a_prompt_needs_neither_encoder_nor_pixels(engine, segmenter):
    image = source(1)
    assert not engine.answer(EmbedRequest(1, image, "nano")).error
    answer = engine.answer(click(replace(image, pixels=None)))
    assert answer.proposals
    assert segmenter.encoded == [image.key]


def test_a_prompt_without_pixels_of_an_image_unknown_here_asks_for_them(engine):
    answer = engine.answer(click(replace(source(1), pixels=None)))
    assert answer.missing_image
    assert not answer.error


def test_what_one_run_encoded_the_next_finds_on_the_disk(segmenter, tmp_path):
    image = source(1, CachePlace(tmp_path))
    first = Engine(lambda name: segmenter)
    before = first.answer(click(image)).proposals[0]
    first.writer.finish()
    again = Engine(lambda name: segmenter)
    after = again.answer(click(replace(image, pixels=None))).proposals[0]
    assert segmenter.encoded == [image.key], "not encoded again, and no pixels were needed"
    assert np.mean(before.mask != after.mask) < 0.01


def test_without_a_folder_nothing_is_written(engine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    engine.answer(click(source(1)))
    engine.writer.finish()
    assert not list(tmp_path.rglob("*"))


def test_a_torn_embedding_is_made_anew(segmenter, tmp_path):
    image = source(1, CachePlace(tmp_path))
    first = Engine(lambda name: segmenter)
    first.answer(click(image))
    first.writer.finish()
    (file,) = tmp_path.rglob("*.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    again = Engine(lambda name: segmenter)
    assert again.answer(click(image)).proposals
    again.writer.finish()
    assert segmenter.encoded == [image.key] * 2
    assert len(file.read_bytes()) == len(whole)


def test_another_model_does_not_take_the_embedding_of_the_first(tmp_path):
    image = source(1, CachePlace(tmp_path))
    models = {"one": Counting(), "two": Counting()}
    models["two"]._model_id = "nano-other"
    for name in models:
        engine = Engine(lambda name: models[name])
        answer = engine.answer(replace(click(image), segmenter=name))
        assert answer.model_id == models[name].model_id
        engine.writer.finish()
    assert [len(model.encoded) for model in models.values()] == [1, 1]


def test_a_click_on_the_image_that_is_being_encoded_ahead_waits_for_that_and_not_for_another(
    engine, segmenter
):
    image = source(1)
    segmenter.held[image.key] = threading.Event()
    answers = []
    first = start(lambda: answers.append(engine.answer(ahead(image))))
    assert segmenter.reached.wait(WAIT_S)
    second = start(lambda: answers.append(engine.answer(click(image))))
    segmenter.held[image.key].set()
    first.join(WAIT_S)
    second.join(WAIT_S)
    assert segmenter.encoded == [image.key]
    assert sorted(answer.kind for answer in answers) == ["EmbedRequest", "PromptRequest"]
    assert not any(answer.error for answer in answers)


def test_work_ahead_stands_still_while_a_person_waits_for_another_image(segmenter):
    engine, here, there = Engine(lambda name: segmenter), source(1), source(2)
    engine.answer(WarmRequest(1, segmenter="nano"))
    segmenter.held[here.key] = threading.Event()
    urgent = start(lambda: engine.answer(click(here)))
    assert segmenter.reached.wait(WAIT_S)
    done = []
    prefetch = start(lambda: done.append(engine.answer(ahead(there))))
    prefetch.join(0.2)
    assert segmenter.encoded == [here.key], "not even begun"
    assert not done
    segmenter.held[here.key].set()
    urgent.join(WAIT_S)
    prefetch.join(WAIT_S)
    assert segmenter.encoded == [here.key, there.key]
    assert done[0].error == ""


def test_an_encoding_ahead_that_is_under_way_lets_a_click_go_first(engine, segmenter):
    """A click on another image is answered while the one ahead stands between two of its parts."""
    here, there = source(1), source(2)
    engine.answer(EmbedRequest(1, here, "nano"))
    order = []
    segmenter.held[there.key] = threading.Event()
    prefetch = start(lambda: order.append(engine.answer(ahead(there)).kind))
    assert segmenter.reached.wait(WAIT_S)
    with engine._turns.urgent():
        segmenter.held[there.key].set()
        prefetch.join(0.3)
        assert prefetch.is_alive(), "it waits, though nothing but our block holds it up"
        order.append(engine.answer(click(here)).kind)
    prefetch.join(WAIT_S)
    assert order == ["PromptRequest", "EmbedRequest"]


def test_work_ahead_goes_on_when_a_person_needs_just_that():
    turns, through = Turns(), threading.Event()
    with turns.urgent():
        waiting = start(lambda: (turns.give_way("next"), through.set()))
        waiting.join(0.05)
        assert not through.is_set()
        with turns.needing("next"):
            assert through.wait(WAIT_S)
    assert turns.give_way("another")


def test_work_ahead_stands_still_for_a_while_only(monkeypatch):
    monkeypatch.setattr("napari_usgseg.jobs.engine.PATIENCE_SECONDS", 0.01)
    turns = Turns()
    with turns.urgent():
        assert not turns.give_way("next")


def test_what_is_not_used_for_longest_is_forgotten(engine, segmenter):
    images = [source(seed) for seed in range(KEPT_IMAGES + 1)]
    for image in images:
        engine.answer(EmbedRequest(1, image, "nano"))
    assert engine.answer(click(replace(images[-1], pixels=None))).proposals
    assert engine.answer(click(replace(images[0], pixels=None))).missing_image
