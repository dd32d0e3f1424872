"""Reach of a propagation: how many frames from a keyframe it goes, and which way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Direction(StrEnum):
    """Which way from a keyframe."""

    BOTH = "both"
    FORWARD = "forward"
    BACKWARD = "backward"


@dataclass(frozen=True, slots=True)
class Reach:
    """Reach of a propagation: how far from the keyframes, and which way.

    Attributes:
        most: frames from a keyframe; None is as many as there are.
        direction: to those after it, before it, or both.
    """

    most: int | None = None
    direction: Direction = Direction.BOTH

    def frames(self, keys: Iterable[int], count: int) -> set[int]:
        """The frames of a loop of so many that are within reach of its keyframes, these too."""
        ends = sorted(keys)
        if self.most is None:  # what is behind the last of them is behind all
            ends = [ends[-1 if self.direction is Direction.BACKWARD else 0]] if ends else []
        most = count if self.most is None else self.most
        ahead = 0 if self.direction is Direction.BACKWARD else most
        behind = 0 if self.direction is Direction.FORWARD else most
        spans = (range(max(key - behind, 0), min(key + ahead + 1, count)) for key in ends)
        return {frame for span in spans for frame in span}


EVERYWHERE = Reach()
"""To all frames."""
