"""Training, validation and test sides in the paper's proportions; no group is on two of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from ..io.datasets import Split

EXTRA_SPLIT = (70, 20, 10)
"""Shares of training, validation and test without counts: the paper's scripts' own."""


def split_like(
    name: str,
    ids: Sequence[str],
    groups: Sequence[str],
    counts: tuple[int, int, int] | None,
    seed: int = 0,
) -> Split:
    """Split ``ids`` into as many as ``counts`` says, or by its shares where the total differs.

    Groups are ordered by a hash of seed, data set and group; each goes to the test side, else to
    the validation side, if that does not get more than its number by it, else to training. So the
    numbers are met exactly where groups are single images, and nearly where they are not; a side
    that would stay empty takes the smallest group where there are three or more.

    Args:
        name: of the data set.
        ids: N item ids.
        groups: N names: patient, case or video.
        counts: (train, val, test) of the paper; None: ``EXTRA_SPLIT``.
        seed: of the order.
    """

    def rank(group: str) -> str:
        return hashlib.sha256(f"{seed}/{name}/{group}".encode()).hexdigest()

    members: dict[str, list[str]] = {}
    for item, group in zip(ids, groups, strict=True):
        members.setdefault(group, []).append(item)
    wanted = _wanted(len(ids), counts or EXTRA_SPLIT)
    sides: dict[str, list[str]] = {"test": [], "val": [], "train": []}
    left = sorted(members, key=rank)
    for side, number in (("test", wanted[2]), ("val", wanted[1])):
        taken = []
        for group in left:
            if len(sides[side]) + len(members[group]) <= number:
                sides[side] += members[group]
                taken.append(group)
        if number and not taken and len(left) >= 3:
            taken = [min(left, key=lambda group: (len(members[group]), rank(group)))]
            sides[side] += members[taken[0]]
        left = [group for group in left if group not in set(taken)]
    for group in left:
        sides["train" if wanted[0] else "test"] += members[group]
    return Split(*(tuple(sorted(sides[side])) for side in ("train", "val", "test")))


def _wanted(total: int, counts: tuple[int, int, int]) -> tuple[int, int, int]:
    whole = sum(counts)
    if whole == total:
        return counts
    val, test = (round(total * count / whole) for count in counts[1:])
    return total - val - test, val, test
