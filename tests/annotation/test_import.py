"""Labels of another program come in while a window is open, and nothing of the person's is lost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.jobs import files
from napari_usgseg.project.records import ImageState
from tests.support.bench import SIZE_HW, Bench


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for index, name in enumerate("abc"):
        pixels = np.random.default_rng(index).integers(0, 256, SIZE_HW, np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def labels_of(folder: Path, names: str = "abcx") -> Path:
    """A COCO file with two boxes of one class on each image."""
    boxes = [
        {"image_id": n, "category_id": 1, "bbox": [10 + 30 * k, 10, 12, 9]}
        for n, _ in enumerate(names)
        for k in range(2)
    ]
    images = [{"id": n, "file_name": f"{name}.png"} for n, name in enumerate(names)]
    card = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "ganglion"}]}
    path = folder.parent / "theirs.json"
    path.write_text(json.dumps(card))
    return path


@pytest.fixture
def bench(folder: Path) -> Bench:
    bench = Bench(folder)
    bench.session.navigation.open_folder(folder)
    return bench


def test_the_shown_image_has_them_at_once_and_accepts_them(bench, folder):
    session = bench.session
    session.navigation.import_labels(labels_of(folder))
    assert session.record.image_id == "a"
    assert [item.proposal.mask.sum() for item in session.proposal.objects] == [108, 108]
    assert set(map(session.state_of, "abc")) == {ImageState.PROPOSED}
    assert [item.name for item in session.table.classes][-1] == "ganglion"
    assert session.settings.labelling == "instance"
    said = dict(bench.notes)
    assert "coco: 6 objects proposed on 3 images" in said["info"]
    assert "1 images of the file are not here: x.png" in said["warning"]
    assert "6 objects have a box only" in said["warning"]
    session.editing.accept()
    assert session.state_of("a") is ImageState.ACCEPTED
    assert len(np.unique(session.labels)) == 3


def test_undo_takes_them_back_image_by_image(bench, folder):
    session = bench.session
    session.navigation.import_labels(labels_of(folder))
    for _ in range(3):
        session.undo()
    assert not session.proposal.objects
    assert set(map(session.state_of, "abc")) == {ImageState.UNTOUCHED}
    session.redo()
    assert len(session.proposal.objects) == 2


def test_what_a_person_does_while_they_come_in_is_neither_lost_nor_overwritten(bench, folder):
    session = bench.session
    session.prompting.add_point(40, 30)
    before = session.proposal.objects[0].proposal.mask
    session.navigation.step(1)
    bench.hold = True
    session.navigation.import_labels(labels_of(folder))
    assert bench.held_for(files.import_labels)
    session.editing.add_class("nerve")
    painted = session.labels.copy()
    painted[5:20, 5:20] = 1
    session.editing.painted(painted)
    session.editing.accept()
    bench.release()
    again = Bench(folder)
    for shown in (session, again.session):
        if shown.store is None:
            session.close()
            shown.navigation.open_folder(folder)
        assert "nerve" in [item.name for item in shown.table.classes]
        shown.navigation.open_image("b")
        assert shown.state_of("b") is ImageState.ACCEPTED
        assert np.array_equal(shown.labels > 0, painted > 0)
        shown.navigation.open_image("a")
        (kept,) = shown.proposal.objects
        assert np.array_equal(kept.proposal.mask, before)
        shown.navigation.open_image("c")
        assert len(shown.proposal.objects) == 2


def test_what_cannot_come_in_is_said(bench, folder):
    session = bench.session
    session.navigation.import_labels(folder.parent / "nothing.json")
    assert "no such file" in session.status.text
    session.navigation.import_labels(labels_of(folder, "xyz"))
    assert "names no image that is here" in session.status.text
    assert set(map(session.state_of, "abc")) == {ImageState.UNTOUCHED}
    empty = Bench(folder)
    empty.session.navigation.import_labels(labels_of(folder))
    assert any("Open a folder first" in text for _, text in empty.notes)


def test_nothing_comes_in_where_somebody_else_labels(folder, monkeypatch):
    bench = Bench(folder)
    bench.session.navigation.open_folder(folder)
    monkeypatch.setattr(bench.session.store, "read_only", "somebody labels here")
    bench.session.navigation.import_labels(labels_of(folder))
    assert any("somebody labels here" in text for _, text in bench.notes)
    assert not bench.session.proposal.objects
