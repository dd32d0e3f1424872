"""What LoRA tuning on a few images of a new organ gains there, and what it costs elsewhere.

    python benchmarks/lora_study.py BASE DATASET... --new hc18 --split benchmarks/splits.json
        --work runs/lora-study --out docs/lora-study [--images 20 100] [--limit 60]

BASE is a detector that never saw the new data set's organ (``usgseg train nano-grounder`` and
``nano-dino`` with ``--leave-out``). Each adapter is trained by ``training.lora`` with its defaults
on images of the new data set's training side; text Dice is measured on the test sides of all data
sets, by the protocol. Three detectors are measured: the base; with the adapter, as a person uses it
(it answers its own phrases, the base all others); and with the adapter merged into the weights,
which then answer everything: what the network itself has forgotten.

Results are added to OUT.json, and OUT.md is written anew from it: run it once for each base.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from napari_usgseg.io.datasets import Dataset, read_dataset, read_splits
from napari_usgseg.models.lora_routing import RoutedDetector
from napari_usgseg.models.registry import load_detector, load_segmenter
from napari_usgseg.pipeline.evaluate import EvaluationRequest, evaluate_dataset
from napari_usgseg.training.lora import LoraSettings, train_lora


def text_dice(datasets: list[Dataset], segmenter: Any, detector: Any, limit: int) -> dict:
    """Mean text Dice of each data set."""
    request = EvaluationRequest("text", limit=limit)
    return {
        dataset.name: round(
            float(
                np.mean(
                    [
                        score.dice
                        for score in evaluate_dataset(dataset, segmenter, detector, request).scores
                    ]
                )
            ),
            4,
        )
        for dataset in datasets
    }


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train and measure; a row for the base and for every number of images."""
    splits = read_splits(arguments.split)
    datasets = [read_dataset(folder) for folder in arguments.datasets]
    new = next(dataset for dataset in datasets if dataset.name == arguments.new)
    tests = [dataset.only(splits[dataset.name].test) for dataset in datasets]
    segmenter = load_segmenter("nano")
    base = load_detector(arguments.base)
    settings = LoraSettings(preset=arguments.preset, seed=arguments.seed)
    rows = [{"images": 0, "text_dice": text_dice(tests, segmenter, base, arguments.limit)}]
    print(rows[-1], flush=True)
    name = f"{Path(arguments.base).name}-{arguments.preset}"
    for images in arguments.images:
        out = arguments.work / f"{name}-{images}"
        started = time.monotonic()
        card = train_lora(
            [new],
            out,
            settings,
            grounder=str(arguments.base),
            images=images,
            splits=splits,
            resume=True,
            say=print,
        )
        row = {
            "images": images,
            "steps": card.training["steps"],
            "minutes": round((time.monotonic() - started) / 60, 1),
            "validation": card.scores.get("validation"),
        }
        tuned = load_detector(out)
        row["text_dice"] = text_dice(tests, segmenter, tuned, arguments.limit)
        if isinstance(tuned, RoutedDetector):
            row["merged"] = text_dice(tests, segmenter, tuned.tuned, arguments.limit)
        rows.append(row)
        print(row, flush=True)
    return {
        "name": name,
        "base": base.model_id,
        "preset": arguments.preset,
        "new": arguments.new,
        "limit": arguments.limit,
        "rows": rows,
    }


def as_table(study: dict[str, Any]) -> str:
    """Markdown of one base."""
    names = list(study["rows"][0]["text_dice"])
    others = [name for name in names if name != study["new"]]
    base = study["rows"][0]["text_dice"]
    ordered = [study["new"], *others]
    head = ["detector", "images", "minutes", *ordered, "mean of the others", "lost elsewhere"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in study["rows"]:
        for kind in ("text_dice", "merged"):
            if kind not in row:
                continue
            scores = row[kind]
            mean = np.mean([scores[name] for name in others])
            lost = np.mean([base[name] for name in others]) - mean
            called = "base" if not row["images"] else "adapter" if kind == "text_dice" else "merged"
            cells = [called, str(row["images"]), str(row.get("minutes", "-"))]
            cells += [f"{scores[name]:.3f}" for name in ordered] + [f"{mean:.3f}", f"{lost:+.3f}"]
            lines.append(f"| {' | '.join(cells)} |")
    title = (
        f"## {study['base']}, preset {study['preset']}, new: {study['new']}, "
        f"at most {study['limit']} images of each data set"
    )
    return "\n".join([title, "", *lines, ""])


def main() -> None:
    """Measure one base, and write the tables of all that were measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base")
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--new", default="hc18")
    parser.add_argument("--split", type=Path, default=Path("benchmarks/splits.json"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, nargs="+", default=[20, 100])
    parser.add_argument("--limit", type=int, default=60)
    parser.add_argument("--preset", default="decoder")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    study = measure(arguments)
    file = arguments.out.with_suffix(".json")
    studies = json.loads(file.read_text()) if file.exists() else []
    studies = [
        *(s for s in studies if (s["name"], s["new"]) != (study["name"], study["new"])),
        study,
    ]
    file.write_text(json.dumps(studies, indent=1) + "\n")
    arguments.out.with_suffix(".md").write_text(as_page(studies))


def as_page(studies: list[dict[str, Any]]) -> str:
    """Markdown of all bases."""
    intro = (
        "# What LoRA tuning gains and costs\n\n"
        "Text Dice on the test sides of `benchmarks/splits.json`, before and after tuning on "
        "images of an organ that the base never saw; made by `benchmarks/lora_study.py`. "
        '"adapter": as a person uses it, its own phrases answered by it and all others by the '
        'base. "merged": all phrases answered by the tuned weights. "lost elsewhere": mean Dice '
        "of the other data sets, before less after. Minutes are of one contended CPU core.\n\n"
        "Not in the tables: asked for the new organ in images of others, a tuned detector finds "
        "one in about half of them, as all its images showed the organ. Label some that do not.\n\n"
    )
    return intro + "\n".join(as_table(study) for study in studies)


if __name__ == "__main__":
    main()
