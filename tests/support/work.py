"""Work for the inference process that no module of the package knows."""

from __future__ import annotations

import time
from pathlib import Path

from napari_usgseg.jobs.loaded_models import ImageSource, LoadedModels


def wait_for(models: LoadedModels, path: str) -> None:
    """Keep the lane busy until a file is there."""
    while not Path(path).exists():
        time.sleep(0.01)


def mean_of(models: LoadedModels, source: ImageSource) -> float:
    return float(models.pixels(source).mean())


def count_up(models: LoadedModels, most: int) -> str:
    """Tell one number after the other, as long as anybody listens."""
    for number in range(most):
        models.give_way()
        models.tell(number)
        time.sleep(0.002)
    return "done"
