"""kill -9 at any moment: what is on disk is whole, and at most the last action is missing."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.io.datasets import read_dataset
from napari_usgseg.project.project import Project
from napari_usgseg.project.records import ImageState
from tests.support.bench import SIZE_HW, Bench
from tests.support.cine import write_loop
from tests.support.labelling import follow_anew, label_path, tables
from tests.support.nursery import exported

KILLS = [15, pytest.param(50, marks=pytest.mark.slow)]
MODES = ("label", "export", "migrate", "label", "export")
LONGEST_S = {"label": 0.5, "export": 0.6, "migrate": 0.25}

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that can fork")


class Nursery:
    """The process that lets people begin to label, and ends them."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.nursery"],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def labels_until_killed(
        self, mode: str, seed: int, folder: Path, log: Path, after_s: float
    ) -> None:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{mode}\t{seed}\t{folder}\t{log}\n")
        stdin.flush()
        child = int(stdout.readline())
        time.sleep(after_s)
        os.kill(child, signal.SIGKILL)
        while _is_there(child):
            time.sleep(0.002)

    def close(self) -> None:
        self._process.communicate()


def _is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


def make_images(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 255, SIZE_HW).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"scan {number}.png")


def make_first_version(folder: Path, count: int) -> dict[str, np.ndarray]:
    """A folder as the first version left it; gives its label maps."""
    make_images(folder, count)
    root = folder / "usgseg"
    (root / "labels").mkdir(parents=True)
    maps = {}
    for number in range(count - 2):
        labels = np.zeros(SIZE_HW, np.uint8)
        labels[number : number + 9, 5:30] = 1 + number % 2
        Image.fromarray(labels).save(root / "labels" / f"scan {number}.png")
        maps[f"scan {number}"] = labels
    classes = [{"id": n, "name": f"c{n}", "color": "#e69f00"} for n in (1, 2)]
    (root / "classes.json").write_text(json.dumps({"schema": 1, "classes": classes}))
    state = {"schema": 1, "skipped": [f"scan {count - 1}"], "settings": {"phrase": "cyst"}}
    (root / "state.json").write_text(json.dumps(state))
    return maps


def check(folder: Path, acknowledged: Path) -> int:
    """Open what a killed person left, and look at all of it; gives how many events there are."""
    store = Project(folder)
    log = store.log
    assert log.database.rows("PRAGMA integrity_check") == [("ok",)]
    assert not [problem for problem in store.problems if "project.sqlite" in problem]
    done = acknowledged.read_text().splitlines() if acknowledged.is_file() else []
    assert log.serial >= (int(done[-1]) if done else 0)
    for record in store.records:
        replayed = log.replayed(record.image_id)
        if replayed is None:
            replayed = np.zeros(SIZE_HW, np.uint8)
        path = label_path(store, record.image_id)
        if path.is_file():
            with Image.open(path) as image:
                assert np.array_equal(np.asarray(image), replayed)
        else:
            assert not replayed.any()
    for path in exported(folder).rglob("*.png"):
        with Image.open(path) as image:
            image.load()
    if (exported(folder) / "dataset.json").is_file():
        json.loads((exported(folder) / "dataset.json").read_text())
    kept, serial = tables(store), log.serial
    follow_anew(store)
    assert tables(store) == kept
    store.close()
    acknowledged.unlink(missing_ok=True)
    return serial


def check_undo(folder: Path) -> None:
    """What was done before the kill can be taken back and done again."""
    bench = Bench(folder)
    session = bench.session
    session.navigation.open_folder(folder)
    for _ in range(3):
        position = session.undo_stack.position
        step = session.undo_stack.next_undo
        if step is None:
            break
        session.undo()
        assert session.undo_stack.position == position - 1, bench.notes
    while session.undo_stack.next_redo is not None:
        position = session.undo_stack.position
        session.redo()
        assert session.undo_stack.position == position + 1, bench.notes
    session.close()


def check_export(folder: Path) -> bool:
    """What was left of an export is replaced by the next one; False where nothing is accepted."""
    bench = Bench(folder)
    bench.session.navigation.open_folder(folder)
    accepted = bench.session.image_queue.accepted_count > 0
    if accepted:
        bench.session.export(exported(folder), "ovary", "cyst", overwrite=True)
        assert not bench.session.status.error, bench.notes
        assert len(read_dataset(exported(folder)).items) == bench.session.image_queue.accepted_count
    bench.session.close()
    return accepted


@pytest.mark.parametrize("kills", KILLS)
def test_killed_again_and_again_nothing_is_torn_and_at_most_the_last_action_is_missing(
    nursery: Nursery, tmp_path: Path, kills: int
) -> None:
    rng = random.Random(0)
    long_lived = tmp_path / "long lived"
    make_images(long_lived, 4)
    log = tmp_path / "acknowledged"
    most_events, exports = 0, 0
    for kill in range(kills):
        mode = MODES[kill % len(MODES)]
        folder, maps = long_lived, {}
        if mode == "migrate":
            folder = tmp_path / f"migrated {kill}"
            maps = make_first_version(folder, 12)
        after_s = rng.uniform(0, LONGEST_S[mode])
        nursery.labels_until_killed(mode, kill, folder, log, after_s)
        events = check_migrated(folder, maps, log) if maps else check(folder, log)
        most_events = max(most_events, events)
        if events:
            check_undo(folder)
            check(folder, log)
        if mode == "export":
            exports += check_export(folder)
    assert most_events > 4 * kills, "the people did too little before they were killed"
    assert exports > kills // 5


def test_killed_in_a_propagation_nothing_accepted_is_lost_and_the_next_run_does_the_rest(
    nursery: Nursery, tmp_path: Path
) -> None:
    rng = random.Random(1)
    write_loop(tmp_path / "loop", "b.tif", 40, SIZE_HW)
    log = tmp_path / "acknowledged"
    cut_short = 0
    for kill in range(60):
        if kill >= 10 and cut_short:  # a fast machine is through with a run before most kills
            break
        folder = tmp_path / str(kill)
        folder.mkdir()
        os.link(tmp_path / "loop" / "b.tif", folder / "b.tif")
        nursery.labels_until_killed("loop", kill, folder, log, rng.uniform(0.02, 0.8))
        if not check(folder, log):
            continue
        check_undo(folder)
        accepted = accepted_maps(folder)
        bench = Bench(folder)
        session = bench.session
        session.navigation.open_folder(folder)
        last, left = session.undo_stack.next_undo, session.image_queue.count(ImageState.UNTOUCHED)
        if last is not None and last.name == "propagate" and left:
            cut_short += 1
            session.propagation.propagate()
            assert session.image_queue.count(ImageState.UNTOUCHED) == 0
        session.close()
        for image_id, labels in accepted_maps(folder).items():
            assert np.array_equal(accepted.pop(image_id), labels)
        assert not accepted
    assert cut_short, "no run was cut short"


def accepted_maps(folder: Path) -> dict[str, np.ndarray]:
    """The label maps that are accepted in a folder."""
    store = Project(folder, write=False)
    states = {record: store.log.image(record.image_id).state for record in store.records}
    accepted = [record for record, state in states.items() if state is ImageState.ACCEPTED]
    found = {record.image_id: store.read_labels(record) for record in accepted}
    store.close()
    return found


def check_migrated(folder: Path, maps: dict[str, np.ndarray], log: Path) -> int:
    """The labels of the first version are all there, in the history, whatever was done since."""
    events = check(folder, log)
    store = Project(folder, write=False)
    imported = {
        event.image_id: event.body for event in store.events() if event.kind.value == "import"
    }
    for image_id, labels in maps.items():
        patch = store.log.decoder.patch(imported[image_id]["patch"])
        blank = np.zeros(SIZE_HW, np.uint8)
        assert np.array_equal(patch.applied(blank), labels)
    assert [item.name for item in store.classes()][:2] == ["c1", "c2"]
    store.close()
    return events
