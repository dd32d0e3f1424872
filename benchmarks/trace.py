"""Traces of thin bright lines from two clicks: Dice on real bone and aponeuroses, and their time.

    python benchmarks/trace.py DATA

DATA holds ``hip`` and ``dltrack_apo`` in the layout of ``docs/format.md``. A person clicks at the
two ends of each piece of a label, which are the ends of the longest way through its middle; the
band is as wide as the piece is on the mean, or as all of its label are (their median).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy import ndimage
from skimage.graph import MCP
from skimage.morphology import skeletonize

from napari_usgseg.core.geometry import components, stroke_mask
from napari_usgseg.core.metrics import dice
from napari_usgseg.io.images import read_image
from napari_usgseg.io.labels import read_labels
from napari_usgseg.segmentation.trace import trace

LABELS = (("hip", 1, "ilium"), ("dltrack_apo", 1, "aponeurosis"))
SHORTEST = 15
"""A piece whose middle has fewer pixels is no line."""
OFF = 8.0
FRAME_HW = (600, 800)


def farthest(skeleton: np.ndarray, start: tuple[int, int]) -> tuple[tuple[int, int], float]:
    """The pixel of a skeleton that is farthest from another along it, and how far."""
    costs, _ = MCP(np.where(skeleton, 1.0, np.inf)).find_costs([start])
    reached = np.where(np.isfinite(costs), costs, -1)
    row, column = np.unravel_index(int(reached.argmax()), reached.shape)
    return (int(row), int(column)), float(reached.max())


def pieces(folder: Path, value: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, float]]:
    """Image, mask, both ends (2, 2) XY and mean width of each piece of a label."""
    for file in sorted((folder / "masks").glob("*.png")):
        image = read_image(folder / "images" / file.name)
        for mask in components(read_labels(file) == value):
            skeleton = skeletonize(mask)
            first, _ = farthest(skeleton, tuple(np.argwhere(skeleton)[0]))
            last, length = farthest(skeleton, first)
            if length >= SHORTEST:
                ends = np.array([first[::-1], last[::-1]], float)
                yield image, mask, ends, mask.sum() / length


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    print("| line | pieces | its own width | ends 8 px off | one width for all |")
    print("|---|---|---|---|---|")
    for name, value, title in LABELS:
        found = list(pieces(data / name, value))
        median = statistics.median(width for *_, width in found)
        rng = np.random.default_rng(0)
        scores: tuple[list[float], ...] = ([], [], [])
        for image, mask, ends, width in found:
            angle = rng.uniform(0, 2 * np.pi, 2)
            off = ends + OFF * np.stack([np.cos(angle), np.sin(angle)], axis=1)
            for into, points, wide in zip(
                scores, (ends, off, ends), (width, width, median), strict=True
            ):
                drawn = stroke_mask(trace(image, points, wide), wide, mask.shape)
                into.append(dice(drawn, mask))
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
