"""Baselines that need no training: what simple image processing makes of the same images.

``dark-blob`` is the largest-component heuristic without any prompt. Lesions, vessels, cysts and
nerves are mostly darker than what is around them, and sonographers hold them in the middle: blur,
Otsu's threshold over the fan, the dark side's components, the largest whose centre lies in the
middle half of the image (the largest of all where none does), its holes filled. It knows one object
and answers for label 1 only.

``box-blob`` is told the true box: Otsu's threshold inside it, the side that has more of the box's
middle, its largest component, holes filled.

Otsu, IEEE Trans. Syst. Man Cybern. 9(1), 1979.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...core.errors import PromptError
from ...core.types import BoolArray, FloatArray, ImageEmbedding, Prediction, Prompts
from .methods import Answer, Method, Scene

BLUR = 0.01
"""Standard deviation of the blur, as a part of the image's longer side."""
MIDDLE = (0.25, 0.75)


def dark_blob(image: NDArray[np.uint8]) -> BoolArray:
    """The largest dark component near the middle of an image (H, W, 3); see the module."""
    from scipy import ndimage
    from skimage.filters import threshold_otsu

    grey = image.astype(np.float32).mean(axis=2)
    fan = _fan(grey)
    smooth = ndimage.gaussian_filter(grey, BLUR * max(grey.shape))
    inside = smooth[fan]
    if inside.size == 0 or inside.min() == inside.max():
        return np.zeros(grey.shape, bool)
    dark = fan & (smooth < threshold_otsu(inside))
    numbered, count = ndimage.label(dark, np.ones((3, 3)))
    if count == 0:
        return np.zeros(grey.shape, bool)
    numbers = np.arange(1, count + 1)
    areas = ndimage.sum_labels(dark, numbered, numbers)
    places = np.array(ndimage.center_of_mass(dark, numbered, numbers)) / grey.shape
    central = ((places > MIDDLE[0]) & (places < MIDDLE[1])).all(axis=1)
    best = numbers[np.argmax(np.where(central, areas, 0) if central.any() else areas)]
    return np.asarray(ndimage.binary_fill_holes(numbered == best), bool)


def _fan(grey: FloatArray) -> BoolArray:
    """Where the scanner drew anything: not the black that reaches the image's edge."""
    from scipy import ndimage

    numbered, _ = ndimage.label(grey <= 2)
    rim = np.unique(np.concatenate([numbered[0], numbered[-1], numbered[:, 0], numbered[:, -1]]))
    return ~np.isin(numbered, rim[rim > 0])


def dark_blob_method() -> Method:
    """``dark_blob`` for label 1, nothing for further labels."""

    def answer(scene: Scene) -> Answer:
        found = dark_blob(scene.image)
        nothing = np.zeros_like(found)
        return Answer(tuple(found if label == 1 else nothing for label in scene.dataset.labels))

    return Method(answer)


class BoxBlob:
    """A ``Segmenter`` by Otsu's threshold inside a box; see the module."""

    model_id = "box-blob"

    def embed(self, image: NDArray[np.uint8], image_id: str = "") -> ImageEmbedding:
        """Keep the blurred grey image, from (H, W, 3) RGB uint8."""
        from scipy import ndimage

        grey = image.astype(np.float32).mean(axis=2)
        smooth = ndimage.gaussian_filter(grey, BLUR / 2 * max(grey.shape))
        return ImageEmbedding(image_id, self.model_id, grey.shape, {"grey": smooth})

    def predict(
        self, embedding: ImageEmbedding, prompts: Prompts, multimask: bool | None = None
    ) -> Prediction:
        """The largest component of the box's middle.

        Raises:
            PromptError: there is no box.
        """
        from scipy import ndimage
        from skimage.filters import threshold_otsu

        if prompts.box is None:
            raise PromptError("box-blob answers boxes only")
        grey = embedding.features["grey"]
        x0, y0 = np.maximum(np.floor(prompts.box[:2]), 0).astype(int)
        x1, y1 = np.ceil(prompts.box[2:]).astype(int) + 1
        part = grey[y0:y1, x0:x1]
        side = np.ones(part.shape, bool)
        if part.size and part.min() < part.max():
            dark = part < threshold_otsu(part)
            side = dark if _middle(dark).mean() >= 0.5 else ~dark
        numbered, count = ndimage.label(side, np.ones((3, 3)))
        if count:
            side = numbered == 1 + np.argmax(np.bincount(numbered.ravel())[1:])
        mask = np.zeros(grey.shape, bool)
        mask[y0:y1, x0:x1] = ndimage.binary_fill_holes(side)
        logits = np.where(mask, 6.0, -6.0).astype(np.float32)
        return Prediction(mask[None], np.array([0.5], np.float32), logits[None])


def _middle(part: BoolArray) -> BoolArray:
    """The central half of an array, at least one pixel."""
    (top, bottom), (left, right) = (
        (int(MIDDLE[0] * side), max(int(MIDDLE[0] * side) + 1, int(np.ceil(MIDDLE[1] * side))))
        for side in part.shape
    )
    return part[top:bottom, left:right]
