"""Write benchmarks/splits.json: the one split by group that every training and study uses.

python benchmarks/make_splits.py ../shared/data

A data set of a few patients or cases has a fold for each of them beside its split, and its split is
the fold whose tested group leaves the most to learn from. Prints how many images hold each label on
each side.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from napari_usgseg.io.datasets import (
    SIDES,
    Dataset,
    Split,
    leave_one_out,
    read_dataset,
    read_mask,
    split_by_group,
    write_splits,
)

FEW_GROUPS = 4
"""Data sets of no more groups than this are split into folds."""


def counts(dataset: Dataset, split: Split) -> str:
    """How many images hold each label, side by side: "train: liver 19, kidney 7; test: ..."."""
    parts = []
    for side in SIDES:
        items = dataset.only(split.of(side)).items
        labels = [np.unique(read_mask(item)) for item in items]
        found = {name: sum(v in each for each in labels) for v, name in dataset.labels.items()}
        each = ", ".join(f"{name} {count}" for name, count in found.items())
        parts += [f"{side} {len(items)} ({each})"] if items else []
    return "; ".join(parts)


def main() -> None:
    """Split every data set below the folder given on the command line."""
    folders = sorted(path.parent for path in Path(sys.argv[1]).glob("*/dataset.json"))
    target = Path(__file__).with_name("splits.json")
    datasets = [read_dataset(folder) for folder in folders]
    splits, folds = {}, {}
    for each in datasets:
        splits[each.name] = split_by_group(each)
        if 1 < len({item.group for item in each.items}) <= FEW_GROUPS:
            folds[each.name] = leave_one_out(each)
            splits[each.name] = max(folds[each.name].values(), key=lambda fold: len(fold.train))
    write_splits(splits, target, folds=folds)
    for each in datasets:
        print(f"{each.name}: {counts(each, splits[each.name])}")
        for name, fold in folds.get(each.name, {}).items():
            print(f"{each.name}, {name} tested: {counts(each, fold)}")


if __name__ == "__main__":
    main()
