"""Progress and plan of a training, as a window shows them."""

from __future__ import annotations

from dataclasses import dataclass

Curve = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """A training that goes on.

    Attributes:
        phase: what is being done, in words: "starting", "reading images", "training", "measuring".
        step: of ``steps``, over all trainings of a cross-validation together; 0 of 0 before it
            is known.
        steps: in all.
        losses: (step, loss), one in ten.
        held_out: (step, mean Dice on images not learnt from).
        images: how many it learns from.
        resumed: it was begun before this window was opened, or was killed meanwhile.
    """

    phase: str = "starting"
    step: int = 0
    steps: int = 0
    losses: Curve = ()
    held_out: Curve = ()
    images: int = 0
    resumed: bool = False


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What a training does other than by default; None are the defaults.

    Attributes:
        steps: optimiser steps of each training.
        views: bent views of each image; 0 none. Of prompt predictors.
        batch: images of a step. Of detectors, as the next.
        image_size: side in pixels of the square that is learnt from.
        seed: of everything random.
    """

    steps: int | None = None
    views: int | None = None
    batch: int | None = None
    image_size: int | None = None
    seed: int = 0


def as_curve(points: list[list[float]]) -> Curve:
    """Points as they come from JSON."""
    return tuple((int(step), float(value)) for step, value in points)


def with_point(curve: Curve, step: int, value: float | None) -> Curve:
    """The curve with one more point, in the place of those that a run before was ahead."""
    if value is None:
        return curve
    return (*(point for point in curve if point[0] < step), (step, float(value)))
