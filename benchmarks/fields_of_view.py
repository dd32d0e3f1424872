"""Whether models do better on the sector that was found in a picture than on all of it.

    python benchmarks/fields_of_view.py DATASET... [--limit 20] [--model nano] [--detector nano]

Prints Dice by data set, for the data set's own phrases, for a tight box, one click and three clicks
of the simulated annotator on each object: on the whole picture, cut to the sector, and on the crop
of the sector. Only pictures whose sector is sure and smaller than the picture are asked.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_usgseg.core.metrics import dice, next_click
from napari_usgseg.core.types import BoolArray, FieldOfView, ImageEmbedding, Prompts, TextPrompt
from napari_usgseg.io.datasets import Dataset, read_dataset
from napari_usgseg.io.images import read_image
from napari_usgseg.io.labels import read_labels
from napari_usgseg.lab.evaluation.annotator import add_click, objects_of, prompt_for
from napari_usgseg.models.interfaces import Detector, Segmenter
from napari_usgseg.models.registry import load_detector, load_segmenter
from napari_usgseg.segmentation.field_of_view import embed_field, whole_mask
from napari_usgseg.segmentation.postprocess import PostprocessSettings
from napari_usgseg.segmentation.propose import propose_prompts, propose_text
from napari_usgseg.segmentation.sector import find_sector

WAYS = ("whole picture", "cut to the sector", "crop of the sector")
CLEANING = PostprocessSettings()
CLICKS = 3
LOOKED_AT = 4
"""So many times the wanted pictures are looked at for sectors."""
SURE, SMALLER = 0.9, 0.9
"""Least fit of a sector, and the largest part of the picture that its box may be."""

Scores = dict[tuple[str, str], list[float]]
"""Dice by prompt and way."""


def sector_field(image: np.ndarray) -> FieldOfView | None:
    """The field of the sector of a picture (H, W, 3); None where none is sure and smaller."""
    found = find_sector(image)
    if found is None or found.fit < SURE:
        return None
    size_hw = (image.shape[0], image.shape[1])
    mask = found.mask(size_hw)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    shape = mask[box[1] : box[3], box[0] : box[2]]
    return FieldOfView(box, size_hw, shape) if shape.size < SMALLER * mask.size else None


def masks_of_phrases(
    segmenter: Segmenter,
    detector: Detector,
    image: np.ndarray,
    dataset: Dataset,
    embedding: ImageEmbedding,
) -> list[BoolArray]:
    """What each phrase of a data set finds."""
    masks = []
    for label in dataset.labels:
        prompt = TextPrompt(dataset.phrase(label))
        found = propose_text(segmenter, detector, image, prompt, CLEANING, embedding)
        masks.append(
            np.any([np.zeros(image.shape[:2], bool), *(item.mask for item in found.items)], axis=0)
        )
    return masks


def after_clicks(segmenter: Segmenter, embedding: ImageEmbedding, truth: BoolArray) -> list[float]:
    """Dice after each of a few clicks of the simulated annotator."""
    prompts, mask, found = Prompts(), np.zeros_like(truth), []
    for _ in range(CLICKS):
        click = next_click(truth, mask)
        if click is not None:
            prompts = add_click(prompts, click, prompts.mask_input)
            item = propose_prompts(segmenter, embedding, prompts, CLEANING, mask)
            mask, prompts = item.mask, replace(prompts, mask_input=item.low_res_logits)
        found.append(dice(truth, mask))
    return found


def measure(dataset: Dataset, segmenter: Segmenter, detector: Detector, limit: int) -> Scores:
    """Ask about the images of a data set in each way."""
    scores: Scores = defaultdict(list)
    asked = 0
    order = np.random.default_rng(0).permutation(len(dataset.items))
    for item in (dataset.items[index] for index in order[: LOOKED_AT * limit]):
        image, labels = read_image(item.image_path), read_labels(item.mask_path)
        field = sector_field(image)
        if field is None or asked == limit:
            continue
        asked += 1
        assert field.shape is not None
        cut = whole_mask(field, field.shape)
        for way, embedding in (
            (WAYS[0], segmenter.embed(image)),
            (WAYS[2], embed_field(segmenter, image, field)),
        ):
            ways = [(way, np.ones_like(cut))]
            ways += [(WAYS[1], cut)] if way == WAYS[0] else []
            found = masks_of_phrases(segmenter, detector, image, dataset, embedding)
            for name, within in ways:
                scores["phrase", name] += [
                    dice(labels == label, mask & within)
                    for label, mask in zip(dataset.labels, found, strict=True)
                    if (labels == label).any()
                ]
            for truth in objects_of(labels):
                if embedding.field is not None and not (truth & cut).sum() > 0.5 * truth.sum():
                    print(f"{item.item_id}: an object lies outside of the sector", flush=True)
                    continue
                box = propose_prompts(segmenter, embedding, prompt_for(truth, "box"), CLEANING)
                clicked = after_clicks(segmenter, embedding, truth)
                for name, within in ways:
                    scores["box", name].append(dice(truth, box.mask & within))
                    if within.all():
                        scores["1 click", name].append(clicked[0])
                        scores[f"{CLICKS} clicks", name].append(clicked[-1])
    return scores


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--limit", type=int, default=20, help="images of each data set")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--detector", default="nano")
    chosen = parser.parse_args()
    segmenter, detector = load_segmenter(chosen.model), load_detector(chosen.detector)
    print("| data set | prompt | n | " + " | ".join(WAYS) + " |")
    print("|" + " --- |" * (3 + len(WAYS)))
    for dataset in map(read_dataset, chosen.datasets):
        scores = measure(dataset, segmenter, detector, chosen.limit)
        for prompt in dict.fromkeys(prompt for prompt, _ in scores):
            values = [scores.get((prompt, way), []) for way in WAYS]
            cells = [f"{float(np.mean(found)):.3f}" if found else "" for found in values]
            print(
                f"| {dataset.name} | {prompt} | {len(values[0])} | {' | '.join(cells)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
