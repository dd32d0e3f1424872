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
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from skimage.draw import polygon2mask
from skimage.measure import approximate_polygon, find_contours

from napari_usgseg.geometry import components
from napari_usgseg.io.labels import write_png
from napari_usgseg.io.phantoms import KINDS, make_phantom
from napari_usgseg.metrics import dice, next_click
from napari_usgseg.session.annotator import AnnotationSession
from napari_usgseg.session.engine import Engine
from napari_usgseg.session.files import answer_file
from napari_usgseg.session.requests import EmbedRequest, FileRequest, ModelRequest, Priority
from napari_usgseg.types import BoolArray

OPERATORS = {"K": 0.28, "P": 1.10, "B": 0.10, "H": 0.40, "M": 1.35}
"""Seconds for a key (average non-secretary typist), pointing with the mouse, pressing or releasing
its button, a hand's way between mouse and keys, and making up one's mind: Card, Moran and Newell,
"The keystroke-level model for user performance time with interactive systems", CACM 23(7), 1980;
B is half of the 0.2 s that they give to a button's click."""

CLICK = "PBB"
FIRST_SEED = 500_000
HALF_RIGHT = 0.5
"""What a phrase found below this Dice is dropped and clicked anew, not mended."""

MENDING_CLICKS = 2
"""What a phrase found and so many clicks did not mend is dropped and clicked anew."""


@dataclass
class Work:
    """What one image took."""

    operators: Counter[str] = field(default_factory=Counter)
    waited: float = 0.0
    ahead: float = 0.0
    clicks: int = 0
    vertices: int = 0
    outlined: int = 0
    objects: int = 0
    dice: float = 0.0

    def do(self, operators: str) -> None:
        """Count what the person does, one letter for each operator."""
        self.operators.update(operators)

    @property
    def human(self) -> float:
        """Seconds of the person's own."""
        return sum(OPERATORS[name] * count for name, count in self.operators.items())

    @property
    def seconds(self) -> float:
        """From the image's opening to the next one's."""
        return self.human + self.waited


class Desk:
    """A session with real files and real models; each request is answered before going on."""

    def __init__(self, engine: Engine) -> None:
        self.session = AnnotationSession()
        self.work = Work()
        self.with_models = True
        self._engine = engine
        self.session.requested.connect(self._answer)
        self.session.notified.connect(self._on_note)

    def _answer(self, request: FileRequest | ModelRequest) -> None:
        if isinstance(request, FileRequest):
            self.session.receive(answer_file(request))
        elif self.with_models:
            answer = self._engine.answer(request)
            ahead = isinstance(request, EmbedRequest) and request.priority is Priority.PREFETCH
            if ahead:  # done while the person looks at the image before
                self.work.ahead += answer.seconds
            else:
                self.work.waited += answer.seconds
            self.session.receive(answer)

    def _on_note(self, level: str, text: str) -> None:
        if level == "error":
            raise SystemExit(text)

    # -- what a hand does, each with its time ----------------------------------------------------

    def click(self, x: float, y: float, label: int) -> None:
        """Point, press, release (with Shift for "this is not"), and look at the answer."""
        self.work.do(CLICK + ("M" if label else "KM"))
        self.work.clicks += 1
        self.session.prompting.add_point(x, y, bool(label))

    def new_object(self) -> None:
        """See where another object is, and Shift-Q where one is in the making."""
        self.work.do("M" if self.session.draft.active is None else "MKK")
        self.session.prompting.new_object()

    def drop(self, index: int) -> None:
        """Control-click on one proposed object."""
        item = self.session.draft.objects[index]
        spot = next_click(item.proposal.mask, np.zeros_like(item.proposal.mask))
        assert spot is not None, "an empty object is not among those that a person sees"
        self.work.do("K" + CLICK)
        self.session.prompting.drop_object(*spot[0])

    def accept(self) -> None:
        """G."""
        self.work.do("K")
        if not self.session.editing.accept():
            raise SystemExit("there was nothing to accept")

    def outline(self, objects: list[BoolArray], goal: float) -> None:
        """Draw a polygon round each object."""
        labels = self.session.labels.copy()
        for truth in objects:
            corners, mask = simplest_polygon(truth, goal)
            self.work.do("M" + CLICK * len(corners) + "K")
            self.work.vertices += len(corners)
            self.work.outlined += 1
            labels[mask] = self.session.table.active
        self.session.editing.painted(labels)


Method = Callable[[Desk, list[BoolArray], "Aims"], None]


@dataclass(frozen=True)
class Aims:
    """When a prompted object is good enough, how good an outline is, when clicking is given up."""

    goal: float = 0.9
    outline: float = 0.95
    give_up: int = 5


def by_hand(desk: Desk, objects: list[BoolArray], aims: Aims) -> None:
    """A polygon round each object."""
    desk.outline(objects, aims.outline)


def roughly_by_hand(desk: Desk, objects: list[BoolArray], aims: Aims) -> None:
    """A polygon round each object, no better than the prompted ones must be."""
    desk.outline(objects, aims.goal)


def by_prompts(desk: Desk, objects: list[BoolArray], aims: Aims) -> None:
    """Judge what a phrase found, drop what is mostly wrong, click the rest right."""
    desk.work.do("M" * len(desk.session.draft.objects))
    while (wrong := _mostly_wrong(desk, objects)) is not None:
        desk.drop(wrong)
    found = {n for n, match in enumerate(_matches(desk, objects)) if match is not None}
    clicks = [0] * len(objects)
    while (index := _next_object(desk, objects, clicks, aims)) is not None:
        truth, match = objects[index], _matches(desk, objects)[index]
        if match is not None and index in found and clicks[index] == MENDING_CLICKS:
            desk.drop(match)
            found.discard(index)
            clicks[index] = 0
            match = None
        if match is None:
            desk.new_object()
        mask = np.zeros_like(truth) if match is None else _mask(desk, match)
        spot = next_click(truth, mask)
        assert spot is not None, "an object below the goal has an error to click on"
        clicks[index] += 1
        desk.click(*spot[0], spot[1])
        if _matches(desk, objects)[index] is None:
            clicks[index] = aims.give_up  # it went to a neighbour; clicking is no way to this one
    left = [n for n, score in enumerate(_scores(desk, objects)) if score < aims.goal]
    for index in left:
        match = _matches(desk, objects)[index]
        if match is not None:
            desk.drop(match)
    if left:
        desk.accept()
        desk.outline([objects[index] for index in left], aims.outline)


def _mask(desk: Desk, index: int) -> BoolArray:
    proposal = desk.session.draft.objects[index].proposal
    assert proposal is not None
    return proposal.mask


def _matches(desk: Desk, objects: list[BoolArray]) -> list[int | None]:
    """For each true object the proposed one that is meant to be it; the best pairs first."""
    proposed = range(len(desk.session.draft.objects))
    pairs = [(dice(t, _mask(desk, n)), k, n) for k, t in enumerate(objects) for n in proposed]
    found: list[int | None] = [None] * len(objects)
    for score, k, n in sorted(pairs, reverse=True):
        if score > 0 and found[k] is None and n not in found:
            found[k] = n
    return found


def _scores(desk: Desk, objects: list[BoolArray]) -> list[float]:
    """Dice of each true object with its match."""
    matches = zip(objects, _matches(desk, objects), strict=True)
    return [0.0 if n is None else dice(truth, _mask(desk, n)) for truth, n in matches]


def _mostly_wrong(desk: Desk, objects: list[BoolArray]) -> int | None:
    """A proposed object that is none of the true ones, or so bad that a new click is easier."""
    good = {
        match
        for match, score in zip(_matches(desk, objects), _scores(desk, objects), strict=True)
        if score >= HALF_RIGHT
    }
    return next((n for n in range(len(desk.session.draft.objects)) if n not in good), None)


def _next_object(desk: Desk, objects: list[BoolArray], clicks: list[int], aims: Aims) -> int | None:
    """The first object that is not good enough yet and not given up."""
    bad = (n for n, score in enumerate(_scores(desk, objects)) if score < aims.goal)
    return next((n for n in bad if clicks[n] < aims.give_up), None)


def simplest_polygon(truth: BoolArray, goal: float) -> tuple[np.ndarray, BoolArray]:
    """A polygon of few corners on an object's border that reaches Dice ``goal`` with it.

    The border is simplified (Douglas and Peucker) from several starting points, as far as the goal
    allows.

    Args:
        truth: (H, W) bool, one connected object.
        goal: least Dice.

    Returns:
        The corners (N, 2) as (row, column), and the mask (H, W) that the polygon draws.
    """
    border = max(find_contours(np.pad(truth, 1).astype(float), 0.5), key=len)[:-1] - 1
    reach = float(np.ptp(border, axis=0).max())
    starts = [np.roll(border, -len(border) * part // 4, axis=0) for part in range(4)]
    for tolerance in reach * np.geomspace(0.5, 0.002, 60):
        found = []
        for start in starts:
            corners = approximate_polygon(np.vstack([start, start[:1]]), tolerance)[:-1]
            if len(corners) >= 3:
                mask = polygon2mask(truth.shape, corners)
                if dice(truth, mask) >= goal:
                    found.append((corners, mask))
        if found:
            return min(found, key=lambda pair: len(pair[0]))
    return border, polygon2mask(truth.shape, border)


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
