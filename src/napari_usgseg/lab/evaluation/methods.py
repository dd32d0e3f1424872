"""What can be measured: a method looks at one image and answers with the masks to be scored.

A method sees the truth because box and clicks are made from it (``Scene.truths``); one that needs
no prompt must not look there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...core.errors import DatasetError
from ...core.geometry import components, jitter_box, mask_to_box
from ...core.metrics import dice, iou, next_click
from ...core.types import BoolArray, FloatArray, ImageEmbedding, Prompts, TextPrompt
from ...io.datasets import Dataset, DatasetItem, check_same_size, read_mask
from ...io.labels import read_labels
from ...io.masks import cut_at_half, read_mask_file
from ...io.names import NameFinder, pair_by_name, safe_file_name
from ...io.search import IMAGE_SUFFIXES
from ...models.grounding.phrases import split_phrases, wanted_phrases
from ...models.interfaces import AutoSegmenter, Detector, Segmenter
from ...segmentation.postprocess import PostprocessSettings, postprocess
from ...segmentation.propose import auto_masks, compose, propose_prompts, propose_text


def objects_of(labels: NDArray[np.integer]) -> Iterator[BoolArray]:
    """Every object of a label map (H, W): label by label, its components in reading order."""
    for value in np.unique(labels[labels > 0]):
        yield from components(labels == value)


def tight_box(truth: BoolArray) -> FloatArray:
    """The box (4,) XYXY of an object (H, W) that has pixels."""
    return np.asarray(mask_to_box(truth), np.float32)


def foreign_boxes(other: DatasetItem, size_hw: tuple[int, int], count: int) -> list[FloatArray]:
    """``count`` boxes of another image's objects, scaled to this image's size."""
    labels = read_mask(other)
    height, width = size_hw
    scale = np.array([width / labels.shape[1], height / labels.shape[0]] * 2, np.float32)
    boxes = [tight_box(truth) * scale for truth in objects_of(labels)]
    return [boxes[index % len(boxes)] for index in range(count)] if boxes else []


MAX_CLICKS = 20
REPORTED_CLICKS = (1, 3, 5)
NOC_TARGETS = (0.85, 0.90)


@dataclass(frozen=True, slots=True, eq=False)
class ClickTrace:
    """What a series of clicks on one object gave.

    Attributes:
        dice: after click 1, 2, ...
        iou: after click 1, 2, ...
        mask: (H, W) bool after the last of ``REPORTED_CLICKS``.
    """

    dice: tuple[float, ...]
    iou: tuple[float, ...]
    mask: BoolArray

    def dice_at(self, clicks: int) -> float:
        """Dice after so many clicks; a trace that ended early (nothing left to mend) stays."""
        return self.dice[min(clicks, len(self.dice)) - 1]

    def noc(self, target: float) -> int:
        """Clicks needed to reach IoU ``target``; ``MAX_CLICKS`` where it was never reached."""
        reached = (i for i, value in enumerate(self.iou, start=1) if value >= target)
        return next(reached, MAX_CLICKS)


def simulate_clicks(
    segmenter: Segmenter,
    embedding: ImageEmbedding,
    truth: BoolArray,
    settings: PostprocessSettings,
) -> ClickTrace:
    """Click an object until IoU 0.90 is reached, at least 5 and at most ``MAX_CLICKS`` times.

    Args:
        segmenter: the model that answers the clicks.
        embedding: of the image.
        truth: (H, W) bool, the object; not empty.
        settings: cleaning of each answer.
    """
    mask = np.zeros_like(truth)
    reported = mask
    points: list[tuple[float, float]] = []
    labels: list[int] = []
    dices: list[float] = []
    ious: list[float] = []
    low_res = None
    for count in range(1, MAX_CLICKS + 1):
        click = next_click(truth, mask)
        if click is None:
            break
        points.append(click[0])
        labels.append(click[1])
        prompts = Prompts(
            point_coords=np.array(points, np.float32).reshape(-1, 2),
            point_labels=np.array(labels, np.int32),
            mask_input=low_res,
        )
        proposal, _ = propose_prompts(
            segmenter, embedding, prompts, settings, previous=mask if count > 1 else None
        )
        mask, low_res = proposal.mask, proposal.low_res_logits
        dices.append(dice(truth, mask))
        ious.append(iou(truth, mask))
        if count <= max(REPORTED_CLICKS):
            reported = mask
        if count >= max(REPORTED_CLICKS) and ious[-1] >= max(NOC_TARGETS):
            break
    return ClickTrace(tuple(dices), tuple(ious), reported)


PromptKind = Literal["text", "box", "clicks", "ppn", "ppn+box", "predictions", "none"]
PROMPT_KINDS: tuple[PromptKind, ...] = ("text", "box", "clicks", "ppn", "ppn+box")
"""What models are asked with; "predictions" are masks on disk, "none" asks for no prompt."""


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationRequest:
    """What to measure.

    Attributes:
        prompt: "text", "box", "clicks", "ppn" or "ppn+box"; "predictions" or "none" where a method
            of another kind is scored.
        text: phrase for label 1 instead of the data set's target.
        box_threshold: see ``TextPrompt``.
        text_threshold: see ``TextPrompt``.
        one_sentence: ask for all labels in one sentence and score the one label map that it gives,
            instead of one phrase at a time.
        jitter: each edge of a box is shaken by up to this fraction of its side.
        shuffle_prompts: prompt with a box of another image; Dice must collapse, or the prompt
            does not matter.
        settings: cleaning of every mask.
        use_priors: see ``propose_text``.
        include_trained: also score images that the prompt predictor was trained on.
        limit: at most this many images of each data set, drawn by ``seed``.
        seed: of the draw, of the jitter and of the shuffling.

    Raises:
        PromptError: there is no phrase in the text.
    """

    prompt: PromptKind
    text: str | None = None
    box_threshold: float | None = None
    text_threshold: float | None = None
    one_sentence: bool = False
    jitter: float = 0.0
    shuffle_prompts: bool = False
    settings: PostprocessSettings = field(default_factory=PostprocessSettings)
    use_priors: bool = True
    include_trained: bool = False
    limit: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.text is not None:
            wanted_phrases(self.text, "--text")


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """One image with its truth, and the random numbers that belong to it alone.

    Attributes:
        dataset: it is part of.
        item: of the data set.
        other: another item, for foreign prompts.
        image: (H, W, 3) RGB uint8.
        labels: (H, W), the true label map.
        truths: (H, W) bool, what is scored: each label of the data set, or each object.
        rng: seeded by the request's seed and the image's name.
    """

    dataset: Dataset
    item: DatasetItem
    other: DatasetItem
    image: NDArray[np.uint8]
    labels: NDArray[np.integer]
    truths: tuple[BoolArray, ...]
    rng: np.random.Generator

    @property
    def size_hw(self) -> tuple[int, int]:
        """(H, W) of the image."""
        return self.labels.shape


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """A mask (H, W) bool for each of ``Scene.truths``; what clicks gave, by number and by IoU."""

    masks: tuple[BoolArray, ...]
    dice_at_clicks: dict[int, float] | None = None
    noc: dict[float, float] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Method:
    """Something that can be scored.

    Attributes:
        answer: what it makes of an image.
        per_object: it is asked for one object at a time, and images without one are left out;
            otherwise it is asked for whole labels.
    """

    answer: Callable[[Scene], Answer]
    per_object: bool = False


def text_method(segmenter: Segmenter, detector: Detector, request: EvaluationRequest) -> Method:
    """Phrases only: the data set's, one at a time or all in one sentence."""

    def phrase_of(dataset: Dataset, label: int) -> str:
        return request.text if request.text and label == 1 else dataset.phrase(label)

    def answer(scene: Scene) -> Answer:
        embedding = segmenter.embed(scene.image, scene.item.item_id)
        phrases = {label: phrase_of(scene.dataset, label) for label in scene.dataset.labels}
        asked = [". ".join(phrases.values())] if request.one_sentence else list(phrases.values())
        found = [
            propose_text(
                segmenter,
                detector,
                scene.image,
                TextPrompt(text, request.box_threshold, request.text_threshold),
                request.settings,
                embedding,
                use_priors=request.use_priors,
            )
            for text in asked
        ]
        if request.one_sentence:
            owner: dict[str, int] = {}
            for label, phrase in phrases.items():
                owner |= {part: owner.get(part, label) for part in split_phrases(phrase)}
            items = found[0].items
            labels = compose(items, [owner[item.phrase] for item in items], scene.size_hw)
            return Answer(tuple(labels == label for label in phrases))
        union = np.zeros((len(asked), *scene.size_hw), bool)
        for mask, proposals in zip(union, found, strict=True):
            for item in proposals.items:
                mask |= item.mask
        return Answer(tuple(union))

    return Method(answer)


def box_method(segmenter: Segmenter, request: EvaluationRequest) -> Method:
    """The tight box of each object, shaken or taken from another image where that is asked for."""

    def answer(scene: Scene) -> Answer:
        embedding = segmenter.embed(scene.image, scene.item.item_id)
        boxes = [tight_box(truth) for truth in scene.truths]
        if request.shuffle_prompts:
            boxes = foreign_boxes(scene.other, scene.size_hw, len(boxes)) or boxes
        masks = []
        for box in boxes:
            if request.jitter:
                box = jitter_box(box, request.jitter, scene.size_hw, scene.rng)
            prompts = Prompts(box=box)
            mask = segmenter.predict(embedding, prompts).masks[0]
            masks.append(postprocess(mask, request.settings, prompts))
        return Answer(tuple(masks))

    return Method(answer, per_object=True)


def clicks_method(segmenter: Segmenter, request: EvaluationRequest) -> Method:
    """The simulated annotator on each object."""

    def answer(scene: Scene) -> Answer:
        embedding = segmenter.embed(scene.image, scene.item.item_id)
        traces = [
            simulate_clicks(segmenter, embedding, truth, request.settings) for truth in scene.truths
        ]
        return Answer(
            tuple(trace.mask for trace in traces),
            {n: float(np.mean([trace.dice_at(n) for trace in traces])) for n in REPORTED_CLICKS},
            {q: float(np.mean([trace.noc(q) for trace in traces])) for q in NOC_TARGETS},
        )

    return Method(answer, per_object=True)


def ppn_method(
    segmenter: Segmenter,
    auto: AutoSegmenter,
    classes: Mapping[int, int | None],
    request: EvaluationRequest,
) -> Method:
    """A prompt predictor without any prompt; ``classes`` as ``classes_for`` gives them."""

    def answer(scene: Scene) -> Answer:
        embedding = segmenter.embed(scene.image, scene.item.item_id)
        return Answer(tuple(auto_masks(auto, embedding, classes, request.settings)))

    return Method(answer)


def ppn_box_method(
    segmenter: Segmenter,
    auto: AutoSegmenter,
    classes: Mapping[int, int | None],
    request: EvaluationRequest,
) -> Method:
    """A prompt predictor and the tight box of each object together.

    Where no class was learned for an object, its box alone is asked.
    """

    def answer(scene: Scene) -> Answer:
        embedding = segmenter.embed(scene.image, scene.item.item_id)
        masks = []
        for truth in scene.truths:
            value = classes[int(scene.labels[truth][0])]
            asked = segmenter if value is None else auto.for_class(value)
            prompts = Prompts(box=tight_box(truth))
            mask = asked.predict(embedding, prompts).masks[0]
            masks.append(postprocess(mask, request.settings, prompts))
        return Answer(tuple(masks))

    return Method(answer, per_object=True)


def predictions_method(folder: Path) -> Method:
    """Label maps that anybody made: ``<folder>/<data set>/<id>.png`` or ``<folder>/<id>.png``.

    They are found by name as a data set's masks are (``io.names.pair_by_name``), and have its label
    values and the image's size. Where the data set has one label, whatever is not 0 is that label;
    a black and white map with soft edges is cut at half (``io.masks``).
    The answer raises DatasetError where a file is missing, of another size or could belong to two
    items, so that the item is named and the others are scored.
    """
    paired: dict[str, dict[str, Path | DatasetError]] = {}

    def answer(scene: Scene) -> Answer:
        name, item_id = scene.dataset.name, scene.item.item_id
        place = NameFinder(folder, IMAGE_SUFFIXES).folder([safe_file_name(name)]) or folder
        if name not in paired:
            ids = [item.item_id for item in scene.dataset.items]
            paired[name] = pair_by_name(place, ids, IMAGE_SUFFIXES)
        path = paired[name].get(item_id)
        if path is None:
            path = DatasetError(
                place / f"{item_id}.png", "no such prediction; every image needs one, empty or not"
            )
        if isinstance(path, DatasetError):
            raise path
        labels = list(scene.dataset.labels)
        found = cut_at_half(path, read_mask_file(path).values) if len(labels) == 1 else None
        if found is not None:
            check_same_size(path, found, scene.size_hw)
            return Answer((found,))
        values = read_labels(path)
        check_same_size(path, values, scene.size_hw)
        if len(labels) == 1:
            return Answer((values > 0,))
        return Answer(tuple(values == label for label in labels))

    return Method(answer)
