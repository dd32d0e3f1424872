"""Two people on one project: in two processes, as it happens."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from napari_usgseg.core.errors import DatasetError, LabelWriteError
from napari_usgseg.io.labels import read_labels
from napari_usgseg.project.project import Project
from napari_usgseg.project.records import ImageState
from tests.support.labelling import (
    accept_labels,
    keep_settings,
    label_path,
    set_classes,
    some_labels,
)

OTHER_PERSON = """
import sys
from napari_usgseg.project.project import Project
from tests.support.labelling import accept_labels
store = Project(sys.argv[1], annotator=sys.argv[2])
for line in sys.stdin:
    if line.strip() == "label":
        import numpy as np
        labels = np.zeros((20, 30), np.uint8)
        labels[:4] = 9
        accept_labels(store, store.records[0], labels)
    print(store.read_only or "done", flush=True)
"""


class OtherPerson:
    """Somebody who has the project open in another process."""

    def __init__(self, folder: Path, annotator: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", OTHER_PERSON, str(folder), annotator],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        self.says = self.do("open")

    def do(self, what: str) -> str:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(what + "\n")
        stdin.flush()
        return stdout.readline().strip()

    def die(self) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def process_id(self) -> int:
        return self._process.pid


@pytest.fixture
def other_person(folder: Path) -> Iterator[Callable[[str], OtherPerson]]:
    people: list[OtherPerson] = []

    def begin(annotator: str = "") -> OtherPerson:
        people.append(OtherPerson(folder, annotator))
        return people[-1]

    yield begin
    for person in people:
        person.die()


def test_the_second_person_can_look_and_is_told_who_has_it_since_when(
    folder: Path, other_person
) -> None:
    first = other_person("")
    assert first.says == "done"
    first.do("label")
    store = Project(folder)
    assert f"process {first.process_id}" in store.read_only
    assert "Since " in store.read_only
    assert "a name of your own" in store.read_only
    assert store.read_labels(store.records[0]).any()
    with pytest.raises(LabelWriteError, match="name of your own"):
        accept_labels(store, store.records[0], some_labels())
    first.do("label")
    assert store.read_labels(store.records[0])[0, 0] == 9


def test_under_a_name_of_their_own_both_label_and_neither_overwrites_the_other(
    folder: Path, other_person
) -> None:
    first = other_person("")
    second = Project(folder, annotator="Ana")
    assert not second.read_only
    assert first.do("label") == "done"
    accept_labels(second, second.records[0], some_labels())
    assert first.do("label") == "done"
    second.close()
    first.die()
    for name, value in (("", 9), ("Ana", 1)):
        store = Project(folder, annotator=name)
        assert store.read_labels(store.records[0]).max() == value
        assert read_labels(label_path(store, "1")).max() == value
        assert store.annotators() == ("", "Ana")
        store.close()
    assert (folder / "usgseg" / "labels" / "by-Ana" / "1.png").is_file()


def test_a_name_in_another_case_is_refused_for_its_files_could_be_the_same(folder: Path) -> None:
    store = Project(folder, annotator="An\u00e4")
    accept_labels(store, store.records[0], some_labels())
    store.close()
    for name in ("an\u00e4", "ANA\u0308"):
        with pytest.raises(DatasetError, match="'An\u00e4' labels here already"):
            Project(folder, annotator=name)
    assert Project(folder, annotator="Ana\u0308").annotator == "An\u00e4"


def test_a_new_annotator_begins_with_the_firsts_classes_and_settings_but_no_labels(
    folder: Path,
) -> None:
    from napari_usgseg.core.types import LabelClass

    store = Project(folder)
    set_classes(store, (LabelClass(1, "cyst", "#e69f00"),))
    keep_settings(store, {"phrase": "cyst", "last": "10", "labelling": "instance"})
    accept_labels(store, store.records[0], some_labels())
    other = Project(folder, annotator="Bo")
    assert [item.name for item in other.classes()] == ["cyst"]
    assert other.settings() == {"phrase": "cyst", "labelling": "instance"}
    assert set(other.states().values()) == {ImageState.UNTOUCHED}
    assert not other.steps().done


def test_when_the_first_dies_the_next_has_it(folder: Path, other_person) -> None:
    first = other_person("")
    first.do("label")
    first.die()
    store = Project(folder)
    assert not store.read_only
    accept_labels(store, store.records[0], some_labels())
    assert np.array_equal(read_labels(label_path(store, "1")), some_labels())


def test_in_one_window_the_newest_opening_has_it(folder: Path) -> None:
    old = Project(folder)
    new = Project(folder)
    assert not new.read_only
    assert "opened again" in old.read_only
    with pytest.raises(LabelWriteError, match="opened again"):
        accept_labels(old, old.records[0], some_labels())
    old.close()
    accept_labels(new, new.records[0], some_labels())


@pytest.mark.parametrize("name", ["all", "first", "_first", "a/b", "..", "x" * 41])
def test_a_name_that_cannot_be_a_folder_or_means_something_else_is_refused(
    folder: Path, name: str
) -> None:
    with pytest.raises(DatasetError, match="annotator's name"):
        Project(folder, annotator=name)


def test_another_way_to_the_same_folder_is_the_same_folder(folder: Path, tmp_path: Path) -> None:
    way = tmp_path / "another way"
    way.symlink_to(folder, target_is_directory=True)
    old = Project(folder)
    assert not Project(way).read_only
    assert "opened again" in old.read_only
