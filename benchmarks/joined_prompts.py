"""A person's prompts beside learned ones: Dice by class of every way, and of the way taken.

    python benchmarks/joined_prompts.py DATASET... --work runs/joined --out docs/joined-prompts.md

A prompt predictor learns from ten images; its own cross-validation chooses a way for each class and
kind of prompt (``learning.joining``), and all ways are measured on images of other groups, which
neither of both has seen. Corrections are of the prediction, on its largest error. Every training
and its measurement stay in ``--work`` and are not done again. Exits with 1 where a correction that
the program would make lowers the mean Dice of a class.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_usgseg.io.datasets import read_dataset
from napari_usgseg.learning.joining import LEARNED, means, measure_ways
from napari_usgseg.learning.labelled import choose_items, classes_in, load_items
from napari_usgseg.learning.ppn import PpnSettings, class_dice, cross_validate_ppn
from napari_usgseg.models.ppn.card import WAYS, read_card
from napari_usgseg.models.registry import load_segmenter

TOLERATED = 0.0
ROUNDED = 5e-4


def one(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Train on a data set and measure; by label value."""
    dataset = read_dataset(folder)
    out = given.work / f"{dataset.name}-{given.seed}"
    kept = out / "measured.json"
    if not kept.exists():
        pool, held_out = choose_items(dataset, None, given.held_out, given.seed)
        learnt = dataset.only(item.item_id for item in pool)
        chosen, _ = choose_items(learnt, given.images, 0, given.seed)
        images = load_items(chosen)
        segmenter = load_segmenter("nano")
        settings = PpnSettings.for_images(len(images), given.seed)
        if given.steps:
            settings = replace(settings, steps=given.steps)
        classes = classes_in(dataset, images)
        model = cross_validate_ppn(images, classes, segmenter, out, settings, source=dataset.name)
        unseen = load_items(held_out)
        alone: dict[int, list[float]] = {value: [] for value in classes}
        for image in unseen:
            for value, dice in class_dice(model, image).items():
                if (image.labels == value).any():
                    alone[value].append(dice)
        ways = means([measure_ways(model, image) for image in unseen])
        found = {
            str(value): {
                "class": name,
                "images": len(alone[value]),  # that hold it
                "alone": float(np.mean(alone[value])),
                "ways": ways[str(value)],
            }
            for value, name in classes.items()
            if alone[value]
        }
        kept.write_text(json.dumps(found, indent=1) + "\n")
    return json.loads(kept.read_text())


def main() -> int:
    """Train what is missing, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--held-out", type=int, default=20)
    parser.add_argument("--steps", type=int, help="fewer than a training has, on a slow machine")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    tables: dict[str, list[str]] = {kind: [] for kind in WAYS}
    lowered: list[str] = []
    gains: list[tuple[float, str]] = []
    for folder in given.datasets:
        name = read_dataset(folder).name
        found = one(folder, given)
        card = read_card(given.work / f"{name}-{given.seed}")
        for value, entry in found.items():
            for kind, ways in entry["ways"].items():
                if not any(way in ways for way in WAYS[kind]):
                    continue
                way = card.way(int(value), kind) or ("beside" if kind == "box" else "joined")
                before = ways.get(LEARNED, entry["alone"])
                cells = [f"{ways[w]:.3f}" if w in ways else "-" for w in WAYS[kind]]
                title = f"{name}: {entry['class']}"
                tables[kind].append(
                    f"| {title} | {entry['images']} | {before:.3f} | {' | '.join(cells)} "
                    f"| {way} | {ways[way]:.3f} |"
                )
                if kind == "box":
                    gains.append((ways[way] - ways["plain"], title))
                if kind.startswith("fix") and ways[way] < before - TOLERATED - ROUNDED:
                    lowered.append(f"{title}, {kind}: {before:.3f} to {ways[way]:.3f}")
    lines = [
        "# A person's prompts beside learned ones",
        "",
        f"Made by `python benchmarks/joined_prompts.py`, {given.images} images to learn from, up "
        f"to {given.held_out} others of other groups to measure on, seed {given.seed}, "
        f"{given.steps or 450} steps: mean Dice. "
        "`learned`: without a prompt (of corrections: of the mask that is corrected). `taken`: the "
        "way that the cross-validation of the ten images chose, and what it gives here.",
        "",
    ]
    for kind, rows in tables.items():
        head = f"| class | images | learned | {' | '.join(WAYS[kind])} | taken | Dice |"
        lines += [
            f"## {kind.capitalize()}",
            "",
            head,
            "|---" * (head.count("|") - 1) + "|",
            *rows,
            "",
        ]
    worst = min(gains)
    lines += [
        f"A box beside what was learned: {np.mean([gain for gain, _ in gains]):+.3f} over the box "
        f"alone, mean over classes; the least {worst[0]:+.3f} ({worst[1]}).",
        "",
        "Corrections that lower the mean Dice of a class: " + ("; ".join(lowered) or "none") + ".",
        "",
    ]
    print("\n".join(lines))
    if given.out:
        given.out.write_text("\n".join(lines))
    return int(bool(lowered))


if __name__ == "__main__":
    raise SystemExit(main())
