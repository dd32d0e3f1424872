"""Leaving sets or organs out of a training of ``nano``, to choose between trunks by what transfers.

What is left out is measured afterwards: by box, by clicks, and taught from ten of its images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...core.errors import DatasetError
from ...io.datasets import read_dataset

By = Literal["set", "organ"]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One training of the study: the folders that it is kept from, and those that it sees."""

    name: str
    held: tuple[Path, ...]
    kept: tuple[Path, ...]


def leave_out(data: Sequence[Path], by: By = "organ") -> list[LeftOut]:
    """A training for each data set, or for each organ, whose data sets go together.

    Raises:
        DatasetError: there is but one.
    """
    groups: dict[str, list[Path]] = {}
    for folder in data:
        dataset = read_dataset(folder)
        groups.setdefault(dataset.name if by == "set" else dataset.organ, []).append(folder)
    if len(groups) < 2:
        raise DatasetError(data[0], f"is the only {by}: give several, so that one can be left out")
    return [
        LeftOut(name, tuple(held), tuple(folder for folder in data if folder not in held))
        for name, held in groups.items()
    ]
