"""The tuning of a project's detector in a process of its own; see `process.process`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .images import classes_to_learn, read_images
from .process import CURVE_FILE, Curve, Say, main, write_result

if TYPE_CHECKING:
    from ..lora.train import LoraSettings


def train(folder: Path, request: dict[str, Any], say: Say, is_ending: Callable[[], bool]) -> None:
    """Do what the request in ``folder`` asks, from where it was left.

    Raises:
        UsgsegError: it cannot be done.
        Cancelled: ``is_ending()`` turned true.
    """
    from ...models.grounding.phrases import as_phrase
    from ...models.interfaces import Detector
    from ...models.registry import load_segmenter
    from ..cross_validation import Score
    from ..lora.train import cross_validate_lora
    from .measuring import TextScore, compare_lora

    segmenter = load_segmenter(request["segmenter"])
    say("phase", text="reading images", images=len(request["images"]))
    images, source = read_images(folder, request, segmenter, is_ending)
    classes = classes_to_learn(images, request, nameless=False)

    def scorer(detector: Detector) -> Score:
        return TextScore(detector, segmenter, classes, is_ending)

    say("phase", text="training", images=len(images))
    card = cross_validate_lora(
        images,
        {value: as_phrase(name) for value, name in classes.items()},
        request["detector"],
        folder,
        _settings(request["plan"]),
        scorer,
        source=source,
        progress=Curve(folder / CURVE_FILE, say),
        cancelled=is_ending,
    )
    say("phase", text="measuring", images=len(images))
    scores = card.scores
    verdict = compare_lora(
        scores["per_image"], images, classes, segmenter, request, folder, is_ending
    )
    write_result(
        "lora",
        folder,
        request,
        base=card.base,
        images=images,
        classes=classes,
        scores=scores,
        verdict=verdict,
    )


def _settings(plan: Mapping[str, Any]) -> LoraSettings:
    from ..lora.train import LoraSettings

    return LoraSettings(
        steps=plan["steps"],
        batch=plan["batch"],
        image_size=plan["image_size"],
        seed=plan["seed"],
    )


if __name__ == "__main__":
    main(train)
