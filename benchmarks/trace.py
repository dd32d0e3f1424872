"""Traces of thin bright lines from two clicks: Dice on real bone and aponeuroses, and their time.

    python benchmarks/trace.py DATA

DATA holds ``hip`` and ``dltrack_apo`` in the layout of ``docs/format.md``. A person clicks at the
two ends of each piece of a label, which are the ends of the longest way through its middle; the
band is as wide as the piece is on the mean (its area by the pixels of its middle line), or as all
of its label are (their median). "Learned" is what a person meets who
labels the images in their order: each trace is like the bands accepted before it (of the last
sixty), never like its own or a later one; with its own width, then with theirs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy import ndimage
from skimage.morphology import skeletonize

from napari_usgseg.core.geometry import components
from napari_usgseg.core.metrics import dice
from napari_usgseg.io.images import read_image
from napari_usgseg.io.labels import read_labels
from napari_usgseg.segmentation.trace import (
    Band,
    BandHabit,
    ends_of,
    measure_band,
    trace,
    trace_mask,
)

LABELS = (("hip", 1, "ilium"), ("dltrack_apo", 1, "aponeurosis"))
BEFORE = 60
OFF = 8.0
FRAME_HW = (600, 800)


def pieces(folder: Path, value: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, float]]:
    """Image, mask, both ends (2, 2) XY and mean width of each piece of a label."""
    for file in sorted((folder / "masks").glob("*.png")):
        image = read_image(folder / "images" / file.name)
        for mask in components(read_labels(file) == value):
            if (found := ends_of(mask)) is not None:
                ends, _ = found
                steps = skeletonize(mask).sum()
                yield image, mask, ends, mask.sum() / steps


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    print(
        "| line | pieces | its own width | ends 8 px off | one width for all "
        "| learned | learned, width too |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, value, title in LABELS:
        found = list(pieces(data / name, value))
        median = statistics.median(width for *_, width in found)
        rng = np.random.default_rng(0)
        scores: tuple[list[float], ...] = ([], [], [], [], [])
        accepted: list[Band] = []
        for image, mask, ends, width in found:
            angle = rng.uniform(0, 2 * np.pi, 2)
            off = ends + OFF * np.stack([np.cos(angle), np.sin(angle)], axis=1)
            habit = BandHabit(tuple(accepted[-BEFORE:])) if accepted else None
            for into, points, wide, like in zip(
                scores,
                (ends, off, ends, ends, ends),
                (width, width, median, width, habit.width if habit else median),
                (None, None, None, habit, habit),
                strict=True,
            ):
                into.append(dice(trace_mask(image, points, wide, habit=like), mask))
            band = measure_band(image, mask)
            if band is not None:
                accepted.append(band)
        means = " | ".join(f"{np.mean(each):.3f}" for each in scores)
        print(f"| {title} | {len(found)} | {means} |")
    frame = ndimage.gaussian_filter(np.random.default_rng(0).uniform(0, 255, FRAME_HW), 3)
    frame = frame.astype(np.uint8)
    taken = []
    for _ in range(20):
        begun = time.perf_counter()
        trace(frame, [(5, 300), (795, 350)], 12)
        taken.append(time.perf_counter() - begun)
    print(f"\nAcross an 800 x 600 frame: {1000 * statistics.median(taken):.0f} ms (median of 20).")


if __name__ == "__main__":
    main()
