"""What is not saved yet is neither forgotten nor hidden, whatever the person does meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.core.errors import LabelWriteError
from napari_usgseg.io.labels import read_labels
from napari_usgseg.project import locks, project
from napari_usgseg.project.project import Project
from tests.support.bench import SIZE_HW, Bench, with_square


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Nothing can be recorded until what this gives is called."""
    record = Project.record

    def refuse(self, events):
        raise LabelWriteError(self.root, "the disk is full")

    monkeypatch.setattr(Project, "record", refuse)
    return lambda: monkeypatch.setattr(Project, "record", record)


def test_work_that_could_not_be_saved_is_there_when_the_person_comes_back_to_it(
    tmp_path: Path, full_disk
) -> None:
    for n in range(9):
        Image.new("L", SIZE_HW[::-1], 20 * n).save(tmp_path / f"{n}.png")
    bench = Bench(tmp_path)
    session = bench.session
    session.navigation.open_folder(tmp_path)
    session.editing.painted(with_square(session.labels))
    for _ in range(8):
        session.navigation.step(1)
    session.navigation.open_image("0")
    assert session.labels.sum() == 16
    session.editing.painted(with_square(session.labels, at=7))
    full_disk()
    session.retry()
    assert not session.unsaved
    assert np.array_equal(read_labels(tmp_path / "usgseg/labels/0.png"), session.labels)


def test_a_folder_that_cannot_be_opened_again_takes_nothing_from_the_one_that_is_open(
    bench, full_disk, monkeypatch, on_disk
) -> None:
    session = bench.session
    session.editing.painted(with_square(session.labels))

    def refuse(*_):
        raise LabelWriteError(bench.folder, "the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(project, "_keep_place", refuse)
        session.navigation.open_folder(bench.folder)
    assert session.status.error
    full_disk()
    session.retry()
    assert on_disk("a").sum() == 16


def test_a_folder_that_was_saved_late_is_let_go(bench, tmp_path_factory, on_disk) -> None:
    other = tmp_path_factory.mktemp("other")
    Image.new("L", SIZE_HW[::-1]).save(other / "x.png")
    session = bench.session
    bench.hold = True
    session.navigation.open_folder(other)
    session.editing.painted(with_square(session.labels))
    bench.release()
    assert session.record.image_id == "x"
    assert on_disk("a").sum() == 16
    assert not any(path.is_relative_to(bench.folder) for path in locks._held)


def test_a_folder_that_opens_too_late_is_not_kept_from_others(bench, tmp_path_factory) -> None:
    other = tmp_path_factory.mktemp("other")
    Image.new("L", SIZE_HW[::-1]).save(other / "x.png")
    bench.hold = True
    bench.session.navigation.open_folder(other)
    bench.session.navigation.open_folder(bench.folder)
    bench.release()
    assert bench.session.record.image_id == "a"
    assert not any(path.is_relative_to(other) for path in locks._held)


def test_what_a_folder_has_is_not_missed_when_it_is_opened_again(bench, on_disk) -> None:
    """The history is saved, the label file is not, for something is in its way."""
    session = bench.session
    in_the_way = bench.folder / "usgseg" / "labels" / "a.png"
    in_the_way.mkdir(parents=True)
    session.editing.painted(with_square(session.labels))
    session.navigation.open_folder(bench.folder)
    assert session.labels.sum() == 16
    assert session.unsaved
    in_the_way.rmdir()
    session.retry()
    assert not session.unsaved
    assert on_disk("a").sum() == 16
