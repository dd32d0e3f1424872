"""Constants of corrections (``segmentation.correction``), chosen on validation sides and phantoms.

    python benchmarks/corrections.py DATASET... [--split benchmarks/splits.json] [--side val]
        [--phantoms 30] [--limit N] [--model nano]

Every object gets a first prompt (a click, and on its own a box) and one corrective click; the
network answers once, and each setting merges that answer with the mask before. Printed are the
share of clicks that raised Dice and the mean gain, for the settings in use and with one of them
changed at a time; "whole" takes the answer as it is.

With ``--series``, six clicks follow one another by the commands of the window: after a click, after
a box, and on proposals that a phrase found far too large or too small; into the middle of what is
wrong, and near the rim, as people click. Printed is the table of docs/objects.md: Dice before and
after 1, 3 and 6 clicks, the share of clicks that raised it, the pixels that a click made wrong per
pixel of the object, the length of the outline by that of the true one, and the clicks that lay so
far off that they began another object.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from napari_usgseg.annotation.commands import prompts
from napari_usgseg.annotation.regions import box_of
from napari_usgseg.annotation.state import AnnotationState, Change
from napari_usgseg.core.geometry import components
from napari_usgseg.core.metrics import dice, next_click
from napari_usgseg.core.types import BoolArray, ImageEmbedding, ImageRecord, Prompts
from napari_usgseg.io.datasets import read_dataset, read_splits
from napari_usgseg.io.images import read_image
from napari_usgseg.io.labels import read_labels
from napari_usgseg.lab.evaluation.annotator import add_click, prompt_for
from napari_usgseg.models.interfaces import Segmenter
from napari_usgseg.models.registry import load_segmenter
from napari_usgseg.phantoms.phantom import make_phantom
from napari_usgseg.project.records import ImageProposal, ProposedObject
from napari_usgseg.segmentation import correction
from napari_usgseg.segmentation.postprocess import PostprocessSettings
from napari_usgseg.segmentation.propose import Proposal, as_logits, propose_prompts

TRIED = {
    "LEAST_AGREEMENT": (0.0, 0.3, 0.5, 0.7, 0.8, 1.1),
    "DEPTH": (1.5, 1.75, 2.0, 2.5, 3.0, 1e9),
    "REACH": (2.0, 3.0, 5.0, 8.0, 12.0, 1e9),
    "LARGEST_DISC": (0.0, 0.25, 0.5, 1.0),
}
CLEANING = PostprocessSettings()
LEAST_PIXELS = 100
"""Objects with fewer pixels are specks of the data sets."""


class Case(NamedTuple):
    """One corrective click: the masks (H, W) before it and of its answer."""

    kind: str
    truth: BoolArray
    before: BoolArray
    answer: BoolArray
    prompts: Prompts


def scenes(arguments: argparse.Namespace) -> Iterator[tuple[np.ndarray, list[BoolArray]]]:
    """Images and their objects."""
    splits = read_splits(arguments.split)
    for folder in arguments.datasets:
        dataset = read_dataset(folder)
        if dataset.name not in splits:
            raise SystemExit(f"{dataset.name} is not in {arguments.split}")
        kept = dataset.only(getattr(splits[dataset.name], arguments.side))
        for item in kept.items[: arguments.limit]:
            labels = read_labels(item.mask_path)
            values = np.unique(labels[labels > 0])
            yield read_image(item.image_path), [p for v in values for p in components(labels == v)]
    for seed in range(5000, 5000 + arguments.phantoms):
        phantom = make_phantom(seed)
        numbers = np.unique(phantom.instances[phantom.instances > 0])
        yield phantom.image, [p for n in numbers for p in components(phantom.instances == n)]


def ask(segmenter: Segmenter, embedding: ImageEmbedding, truth: BoolArray, kind: str) -> list[Case]:
    """The answer to one corrective click; nothing where the first one was perfect."""
    first = prompt_for(truth, kind)
    before = propose_prompts(segmenter, embedding, first, CLEANING)
    click = next_click(truth, before.mask)
    if click is None or not before.mask.any():
        return []
    both = add_click(first, click, before.low_res_logits)
    after = propose_prompts(segmenter, embedding, both, CLEANING)
    return [Case(kind, truth, before.mask, after.mask, both)]


CLICKS = 6
STARTS = {
    "click": "a click",
    "box": "a box",
    "large": "a proposal far too large",
    "small": "a proposal far too small",
}
OFF = 0.6
"""A proposal that is too large reaches so many radii beyond the object."""


class Series(NamedTuple):
    """Six clicks on one object: Dice before and after each, what they harmed, and the last rim.

    ``astray`` is True where one of them began another object, and the series ended there.
    """

    kind: str
    dices: list[float]
    harm: list[float]
    rim: float
    astray: bool


def proposed(truth: BoolArray, kind: str) -> ProposedObject:
    """An object that a phrase found: as the true one, but far too large or too small."""
    depth = ndimage.distance_transform_edt(truth)
    radius = float(np.sqrt(truth.sum() / np.pi))
    mask = depth > depth.max() / 2
    if kind == "large":
        mask = ndimage.distance_transform_edt(~truth) <= OFF * radius
    found = Proposal(mask, box_of(mask), 0.9, "it", 0.9, as_logits(mask))
    return ProposedObject(1, Prompts(), found)


def in_window(truth: BoolArray, *objects: ProposedObject) -> AnnotationState:
    """The state in which an object is proposed, or nothing."""
    size_hw = (truth.shape[0], truth.shape[1])
    return AnnotationState(
        record=ImageRecord("a", Path("a.png"), None, size_hw),
        labels=np.zeros(size_hw, np.uint8),
        proposal=ImageProposal(objects, 0 if objects else None),
    )


def answered(segmenter: Segmenter, embedding: ImageEmbedding, change: Change) -> ProposedObject:
    """The object that a command asks for, with its answer."""
    assert change.edit is not None
    assert change.edit.proposal is not None
    asked = change.edit.proposal[1].current
    assert asked is not None
    found = propose_prompts(
        segmenter, embedding, asked.prompts, CLEANING, asked.corrected, asked.drawn
    )
    return replace(asked, proposal=found, drawn=None, is_asked=False)


def near_rim(
    truth: BoolArray, mask: BoolArray, click: tuple[tuple[int, int], int]
) -> tuple[tuple[int, int], int]:
    """A click in the same wrong part, a third of the way in from the outline that is seen."""
    (x, y), label = click
    wrong = (truth & ~mask) if label else (mask & ~truth)
    part, _ = ndimage.label(wrong)
    part = part == part[y, x]
    depth = ndimage.distance_transform_edt(~mask if label else mask)
    rows, columns = np.nonzero(part)
    far = np.abs(depth[part] - depth[y, x] / 3) + 0.1 * np.hypot(columns - x, rows - y)
    best = int(far.argmin())
    return (int(columns[best]), int(rows[best])), label


def outline(mask: BoolArray) -> float:
    """Length of a mask's outline, in pixels."""
    from skimage.measure import perimeter

    return float(perimeter(mask))


def begun(
    segmenter: Segmenter, embedding: ImageEmbedding, truth: BoolArray, kind: str
) -> ProposedObject:
    """The object after the first prompt, or as a phrase found it."""
    if kind in ("large", "small"):
        return proposed(truth, kind)
    state, first = in_window(truth), prompt_for(truth, kind)
    if first.box is None:
        ((x, y),) = first.point_coords.tolist()
        return answered(segmenter, embedding, prompts.add_point(state, x, y))
    x0, y0, x1, y1 = first.box.tolist()
    return answered(segmenter, embedding, prompts.add_box(state, (x0, y0), (x1, y1)))


def series(
    segmenter: Segmenter, embedding: ImageEmbedding, truth: BoolArray, kind: str, rim: bool
) -> Series | None:
    """Clicks on one object, as the window has them answered; None where there is no first mask."""
    item = begun(segmenter, embedding, truth, kind)
    if item.proposal is None or not item.has_mask:
        return None
    mask, astray = item.proposal.mask, False
    dices, harm = [dice(truth, mask)], list[float]()
    for _ in range(CLICKS):
        click = next_click(truth, mask)
        if click is None:
            break
        if rim:
            click = near_rim(truth, mask, click)
        (x, y), label = click
        change = prompts.add_point(in_window(truth, item), x, y, bool(label))
        assert change.edit is not None
        assert change.edit.proposal is not None
        if len(change.edit.proposal[1].objects) > 1:
            astray = True
            break
        item = answered(segmenter, embedding, change)
        assert item.proposal is not None
        worse = (mask == truth) & (item.proposal.mask != truth)
        harm.append(float(worse.sum() / truth.sum()))
        mask = item.proposal.mask
        dices.append(dice(truth, mask))
    return Series(kind, dices, harm, outline(mask) / max(outline(truth), 1.0), astray)


def print_series(found: list[Series], clicked: str) -> None:
    """Print a row for each start."""
    for kind, name in STARTS.items():
        mine = [one for one in found if one.kind == kind]
        at = [
            np.mean([one.dices[min(n, len(one.dices) - 1)] for one in mine]) for n in (0, 1, 3, 6)
        ]
        steps = np.concatenate([np.diff(one.dices) for one in mine])
        harm = np.mean(np.concatenate([one.harm for one in mine]))
        line = ", ".join(f"{value:.3f}" for value in at)
        rim = np.median([one.rim for one in mine])
        astray = sum(one.astray for one in mine)
        print(
            f"| {name} | {clicked} | {len(mine)} | {line} | {(steps > 0).mean():.3f} "
            f"| {harm:.3f} | {rim:.2f} | {astray} |"
        )


def row(name: str, cases: list[Case], whole: bool = False) -> None:
    """Print one setting's line."""
    line = f"{name:24}"
    for kind in ("click", "box"):
        gains = []
        for case in cases:
            if case.kind == kind:
                merged = case.answer
                if not whole:
                    merged = correction.merge_correction(case.before, case.answer, case.prompts)
                gains.append(dice(case.truth, merged) - dice(case.truth, case.before))
        gain = np.array(gains)
        line += f" {len(gain):6d} {(gain > 0).mean():7.3f} {gain.mean():7.4f}"
    print(line, flush=True)


def whole_series(segmenter: Segmenter, arguments: argparse.Namespace) -> None:
    """Print the table of the series."""
    found: dict[str, list[Series]] = {"middle": [], "rim": []}
    for image, objects in scenes(arguments):
        embedding = segmenter.embed(image)
        for truth in objects:
            if truth.sum() < LEAST_PIXELS:
                continue
            for clicked, some in found.items():
                for kind in STARTS:
                    made = series(segmenter, embedding, truth, kind, clicked == "rim")
                    some += [] if made is None else [made]
    print(
        "| from | clicked | objects | Dice at 0, 1, 3, 6 clicks | clicks that raised it "
        "| made wrong | outline | astray |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for clicked, some in found.items():
        print_series(some, clicked)


def main() -> None:
    """Print a table for the settings around those in use."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("datasets", nargs="*", type=Path)
    parser.add_argument("--split", type=Path, default=Path("benchmarks/splits.json"))
    parser.add_argument("--side", default="val")
    parser.add_argument("--phantoms", type=int, default=30)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--series", action="store_true", help="six clicks one after another")
    arguments = parser.parse_args()
    segmenter = load_segmenter(arguments.model)
    if arguments.series:
        whole_series(segmenter, arguments)
        return
    cases: list[Case] = []
    for image, objects in scenes(arguments):
        embedding = segmenter.embed(image)
        for truth in objects:
            for kind in ("click", "box"):
                cases += ask(segmenter, embedding, truth, kind)
    print(f"{'':24} {'clicks':>6} {'raised':>7} {'gain':>7} {'boxes':>6} {'raised':>7} {'gain':>7}")
    row("whole", cases, whole=True)
    row("in use", cases)
    for name, values in TRIED.items():
        used = getattr(correction, name)
        for value in values:
            if value != used:
                setattr(correction, name, value)
                row(f"{name} {value:g}", cases)
        setattr(correction, name, used)


if __name__ == "__main__":
    main()
