"""The least score of a box of an adapter that had no images to stop by.

Few images give boxes lower scores than the detector's own threshold was chosen for. Where a
cross-validation is there, it tells: each fold's adapter is asked on the images that it did not
learn from. A fold's own threshold is that of the other folds, so that it is measured honestly.
Failing that it stays what the images that were learnt from told (``lora_data.TuningData.asked``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..models.lora_card import read_adapter_card, write_adapter_card
from ..models.registry import load_detector
from .lora_check import THRESHOLDS, Answer, ask, choose_threshold
from .lora_project import check_images
from .ppn_views import LabelledImage
from .promotion import Lesson


def set_thresholds(
    done: Sequence[Lesson],
    images: Sequence[LabelledImage],
    phrases: Mapping[int, str],
    own: float,
) -> None:
    """Write thresholds into the cards of those adapters that had no images to stop by.

    Args:
        done: trainings that ended; the last one is no fold.
        images: of all of them.
        phrases: label value -> what a person would type.
        own: the detector's own threshold.
    """
    lacking = [lesson for lesson in done if lesson.classes and not _checked(lesson.folder)]
    if not lacking:
        return
    answers = {
        lesson.folder: _answers(lesson, images, phrases) for lesson in done[:-1] if lesson.classes
    }
    for lesson in lacking:
        found = [a for folder, some in answers.items() if folder != lesson.folder for a in some]
        _add(lesson.folder, thresholds(found, own))


def thresholds(answers: Iterable[Answer], own: float) -> dict[str, float]:
    """Phrase -> the least score of a box that suits it best."""
    rows: dict[str, list[np.ndarray]] = {}
    for answer in answers:
        rows.setdefault(answer.phrase, []).append(answer.dice)
    return {
        phrase: round(float(THRESHOLDS[choose_threshold(np.mean(some, 0), len(some), own)]), 2)
        for phrase, some in sorted(rows.items())
    }


def _answers(
    lesson: Lesson, images: Sequence[LabelledImage], phrases: Mapping[int, str]
) -> list[Answer]:
    """Of a fold's adapter, on what it did not learn from."""
    asked = {value: phrase for value, phrase in phrases.items() if value in lesson.classes}
    return ask(
        load_detector(lesson.folder), check_images([images[i] for i in lesson.part.test], asked)
    )


def _checked(folder: Path) -> bool:
    card = read_adapter_card(folder)
    return card is not None and "validation" in card.scores


def _add(folder: Path, least: Mapping[str, float]) -> None:
    card = read_adapter_card(folder)
    assert card is not None  # it was written with the adapter
    write_adapter_card(folder, replace(card, box_thresholds={**card.box_thresholds, **least}))
