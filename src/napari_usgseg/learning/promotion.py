"""Promotion: a new version is used where it is better than what is in use, on unseen images.

What is in use is an earlier version, or the text prompt as it is. The text prompt is measured as
prompt predictors are: masks as the segmenter gives them, uncleaned.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import Cancelled, PromptError, UsgsegError
from ..core.metrics import dice
from ..core.types import TextPrompt
from ..models.grounding.phrases import as_phrase
from ..models.grounding.routing import RoutedDetector
from ..models.interfaces import Detector, Segmenter
from ..models.lora.card import AdapterCard, is_adapter, read_adapter_card
from ..models.ppn.model import PpnModel, load_ppn
from ..models.registry import load_detector
from ..project.versions import title_of, version_folder
from ..segmentation.postprocess import PostprocessSettings
from ..segmentation.propose import propose_text
from .cross_validation import out_of_fold_scores
from .labelled import LabelledImage
from .light import out_of_fold_dice
from .ppn import class_dice

TEXT = "the text prompt"
WEAK = "the weak proposals"
AS_IT_IS = "the detector as it is"
OWN_MASK = 0.999
"""A label that a model's mask has this Dice with is that mask, accepted unchanged."""
AS_GOOD = 0.9
"""Dice with a label that is the other side's own mask from which a model counts as equal there."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a new model replaces what is in use, and the sentence that says why.

    ``dice`` and ``rival_dice`` are of both on the same ``images``, which neither has learnt from;
    ``dice`` is 0 where the new one was measured on none.
    """

    promoted: bool
    dice: float
    rival: str
    rival_dice: float
    images: int
    sentence: str


def judge(
    new: Mapping[str, float],
    old: Mapping[str, float],
    old_name: str,
    labelled: Collection[str] = (),
) -> Verdict:
    """Compare Dice by image id on the images that both have; the new one must be better.

    A label may be the old side's own mask, accepted unchanged: its Dice there is 0.999 or more, and
    something is labelled. Nobody outlines to the pixel as another does, so on such an image a new
    Dice of 0.9 or more counts as equal; the sentence says so where it did. It is for a sonographer.

    Args:
        new: of the new model.
        old: of what is in use: an earlier one, or the model as it is.
        old_name: how to call it ("PPN v2", "the text prompt").
        labelled: ids of the images on which something is labelled.
    """
    common = sorted(set(new) & set(old))
    if not common:
        why = f"Not used: there is no image to compare it with {old_name} on."
        return Verdict(False, float(np.mean([*new.values()] or [0.0])), "", 0.0, 0, why)
    now = float(np.mean([new[image] for image in common]))
    then = float(np.mean([old[image] for image in common]))
    equal = [
        image
        for image in common
        if image in labelled and old[image] >= OWN_MASK and AS_GOOD <= new[image] < old[image]
    ]
    counted = float(np.mean([old[i] if i in equal else new[i] for i in common]))
    # Strictly: on equal scores what is in use stays.
    promoted = counted > then
    images = "1 image" if len(common) == 1 else f"{len(common)} images"
    sentence = (
        f"{'In use now' if promoted else 'Not used, for it is no better'}: Dice {now:.2f} on "
        f"{images} that it had not learnt from, {old_name} {then:.2f}."
    )
    if promoted != (now > then) or f"{now:.2f}" != f"{counted:.2f}":
        sentence += (
            f" On {len(equal)} of them the label is an outline by {old_name}, accepted as it was: "
            f"there a Dice of {AS_GOOD} or more counts as equal, so that {now:.2f} counts as "
            f"{counted:.2f}."
        )
    return Verdict(promoted, now, old_name, then, len(common), sentence)


def compare_ppn(
    new: Mapping[str, float],
    images: Sequence[LabelledImage],
    classes: Mapping[int, str],
    segmenter: Segmenter,
    request: Mapping[str, Any],
    folder: Path,
    is_ending: Callable[[], bool] = lambda: False,
) -> Verdict:
    """Compare a prompt predictor with the version that ``request`` names, or the text prompt.

    Where no version is in use it must be better than what proposes weakly as well, where that is
    on (``weak`` in ``request``): a light head (`light.out_of_fold_dice`). A class whose phrase the
    text prompt refuses counts 0 there, in images without it too.

    Args:
        new: Dice by image id, on images that were not learnt from.
        images: all of the training.
        classes: label value -> name; both sides are measured on all of them.
        segmenter: of both sides.
        request: of the training: ``against`` a version's number or None; ``detector`` and
            its ``adapter``'s number or None.
        folder: of the training, beside the versions.
        is_ending: asked between two images.

    Raises:
        Cancelled: ``is_ending()`` turned true.
    """
    labelled, number = labelled_images(images, classes), request["against"]
    if number is not None:
        try:
            old = load_ppn(version_folder(folder.parent, "ppn", number), segmenter)
        except UsgsegError:  # gone, or damaged since: it is no longer in use
            pass
        else:
            scores = ppn_scores(old, images, classes, is_ending)
            return judge(new, scores, title_of("ppn", number), labelled)
    try:
        detector, card, _ = _text_prompt(request, request.get("adapter"), folder)
    except UsgsegError as error:
        verdict = judge(new, dict.fromkeys(new, 0.0), TEXT)
        return replace(verdict, sentence=f"{verdict.sentence} (no detector: {error})")
    scores = text_scores(
        detector, card, segmenter, images, classes, set(new), is_ending, refused=0.0
    )
    verdict = judge(new, scores, TEXT, labelled)
    if not verdict.promoted or not request.get("weak"):
        return verdict

    def wait() -> None:
        if is_ending():
            raise Cancelled("stopped while the result was measured")

    light = out_of_fold_dice(images, classes, segmenter, folder, wait)
    means = {image_id: float(np.mean([*each.values()])) for image_id, each in light.items()}
    second = judge(new, means, WEAK, labelled)
    return verdict if second.promoted else second


def compare_lora(
    new: Mapping[str, float],
    images: Sequence[LabelledImage],
    classes: Mapping[int, str],
    segmenter: Segmenter,
    request: Mapping[str, Any],
    folder: Path,
    is_ending: Callable[[], bool] = lambda: False,
) -> Verdict:
    """Compare an adapter with the version that ``request`` names, or with the detector as it is.

    The arguments are as in `compare_ppn`.

    Raises:
        UsgsegError: the detector cannot be loaded.
        Cancelled: ``is_ending()`` turned true.
    """
    detector, card, name = _text_prompt(request, request["against"], folder)
    scores = text_scores(detector, card, segmenter, images, classes, set(new), is_ending)
    return judge(new, scores, name, labelled_images(images, classes))


def _text_prompt(
    request: Mapping[str, Any], number: int | None, folder: Path
) -> tuple[Detector, AdapterCard | None, str]:
    """The detector of the text prompt, tuned where there is such a version, and how to call it."""
    if number is not None:
        adapter = version_folder(folder.parent, "lora", number)
        with contextlib.suppress(UsgsegError):  # gone, or damaged since: it is no longer in use
            return load_detector(adapter), read_adapter_card(adapter), title_of("lora", number)
    name = request["detector"]
    card = read_adapter_card(Path(name)) if is_adapter(name) else None
    return load_detector(name), card, AS_IT_IS


def labelled_images(images: Sequence[LabelledImage], classes: Collection[int]) -> frozenset[str]:
    """Ids of the images on which one of the classes is."""
    values = list(classes)
    return frozenset(image.image_id for image in images if np.isin(image.labels, values).any())


def ppn_scores(
    model: PpnModel,
    images: Sequence[LabelledImage],
    classes: Collection[int],
    is_ending: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
    """Dice by image id of a prompt predictor, as `out_of_fold_scores` says, mean over classes."""
    card = model.card
    return out_of_fold_scores(
        card.images,
        card.scores,
        lambda image: class_dice(model, image),
        images,
        classes,
        card.classes,
        is_ending,
    )


def text_scores(
    detector: Detector,
    card: AdapterCard | None,
    segmenter: Segmenter,
    images: Sequence[LabelledImage],
    classes: Mapping[int, str],
    wanted: Collection[str],
    is_ending: Callable[[], bool] = lambda: False,
    refused: float | None = None,
) -> dict[str, float]:
    """Dice by image id of each class's name as a phrase, mean over the classes.

    An adapter that learnt from an image, or from one of its group, has the score there that it had
    in its own cross-validation, or none; a class with another name since then, which the adapter
    leaves to the detector, is measured.

    Args:
        detector: to measure.
        card: of the detector where it is an adapter that has one.
        segmenter: turns boxes into masks.
        images: all of a training.
        classes: label value -> name.
        wanted: ids of the images to measure on.
        is_ending: asked between two images.
        refused: as in `TextScore`.

    Raises:
        Cancelled: ``is_ending()`` turned true.
    """
    score = TextScore(detector, segmenter, classes, is_ending, refused)
    if card is None or not card.images:
        images = [image for image in images if image.image_id in wanted]
        return out_of_fold_scores((), {}, score, images, classes, cancelled=is_ending)
    other = [
        value
        for value, name in classes.items()
        if as_phrase(name) not in card.targets and not _is_taught(detector, as_phrase(name))
    ]
    kept = dict(card.scores.get("per_class", {}))
    for image in images if other else []:
        if image.image_id in kept:
            now = score(image)
            measured = {str(value): now[value] for value in other}
            kept[image.image_id] = {**kept[image.image_id], **measured}
    scores = {**card.scores, "per_class": kept}
    return out_of_fold_scores(card.images, scores, score, images, classes, cancelled=is_ending)


def _is_taught(detector: Detector, phrase: str) -> bool:
    """Whether an adapter answers a phrase; all others are answered as without it."""
    if not isinstance(detector, RoutedDetector):
        return True
    return bool(phrase) and detector.is_taught([phrase])[0]


class TextScore:
    """Label value -> Dice of what a person gets in an image by the classes' names as phrases.

    Args:
        detector: of the text prompt.
        segmenter: turns its boxes into masks.
        classes: label value -> name.
        is_ending: asked before each image.
        refused: the score of a class whose phrase the detector refuses; None takes that of one that
            it does not find, which is 1 in images without it.
    """

    def __init__(
        self,
        detector: Detector,
        segmenter: Segmenter,
        classes: Mapping[int, str],
        is_ending: Callable[[], bool] = lambda: False,
        refused: float | None = None,
    ) -> None:
        self._detector, self._segmenter, self._is_ending = detector, segmenter, is_ending
        self._score_refused = refused
        self._phrases = {value: as_phrase(name) for value, name in classes.items()}
        self._refused: set[int] | None = None

    def __call__(self, image: LabelledImage) -> dict[int, float]:
        """Of one image.

        Raises:
            Cancelled: ``is_ending()`` turned true.
        """
        if self._is_ending():
            raise Cancelled("stopped while the result was measured")
        if self._refused is None:
            self._refused = {
                value
                for value, phrase in self._phrases.items()
                if _refuses(self._detector, image, phrase)
            }
        asked = [p for value, p in self._phrases.items() if value not in self._refused]
        masks = {phrase: np.zeros(image.labels.shape, bool) for phrase in asked}
        if asked:
            embedding = image.embedding or self._segmenter.embed(image.image, image.image_id)
            found = propose_text(
                self._segmenter,
                self._detector,
                image.image,
                TextPrompt(". ".join(asked)),
                PostprocessSettings(enabled=False),
                embedding,
            )
            for item in found.items:
                masks[item.phrase] |= item.mask
        nothing, scores = np.zeros(image.labels.shape, bool), {}
        for value, phrase in self._phrases.items():
            scores[value] = dice(image.labels == value, masks.get(phrase, nothing))
            if value in self._refused and self._score_refused is not None:
                scores[value] = self._score_refused
        return scores


def _refuses(detector: Detector, image: LabelledImage, phrase: str) -> bool:
    """True where the detector says that it cannot look for this."""
    if not phrase:
        return True
    try:
        found = detector.detect(image.image, TextPrompt(phrase))
    except PromptError:
        return True
    return not len(found) and any(f"'{phrase}'" in note.lower() for note in found.notes)
