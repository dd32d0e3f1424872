"""Organs and thin bright lines of which there is no data to train on, as further anatomies.

They are drawn where they are asked for by name only: what a seed alone draws stays what it was.
"""

from __future__ import annotations

import numpy as np

from ..core.types import FloatArray
from .anatomy import Anatomy, _cyst, _muscle, _skin_and_fat, _vessel
from .scene import Scene


def _line(scene: Scene, level: FloatArray, label: int, amplitude: float, width: float) -> None:
    """A thin bright line along level 0 of a map in pixels, and its band as an object."""
    scene.interface(level, amplitude, 0.6 * width, scene.uniform(1, 3))
    scene.label(np.abs(level) < max(1.0, width), label)


def _bone_surface(scene: Scene) -> None:
    """Muscle between bright fasciae over a bone: its surface is a thin line with a shadow."""
    unit, reach, uniform = scene.unit, scene.reach, scene.uniform
    _muscle(scene, _skin_and_fat(scene, uniform(0.06, 0.2)), uniform(-0.2, 0.2))
    width = scene.scan.visible.shape[1]
    columns = np.arange(width, dtype=np.float32)[None] - np.float32(uniform(0.2, 0.8) * width)
    bend = np.float32(uniform(-0.25, 0.25)) * columns
    bend = bend + np.float32(uniform(0, 1.2) / width) * columns**2
    bone = scene.depth_line(uniform(0.4, 0.75) * reach, uniform(1, 5) * unit, 60 * unit) - bend
    behind = bone > 0
    ends = np.abs(columns) < uniform(0.2, 0.7) * width
    scene.echo_db = np.where(behind & ends, np.float32(-18), scene.echo_db)
    scene.loss_db = np.where(behind & ends, np.float32(uniform(0.6, 1.5)), scene.loss_db)
    for _ in range(scene.rng.integers(1, 4)):
        fascia = scene.depth_line(uniform(0.22, 0.6) * reach, 6 * unit, 80 * unit)
        _line(scene, np.where(behind, np.float32(99), fascia), 2, uniform(3, 9), 1.6 * unit)
    surface = np.where(ends, bone, np.float32(99))
    _line(scene, surface, 1, uniform(8, 18), uniform(1.4, 3.2) * unit)


def _kidney(scene: Scene) -> None:
    """A kidney, a dark cortex around a bright sinus, beside liver."""
    unit, reach, uniform = scene.unit, scene.reach, scene.uniform
    below = _skin_and_fat(scene, uniform(0.05, 0.15))
    scene.layer(below, uniform(-3, 3) + 1.5 * scene.noise(14 * unit, 20 * unit))
    size = uniform(35, 80) * unit
    spot = scene.place_surely(size * uniform(0.4, 0.6), size, (0.2, 0.95))
    tilt = uniform(-0.6, 0.6)
    level = scene.ellipse(spot, tilt, 0.04)
    scene.label(scene.tissue(level, uniform(-9, -4) + scene.noise(6 * unit, 8 * unit), 1.0), 1)
    scene.interface(level, uniform(2, 6), 1.2 * unit, 2)
    pyramids = np.clip(scene.noise(0.2 * size, 0.2 * size) - 0.4, 0, 1) * (level < -0.2)
    scene.echo_db = scene.echo_db - np.float32(uniform(3, 7)) * pyramids
    sinus = (spot[0], spot[1], spot[2] * uniform(0.3, 0.5), spot[3] * uniform(0.45, 0.65))
    scene.tissue(scene.ellipse(sinus, tilt, 0.15), uniform(3, 8) + scene.noise(unit * 4, unit * 6))
    if uniform(0, 1) < 0.3:
        calyx = (spot[0], spot[1], spot[2] * 0.15, spot[3] * uniform(0.2, 0.4))
        scene.tissue(scene.ellipse(calyx, tilt, 0.2), -32.0, -2.0)
    diaphragm = scene.depth_line(uniform(0.9, 0.98) * reach, 10 * unit, 90 * unit)
    scene.interface(diaphragm, uniform(4, 9), 1.4 * unit, 2)


def _liver(scene: Scene) -> None:
    """Liver up to the diaphragm, with vessels and, often, a gallbladder in it."""
    unit, reach, uniform = scene.unit, scene.reach, scene.uniform
    top = _skin_and_fat(scene, uniform(0.06, 0.18))
    scene.layer(top, uniform(-10, -6) + 3 * scene.noise(20 * unit, 40 * unit))
    height, width = scene.scan.visible.shape
    spot = (uniform(0.4, 0.6) * height, uniform(0.2, 0.8) * width)
    organ = scene.ellipse((*spot, uniform(0.3, 0.5) * height, uniform(0.4, 0.7) * width), 0.2, 0.04)
    organ = np.maximum(organ, -top / np.float32(reach))
    scene.label(scene.tissue(organ, uniform(-3, 3) + 1.5 * scene.noise(8 * unit, 10 * unit)), 1)
    scene.interface(organ, uniform(2, 7), 1.3 * unit, 2)
    for _ in range(scene.rng.integers(1, 4)):
        start = np.array(spot) + scene.rng.uniform(-0.2, 0.2, 2) * [height, width]
        turns = uniform(-3, 3) + np.cumsum(scene.rng.normal(0, 0.2, 5))
        path = np.stack([np.sin(turns), np.cos(turns)], axis=1) * uniform(0.05, 0.1) * width
        vessel = scene.tube(np.vstack([start, start + np.cumsum(path, 0)]), uniform(3, 8) * unit)
        _vessel(scene, np.where(organ < 0, vessel, np.float32(9)), 2)
    if uniform(0, 1) < 0.5:
        size = uniform(14, 34) * unit
        free = scene.place_surely(size * uniform(0.4, 0.7), size, within=organ < 0)
        _cyst(scene, scene.ellipse(free, uniform(-0.6, 0.6), 0.03), 3)


def _pelvis(scene: Scene) -> None:
    """A full bladder, and a prostate below it."""
    unit, uniform = scene.unit, scene.uniform
    wall = _skin_and_fat(scene, uniform(0.08, 0.2))
    scene.layer(wall, uniform(-4, 3) + 4 * scene.noise(20 * unit, 35 * unit))
    height, width = scene.scan.visible.shape
    middle, size = uniform(0.35, 0.65) * width, uniform(18, 40) * unit
    row = uniform(0.62, 0.75) * height
    gland = (row, middle, size * uniform(0.55, 0.85), size)
    level = scene.ellipse(gland, uniform(-0.15, 0.15), 0.04)
    scene.label(scene.tissue(level, uniform(-6, -1) + 2 * scene.noise(7 * unit, 9 * unit), 2), 1)
    scene.interface(level, uniform(1, 5), 1.1 * unit, 2)
    inner = (row, middle, gland[2] * 0.5, size * 0.5)
    scene.tissue(scene.ellipse(inner, 0.0, 0.1), uniform(-10, 1), edge=3)
    room = row - gland[2] - 0.2 * height
    tall = max(6 * unit, uniform(0.3, 0.5) * room)
    bladder = (row - gland[2] - tall * 1.05, middle, tall, size * uniform(0.9, 1.8))
    _cyst(scene, scene.ellipse(bladder, 0.0, 0.05), 2)


def _carotid(scene: Scene) -> None:
    """A carotid artery, across or along, beside a flatter jugular vein."""
    unit, reach, uniform = scene.unit, scene.reach, scene.uniform
    _muscle(scene, _skin_and_fat(scene, uniform(0.06, 0.15)))
    height, width = scene.scan.visible.shape
    if uniform(0, 1) < 0.5:  # along
        course = np.array([[uniform(0.4, 0.65) * height, -9.0], [0, width + 9.0]])
        course[1, 0] = course[0, 0] + uniform(-0.12, 0.12) * height
        level = scene.tube(course, uniform(8, 18) * unit)
        _vessel(scene, level + np.float32(0.05) * scene.noise(9 * unit, 40 * unit), 1)
        wall = scene.depth_line(uniform(0.85, 0.95) * reach, 4 * unit, 60 * unit)
        scene.interface(wall, uniform(3, 7), 1.2 * unit, 2)
        return
    size = uniform(9, 20) * unit
    row, column = uniform(0.35, 0.65) * height, uniform(0.3, 0.7) * width
    side = float(scene.rng.choice([-1, 1]))
    vein = (row - 0.6 * size, column + side * 2.4 * size, size * uniform(0.4, 1), size * 1.3)
    _vessel(scene, scene.ellipse(vein, uniform(-0.3, 0.3), 0.04), 2)
    _vessel(scene, scene.ellipse((row, column, size, size * uniform(0.95, 1.1)), 0.0, 0.02), 1)


def _back(scene: Scene) -> None:
    """Paraspinal muscle between its fasciae, over a lamina of the spine."""
    unit, reach, uniform = scene.unit, scene.reach, scene.uniform
    top = _skin_and_fat(scene, uniform(0.1, 0.25))
    _muscle(scene, top)
    height, width = scene.scan.visible.shape
    size = uniform(35, 65) * unit
    spot = (uniform(0.45, 0.55) * height, uniform(0.35, 0.65) * width)
    level = scene.ellipse((*spot, size * uniform(0.5, 0.75), size), uniform(-0.2, 0.2), 0.05)
    fibres = scene.streaks(5 * unit, 60 * unit, 0.2)
    scene.label(scene.tissue(level, uniform(-12, -6) + uniform(8, 14) * fibres, edge=2), 1)
    scene.interface(level, uniform(4, 9), 1.3 * unit, 1)
    bone = scene.depth_line(uniform(0.82, 0.92) * reach, 8 * unit, 45 * unit)
    scene.layer(bone, -18.0, 1.0)
    _line(scene, bone, 2, uniform(8, 15), uniform(1.4, 2.6) * unit)


ORGANS = {
    "bone-surface": Anatomy("bone", {1: "bone surface", 2: "fascia"}, 0.1, _bone_surface),
    "kidney": Anatomy("kidney", {1: "kidney"}, 0.8, _kidney),
    "liver": Anatomy("liver", {1: "liver", 2: "blood vessel", 3: "gallbladder"}, 0.8, _liver),
    "pelvis": Anatomy("pelvis", {1: "prostate", 2: "urinary bladder"}, 0.7, _pelvis),
    "carotid": Anatomy("neck", {1: "carotid artery", 2: "jugular vein"}, 0.05, _carotid),
    "back": Anatomy("back", {1: "paraspinal muscle", 2: "bone surface"}, 0.3, _back),
}
"""Kind of phantom -> its anatomy."""
