"""Loops of a phantom: frames of one scene in motion, with the truth on every frame.

A scene wider than the image is drawn once; each frame sees it through a smooth map of its own, and
the scatterers move with the tissue, as speckle does. What no map can imitate, the probe that leaves
its plane, is a slow change of the scatterers themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.types import FloatArray
from .anatomy import ANATOMIES
from .phantom import objects_of, random_scan, random_scanner
from .scene import Scene, b_mode, linear_scan

MOTIONS = ("beat", "breathe", "slide")
"""An object that grows and shrinks; tissue that goes up and down; a probe that moves along."""

MARGIN = 0.5
"""The scene is wider and deeper than the image by this share of the image, on each side."""


@dataclass(frozen=True, slots=True, eq=False)
class PhantomLoop:
    """Frames with their truth.

    Attributes:
        frames: (T, H, W) uint8 grey.
        labels: (T, H, W) uint8, 0 background, else a key of ``names``.
        instances: (T, H, W) uint8, 0 background; an object keeps its number on all frames.
        names: label -> name.
        kind: of the phantom.
        motion: one of ``MOTIONS``.
    """

    frames: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    instances: NDArray[np.uint8]
    names: dict[int, str]
    kind: str
    motion: str


def make_phantom_loop(
    seed: int,
    count: int = 30,
    size_hw: tuple[int, int] = (192, 256),
    kind: str = "cysts-and-vessels",
    motion: str = "beat",
    period: float = 24.0,
) -> PhantomLoop:
    """Make a loop of ``count`` frames.

    Args:
        seed: a non-negative number; the same gives the same loop.
        count: of frames.
        size_hw: (H, W) in pixels, each at least 32.
        kind: one of ``phantom.KINDS``.
        motion: one of ``MOTIONS``. A slide goes half the image's width in ``period`` frames, so
            that objects leave the image and others come.
        period: frames of a beat or a breath.

    Raises:
        ValueError: unknown kind or motion.
    """
    if kind not in ANATOMIES:
        raise ValueError(f"no phantom of kind {kind!r}; choose from {', '.join(ANATOMIES)}")
    if motion not in MOTIONS:
        raise ValueError(f"no motion {motion!r}; choose from {', '.join(MOTIONS)}")
    rng = np.random.default_rng(seed)
    anatomy = ANATOMIES[kind]
    height, width = size_hw
    pad_y, pad_x = round(MARGIN * height), round(MARGIN * width)
    scene = Scene(linear_scan((height + pad_y, width + 2 * pad_x), (0, 0, 0, 0)), rng)
    scan = random_scan(size_hw, anatomy.fan_share, rng)
    window = (slice(0, height), slice(pad_x, pad_x + width))
    while not ((seen := scene.labels[window]) == 1).any() or (seen == 1).mean() > 0.4:
        scene = Scene(scene.scan, rng)
        anatomy.draw(scene)
    labels, instances = objects_of(scene)
    unit = min(size_hw) / 256
    loss, settings = random_scanner(scene, unit)
    shape = scene.labels.shape
    fields = [
        [rng.standard_normal(shape, np.float32) for _ in range(settings["looks"])] for _ in range(2)
    ]
    turn = rng.uniform(0.5, 1.5)  # radians of change out of the plane in one period
    centre = _centre(instances, labels, window)
    wobble = [unit * 5 * scene.noise(60 * unit, 60 * unit) for _ in range(2)]
    amplitude = rng.uniform(0.15, 0.3)
    frames: list[NDArray[np.uint8]] = []
    truths: dict[str, list[NDArray[np.uint8]]] = {"labels": [], "instances": []}
    for index in range(count):
        phase = 2 * np.pi * index / period
        rows, columns = np.mgrid[:height, :width].astype(np.float32)
        columns += pad_x
        if motion == "slide":
            columns += np.float32((index / period - 0.5 * count / period) * width / 2)
        elif motion == "breathe":
            rows += np.float32(amplitude * 0.35 * height * (1 - np.cos(phase)) / 2)
            columns += np.float32(amplitude * 0.1 * width * np.sin(phase))
        else:
            rows, columns = _beat(rows, columns, centre, amplitude * (1 - np.cos(phase)))
        near = np.stack([rows, columns])
        sway = np.float32(np.sin(phase / 2))
        map_yx = near + sway * np.stack([_sample(field, near) for field in wobble])
        angle = turn * np.sin(phase / 4)
        moved = [
            _sample(np.float32(np.cos(angle)) * a + np.float32(np.sin(angle)) * b, map_yx, order=0)
            for a, b in zip(*fields, strict=True)
        ]
        maps = (_sample(values, map_yx) for values in (scene.echo_db, loss, scene.specular))
        frames.append(b_mode(scan, *maps, **settings, rng=rng, scatterers=moved))
        for source, truth in zip((labels, instances), truths.values(), strict=True):
            truth.append(np.where(scan.visible, _sample(source, map_yx, order=0), 0))
    return PhantomLoop(
        np.stack(frames),
        **{name: np.stack(truth).astype(np.uint8) for name, truth in truths.items()},
        names=dict(anatomy.names),
        kind=kind,
        motion=motion,
    )


def _centre(
    instances: NDArray[np.uint8], labels: NDArray[np.uint8], window: tuple[slice, slice]
) -> tuple[float, float, float]:
    """Row, column and radius of the largest object with label 1 that the first frame sees."""
    seen = np.zeros_like(labels, bool)
    seen[window] = labels[window] == 1
    numbers, sizes = np.unique(instances[seen], return_counts=True)
    rows, columns = np.nonzero(instances == numbers[sizes.argmax()])
    return float(rows.mean()), float(columns.mean()), float(np.sqrt(len(rows) / np.pi))


def _beat(
    rows: FloatArray, columns: FloatArray, centre: tuple[float, float, float], squeeze: float
) -> tuple[FloatArray, FloatArray]:
    """Where a frame's pixels come from when the object is ``squeeze`` smaller than at rest."""
    row, column, radius = (np.float32(value) for value in centre)
    down, across = rows - row, columns - column
    falloff = np.exp(-((down**2 + across**2) / (2 * radius) ** 2))
    grown = np.float32(squeeze) * falloff
    return row + down * (1 + grown), column + across * (1 + grown)


def _sample(values: NDArray[Any], map_yx: FloatArray, order: int = 1) -> NDArray[Any]:
    from scipy.ndimage import map_coordinates

    return map_coordinates(values, map_yx, order=order, mode="nearest")
