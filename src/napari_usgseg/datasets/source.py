"""One image of a public data set as it lies in its original folder, and how it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""(H, W, 3) RGB uint8 and its label map (H, W)."""


@dataclass(frozen=True, slots=True)
class SourceItem:
    """One image with what is marked on it.

    Attributes:
        item_id: a file name without suffix.
        group: patient, video or case; the id itself where none is known.
        source: the image's file, from the data set's folder on.
        read: reads pixels and label map; raises ``FileError`` where a file cannot be used.
        finding: "benign", "malignant", "normal", or None.
        side: "train", "val" or "test" where the data set comes with a split of its own.
    """

    item_id: str
    group: str
    source: str
    read: Callable[[], Pair]
    finding: str | None = None
    side: str | None = None


class Layout(Protocol):
    """How a data set lies in its folder."""

    @property
    def words(self) -> str:
        """What is expected, for a person who looks at an empty result."""
        ...

    @property
    def known_from(self) -> str:
        """Where this layout was learned; "" where it is a guess."""
        ...

    def items(self, folder: Path) -> Iterator[SourceItem | Exception]:
        """All images in the order of their names; an error stands for a file that cannot be used.

        Args:
            folder: that was downloaded and unpacked.
        """
        ...


def files_in(folder: Path) -> list[str]:
    """All files below a folder as relative POSIX paths, in their natural order; hidden ones not."""
    import re

    def key(name: str) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]

    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    kept = (name.as_posix() for name in names if not any(p.startswith((".", "__")) for p in name.parts))
    return sorted(kept, key=key)
