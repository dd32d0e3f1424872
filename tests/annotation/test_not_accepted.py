"""What was drawn and not accepted: kept, and neither labelled nor learned from nor exported."""

from __future__ import annotations

import numpy as np
import pytest

from napari_usgseg.effort.efforts import efforts
from napari_usgseg.learning.labelled import label_maps
from napari_usgseg.project.project import Project
from napari_usgseg.project.records import ImageState
from tests.support.bench import Bench, opened_again

LINE = np.array([[5, 40], [70, 40]], np.float32)
SQUARE = np.array([[10, 10], [30, 10], [30, 30], [10, 30]], np.float32)


def brush(session) -> None:
    painted = session.labels.copy()
    painted[40:50, 10:60] = 1
    session.editing.painted(painted)


DRAW = {
    "stroke": lambda session: session.painting.stroke(LINE, 7),
    "box": lambda session: session.painting.box((10, 10), (30, 30)),
    "lasso": lambda session: session.painting.lasso(SQUARE),
    "brush": brush,
}


@pytest.fixture(params=DRAW)
def draw(request):
    return DRAW[request.param]


def counts(session) -> dict[int, int]:
    return {value: n for value, n in session.prompt_predictor.counts.items() if n}


def test_what_is_drawn_is_not_labelled_before_it_is_accepted(session, draw):
    draw(session)
    assert session.labels.any()
    assert session.image_queue.accepted_count == 0
    assert session.state_of("a") is ImageState.PROPOSED
    assert counts(session) == {}
    assert session.editing.accept()
    assert session.state_of("a") is ImageState.ACCEPTED
    assert counts(session) == {1: 1}
    session.undo()
    assert session.state_of("a") is ImageState.PROPOSED, "the drawing is there, the accept is not"
    assert counts(session) == {}
    session.undo()
    assert session.state_of("a") is ImageState.UNTOUCHED


def test_it_waits_through_other_images_and_a_restart(bench: Bench, draw):
    draw(bench.session)
    drawn = bench.session.labels
    assert bench.session.navigation.step(1)
    assert bench.session.image_queue.next_untouched() == "c"
    again = opened_again(bench).session
    assert again.state_of("a") is ImageState.PROPOSED
    assert again.image_queue.accepted_count == 0
    assert counts(again) == {}
    again.navigation.open_image("a")
    assert np.array_equal(again.labels, drawn)
    assert again.state_of("a") is ImageState.PROPOSED
    again.editing.accept()
    assert again.state_of("a") is ImageState.ACCEPTED


def test_it_is_in_no_export_and_no_training(bench: Bench, draw, tmp_path_factory):
    session = bench.session
    draw(session)
    session.navigation.step(1)
    out = tmp_path_factory.mktemp("export") / "set"
    session.export(out, "thyroid", "nodule")
    assert not out.exists()
    assert session.status.error
    assert session.prompt_predictor.request(["a"])["counts"] == {}
    assert session.accepted == []
    draw(session)
    session.editing.accept()
    session.navigation.step(1)
    draw(session)
    session.export(out, "thyroid", "nodule")
    assert [path.name for path in (out / "masks").iterdir()] == ["b.png"]


def test_a_training_reads_no_image_whose_accept_was_taken_back_meanwhile(bench: Bench, tmp_path):
    session = bench.session
    for _ in "ab":
        session.painting.stroke(LINE, 7)
        session.editing.accept_and_next()
    asked = session.prompt_predictor.request([item.image_id for item in session.accepted])
    session.undo()
    assert session.state_of("b") is ImageState.PROPOSED
    store = Project(bench.folder, write=False)
    folder = tmp_path / "training"
    folder.mkdir()
    request = {**asked, "plan": {"seed": 0}}
    assert list(label_maps(folder, request, store)) == ["a"]
    store.close()


def test_the_ledger_says_that_it_is_not_accepted(bench: Bench, draw):
    session = bench.session
    draw(session)
    session.navigation.step(1)
    store = Project(bench.folder, write=False)
    first, *_ = efforts(store.events(), "", store.states())
    assert (first.image_id, first.accepted_at, first.way) == ("a", None, None)
    store.close()
    session.navigation.step(-1)
    session.editing.accept()
    store = Project(bench.folder, write=False)
    first, *_ = efforts(store.events(), "", store.states())
    assert first.accepted_at is not None
    assert first.way == "by hand"
    store.close()


def test_an_accepted_image_that_is_drawn_on_stays_accepted_as_it_is_now(bench: Bench, draw):
    session = bench.session
    session.painting.box((60, 5), (70, 15))
    session.editing.accept()
    draw(session)
    now = session.labels
    assert session.state_of("a") is ImageState.ACCEPTED
    store = Project(bench.folder, write=False)
    assert np.array_equal(store.read_labels(session.image_queue.get("a")), now)
    assert store.states()["a"] is ImageState.ACCEPTED
    store.close()
    session.undo()
    assert session.state_of("a") is ImageState.ACCEPTED
    session.undo()
    assert session.state_of("a") is ImageState.PROPOSED


def test_an_accepted_object_that_is_taken_up_again_is_accepted_anew_or_not_at_all(session):
    session.painting.box((10, 10), (20, 20))
    session.painting.box((40, 10), (60, 20))
    session.editing.accept()
    session.objects.lift(15, 15)
    assert session.state_of("a") is ImageState.PROPOSED, "else it counts with a hole"
    assert counts(session) == {}
    session.undo()
    assert session.state_of("a") is ImageState.ACCEPTED
    session.redo()
    session.editing.accept()
    assert session.state_of("a") is ImageState.ACCEPTED
    assert session.labels[15, 15] == 1


@pytest.mark.parametrize("way", ["flag", "skip"])
def test_a_flag_or_a_skip_accepts_nothing(bench: Bench, draw, way):
    session = bench.session
    draw(session)
    getattr(session.navigation, way)()
    session.navigation.open_image("a")
    if way == "flag":
        draw(session)
        assert session.state_of("a") is ImageState.FLAGGED
        session.navigation.flag()
        assert session.state_of("a") is ImageState.PROPOSED
    else:
        draw(session)
        assert session.state_of("a") is ImageState.SKIPPED
    assert session.image_queue.accepted_count == 0
    assert session.labels.any()


def test_the_kind_of_labels_stays_where_something_is_drawn_on_another_image(bench: Bench, draw):
    session = bench.session
    draw(session)
    session.navigation.step(1)
    assert not session.editing.set_labelling("instance")
    again = opened_again(bench).session
    assert not again.editing.set_labelling("instance")


def test_a_phrase_gives_its_name_to_no_class_that_something_is_drawn_with(session):
    session.painting.stroke(LINE, 7)
    session.navigation.step(1)
    session.prompting.find("cyst")
    assert session.table.get(1).name == "object"
