"""A person by the Keystroke-Level Model who labels through the session that the window uses."""

from __future__ import annotations

import queue
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from skimage.draw import polygon2mask
from skimage.measure import approximate_polygon, find_contours

from napari_usgseg.annotation.session import AnnotationSession
from napari_usgseg.core.metrics import dice, next_click
from napari_usgseg.core.types import BoolArray
from napari_usgseg.jobs import Job, Lane
from napari_usgseg.jobs.background import Trainings
from napari_usgseg.jobs.files import run_file_job
from napari_usgseg.jobs.loaded_models import LoadedModels

OPERATORS = {"K": 0.28, "P": 1.10, "B": 0.10, "H": 0.40, "M": 1.35}
"""Seconds for a key (average non-secretary typist), pointing with the mouse, pressing or releasing
its button, a hand's way between mouse and keys, and making up one's mind: Card, Moran and Newell,
"The keystroke-level model for user performance time with interactive systems", CACM 23(7), 1980;
B is half of the 0.2 s that they give to a button's click."""

CLICK = "PBB"
HALF_RIGHT = 0.5
"""What a phrase found below this Dice is dropped and clicked anew, not mended."""

MENDING_CLICKS = 2
"""What a phrase found and so many clicks did not mend is dropped and clicked anew."""


@dataclass
class Work:
    """What one image took."""

    operators: Counter[str] = field(default_factory=Counter)
    waited: float = 0.0
    watched: float = 0.0
    ahead: float = 0.0
    clicks: int = 0
    vertices: int = 0
    outlined: int = 0
    objects: int = 0
    dice: float = 0.0
    training: float = 0.0

    def do(self, operators: str) -> None:
        """Count what the person does, one letter for each operator."""
        self.operators.update(operators)

    @property
    def human(self) -> float:
        """Seconds of the person's own."""
        done = sum(OPERATORS[name] * count for name, count in self.operators.items())
        return done + self.watched

    @property
    def seconds(self) -> float:
        """From the image's opening to the next one's."""
        return self.human + self.waited


class Desk:
    """A session with real files and real models; each job is done before going on."""

    def __init__(self, models: LoadedModels) -> None:
        self.session = AnnotationSession()
        self._words: queue.SimpleQueue[tuple[Job, Any]] = queue.SimpleQueue()
        self._trainings = Trainings()
        self.work = Work()
        self.with_models = True
        self._models = models
        self.session.requested.connect(self._do)
        self.session.notified.connect(self._on_note)

    def _do(self, job: Job) -> None:
        if job.lane is Lane.TRAINING:
            self._trainings.submit(job, lambda word: self._words.put((job, word)))
        elif job.lane is Lane.FILES:
            job.receive(run_file_job(job))
        elif self.with_models:
            begun = time.perf_counter()
            outcome = self._models.run(job.function, *job.args, lane=job.lane, tell=job.receive)
            seconds = time.perf_counter() - begun
            if job.lane is Lane.PREFETCH:  # done while the person looks at the image before
                self.work.ahead += seconds
            else:
                self.work.waited += seconds
            job.receive(outcome)

    def _on_note(self, level: str, text: str) -> None:
        if level == "error":
            raise SystemExit(text)

    def train(self) -> float:
        """Have what is accepted learnt, to the end, honest promotion and all; the seconds."""
        start = time.perf_counter()
        self.session.prompt_predictor.train()
        while self.session.prompt_predictor.training is not None:
            job, word = self._words.get()
            job.receive(word)
        return time.perf_counter() - start

    def close(self) -> None:
        """Put the folder away."""
        self.session.close()
        self._trainings.close()

    # -- what a hand does, each with its time ----------------------------------------------------

    def click(self, x: float, y: float, label: int) -> None:
        """Point, press, release (with Shift for "this is not"), and look at the answer."""
        self.work.do(CLICK + ("M" if label else "KM"))
        self.work.clicks += 1
        self.session.prompting.add_point(x, y, bool(label))

    def new_object(self) -> None:
        """See where another object is, and Shift-Q where one is in the making."""
        self.work.do("M" if self.session.proposal.active is None else "MKK")
        self.session.prompting.new_object()

    def drop(self, index: int) -> None:
        """Control-click on one proposed object."""
        item = self.session.proposal.objects[index]
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
    desk.work.do("M" * len(desk.session.proposal.objects))
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
        if desk.session.proposal.objects:
            desk.accept()
        desk.outline([objects[index] for index in left], aims.outline)


def _mask(desk: Desk, index: int) -> BoolArray:
    proposal = desk.session.proposal.objects[index].proposal
    assert proposal is not None
    return proposal.mask


def _matches(desk: Desk, objects: list[BoolArray]) -> list[int | None]:
    """For each true object the proposed one that is meant to be it; the best pairs first."""
    proposed = range(len(desk.session.proposal.objects))
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
    return next((n for n in range(len(desk.session.proposal.objects)) if n not in good), None)


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
