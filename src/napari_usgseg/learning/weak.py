"""Weak proposals of a project: a light head fitted to its newest accepted images, as a job.

It runs in the inference process after every accept and stands still there while a person waits for
anything. Light to import: the window names the job.

<project>/models/weak-<hash>/   the light head in hand, a prompt predictor's folder
<project>/models/weak/          one that is being fitted
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import UsgsegError
from ..jobs.loaded_models import LoadedModels
from ..models.interfaces import Segmenter
from ..models.ppn.card import read_card

if TYPE_CHECKING:
    from .labelled import LabelledImage

MOST_IMAGES = 10
"""The newest accepted images that it is fitted to: with more there is a prompt predictor."""


@dataclass(frozen=True, slots=True)
class LightVersion:
    """A fitted light head that a window can use.

    Attributes:
        folder: of a prompt predictor, "weak-" and a hash of what it learned from.
        classes: label value -> name.
        images: how many it learned from.
        base: the segmenter's ``model_id``.
    """

    folder: Path
    classes: dict[int, str]
    images: int
    base: str


def fit_light(models: LoadedModels, folder: Path, request: Mapping[str, Any]) -> LightVersion:
    """Fit a light head to accepted images of a project, a job for the inference process.

    Args:
        models: that are loaded.
        folder: beside the versions of the project, to work in; it is emptied.
        request: as of a training (``project.versions``), with at most `MOST_IMAGES` images.

    Returns:
        Where it is, beside ``folder``. Those of before are removed; one that learned from the
        same labels is taken as it is.

    Raises:
        UsgsegError: it cannot be fitted.
        Cancelled: nobody waits for it any more.
    """
    from .labelled import read_accepted
    from .light import train_light

    segmenter = models.segmenter(request["segmenter"])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with models.giving_way():
        images, source = read_accepted(folder, request, segmenter, lambda: False)
        classes = _classes(images, request["classes"])
        place = folder.with_name(f"weak-{_hash_of(images, classes, segmenter)}")
        if not _is_sound(place, segmenter):
            train_light(images, classes, segmenter, folder, source=source, wait=models.give_way)
            shutil.rmtree(place, ignore_errors=True)
            folder.rename(place)
    for other in place.parent.glob("weak-*"):
        if other != place:
            shutil.rmtree(other, ignore_errors=True)
    return LightVersion(place, classes, len(images), segmenter.model_id)


def _classes(images: Sequence[LabelledImage], names: Mapping[Any, str]) -> dict[int, str]:
    """Every class that is on one of the images, by its name or number, no two alike."""
    values = sorted({int(v) for image in images for v in np.unique(image.labels) if v})
    known = {int(value): name for value, name in names.items()}
    classes: dict[int, str] = {}
    for value in values:
        name = known.get(value, "") or f"class {value}"
        taken = {other.casefold() for other in classes.values()}
        classes[value] = f"{name} ({value})" if name.casefold() in taken else name
    return classes


def _hash_of(
    images: Sequence[LabelledImage], classes: Mapping[int, str], segmenter: Segmenter
) -> str:
    """Six hex digits of everything that a fit depends on."""
    from .light import LightTraining

    digest = hashlib.sha256(repr((segmenter.model_id, classes, LightTraining())).encode())
    for image in images:
        digest.update(image.image_id.encode())
        digest.update(np.ascontiguousarray(image.image).tobytes())
        digest.update(np.ascontiguousarray(image.labels).tobytes())
    return digest.hexdigest()[:6]


def _is_sound(place: Path, segmenter: Segmenter) -> bool:
    try:
        return read_card(place).segmenter == segmenter.model_id
    except UsgsegError:
        return False
