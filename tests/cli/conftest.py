"""The command line as a person calls it, and a small segmenter for the calls that need no skill."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.cli.main import run
from napari_usgseg.core.types import LabelClass
from napari_usgseg.models import registry
from napari_usgseg.project.project import Project
from tests.support.labelling import accept_labels, set_classes


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def err_lines(self) -> list[str]:
        return self.err.splitlines()


@pytest.fixture
def usgseg(capsys):
    """Call the command line in this process: ``usgseg("models", "list").code``."""

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        return Outcome(code, *capsys.readouterr())

    return call


KEPT = {}
"""Models by what was asked for; each is loaded once in this process."""


@pytest.fixture(scope="module", autouse=True)
def models_stay_loaded():
    """Take each model from those that are kept: no model holds anything between calls.

    Only while a file of this folder is run, for others want the functions themselves.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in ("load_segmenter", "load_detector"):
            kept = KEPT.setdefault(name, {})
            patch.setattr(registry, name, _once(getattr(registry, name), kept))
        yield


def _once(load, kept):
    def loaded(model="nano", adapter=None, device="cpu"):
        if adapter is not None:
            return load(model, adapter=adapter, device=device)
        path = Path(model)
        key = str(model), device, path.stat().st_mtime_ns if path.is_file() else path.exists()
        if key not in kept:
            kept[key] = load(model, device=device)
        return kept[key]

    return loaded


@pytest.fixture
def usgseg_process():
    """Call the command line in a process of its own."""

    def call(*arguments: object, **options) -> Outcome:
        done = subprocess.run(
            [sys.executable, "-m", "napari_usgseg.cli", *map(str, arguments)],
            capture_output=True, text=True, timeout=300, env=dict(os.environ), **options,
        )  # fmt: skip
        return Outcome(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """An untrained nano segmenter: it answers every prompt, with nonsense."""
    import torch

    from napari_usgseg.models.sam.nano import NanoSam, save_nano_segmenter

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models") / "untrained.safetensors"
    save_nano_segmenter(NanoSam(128), path, {"note": "untrained"})
    return path


@pytest.fixture
def images(tmp_path) -> Path:
    """A folder of three images, 80 x 60 pixels and more."""
    folder = tmp_path / "images here"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index, width in enumerate((80, 101, 64)):
        pixels = rng.integers(0, 255, (60, width), np.uint8)
        Image.fromarray(pixels).save(folder / f"scan {index}.png")
    return folder


@pytest.fixture
def labelled(images):
    """The folder of images with two of the three labelled, as the widget leaves it."""
    store = Project(images)
    set_classes(store, (LabelClass(1, "cyst", "#e69f00"), LabelClass(2, "wall", "#56b4e9")))
    for value, record in enumerate(store.records[:2], start=1):
        labels = np.zeros(record.size_hw, np.uint8)
        labels[10:40, 10:50] = value
        accept_labels(store, record, labels)
    store.close()
    return images
