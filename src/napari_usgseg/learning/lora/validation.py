"""Validation of a detector under tuning: Dice of its boxes, its thresholds, pictures of both."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.geometry import components, mask_to_box
from ...core.metrics import dice
from ...core.types import BoolArray, FloatArray, TextPrompt
from ...models.interfaces import Detector
from ...models.lora.adapter import save_adapter
from ...models.lora.card import AdapterCard, read_adapter_card, write_adapter_card
from ...models.registry import load_detector
from ..cross_validation import Fold
from ..labelled import LabelledImage
from ..trainer import VALIDATION, mean_of_all
from .data import CheckImage, TuningData, check_images

if TYPE_CHECKING:
    from accelerate import Accelerator

THRESHOLDS: FloatArray = (np.arange(1, 19) / 20).astype(np.float32)
"""Least scores of a box among which an adapter's own is chosen: 0.05, 0.1, ... 0.9."""
NEAR = 0.5
"""A threshold that costs no more than this share of an image is as good as the best."""
LEAST = 0.3
"""Of the detector's own threshold: an adapter's is not lower."""


@dataclass(frozen=True, slots=True, eq=False)
class AskedImage:
    """All boxes that a detector gives for one phrase in one image, whatever their scores.

    Attributes:
        image: which.
        phrase: what was asked.
        found: (N, 4) XYXY boxes, best first.
        scores: (N,) theirs.
        wanted: (M, 4) boxes of the true objects.
        dice: (T,) Dice of what the boxes that pass each of ``THRESHOLDS`` cover; 1 where there is
            nothing and nothing is found.
    """

    image: CheckImage
    phrase: str
    found: FloatArray
    scores: FloatArray
    wanted: FloatArray
    dice: FloatArray

    def found_at(self, place: int) -> FloatArray:
        """The boxes that pass one of ``THRESHOLDS``."""
        return self.found[self.scores >= THRESHOLDS[place]]


def ask(detector: Detector, images: Sequence[CheckImage]) -> list[AskedImage]:
    """Ask for every target of every image."""
    return [
        _ask(detector, image, label, phrase)
        for image in images
        for label, phrase in image.phrases.items()
    ]


def _ask(detector: Detector, image: CheckImage, label: int, phrase: str) -> AskedImage:
    least = float(THRESHOLDS[0])
    detections = detector.detect(image.image, TextPrompt(phrase, least, least))
    found, scores = detections.boxes, detections.scores
    parts = (mask_to_box(part) for part in components(image.labels == label))
    boxes = [box for box in parts if box is not None]
    wanted = np.asarray(boxes, np.float32).reshape(-1, 4)
    size = image.labels.shape[:2]
    truth = _covered(wanted, size)
    counts = [int((scores >= threshold).sum()) for threshold in THRESHOLDS]
    by_count = {count: dice(truth, _covered(found[:count], size)) for count in set(counts)}
    values = np.array([by_count[count] for count in counts], np.float32)
    return AskedImage(image, phrase, found, scores, wanted, values)


def _covered(boxes: FloatArray, size_hw: tuple[int, ...]) -> BoolArray:
    area = np.zeros(size_hw, bool)
    for x0, y0, x1, y1 in boxes:
        area[int(y0) : int(np.ceil(y1)) + 1, int(x0) : int(np.ceil(x1)) + 1] = True
    return area


# -- thresholds ------------------------------------------------------------------------------------


def choose_threshold(dice_at: FloatArray, images: int, own: float) -> int:
    """The place in ``THRESHOLDS`` that an adapter should use for a target.

    A target that is small, faint or often missing gets lower scores than those for which the
    detector's own threshold was chosen. That one stays where it is as good as any; else it is the
    middle of those that are, for few images say little about where they end.

    Args:
        dice_at: (T,) mean Dice at each of ``THRESHOLDS``.
        images: so many were asked.
        own: the detector's own threshold.
    """
    usual = int(np.abs(THRESHOLDS - own).argmin())
    allowed = np.where(LEAST * own <= THRESHOLDS, dice_at, -np.inf)
    good = allowed >= allowed.max() - NEAR / images
    if good[usual]:
        return usual
    best = int(allowed.argmax())
    first = last = best
    while first > 0 and good[first - 1]:
        first -= 1
    while last + 1 < len(good) and good[last + 1]:
        last += 1
    return (first + last) // 2


def thresholds(answers: Iterable[AskedImage], own: float) -> dict[str, float]:
    """Phrase -> the least score of a box that suits it best."""
    rows: dict[str, list[FloatArray]] = {}
    for answer in answers:
        rows.setdefault(answer.phrase, []).append(answer.dice)
    return {
        phrase: _at(choose_threshold(np.mean(some, 0), len(some), own))
        for phrase, some in sorted(rows.items())
    }


def _at(place: int) -> float:
    return round(float(THRESHOLDS[place]), 2)


def set_thresholds(
    done: Sequence[Fold],
    images: Sequence[LabelledImage],
    phrases: Mapping[int, str],
    own: float,
) -> None:
    """Write thresholds into the cards of those adapters that had no images to stop by.

    Each is asked for on what the other folds' adapters did not learn from.

    Args:
        done: trainings that ended; the last one is on all images.
        images: of all of them.
        phrases: label value -> what a person would type.
        own: the detector's own threshold.
    """
    cards = {fold.folder: read_adapter_card(fold.folder) for fold in done if fold.classes}
    lacking = {at: card for at, card in cards.items() if card and VALIDATION not in card.scores}
    if not lacking:
        return
    answers = {}
    for fold in done[:-1]:
        if fold.classes:
            asked = {value: phrase for value, phrase in phrases.items() if value in fold.classes}
            held_out = check_images([images[i] for i in fold.test], asked)
            answers[fold.folder] = ask(load_detector(fold.folder), held_out)
    for folder, card in lacking.items():
        others = [a for other, some in answers.items() if other != folder for a in some]
        least = {**card.box_thresholds, **thresholds(others, own)}
        write_adapter_card(folder, replace(card, box_thresholds=least))


# -- between the steps -----------------------------------------------------------------------------


class Validation:
    """Validation between the steps of a tuning: measuring, pictures, and saving.

    Args:
        detector: under training.
        tuned: PEFT's model around its network.
        own: the detector's own threshold.
        data: the images.
        out: folder of the best adapter; the last one is in ``last`` in it.
        card: of the adapter, without its scores and thresholds.
        pictures: where they are drawn.
        accelerator: of the trainer.
    """

    def __init__(
        self,
        detector: Detector,
        tuned: Any,
        own: float,
        data: TuningData,
        out: Path,
        card: AdapterCard,
        pictures: Pictures | None,
        accelerator: Accelerator,
    ) -> None:
        self.detector, self.tuned, self.own = detector, tuned, own
        self.data, self.out, self.card = data, out, card
        self.pictures, self.accelerator = pictures, accelerator

    def check(self, step: int) -> dict[str, float]:
        """The mean Dice of boxes on the images to stop by; no number where there are none.

        Each is at the threshold that suits its phrase best on all of them, which the card keeps.
        Every process asks for a share of the images.
        """
        share = slice(self.accelerator.process_index, None, self.accelerator.num_processes)
        images = self.data.asked
        answers = ask(self.detector, images[share])
        asked = sorted({phrase for image in images for phrase in image.phrases.values()})
        places = {phrase: self._place(phrase, answers) for phrase in asked}
        least = {phrase: _at(place) for phrase, place in places.items()}
        self.card = replace(self.card, box_thresholds=least)
        if not self.data.checking:
            answers = []
        if self.pictures is not None:
            self.pictures.checked(step, [(answer, places[answer.phrase]) for answer in answers])
        scores = np.reshape([float(a.dice[places[a.phrase]]) for a in answers], (-1, 1))
        return {VALIDATION: float(mean_of_all(self.accelerator, scores)[0])}

    def _place(self, phrase: str, answers: list[AskedImage]) -> int:
        """The place of the threshold of a phrase that some image was asked for."""
        own = [answer.dice for answer in answers if answer.phrase == phrase]
        means = mean_of_all(self.accelerator, np.reshape(own, (-1, len(THRESHOLDS))))
        count = sum(phrase in image.phrases.values() for image in self.data.asked)
        return choose_threshold(means, count, self.own)

    def keep(self, kind: str, step: int, score: float) -> None:
        """Save the adapter as it is now."""
        folder = self.out if kind == "best" else self.out / "last"
        save_adapter(self.tuned, folder)
        scores = {} if math.isnan(score) else {VALIDATION: round(score, 4)}
        write_adapter_card(folder, replace(self.card, scores={**scores, "step": step}))


SHOWN = 6
"""Images on the sheet of validation boxes."""


class Pictures:
    """Writes ``losses.png``, ``validation.png`` and ``tensorboard/`` into ``out`` as it goes.

    TensorBoard is optional (extra "train").

    Args:
        out: the tuning's folder.
        say: told once what is not written, and why.
    """

    def __init__(self, out: Path, say: Callable[[str], None]) -> None:
        self.out = out
        self.history: dict[str, list[tuple[int, float]]] = {}
        self.writer: Any = None
        if find_spec("tensorboard") is None:
            say("no tensorboard: for its curves, pip install 'napari-usgseg[train]'")
        else:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(out / "tensorboard"))

    def step(self, step: int, figures: dict[str, float]) -> None:
        """Take the figures of a step; the losses are drawn anew at each validation."""
        for name, value in figures.items():
            if not math.isnan(value):
                self.history.setdefault(name, []).append((step, value))
                if self.writer is not None:
                    self.writer.add_scalar(name, value, step)
        if VALIDATION in figures:
            self._draw_losses()

    def checked(self, step: int, answers: Sequence[tuple[AskedImage, int]]) -> None:
        """Draw true boxes (dashed) and found ones over the first images, each at its threshold."""
        if not answers:
            return
        from matplotlib.figure import Figure

        shown = answers[:SHOWN]
        figure = Figure(figsize=(3 * len(shown), 3.2), layout="constrained")
        places = figure.subplots(1, len(shown), squeeze=False)[0]
        for axes, (answer, place) in zip(places, shown, strict=True):
            axes.imshow(answer.image.image)
            axes.set_axis_off()
            axes.set_title(f"{answer.phrase}\nDice of boxes {answer.dice[place]:.2f}", fontsize=8)
            for boxes, style, colour in (
                (answer.wanted, "--", "white"),
                (answer.found_at(place), "-", "tab:orange"),
            ):
                for x0, y0, x1, y1 in boxes:
                    across, down = [x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0]
                    axes.plot(across, down, style, color=colour, linewidth=1.2)
        figure.savefig(self.out / "validation.png", dpi=90)
        if self.writer is not None:
            self.writer.add_figure("validation boxes", figure, step)

    def close(self) -> None:
        """Write what is still in memory."""
        if self.writer is not None:
            self.writer.close()

    def _draw_losses(self) -> None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 3.2), layout="constrained")
        titles = {"loss": "loss", VALIDATION: "validation: Dice of boxes"}
        for axes, (name, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
            points = self.history.get(name, [])
            axes.plot([s for s, _ in points], [v for _, v in points], linewidth=1)
            axes.set_xlabel("step")
            axes.set_title(title)
        figure.savefig(self.out / "losses.png", dpi=90)
