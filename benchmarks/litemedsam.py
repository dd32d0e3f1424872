"""The peer: LiteMedSAM's Dice for box prompts on the very objects that ``usgseg evaluate`` scores.

    python benchmarks/litemedsam.py DATASET... [--split benchmarks/splits.json --side test]
        [--limit N] [--model nano]

Needs the extra ``benchmarks``. Both models answer the tight box of every object; masks are scored
as the models give them, by the same code.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from napari_usgseg.io.datasets import read_dataset, read_splits
from napari_usgseg.lab.evaluation.evaluate import EvaluationRequest, evaluate_dataset
from napari_usgseg.models.registry import load_segmenter
from napari_usgseg.models.sam.litemedsam import LiteMedSam
from napari_usgseg.segmentation.postprocess import PostprocessSettings


def main() -> None:
    """Print a table: data set, objects' mean Dice of LiteMedSAM and of ours."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--split", type=Path)
    parser.add_argument("--side", default="test")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--model", default="nano")
    arguments = parser.parse_args()
    splits = read_splits(arguments.split) if arguments.split else {}
    theirs, ours = LiteMedSam(), load_segmenter(arguments.model)
    raw = PostprocessSettings(enabled=False)
    request = EvaluationRequest(prompt="box", settings=raw, limit=arguments.limit)
    print(f"{'data set':20} {'images':>6} {'LiteMedSAM':>10} {arguments.model:>10}")
    for folder in arguments.datasets:
        dataset = read_dataset(folder)
        if dataset.name in splits:
            dataset = dataset.only(getattr(splits[dataset.name], arguments.side))
        rows = [evaluate_dataset(dataset, model, None, request).scores for model in (theirs, ours)]
        means = [float(np.mean([score.dice for score in row])) for row in rows]
        print(f"{dataset.name:20} {len(rows[0]):6d} {means[0]:10.4f} {means[1]:10.4f}", flush=True)


if __name__ == "__main__":
    main()
