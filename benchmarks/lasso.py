"""What a lasso is worth as a prompt, beside a box and a scribble, and what it should become.

    python benchmarks/lasso.py DATASET... [--split benchmarks/splits.json] [--limit 20]

Prints Dice after one prompt, by data set on the validation side. The lasso is drawn a little
outside the true outline, by 12 to 40 corners shaken by 8 % of the object's radius; "itself" is its
inside taken as the mask.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import find_contours

from napari_usgseg.annotation import regions
from napari_usgseg.core.geometry import components, jitter_box, mask_to_box
from napari_usgseg.core.metrics import dice
from napari_usgseg.core.types import BoolArray, FloatArray, Prompts
from napari_usgseg.io.datasets import read_dataset, read_splits
from napari_usgseg.io.images import read_image
from napari_usgseg.io.labels import read_labels
from napari_usgseg.models.registry import load_segmenter
from napari_usgseg.segmentation.postprocess import PostprocessSettings
from napari_usgseg.segmentation.propose import LOGIT, as_logits, propose_prompts

LOGITS = (3.0, 6.0, 10.0, 20.0)
POINTS = 5


def drawn_round(mask: BoolArray, rng: np.random.Generator) -> FloatArray:
    """A lasso (M, 2) as a hand draws it round an object."""
    radius = float(np.sqrt(mask.sum() / np.pi))
    pad = int(0.3 * radius) + 4
    distance = ndimage.distance_transform_edt(~np.pad(mask, pad))
    wide = ndimage.binary_fill_holes(distance <= 0.05 * radius + 1)
    outline = max(find_contours(wide.astype(float), 0.5), key=len)[:, ::-1] - pad
    count = int(np.clip(len(outline) // 6, 12, 40))
    corners = outline[np.linspace(0, len(outline) - 1, count, endpoint=False).astype(int)]
    shake = ndimage.gaussian_filter1d(rng.normal(size=(count, 2)), 1.0, axis=0, mode="wrap")
    shaken = corners + 0.08 * radius * shake / shake.std()
    return np.clip(shaken, 0, np.array(mask.shape[::-1]) - 1).astype(np.float32)


def drawn_along(mask: BoolArray) -> FloatArray:
    """A scribble (M, 2) along the middle of an object."""
    depth = ndimage.distance_transform_edt(mask)
    core = np.argwhere(depth >= 0.5 * depth.max())[:, ::-1].astype(float)
    a = b = core[0]
    for _ in range(2):
        b, a = a, core[((core - a) ** 2).sum(1).argmax()]
    return np.stack([b + (a - b) * t for t in np.linspace(0, 1, 8)]).astype(np.float32)


def spread_over(mask: BoolArray, count: int) -> FloatArray:
    """Points (N, 2) well inside a mask, far from one another."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    core = np.argwhere(depth >= 0.4 * depth.max())[:, ::-1].astype(np.float32)
    points = [regions.deepest(mask)]
    while len(points) < count:
        nearest = np.min([((core - point) ** 2).sum(1) for point in points], axis=0)
        points.append(core[nearest.argmax()])
    return np.array(points, np.float32)


def ways(mask: BoolArray, rng: np.random.Generator) -> dict[str, Prompts | BoolArray]:
    """The prompts that are compared, for one object, and the lasso's own inside."""
    size_hw = (mask.shape[0], mask.shape[1])
    inside = regions.lasso_mask(drawn_round(mask, rng), size_hw)
    box = regions.box_of(inside)
    points, ones = spread_over(inside, POINTS), np.ones(POINTS, np.int32)
    logits = as_logits(inside) / LOGIT
    true_box = mask_to_box(mask)
    assert true_box is not None
    return {
        "lasso itself": inside,
        "box": Prompts(box=jitter_box(true_box, 0.05, size_hw, rng)),
        "scribble": Prompts(scribbles=((drawn_along(mask), 1),)),
        "lasso as box": Prompts(box=box),
        "lasso as points": Prompts(points, ones),
        "lasso as box and points": Prompts(points, ones, box=box),
        "lasso as mask": Prompts(mask_input=10 * logits),
        **{
            f"lasso as box and mask, logit {value:g}": Prompts(box=box, mask_input=value * logits)
            for value in LOGITS
        },
    }


def objects_of(labels: NDArray[np.integer]) -> list[BoolArray]:
    """The two largest objects of every label."""
    found: list[BoolArray] = []
    for value in np.unique(labels[labels > 0]):
        found += sorted(components(labels == value), key=np.count_nonzero, reverse=True)[:2]
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--split", type=Path, default=Path(__file__).parent / "splits.json")
    parser.add_argument("--limit", type=int, default=20, help="images of each data set")
    chosen = parser.parse_args()
    segmenter, splits = load_segmenter("nano"), read_splits(chosen.split)
    scores: dict[str, dict[str, list[float]]] = {}
    for dataset in map(read_dataset, chosen.datasets):
        for number, item in enumerate(dataset.only(splits[dataset.name].val).items[: chosen.limit]):
            embedding = segmenter.embed(read_image(item.image_path))
            rng = np.random.default_rng(number)
            for mask in objects_of(read_labels(item.mask_path)):
                for name, way in ways(mask, rng).items():
                    if isinstance(way, Prompts):
                        found = propose_prompts(segmenter, embedding, way, PostprocessSettings())
                        way = found.mask
                    by_set = scores.setdefault(name, {}).setdefault(dataset.name, [])
                    by_set.append(dice(mask, way))
    names = list(dict.fromkeys(name for by_set in scores.values() for name in by_set))
    print(f"| Dice after one prompt | {' | '.join(names)} | mean |")
    print("|" + " --- |" * (len(names) + 2))
    for way, by_set in scores.items():
        means = [float(np.mean(by_set[name])) for name in names]
        cells = " | ".join(f"{value:.3f}" for value in (*means, float(np.mean(means))))
        print(f"| {way} | {cells} |")


if __name__ == "__main__":
    main()
