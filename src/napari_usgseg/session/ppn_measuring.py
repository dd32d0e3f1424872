"""What a new prompt predictor is compared with: the one in use, or the text prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import Cancelled, PromptError, UsgsegError
from ..metrics import dice
from ..pipeline.postprocess import PostprocessSettings
from ..pipeline.propose import propose_text
from ..types import TextPrompt

if TYPE_CHECKING:
    from ..models.base import Detector, Segmenter
    from ..training.ppn_promotion import Verdict
    from ..training.ppn_views import LabelledImage

TEXT = "the text prompt"


def compare(
    new: Mapping[str, float],
    images: Sequence[LabelledImage],
    classes: Mapping[int, str],
    segmenter: Segmenter,
    request: Mapping[str, Any],
    folder: Path,
    is_ending: Callable[[], bool] = lambda: False,
) -> Verdict:
    """Compare with the version that ``request`` names, or with the text prompt.

    Args:
        new: Dice by image id, on images that were not learnt from.
        images: all of the training.
        classes: label value -> name; both sides are measured on all of them.
        segmenter: of both sides.
        request: of the training: ``against`` a version's number or None, ``detector``.
        folder: of the training, beside the versions.
        is_ending: asked between two images.

    Raises:
        Cancelled: ``is_ending()`` turned true.
    """
    from ..models.ppn_model import load_ppn
    from ..models.registry import load_detector
    from ..training.ppn_promotion import honest_scores, judge

    measured = [image for image in images if image.image_id in new]
    number = request["against"]
    if number is not None:
        try:
            old = load_ppn(folder.parent / f"ppn-v{number:04d}", segmenter)
        except UsgsegError:  # gone, or damaged since: it is no longer in use
            number = None
        else:
            scores = honest_scores(old, images, classes, is_ending)
            return judge(new, scores, f"PPN v{number}")
    try:
        detector = load_detector(request["detector"])
    except UsgsegError as error:
        verdict = judge(new, dict.fromkeys(new, 0.0), TEXT)
        return replace(verdict, sentence=f"{verdict.sentence} (no detector: {error})")
    return judge(new, text_scores(detector, segmenter, measured, classes, is_ending), TEXT)


def text_scores(
    detector: Detector,
    segmenter: Segmenter,
    images: Sequence[LabelledImage],
    classes: Mapping[int, str],
    is_ending: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
    """Dice by image id of each class's name as a phrase, mean over the classes.

    A class whose phrase the detector refuses counts 0, in images without it too.
    """
    phrases = {value: _phrase(name) for value, name in classes.items()}
    settings = PostprocessSettings()
    refused = {
        value
        for value, phrase in phrases.items()
        if images and _refuses(detector, images[0], phrase)
    }
    asked = [phrase for value, phrase in phrases.items() if value not in refused]
    scores: dict[str, float] = {}
    for image in images:
        _check(is_ending)
        masks = {phrase: np.zeros(image.labels.shape, bool) for phrase in asked}
        if asked:
            embedding = image.embedding or segmenter.embed(image.image, image.image_id)
            prompt = TextPrompt(". ".join(asked))
            found = propose_text(segmenter, detector, image.image, prompt, settings, embedding)
            for item in found.items:
                masks[item.phrase.casefold()] |= item.mask
        each = [
            0.0 if value in refused else dice(image.labels == value, masks[phrases[value]])
            for value in classes
        ]
        scores[image.image_id] = float(np.mean(each))
    return scores


def _phrase(name: str) -> str:
    """A class's name as one phrase, in lower case."""
    return " ".join("".join(" " if c in ".?;\n\r" else c for c in name).casefold().split())


def _refuses(detector: Detector, image: LabelledImage, phrase: str) -> bool:
    """True where the detector says that it cannot look for this."""
    if not phrase:
        return True
    try:
        found = detector.detect(image.image, TextPrompt(phrase))
    except PromptError:
        return True
    return not len(found) and any(f"'{phrase}'" in note.casefold() for note in found.notes)


def _check(is_ending: Callable[[], bool]) -> None:
    if is_ending():
        raise Cancelled("stopped while the result was measured")
