"""Train the embedded models anew, segmenter and detector, by one command that goes on after a stop.

    nice -n 10 python benchmarks/train_nano.py ../shared/data --out runs/nano

Every data set below the folder teaches by its training side of ``benchmarks/splits.json``, but for
those whose terms keep weights that ship from it (named at the beginning). What is said goes to
OUT/train.log too; the figures of the steps are in OUT/segmenter/log.jsonl and
OUT/detector/log.jsonl. The same command goes on where it was stopped or killed.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch

from napari_usgseg.core.errors import DatasetError
from napari_usgseg.lab.nano_factory import detector, segmenter
from napari_usgseg.lab.nano_factory.materials import read_teaching

SEGMENTER_STEPS = (1500, 6000, 3000)
DETECTOR_STEPS = 9000
"""Of the optimiser: about two to three times those of the weights before."""


def main() -> None:
    """Train what is not trained yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of data sets")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--splits", type=Path, default=Path("benchmarks/splits.json"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--segmenter-steps", nargs=3, type=int, default=SEGMENTER_STEPS)
    parser.add_argument("--detector-steps", type=int, default=DETECTOR_STEPS)
    parser.add_argument("--teacher-images", type=int, default=1100)
    parser.add_argument("--phantoms", type=int, default=300)
    parser.add_argument("--organs", type=int, default=480)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    started = time.monotonic()

    def say(text: str) -> None:
        line = f"{time.monotonic() - started:8.0f} s  {text}"
        print(line, flush=True)
        with (given.out / "train.log").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    data = []
    for card in sorted(given.data.glob("*/dataset.json")):
        try:
            read_teaching([card.parent])
        except DatasetError as error:
            say(f"left out: {error}")
        else:
            data.append(card.parent)
    say(f"seed {given.seed}, data sets: {', '.join(folder.name for folder in data)}")
    pool = {"phantoms": given.phantoms, "organs": given.organs}
    stages = [
        replace(stage, steps=steps)
        for stage, steps in zip(segmenter.STAGES, given.segmenter_steps, strict=True)
    ]
    segmenter.train(
        data, given.out / "segmenter", splits=given.splits, seed=given.seed, stages=stages,
        teacher_images=given.teacher_images, resume=True, say=say, **pool,
    )  # fmt: skip
    detector.train(
        data, given.out / "detector", splits=given.splits, seed=given.seed,
        steps=given.detector_steps, resume=True, say=say, **pool,
    )  # fmt: skip
    say("done")


if __name__ == "__main__":
    main()
