"""Masks of learned classes in an image to which nobody pointed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..errors import PromptError
from ..geometry import mask_to_box
from ..io.datasets import Dataset, DatasetItem
from ..models.base import AutoSegmenter
from ..types import BoolArray, ImageEmbedding
from .postprocess import PostprocessSettings, postprocess
from .propose import Proposal, Proposals

ABSENT_BELOW = 0.0
"""A class whose object score is below this is not in the image (arXiv 2409.06821, section 3.2)."""


def propose_auto(
    auto: AutoSegmenter, embedding: ImageEmbedding, settings: PostprocessSettings
) -> Proposals:
    """One proposal for each class that is in the image, named after the class.

    Args:
        auto: a trained prompt predictor on its segmenter.
        embedding: of the image, by that segmenter.
        settings: cleaning of the masks.

    Raises:
        ModelError: ``embedding`` is another model's.
    """
    items = []
    for value, prediction in auto.predict(embedding).items():
        mask = postprocess(prediction.masks[0], settings)
        box = mask_to_box(mask)
        if prediction.object_score < ABSENT_BELOW or box is None:
            continue
        iou = float(prediction.iou_predictions[0])
        name, logits = auto.card.classes[value], prediction.low_res_logits[0]
        items.append(Proposal(mask, box, iou, name, iou, logits))
    found = {item.phrase for item in items}
    missing = [name for name in auto.card.classes.values() if name not in found]
    notes = tuple(f"No '{name}' found in this image." for name in missing)
    return Proposals(tuple(sorted(items, key=lambda item: -item.score)), notes, embedding)


def classes_for(auto: AutoSegmenter, dataset: Dataset) -> dict[int, int | None]:
    """Which class of a prompt predictor stands for each label of a data set; None where none does.

    By name where any label's name is known, else by label value.

    Raises:
        PromptError: no label has a class.
    """
    names = dataset.class_names()
    by_name = {label: auto.card.value_of(name) for label, name in names.items()}
    if any(value is not None for value in by_name.values()):
        return by_name
    by_value = {label: label if label in auto.card.classes else None for label in dataset.labels}
    if all(value is None for value in by_value.values()):
        known = ", ".join(f"{value} ({name})" for value, name in auto.card.classes.items())
        raise PromptError(
            f"{dataset.name}: the prompt predictor knows none of its labels, only {known}"
        )
    return by_value


def untrained_items(auto: AutoSegmenter, dataset: Dataset) -> list[DatasetItem]:
    """The items of a data set that the prompt predictor was not trained on."""
    learnt = set(auto.card.images) if auto.card.source == dataset.name else set()
    return [item for item in dataset.items if item.item_id not in learnt]


def auto_masks(
    auto: AutoSegmenter,
    embedding: ImageEmbedding,
    classes: Mapping[int, int | None],
    settings: PostprocessSettings,
) -> list[BoolArray]:
    """The cleaned mask of each label of ``classes`` (`classes_for`), empty where it is absent."""
    found = {item.phrase: item.mask for item in propose_auto(auto, embedding, settings).items}
    names = [None if value is None else auto.card.classes[value] for value in classes.values()]
    empty = np.zeros(embedding.size_hw, bool)
    return [empty if name is None else found.get(name, empty) for name in names]
