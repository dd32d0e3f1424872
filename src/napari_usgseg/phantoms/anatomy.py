"""Anatomies: what is drawn into a phantom, a function for each kind of examination."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..core.types import FloatArray
from .scene import Scene, Spot


@dataclass(frozen=True, slots=True)
class Anatomy:
    """A kind of phantom.

    Attributes:
        organ: for the data set's card.
        names: label -> name; the name of label 1 is the phrase that a sonographer would type.
        fan_share: how often it is scanned by a fan instead of a linear probe.
        draw: draws tissue and objects into a scene; at least one object has label 1.
    """

    organ: str
    names: dict[int, str]
    fan_share: float
    draw: Callable[[Scene], None]


def _skin_and_fat(scene: Scene, fat_until: float) -> FloatArray:
    """A bright skin and a dark fat layer with bright septa; returns the border below the fat."""
    unit, reach = scene.unit, scene.reach
    skin = scene.uniform(0.02, 0.05) * reach
    fat = scene.uniform(-11, -5) + 3 * scene.noise(14 * unit, 30 * unit)
    septa = scene.streaks(9 * unit, 45 * unit, 0.12)
    scene.layer(scene.scan.depth + 1, scene.uniform(2, 6))
    scene.layer(scene.depth_line(skin, 1 * unit, 60 * unit), fat + 15 * septa)
    border = scene.depth_line(fat_until * reach, 5 * unit, 60 * unit)
    scene.interface(border, scene.uniform(1, 4), 0.9 * unit, 4)
    return border


def _muscle(scene: Scene, below: FloatArray, slope: float = 0.0) -> None:
    """Dark muscle with bright fibres."""
    unit = scene.unit
    fibres = scene.streaks(scene.uniform(4, 7) * unit, scene.uniform(90, 160) * unit, 0.2, slope)
    texture = scene.uniform(-12, -7) + 3 * scene.noise(20 * unit, 60 * unit)
    scene.layer(below, texture + scene.uniform(11, 17) * fibres, 0.03)


def _cyst(scene: Scene, level: FloatArray, label: int) -> None:
    """Fluid: echo-free, a thin bright wall fore and aft, brighter tissue behind it."""
    scene.label(scene.tissue(level, scene.uniform(-45, -32), -scene.uniform(4, 9)), label)
    scene.interface(level, scene.uniform(1, 4), 0.8 * scene.unit, 6)


def _bone(scene: Scene, spot: Spot, label: int) -> None:
    """A bright, convex surface over a shadow."""
    level = scene.ellipse(spot, rough=0.05)
    inside = scene.tissue(level, -16.0, scene.uniform(35, 55))
    scene.interface(level, scene.uniform(10, 18), 1.4 * scene.unit, 3)
    scene.label(inside, label)


def _spots(scene: Scene, level: FloatArray, count: int, amplitude: float) -> None:
    """Microcalcifications: tiny bright spots inside a shape."""
    rows, columns = np.nonzero(level < -0.25)
    if len(rows) == 0:
        return
    for index in scene.rng.integers(0, len(rows), count):
        row, column = rows[index], columns[index]
        scene.specular[row, max(0, column - 1) : column + 2] += amplitude


def _fringe(scene: Scene, level: FloatArray, spicules: float) -> FloatArray:
    """Make a border angular and spiculated."""
    unit = scene.unit
    return level + np.float32(spicules) * scene.noise(5 * unit, 5 * unit)


def _breast(scene: Scene) -> None:
    unit, reach, uniform = scene.unit, scene.reach, scene.uniform
    gland = _skin_and_fat(scene, uniform(0.1, 0.3))
    texture = uniform(-2, 4) + 4 * scene.noise(12 * unit, 24 * unit)
    lobules = scene.streaks(10 * unit, 30 * unit, 0.25)
    scene.layer(gland, texture + uniform(0, 8) * lobules, 0.02)
    _muscle(scene, scene.depth_line(uniform(0.6, 0.8) * reach, 6 * unit, 70 * unit))
    if uniform(0, 1) < 0.5:
        lung = scene.depth_line(uniform(0.85, 0.95) * reach, 6 * unit, 80 * unit)
        scene.interface(lung, uniform(3, 8), 1.2 * unit, 3)
        scene.layer(lung, -14.0, 0.3)
    for _ in range(scene.rng.integers(1, 5)):  # fat lobules, which are not to be found
        lobule = scene.place(uniform(6, 16) * unit, uniform(14, 34) * unit, (0.15, 0.7))
        if lobule is not None:
            level = scene.ellipse(lobule, uniform(-0.2, 0.2), 0.08)
            scene.tissue(level, uniform(-9, -5) + 2 * scene.noise(8 * unit, 16 * unit), edge=3)
            scene.interface(level, uniform(0.5, 2), unit, 3)
            scene.placed.remove(lobule)
    for number in range(scene.rng.choice([1, 1, 1, 2, 3])):
        flat, size = uniform(0.4, 1.1), uniform(12, 60) / (1 + 0.4 * number)
        spot = scene.place_surely(flat * size * unit, size * unit, (0.12, 0.85))
        malignant = uniform(0, 1) < 0.5
        level = scene.ellipse(spot, uniform(-0.4, 0.4), 0.11 if malignant else 0.05)
        echo = uniform(-17, -9) + uniform(1, 4) * scene.noise(size * unit / 3, size * unit / 2)
        if malignant:
            level = _fringe(scene, level, uniform(0.03, 0.1))
            scene.tissue(level - 0.12, scene.echo_db + 4, edge=4)  # the echogenic halo
            scene.label(scene.tissue(level, echo, uniform(0, 14), 1.5), 1)
            _spots(scene, level, int(scene.rng.integers(0, 6)), uniform(4, 9))
        else:
            scene.label(scene.tissue(level, echo, -uniform(0, 6)), 1)
            scene.interface(level, uniform(0.5, 3), 0.8 * unit, 4)
    for _ in range(scene.rng.choice([0, 0, 1, 2, 3])):
        size = uniform(6, 20) * unit
        if (free := scene.place(size * uniform(0.6, 1), size, (0.12, 0.85))) is not None:
            _cyst(scene, scene.ellipse(free, uniform(-0.3, 0.3), 0.03), 2)
    if uniform(0, 1) < 0.3:
        ribs = (uniform(7, 12) * unit, uniform(16, 26) * unit)
        if (free := scene.place(*ribs, (0.6, 0.95), casts_shadow=True)) is not None:
            _bone(scene, free, 3)


def _thyroid(scene: Scene) -> None:
    unit, reach, uniform = scene.unit, scene.reach, scene.uniform
    strap = _skin_and_fat(scene, uniform(0.06, 0.16))
    _muscle(scene, strap)
    height, width = scene.scan.visible.shape
    side = uniform(-0.15, 0.15) * width
    lobe = (
        uniform(0.42, 0.55) * height,
        width / 2 + side,
        uniform(0.2, 0.34) * height,
        uniform(0.3, 0.5) * width,
    )
    gland = scene.ellipse(lobe, uniform(-0.25, 0.25), 0.1, 1.0)
    texture = uniform(-1, 4) + 1.5 * scene.noise(6 * unit, 8 * unit)
    inside = scene.tissue(gland, texture)
    scene.interface(gland, uniform(0.5, 3), unit, 3)
    scene.label(inside, 3)
    vessel = uniform(11, 18) * unit
    column = lobe[1] + np.sign(side + 1e-9) * (lobe[3] + vessel * 0.8)
    artery = (lobe[0] + uniform(-0.1, 0.2) * height, column, vessel, vessel * uniform(0.9, 1.2))
    if vessel < column < width - vessel:
        scene.placed.append(artery)
        _vessel(scene, scene.ellipse(artery, 0.0, 0.02), 2)
    for number in range(scene.rng.choice([1, 1, 2, 3])):
        size = uniform(10, 48) * unit / (1 + 0.4 * number)
        spot = scene.place_surely(uniform(0.6, 1.2) * size, size, within=gland < 0)
        level = scene.ellipse(spot, uniform(-0.3, 0.3), uniform(0.03, 0.09))
        kind = scene.rng.choice(["hypo", "iso", "mixed"])
        if kind == "iso":  # known by its dark halo
            scene.tissue(level - 0.12, uniform(-12, -7), edge=1.5)
            echo = uniform(-1, 5) + 2 * scene.noise(size / 3, size / 3)
        else:
            echo = uniform(-12, -6) + 2 * scene.noise(size / 3, size / 3)
        if kind == "mixed":
            echo = np.where(scene.noise(size / 2, size / 2) > 0.6, np.float32(-34), echo)
        scene.label(scene.tissue(level, echo, uniform(-3, 6), 1.5), 1)
        if uniform(0, 1) < 0.4:
            _spots(scene, level, int(scene.rng.integers(2, 10)), uniform(5, 10))
    if uniform(0, 1) < 0.35 and lobe[0] < 0.6 * height:
        spine = scene.depth_line(uniform(0.9, 0.97) * reach, 5 * unit, 50 * unit)
        scene.interface(spine, uniform(4, 9), 1.3 * unit, 3)
        scene.layer(spine, -18.0, 0.5)


def _vessel(scene: Scene, level: FloatArray, label: int) -> None:
    """Blood: nearly echo-free between bright walls."""
    scene.label(scene.tissue(level, scene.uniform(-34, -22), -scene.uniform(1, 5)), label)
    scene.interface(level, scene.uniform(2, 7), 1.0 * scene.unit, 3)


def _fetal_head(scene: Scene) -> None:
    unit, reach, uniform = scene.unit, scene.reach, scene.uniform
    _skin_and_fat(scene, uniform(0.08, 0.2))
    wall = scene.depth_line(uniform(0.12, 0.25) * reach, 6 * unit, 80 * unit)
    bands = scene.streaks(12 * unit, 60 * unit, 0.3)
    scene.layer(wall, uniform(-8, 2) + 4 * scene.noise(25 * unit, 40 * unit) + 6 * bands)
    fluid = scene.noise(40 * unit, 60 * unit) + np.float32(0.2) * scene.noise(15 * unit, 20 * unit)
    fluid = np.where(wall > 8 * unit, fluid + np.float32(uniform(-0.2, 1.2)), np.float32(1))
    scene.tissue(fluid, -34.0, -2.0, 2)
    size = uniform(40, 110) * unit
    spot = scene.place_surely(size * uniform(0.72, 0.85), size, (0.1, 0.98))
    tilt = uniform(-0.45, 0.45)
    head = scene.ellipse(spot, tilt, 0.008)
    brain = uniform(-22, -13) + 3 * scene.noise(14 * unit, 20 * unit)
    folds = scene.streaks(0.14 * size, 0.3 * size, 0.12)
    scene.tissue(head - 0.06, -10.0, 0, 2)
    inside = scene.tissue(head, brain + uniform(6, 14) * folds * (head < -0.25), uniform(0, 8), 2)
    skull = uniform(7, 16)
    thickness = uniform(1.4, 3.0) * unit * max(0.8, size / unit / 65)
    scene.interface(head + 0.02, skull, thickness, uniform(2, 6))
    scene.interface(head + 0.02, skull * uniform(0.03, 0.15), thickness, 0)
    axis = np.array([np.sin(tilt), np.cos(tilt)]) * spot[3]
    midline = scene.tube(np.array(spot[:2]) + np.array([[-0.75], [0.75]]) * axis, 1.2 * unit)
    broken = np.clip(scene.noise(12 * unit, 18 * unit) + 0.4, 0, 1)
    scene.specular += uniform(1, 4) * np.exp(-0.5 * np.clip(midline, 0, None) ** 2) * broken
    plexus = (
        spot[0] + uniform(-0.4, 0.4) * spot[2],
        spot[1] + uniform(-0.5, 0.5) * size,
        uniform(0.08, 0.16) * size,
        uniform(0.12, 0.25) * size,
    )
    scene.tissue(scene.ellipse(plexus, uniform(-1, 1), 0.1), uniform(-3, 5), edge=3)
    scene.label(inside | (head < 0.03), 1)
    if uniform(0, 1) < 0.4:
        length, slope = uniform(14, 30) * unit, uniform(-0.5, 0.5)
        free = scene.place(length * 0.5, length, (0.2, 0.95), casts_shadow=True)
        if free is not None:
            reach_yx = np.array([np.sin(slope), np.cos(slope)]) * length
            ends = np.array(free[:2]) + np.array([[-1.0], [1.0]]) * reach_yx
            femur = scene.tube(ends, uniform(2.5, 4) * unit)
            scene.label(scene.tissue(femur, uniform(8, 14), uniform(12, 22)), 2)
            scene.interface(femur, uniform(6, 12), 1.2 * unit, 2)


def _cysts_and_vessels(scene: Scene) -> None:
    unit, reach, uniform = scene.unit, scene.reach, scene.uniform
    liver = _skin_and_fat(scene, uniform(0.05, 0.14))
    scene.layer(liver, uniform(-4, 3) + 1.5 * scene.noise(16 * unit, 22 * unit))
    if uniform(0, 1) < 0.4:
        diaphragm = scene.depth_line(uniform(0.8, 0.92) * reach, 14 * unit, 90 * unit)
        scene.interface(diaphragm, uniform(5, 12), 1.6 * unit, 2)
        scene.layer(diaphragm, -8.0, 0.15)
    height, width = scene.scan.visible.shape
    tree = np.full((height, width), np.inf, np.float32)
    for _ in range(scene.rng.integers(1, 4)):
        start = np.array([uniform(0.25, 0.85) * height, uniform(-0.05, 0.6) * width])
        heading = uniform(-0.7, 0.7)
        steps = uniform(0.08, 0.16) * width
        turns = heading + np.cumsum(scene.rng.normal(0, 0.18, 6))
        path = np.stack([np.sin(turns), np.cos(turns)], axis=1) * steps
        course = np.vstack([start, start + np.cumsum(path, axis=0)])
        tree = np.minimum(tree, scene.tube(course, uniform(3, 9) * unit))
    _vessel(scene, tree + np.float32(0.1) * scene.noise(10 * unit, 10 * unit), 2)
    for number in range(scene.rng.choice([1, 2, 2, 3, 4])):
        size = uniform(7, 36) * unit / (1 + 0.25 * number)
        spot = scene.place_surely(size * uniform(0.7, 1.1), size, (0.14, 0.9))
        _cyst(scene, scene.ellipse(spot, uniform(-0.4, 0.4), uniform(0.0, 0.06)), 1)
    for _ in range(scene.rng.choice([0, 1, 1, 2])):
        size = uniform(7, 24) * unit
        if (free := scene.place(size * uniform(0.7, 1), size, (0.14, 0.9))) is not None:
            level = scene.ellipse(free, uniform(-0.4, 0.4), 0.08)
            bright = uniform(5, 9) if uniform(0, 1) < 0.5 else -uniform(6, 11)
            texture = 2 * scene.noise(size / 3, size / 3)
            scene.label(scene.tissue(level, bright + texture, uniform(-2, 4), 1.5), 3)
    if uniform(0, 1) < 0.35:
        rib = (uniform(6, 10) * unit, uniform(14, 22) * unit)
        if (free := scene.place(*rib, (0.08, 0.5), casts_shadow=True)) is not None:
            _bone(scene, free, 4)


def _nerve(scene: Scene) -> None:
    unit, reach, uniform = scene.unit, scene.reach, scene.uniform
    fascia = _skin_and_fat(scene, uniform(0.08, 0.25))
    _muscle(scene, fascia, uniform(-0.2, 0.2))
    for _ in range(scene.rng.integers(1, 4)):
        sheet = scene.depth_line(uniform(0.3, 0.8) * reach, 8 * unit, 70 * unit)
        scene.interface(sheet, uniform(3, 9), 1.2 * unit, 3)
    if uniform(0, 1) < 0.4:
        bone = scene.depth_line(uniform(0.75, 0.95) * reach, 12 * unit, 60 * unit)
        scene.interface(bone, uniform(6, 14), 1.6 * unit, 2)
        scene.layer(bone, -20.0, 1.0)
    for _ in range(scene.rng.choice([1, 1, 2])):
        size = uniform(9, 26) * unit
        spot = scene.place_surely(size * uniform(0.45, 0.9), size, (0.15, 0.75))
        level = scene.ellipse(spot, uniform(-0.4, 0.4), 0.06)
        bundle = scene.noise(4.5 * unit, 5.5 * unit)
        echo = np.where(bundle > 0.1, np.float32(uniform(-12, -6)), np.float32(uniform(0, 5)))
        scene.label(scene.tissue(level, echo, edge=1.5), 1)
        scene.interface(level, uniform(2, 6), 1.2 * unit, 1)
    for _ in range(scene.rng.choice([0, 1, 1, 2, 3])):
        size = uniform(5, 14) * unit
        if (free := scene.place(size * uniform(0.6, 1), size, (0.15, 0.75))) is not None:
            _vessel(scene, scene.ellipse(free, 0.0, 0.04), 2)


ANATOMIES = {
    "breast": Anatomy("breast", {1: "breast tumor", 2: "cyst", 3: "rib"}, 0.1, _breast),
    "thyroid": Anatomy(
        "thyroid", {1: "thyroid nodule", 2: "carotid artery", 3: "thyroid gland"}, 0.05, _thyroid
    ),
    "fetal-head": Anatomy("fetus", {1: "fetal head", 2: "femur"}, 0.85, _fetal_head),
    "cysts-and-vessels": Anatomy(
        "liver", {1: "cyst", 2: "vessel", 3: "lesion", 4: "bone"}, 0.6, _cysts_and_vessels
    ),
    "nerve": Anatomy("peripheral nerves", {1: "nerve", 2: "blood vessel"}, 0.05, _nerve),
}
"""Kind of phantom -> its anatomy."""
