"""Training process: how it begins, what it says, what it leaves, and how it ends.

``python -m MODULE FOLDER`` does what ``FOLDER/request.json`` asks (``project.versions``), or goes
on with it. It reads the project and writes into ``FOLDER`` only, and says how far it is
(``jobs.background``):

=============  ==================================================================================
kind           what it says
=============  ==================================================================================
``phase``      ``text``: what is done now; ``images``: how many are learnt from
``curve``      ``losses``, ``held_out``: [[step, value], ...] of what was done in an earlier run
``step``       ``step`` of ``steps``; ``loss`` and ``held_out_dice`` where the curve has a point
``done``       the result is there, ``version.json`` too
``failed``     ``text``: why it cannot be done, and the cure; ``keep`` where it may go on later
``stopped``    it was told to end; what it has learnt is kept
=============  ==================================================================================

One training is at work at a time in a folder of versions, of whatever kind.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import Cancelled, UsgsegError
from ...jobs.background import Channel, give_way
from ...project.versions import (
    VERSION_FILE,
    ModelKind,
    ModelVersion,
    read_request,
    write_version,
)
from .images import images_of

if TYPE_CHECKING:
    from ..cross_validation import Verdict
    from ..labelled import LabelledImage

CURVE_FILE = "curve.jsonl"
SECONDS_BETWEEN = 0.25
LOCK_SECONDS = 60.0
NO_MEMORY = "Not enough memory to train: close other programs, or choose a smaller model."

Say = Callable[..., None]
Train = Callable[[Path, dict[str, Any], Say, Callable[[], bool]], None]
"""Does what a request asks in a folder, from where it was left; asked whether it is to end."""


def main(train: Train) -> None:
    """Train, and say how that went."""
    give_way()
    channel = Channel()
    try:
        from filelock import FileLock, Timeout

        folder = Path(sys.argv[1])
        try:  # one that is ending may still be at its last checkpoint
            with FileLock(folder.parent / "training.lock", timeout=LOCK_SECONDS):
                _do(train, folder, channel)
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
    os._exit(0)


def _do(train: Train, folder: Path, channel: Channel) -> None:
    if (folder / VERSION_FILE).is_file():
        return
    request = read_request(folder)
    channel.send("phase", text="starting", images=len(request["images"]))
    import torch

    torch.set_num_threads(1)
    train(folder, request, channel.send, channel.is_ending)


def write_result(
    kind: ModelKind,
    folder: Path,
    request: Mapping[str, Any],
    *,
    base: str,
    images: list[LabelledImage],
    classes: dict[int, str],
    scores: Mapping[str, Any],
    verdict: Verdict,
) -> None:
    """Write ``version.json``; its number is given by ``project.versions``.

    Args:
        kind: of the version.
        folder: of the training.
        request: what was asked for.
        base: the model that it belongs to, as its card names it.
        images: all of the training.
        classes: label value -> name.
        scores: of the card (``cross_validation.cross_validate``).
        verdict: of the comparison.

    Raises:
        LabelWriteError: the file cannot be written.
    """
    from ..cross_validation import how_measured

    write_version(
        folder,
        ModelVersion(
            kind=kind,
            number=0,
            folder=folder,
            classes=classes,
            images=len(images),
            per_class=images_of(images, classes, request),
            base=base,
            held_out_dice=float(scores["held_out_dice"]),
            measured=f"{verdict.sentence}{how_measured(scores)}",
            promoted=verdict.promoted,
            created=time.time(),
        ),
    )


class Curve:
    """Tells of every step, keeps the curve on disk, and repeats what an earlier run kept."""

    def __init__(self, path: Path, say: Say) -> None:
        self._path, self._say = path, say
        self._said = 0.0
        lines = path.read_text("utf-8", "replace").splitlines() if path.is_file() else []
        kept: dict[str, dict[int, float]] = {"loss": {}, "held_out_dice": {}}
        for line in lines:
            try:
                step, name, value = json.loads(line)
                kept[name][step] = value
            except (ValueError, KeyError, TypeError):
                continue  # the last line of a run that was killed
        if lines:
            curves = [sorted(values.items()) for values in kept.values()]
            say("curve", losses=curves[0], held_out=curves[1])

    def __call__(self, step: int, steps: int, figures: dict[str, float]) -> None:
        """One step is done."""
        now = time.monotonic()
        points = {}
        if step % 10 == 0 or "held_out_dice" in figures or step == steps:
            names = [name for name in ("loss", "held_out_dice") if name in figures]
            points = {name: round(figures[name], 5) for name in names}
            with self._path.open("a", encoding="utf-8") as file:
                for name, value in points.items():
                    file.write(json.dumps([step, name, value]) + "\n")
        elif now - self._said < SECONDS_BETWEEN:
            return
        self._said = now
        self._say("step", step=step, steps=steps, **points)
