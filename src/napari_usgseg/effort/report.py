"""A project's ledger as a whole, and as CSV files."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ..core.errors import DatasetError
from ..core.types import LabelClass
from ..io.atomic import Write
from ..io.labels import labelling_in
from ..project.project import ProjectStore
from ..project.records import LabelStore
from .efforts import ImageEffort, Way
from .quality import Qualities, QualityCache, measure
from .reading import efforts
from .tables import ModelRow, PhraseRow, Totals, model_rows, most_changed, phrase_rows, totals

PROMPTS = ("find", "click", "box", "scribble", "lasso")
"""Prompts that have a column of their own in ``images.csv``."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Ledger:
    """What labelling a project took.

    Attributes:
        name: of the project.
        images: how many it has.
        efforts: one row for each image and annotator.
        qualities: from the first proposal to what was committed, where there is one.
        totals: sums.
        models: per origin of the first proposals.
        phrases: per phrase and class.
        changed: the efforts whose proposals were changed most.
        failures: a sentence for each image that could not be measured.
    """

    name: str
    images: int
    efforts: tuple[ImageEffort, ...]
    qualities: Qualities
    totals: Totals
    models: tuple[ModelRow, ...]
    phrases: tuple[PhraseRow, ...]
    changed: tuple[ImageEffort, ...]
    failures: tuple[str, ...] = ()


def read_ledger(
    stores: Sequence[LabelStore],
    progress: Progress = lambda done, total: None,
    cache_folder: Path | None = None,
) -> Ledger:
    """Read the history of a project and make its ledger.

    Args:
        stores: of one project, one for each annotator who is to be counted.
        progress: called with (images measured, images in all); may raise ``Cancelled``.
        cache_folder: where what was measured is kept, or None.
    """
    rows = [efforts(store.events(), store.annotator, store.states()) for store in stores]
    total, done = sum(map(len, rows)), 0

    def advance(_: str) -> None:
        nonlocal done
        done += 1
        progress(done, total)

    qualities: Qualities = {}
    failures: list[str] = []
    cache = QualityCache(cache_folder)
    for store, some in zip(stores, rows, strict=True):
        try:
            labelling = labelling_in(store.settings())
            found, failed = measure(store, some, cache, labelling, advance)
        finally:
            cache.save()
        qualities |= found
        failures += failed
    everything = tuple(row for some in rows for row in some)
    classes = _classes(stores)
    return Ledger(
        stores[0].name,
        len(stores[0].records),
        everything,
        qualities,
        totals(everything),
        tuple(model_rows(everything, qualities)),
        tuple(phrase_rows(everything, qualities, classes)),
        tuple(most_changed(everything, qualities)),
        tuple(failures),
    )


def open_for_report(
    folder: Path, labels_root: Path | None = None, annotator: str | None = None
) -> list[ProjectStore]:
    """Open a project for reading, once for each annotator; nobody is locked out.

    Args:
        folder: of images, or of the project.
        labels_root: where the project is, if not in ``usgseg`` inside the folder of images.
        annotator: only this one; None takes all.

    Raises:
        DatasetError: there is no project, or nobody of that name labelled in it.
    """
    first = ProjectStore(folder, labels_root, write=False)
    names = first.annotators() or ("",)
    if annotator is not None and annotator not in names:
        known = ", ".join(name or '"" (the first)' for name in names)
        first.close()
        raise DatasetError(
            folder, f"nobody called {annotator!r} labelled anything here; choose from {known}"
        )
    wanted = names if annotator is None else (annotator,)
    stores = []
    for name in wanted:
        if name == "":
            stores.append(first)
        else:
            stores.append(ProjectStore(folder, labels_root, annotator=name, write=False))
    if first not in stores:
        first.close()
    return stores


def cache_of(stores: Sequence[ProjectStore]) -> Path:
    """Where a project keeps what can be made anew, also where its store only reads."""
    return stores[0].root / "cache"


def _classes(stores: Iterable[LabelStore]) -> list[LabelClass]:
    return list({item.class_id: item for store in stores for item in store.classes()}.values())


FILES = ("index.html", "images.csv", "models.csv", "phrases.csv")
"""What a report consists of."""


def write_csv(ledger: Ledger, out: Path, write: Write) -> None:
    """Write ``images.csv``, ``models.csv`` and ``phrases.csv`` into a folder.

    Raises:
        LabelWriteError: one may not or cannot be written.
    """
    images = [
        (
            "image_id", "annotator", "state", "began", "committed", "active_s", "waited_s",
            "visits", *PROMPTS, "other_edits", "undone", "models", "phrases", "first_proposal",
            "way", "dice", "hd95_px",
        ),
        *(_image_row(item, ledger.qualities) for item in ledger.efforts),
    ]  # fmt: skip
    models = [
        (
            "first_proposal", "images", *(str(way).replace(" ", "_") for way in Way), "median_s",
            "median_unchanged_s", "median_changed_s", "saved_s", "dice", "hd95_px",
        ),
        *(
            (
                row.name, row.images, *(dict(row.ways)[way] for way in Way),
                *map(_number, (row.median_s, row.unchanged_s, row.changed_s, row.saved_s)),
                _number(row.dice, 4), _number(row.hd95_px, 2),
            )
            for row in ledger.models
        ),
    ]  # fmt: skip
    phrases = [
        ("class", "phrase", "images_searched", "images_found", "dice"),
        *(
            (row.class_name, row.phrase, row.searched, row.found, _number(row.dice, 4))
            for row in ledger.phrases
        ),
    ]
    for name, rows in (("images", images), ("models", models), ("phrases", phrases)):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        write(out / f"{name}.csv", text.getvalue().encode())


def _image_row(item: ImageEffort, qualities: Qualities) -> tuple[object, ...]:
    quality = qualities.get((item.annotator, item.image_id))
    prompts = [item.count(name) for name in PROMPTS]
    phrases = dict.fromkeys(phrase for search in item.searches for phrase in search.phrases)
    return (
        item.image_id,
        item.annotator,
        item.state,
        stamp(item.began_at),
        "" if item.committed_at is None else stamp(item.committed_at),
        _number(item.active_s, 3),
        _number(item.waited_s, 3),
        item.visits,
        *prompts,
        sum(number for _, number in item.edits) - sum(prompts),
        item.undone,
        "; ".join(item.models),
        ". ".join(phrases),
        "" if item.first is None else item.first.name,
        item.way or "",
        "" if quality is None else _number(quality.dice, 4),
        "" if quality is None else _number(quality.hd95_px, 2),
    )


def stamp(at: float) -> str:
    """A time as 2026-11-23T07:02:24Z."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _number(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:.{digits}f}"
