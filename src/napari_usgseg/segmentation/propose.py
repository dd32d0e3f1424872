"""Proposals for one image: by a phrase, by a person's prompts, or of learned classes.

The one place where detector, segmenter and post-processing meet. Where an embedding is of a field
of view, everything is done on its crop and put back into the picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..core.errors import PromptError
from ..core.geometry import covered_cells, mask_to_box
from ..core.metrics import iou
from ..core.types import (
    BoolArray,
    Detections,
    FloatArray,
    ImageEmbedding,
    Prompts,
    TextPrompt,
)
from ..models.grounding.phrases import split_phrases
from ..models.grounding.selections import Selection, read_selections, select
from ..models.interfaces import Detector, Segmenter
from ..models.ppn.card import AutoSegmenter
from .correction import merge_correction, merged_logits
from .field_of_view import crop, prompts_within, whole_box, whole_logits, whole_mask
from .postprocess import PostprocessSettings, postprocess

DRAWN_AGREEMENT = 0.5
"""An answer whose IoU with what was drawn round is less is not taken."""
DRAWN_SHARE = 0.3
"""An answer that has less of the part that was drawn round is not taken."""
SAME_OBJECT = 0.8
"""Masks of two phrases with a greater IoU than this show one object, which has one label."""
LOGIT = 3.0
"""What a mask made by hand is worth as a segmenter's ``mask_input``; of 3 to 20 the best on the
validation images: Dice 0.913 with the lasso's box, 0.908 by a box alone.

See ``benchmarks/lasso.py``.
"""
GRID = 256
"""Longer side of such a ``mask_input``: the grid of SAM 2's decoder."""
ABSENT_BELOW = 0.0
"""A class whose object score is below this is not in the image (arXiv 2409.06821, section 3.2)."""


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
    """Proposals of a phrase: ``items`` best score first, ``notes`` are sentences for the person.

    ``embedding`` is of the image, or of the first of its fields of view.
    """

    items: tuple[Proposal, ...]
    notes: tuple[str, ...]
    embedding: ImageEmbedding


def propose_text(
    segmenter: Segmenter,
    detector: Detector,
    image: NDArray[np.uint8],
    prompt: TextPrompt,
    settings: PostprocessSettings,
    embedding: ImageEmbedding | Sequence[ImageEmbedding] | None = None,
    *,
    use_priors: bool = True,
) -> Proposals:
    """Find and segment everything that ``prompt`` names.

    Words of place and size ("largest cyst", "left kidney") choose among the candidates
    (``models.grounding.selections``) and are no part of what the finds are called. Of several
    phrases that claim one object the one with the best score has it; where objects merely overlap,
    ``compose`` gives each pixel to the better score.

    Args:
        segmenter: turns each box into a mask.
        detector: turns the phrases into boxes.
        image: (H, W, 3) RGB uint8.
        prompt: one or more phrases with their thresholds.
        settings: cleaning of the masks.
        embedding: of ``image`` by ``segmenter``, where it is in hand already; or those of its
            fields of view, each of which is searched by itself.
        use_priors: feed a dense detector's coarse masks to the segmenter as ``mask_input``.

    Raises:
        PromptError: the prompt has no phrase.
        ModelError: ``embedding`` is another model's.
    """
    if embedding is None:
        embedding = segmenter.embed(image)
    embeddings = [embedding] if isinstance(embedding, ImageEmbedding) else embedding
    selections = read_selections(prompt.text, getattr(detector, "names", ()))
    if any(item.words for item in selections):
        nouns = dict.fromkeys(item.phrase for item in selections)
        prompt = replace(prompt, text=". ".join(nouns))
    found: list[Proposal] = []
    said: list[str] = []
    for each in embeddings:
        seen = image if each.field is None else crop(each.field, image)
        detections = detector.detect(seen, prompt)
        said.extend(detections.notes)
        for index in range(len(detections)):
            item = _segment_box(segmenter, each, detections, index, settings, use_priors)
            found.append(_in_picture(each, item))
    ranked = sorted((item for item in found if item.mask.any()), key=lambda item: -item.score)
    items, lost = _one_phrase_each(ranked)
    notes = tuple(dict.fromkeys(said)) + lost
    notes += _missing(prompt, items, notes)
    chosen, how = _selected(items, selections, image.shape[:2])
    return Proposals(chosen, notes + how, embeddings[0])


def _selected(
    items: tuple[Proposal, ...], selections: Sequence[Selection], size_hw: tuple[int, int]
) -> tuple[tuple[Proposal, ...], tuple[str, ...]]:
    """What the words of place and size choose of what was found, and how they were read."""
    if not any(item.words for item in selections):
        return items, ()
    taken: dict[int, str] = {}
    notes: list[str] = []
    for selection in selections:
        own = [n for n, item in enumerate(items) if item.phrase == selection.phrase]
        chosen, how = select(selection, [items[n].mask for n in own], size_hw)
        for index in chosen:
            taken.setdefault(own[index], selection.name)
        notes += [how] if how else []
    known = {selection.phrase for selection in selections}
    return tuple(
        replace(item, phrase=taken.get(n, item.phrase))
        for n, item in enumerate(items)
        if n in taken or item.phrase not in known
    ), tuple(notes)


def _in_picture(
    embedding: ImageEmbedding, item: Proposal, beside: BoolArray | None = None
) -> Proposal:
    """What was proposed on what was encoded, in the picture; ``beside`` (H, W) is there beside."""
    field, logits = embedding.field, item.low_res_logits
    if field is None:
        return item
    if logits is not None:
        rows, columns = covered_cells(embedding.covered, (logits.shape[0], logits.shape[1]))
        logits = whole_logits(field, logits[:rows, :columns])
    return replace(
        item,
        mask=whole_mask(field, item.mask, beside),
        box=whole_box(field, item.box),
        low_res_logits=logits,
    )


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
    drawn: BoolArray | None = None,
) -> Proposal:
    """Segment the one object that a person points at, or correct it.

    Args:
        segmenter: answers the prompts.
        embedding: of the image, by ``segmenter``.
        prompts: all of the object's.
        settings: cleaning of the mask.
        previous: (H, W), the object's mask before the newest of ``prompts``, which then changes no
            more of it than ``merge_correction`` allows; None where there was none.
        drawn: (H, W), the inside of a lasso, where that is the newest of ``prompts``: the answer
            changes ``previous`` in there only, and where it has little in common with what was
            drawn, that is taken as it is.

    Returns:
        The cleaned proposal, whose ``low_res_logits`` seed the next click.

    Raises:
        PromptError: there is nothing to go by in ``prompts``, or ``previous`` is of another size
            than the image.
        ModelError: ``embedding`` is another model's.
    """
    field = embedding.field
    size_hw = tuple(embedding.size_hw if field is None else field.size_hw)
    if previous is not None and previous.shape != size_hw:
        raise PromptError(
            f"the previous mask is {previous.shape}, the image {size_hw}: "
            "give one that was made on this image"
        )
    if field is not None:
        # The crop is treated as a picture of its own, so the rest of this function knows no fields.
        inside = propose_prompts(
            segmenter,
            replace(embedding, field=None),
            prompts_within(field, prompts),
            settings,
            None if previous is None else crop(field, previous),
            None if drawn is None else crop(field, drawn),
        )
        found = _in_picture(embedding, inside, previous)
        return replace(found, box=_box_of(prompts, found.mask))
    prediction = segmenter.predict(embedding, prompts)
    mask = postprocess(prediction.masks[0], settings, prompts)
    logits = prediction.low_res_logits[0]
    if drawn is not None:
        mask = within_lasso(drawn, mask, previous)
        logits = merged_logits(logits, mask, embedding.covered)
    elif previous is not None and previous.any():
        mask = merge_correction(previous, mask, prompts)
        logits = merged_logits(logits, mask, embedding.covered)
    score = float(prediction.iou_predictions[0])
    return Proposal(
        mask=mask,
        box=_box_of(prompts, mask),
        score=score,
        phrase="",
        iou_prediction=score,
        low_res_logits=logits,
    )


def _box_of(prompts: Prompts, mask: BoolArray) -> FloatArray:
    """The person's box (4,), else the mask's, zeros where it is empty."""
    box = prompts.box if prompts.box is not None else mask_to_box(mask)
    return np.zeros(4, np.float32) if box is None else np.asarray(box, np.float32)


def within_lasso(
    drawn: BoolArray, answer: BoolArray, previous: BoolArray | None = None
) -> BoolArray:
    """The mask (H, W) that a lasso makes of a segmenter's answer.

    Args:
        drawn: (H, W), the lasso's inside.
        answer: (H, W), what the segmenter makes of it.
        previous: (H, W), the mask to which a part is added; None where all was drawn round.
    """
    if previous is None:
        return answer if iou(answer, drawn) >= DRAWN_AGREEMENT else drawn.copy()
    part = drawn & ~previous
    added = part & answer
    # The model sees little where the person drew: their line is worth more than its answer.
    if np.count_nonzero(added) < DRAWN_SHARE * np.count_nonzero(part):
        added = part
    return previous | added


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
    # Painted from the worst to the best, so the best is on top; reversed, so that of equals it is
    # the first.
    for proposal, class_id in reversed(pairs):
        labels[proposal.mask] = class_id
    return labels


def propose_auto(
    auto: AutoSegmenter,
    embedding: ImageEmbedding | Sequence[ImageEmbedding],
    settings: PostprocessSettings,
) -> Proposals:
    """One proposal for each class that is in the image, named after the class.

    Args:
        auto: a trained prompt predictor on its segmenter.
        embedding: of the image, by that segmenter; or those of its fields of view, in each of
            which a class may be.
        settings: cleaning of the masks.

    Raises:
        ModelError: ``embedding`` is another model's.
    """
    embeddings = [embedding] if isinstance(embedding, ImageEmbedding) else embedding
    items = [item for each in embeddings for item in _learned(auto, each, settings)]
    found = {item.phrase for item in items}
    missing = [name for name in auto.card.classes.values() if name not in found]
    notes = tuple(f"No '{name}' found in this image." for name in missing)
    return Proposals(tuple(sorted(items, key=lambda item: -item.score)), notes, embeddings[0])


def _learned(
    auto: AutoSegmenter, embedding: ImageEmbedding, settings: PostprocessSettings
) -> Iterator[Proposal]:
    for value, prediction in auto.predict(embedding).items():
        mask = postprocess(prediction.masks[0], settings)
        box = mask_to_box(mask)
        if prediction.object_score < ABSENT_BELOW or box is None:
            continue
        score = float(prediction.iou_predictions[0])
        name, logits = auto.card.classes[value], prediction.low_res_logits[0]
        yield _in_picture(embedding, Proposal(mask, box, score, name, score, logits))


def as_logits(mask: BoolArray) -> FloatArray:
    """A mask as a segmenter's ``mask_input``: (h, w) logits, longer side 256 at most."""
    from PIL import Image

    height, width = mask.shape
    scale = min(1.0, GRID / max(height, width))
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    share = Image.fromarray(mask.astype(np.uint8) * 255).resize(small, Image.Resampling.BOX)
    return ((np.asarray(share, np.float32) / 255 * 2 - 1) * LOGIT).astype(np.float32)
