"""How long a click takes while a prompt predictor is trained behind it.

    python benchmarks/latency_while_training.py [--model nano] [--clicks 60] [--whole]

Clicks go through the worker process as the window sends them, with a pause like a person's between
them: without a training, during one (the real one, in its own process), and without again. Prints
the times and the ratio to the ones without; the goal is below 3. ``--whole`` lets the training go
on to its end, with nobody clicking, and prints how long all of it takes: three trainings of a
cross-validation, one on all ten images, and the comparison with the text prompt.
"""

from __future__ import annotations

import argparse
import os
import queue
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from napari_usgseg.core.types import LabelClass, Prompts
from napari_usgseg.io.images import content_key
from napari_usgseg.io.labels import write_png
from napari_usgseg.jobs.requests import (
    EmbedRequest,
    ImageSource,
    ModelAnswer,
    PromptRequest,
    TrainingAnswer,
    TrainRequest,
)
from napari_usgseg.jobs.server import receive, send
from napari_usgseg.jobs.trainer import Trainer
from napari_usgseg.phantoms.phantom import make_phantom
from napari_usgseg.project.project import ProjectStore
from napari_usgseg.project.versions import Shelf
from napari_usgseg.segmentation.postprocess import PostprocessSettings

SIZE_HW = (480, 640)
PAUSE_S = 0.4
IMAGES = 10


class Person:
    """Clicks through a worker process of its own."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._process = subprocess.Popen(
            [sys.executable, "-m", "napari_usgseg.jobs.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        pixels = make_phantom(99, SIZE_HW, "breast").image
        self._source = ImageSource(content_key(pixels), pixels)
        self._generation = 0
        self._rng = np.random.default_rng(0)
        self._ask(EmbedRequest(1, self._source, model))

    def _ask(self, request: Any) -> ModelAnswer:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        send(self._process.stdin, request)  # type: ignore[arg-type]
        answer: ModelAnswer = receive(self._process.stdout)  # type: ignore[arg-type]
        if answer.error:
            raise SystemExit(answer.error)
        return answer

    def clicks(self, count: int) -> list[float]:
        """Milliseconds of so many clicks, each from its request to its mask."""
        times = []
        for _ in range(count):
            time.sleep(PAUSE_S)
            self._generation += 1
            point = self._rng.uniform((50, 50), (SIZE_HW[1] - 50, SIZE_HW[0] - 50))
            prompts = Prompts(point.astype(np.float32)[None], np.ones(1, np.int32))
            source = ImageSource(self._source.key, None)
            began = time.perf_counter()
            self._ask(
                PromptRequest(
                    self._generation + 1, source, self._model, prompts, PostprocessSettings()
                )
            )
            times.append(1000 * (time.perf_counter() - began))
        return times

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def write_project(folder: Path, model: str) -> Shelf:
    """Committed phantoms, and the request of a training on them."""
    for seed in range(IMAGES):
        write_png(folder / f"{seed}.png", make_phantom(seed, SIZE_HW, "breast").image)
    with closing(ProjectStore(folder)) as store:
        store.write_classes((LabelClass(1, "tumor", "#e69f00"),))
        for seed, record in enumerate(store.records):
            labels = make_phantom(seed, SIZE_HW, "breast").labels == 1
            store.write_labels(record, labels.astype(np.uint8))
        shelf = Shelf(store.models_folder)
        shelf.begin(
            {
                "annotator": "",
                "segmenter": model,
                "detector": "nano",
                "images": [record.image_id for record in store.records],
                "classes": {1: "tumor"},
                "least_images": 3,
                "cache_bytes": 2**30,
                "against": None,
                "plan": {"steps": None, "views": None, "seed": 0},
            }
        )
    return shelf


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--clicks", type=int, default=60)
    parser.add_argument("--whole", action="store_true")
    chosen = parser.parse_args()
    if chosen.whole:
        print_whole(chosen.model)
        return
    person = Person(chosen.model)
    person.clicks(5)
    with tempfile.TemporaryDirectory() as place:
        shelf = write_project(Path(place), chosen.model)
        messages: queue.SimpleQueue[TrainingAnswer] = queue.SimpleQueue()
        trainer = Trainer(messages.put)
        idle = person.clicks(chosen.clicks)
        load = os.getloadavg()[0]
        trainer.submit(TrainRequest(1, shelf.training.absolute()))
        steps, began = wait_for_step(messages, 3), time.monotonic()
        training = person.clicks(chosen.clicks)
        if trainer.process_id is None:
            raise SystemExit("the training ended before the clicks did: take fewer clicks")
        done = last_step(messages, steps) - steps
        rate = done / (time.monotonic() - began)
        trainer.close()
        idle += person.clicks(chosen.clicks)
    person.close()
    print(
        f"{chosen.model}, {chosen.clicks} clicks, {os.cpu_count()} cores, load before {load:.1f}\n"
    )
    print("| a click, ms | median | 95 of 100 | longest |\n| --- | ---: | ---: | ---: |")
    for name, times in (("without a training", idle), ("while training", training)):
        values = statistics.median(times), float(np.percentile(times, 95)), max(times)
        print(f"| {name} | {' | '.join(f'{value:.1f}' for value in values)} |")
    ratio = statistics.median(training) / statistics.median(idle)
    late = np.percentile(training, 95) / np.percentile(idle, 95)
    print(f"\nratio {ratio:.2f} (of the slowest 5 in 100: {late:.2f}); {rate:.1f} training steps/s")


def print_whole(model: str) -> None:
    """Train to the end and print the seconds of each phase."""
    with tempfile.TemporaryDirectory() as place:
        shelf = write_project(Path(place), model)
        messages: queue.SimpleQueue[TrainingAnswer] = queue.SimpleQueue()
        trainer = Trainer(messages.put)
        began = time.monotonic()
        trainer.submit(TrainRequest(1, shelf.training.absolute()))
        phases: list[tuple[str, float]] = []
        while True:
            message = messages.get(timeout=600).message
            if message["kind"] == "phase":
                phases.append((message["text"], time.monotonic() - began))
            if message["kind"] == "failed":
                raise SystemExit(message["text"])
            if message["kind"] == "done":
                break
        ends = [*(at for _, at in phases[1:]), time.monotonic() - began]
        for (phase, at), end in zip(phases, ends, strict=True):
            print(f"{phase}: {end - at:.0f} s")
        print(f"{IMAGES} images, from the offer to the verdict: {ends[-1]:.0f} s")
        trainer.close()


def wait_for_step(messages: queue.SimpleQueue[TrainingAnswer], least: int) -> int:
    """Wait until the training is so far."""
    while True:
        message = messages.get(timeout=300).message
        if message["kind"] == "step" and message["step"] >= least:
            return int(message["step"])
        if message["kind"] in ("failed", "ended"):
            raise SystemExit(f"the training ended: {message}")


def last_step(messages: queue.SimpleQueue[TrainingAnswer], step: int) -> int:
    """The last step that was told of."""
    while not messages.empty():
        step = int(messages.get().message.get("step", step))
    return step


if __name__ == "__main__":
    main()
