"""Do prompts steer? Separation of neighbouring objects, and the worth of a corrective click.

python benchmarks/steering.py DATASET... [--split benchmarks/splits.json --side test]
[--limit N] [--model nano]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from napari_usgseg.core.geometry import components
from napari_usgseg.io.datasets import read_dataset, read_splits
from napari_usgseg.io.images import read_image
from napari_usgseg.io.labels import read_labels
from napari_usgseg.lab.evaluation.annotator import aims, correction_gain
from napari_usgseg.models.registry import load_segmenter
from napari_usgseg.segmentation.postprocess import PostprocessSettings

CLEANING = PostprocessSettings()


def main() -> None:
    """Print a line per data set and kind of prompt."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--split", type=Path)
    parser.add_argument("--side", default="test")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--model", default="nano")
    arguments = parser.parse_args()
    splits = read_splits(arguments.split) if arguments.split else {}
    segmenter = load_segmenter(arguments.model)
    print(
        f"{'data set':16} {'prompt':6} {'objects':>7} {'own':>6} {'other':>6} {'margin':>6} "
        f"{'margin>=.3':>10} {'corrected':>9} {'raised':>6} {'gain':>6}"
    )
    for folder in arguments.datasets:
        dataset = read_dataset(folder)
        if dataset.name in splits:
            dataset = dataset.only(getattr(splits[dataset.name], arguments.side))
        for kind in ("box", "click"):
            found, gains = [], []
            for item in dataset.items[: arguments.limit]:
                labels = read_labels(item.mask_path)
                values = [v for v in np.unique(labels) if v > 0]
                objects = [part for v in values for part in components(labels == v)]
                if not objects:
                    continue
                embedding = segmenter.embed(read_image(item.image_path))
                if len(objects) > 1:
                    found += aims(segmenter, embedding, objects, kind)
                made = [correction_gain(segmenter, embedding, o, kind, CLEANING) for o in objects]
                gains += [gain for gain in made if gain is not None]
            own = np.array([aim.own for aim in found])
            other = np.array([aim.other for aim in found])
            gain = np.array(gains)
            row = f"{dataset.name:16} {kind:6} {len(found):7d} "
            row += (
                f"{own.mean():6.3f} {other.mean():6.3f} {(own - other).mean():6.3f} "
                f"{(own - other >= 0.3).mean():10.3f} "
                if len(found)
                else f"{'-':>6} {'-':>6} {'-':>6} {'-':>10} "
            )
            print(row + f"{len(gain):9d} {(gain > 0).mean():6.3f} {gain.mean():6.3f}", flush=True)


if __name__ == "__main__":
    main()
