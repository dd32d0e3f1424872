"""Joining of a person's prompts and learned ones: which way is best for each class, measured.

A person is simulated on images that a prompt predictor did not learn from: a box and a click on an
object, and corrections of what was predicted without a prompt: a click and a scribble on the
largest error (by its depth, ``core.metrics.next_click``). Every way of ``WAYS`` answers as it would
in the window, cleaned, and merged with the mask that is corrected.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import ndimage

from ..core.geometry import components, mask_to_box
from ..core.metrics import dice, next_click
from ..core.types import BoolArray, FloatArray, ImageEmbedding, Prediction, Prompts
from ..models.interfaces import Segmenter
from ..models.ppn.card import WAYS, Way, best_way
from ..models.ppn.model import PpnModel
from ..segmentation.postprocess import PostprocessSettings, postprocess
from ..segmentation.propose import propose_prompts
from .labelled import LabelledImage

OBJECTS = 2
"""Objects of a class on an image that are asked for, the largest ones: a person waits for this."""
SCRIBBLE = 0.7
"""A scribble's length, as a part of the error's."""
LEARNED = "predicted"
"""What is predicted without a prompt, beside the ways that correct it."""
CLEANING = PostprocessSettings()

Measured = dict[int, dict[str, dict[str, list[float]]]]
"""Dice by label value, kind of prompt and way."""


class _InOneWay:
    """A class of a prompt predictor as a ``Segmenter`` that answers in one way."""

    def __init__(self, model: PpnModel, class_id: int, way: Way) -> None:
        self.model_id = model.segmenter.model_id
        self.embed = model.segmenter.embed
        self._model, self._class_id, self._way = model, class_id, way

    def predict(
        self, embedding: ImageEmbedding, prompts: Prompts, multimask: bool | None = None
    ) -> Prediction:
        return self._model.answer(embedding, self._class_id, prompts, self._way)


def measure_ways(model: PpnModel, image: LabelledImage) -> Measured:
    """Dice of every way on an image that the model did not learn from."""
    embedding = image.embedding or model.segmenter.embed(image.image, image.image_id)
    return {
        value: {
            kind: {way: list(scores) for way, scores in ways.items()}
            for kind, ways in _measured(model, embedding, value, image.labels == value).items()
        }
        for value in model.card.classes
        if (image.labels == value).any()
    }


def _measured(
    model: PpnModel, embedding: ImageEmbedding, value: int, truth: BoolArray
) -> dict[str, dict[str, list[float]]]:
    found: dict[str, dict[str, list[float]]] = {kind: {} for kind in WAYS}

    def ask(kind: str, prompts: Prompts, wanted: BoolArray, before: BoolArray | None) -> None:
        for way in WAYS[kind]:
            asked: Segmenter = _InOneWay(model, value, way)
            made = propose_prompts(asked, embedding, prompts, CLEANING, before)
            found[kind].setdefault(way, []).append(dice(wanted, made.mask))

    objects = sorted(components(truth), key=np.count_nonzero, reverse=True)[:OBJECTS]
    for wanted in objects:
        box = np.asarray(mask_to_box(wanted), np.float32)
        ask("box", Prompts(box=box), wanted, None)
        click = next_click(wanted, np.zeros_like(wanted))
        if click is not None:
            ask("click", clicked(Prompts(), *click), wanted, None)
    predicted = model.answer(embedding, value, Prompts(), "blended")
    before = postprocess(predicted.masks[0], CLEANING)
    if not before.any():
        return found
    seeded = Prompts(box=mask_to_box(before), mask_input=predicted.low_res_logits[0])
    click = next_click(truth, before)
    if click is None:
        return found
    for kind, prompts in (
        ("fix by click", clicked(seeded, *click)),
        ("fix by scribble", scribbled(seeded, truth, before, *click)),
    ):
        if click[1] and not _is_in(seeded.box, click[0]):
            prompts = replace(prompts, box=None)  # as a person's positive prompt beyond the box
        found[kind][LEARNED] = [dice(truth, before)]
        ask(kind, prompts, truth, before)
    return found


def clicked(prompts: Prompts, at: tuple[float, float], label: int) -> Prompts:
    """The prompts with a click more."""
    return replace(
        prompts,
        point_coords=np.concatenate([prompts.point_coords, np.array([at], np.float32)]),
        point_labels=np.append(prompts.point_labels, np.int32(label)).astype(np.int32),
    )


def scribbled(
    prompts: Prompts, truth: BoolArray, before: BoolArray, at: tuple[int, int], label: int
) -> Prompts:
    """The prompts with a scribble more, along the piece of the error that a pixel is in."""
    line = error_line(truth & ~before if label else before & ~truth, at)
    return replace(prompts, scribbles=(*prompts.scribbles, (line, label)))


def error_line(error: BoolArray, at: tuple[int, int]) -> FloatArray:
    """A line (M, 2) XY through a pixel of an error (H, W), along its piece and within it."""
    numbered, _ = ndimage.label(error, np.ones((3, 3)))
    rows, columns = np.nonzero(numbered == numbered[at[1], at[0]])
    centred = np.stack([columns - at[0], rows - at[1]], axis=1).astype(float)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    far = SCRIBBLE / 2 * float(np.ptp(centred @ axes[0]))
    line: list[tuple[float, float]] = [(float(at[0]), float(at[1]))]
    for sign in (-1, 1):
        arm: list[tuple[float, float]] = []
        for step in np.arange(1.0, far + 1):
            x, y = np.array(at) + sign * step * axes[0]
            row, column = round(y), round(x)
            inside = 0 <= row < error.shape[0] and 0 <= column < error.shape[1]
            if not (inside and error[row, column]):
                break
            arm.append((float(x), float(y)))
        line = [*reversed(arm), *line] if sign < 0 else [*line, *arm]
    if len(line) == 1:  # a dot, as a hand makes it
        line.append((line[0][0] + 1, line[0][1]))
    return np.array(line, np.float32)


def _is_in(box: FloatArray | None, at: tuple[float, float]) -> bool:
    if box is None:
        return True
    x0, y0, x1, y1 = box
    return bool(x0 <= at[0] <= x1 and y0 <= at[1] <= y1)


def means(measured: Sequence[Measured]) -> dict[str, dict[str, dict[str, float]]]:
    """Mean Dice by label value, kind of prompt and way, as a card keeps them."""
    together: Measured = {}
    for each in measured:
        for value, kind, way, scores in _flat(each):
            ways = together.setdefault(value, {}).setdefault(kind, {})
            ways.setdefault(way, []).extend(scores)
    return {
        str(value): {
            kind: {way: round(float(np.mean(scores)), 5) for way, scores in ways.items()}
            for kind, ways in kinds.items()
        }
        for value, kinds in together.items()
    }


def _flat(measured: Measured) -> Iterator[tuple[int, str, str, list[float]]]:
    for value, kinds in measured.items():
        for kind, ways in kinds.items():
            for way, scores in ways.items():
                yield value, kind, way, scores


def in_words(scores: Mapping[str, Any], names: Mapping[int, str]) -> str:
    """A sentence for the Learn page: what boxes and clicks give beside what was learned, by class.

    Args:
        scores: of a card.
        names: label value -> name.
    """
    parts = []
    for value, kinds in scores.get("ways", {}).items():
        said = []
        for kind in ("box", "click"):
            dice_of = kinds.get(kind, {})
            best = best_way(dice_of, kind)
            if best is not None:
                how = "" if best == "plain" else f", {best} (alone {dice_of['plain']:.2f})"
                said.append(f"{kind} {dice_of[best]:.2f}{how}")
        if said:
            parts.append(f"{names.get(int(value), value)}: {', '.join(said)}")
    return f" Your prompts beside what was learned: {'; '.join(parts)}." if parts else ""
