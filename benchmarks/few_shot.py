"""What is learned from 1, 3, 5 and 10 images: light head, prompt predictor, PerSAM, Matcher.

    python benchmarks/few_shot.py DATASET... --out docs/few-shot.md

Each line is of one draw: images to learn from, and up to 80 others of other groups to measure on.
Dice of each class over the images that hold it, and the CPU seconds of learning.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from napari_usgseg.io.datasets import read_dataset
from napari_usgseg.lab.evaluation.few_shot import WAYS, FewShot, few_shot
from napari_usgseg.models.registry import load_segmenter


def main() -> None:
    """Measure, and write a table after every result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--counts", nargs="*", type=int, default=[1, 3, 5, 10])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=list(WAYS))
    parser.add_argument("--limit", type=int, default=80, help="images to measure on at most")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    segmenter = load_segmenter(given.model)
    lines = [
        "| data set | draw | images | way | Dice | of each class | CPU s |",
        "|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    for folder in given.datasets:
        dataset = read_dataset(folder)
        for seed in given.seeds:

            def say(shot: FewShot, seed: int = seed, name: str = dataset.name) -> None:
                each = ", ".join(f"{value:.3f}" for value in shot.dice.values())
                lines.append(
                    f"| {name} | {seed} | {shot.count} | {shot.way} | {shot.mean:.3f} | {each} | "
                    f"{shot.cpu_seconds:.1f} |"
                )
                print(lines[-1], flush=True)
                if given.out is not None:
                    given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")

            few_shot(
                dataset, segmenter, given.counts, seed, given.limit, given.ways, say
            )  # fmt: skip


if __name__ == "__main__":
    main()
