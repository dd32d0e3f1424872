"""The training of a prompt predictor in a process of its own; see `process.process`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .images import classes_to_learn, nbytes, read_images
from .process import CURVE_FILE, Curve, Say, main, write_result

if TYPE_CHECKING:
    from ..labelled import LabelledImage
    from ..ppn.train import PpnSettings


def train(folder: Path, request: dict[str, Any], say: Say, is_ending: Callable[[], bool]) -> None:
    """Do what the request in ``folder`` asks, from where it was left.

    Raises:
        UsgsegError: it cannot be done.
        Cancelled: ``is_ending()`` turned true.
    """
    from ...models.registry import load_segmenter
    from ..ppn.train import cross_validate_ppn
    from .measuring import compare_ppn

    segmenter = load_segmenter(request["segmenter"])
    say("phase", text="reading images", images=len(request["images"]))
    images, source = read_images(folder, request, segmenter, is_ending)
    classes = classes_to_learn(images, request)
    say("phase", text="training", images=len(images))
    model = cross_validate_ppn(
        images,
        classes,
        segmenter,
        folder,
        _settings(images, request["plan"]),
        source=source,
        progress=Curve(folder / CURVE_FILE, say),
        cancelled=is_ending,
    )
    say("phase", text="measuring", images=len(images))
    scores = model.card.scores
    verdict = compare_ppn(
        scores["per_image"], images, classes, segmenter, request, folder, is_ending
    )
    write_result(
        "ppn",
        folder,
        request,
        base=segmenter.model_id,
        images=images,
        classes=classes,
        scores=scores,
        verdict=verdict,
    )


def _settings(images: list[LabelledImage], plan: Mapping[str, Any]) -> PpnSettings:
    """Those that suit so many images, with no more views than are kept in memory."""
    from ..ppn.train import PpnSettings
    from ..ppn.views import CACHE_BYTES

    settings = PpnSettings.for_images(len(images), seed=int(plan["seed"]))
    sizes = [nbytes(image.embedding) for image in images if image.embedding is not None]
    if sizes:  # views are kept in half precision; the image itself is one of them
        room = CACHE_BYTES // (len(images) * max(sizes) // 2) - 1
        views = max(0, min(settings.task.views, room))
        settings = replace(settings, task=replace(settings.task, views=views))
    if plan["steps"] is not None:
        settings = replace(settings, steps=int(plan["steps"]))
    if plan["views"] is not None:
        settings = replace(settings, task=replace(settings.task, views=int(plan["views"])))
    return settings


if __name__ == "__main__":
    main(train)
