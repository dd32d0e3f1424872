"""Images that show almost the same thing, so that a split keeps them on one side.

Two images are near duplicates where their average hashes differ in at most 8 of 256 bits: frames
of one video, an image saved twice, the same view with and without callipers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

HASH_SIDE, DUPLICATE_BITS = 16, 8
"""Images whose average hashes differ in at most so many of 256 bits are near duplicates."""

_ROWS_AT_ONCE = 512


def average_hash(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(256,) bits of an image (H, W) or (H, W, 3): which of 16 x 16 means are above their mean."""
    small = Image.fromarray(image).convert("L").resize((HASH_SIDE, HASH_SIDE), Image.Resampling.BOX)
    values = np.asarray(small, np.float32).ravel()
    return values > values.mean()


def join_groups(groups: Sequence[str], hashes: ArrayLike) -> list[str]:
    """The group of each image; groups that share near duplicates become one.

    Args:
        groups: the group of each of N images.
        hashes: (N, 256) bool, of ``average_hash``.

    Returns:
        N names; a joined group has the name that comes first in the alphabet.
    """
    parent = {group: group for group in groups}

    def root(group: str) -> str:
        while parent[group] != group:
            parent[group] = parent[parent[group]]
            group = parent[group]
        return group

    bits = np.asarray(hashes, np.float32).reshape(len(groups), HASH_SIDE**2)
    ones = bits.sum(1)
    for start in range(0, len(groups), _ROWS_AT_ONCE):
        rows = bits[start : start + _ROWS_AT_ONCE]
        differing = ones[start : start + len(rows), None] + ones[None] - 2 * rows @ bits.T
        for row, other in np.argwhere(differing <= DUPLICATE_BITS).tolist():
            if other < start + row:
                first, second = sorted((root(groups[start + row]), root(groups[other])))
                parent[second] = first
    return [root(group) for group in groups]
