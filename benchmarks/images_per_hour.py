"""Images per hour of a scripted annotator on phantoms, through the session that the window uses.

    python benchmarks/images_per_hour.py [--count 100] [--goal 0.9] [--outline 0.95] [--give-up 5]
    [--json FILE]

What the person does takes the times of the Keystroke-Level Model (``OPERATORS``); what the models
take is measured in this run and waited for in full. A prompted object is done when it reaches Dice
``goal``; one that does not within ``give-up`` clicks is thrown away and outlined by hand, and the
clicks that it cost still count. An outline has as few corners, all on the true border, as give Dice
``outline``.

Where the model of the person leaves a choice, it is made in favour of outlining by hand: no
thinking between two corners, nothing drawn twice, no second look. Each answer of a model costs a
second look for each object. The phantoms' seeds are not among those that the embedded models were
trained on, but the generator is the same: real images are harder, for people and for models.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from scripted_annotator import (
    OPERATORS,
    Aims,
    Desk,
    Method,
    Work,
    by_hand,
    by_prompts,
    roughly_by_hand,
)

from napari_usgseg.geometry import components
from napari_usgseg.io.labels import write_png
from napari_usgseg.io.phantoms import KINDS, make_phantom
from napari_usgseg.metrics import dice
from napari_usgseg.session.engine import Engine
from napari_usgseg.types import BoolArray

FIRST_SEED = 500_000

METHODS: dict[str, tuple[Method, bool, bool]] = {
    "polygons by hand": (by_hand, False, False),
    "rough polygons by hand": (roughly_by_hand, False, False),
    "clicks only": (by_prompts, True, False),
    "text, then clicks": (by_prompts, True, True),
}
"""What is done on an image, whether models help, and whether a phrase is asked first."""


def run(name: str, engine: Engine, images: Path, count: int, aims: Aims) -> list[Work]:
    """Label phantoms by one method; one folder for each kind, as one examination after another."""
    method, with_models, with_text = METHODS[name]
    works = []
    for kind in KINDS:
        seeds = [FIRST_SEED + n for n in range(count) if KINDS[n % len(KINDS)] == kind]
        if not seeds:
            continue
        desk = Desk(engine)
        desk.with_models = with_models
        phantoms = {f"{seed:06d}": make_phantom(seed, kind=kind) for seed in seeds}
        phrase = next(iter(phantoms.values())).phrase
        if with_text:
            desk.session.set_settings(replace(desk.session.settings, phrase=phrase))
            desk.work.do("MH" + "K" * (len(phrase) + 1) + "H")  # typed once for the whole folder
        with tempfile.TemporaryDirectory() as labels:
            desk.session.walk.open_folder(images / kind, labels)
            for image_id, phantom in phantoms.items():
                assert desk.session.record is not None
                assert desk.session.record.image_id == image_id
                works.append(_one_image(desk, phantom.labels == 1, method, aims))
            desk.session.close()
            print(f"{name}: {kind}, {len(seeds)} images", file=sys.stderr, flush=True)
    return works


def _one_image(desk: Desk, truth: BoolArray, method: Method, aims: Aims) -> Work:
    """Label the image that is shown and go to the next; ``desk.work`` is then the next one's."""
    work = desk.work
    objects = components(truth)
    work.objects = len(objects)
    work.do("M")
    method(desk, objects, aims)
    desk.accept()
    assert desk.session.labels is not None
    work.dice = dice(truth, desk.session.labels > 0)
    desk.work = Work()
    desk.session.walk.step(1)
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
    }


def table(rows: dict[str, dict[str, float]]) -> str:
    """The summaries as a Markdown table."""
    lines = [
        "| method | images an hour | s an image: person | waiting | clicks | outlined | Dice "
        "| images at the goal |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {row['images_per_hour']:.0f} | {row['person_seconds']:.1f} "
        f"| {row['waiting_seconds']:.2f} | {row['clicks_per_image']:.1f} "
        f"| {row['objects_outlined']:.0%} | {row['dice']:.3f} | {row['images_at_goal']:.0%} |"
        for name, row in rows.items()
    ]
    return "\n".join(lines)


def measure(count: int, aims: Aims) -> dict[str, Any]:
    """All methods on the same phantoms."""
    import torch

    engine = Engine()
    rows: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder)
        for n in range(count):
            kind, seed = KINDS[n % len(KINDS)], FIRST_SEED + n
            write_png(
                images / kind / f"{seed:06d}.png", make_phantom(seed, kind=kind).image[..., 0]
            )
        Desk(engine).session.warm_up()
        for name in METHODS:
            rows[name] = summary(run(name, engine, images, count, aims), aims.goal)
    return {
        "schema": 1,
        "images": count,
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
    parser.add_argument("--count", type=int, default=100, help="how many phantoms")
    parser.add_argument("--goal", type=float, default=0.9, help="least Dice of a prompted object")
    parser.add_argument("--outline", type=float, default=0.95, help="least Dice of an outline")
    parser.add_argument("--give-up", type=int, default=5, help="clicks on one object")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    aims = Aims(arguments.goal, arguments.outline, arguments.give_up)
    result = measure(arguments.count, aims)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result["methods"]))


if __name__ == "__main__":
    main()
