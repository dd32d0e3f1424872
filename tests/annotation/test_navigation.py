"""States of images and of the project as a person goes through it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.annotation.commands import accept
from napari_usgseg.jobs.files import Opened
from napari_usgseg.project.project import Project
from napari_usgseg.project.records import ImageState
from tests.support.bench import SIZE_HW, Bench, opened_again, with_square


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize(
    "state", [ImageState.ACCEPTED, ImageState.EMPTY, ImageState.SKIPPED, ImageState.UNTOUCHED]
)
def test_without_its_flag_an_image_is_what_it_was_before(bench, state, restart) -> None:
    session = bench.session
    if state is ImageState.ACCEPTED:
        session.editing.painted(with_square(session.labels))
        session.editing.accept()
    elif state is ImageState.EMPTY:
        session.navigation.mark_empty()
    elif state is ImageState.SKIPPED:
        session.navigation.skip()
    session.navigation.open_image("a")
    session.navigation.flag()
    if restart:
        session = opened_again(bench).session
    session.navigation.open_image("a")
    assert session.state_of("a") is ImageState.FLAGGED
    session.navigation.flag()
    assert session.state_of("a") is state


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize(
    "did",
    [
        "flag, accept, flag, undo, undo",
        "flag, accept, flag, undo, undo, flag, undo",
        "accept, flag, undo, undo, flag",
        "flag, undo, accept, undo, flag",
        "flag, accept, flag, undo, undo, redo, redo, undo, undo",
        "flag, accept, undo, undo, redo, redo, undo",
    ],
)
def test_a_flag_taken_away_accepts_nothing_whatever_was_undone(bench, did, restart) -> None:
    session = bench.session
    session.editing.painted(with_square(session.labels))
    does = {
        "flag": lambda: session.do(accept.flag),
        "accept": session.editing.accept,
        "undo": session.undo,
        "redo": session.redo,
    }
    for name in did.split(", "):
        does[name]()
    if restart:
        session = opened_again(bench).session
    assert session.state_of("a") is ImageState.FLAGGED
    session.do(accept.flag)
    assert session.state_of("a") is ImageState.PROPOSED, "drawn, and accepted by nobody"


def test_who_may_only_look_takes_nothing_back(bench) -> None:
    bench.session.editing.painted(with_square(bench.session.labels))
    bench.session.editing.accept()
    store = Project(bench.folder, write=False)
    steps = store.steps()
    second = Bench(bench.folder)
    opened = Opened(store, store.states(), store.table(), store.settings(), steps)
    second.session.navigation.use_store(opened)
    second.session.undo()
    assert second.session.labels.sum() == 16
    assert second.session.state_of("a") is ImageState.ACCEPTED
    assert second.session.undo_stack.position == len(steps.done)
    assert any("Nothing was changed" in text for _, text in second.notes)


def test_the_kind_of_labels_stays_where_a_flagged_image_has_some(bench) -> None:
    session = bench.session
    session.editing.painted(with_square(session.labels))
    session.navigation.flag()
    assert session.record.image_id == "b"
    assert not session.editing.set_labelling("instance")


def test_the_kind_of_labels_stays_where_another_annotator_has_some(bench) -> None:
    bench.session.editing.painted(with_square(bench.session.labels))
    second = opened_again(bench, annotator="Ann")
    assert not second.session.editing.set_labelling("instance")
    assert Project(bench.folder, write=False).settings()["labelling"] == "semantic"


def test_undoing_a_class_keeps_those_that_the_image_shows(bench, folder) -> None:
    for n in range(6):
        Image.new("L", SIZE_HW[::-1], 20 * n).save(folder / f"z{n}.png")
    session = bench.session
    session.navigation.open_folder(folder)
    session.editing.add_class("x")
    (folder / "usgseg" / "labels").mkdir(exist_ok=True)
    Image.fromarray(np.full(SIZE_HW, 9, np.uint8)).save(folder / "usgseg" / "labels" / "z5.png")
    session.navigation.open_image("z5")
    session.undo()
    assert [item.class_id for item in session.table.classes] == [1, 9]
    session.redo()
    assert [item.class_id for item in session.table.classes] == [1, 2, 9]


def test_the_time_of_an_answer_is_not_told_of_the_next_image(bench) -> None:
    session = bench.session
    session.prompting.add_point(20, 20)
    assert " ms" in session.status.text
    session.navigation.step(1)
    assert " ms" not in session.status.text
