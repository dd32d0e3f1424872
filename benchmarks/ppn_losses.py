"""Which losses teach a prompt predictor most from ten images? Dice on validation sides.

    python benchmarks/ppn_losses.py DATASET... --split benchmarks/splits.json \
        --work runs/ppn-losses --out docs/ppn-losses.md [--seeds 0 1] [--images 10]

Every training leaves its score in ``--work`` and is not done again. Test sides are not looked at.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import mean

from napari_usgseg.io.datasets import read_dataset, read_splits
from napari_usgseg.learning.labelled import choose_items, classes_in, load_items
from napari_usgseg.learning.ppn import PpnSettings, PpnTraining, mean_dice, train_ppn
from napari_usgseg.models.registry import load_segmenter

LOSSES: dict[str, Callable[[PpnTraining], PpnTraining]] = {
    "paper": PpnTraining.with_paper_losses,
    "paper, Dice, cross-entropy": lambda how: replace(how, mask_weight=10.0, entropy_weight=1.0),
    "Dice, cross-entropy": lambda how: replace(how, mask_weight=0.0, entropy_weight=1.0),
    "Dice, 3 x cross-entropy": lambda how: replace(how, mask_weight=0.0, entropy_weight=3.0),
}
"""Beside each: box and object losses, as in the paper."""


def one(name: str, folder: Path, seed: int, given: argparse.Namespace) -> float:
    """Train with some losses and measure on the validation side."""
    dataset = read_dataset(folder)
    out = given.work / name.replace(" ", "-").replace(",", "") / f"{dataset.name}-{seed}"
    score = out / "score.json"
    if not score.exists():
        split = read_splits(given.split)[dataset.name]
        chosen, _ = choose_items(dataset.only(split.train), given.images, 0, seed)
        images = load_items(chosen)
        settings = PpnSettings.for_images(len(images), seed=seed)
        settings = replace(settings, task=LOSSES[name](settings.task))
        model = train_ppn(
            images,
            classes_in(dataset, images),
            load_segmenter("nano"),
            out,
            settings,
            resume=True,
        )
        dice = mean_dice(model, load_items(dataset.only(split.val).items))
        score.write_text(json.dumps({"dice": dice}) + "\n")
        print(f"{name}, {dataset.name}, seed {seed}: {dice:.3f}", flush=True)
    return float(json.loads(score.read_text())["dice"])


def main() -> None:
    """Train what is missing, write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--split", type=Path, default=Path("benchmarks/splits.json"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("docs/ppn-losses.md"))
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    given = parser.parse_args()
    names = [read_dataset(folder).name for folder in given.datasets]
    lines = [
        "# Prompt predictor: losses",
        "",
        f"Made by `benchmarks/ppn_losses.py`: Dice on the validation sides after training on "
        f"{given.images} images, mean of seeds {', '.join(map(str, given.seeds))}. The paper's: "
        "focal x 10 on mask prompt and mask, box, object score.",
        "",
        f"| losses of the masks | {' | '.join(names)} | mean |",
        f"|---|{'---|' * len(names)}---|",
    ]
    for name in LOSSES:
        cells = [
            mean(one(name, folder, seed, given) for seed in given.seeds)
            for folder in given.datasets
        ]
        figures = " | ".join(f"{value:.3f}" for value in [*cells, mean(cells)])
        lines.append(f"| {name} | {figures} |")
        given.out.write_text("\n".join([*lines, ""]))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
