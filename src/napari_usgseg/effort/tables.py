"""What the ledger says as a whole: per model, per phrase and class, the most changed images."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..core.types import LabelClass
from .efforts import ImageEffort, Way
from .quality import Qualities

FEW = 5
"""Fewer images than this are too few to say what a model saved."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Everything together; ``images`` were touched, ``committed`` of them are done."""

    images: int
    committed: int
    active_s: float
    waited_s: float
    clicks: int
    prompts: tuple[tuple[str, int], ...]

    @property
    def per_hour(self) -> float | None:
        """Committed images an hour of work; None before the first."""
        return 3600 * self.committed / self.active_s if self.committed and self.active_s else None


@dataclass(frozen=True, slots=True)
class ModelRow:
    """Committed images whose first proposal came from one model and one kind of prompt.

    Attributes:
        name: "phrase: <models>", "click: <model>", ...; "by hand" or "nothing there" without one.
        images: how many.
        ways: how many were committed in each way.
        median_s: seconds an image.
        unchanged_s: median of those that were accepted as they came, or None.
        changed_s: median of those that were changed or thrown away, or None.
        saved_s: by how much the median is below that of the images made by hand; None where there
            are fewer than ``FEW`` of either.
        dice: mean from the proposal to what was committed, or None.
        hd95_px: the same in pixels.
    """

    name: str
    images: int
    ways: tuple[tuple[Way, int], ...]
    median_s: float
    unchanged_s: float | None
    changed_s: float | None
    saved_s: float | None
    dice: float | None
    hd95_px: float | None

    def share(self, way: Way) -> float:
        """Part of the images that were committed in a way."""
        return dict(self.ways).get(way, 0) / self.images


@dataclass(frozen=True, slots=True)
class PhraseRow:
    """A phrase and a class that it found.

    Attributes:
        class_name: of the class.
        phrase: in lower case.
        searched: images on which it was looked for.
        found: images on which it found something of the class.
        dice: mean over the images that were committed, nothing found counting 0; None without any.
    """

    class_name: str
    phrase: str
    searched: int
    found: int
    dice: float | None


def span(seconds: float) -> str:
    """A time for reading: "40 s", "12 min" or "3.5 h"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def committed(efforts: Iterable[ImageEffort]) -> list[ImageEffort]:
    """The committed images in the order of their commits."""
    done = (item for item in efforts if item.committed_at is not None)
    return sorted(done, key=lambda item: item.committed_at or 0.0)


def totals(efforts: Sequence[ImageEffort]) -> Totals:
    """Sums over all images."""
    prompts: dict[str, int] = defaultdict(int)
    for item in efforts:
        for name, number in item.edits:
            prompts[name] += number
    return Totals(
        len(efforts),
        sum(item.committed_at is not None for item in efforts),
        sum(item.active_s for item in efforts),
        sum(item.waited_s for item in efforts),
        sum(item.clicks for item in efforts),
        tuple(sorted(prompts.items(), key=lambda pair: -pair[1])),
    )


def model_rows(efforts: Iterable[ImageEffort], qualities: Qualities) -> list[ModelRow]:
    """One row for each origin of first proposals, made by hand first, then by how many images."""
    groups: dict[str, list[ImageEffort]] = defaultdict(list)
    for item in committed(efforts):
        name = item.way or Way.BY_HAND
        groups[str(name) if item.first is None else item.first.name].append(item)
    by_hand = [item.active_s for item in groups.get(Way.BY_HAND, [])]
    rows = [_model_row(name, items, by_hand, qualities) for name, items in groups.items()]
    return sorted(rows, key=lambda row: (row.name != Way.BY_HAND, -row.images, row.name))


def _model_row(
    name: str, items: list[ImageEffort], by_hand: list[float], qualities: Qualities
) -> ModelRow:
    median = statistics.median(item.active_s for item in items)
    unchanged = [item.active_s for item in items if item.way is Way.UNCHANGED]
    changed = [item.active_s for item in items if item.way in (Way.CHANGED, Way.DISCARDED)]
    measured = [
        qualities[item.annotator, item.image_id]
        for item in items
        if (item.annotator, item.image_id) in qualities
    ]
    enough = name not in tuple(Way) and min(len(by_hand), len(items)) >= FEW
    return ModelRow(
        name,
        len(items),
        tuple((way, sum(item.way is way for item in items)) for way in Way),
        median,
        statistics.median(unchanged) if unchanged else None,
        statistics.median(changed) if changed else None,
        statistics.median(by_hand) - median if enough else None,
        statistics.fmean(item.dice for item in measured) if measured else None,
        statistics.fmean(item.hd95_px for item in measured) if measured else None,
    )


def phrase_rows(
    efforts: Iterable[ImageEffort], qualities: Qualities, classes: Iterable[LabelClass]
) -> list[PhraseRow]:
    """One row for each phrase and class, by class, the best phrase of each first.

    A phrase that found nothing on an image is counted for the class that it finds elsewhere, or
    else for the class of its name.
    """
    names = {item.class_id: item.name for item in classes}
    usual = _usual_classes(qualities)
    usual.update({n.casefold(): c for c, n in names.items() if n.casefold() not in usual})
    searched: dict[tuple[str, str], int] = defaultdict(int)
    found: dict[tuple[str, str], int] = defaultdict(int)
    scores: dict[tuple[str, str], list[float]] = defaultdict(list)
    for item in efforts:
        quality = qualities.get((item.annotator, item.image_id))
        hits = {} if quality is None else {c.phrase.casefold(): c for c in quality.classes}
        successes = {name for search in item.searches for name in search.found_phrases}
        for phrase in dict.fromkeys(name for search in item.searches for name in search.phrases):
            hit = hits.get(phrase)
            class_id = hit.class_id if hit is not None else usual.get(phrase)
            key = (names.get(class_id or 0, f"class {class_id}" if class_id else "-"), phrase)
            searched[key] += 1
            found[key] += hit is not None or phrase in successes
            if hit is not None:
                scores[key].append(hit.dice)
            elif phrase not in successes and item.way is not None:
                scores[key].append(1.0 if item.way is Way.EMPTY else 0.0)
    rows = [
        PhraseRow(*key, number, found[key], statistics.fmean(scores[key]) if scores[key] else None)
        for key, number in searched.items()
    ]
    return sorted(rows, key=lambda row: (row.class_name, -(row.dice or 0.0), row.phrase))


def _usual_classes(qualities: Qualities) -> dict[str, int]:
    """The class that each phrase finds most often."""
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for quality in qualities.values():
        for item in quality.classes:
            if item.phrase:
                counts[item.phrase.casefold()][item.class_id] += 1
    return {phrase: count.most_common(1)[0][0] for phrase, count in counts.items()}


def most_changed(
    efforts: Iterable[ImageEffort], qualities: Qualities, limit: int = 12
) -> list[ImageEffort]:
    """The images whose first proposals were changed most, by Dice and then by HD95."""

    def order(item: ImageEffort) -> tuple[float, float]:
        quality = qualities[item.annotator, item.image_id]
        return quality.dice, -quality.hd95_px

    measured = [
        item
        for item in efforts
        if (item.annotator, item.image_id) in qualities
        and qualities[item.annotator, item.image_id].dice < 1.0
    ]
    return sorted(measured, key=order)[:limit]
