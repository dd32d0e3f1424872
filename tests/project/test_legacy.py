"""A folder that was labelled with the first version opens as a project, with nothing lost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.core.types import LabelClass
from napari_usgseg.project.project import Project
from napari_usgseg.project.records import EventKind, ImageState
from tests.support.labelling import SIZE_HW, keep_settings, set_classes, some_labels


@pytest.fixture
def first_version(folder: Path) -> Path:
    """The files that the first version left: 1 is labelled, 2 is empty, 10 is skipped."""
    labels = folder / "usgseg" / "labels"
    labels.mkdir(parents=True)
    Image.fromarray(some_labels().astype(np.uint16) * 300).save(labels / "1.png")
    Image.fromarray(np.zeros(SIZE_HW, np.uint8)).save(labels / "2.png")
    classes = [
        {"id": 1, "name": "thyroid nodule", "color": "#e69f00"},
        {"id": 300, "name": "Zyste", "color": "#56b4e9"},
    ]
    (folder / "usgseg" / "classes.json").write_text(json.dumps({"schema": 1, "classes": classes}))
    state = {
        "schema": 1,
        "skipped": ["1", "10"],
        "settings": {"phrase": "thyroid nodule", "last": "10", "box_threshold": None},
    }
    (folder / "usgseg" / "state.json").write_text(json.dumps(state))
    return folder


@pytest.mark.parametrize("write", [True, False])
def test_labels_classes_states_and_settings_are_all_there(first_version: Path, write: bool) -> None:
    before = np.asarray(Image.open(first_version / "usgseg" / "labels" / "1.png"))
    store = Project(first_version, write=write)
    assert store.states() == {
        "1": ImageState.ACCEPTED,
        "2": ImageState.ACCEPTED,
        "10": ImageState.SKIPPED,
    }
    assert np.array_equal(store.read_labels(store.records[0]), before)
    assert not store.read_labels(store.records[1]).any()
    assert [item.name for item in store.classes()] == ["thyroid nodule", "Zyste"]
    assert store.settings()["phrase"] == "thyroid nodule"
    assert store.settings()["last"] == "10"
    assert not store.problems


def test_what_was_taken_over_is_in_the_history_and_survives_the_loss_of_the_files(
    first_version: Path,
) -> None:
    before = np.asarray(Image.open(first_version / "usgseg" / "labels" / "1.png"))
    Project(first_version).close()
    (first_version / "usgseg" / "labels" / "1.png").unlink()
    store = Project(first_version)
    assert np.array_equal(store.read_labels(store.records[0]), before)
    assert {event.kind for event in store.events()} == {EventKind.IMPORT, EventKind.SETTINGS}


def test_the_first_versions_files_stay_as_they_are(first_version: Path) -> None:
    root = first_version / "usgseg"
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    Project(first_version).close()
    assert {path: path.read_bytes() for path in before} == before


def test_it_is_taken_over_once(first_version: Path) -> None:
    Project(first_version).close()
    store = Project(first_version)
    count = len(list(store.events()))
    set_classes(store, (LabelClass(1, "nodule", "#e69f00"),))
    store.close()
    again = Project(first_version)
    assert len(list(again.events())) == count + 1
    assert [item.name for item in again.classes()] == ["nodule"]


def test_damaged_files_are_named_and_the_rest_is_taken_over(first_version: Path) -> None:
    (first_version / "usgseg" / "state.json").write_text("{half a fi")
    (first_version / "usgseg" / "labels" / "2.png").write_bytes(b"torn")
    (first_version / "usgseg" / "classes.json").write_text("[]")
    store = Project(first_version)
    for name in ("state.json", "2.png", "classes.json"):
        assert any(name in problem for problem in store.problems), name
    assert store.states()["1"] is ImageState.ACCEPTED
    assert (first_version / "usgseg" / "labels" / "2.png").read_bytes() == b"torn"


def test_it_is_taken_over_for_the_first_annotator_whoever_opens_it_first(
    first_version: Path,
) -> None:
    other = Project(first_version, annotator="Ann")
    assert [item.name for item in other.classes()] == ["thyroid nodule", "Zyste"]
    assert other.settings()["labelling"] == "semantic"
    assert set(other.states().values()) == {ImageState.UNTOUCHED}
    keep_settings(other, {"last": "1"})
    other.close()
    test_labels_classes_states_and_settings_are_all_there(first_version, True)
