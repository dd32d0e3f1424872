"""Propagation over a loop: from what is a person's to the other frames, in the background."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...core.errors import FileError
from ...core.types import ImageRecord
from ...io.labels import Labelling, LabelMap, class_of
from ...jobs import inference
from ...jobs.inference import Propagated
from ...project.project import LabelStore
from ...project.records import PROPAGATE, ImageProposal
from ...segmentation.propagation.reach import EVERYWHERE, Reach
from ..commands import propagate
from ..commands.accept import merged
from ..commands.propagate import Plan
from ..document import AnnotationDocument
from ..state import Refused
from .frames import Loops
from .runs import Arrival, Run, Runs, in_frames, spans, standing_of


class PropagationRun(Run):
    """A propagation that goes on.

    Args:
        frames: of the loop.
        plan: what it begins from and where it goes.
        labelling: of the label maps.
    """

    name, doing = PROPAGATE, "Propagating"

    def __init__(self, frames: tuple[ImageRecord, ...], plan: Plan, labelling: Labelling) -> None:
        super().__init__(frames, plan.wanted)
        self._plan, self._labelling = plan, labelling
        self._seen: dict[int, set[int]] = defaultdict(set)  # frames of each object, by its number

    def frame_in(self, word: Propagated) -> int:
        """As `Run.frame_in`."""
        return word.found.frame

    def proposed(
        self, document: AnnotationDocument, arrival: Arrival
    ) -> tuple[ImageProposal, dict[str, Any]]:
        """As `Run.proposed`: what was carried there."""
        word: Propagated = arrival.word
        for number in word.found.masks:
            self._seen[number].add(arrival.frame)
        body = propagate.note(word.found, word.model_id)
        body["from"] = self._plan.came_from[arrival.frame]
        return propagate.proposed(word.found, self._labelling, word.model_id), body

    def summary(self, document: AnnotationDocument) -> str:
        """As `Run.summary`: also where objects were lost sight of."""
        known = in_frames(len(self._plan.keyframes))
        said = f"Propagated to {in_frames(len(self.done))} from {known}."
        for number in sorted({n for masks in self._plan.keyframes.values() for n in masks}):
            lost = sorted(set(self.done) - self._seen[number])
            if lost:
                item = document.table.get(class_of(number, self._labelling))
                name = str(number) if item is None else item.name
                said += f" '{name}' is not seen on {spans(lost)}."
        return said


class Propagation:
    """``session.propagation``: a run from the keyframes of the loop that is shown.

    Args:
        document: whose images they are.
        loops: the loop that is shown.
        runs: that it is one of.
    """

    def __init__(self, document: AnnotationDocument, loops: Loops, runs: Runs) -> None:
        self._document, self._loops, self._runs = document, loops, runs

    def propagate(self, within: range | None = None, reach: Reach = EVERYWHERE) -> None:
        """Carry what is on the keyframes to the frames around them, in the background.

        What a person accepted, drew or has a part in stays. Undo takes a whole run back.

        Args:
            within: the frames to go to; None is all.
            reach: how far from the keyframes, and which way.
        """
        document = self._document
        if not self._runs.can_begin():
            return
        assert document.record is not None
        frames, settings = self._loops.frames, document.settings
        self._runs.prepare(
            plan_of,
            document.store,
            frames,
            frames.index(document.record),
            settings.labelling,
            settings.overwrite,
            within or range(len(frames)),
            reach,
            then=lambda plan: self._begin(frames, plan),
        )

    def _begin(self, frames: tuple[ImageRecord, ...], plan: Plan | str) -> None:
        document = self._document
        if isinstance(plan, str):
            document.say(plan, "warning")
            return
        numbers = [0 if record.frame is None else record.frame for record in frames]
        self._runs.begin(
            PropagationRun(frames, plan, document.settings.labelling),
            inference.propagate,
            frames[0].path,
            document.settings.segmenter,
            {numbers[key]: masks for key, masks in plan.keyframes.items()},
            tuple(numbers[frame] for frame in plan.wanted),
        )


def plan_of(
    store: LabelStore,
    frames: Sequence[ImageRecord],
    here: int,
    labelling: Labelling,
    overwrite: bool,
    within: range,
    reach: Reach,
) -> Plan | str:
    """The run that is due in a loop, or a sentence that says why there is none."""
    if len({record.size_hw for record in frames}) > 1:
        return propagate.SIZES_DIFFER

    def labels_of(frame: int) -> LabelMap:
        return as_accepted(store, frames[frame], labelling, overwrite)

    standings = [standing_of(store, record) for record in frames]
    try:
        return propagate.plan(standings, here, labels_of, within, reach)
    except (Refused, FileError) as error:
        return str(error)


def as_accepted(
    store: LabelStore, record: ImageRecord, labelling: Labelling, overwrite: bool
) -> LabelMap:
    """The label map (H, W) that a frame would have if what is proposed on it were accepted now."""
    labels = store.read_labels(record, take_in=False)
    if labels is None:
        labels = np.zeros(record.size_hw, np.uint8)
    objects = store.read_proposal(record.image_id).objects
    return merged(labels, objects, overwrite, labelling)[0]
