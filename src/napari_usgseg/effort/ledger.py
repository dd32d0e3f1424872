"""Ledger of a project: what labelling took, per image, per model and per phrase, as tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..core.errors import DatasetError
from ..core.types import LabelClass
from ..io.atomic import Write
from ..io.labels import labelling_in
from ..project.project import Project
from .efforts import ImageEffort, Way, efforts
from .quality import QualityCache, measure

FEW = 5
"""Fewer images than this are too few to say what a model saved."""
MOST_CHANGED = 12
PROMPTS = ("find", "click", "box", "scribble", "lasso")
"""Prompts that have a column of their own in ``images.csv``."""
FILES = ("index.html", "images.csv", "models.csv", "phrases.csv")
"""What a report consists of."""

IMAGE_COLUMNS = (
    "image_id", "annotator", "state", "began", "committed", "active_s", "waited_s", "visits",
    *PROMPTS, "other_edits", "undone", "models", "phrases", "first_proposal", "way", "dice",
    "hd95_px",
)  # fmt: skip
MODEL_COLUMNS = (
    "first_proposal", "images", *(str(way).replace(" ", "_") for way in Way), "median_s",
    "median_unchanged_s", "median_changed_s", "saved_s", "dice", "hd95_px",
)  # fmt: skip
DIGITS = {"active_s": 3, "waited_s": 3, "dice": 4, "hd95_px": 2}
"""Decimals in the CSV files; other fractions have one."""


@dataclass(frozen=True, slots=True, eq=False)
class Ledger:
    """Ledger of a project: what labelling it took.

    Attributes:
        name: of the project.
        image_count: how many images it has.
        efforts: one for each image and annotator.
        images: a row for each of the efforts, with ``IMAGE_COLUMNS``; ``committed`` is when an
            image was accepted (UTC). Times are in seconds; Dice and HD95 go from the first
            proposal to what was accepted.
        models: a row for each origin of first proposals, of accepted images, with
            ``MODEL_COLUMNS``: made by hand first, then by how many images. ``saved_s`` is by how
            much the median is below that of the images made by hand, where there are at least
            ``FEW`` of both.
        phrases: a row for each phrase and class that it found, with ``class``, ``phrase``,
            ``images_searched``, ``images_found`` and ``dice``, the best phrase of each class
            first. Nothing found counts 0 where the class was there.
        failures: a sentence for each image that could not be measured.
    """

    name: str
    image_count: int
    efforts: tuple[ImageEffort, ...]
    images: pd.DataFrame
    models: pd.DataFrame
    phrases: pd.DataFrame
    failures: tuple[str, ...] = ()

    @property
    def accepted(self) -> pd.DataFrame:
        """The rows of accepted images, in the order of the accepts."""
        return self.images.dropna(subset="committed").sort_values("committed", kind="stable")

    @property
    def changed(self) -> pd.DataFrame:
        """The rows whose first proposals were changed most, by Dice and then by HD95."""
        changed = self.images[self.images["dice"] < 1.0]
        order = changed.sort_values(["dice", "hd95_px"], ascending=[True, False], kind="stable")
        return order.head(MOST_CHANGED)

    @property
    def per_hour(self) -> float | None:
        """Accepted images an hour of work; None before the first."""
        seconds = float(self.images["active_s"].sum())
        return 3600 * len(self.accepted) / seconds if len(self.accepted) and seconds else None


def read_ledger(
    stores: Sequence[Project], progress: Callable[[int, int], None] = lambda done, total: None
) -> Ledger:
    """Read the history of a project and make its ledger.

    Args:
        stores: of one project, one for each annotator who is to be counted.
        progress: called with (images measured, images in all); may raise ``Cancelled``.
    """
    rows = [efforts(store.events(), store.annotator, store.states()) for store in stores]
    total, done = sum(map(len, rows)), 0

    def advance() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    failures: list[str] = []
    cache = QualityCache(stores[0].root / "cache")
    for store, some in zip(stores, rows, strict=True):
        try:
            labelling = labelling_in(store.settings())
            failures += measure(store, some, cache, labelling, advance)
        finally:
            cache.save()
    classes = {item.class_id: item for store in stores for item in store.classes()}
    everything = tuple(row for some in rows for row in some)
    images = image_table(everything)
    return Ledger(
        stores[0].name,
        len(stores[0].records),
        everything,
        images,
        model_table(images),
        phrase_table(everything, classes.values()),
        tuple(failures),
    )


def image_table(rows: Iterable[ImageEffort]) -> pd.DataFrame:
    """The table ``images`` of a ledger."""

    def row(item: ImageEffort) -> tuple[object, ...]:
        prompts = [item.edits[name] for name in PROMPTS]
        phrases = dict.fromkeys(phrase for search in item.searches for phrase in search.phrases)
        return (
            item.image_id,
            item.annotator,
            str(item.state),
            item.began_at,
            np.nan if item.accepted_at is None else item.accepted_at,
            item.active_s,
            item.waited_s,
            item.visits,
            *prompts,
            item.edits.total() - sum(prompts),
            item.undone,
            "; ".join(item.models),
            ". ".join(phrases),
            "" if item.first is None else item.first.name,
            str(item.way or ""),
            np.nan if item.quality is None else item.quality.dice,
            np.nan if item.quality is None else item.quality.hd95_px,
        )

    table = pd.DataFrame(map(row, rows), columns=list(IMAGE_COLUMNS))
    for name in ("began", "committed"):
        table[name] = pd.to_datetime(table[name].astype(float), unit="s", utc=True)
    return table


def model_table(images: pd.DataFrame) -> pd.DataFrame:
    """The table ``models`` of a ledger, from its table ``images``."""
    accepted = images[images["committed"].notna()]
    origin = accepted["first_proposal"].where(accepted["first_proposal"] != "", accepted["way"])
    by_hand = accepted.loc[origin == Way.BY_HAND, "active_s"]
    rows = []
    for name, group in accepted.groupby(origin, sort=False):
        seconds, way = group["active_s"], group["way"]
        enough = name not in tuple(Way) and min(len(by_hand), len(group)) >= FEW
        rows.append(
            (
                name,
                len(group),
                *((way == item).sum() for item in Way),
                seconds.median(),
                seconds[way == Way.UNCHANGED].median(),
                seconds[way.isin((Way.CHANGED, Way.DISCARDED))].median(),
                by_hand.median() - seconds.median() if enough else np.nan,
                group["dice"].mean(),
                group["hd95_px"].mean(),
            )
        )
    rows.sort(key=lambda row: (row[0] != Way.BY_HAND, -row[1], row[0]))
    return pd.DataFrame(rows, columns=list(MODEL_COLUMNS))


def phrase_table(rows: Sequence[ImageEffort], classes: Iterable[LabelClass]) -> pd.DataFrame:
    """The table ``phrases`` of a ledger.

    A phrase that found nothing on an image is counted for the class that it finds elsewhere, or
    else for the class of its name.
    """
    names = {item.class_id: item.name for item in classes}
    usual = {name.casefold(): class_id for class_id, name in names.items()} | _usual(rows)
    searches: list[tuple[str, str, bool, float]] = []
    for item in rows:
        found = () if item.quality is None else item.quality.classes
        hits = {entry.phrase.casefold(): entry for entry in found}
        successes = {name for search in item.searches for name in search.found_phrases}
        for phrase in dict.fromkeys(name for search in item.searches for name in search.phrases):
            hit = hits.get(phrase)
            class_id = usual.get(phrase) if hit is None else hit.class_id
            name = names.get(class_id or 0, f"class {class_id}" if class_id else "-")
            dice = np.nan
            if hit is not None:
                dice = hit.dice
            elif phrase not in successes and item.way is not None:
                dice = 1.0 if item.way is Way.EMPTY else 0.0
            searches.append((name, phrase, hit is not None or phrase in successes, dice))
    table = pd.DataFrame(searches, columns=["class", "phrase", "found", "dice"])
    table = table.astype({"found": int, "dice": float}).groupby(["class", "phrase"])
    counted = table.agg(
        images_searched=("found", "size"), images_found=("found", "sum"), dice=("dice", "mean")
    ).reset_index()
    order = counted.assign(rank=-counted["dice"].fillna(0.0))
    return counted.loc[order.sort_values(["class", "rank", "phrase"]).index].reset_index(drop=True)


def _usual(rows: Iterable[ImageEffort]) -> dict[str, int]:
    """The class that each phrase finds most often."""
    counts = Counter(
        (entry.phrase.casefold(), entry.class_id)
        for item in rows
        for entry in (() if item.quality is None else item.quality.classes)
        if entry.phrase
    )
    # the most frequent comes first, and the first one of a phrase stays
    return dict(reversed([key for key, _ in counts.most_common()]))


def write_csv(ledger: Ledger, out: Path, write: Write) -> None:
    """Write ``images.csv``, ``models.csv`` and ``phrases.csv`` into a folder.

    Raises:
        LabelWriteError: one may not or cannot be written.
    """
    for name in ("images", "models", "phrases"):
        table: pd.DataFrame = getattr(ledger, name)
        shown = table.apply(_written).to_csv(index=False, lineterminator="\n")
        write(out / f"{name}.csv", shown.encode())


def _written(column: pd.Series[Any]) -> pd.Series[Any]:
    """A column as a CSV file shows it."""
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return column.dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    if column.dtype.kind == "f":
        digits = DIGITS.get(str(column.name), 1)
        return column.map(f"{{:.{digits}f}}".format, na_action="ignore").astype(object)
    return column


@contextmanager
def open_for_report(
    folder: Path, labels_root: Path | None = None, annotator: str | None = None
) -> Iterator[list[Project]]:
    """Open a project for reading, once for each annotator; nobody is locked out.

    Args:
        folder: of images, or of the project.
        labels_root: where the project is, if not in ``usgseg`` inside the folder of images.
        annotator: only this one; None takes all.

    Raises:
        DatasetError: there is no project, or nobody of that name labelled in it.
    """
    with ExitStack() as opened:

        def read(name: str) -> Project:
            store = Project(folder, labels_root, annotator=name, write=False)
            return opened.enter_context(closing(store))

        first = read(annotator or "")
        names = first.annotators() or ("",)
        if annotator is not None and annotator not in names:
            known = ", ".join(name or '"" (the first)' for name in names)
            raise DatasetError(
                folder, f"nobody called {annotator!r} labelled anything here; choose from {known}"
            )
        wanted = names if annotator is None else (annotator,)
        yield [first if name == first.annotator else read(name) for name in wanted]
