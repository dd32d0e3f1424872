"""What is known of each public data set: ``registry.csv`` as records.

The eighteen of GroundingDINO-US-SAM (arXiv 2506.23903, table 1) with the paper's counts, fifteen
that its model was tuned on ("seen") and three that it was only tested on; and some extras.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from ..errors import DatasetError


@dataclass(frozen=True, slots=True)
class KnownDataset:
    """One public data set.

    Attributes:
        name: as in the paper.
        organ: that it shows.
        labels: label value -> phrase.
        seen: the paper's model was tuned on it; False for its unseen ones, None for extras, which
            the paper does not use.
        images: how many it has, by the paper; None where not stated.
        split: the paper's (train, val, test) counts, or None.
        homepage: where it is to be had; "" where none is known.
        licence: as its home page states it; "not stated" where nobody here has seen one.
    """

    name: str
    organ: str
    labels: dict[int, str]
    seen: bool | None
    images: int | None
    split: tuple[int, int, int] | None
    homepage: str
    licence: str


@lru_cache(maxsize=1)
def known_datasets() -> tuple[KnownDataset, ...]:
    """All of them, the paper's first."""
    text = resources.files(__package__).joinpath("registry.csv").read_text(encoding="utf-8")
    return tuple(_record(row) for row in csv.DictReader(text.splitlines()))


def known_dataset(name: str) -> KnownDataset:
    """One by its name, in any case.

    Raises:
        DatasetError: there is none of that name.
    """
    found = find_dataset(name)
    if found is None:
        names = ", ".join(item.name for item in known_datasets())
        raise DatasetError(name, f"no data set of that name is known; there are {names}")
    return found


def find_dataset(name: str) -> KnownDataset | None:
    """One by its name, in any case, or None."""
    return next((d for d in known_datasets() if d.name.casefold() == name.casefold()), None)


def _record(row: dict[str, str]) -> KnownDataset:
    pairs = (part.split("=", 1) for part in row["labels"].split(";"))
    counts = [row["train"], row["val"], row["test"]]
    train, val, test = (int(count or 0) for count in counts)
    return KnownDataset(
        name=row["name"],
        organ=row["organ"],
        labels={int(value): phrase for value, phrase in pairs},
        seen={"yes": True, "no": False}.get(row["seen"]),
        images=int(row["images"]) if row["images"] else None,
        split=(train, val, test) if any(counts) else None,
        homepage=row["homepage"],
        licence=row["licence"] or "not stated",
    )
