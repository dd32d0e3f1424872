"""A folder of three images, and a session at work on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.annotation.session import AnnotationSession
from napari_usgseg.jobs.loaded_models import LoadedModels
from tests.support.bench import SIZE_HW, Bench
from tests.support.forks import Nursery
from tests.support.loop_bench import LoopBench


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        pixels = np.random.default_rng(ord(name)).integers(0, 255, SIZE_HW).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    return tmp_path


@pytest.fixture
def bench(folder: Path) -> Bench:
    bench = Bench(folder)
    bench.session.navigation.open_folder(folder)
    return bench


@pytest.fixture
def session(bench: Bench) -> AnnotationSession:
    return bench.session


@pytest.fixture
def on_disk(folder: Path) -> Callable[[str], np.ndarray | None]:
    """The label map of an image as it is on disk, or None."""

    def read(image_id: str) -> np.ndarray | None:
        path = folder / "usgseg" / "labels" / f"{image_id}.png"
        return np.asarray(Image.open(path)) if path.is_file() else None

    return read


@pytest.fixture(scope="session")
def training_nursery() -> Iterator[Nursery | None]:
    nursery = Nursery() if hasattr(os, "fork") else None
    yield nursery
    if nursery is not None:
        nursery.close()


@pytest.fixture(scope="module")
def models() -> Iterator[LoadedModels]:
    """The real nano models, loaded once for the tests of a module; trainings do not give way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("USGSEG_TRAINING_NICE", "0")
        yield LoadedModels()


@pytest.fixture
def make_bench(models: LoadedModels, forked_trainings: None) -> Iterator[Callable[..., LoopBench]]:
    """Opens a folder in a session with the real models and real trainings."""
    made: list[LoopBench] = []

    def make(folder: Path, annotator: str = "", steps: int = 4) -> LoopBench:
        made.append(LoopBench(models, steps))
        made[-1].session.navigation.open_folder(folder, annotator=annotator)
        return made[-1]

    yield make
    for bench in made:
        bench.close()


@pytest.fixture
def forked_trainings(training_nursery: Nursery | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings begin without imports of their own, where a process can fork."""
    if training_nursery is not None:
        monkeypatch.setattr("napari_usgseg.jobs.background.start", training_nursery.start)
