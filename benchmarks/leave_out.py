"""What a nano knows of sets or organs that it was kept from: a training and a row for each.

    python benchmarks/leave_out.py DATASET... --by organ --work runs/leave-organ --out TABLE.md

A segmenter is trained on all other data sets (shorter than the shipped one) and measured on the one
left out: box and 1 / 3 / 5 clicks on its test side; ten of its images are taught to a light head
and to a prompt predictor, and others measured. Every step leaves a file in ``--work`` and is not
done again, so the study can be stopped and goes on. Weights of this study never ship, so any data
set may take part.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_usgseg.io.datasets import read_dataset
from napari_usgseg.io.names import safe_file_name
from napari_usgseg.lab.evaluation.few_shot import few_shot
from napari_usgseg.lab.nano_factory.leave_out import leave_out
from napari_usgseg.lab.nano_factory.segmenter import STAGES, train
from napari_usgseg.models.registry import load_segmenter

HEAD = (
    "| left out | data set | box | 1 / 3 / 5 clicks | light head, ten images | PPN, ten images |\n"
    "|---|---|---|---|---|---|"
)


def main() -> None:
    """Do what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--by", choices=("set", "organ"), default="organ")
    parser.add_argument("--splits", type=Path, default=Path("benchmarks/splits.json"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--steps", nargs=len(STAGES), type=int, default=(500, 1400, 450))
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--limit", type=int, default=60, help="images to measure on at most")
    parser.add_argument("--teacher-images", type=int, default=583)
    given = parser.parse_args()
    lines = [HEAD]
    for each in leave_out(given.datasets, given.by):
        folder = given.work / safe_file_name(each.name)
        weights = train(
            each.kept,
            folder,
            splits=given.splits,
            teacher_cache=given.work / "teacher",
            teacher_images=given.teacher_images,
            stages=[replace(stage, steps=n) for stage, n in zip(STAGES, given.steps, strict=True)],
            resume=True,
            study=True,
        )
        for held in each.held:
            lines.append(row(each.name, held, weights, folder, given))
            print(lines[-1], flush=True)
            if given.out is not None:
                given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def row(name: str, held: Path, weights: Path, folder: Path, given: argparse.Namespace) -> str:
    """The figures of one data set that was left out."""
    box = evaluated(held, weights, "box", folder, given)
    clicks = evaluated(held, weights, "clicks", folder, given)["dice_at_clicks"]
    path = folder / f"{held.name}-few.json"
    if not path.exists():
        ways, shots = ("light head", "PPN"), {}
        dataset, segmenter = read_dataset(held), load_segmenter(weights)
        if len(dataset.items) > given.images:
            few = few_shot(dataset, segmenter, (given.images,), 0, given.limit, ways)
            shots = {shot.way: shot.mean for shot in few}
        path.write_text(json.dumps(shots), encoding="utf-8")
    shots = json.loads(path.read_text(encoding="utf-8"))
    taught = " | ".join(f"{shots[w]:.3f}" if w in shots else "-" for w in ("light head", "PPN"))
    at = " / ".join(f"{clicks[n]:.3f}" for n in ("1", "3", "5"))
    return f"| {name} | {held.name} | {box['dice']:.3f} | {at} | {taught} |"


def evaluated(
    held: Path, weights: Path, prompt: str, folder: Path, given: argparse.Namespace
) -> dict[str, Any]:
    """What ``usgseg evaluate`` measures on the test side."""
    path = folder / f"{held.name}-{prompt}.json"
    if not path.exists():
        command = [sys.executable, "-m", "napari_usgseg.cli", "evaluate", str(held)]
        command += ["--prompt", prompt, "--model", str(weights), "--limit", str(given.limit)]
        command += ["--split", str(given.splits), "--json", str(path)]
        subprocess.run(command, check=True)
    datasets: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["datasets"]
    (figures,) = datasets.values()
    return dict(figures)


if __name__ == "__main__":
    main()
