"""Training process of a project: ``python -m napari_usgseg.learning.process KIND FOLDER``.

It does what ``FOLDER/request.json`` asks (``project.versions``), or goes on with it. It reads the
project and writes into ``FOLDER`` only, and says how far it is (``jobs.background``):

=============  ==================================================================================
kind           what it says
=============  ==================================================================================
``phase``      ``text``: what is done now; ``images``: how many are learnt from
``curve``      ``losses``, ``held_out``: [[step, value], ...] of what was done in an earlier run
``step``       ``step`` of ``steps``, ``left``: seconds that the others take; ``loss`` and
               ``held_out_dice`` where the curve has a point
``done``       the result is there, ``version.json`` too
``failed``     ``text``: why it cannot be done, and the cure; ``keep`` where it may go on later
``stopped``    it was told to end; what it has learnt is kept
=============  ==================================================================================

One training is at work at a time in a folder of versions, of whatever kind.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ..core.errors import Cancelled, DatasetError, UsgsegError
from ..jobs.background import Channel, give_way
from ..models.grounding.phrases import as_phrase
from ..project.versions import (
    VERSION_FILE,
    ModelKind,
    ModelVersion,
    read_request,
    write_version,
)

if TYPE_CHECKING:  # torch comes with them: the first message is sent before that
    from ..models.interfaces import Detector, Segmenter
    from .cross_validation import Score
    from .labelled import LabelledImage
    from .ppn import PpnSettings

SECONDS_BETWEEN = 0.25
LOCK_SECONDS = 60.0
NO_MEMORY = "Not enough memory to train: close other programs, or choose a smaller model."

Say = Callable[..., None]


def main(kind: ModelKind, folder: Path) -> None:
    """Train, and say how that went."""
    # First of all: importing torch is itself seconds of full load.
    give_way()
    channel = Channel()
    try:
        from filelock import FileLock, Timeout

        try:  # one that is ending may still be at its last checkpoint
            with FileLock(folder.parent / "training.lock", timeout=LOCK_SECONDS):
                train(kind, folder, channel.send, channel.is_ending)
        except Timeout:
            text = f"{folder}: another training is at work there; close the other window."
            channel.send("failed", text=text, keep=True)
        else:
            channel.send("done")
    except Cancelled:
        channel.send("stopped")
    except UsgsegError as error:
        channel.send("failed", text=str(error))
    except MemoryError:
        channel.send("failed", text=NO_MEMORY, keep=True)
    except OSError as error:
        text = f"{error}; check the disk and what may be written there."
        channel.send("failed", text=text, keep=True)
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        channel.send("failed", text=f"{type(error).__name__}: {error} (details on the terminal)")
    # Without waiting for threads of libraries: everything is written, and the window waits for the
    # end.
    os._exit(0)


def train(kind: ModelKind, folder: Path, say: Say, is_ending: Callable[[], bool]) -> None:
    """Do what the request in ``folder`` asks, from where it was left; nothing where it is done.

    Raises:
        UsgsegError: it cannot be done.
        Cancelled: ``is_ending()`` turned true.
    """
    if (folder / VERSION_FILE).is_file():
        return
    request = read_request(folder)
    say("phase", text="starting", images=len(request["images"]))
    import torch

    from ..models.registry import load_segmenter
    from .cross_validation import how_measured
    from .joining import in_words
    from .labelled import read_accepted
    from .promotion import compare_lora, compare_ppn

    # As in the environment (``jobs.background``), for a library may have set more when it was
    # imported.
    torch.set_num_threads(1)
    segmenter = load_segmenter(request["segmenter"])
    say("phase", text="reading images", images=len(request["images"]))
    images, source = read_accepted(folder, request, segmenter, is_ending)
    classes = classes_to_learn(images, request, nameless=kind == "ppn")
    say("phase", text="training", images=len(images))
    learn = _train_ppn if kind == "ppn" else _train_lora
    base, scores = learn(
        images,
        classes,
        segmenter,
        folder,
        request,
        source=source,
        progress=Curve(folder, say),
        cancelled=is_ending,
    )
    say("phase", text="measuring", images=len(images))
    compare = compare_ppn if kind == "ppn" else compare_lora
    verdict = compare(scores["per_image"], images, classes, segmenter, request, folder, is_ending)
    version = ModelVersion(
        kind=kind,
        number=0,  # given when it is registered
        folder=folder,
        classes=classes,
        images=len(images),
        per_class=images_of(images, classes, request),
        base=base,
        held_out_dice=verdict.dice,
        measured=f"{verdict.sentence}{how_measured(scores)}{in_words(scores, classes)}",
        promoted=verdict.promoted,
        created=time.time(),
        rival=verdict.rival,
        rival_dice=verdict.rival_dice,
    )
    write_version(folder, version)


def _train_ppn(
    images: Sequence[LabelledImage],
    classes: dict[int, str],
    segmenter: Segmenter,
    folder: Path,
    request: Mapping[str, Any],
    **options: Any,
) -> tuple[str, dict[str, Any]]:
    """What the prompt predictor belongs to, and the scores in its card."""
    from .ppn import cross_validate_ppn

    settings = ppn_settings(images, request["plan"])
    model = cross_validate_ppn(images, classes, segmenter, folder, settings, **options)
    return segmenter.model_id, model.card.scores


def _train_lora(
    images: Sequence[LabelledImage],
    classes: dict[int, str],
    segmenter: Segmenter,
    folder: Path,
    request: Mapping[str, Any],
    *,
    cancelled: Callable[[], bool],
    **options: Any,
) -> tuple[str, dict[str, Any]]:
    """What the adapter belongs to, and the scores in its card."""
    from .lora.train import LoraSettings, cross_validate_lora
    from .promotion import TextScore

    def scorer(detector: Detector) -> Score:
        return TextScore(detector, segmenter, classes, cancelled)

    plan = request["plan"]
    settings = LoraSettings(**{key: plan[key] for key in ("steps", "batch", "image_size", "seed")})
    phrases = {value: as_phrase(name) for value, name in classes.items()}
    card = cross_validate_lora(
        images,
        phrases,
        request["detector"],
        folder,
        settings,
        scorer,
        cancelled=cancelled,
        **options,
    )
    return card.base, card.scores


def ppn_settings(images: Sequence[LabelledImage], plan: Mapping[str, Any]) -> PpnSettings:
    """Those that suit so many images, with no more views than are kept in memory."""
    from . import ppn
    from .labelled import nbytes

    rank = int(plan.get("decoder_rank") or 0)  # of older versions a plan has none
    settings = ppn.PpnSettings.for_images(len(images), seed=int(plan["seed"]), lora_rank=rank)
    sizes = [nbytes(image.embedding) for image in images if image.embedding is not None]
    most = settings.task.views
    if sizes:  # views are kept in half precision; the image itself is one of them
        room = ppn.CACHE_BYTES // (len(images) * max(sizes) // 2) - 1
        most = max(0, min(most, room))
    if plan["steps"] is not None:
        settings = replace(settings, steps=int(plan["steps"]))
    if plan["views"] is not None:
        most = int(plan["views"])
    return replace(settings, task=replace(settings.task, views=most))


def classes_to_learn(
    images: Sequence[LabelledImage], request: Mapping[str, Any], nameless: bool = True
) -> dict[int, str]:
    """The classes that are in enough images, by label value; no two of one name.

    Args:
        images: all of the training.
        request: of the training.
        nameless: also those that ``request`` has no name for.

    Raises:
        DatasetError: none is there.
    """
    from .cross_validation import LEAST_HELD_OUT, partitions

    learnt = [images[index] for index in partitions(images)[0].train]
    counts: dict[int, int] = {}
    for image in learnt if len(images) >= LEAST_HELD_OUT else images:
        for value in np.unique(image.labels).tolist():
            counts[value] = counts.get(value, 0) + 1
    counts.pop(0, None)
    names = request["classes"]
    if not nameless:
        counts = {v: n for v, n in counts.items() if as_phrase(names.get(str(v), ""))}
    if not counts:
        raise DatasetError("training", "nothing is labelled on the accepted images; label some")
    least = min(int(request["least_images"]), max(counts.values()))
    classes: dict[int, str] = {}
    for value in sorted(value for value, count in counts.items() if count >= least):
        name = str(names.get(str(value), f"class {value}"))
        taken = {_key(other) for other in classes.values()}
        classes[value] = f"{name} ({value})" if _key(name) in taken else name
    return classes


def _key(name: str) -> str:
    return (as_phrase(name) or name).casefold()


def images_of(
    images: Sequence[LabelledImage], classes: Mapping[int, str], request: Mapping[str, Any]
) -> dict[int, int]:
    """Label value -> on how many accepted images a class was when the training was asked for.

    That may be more than it learns from: no more than ``labelled.MOST_IMAGES`` are.
    """
    counts = {int(value): int(count) for value, count in request.get("counts", {}).items()}
    for value in classes:
        here = sum(bool((image.labels == value).any()) for image in images)
        counts[value] = max(here, counts.get(value, 0))
    return counts


class Curve:
    """Tells of every step; first of what an earlier run wrote into the logs of this training.

    Args:
        folder: of the training; its folds are in ``fold-N`` in it and come first.
        say: where it is told.
    """

    def __init__(self, folder: Path, say: Say) -> None:
        from .trainer import read_log, read_run

        self._say, self._said = say, 0.0
        self._began: tuple[int, float] | None = None
        losses: dict[int, float] = {}
        held_out: dict[int, float] = {}
        before = 0
        for out in (*sorted(folder.glob("fold-*")), folder):
            for entry in read_log(out):
                step = before + entry["step"]
                losses.update({step: entry["loss"]} if "loss" in entry else {})
                score = entry.get("held_out_dice", entry.get("validation"))
                held_out.update({step: score} if score is not None else {})
            run = read_run(out)
            before += int(run["settings"]["steps"]) if run is not None else 0
        if losses or held_out:
            say("curve", losses=sorted(losses.items()), held_out=sorted(held_out.items()))

    def __call__(self, step: int, steps: int, figures: dict[str, float]) -> None:
        """One step is done."""
        now = time.monotonic()
        self._began = first, began = self._began or (step, now)
        left = (steps - step) * (now - began) / (step - first) if step > first else None
        points = {}
        if step % 10 == 0 or "held_out_dice" in figures or step == steps:
            names = [name for name in ("loss", "held_out_dice") if name in figures]
            points = {name: round(figures[name], 5) for name in names}
        elif now - self._said < SECONDS_BETWEEN:
            return
        self._said = now
        self._say("step", step=step, steps=steps, left=left, **points)


if __name__ == "__main__":
    main(cast(ModelKind, sys.argv[1]), Path(sys.argv[2]))
