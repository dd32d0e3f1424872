"""A scripted person labels real images through the real window: nothing is lost, nothing misfiled.

    python -m pytest -s -m slow benchmarks/test_hands.py

Fourteen frames of hips with three classes, by a key and a box an object, and twelve breasts by a
box; each object below Dice 0.8 gets up to two corrective clicks. Printed is a row of the table in
``docs/effort.md``: clicks, drags and keys an object, the seconds that the Keystroke-Level Model
(``scripted_annotator``) gives for them, and those that the window took.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import Qt
from scripted_annotator import OPERATORS

from napari_usgseg.core.metrics import dice, next_click
from napari_usgseg.core.types import BoolArray
from napari_usgseg.gui.canvas.tools import Tool
from napari_usgseg.io.datasets import read_dataset
from napari_usgseg.io.labels import read_labels
from tests.support.hand import add_class, saved
from tests.support.person import Person, report

pytestmark = [pytest.mark.gui, pytest.mark.slow]

GOOD, CORRECTIONS = 0.8, 2
LEAST_PIXELS = 200
SETS = {"hip": (14, 1), "busi": (12, 7)}
"""Data set -> how many images, and every how manieth."""
TIMES = {"key": "MK", "drag": "MPBPB", "click": "MPBB"}


class Hands:
    """A person's hands at the window, and what they did.

    Attributes:
        did: how often each of ``TIMES``.
        waited: seconds that the window took.
        scores: Dice of each object as it was saved.
    """

    def __init__(self, person: Person) -> None:
        self.person, self.session = person, person.session
        self.did: Counter[str] = Counter()
        self.waited = 0.0
        self.scores: list[float] = []

    def key(self, key: Qt.Key, held: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier) -> None:
        self.did["key"] += 1
        self.person.press(key, held)

    def arm(self, tool: Tool, key: Qt.Key) -> None:
        if self.person.widget.tools.tool is not tool:
            self.key(key)

    def settle(self) -> None:
        start = time.perf_counter()
        self.person.wait(lambda: not self.session.is_waiting)
        self.person.settle()
        self.waited += time.perf_counter() - start

    def draw(self, truth: BoolArray, class_id: int) -> None:
        """Pick the class where another one is, drag a box, click right what is wrong."""
        if self.session.table.active != class_id:
            self.key(Qt.Key(Qt.Key.Key_0 + class_id), Qt.KeyboardModifier.AltModifier)
        self.arm(Tool.BOX, Qt.Key.Key_W)
        rows, columns = np.nonzero(truth)
        low, high = (columns.min(), rows.min()), (columns.max(), rows.max())
        before = self.session.proposal.objects
        self.did["drag"] += 1
        self.person.drag(low, high)
        self.settle()
        assert self.session.proposal.objects[:-1] == before, "no other object is changed"
        for _ in range(CORRECTIONS):
            mask = self.session.proposal.current.proposal.mask
            wrong = next_click(truth, mask)
            if dice(truth, mask) >= GOOD or wrong is None:
                break
            (x, y), positive = wrong
            self.arm(Tool.POINT, Qt.Key.Key_Q)
            self.did["click"] += 1
            self.person.click(x, y, shift=not positive)
            self.settle()
            assert self.session.proposal.objects[: len(before)] == before
            assert len(self.session.proposal.objects) == len(before) + 1, "it is a correction"

    def accept(self) -> None:
        last = self.session.image_queue.neighbour(1) is None
        self.key(Qt.Key.Key_G)
        self.person.wait(lambda: self.session.loaded is not None)
        self.settle()
        self.person.wait(lambda: last or not self.session.outbox.stores())


@pytest.mark.parametrize("name", SETS)
def test_no_object_is_lost_or_misfiled(person: Person, data_folder: Path, tmp_path, name) -> None:
    data, (count, every) = read_dataset(data_folder / name), SETS[name]
    items = data.items[: count * every : every]
    folder = tmp_path / name
    folder.mkdir()
    for item in items:
        shutil.copy(item.image_path, folder / item.image_path.name)
    session = person.session
    person.open(folder)
    session.set_settings(replace(session.settings, find_on_open=False))
    session.editing.rename_class(1, data.labels[1])
    for class_id in sorted(data.labels)[1:]:
        add_class(person, data.labels[class_id])
    hands, truths = Hands(person), {}
    for item in sorted(items, key=lambda item: item.image_path.name):
        assert session.record.path.name == item.image_path.name
        labels = read_labels(item.mask_path)
        there = {v: labels == v for v in data.labels if (labels == v).sum() >= LEAST_PIXELS}
        for class_id, truth in there.items():
            hands.draw(truth, class_id)
        truths[session.record.image_id] = there
        hands.accept()
    person.wait(lambda: not session.outbox.stores())
    for image_id, there in truths.items():
        found = saved(folder, image_id)
        assert set(found) == {data.labels[value] for value in there}, "none is lost"
        for value, truth in there.items():
            scores = {other: dice(truth, mask) for other, mask in found.items()}
            assert max(scores, key=scores.get) == data.labels[value], "none is misfiled"
            hands.scores.append(scores[data.labels[value]])
    objects = len(hands.scores)
    seconds = sum(OPERATORS[o] * n for kind, n in hands.did.items() for o in TIMES[kind])
    report(
        f"| {name}: {len(items)} images, {objects} objects | {hands.did['drag'] / objects:.2f} | "
        f"{hands.did['click'] / objects:.2f} | {hands.did['key'] / objects:.2f} | "
        f"{seconds / objects:.1f} | {hands.waited / objects:.1f} | {np.mean(hands.scores):.3f} |"
    )
