"""Proposals for one image: by a phrase, by a person's prompts, or of learned classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..core.errors import PromptError
from ..core.geometry import covered_cells, mask_to_box
from ..core.metrics import iou
from ..core.types import (
    BoolArray,
    Detections,
    FloatArray,
    ImageEmbedding,
    Prediction,
    Prompts,
    TextPrompt,
)
from ..io.datasets import Dataset, DatasetItem
from ..models.grounding.phrases import split_phrases
from ..models.interfaces import Detector, Segmenter
from ..models.ppn.card import AutoSegmenter
from .postprocess import PostprocessSettings, bounding_window, pointed_pixels, postprocess

SAME_OBJECT = 0.8
"""Masks of two phrases with a greater IoU than this show one object, which has one label."""


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """One object that a model proposes; never part of a label map until a person accepts it.

    Attributes:
        mask: (H, W) bool at the image's size, after post-processing.
        box: (4,) XYXY pixels: the detector's box or the person's, else the mask's own.
        score: in [0, 1]: the detector's, or the segmenter's IoU estimate where none detected.
        phrase: what was looked for; "" for a person's own prompts.
        iou_prediction: the segmenter's own estimate of the mask's IoU.
        low_res_logits: (h, w), to feed back as ``Prompts.mask_input`` when the person corrects
            this object.
    """

    mask: BoolArray
    box: FloatArray
    score: float
    phrase: str
    iou_prediction: float
    low_res_logits: FloatArray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Proposals:
    """What a phrase gave: ``items`` best score first, ``notes`` are sentences for the person."""

    items: tuple[Proposal, ...]
    notes: tuple[str, ...]
    embedding: ImageEmbedding


def propose_text(
    segmenter: Segmenter,
    detector: Detector,
    image: NDArray[np.uint8],
    prompt: TextPrompt,
    settings: PostprocessSettings,
    embedding: ImageEmbedding | None = None,
    *,
    use_priors: bool = True,
) -> Proposals:
    """Find and segment everything that ``prompt`` names.

    Of several phrases that claim one object the one with the best score has it; where objects
    merely overlap, ``compose`` gives each pixel to the better score.

    Args:
        segmenter: turns each box into a mask.
        detector: turns the phrases into boxes.
        image: (H, W, 3) RGB uint8.
        prompt: one or more phrases with their thresholds.
        settings: cleaning of the masks.
        embedding: of ``image`` by ``segmenter``, where it is in hand already.
        use_priors: feed a dense detector's coarse masks to the segmenter as ``mask_input``.

    Raises:
        PromptError: the prompt has no phrase.
        ModelError: ``embedding`` is another model's.
    """
    detections = detector.detect(image, prompt)
    if embedding is None:
        embedding = segmenter.embed(image)
    found = (
        _segment_box(segmenter, embedding, detections, index, settings, use_priors)
        for index in range(len(detections))
    )
    ranked = sorted((item for item in found if item.mask.any()), key=lambda item: -item.score)
    items, lost = _one_phrase_each(ranked)
    notes = detections.notes + lost
    return Proposals(items, notes + _missing(prompt, items, notes), embedding)


def _one_phrase_each(ranked: Sequence[Proposal]) -> tuple[tuple[Proposal, ...], tuple[str, ...]]:
    """Leave an object that two phrases claim to the one with the better score, and say so."""
    kept: list[Proposal] = []
    notes: list[str] = []
    for item in ranked:
        owner = next(
            (
                better.phrase
                for better in kept
                if better.phrase != item.phrase and iou(better.mask, item.mask) > SAME_OBJECT
            ),
            None,
        )
        if owner is None:
            kept.append(item)
        else:
            notes.append(f"What might be '{item.phrase}' scores better as '{owner}'.")
    return tuple(kept), tuple(dict.fromkeys(notes))


def _segment_box(
    segmenter: Segmenter,
    embedding: ImageEmbedding,
    detections: Detections,
    index: int,
    settings: PostprocessSettings,
    use_priors: bool,
) -> Proposal:
    prior = detections.priors[index] if use_priors and detections.priors is not None else None
    prompts = Prompts(box=detections.boxes[index], mask_input=prior)
    prediction = segmenter.predict(embedding, prompts)
    return Proposal(
        mask=postprocess(prediction.masks[0], settings, prompts),
        box=detections.boxes[index],
        score=float(detections.scores[index]),
        phrase=detections.phrases[index],
        iou_prediction=float(prediction.iou_predictions[0]),
        low_res_logits=prediction.low_res_logits[0],
    )


def _missing(
    prompt: TextPrompt, items: Sequence[Proposal], notes: Iterable[str]
) -> tuple[str, ...]:
    """One sentence for every phrase that gave nothing and that no note of the detector names."""
    found = {item.phrase.lower() for item in items}
    said = " ".join(notes).lower()
    return tuple(
        f"No '{phrase}' found in this image. Draw a box, or lower the threshold."
        for phrase in split_phrases(prompt.text)
        if phrase not in found and f"'{phrase}'" not in said
    )


def propose_prompts(
    segmenter: Segmenter,
    embedding: ImageEmbedding,
    prompts: Prompts,
    settings: PostprocessSettings,
    previous: BoolArray | None = None,
) -> tuple[Proposal, Prediction]:
    """Segment the one object that a person points at, or correct it.

    Args:
        segmenter: answers the prompts.
        embedding: of the image, by ``segmenter``.
        prompts: all of the object's.
        settings: cleaning of the mask.
        previous: (H, W), the object's mask before the newest of ``prompts``, which then changes no
            more of it than ``merge_correction`` allows; None where there was none.

    Returns:
        The cleaned proposal, whose ``low_res_logits`` seed the next click, and the raw prediction.

    Raises:
        PromptError: there is nothing to go by in ``prompts``.
        ModelError: ``embedding`` is another model's.
    """
    prediction = segmenter.predict(embedding, prompts)
    mask = postprocess(prediction.masks[0], settings, prompts)
    logits = prediction.low_res_logits[0]
    if previous is not None and previous.any():
        mask = merge_correction(previous, mask, prompts)
        logits = merged_logits(logits, mask, embedding.covered)
    box = prompts.box if prompts.box is not None else mask_to_box(mask)
    score = float(prediction.iou_predictions[0])
    proposal = Proposal(
        mask=mask,
        box=np.zeros(4, np.float32) if box is None else np.asarray(box, np.float32),
        score=score,
        phrase="",
        iou_prediction=score,
        low_res_logits=logits,
    )
    return proposal, prediction


def compose(
    proposals: Sequence[Proposal], class_ids: Sequence[int], size_hw: tuple[int, int]
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Draw proposals into one label map, (H, W); where two overlap, the higher score wins.

    Of equal scores the first wins.

    Args:
        proposals: with masks of shape ``size_hw``.
        class_ids: the label value, 1.., of each proposal.
        size_hw: (H, W) of the image.

    Returns:
        uint8, or uint16 where a class id is above 255; 0 is background.
    """
    dtype = np.uint16 if max(class_ids, default=0) > 255 else np.uint8
    labels = np.zeros(size_hw, dtype)
    pairs = sorted(zip(proposals, class_ids, strict=True), key=lambda pair: -pair[0].score)
    for proposal, class_id in reversed(pairs):
        labels[proposal.mask] = class_id
    return labels


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


# What a correction may change of a mask that was nearly right. A network answers a click with a
# whole new mask: the place under the click gets better, others get worse. FocalClick's progressive
# merge (arXiv 2204.02574, section 3.3) keeps only the changed region that the click touches. Here,
# too, the answer may change the mask only in the click's own sense, and only as far as the click
# tells: whoever clicks into the middle of a wrong part stands about as far from the old border as
# the true border is behind the click, so that a change much deeper than that, or far away along the
# border, was not asked for. Where the network does not follow the click at all, a disc from the
# click to the old border does. A new mask that has little in common with the old one is a new
# answer, not a correction, and stays whole. The constants were chosen on the validation side of
# ``benchmarks/splits.json`` and on phantoms (``benchmarks/corrections.py``).

LEAST_AGREEMENT = 0.7
"""IoU of old and new mask below which the new one is taken whole."""
DEPTH = 2.0
"""A change reaches so many times the click's depth from the old border, at most."""
REACH = 8.0
"""A change lies within so many times the click's depth of the click."""
LARGEST_DISC = 0.5
"""Radius of the disc round a click that the network ignored: at most this times the object's."""
UNDONE_LOGIT = 4.0
"""What is fed back where the merged mask is not the network's; of 1, 4 and 8 the best."""
GRID = 512
"""Distances in larger images are measured on a coarser grid: a click waits for them."""


def merge_correction(previous: BoolArray, answer: BoolArray, prompts: Prompts) -> BoolArray:
    """The mask after a correction; a new array.

    A prompt corrects where the previous mask contradicts it: positive points and scribbles outside
    it, negative ones inside. Without such a prompt, the answer is taken as it is.

    Args:
        previous: (H, W) the mask that the person saw.
        answer: (H, W) the segmenter's answer to all prompts, cleaned in the same way.
        prompts: XY pixels.
    """
    if not previous.any():
        return answer.copy()
    wrong = {
        1: pointed_pixels(prompts, 1, previous.shape) & ~previous,
        0: pointed_pixels(prompts, 0, previous.shape) & previous,
    }
    if not any(pixels.any() for pixels in wrong.values()):
        return answer.copy()
    is_correction = iou(previous, answer) >= LEAST_AGREEMENT
    merged: BoolArray = np.array(previous if is_correction else answer)
    largest = LARGEST_DISC * float(np.sqrt(previous.sum() / np.pi))
    window = bounding_window(previous | answer | wrong[0] | wrong[1], int(largest) + 2)
    old, new = previous[window], answer[window]
    for label, everywhere in wrong.items():
        pixels = everywhere[window]
        if pixels.any():
            depth = _distance_to(old) if label else _distance_to(~old, edge=True)
            if is_correction:
                changed = (new & ~old) if label else (old & ~new)
                merged[window][_near(changed, pixels, depth)] = bool(label)
            ignored = pixels & (merged[window] != bool(label))
            if ignored.any():
                radius = min(float(depth[ignored].max()), largest)
                merged[window][_distance_to(ignored) <= radius] = bool(label)
    return merged


def merged_logits(
    logits: FloatArray, mask: BoolArray, covered: tuple[float, float] = (1.0, 1.0)
) -> FloatArray:
    """Low-resolution logits (h, w) of an answer, made to say what the merged mask (H, W) says.

    The next click then starts from the mask that the person sees. ``covered`` is the share of the
    logits' grid that the image covers (``ImageEmbedding.covered``).
    """
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    rows, columns = covered_cells(covered, (logits.shape[0], logits.shape[1]))
    inside = np.zeros(logits.shape, bool)
    inside[:rows, :columns] = (
        np.asarray(picture.resize((columns, rows), Image.Resampling.BOX)) > 127
    )
    stated = np.where(inside, UNDONE_LOGIT, -UNDONE_LOGIT)
    return np.where(inside == (logits > 0), logits, stated).astype(np.float32)


def _near(changed: BoolArray, pixels: BoolArray, depth: NDArray[np.float32]) -> BoolArray:
    """The parts of a change that belong to a correction at ``pixels``."""
    from skimage.measure import label

    deepest = float(depth[pixels].max())
    distance = _distance_to(pixels)
    kept = changed & (depth <= DEPTH * deepest) & (distance <= REACH * deepest)
    numbered = label(kept, connectivity=1)
    touched = np.zeros(int(numbered.max()) + 1, bool)
    touched[numbered[kept & (distance <= deepest)]] = True
    return touched[numbered] & kept


def _distance_to(target: BoolArray, edge: bool = False) -> NDArray[np.float32]:
    """(H, W) Euclidean distance to the nearest target pixel, in pixels.

    Measured on a grid of at most ``GRID`` cells a side, a cell being a target if any pixel of it
    is. With ``edge``, what lies around the array is a target, too.
    """
    from scipy.ndimage import distance_transform_edt

    height, width = target.shape
    step = -(-max(height, width) // GRID)
    padding = ((0, -height % step), (0, -width % step))
    whole = np.pad(target, padding)
    blocks = whole.reshape(whole.shape[0] // step, step, -1, step)
    cells: BoolArray = np.asarray(blocks.any(axis=(1, 3)))
    if edge:
        cells = np.pad(cells, 1, constant_values=True)
    found = step * distance_transform_edt(~cells).astype(np.float32)
    found = found[1:-1, 1:-1] if edge else found
    return found.repeat(step, axis=0).repeat(step, axis=1)[:height, :width]
