"""The worker process's side of the pipe, with the engine of the session's tests behind it."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_usgseg.core.types import Prompts, TextPrompt
from napari_usgseg.jobs.engine import Engine
from napari_usgseg.jobs.requests import (
    EmbedRequest,
    ImageSource,
    ModelAnswer,
    PhantomRequest,
    Priority,
    PromptRequest,
    TextRequest,
    WarmRequest,
)
from napari_usgseg.jobs.server import lane_of, receive, send, serve
from napari_usgseg.segmentation.postprocess import PostprocessSettings

from .conftest import BoxDetector, DiscSegmenter

WAIT_S = 60
SETTINGS = PostprocessSettings()


def source(key: str = "a") -> ImageSource:
    return ImageSource(key, np.zeros((60, 80, 3), np.uint8))


def click(generation: int, key: str = "a") -> PromptRequest:
    prompts = Prompts(np.array([[20, 20]], np.float32), np.ones(1, np.int32))
    return PromptRequest(generation, source(key), "discs", prompts, SETTINGS)


def phrase(generation: int) -> TextRequest:
    return TextRequest(generation, source(), "discs", "boxes", TextPrompt("cyst"), SETTINGS)


def embed(generation: int, key: str, priority: Priority = Priority.EMBED) -> EmbedRequest:
    return EmbedRequest(generation, source(key), "discs", priority)


class Held(DiscSegmenter):
    """Encodes when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def embed(self, image, image_id=""):
        self.begun.release()
        assert self.go.acquire(timeout=WAIT_S)
        return super().embed(image, image_id)


class Pipe:
    """A server on a thread, and the two ends that the window holds."""

    def __init__(self, segmenter: DiscSegmenter) -> None:
        there, self._out = os.pipe()
        self._in, back = os.pipe()
        self.out, self.into = os.fdopen(self._out, "wb"), os.fdopen(self._in, "rb")
        requests, answers = os.fdopen(there, "rb"), os.fdopen(back, "wb")
        engine = Engine(lambda name: segmenter, lambda name: BoxDetector())
        self.thread = threading.Thread(target=serve, args=(requests, answers, engine), daemon=True)
        self.thread.start()

    def ask(self, *requests) -> None:
        for request in requests:
            send(self.out, request)

    def answer(self) -> ModelAnswer:
        return receive(self.into)

    def answers(self, count: int) -> dict[int, ModelAnswer]:
        return {answer.generation: answer for answer in (self.answer() for _ in range(count))}


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def pipe(held):
    pipe = Pipe(held)
    yield pipe
    held.go.release(100)
    pipe.out.close()
    pipe.thread.join(WAIT_S)
    assert not pipe.thread.is_alive()


@given(st.lists(st.sampled_from([(0,), (3, 4), (5, 0, 2), (2, 3, 3)]), max_size=4), st.booleans())
def test_a_message_with_arrays_comes_out_as_it_went_in_and_can_be_written_to(shapes, fortran):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    if fortran:
        arrays = [np.asfortranarray(array)[..., ::-1] for array in arrays]
    stream = io.BytesIO()
    send(stream, {"arrays": arrays, "word": "nodule"})
    send(stream, 7)
    stream.seek(0)
    found = receive(stream)
    assert found["word"] == "nodule"
    for array, sent in zip(found["arrays"], arrays, strict=True):
        assert np.array_equal(array, sent)
        array[...] = 1
    assert receive(stream) == 7


def test_a_pipe_that_ends_in_a_message_says_so():
    stream = io.BytesIO()
    send(stream, np.arange(1000))
    for cut in (4, 40, len(stream.getvalue()) - 1):
        with pytest.raises(EOFError):
            receive(io.BytesIO(stream.getvalue()[:cut]))


def test_clicks_phrases_and_work_ahead_have_a_lane_each():
    assert lane_of(click(1)) == lane_of(embed(1, "a")) == "clicks"
    assert lane_of(WarmRequest(1, segmenter="discs")) == "clicks"
    assert lane_of(phrase(1)) == lane_of(WarmRequest(1, detector="boxes")) == "phrases"
    assert lane_of(PhantomRequest(1, Path("somewhere"))) == "phrases"
    assert lane_of(embed(1, "b", Priority.PREFETCH)) == "ahead"


def test_a_click_and_a_phrase_are_answered_while_work_ahead_is_under_way(pipe, held):
    held.go.release()
    pipe.ask(embed(1, "a"))
    assert pipe.answer().generation == 1
    assert held.begun.acquire(timeout=WAIT_S)
    pipe.ask(embed(2, "b", Priority.PREFETCH))
    assert held.begun.acquire(timeout=WAIT_S), "b is being encoded"
    pipe.ask(click(3), phrase(4))
    found = pipe.answers(2)
    assert found[3].proposals
    assert found[4].proposals
    held.go.release()
    assert pipe.answer().generation == 2


def test_work_ahead_that_waits_is_dropped_when_another_image_becomes_the_current_one(pipe, held):
    pipe.ask(embed(1, "b", Priority.PREFETCH))
    assert held.begun.acquire(timeout=WAIT_S)
    pipe.ask(embed(2, "c", Priority.PREFETCH), embed(3, "d", Priority.PREFETCH), embed(4, "x"))
    found = pipe.answers(2)
    assert found[2].dropped
    assert found[3].dropped
    pipe.ask(embed(5, "y", Priority.PREFETCH))
    held.go.release(3)
    found = pipe.answers(3)
    assert set(found) == {1, 4, 5}
    assert not any(answer.dropped for answer in found.values())
    assert sorted(held.embedded) == ["b", "x", "y"]


def test_cancel_drops_prompts_and_phrases_and_leaves_the_encoding_of_the_image(pipe, held):
    pipe.ask(embed(1, "a"))
    assert held.begun.acquire(timeout=WAIT_S)
    pipe.ask(click(2), embed(3, "a"), embed(4, "b", Priority.PREFETCH), 5)
    answer = pipe.answer()
    assert (answer.generation, answer.dropped) == (2, True)
    held.go.release(2)
    found = pipe.answers(3)
    assert set(found) == {1, 3, 4}
    assert not any(answer.dropped for answer in found.values())


def test_a_newer_click_takes_the_place_of_one_that_waits(pipe, held):
    pipe.ask(embed(1, "a"))
    assert held.begun.acquire(timeout=WAIT_S)
    pipe.ask(click(2), click(3))
    assert pipe.answer().dropped
    held.go.release()
    found = pipe.answers(2)
    assert set(found) == {1, 3}
    assert found[3].proposals


def test_a_click_that_is_asked_again_does_not_take_the_place_of_a_newer_one(pipe, held):
    pipe.ask(embed(1, "a"))
    assert held.begun.acquire(timeout=WAIT_S)
    pipe.ask(click(3), click(2))  # 2 came back for want of its pixels, and is sent again
    answer = pipe.answer()
    assert (answer.generation, answer.dropped) == (2, True)
    held.go.release()
    found = pipe.answers(2)
    assert set(found) == {1, 3}
    assert found[3].proposals


def test_a_fault_of_a_model_is_an_answer_and_the_next_request_is_served(pipe, held):
    held.predict = lambda *_: 1 / 0
    held.go.release()
    pipe.ask(click(1))
    assert "ZeroDivisionError" in pipe.answer().error
    del held.predict
    pipe.ask(click(2))
    assert pipe.answer().proposals
