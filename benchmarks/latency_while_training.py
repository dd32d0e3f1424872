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
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from napari_usgseg.core.types import LabelClass, Prompts
from napari_usgseg.io.images import content_key
from napari_usgseg.io.labels import write_png
from napari_usgseg.jobs import Jobs, Lane, wire
from napari_usgseg.jobs.background import ENDED, Message, Trainings
from napari_usgseg.jobs.inference import embed, segment_prompt
from napari_usgseg.jobs.inference_process import MODULE
from napari_usgseg.jobs.loaded_models import ImageSource
from napari_usgseg.phantoms.phantom import make_phantom
from napari_usgseg.project.project import Project
from napari_usgseg.project.records import (
    ClassTable,
    Edit,
    Event,
    EventKind,
    ImageState,
    difference,
)
from napari_usgseg.project.versions import VersionStore
from napari_usgseg.segmentation.postprocess import PostprocessSettings

SIZE_HW = (480, 640)
PAUSE_S = 0.4
IMAGES = 10


class Person:
    """Clicks through a worker process of its own."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._process = wire.start(MODULE)
        pixels = make_phantom(99, SIZE_HW, "breast").image
        self._source = ImageSource(content_key(pixels), pixels)
        self._rng = np.random.default_rng(0)
        self._ask(embed, self._source, model)

    def _ask(self, function: Callable[..., Any], *args: Any) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        wire.send(self._process.stdin, (1, function, args, Lane.CLICKS, True))  # type: ignore[arg-type]
        _, outcome = wire.receive(self._process.stdout)  # type: ignore[arg-type]
        if outcome.error:
            raise SystemExit(outcome.error)

    def clicks(self, count: int) -> list[float]:
        """Milliseconds of so many clicks, each from its request to its mask."""
        times = []
        for _ in range(count):
            time.sleep(PAUSE_S)
            point = self._rng.uniform((50, 50), (SIZE_HW[1] - 50, SIZE_HW[0] - 50))
            prompts = Prompts(point.astype(np.float32)[None], np.ones(1, np.int32))
            source = ImageSource(self._source.key, None)
            began = time.perf_counter()
            self._ask(segment_prompt, source, self._model, prompts, PostprocessSettings())
            times.append(1000 * (time.perf_counter() - began))
        return times

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def write_project(folder: Path, model: str) -> VersionStore:
    """Accepted phantoms, and the request of a training on them."""
    for seed in range(IMAGES):
        write_png(folder / f"{seed}.png", make_phantom(seed, SIZE_HW, "breast").image)
    with closing(Project(folder)) as store:
        table = ClassTable((LabelClass(1, "tumor", "#e69f00"),), 1)
        edits = [Edit("add class", table=(table, table))]
        accepted = (ImageState.UNTOUCHED, ImageState.ACCEPTED)
        for seed, record in enumerate(store.records):
            labels = (make_phantom(seed, SIZE_HW, "breast").labels == 1).astype(np.uint8)
            patch = difference(np.zeros_like(labels), labels)
            edits.append(Edit("paint", record.image_id, patch=patch, state=accepted))
        store.record(
            [
                Event(serial, EventKind.EDIT, edit.image_id, edit)
                for serial, edit in enumerate(edits, 1)
            ]
        )
        version_store = VersionStore(store.models_folder)
        version_store.begin(
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
    return version_store


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
        version_store = write_project(Path(place), chosen.model)
        messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        trainings = Trainings()
        idle = person.clicks(chosen.clicks)
        load = os.getloadavg()[0]
        train(trainings, version_store, messages)
        steps, began = wait_for_step(messages, 3), time.monotonic()
        training = person.clicks(chosen.clicks)
        if trainings.process_id is None:
            raise SystemExit("the training ended before the clicks did: take fewer clicks")
        done = last_step(messages, steps) - steps
        rate = done / (time.monotonic() - began)
        trainings.close()
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
        version_store = write_project(Path(place), model)
        messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        trainings = Trainings()
        began = time.monotonic()
        train(trainings, version_store, messages)
        phases: list[tuple[str, float]] = []
        while True:
            message = messages.get(timeout=600)
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
        trainings.close()


def train(
    trainings: Trainings, version_store: VersionStore, messages: queue.SimpleQueue[Message]
) -> None:
    """Begin the training whose request is on a version_store; its messages go to a queue."""
    jobs = Jobs(lambda job: trainings.submit(job, job.receive), trainings.cancel)
    jobs.submit(
        "napari_usgseg.learning.process",
        version_store.kind,
        version_store.training.absolute(),
        lane=Lane.TRAINING,
        told=messages.put,
        done=lambda code: messages.put({"kind": ENDED, "code": code}),
    )


def wait_for_step(messages: queue.SimpleQueue[Message], least: int) -> int:
    """Wait until the training is so far."""
    while True:
        message = messages.get(timeout=300)
        if message["kind"] == "step" and message["step"] >= least:
            return int(message["step"])
        if message["kind"] in ("failed", ENDED):
            raise SystemExit(f"the training ended: {message}")


def last_step(messages: queue.SimpleQueue[Message], step: int) -> int:
    """The last step that was told of."""
    while not messages.empty():
        step = int(messages.get().get("step", step))
    return step


if __name__ == "__main__":
    main()
