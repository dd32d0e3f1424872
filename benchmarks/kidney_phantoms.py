"""Phantoms of an organ that no embedded detector has seen: a kidney, often with a faint mass.

    python benchmarks/kidney_phantoms.py OUT [--count 120]

Writes a data set to OUT/kidney-phantoms and its split (two thirds training, one third test) to
OUT/splits.json. The kidney differs little from the liver around it; the mass differs little from
the kidney, is small, and is missing in three of ten images. ``io.phantoms`` has no such kind on
purpose: what training has seen says nothing about a new organ.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from napari_usgseg.phantoms.anatomy import ANATOMIES, Anatomy
from napari_usgseg.phantoms.phantom import write_phantom_dataset
from napari_usgseg.phantoms.scene import Scene

NAME = "kidney-phantoms"


def draw_kidney(scene: Scene) -> None:
    """Liver, in it a kidney with a bright sinus, in that perhaps a mass."""
    unit, uniform = scene.unit, scene.uniform
    skin = scene.depth_line(uniform(0.04, 0.12) * scene.reach, 4 * unit, 60 * unit)
    scene.layer(scene.scan.depth + 1, uniform(-8, 2))
    scene.layer(skin, uniform(-3, 3) + 2 * scene.noise(16 * unit, 22 * unit))
    size = uniform(45, 80) * unit
    spot = scene.place_surely(size * uniform(0.45, 0.6), size, (0.2, 0.9))
    tilt = uniform(-0.4, 0.4)
    kidney = scene.ellipse(spot, tilt, 0.05)
    contrast = uniform(3, 6)
    inside = scene.tissue(kidney, uniform(-3, 3) - contrast + scene.noise(9 * unit, 9 * unit), 0, 2)
    scene.interface(kidney, uniform(0.5, 2.5), unit, 4)
    scene.label(inside, 1)
    sinus = (spot[0], spot[1] + uniform(-0.15, 0.15) * size, 0.4 * spot[2], 0.5 * spot[3])
    scene.tissue(scene.ellipse(sinus, tilt, 0.15), uniform(2, 7), edge=3)
    if uniform(0, 1) < 0.7:
        radius = uniform(8, 16) * unit
        scene.placed.clear()
        place = scene.place(radius * uniform(0.8, 1), radius, (0.1, 0.95), within=kidney < 0)
        if place is not None:
            mass = scene.ellipse(place, uniform(-0.3, 0.3), 0.06)
            scene.label(scene.tissue(mass, -contrast - uniform(5, 9), uniform(-2, 3), 1.5), 2)


def main() -> None:
    """Write the data set and its split."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=120)
    parser.add_argument("--seed", type=int, default=7000)
    arguments = parser.parse_args()
    ANATOMIES["kidney"] = Anatomy("kidney", {1: "kidney", 2: "renal mass"}, 0.7, draw_kidney)
    folder = arguments.out / NAME
    write_phantom_dataset(folder, arguments.count, arguments.seed, "kidney")
    card = json.loads((folder / "dataset.json").read_text())
    card["name"] = NAME
    (folder / "dataset.json").write_text(json.dumps(card, indent=1) + "\n")
    ids = [item["id"] for item in card["items"]]
    test = arguments.count // 3
    split = {"train": ids[test:], "val": [], "test": ids[:test]}
    content = {"schema": 1, "seed": 0, "datasets": {NAME: split}}
    (arguments.out / "splits.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
