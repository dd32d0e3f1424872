"""Images per hour of a scripted annotator, through the session that the window uses.

    python benchmarks/images_per_hour.py [DATASET... --split benchmarks/splits.json --side test]
    [--count 100] [--goal 0.9] [--outline 0.95] [--give-up 5] [--learn 10] [--json FILE]

Without a data set it labels phantoms; of a data set, ``count`` images and the first label.

What the person does takes the times of the Keystroke-Level Model (``OPERATORS``); what the models
take is measured in this run and waited for in full. A prompted object is done when it reaches Dice
``goal``; one that does not within ``give-up`` clicks is thrown away and outlined by hand, and the
clicks that it cost still count. An outline has as few corners, all on the true border, as give Dice
``outline``.

Where the model of the person leaves a choice, it is made in favour of outlining by hand: no
thinking between two corners, nothing drawn twice, no second look. Each answer of a model costs a
second look for each object. The phantoms' seeds are not among those that the embedded models were
trained on, but the generator is the same: real images are harder, for people and for models.

"PPN plus click" labels the first images of a folder as "clicks only" does, has a prompt
predictor learn from them (the session's own training, cross-validation and honest promotion), and
goes on with what that proposes by itself. The time that the first images take counts; the training
goes on in the background of a real window and stands in a column of its own. A folder with too few
images for that is left out of the row.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scripted_annotator import (
    CLICK,
    OPERATORS,
    Aims,
    Desk,
    Method,
    Work,
    by_hand,
    by_prompts,
    roughly_by_hand,
)

from napari_usgseg.annotation.learners.training import TrainingPlan
from napari_usgseg.core.geometry import components
from napari_usgseg.core.metrics import dice
from napari_usgseg.core.types import BoolArray
from napari_usgseg.io.datasets import read_dataset, read_splits
from napari_usgseg.io.images import read_image
from napari_usgseg.io.labels import read_labels, write_png
from napari_usgseg.jobs.loaded_models import LoadedModels
from napari_usgseg.phantoms.phantom import KINDS, make_phantom

FIRST_SEED = 500_000

PPN = "PPN plus click"

METHODS: dict[str, tuple[Method, bool, bool]] = {
    "polygons by hand": (by_hand, False, False),
    "rough polygons by hand": (roughly_by_hand, False, False),
    "clicks only": (by_prompts, True, False),
    "text, then clicks": (by_prompts, True, True),
    PPN: (by_prompts, True, False),
}
"""What is done on an image, whether models help, and whether a phrase is asked first."""


@dataclass(frozen=True)
class Learn:
    """When a prompt predictor is trained, and how; the plan's defaults are what a person gets."""

    images: int = 10
    plan: TrainingPlan = field(default_factory=TrainingPlan)


@dataclass(frozen=True)
class Folder:
    """Images of one kind: their folder, what a person would type, the true masks by image id."""

    images: Path
    phrase: str
    truths: dict[str, BoolArray]


def run(name: str, models: LoadedModels, folder: Folder, aims: Aims, learn: Learn) -> list[Work]:
    """Label a folder by one method."""
    method, with_models, with_text = METHODS[name]
    desk = Desk(models)
    desk.with_models = with_models
    desk.session.prompt_predictor.plan = learn.plan
    phrase, works = folder.phrase, []
    if with_text:
        desk.session.set_settings(replace(desk.session.settings, phrase=phrase))
        desk.work.do("MH" + "K" * (len(phrase) + 1) + "H")  # typed once for the whole folder
    with tempfile.TemporaryDirectory() as labels:
        desk.session.navigation.open_folder(folder.images, labels)
        for number, (image_id, truth) in enumerate(folder.truths.items()):
            if name == PPN and number == learn.images:
                _learn(desk)
            assert desk.session.record is not None
            assert desk.session.record.image_id == image_id
            works.append(_one_image(desk, truth, method, aims))
        desk.close()
    print(f"{name}: {folder.images.name}, {len(works)} images", file=sys.stderr, flush=True)
    return works


def _learn(desk: Desk) -> None:
    """Train, and let what is promoted propose from here on; a person presses Train."""
    desk.work.do("M" + CLICK)
    desk.work.training = desk.train()
    print(f"{PPN}: {desk.session.prompt_predictor.verdict}", file=sys.stderr, flush=True)


def _one_image(desk: Desk, truth: BoolArray, method: Method, aims: Aims) -> Work:
    """Label the image that is shown and go to the next; ``desk.work`` is then the next one's."""
    work = desk.work
    objects = list(components(truth))
    work.objects = len(objects)
    work.do("M")
    method(desk, objects, aims)
    desk.accept()
    assert desk.session.labels is not None
    work.dice = dice(truth, desk.session.labels > 0)
    desk.work = Work()
    desk.session.navigation.step(1)
    return work


def summary(works: list[Work], goal: float) -> dict[str, float]:
    """Means over the images."""

    def mean(values: list[float]) -> float:
        return statistics.fmean(values)

    seconds = mean([work.seconds for work in works])
    objects = sum(work.objects for work in works)
    return {
        "images_per_hour": 3600 / seconds,
        "seconds_per_image": seconds,
        "median_seconds": statistics.median(work.seconds for work in works),
        "person_seconds": mean([work.human for work in works]),
        "waiting_seconds": mean([work.waited for work in works]),
        "embedding_ahead_seconds": mean([work.ahead for work in works]),
        "clicks_per_image": mean([work.clicks for work in works]),
        "vertices_per_outline": sum(w.vertices for w in works)
        / max(1, sum(w.outlined for w in works)),
        "objects_outlined": sum(work.outlined for work in works) / objects,
        "dice": mean([work.dice for work in works]),
        "images_at_goal": mean([float(work.dice >= goal) for work in works]),
        "training_seconds": sum(work.training for work in works),
    }


def table(rows: dict[str, dict[str, float]]) -> str:
    """The summaries as a Markdown table."""
    lines = [
        "| method | images an hour | s an image: person | waiting | clicks | outlined | Dice "
        "| images at the goal | training, s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {row['images_per_hour']:.0f} | {row['person_seconds']:.1f} "
        f"| {row['waiting_seconds']:.2f} | {row['clicks_per_image']:.1f} "
        f"| {row['objects_outlined']:.0%} | {row['dice']:.3f} | {row['images_at_goal']:.0%} "
        f"| {row['training_seconds']:.0f} |"
        for name, row in rows.items()
    ]
    return "\n".join(lines)


def phantoms(count: int, place: Path) -> list[Folder]:
    """Phantoms, one folder for each kind, as one examination after another."""
    folders: dict[str, Folder] = {}
    for n in range(count):
        kind, seed = KINDS[n % len(KINDS)], FIRST_SEED + n
        phantom = make_phantom(seed, kind=kind)
        write_png(place / kind / f"{seed:06d}.png", phantom.image[..., 0])
        folder = folders.setdefault(kind, Folder(place / kind, phantom.phrase, {}))
        folder.truths[f"{seed:06d}"] = phantom.labels == 1
    return list(folders.values())


def real(data: Path, count: int, place: Path, split: Path | None, side: str) -> Folder:
    """``count`` images of a data set that hold its first label, drawn with seed 0."""
    dataset = read_dataset(data)
    label = min(dataset.labels)
    ids = getattr(read_splits(split)[dataset.name], side) if split else None
    items = sorted((dataset.only(ids) if ids else dataset).items, key=lambda item: item.item_id)
    random.Random(0).shuffle(items)
    truths: dict[str, BoolArray] = {}
    for item in items:
        truth = read_labels(item.mask_path) == label
        if truth.any() and len(truths) < count:
            name = f"{len(truths):04d}"
            write_png(place / dataset.name / f"{name}.png", read_image(item.image_path)[..., 0])
            truths[name] = truth
    return Folder(place / dataset.name, dataset.phrase(label), truths)


def measure(
    count: int,
    aims: Aims,
    learn: Learn = Learn(),
    data: Sequence[Path] = (),
    split: Path | None = None,
    side: str = "test",
) -> dict[str, Any]:
    """All methods on the same images."""
    import torch

    models = LoadedModels()
    rows: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        folders = [real(one, count, place, split, side) for one in data] or phantoms(count, place)
        Desk(models).session.warm_up()
        for name in METHODS:
            fit = [f for f in folders if name != PPN or len(f.truths) > learn.images]
            works = [work for f in fit for work in run(name, models, f, aims, learn)]
            if works:
                rows[name] = summary(works, aims.goal)
    return {
        "schema": 1,
        "data": [path.name for path in data] or ["phantoms"],
        "images": sum(len(folder.truths) for folder in folders),
        "learnt_images": learn.images,
        "goal_dice": aims.goal,
        "outline_dice": aims.outline,
        "give_up_clicks": aims.give_up,
        "operators_seconds": OPERATORS,
        "threads": torch.get_num_threads(),
        "methods": rows,
    }


def main() -> None:
    """Run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="*", type=Path, help="data sets instead of phantoms")
    parser.add_argument("--split", type=Path, help="splits.json; only the images of one side")
    parser.add_argument("--side", default="test")
    parser.add_argument("--count", type=int, default=100, help="images; of each data set")
    parser.add_argument("--learn", type=int, default=10, help="images that a PPN learns from")
    parser.add_argument("--goal", type=float, default=0.9, help="least Dice of a prompted object")
    parser.add_argument("--outline", type=float, default=0.95, help="least Dice of an outline")
    parser.add_argument("--give-up", type=int, default=5, help="clicks on one object")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    aims = Aims(arguments.goal, arguments.outline, arguments.give_up)
    result = measure(
        arguments.count,
        aims,
        Learn(arguments.learn),
        arguments.data,
        arguments.split,
        arguments.side,
    )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result["methods"]))


if __name__ == "__main__":
    main()
