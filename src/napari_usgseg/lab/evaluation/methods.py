"""Methods that can be scored: each looks at one image and answers with masks.

A method sees the truth because box and clicks are made from it (``Scene.truths``); one that needs
no prompt must not look there. Besides models there are predictions on disk, and two baselines of
simple image processing by Otsu's threshold (IEEE Trans. Syst. Man Cybern. 9(1), 1979).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...core.errors import DatasetError, PromptError
from ...core.geometry import jitter_box
from ...core.types import BoolArray, FloatArray, ImageEmbedding, Prediction, Prompts, TextPrompt
from ...io.datasets import Dataset, DatasetItem, check_same_size
from ...io.labels import read_labels
from ...io.masks import cut_at_half, read_mask_file
from ...io.names import NameFinder, pair_by_name, safe_file_name
from ...io.search import IMAGE_SUFFIXES
from ...models.grounding.phrases import split_phrases, wanted_phrases
from ...models.interfaces import Detector, Segmenter
from ...models.ppn.card import AutoSegmenter
from ...segmentation.postprocess import PostprocessSettings, postprocess
from ...segmentation.propose import compose, propose_auto, propose_text
from .annotator import NOC_TARGETS, REPORTED_CLICKS, foreign_boxes, simulate_clicks, tight_box

PromptKind = Literal["text", "box", "clicks", "ppn", "ppn+box", "predictions", "none"]
PROMPT_KINDS: tuple[PromptKind, ...] = ("text", "box", "clicks", "ppn", "ppn+box")
"""What models are asked with; "predictions" are masks on disk, "none" asks for no prompt."""


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """Request of an evaluation: what to measure.

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
        left_out: ids of images that it has learnt from, which are not scored.
    """

    answer: Callable[[Scene], Answer]
    per_object: bool = False
    left_out: frozenset[str] = frozenset()


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


BLUR = 0.01
"""Standard deviation of the blur, as a part of the image's longer side."""
MIDDLE = (0.25, 0.75)


def dark_blob(image: NDArray[np.uint8]) -> BoolArray:
    """The largest dark component (H, W) bool near the middle of an image (H, W, 3).

    Lesions, vessels, cysts and nerves are mostly darker than what is around them, and sonographers
    hold them in the middle. Blur, Otsu's threshold over the fan, the dark side's components, the
    largest whose centre lies in the middle half of the image (of all where none does), filled.
    """
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
    """A ``Segmenter`` by Otsu's threshold inside a box: the side that has more of its middle."""

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
