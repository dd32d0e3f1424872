"""The worker process's side of the pipe, with the engine of the session's tests behind it."""

from __future__ import annotations

import io
import os
import queue
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_usgseg.core.types import Prompts, TextPrompt
from napari_usgseg.jobs import Job, Jobs, Lane, Outcome
from napari_usgseg.jobs.inference import embed, segment_prompt, segment_text
from napari_usgseg.jobs.inference_process import DROPPED, InferenceProcess, serve
from napari_usgseg.jobs.loaded_models import ImageSource, LoadedModels
from napari_usgseg.jobs.wire import receive, send
from napari_usgseg.segmentation.postprocess import PostprocessSettings
from tests.support.bench import BoxDetector, DiscSegmenter
from tests.support.work import count_up, mean_of, wait_for

WAIT_S = 60
SETTINGS = PostprocessSettings()
CLICK = Prompts(np.array([[20, 20]], np.float32), np.ones(1, np.int32))


def source(key: str = "a") -> ImageSource:
    return ImageSource(key, np.zeros((60, 80, 3), np.uint8))


def click(number: int, key: str = "a") -> tuple:
    args = source(key), "discs", CLICK, SETTINGS
    return number, segment_prompt, args, Lane.CLICKS, True


def phrase(number: int) -> tuple:
    args = source(), "discs", "boxes", TextPrompt("cyst"), SETTINGS
    return number, segment_text, args, Lane.PHRASES, True


def shown(number: int, key: str) -> tuple:
    return number, embed, (source(key), "discs"), Lane.CLICKS, False


def ahead(number: int, key: str) -> tuple:
    return number, embed, (source(key), "discs"), Lane.PREFETCH, False


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
        models = LoadedModels(lambda name: segmenter, lambda name: BoxDetector())
        self.thread = threading.Thread(target=serve, args=(requests, answers, models), daemon=True)
        self.thread.start()

    def ask(self, *messages) -> None:
        for message in messages:
            send(self.out, message)

    def words(self, count: int) -> dict[int, Outcome | str]:
        return dict(receive(self.into) for _ in range(count))


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


def test_a_click_and_a_phrase_are_answered_while_work_ahead_is_under_way(pipe, held):
    held.go.release()
    pipe.ask(shown(1, "a"))
    assert set(pipe.words(1)) == {1}
    assert held.begun.acquire(timeout=WAIT_S)
    pipe.ask(ahead(2, "b"))
    assert held.begun.acquire(timeout=WAIT_S), "b is being encoded"
    pipe.ask(click(3), phrase(4))
    found = pipe.words(2)
    assert found[3].result.proposals
    assert found[4].result.proposals
    held.go.release()
    assert set(pipe.words(1)) == {2}


def test_what_waits_is_dropped_when_nobody_waits_for_it_and_what_is_begun_is_done(pipe, held):
    pipe.ask(ahead(1, "b"))
    assert held.begun.acquire(timeout=WAIT_S)
    pipe.ask(ahead(2, "c"), ahead(3, "d"), 1, 2, 3, 99, shown(4, "x"))
    assert pipe.words(2) == {2: DROPPED, 3: DROPPED}
    pipe.ask(ahead(5, "y"))
    held.go.release(3)
    found = pipe.words(3)
    assert set(found) == {1, 4, 5}
    assert all(word.error == "" for word in found.values())
    assert sorted(held.embedded) == ["b", "x", "y"]


def test_what_ends_with_a_proposal_goes_before_an_encoding_that_waits(pipe, held):
    pipe.ask(shown(1, "a"))
    assert held.begun.acquire(timeout=WAIT_S)
    pipe.ask(shown(2, "b"), click(3), phrase(4), phrase(5), 5)
    assert pipe.words(1) == {5: DROPPED}, "so all of it has come"
    held.go.release(2)
    order = list(pipe.words(4))
    assert order.index(3) < order.index(2)


def test_a_fault_of_a_model_is_an_answer_and_the_next_request_is_served(pipe, held):
    held.predict = lambda *_: 1 / 0
    held.go.release()
    pipe.ask(click(1))
    assert "ZeroDivisionError" in pipe.words(1)[1].error
    del held.predict
    pipe.ask(click(2))
    assert pipe.words(1)[2].result.proposals


class Window:
    """The jobs of a window with a process of its own; outcomes are taken on the test's thread."""

    def __init__(self) -> None:
        self.process = InferenceProcess()
        self.words: queue.SimpleQueue[tuple[Job, object]] = queue.SimpleQueue()
        self.jobs = Jobs(self._run, self.process.cancel)

    def _run(self, job: Job) -> None:
        self.process.submit(job, lambda word: self.words.put((job, word)))

    def take(self, count: int) -> None:
        for _ in range(count):
            job, word = self.words.get(timeout=WAIT_S)
            job.receive(word)


@pytest.fixture
def window(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    window = Window()
    yield window
    window.process.close()


def test_new_work_is_a_function_and_nothing_else_needs_to_know_it(window):
    found = []
    image = ImageSource("a", np.full((4, 5, 3), 7, np.uint8))
    for lane in (Lane.CLICKS, Lane.PHRASES, Lane.PREFETCH, Lane.LOOPS):
        window.jobs.submit(mean_of, image, lane=lane, done=found.append)
    window.take(4)
    assert found == [7.0, 7.0, 7.0, 7.0]


def test_pixels_that_went_with_a_superseded_click_are_sent_again_with_the_newer_one(
    window, tmp_path
):
    """The process drops the older click and its pixels; the newer one was sent without any."""
    found, gate = [], tmp_path / "gate"
    image = ImageSource("a", np.full((4, 5, 3), 7, np.uint8))
    window.jobs.submit(wait_for, str(gate), lane=Lane.CLICKS)
    for _ in range(3):
        window.jobs.submit(mean_of, image, lane=Lane.CLICKS, key="click", done=found.append)
        deadline = time.monotonic() + WAIT_S
        while "a" not in window.process._sent and time.monotonic() < deadline:
            time.sleep(0.01)
    gate.touch()
    window.take(2)
    assert found == [7.0]
    assert window.process.is_idle


def test_a_job_is_heard_on_its_way_in_order_and_then_its_result(window):
    heard, found = [], []
    window.jobs.submit(count_up, 5, lane=Lane.LOOPS, told=heard.append, done=found.append)
    window.take(6)
    assert (heard, found) == ([0, 1, 2, 3, 4], ["done"])
    assert window.process.is_idle


def test_a_job_in_the_background_that_is_dropped_ends_and_a_click_does_not_wait_for_it(window):
    heard, found = [], []
    long = window.jobs.submit(count_up, 10**6, lane=Lane.LOOPS, told=heard.append)
    window.take(3)
    image = ImageSource("a", np.full((4, 5, 3), 7, np.uint8))
    window.jobs.submit(mean_of, image, lane=Lane.CLICKS, done=found.append)
    while not found:
        window.take(1)
    assert not window.process.is_idle, "it goes on"
    long.cancel()
    count = len(heard)
    deadline = time.monotonic() + WAIT_S
    while not window.process.is_idle and time.monotonic() < deadline:
        window.take(1)
    assert window.process.is_idle, "it has ended"
    assert len(heard) == count, "what nobody waits for is not heard"
    window.jobs.submit(count_up, 1, lane=Lane.LOOPS, done=found.append)
    while len(found) < 2:
        window.take(1)
    assert found[1] == "done", "the lane goes on with the next job"


def test_a_job_in_the_background_stands_still_while_a_person_waits():
    models, order, busy = LoadedModels(), [], threading.Event()

    def work(_: LoadedModels) -> None:
        busy.set()
        time.sleep(0.3)
        order.append("click")

    def run(models: LoadedModels) -> None:
        models.give_way()
        order.append("frame")

    click = threading.Thread(target=models.run, args=(work,), kwargs={"lane": Lane.CLICKS})
    click.start()
    assert busy.wait(WAIT_S)
    models.run(run, lane=Lane.LOOPS)
    click.join(WAIT_S)
    assert order == ["click", "frame"]
