"""Constants of corrections (``segmentation.correction``), chosen on validation sides and phantoms.

    python benchmarks/corrections.py DATASET... [--split benchmarks/splits.json] [--side val]
        [--phantoms 30] [--limit N] [--model nano]

Every object gets a first prompt (a click, and on its own a box) and one corrective click; the
network answers once, and each setting merges that answer with the mask before. Printed are the
share of clicks that raised Dice and the mean gain, for the settings in use and with one of them
changed at a time; "whole" takes the answer as it is.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from napari_usgseg.core.geometry import components
from napari_usgseg.core.metrics import dice, next_click
from napari_usgseg.core.types import BoolArray, ImageEmbedding, Prompts
from napari_usgseg.io.datasets import read_dataset, read_splits
from napari_usgseg.io.images import read_image
from napari_usgseg.io.labels import read_labels
from napari_usgseg.lab.evaluation.annotator import add_click, prompt_for
from napari_usgseg.models.interfaces import Segmenter
from napari_usgseg.models.registry import load_segmenter
from napari_usgseg.phantoms.phantom import make_phantom
from napari_usgseg.segmentation import correction
from napari_usgseg.segmentation.postprocess import PostprocessSettings
from napari_usgseg.segmentation.propose import propose_prompts

TRIED = {
    "LEAST_AGREEMENT": (0.0, 0.3, 0.5, 0.7, 0.8, 1.1),
    "DEPTH": (1.5, 1.75, 2.0, 2.5, 3.0, 1e9),
    "REACH": (2.0, 3.0, 5.0, 8.0, 12.0, 1e9),
    "LARGEST_DISC": (0.0, 0.25, 0.5, 1.0),
}
CLEANING = PostprocessSettings()


class Case(NamedTuple):
    """One corrective click: the masks (H, W) before it and of its answer."""

    kind: str
    truth: BoolArray
    before: BoolArray
    answer: BoolArray
    prompts: Prompts


def scenes(arguments: argparse.Namespace) -> Iterator[tuple[np.ndarray, list[BoolArray]]]:
    """Images and their objects."""
    splits = read_splits(arguments.split)
    for folder in arguments.datasets:
        dataset = read_dataset(folder)
        if dataset.name not in splits:
            raise SystemExit(f"{dataset.name} is not in {arguments.split}")
        kept = dataset.only(getattr(splits[dataset.name], arguments.side))
        for item in kept.items[: arguments.limit]:
            labels = read_labels(item.mask_path)
            values = np.unique(labels[labels > 0])
            yield read_image(item.image_path), [p for v in values for p in components(labels == v)]
    for seed in range(5000, 5000 + arguments.phantoms):
        phantom = make_phantom(seed)
        numbers = np.unique(phantom.instances[phantom.instances > 0])
        yield phantom.image, [p for n in numbers for p in components(phantom.instances == n)]


def ask(segmenter: Segmenter, embedding: ImageEmbedding, truth: BoolArray, kind: str) -> list[Case]:
    """The answer to one corrective click; nothing where the first one was perfect."""
    prompts = prompt_for(truth, kind)
    before = propose_prompts(segmenter, embedding, prompts, CLEANING)
    click = next_click(truth, before.mask)
    if click is None or not before.mask.any():
        return []
    prompts = add_click(prompts, click, before.low_res_logits)
    after = propose_prompts(segmenter, embedding, prompts, CLEANING)
    return [Case(kind, truth, before.mask, after.mask, prompts)]


def row(name: str, cases: list[Case], whole: bool = False) -> None:
    """Print one setting's line."""
    line = f"{name:24}"
    for kind in ("click", "box"):
        gains = []
        for case in cases:
            if case.kind == kind:
                merged = case.answer
                if not whole:
                    merged = correction.merge_correction(case.before, case.answer, case.prompts)
                gains.append(dice(case.truth, merged) - dice(case.truth, case.before))
        gain = np.array(gains)
        line += f" {len(gain):6d} {(gain > 0).mean():7.3f} {gain.mean():7.4f}"
    print(line, flush=True)


def main() -> None:
    """Print a table for the settings around those in use."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("datasets", nargs="*", type=Path)
    parser.add_argument("--split", type=Path, default=Path("benchmarks/splits.json"))
    parser.add_argument("--side", default="val")
    parser.add_argument("--phantoms", type=int, default=30)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--model", default="nano")
    arguments = parser.parse_args()
    segmenter = load_segmenter(arguments.model)
    cases: list[Case] = []
    for image, objects in scenes(arguments):
        embedding = segmenter.embed(image)
        for truth in objects:
            for kind in ("click", "box"):
                cases += ask(segmenter, embedding, truth, kind)
    print(f"{'':24} {'clicks':>6} {'raised':>7} {'gain':>7} {'boxes':>6} {'raised':>7} {'gain':>7}")
    row("whole", cases, whole=True)
    row("in use", cases)
    for name, values in TRIED.items():
        used = getattr(correction, name)
        for value in values:
            if value != used:
                setattr(correction, name, value)
                row(f"{name} {value:g}", cases)
        setattr(correction, name, used)


if __name__ == "__main__":
    main()
