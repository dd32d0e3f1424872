"""What LoRA tuning on a few images of a new organ gains there, and what it costs elsewhere.

    python benchmarks/lora_study.py BASE DATASET... --new hc18 --split benchmarks/splits.json
        --work runs/lora-study --out docs/lora-study [--images 20 100] [--seed 0] [--limit 60]

BASE is a detector that never saw the new data set's organ (``usgseg train nano-detector`` and
``nano-dino`` with ``--leave-out``; for ``benchmarks/kidney_phantoms.py``, the embedded ones). Each
adapter is trained by ``learning.lora`` with its defaults on images of the new data set's training
side; text Dice is measured on the test sides of all data sets, by the protocol. Three detectors are
measured: the base; with the adapter, as a person uses it (it answers its own phrases, the base all
others); and with the adapter merged into the weights, which then answer everything: what the
network itself has forgotten. "found elsewhere" is the share of images of the other data sets in
which the detector finds the new organ, which none of them shows.

Results are added to OUT.json, and OUT.md is written anew from it: run it once for each base.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from napari_usgseg.core.types import TextPrompt
from napari_usgseg.io.datasets import Split, read_dataset, read_splits
from napari_usgseg.io.images import read_image
from napari_usgseg.lab.evaluation.evaluate import EvaluationRequest, evaluate_dataset
from napari_usgseg.learning.lora.train import LoraSettings, train_lora
from napari_usgseg.models.grounding.routing import RoutedDetector
from napari_usgseg.models.interfaces import Detector, Segmenter
from napari_usgseg.models.registry import load_detector, load_segmenter

STRANGERS = 40
"""Images of other data sets that are asked for the new organ."""
INTRO = (
    "# What LoRA tuning gains and costs\n\n"
    "Text Dice on the test sides of `benchmarks/splits.json`, before and after tuning on "
    "images of an organ that the base never saw; made by `benchmarks/lora_study.py`. "
    '"adapter": as a person uses it, its own phrases answered by it and all others by the '
    'base. "merged": all phrases answered by the tuned weights. "lost elsewhere": mean Dice '
    'of the other data sets, before less after. "found elsewhere": share of '
    f"{STRANGERS} images of the others in which the new organ is found, which none shows. "
    "Minutes are of one contended CPU core. Test images of hc18 were seen before presets, learning "
    "rate and steps were settled.\n\n"
    "Tables with a figure for found elsewhere are of adapters with thresholds of their own, the "
    "others of those before. Remarks: `crops`: with crops of the images that show no target as "
    "negatives, a quarter as many as images, and (but for 257 steps) one threshold for all "
    "targets; less is found elsewhere, but the head's Dice on 60 test images fell from 0.93 to "
    "0.89 (with 257 steps), so they were dropped. `257 steps`: half as many more. `own "
    "threshold`: the detector's, as before. `thresholds later`: chosen by the present rule after "
    "a training whose best step was chosen by an earlier one. `whole`: a preset, since dropped, "
    "with all layers of the encoder.\n\n"
    "Bases: nano-bd0df667 and nano-dino-eb9cb13c were trained without fetal heads, nano-8cf664fc "
    "without nerves and vessels (and for some 650 steps only); nano-911e58e0 and "
    "nano-dino-639978b9 are the embedded ones, to which the phantoms of kidneys with faint masses "
    "(`benchmarks/kidney_phantoms.py`) are new.\n\n"
)


class Study:
    """One base, and one data set that is new to it."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.splits: dict[str, Split] = {}
        for file in arguments.split:
            self.splits |= read_splits(file)
        datasets = [read_dataset(folder) for folder in arguments.datasets]
        self.new = next(dataset for dataset in datasets if dataset.name == arguments.new)
        self.tests = [dataset.only(self.splits[dataset.name].test) for dataset in datasets]
        self.segmenter: Segmenter = load_segmenter("nano")

    def rows(self, known: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """A row for the base, if it is not ``known``, and for every number of images."""
        made = []
        if not any(row["images"] == 0 for row in known):
            base = load_detector(self.arguments.base)
            made.append({"images": 0, **self.measured(base)})
            print(made[-1], flush=True)
        for images in self.arguments.images:
            made.append(self.tuned(images))
            print(made[-1], flush=True)
        return made

    def tuned(self, images: int) -> dict[str, Any]:
        """Tune on so many images, and measure."""
        arguments = self.arguments
        settings = LoraSettings(preset=arguments.preset, seed=arguments.seed)
        name = f"{name_of(arguments)}-{arguments.new}-{images}-{arguments.seed}"
        started = time.monotonic()
        card = train_lora(
            [self.new],
            arguments.work / name,
            settings,
            detector=str(arguments.base),
            images=images,
            splits=self.splits,
            resume=True,
            say=print,
        )
        row = {
            "images": images,
            "seed": arguments.seed,
            "remark": arguments.remark,
            "steps": card.training["steps"],
            "minutes": round((time.monotonic() - started) / 60, 1),
            "validation": card.scores.get("validation"),
        }
        detector = load_detector(arguments.work / name)
        row |= self.measured(detector)
        if isinstance(detector, RoutedDetector) and not arguments.unmerged:
            row["merged"] = self.text_dice(detector.tuned)
        return row

    def measured(self, detector: Detector) -> dict[str, Any]:
        """Text Dice of all data sets, and how often the new organ is found where it is not."""
        return {
            "text_dice": self.text_dice(detector),
            "found_elsewhere": self.found_elsewhere(detector),
        }

    def text_dice(self, detector: Detector) -> dict[str, float]:
        """Mean text Dice of each data set."""
        request = EvaluationRequest("text", limit=self.arguments.limit)
        means = {}
        for dataset in self.tests:
            scores = evaluate_dataset(dataset, self.segmenter, detector, request).scores
            means[dataset.name] = round(float(np.mean([score.dice for score in scores])), 4)
        return means

    def found_elsewhere(self, detector: Detector) -> float:
        """Share of ``STRANGERS`` images of the other data sets with a box for the new organ."""
        phrases = [self.new.phrase(label) for label in self.new.labels]
        others = [dataset for dataset in self.tests if dataset.name != self.new.name]
        found = []
        for place, dataset in enumerate(others):
            for item in dataset.items[: len(range(place, STRANGERS, len(others)))]:
                image = read_image(item.image_path)
                found.append(len(detector.detect(image, TextPrompt(". ".join(phrases))).boxes) > 0)
        return round(float(np.mean(found)), 3)


def name_of(arguments: argparse.Namespace) -> str:
    """Of a base and a preset."""
    return f"{Path(arguments.base).name}-{arguments.preset}"


def key_of(row: dict[str, Any]) -> tuple[int, int, str]:
    """What tells the rows of a study apart."""
    return row["images"], row.get("seed", 0), row.get("remark", "")


def as_table(study: dict[str, Any]) -> str:
    """Markdown of one base."""
    names = list(study["rows"][0]["text_dice"])
    others = [name for name in names if name != study["new"]]
    base = study["rows"][0]["text_dice"]
    ordered = [study["new"], *others]
    head = ["detector", "images", "seed", "minutes", *ordered]
    head += ["mean of the others", "lost elsewhere", "found elsewhere", "remark"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in study["rows"]:
        for kind in ("text_dice", "merged"):
            if kind not in row:
                continue
            scores = row[kind]
            mean = np.mean([scores[name] for name in others])
            lost = np.mean([base[name] for name in others]) - mean
            called = "base" if not row["images"] else "adapter" if kind == "text_dice" else "merged"
            cells = [called, str(row["images"]), str(row.get("seed", "-"))]
            cells += [str(row.get("minutes", "-")), *(f"{scores[name]:.3f}" for name in ordered)]
            found = row.get("found_elsewhere") if kind == "text_dice" else None
            cells += [f"{mean:.3f}", f"{lost:+.3f}", "-" if found is None else f"{found:.2f}"]
            cells.append(row.get("remark", ""))
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
    parser.add_argument("--split", type=Path, nargs="+", default=[Path("benchmarks/splits.json")])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, nargs="+", default=[20, 100])
    parser.add_argument("--limit", type=int, default=60)
    parser.add_argument("--preset", default="decoder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--remark", default="", help="what is special about this training")
    parser.add_argument("--unmerged", action="store_true", help="do not measure what is merged")
    arguments = parser.parse_args()
    file = arguments.out.with_suffix(".json")
    studies = json.loads(file.read_text()) if file.exists() else []
    study = {
        "name": name_of(arguments),
        "base": load_detector(arguments.base).model_id,
        "preset": arguments.preset,
        "new": arguments.new,
        "limit": arguments.limit,
    }
    same = [s for s in studies if all(s[key] == value for key, value in study.items())]
    known = same[0]["rows"] if same else []
    rows = Study(arguments).rows(known)
    again = {key_of(row) for row in rows}
    kept = [row for row in known if key_of(row) not in again]
    study["rows"] = sorted([*kept, *rows], key=key_of)
    studies = [*(s for s in studies if s not in same), study]
    file.write_text(json.dumps(studies, indent=1) + "\n")
    page = INTRO + "\n".join(as_table(study) for study in studies)
    arguments.out.with_suffix(".md").write_text(page)


if __name__ == "__main__":
    main()
