"""A full disk, a folder that may not be written, a damaged file: clear errors, nothing lost."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from napari_usgseg.core.errors import DatasetError, LabelWriteError
from napari_usgseg.io.labels import read_labels
from napari_usgseg.project.database import MIGRATIONS
from napari_usgseg.project.project import Project
from napari_usgseg.project.records import (
    Edit,
    Event,
    EventKind,
    ImageProposal,
    ImageState,
    difference,
)
from tests.support.labelling import (
    SIZE_HW,
    accept_labels,
    label_path,
    set_state,
    some_labels,
    some_proposal,
)


def noisy_accept(serial: int, image_id: str = "1") -> Event:
    """An accept whose content does not compress."""
    labels = np.random.default_rng(serial).integers(0, 65535, SIZE_HW).astype(np.uint16)
    patch = difference(np.zeros(SIZE_HW, np.uint8), labels)
    states = (ImageState.UNTOUCHED, ImageState.ACCEPTED)
    edit = Edit("accept", image_id, (some_proposal(), ImageProposal()), patch, states)
    return Event(serial, EventKind.EDIT, image_id, edit)


def fill(store: Project) -> list[Event]:
    """Record until nothing more can be; gives the events that were not taken."""
    for serial in range(1, 20_000):
        event = noisy_accept(serial)
        try:
            store.record([event])
        except LabelWriteError:
            return [event]
    raise AssertionError("the disk was never full")


def test_when_the_database_cannot_grow_nothing_is_lost_and_the_same_batch_is_taken_later(
    folder: Path,
) -> None:
    store = Project(folder)
    database = store.log.database
    (pages,) = database.row("PRAGMA page_count")
    database.execute(f"PRAGMA max_page_count = {pages + 12}")
    (failed,) = fill(store)
    with pytest.raises(LabelWriteError, match=r"disk is full; free some space"):
        store.record([failed])
    assert database.rows("PRAGMA integrity_check") == [("ok",)]
    assert store.steps().serial == failed.serial - 1
    database.execute("PRAGMA max_page_count = 1000000")
    store.record([failed, noisy_accept(failed.serial + 1, "2")])
    assert [step.number for step in store.steps().done] == list(range(1, failed.serial + 2))
    assert np.array_equal(read_labels(label_path(store, "2")), failed_labels(failed.serial + 1))


def failed_labels(serial: int) -> np.ndarray:
    return noisy_accept(serial).edit.patch.applied(np.zeros(SIZE_HW, np.uint8))


def test_a_label_file_that_cannot_be_written_is_written_with_the_next_save(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Project(folder)
    replaced = os.replace

    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    # the history is written, then the disk is full: a moment that no quota can be set to meet
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(LabelWriteError, match="disk is full"):
        store.record([noisy_accept(1)])
    assert not label_path(store, "1").exists()
    monkeypatch.setattr(os, "replace", replaced)
    store.record([noisy_accept(1)])
    assert np.array_equal(read_labels(label_path(store, "1")), failed_labels(1))
    assert len(list(store.events())) == 1


LIMITED = """
import resource, sys
sys.path.insert(0, sys.argv[2])
from tests.project.test_failures import fill, Project, LabelWriteError
store = Project(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
(failed,) = fill(store)
try:
    store.record([failed])
except LabelWriteError as error:
    print("ERROR", error)
print(failed.serial)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.record([failed])
print(store.log.database.rows("PRAGMA integrity_check") == [("ok",)], store.steps().serial)
"""


def test_when_files_may_not_grow_any_more_it_is_said_and_nothing_is_lost(folder: Path) -> None:
    pytest.importorskip("resource", reason="needs a system with limits of file sizes")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(folder), str(Path(__file__).parents[2])],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    said, serial, sound = done.stdout.splitlines()
    assert said.startswith("ERROR")
    assert "nothing is lost" in said
    assert sound == f"True {serial}"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts a disk of so many bytes; skips where that is not allowed."""
    mounted: list[Path] = []

    def mount(options: str) -> Path:
        place = tmp_path / f"disk {len(mounted)}"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting a small disk is not allowed here")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_on_a_disk_that_is_really_full_nothing_is_lost_and_it_goes_on_after_freeing_some(
    folder: Path, small_disk
) -> None:
    disk = small_disk("size=1m")
    store = Project(folder, disk / "project")
    (disk / "something else").write_bytes(bytes(200_000))
    (failed,) = fill(store)
    with pytest.raises(LabelWriteError, match="free some space"):
        store.record([failed])
    (disk / "something else").unlink()
    store.record([failed])
    store.close()
    again = Project(folder, disk / "project")
    assert again.log.database.rows("PRAGMA integrity_check") == [("ok",)]
    assert again.steps().serial == failed.serial
    assert np.array_equal(again.read_labels(again.records[0]), failed_labels(failed.serial))


@pytest.fixture
def not_writable(folder: Path, small_disk) -> Callable[[], Path]:
    """Takes the right to write into the folder away; root needs a read-only disk for that."""

    def make() -> Path:
        if os.geteuid() != 0:
            for path in (folder, *folder.rglob("*")):
                if path.is_dir():
                    path.chmod(0o555)
            return folder
        disk = small_disk("size=8m")
        shutil.copytree(folder, disk / "images")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        return disk / "images"

    return make


@pytest.mark.parametrize("labelled", [True, False])
def test_a_folder_that_may_not_be_written_can_be_looked_at(
    folder: Path, not_writable, labelled: bool
) -> None:
    if labelled:
        store = Project(folder)
        accept_labels(store, store.records[0], some_labels())
        store.close()
    store = Project(not_writable())
    assert "another folder" in store.read_only
    assert store.read_image(store.records[0]).shape == (*SIZE_HW, 3)
    labels = store.read_labels(store.records[0])
    assert np.array_equal(labels, some_labels()) if labelled else labels is None
    with pytest.raises(LabelWriteError, match="another folder"):
        accept_labels(store, store.records[0], some_labels())


def test_a_damaged_database_is_named_with_the_cure_and_the_cure_works(folder: Path) -> None:
    store = Project(folder)
    accept_labels(store, store.records[0], some_labels())
    store.close()
    file = folder / "usgseg" / "project.sqlite"
    file.write_bytes(b"not a database at all" * 400)
    with pytest.raises(DatasetError, match="move it away and open the folder again"):
        Project(folder)
    for left in file.parent.glob("project.sqlite*"):
        left.unlink()
    store = Project(folder)
    assert np.array_equal(store.read_labels(store.records[0]), some_labels())


def test_a_project_of_a_newer_version_is_refused_and_left_alone(folder: Path) -> None:
    Project(folder).close()
    file = folder / "usgseg" / "project.sqlite"
    database = sqlite3.connect(file)
    database.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    database.close()
    for write in (True, False):
        with pytest.raises(DatasetError, match="update napari-usgseg"):
            Project(folder, write=write)
    database = sqlite3.connect(file)
    assert database.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 1,)
    database.close()


def test_a_label_file_that_is_in_the_way_holds_up_no_other(folder: Path) -> None:
    store = Project(folder)
    first, second = (record for record in store.records[:2])
    label_path(store, first.image_id).mkdir(parents=True)
    labels = np.ones(SIZE_HW, np.uint8)
    with pytest.raises(LabelWriteError, match=r"1\.png"):
        accept_labels(store, first, labels)
    with pytest.raises(LabelWriteError, match=r"1\.png"):
        accept_labels(store, second, labels)
    assert np.array_equal(read_labels(label_path(store, second.image_id)), labels)
    label_path(store, first.image_id).rmdir()
    set_state(store, second.image_id, ImageState.FLAGGED)
    assert np.array_equal(read_labels(label_path(store, first.image_id)), labels)
