"""Matching of features with labelled images, without training: PerSAM and Matcher.

PerSAM (arXiv 2305.03048): the mean feature of the reference's object is compared with every cell of
another image: the most alike cell is a positive click, the least alike one a negative click. The
segmenter answers them, then twice more with its own mask as prompt, the second time with that
mask's box too. Each label is asked by itself, and is found in every image: nothing here says that
it is absent.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.errors import DatasetError
from ...core.geometry import covered_cells, mask_to_box
from ...core.types import BoolArray, ImageEmbedding, Prompts
from ...io.datasets import Dataset, read_mask
from ...io.images import read_image
from ...models.interfaces import Segmenter
from ...models.sam.sam import feature_list, square_masks
from .methods import Answer, EvaluationRequest, Method, Scene


def persam_method(segmenter: Segmenter, dataset: Dataset, request: EvaluationRequest) -> Method:
    """Matching with one image of the data set for each label, which is not scored.

    Args:
        segmenter: of SAM's kind.
        dataset: the reference of a label is the first image with it, in an order drawn by the
            request's seed.
        request: for its seed.

    Raises:
        DatasetError: a label is on no image.
    """
    items = sorted(dataset.items, key=lambda item: item.item_id)
    random.Random(request.seed).shuffle(items)
    targets: dict[int, Tensor] = {}
    used: set[str] = set()
    for item in items:
        missing = [value for value in dataset.labels if value not in targets]
        if not missing:
            break
        labels = read_mask(item)
        there = [value for value in missing if (labels == value).any()]
        if there:
            embedding = segmenter.embed(read_image(item.image_path), item.item_id)
            for value in there:
                targets[value] = target_feature(embedding, labels == value)
            used.add(item.item_id)
    absent = [name for value, name in dataset.labels.items() if value not in targets]
    if absent:
        raise DatasetError(dataset.name, f"no image shows {absent[0]}, so there is no reference")

    def answer(scene: Scene) -> Answer:
        embedding = segmenter.embed(scene.image, scene.item.item_id)
        masks = [match(segmenter, embedding, targets[value]) for value in dataset.labels]
        return Answer(tuple(masks))

    return Method(answer, left_out=frozenset(used))


def target_feature(embedding: ImageEmbedding, mask: BoolArray) -> Tensor:
    """The mean feature (C,) of unit length over the cells that a mask (H, W) covers."""
    features = _unit(embedding)
    grid = features.shape[1], features.shape[2]
    share = square_masks(torch.from_numpy(mask)[None].float(), grid, embedding.covered)[0]
    # Cells that are mostly object; of one smaller than half a cell the fullest.
    weight = torch.where(share >= min(0.5, float(share.max())), share, torch.zeros_like(share))
    return F.normalize((features * weight).sum((1, 2)), dim=0)


def match(segmenter: Segmenter, embedding: ImageEmbedding, target: Tensor) -> BoolArray:
    """The mask (H, W) of what is most alike to a feature (C,) of unit length."""
    features = _unit(embedding)
    rows, columns = covered_cells(embedding.covered, (features.shape[1], features.shape[2]))
    alike = torch.einsum("chw,c->hw", features, target)[:rows, :columns]
    height, width = embedding.size_hw
    points = []
    for place in (int(alike.argmax()), int(alike.argmin())):
        row, column = divmod(place, columns)
        points.append(((column + 0.5) * width / columns - 0.5, (row + 0.5) * height / rows - 0.5))
    clicks = Prompts(np.array(points, np.float32), np.array([1, 0], np.int32))
    found = segmenter.predict(embedding, clicks)
    found = segmenter.predict(embedding, replace(clicks, mask_input=found.low_res_logits[0]))
    box = mask_to_box(found.masks[0])
    if box is not None:
        again = replace(clicks, mask_input=found.low_res_logits[0], box=np.asarray(box, np.float32))
        found = segmenter.predict(embedding, again)
    return np.asarray(found.masks[0], bool)


MATCHER_POINTS = 5
"""Positive clicks at most."""


def matcher(
    segmenter: Segmenter,
    references: Sequence[tuple[ImageEmbedding, BoolArray]],
    embedding: ImageEmbedding,
) -> BoolArray:
    """Matcher (arXiv 2305.13310, section 3.2): cells matched both ways are positive clicks.

    A cell of the image counts where one inside a reference's mask is most like it, and its own
    likest cell in that reference is inside the mask too. The clicks are far apart among those. (The
    paper matches DINOv2's features, which a segmenter does not have.)

    Args:
        segmenter: answers the clicks.
        references: embeddings, each with its mask (H, W).
        embedding: of the image that is asked about.
    """
    features = _unit(embedding)
    rows, columns = covered_cells(embedding.covered, (features.shape[1], features.shape[2]))
    there = features[:, :rows, :columns].flatten(1)
    kept: set[int] = set()
    for reference, mask in references:
        ours = _unit(reference)
        grid = ours.shape[1], ours.shape[2]
        share = square_masks(torch.from_numpy(mask)[None].float(), grid, reference.covered)[0]
        inside = (share >= min(0.5, float(share.max()))).flatten()
        forward = (ours.flatten(1)[:, inside].T @ there).argmax(1).unique()
        back = (there[:, forward].T @ ours.flatten(1)).argmax(1)
        kept |= set(forward[inside[back]].tolist())
    if not kept:
        return np.zeros(embedding.size_hw, bool)
    cells = np.array([divmod(index, columns) for index in sorted(kept)], float)
    # Farthest-point sampling, from the cell nearest to the middle on.
    chosen = [int(np.linalg.norm(cells - cells.mean(0), axis=1).argmin())]
    while len(chosen) < min(MATCHER_POINTS, len(cells)):
        gaps = np.linalg.norm(cells[:, None] - cells[chosen], axis=2).min(1)
        chosen.append(int(gaps.argmax()))
    height, width = embedding.size_hw
    points = ((cells[chosen] + 0.5) * [height / rows, width / columns] - 0.5)[:, ::-1]
    clicks = Prompts(points.astype(np.float32).copy(), np.ones(len(points), np.int32))
    return np.asarray(segmenter.predict(embedding, clicks).masks[0], bool)


def _unit(embedding: ImageEmbedding) -> Tensor:
    """The coarsest features (C, h, w), each cell of unit length."""
    return F.normalize(feature_list(embedding)[-1][0].float().cpu(), dim=0)
