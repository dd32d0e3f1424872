"""Ultrasound phantoms: images of known truth, for trying, testing and training.

``make_phantom`` draws tissue (``phantoms.anatomy``), scans it (``phantoms.scene``) and knows
where every object is. The same seed, size and kind give the same phantom.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.geometry import components
from ..core.types import FloatArray
from ..io.datasets import DATASET_CARD, write_card, write_pair
from ..io.outputs import OutputFolder
from .anatomy import ANATOMIES
from .organs import ORGANS
from .scene import Scan, Scene, b_mode, fan_scan, linear_scan

KINDS = tuple(ANATOMIES)
"""The kinds of phantom among which a seed draws."""

ALL_KINDS = {**ANATOMIES, **ORGANS}
"""Every kind that can be asked for -> its anatomy."""


@dataclass(frozen=True, slots=True, eq=False)
class Phantom:
    """An image with its truth.

    Attributes:
        image: (H, W, 3) RGB uint8, grey.
        labels: (H, W) uint8, 0 background, else a key of ``names``.
        instances: (H, W) uint8, 0 background, 1.. for each object.
        names: label -> name; the labels of this image are among them.
        phrase: what a sonographer would type for label 1, which is always in the image.
        kind: one of ``ALL_KINDS``.
        visible: (H, W) bool, the sector: where there is an image at all.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    instances: NDArray[np.uint8]
    names: dict[int, str]
    phrase: str
    kind: str
    visible: NDArray[np.bool_]


def make_phantom(
    seed: int, size_hw: tuple[int, int] = (384, 512), kind: str | None = None
) -> Phantom:
    """Make a phantom.

    Args:
        seed: a non-negative number; the same gives the same phantom.
        size_hw: (H, W) in pixels, each at least 32.
        kind: one of ``ALL_KINDS``; None draws one of ``KINDS`` from the seed.

    Raises:
        ValueError: unknown kind, or too small a size.
    """
    if kind is not None and kind not in ALL_KINDS:
        raise ValueError(f"no phantom of kind {kind!r}; choose from {', '.join(ALL_KINDS)}")
    if min(size_hw) < 32:
        raise ValueError(f"a phantom of {size_hw} pixels is too small; each side needs 32")
    rng = np.random.default_rng(seed)
    drawn = KINDS[rng.integers(len(KINDS))]
    kind = drawn if kind is None else kind
    anatomy = ALL_KINDS[kind]
    while True:
        scene = Scene(random_scan(size_hw, anatomy.fan_share, rng), rng)
        anatomy.draw(scene)
        labels, instances = objects_of(scene)
        if (labels == 1).any():  # a target covered by what was drawn later is drawn anew
            image = np.repeat(_image(scene)[..., None], 3, axis=2)
            names = dict(anatomy.names)
            return Phantom(image, labels, instances, names, names[1], kind, scene.scan.visible)


def write_phantom_dataset(
    out: str | Path,
    count: int,
    seed: int,
    kind: str = "breast",
    size_hw: tuple[int, int] = (384, 512),
) -> Path:
    """Write ``count`` phantoms of one kind as a data set in the layout of the protocol.

    Phantom number i has the seed ``seed + i`` and a group of its own.

    Returns:
        The data set's folder.

    Raises:
        LabelWriteError: ``out`` holds files of these names, or cannot be written.
        ValueError: unknown kind, or too small a size.
    """
    out = Path(out)
    folder = OutputFolder(out)
    folder.check(out / DATASET_CARD)
    items = []
    for index in range(count):
        phantom = make_phantom(seed + index, size_hw, kind)
        item_id = f"{kind}-{seed + index:05d}"
        write_pair(out, item_id, phantom.image, phantom.labels, folder.write)
        items.append({"id": item_id, "group": item_id})
    anatomy = ALL_KINDS[kind]
    write_card(
        out,
        folder.write,
        name=f"phantoms-{kind}",
        organ=anatomy.organ,
        target=anatomy.names[1],
        labels=anatomy.names,
        items=items,
    )
    return out


def objects_of(scene: Scene) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Labels and instances with every connected part numbered, and covered remains left out."""
    labels, instances = np.zeros_like(scene.labels), np.zeros_like(scene.instances)
    count = 0
    for number in range(1, int(scene.instances.max()) + 1):
        for part in components(scene.instances == number):
            count += 1
            labels[part], instances[part] = scene.labels[part], count
    return labels, instances


def random_scan(size_hw: tuple[int, int], fan_share: float, rng: np.random.Generator) -> Scan:
    """A random fan, in ``fan_share`` of the draws, or a linear scan of an image (H, W)."""
    if rng.uniform() < fan_share:
        return fan_scan(
            size_hw, rng.uniform(0.45, 0.8), rng.uniform(0.08, 0.45), rng.uniform(1.0, 1.6)
        )
    margins = (0, 0, 0, 0)
    if rng.uniform() < 0.35:
        top, bottom = rng.uniform(0, 0.08, 2) * size_hw[0]
        left, right = rng.uniform(0, 0.12, 2) * size_hw[1]
        margins = (int(top), int(bottom), int(left), int(right))
    return linear_scan(size_hw, margins)


def random_scanner(scene: Scene, unit: float) -> tuple[FloatArray, dict[str, Any]]:
    """Attenuation (H, W) of a scene, and the other settings of ``b_mode``, of a random scanner.

    ``unit`` is what ``Scene.unit`` is, of the image.
    """
    rng = scene.rng
    pulse = rng.uniform(0.55, 1.1) * max(unit, 0.7)
    loss_db = scene.loss_db + np.float32(rng.uniform(-2, 9) / scene.reach)
    return loss_db, {
        "pulse": pulse,
        "beam_width": pulse * rng.uniform(1.2, 2.4),
        "gain_db": rng.uniform(22, 34),
        "noise_db": rng.uniform(-34, -16),
        "looks": int(rng.choice([1, 2, 3, 4])),
    }


def _image(scene: Scene) -> NDArray[np.uint8]:
    loss_db, settings = random_scanner(scene, scene.unit)
    return b_mode(scene.scan, scene.echo_db, loss_db, scene.specular, **settings, rng=scene.rng)
