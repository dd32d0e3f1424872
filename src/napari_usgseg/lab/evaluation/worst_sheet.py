"""The images on which a method did worst, on one sheet: truth and answer as contours."""

from __future__ import annotations

import heapq
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from ...core.types import BoolArray
from ...io.atomic import Write
from ...io.labels import write_png
from .evaluate import ImageScore
from .methods import Answer, Scene

TILE = 320
CAPTION = 18
COLUMNS = 4
TRUTH, ANSWER = (0, 200, 120), (230, 159, 0)
"""Green and orange of a palette that colour-blind eyes can tell apart."""


class WorstCases:
    """Keeps the ``count`` images with the lowest Dice, as small pictures.

    Pass ``take`` to ``evaluate_dataset(on_scored=...)``.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._kept: list[tuple[float, int, str, NDArray[np.uint8]]] = []
        self._taken = 0

    def take(self, score: ImageScore, scene: Scene, answer: Answer) -> None:
        """Keep an image if it is among the worst so far."""
        self._taken += 1
        if len(self._kept) == self.count and -self._kept[0][0] <= score.dice:
            return
        words = f"{scene.dataset.name} / {score.item.item_id}  Dice {score.dice:.3f}"
        entry = (-score.dice, -self._taken, words, _tile(scene, answer))
        if len(self._kept) < self.count:
            heapq.heappush(self._kept, entry)
        else:
            heapq.heapreplace(self._kept, entry)

    def save(self, path: Path, write: Write) -> None:
        """Write the sheet as a PNG, worst first.

        Raises:
            LabelWriteError: the file may not or cannot be written.
        """
        if self._kept:
            write_png(path, self.sheet(), write)

    def sheet(self) -> NDArray[np.uint8]:
        """(H, W, 3) RGB uint8."""
        tiles = sorted(self._kept, reverse=True)
        columns = min(COLUMNS, len(tiles))
        rows = -(-len(tiles) // columns)
        canvas = Image.new("RGB", (columns * TILE, rows * (TILE + CAPTION) + CAPTION), "black")
        draw = ImageDraw.Draw(canvas)
        draw.text((4, 3), "truth", fill=TRUTH)
        draw.text((44, 3), "answer", fill=ANSWER)
        for place, (_, _, words, tile) in enumerate(tiles):
            left, top = place % columns * TILE, place // columns * (TILE + CAPTION) + CAPTION
            draw.text((left + 4, top + 3), words[: TILE // 6], fill="white")
            canvas.paste(Image.fromarray(tile), (left, top + CAPTION))
        return np.asarray(canvas)


def _tile(scene: Scene, answer: Answer) -> NDArray[np.uint8]:
    """The image, no larger than a tile, with every truth's and every answer's contour."""
    height, width = scene.size_hw
    scale = TILE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    drawn = np.array(Image.fromarray(scene.image).resize(size, Image.Resampling.BILINEAR))
    for masks, color in ((scene.truths, TRUTH), (answer.masks, ANSWER)):
        for mask in masks:
            small = _resized(mask, size)
            drawn[small & ~ndimage.binary_erosion(small)] = color
    tile = np.zeros((TILE, TILE, 3), np.uint8)
    tile[: drawn.shape[0], : drawn.shape[1]] = drawn
    return tile


def _resized(mask: BoolArray, size: tuple[int, int]) -> BoolArray:
    return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST), bool)
