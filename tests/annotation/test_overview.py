"""Looking over what is done: summaries of images, and many accepted in one step."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.annotation import image_queue
from napari_usgseg.annotation.overview import passes
from napari_usgseg.core.errors import LabelWriteError
from napari_usgseg.jobs.files import summary_of
from napari_usgseg.project.project import Project
from napari_usgseg.project.records import ImageProposal, ImageState
from tests.support.bench import Bench, opened_again, with_square
from tests.support.labelling import follow_anew


def proposed_on(bench: Bench, *names: str) -> None:
    """Propose one object on each of some images, and go on to the first one."""
    for name in names:
        bench.session.navigation.open_image(name)
        bench.session.prompting.add_box((10, 10), (40, 40))
    bench.session.navigation.open_image("a")


def states(session) -> list[ImageState]:
    return [session.state_of(name) for name in ("a", "b", "c")]


ACCEPTED, PROPOSED, UNTOUCHED = ImageState.ACCEPTED, ImageState.PROPOSED, ImageState.UNTOUCHED


def test_marked_images_are_accepted_in_one_step_and_taken_back_in_one(bench, on_disk):
    session = bench.session
    proposed_on(bench, "a", "b")
    before, proposals = session.undo_stack.count, session.proposal
    session.overview.accept(["a", "b", "c"])
    assert states(session) == [ACCEPTED, ACCEPTED, UNTOUCHED]
    assert session.undo_stack.count == before + 1
    assert session.undo_stack.next_undo.name == "accept 2 images"
    assert "2 images are accepted; 1 without anything new stay" in session.status.text
    assert on_disk("a").any()
    np.testing.assert_array_equal(on_disk("a"), on_disk("b"))
    assert session.labels.any(), "the shown one shows it"
    session.undo()
    assert states(session) == [PROPOSED, PROPOSED, UNTOUCHED]
    assert (on_disk("a"), on_disk("b")) == (None, None)
    assert not session.labels.any()
    assert session.proposal is proposals
    assert session.record.image_id == "a", "nobody is taken to another image"
    session.redo()
    assert states(session) == [ACCEPTED, ACCEPTED, UNTOUCHED]
    session.navigation.open_image("b")
    np.testing.assert_array_equal(session.labels, on_disk("b"))
    assert session.proposal.objects == ()


def test_images_accepted_together_are_no_pace(bench, monkeypatch):
    monkeypatch.setattr(image_queue, "LEAST_TIMES", 2)
    session = bench.session
    queue = session.image_queue
    proposed_on(bench, "a", "b", "c")
    session.overview.accept(["a", "b", "c"])
    session.undo()
    session.redo()
    assert (queue.accepted_count, queue.per_hour()) == (3, None)
    session.undo()
    for name in ("a", "b"):
        assert queue.per_hour() is None
        session.navigation.open_image(name)
        session.editing.accept()
    assert queue.per_hour() is not None


def test_what_is_painted_while_a_step_is_read_is_not_lost_to_it(bench, on_disk):
    session = bench.session
    proposed_on(bench, "a", "b")
    session.overview.accept(["a", "b"])
    bench.hold = True
    session.undo()
    drawn = with_square(session.labels, 11)
    session.flushing.connect(lambda: session.editing.painted(drawn))
    bench.release()
    np.testing.assert_array_equal(session.labels, drawn)
    np.testing.assert_array_equal(on_disk("a"), drawn)
    assert states(session) == [ACCEPTED, ACCEPTED, UNTOUCHED]


def test_labels_beside_what_was_accepted_are_seen_after_an_undo_too(bench):
    session = bench.session
    for name in ("a", "b", "c"):
        session.navigation.open_image(name)
        session.editing.painted(with_square(session.labels, 50))
        session.editing.accept()
        session.prompting.add_box((10, 10), (30, 30))
    bench = opened_again(bench)
    session = bench.session
    assert states(session) == [ACCEPTED] * 3
    session.overview.accept(["a", "b", "c"])
    bench = opened_again(bench)
    session = bench.session
    for move in (session.undo, session.redo, session.undo):
        move()
        assert states(session) == [ACCEPTED] * 3
    assert session.undo_stack.position == session.undo_stack.count - 1
    assert states(opened_again(bench).session) == [ACCEPTED] * 3


def test_the_step_survives_a_restart_and_follows_from_the_history(bench, folder, on_disk):
    proposed_on(bench, "a", "b")
    bench.session.overview.accept(["a", "b"])
    labels = on_disk("b")
    session = opened_again(bench).session
    assert states(session) == [ACCEPTED, ACCEPTED, UNTOUCHED]
    session.undo()
    assert states(session) == [PROPOSED, PROPOSED, UNTOUCHED]
    assert on_disk("b") is None
    session.redo()
    np.testing.assert_array_equal(on_disk("b"), labels)
    session.undo()
    session.close()
    with closing(Project(folder)) as store:
        told = store.states(), store.steps()
        follow_anew(store)
        assert (store.states(), store.steps()) == told
        records = {record.image_id: record for record in store.records}
        assert store.log.replayed("b") is None or not store.log.replayed("b").any()
        assert store.read_labels(records["b"]) is None


def test_what_another_program_changed_since_stays_and_the_others_are_taken_back(bench, folder):
    session = bench.session
    proposed_on(bench, "a", "b")
    session.overview.accept(["a", "b"])
    path = folder / "usgseg" / "labels" / "b.png"
    theirs = np.asarray(Image.open(path)).copy()
    theirs[15:30, 15:30] = 0
    Image.fromarray(theirs).save(path)
    bench = opened_again(bench)
    session = bench.session
    session.undo()
    assert session.state_of("a") is PROPOSED
    assert session.state_of("b") is ACCEPTED
    assert any("1 of the images were changed elsewhere" in text for _, text in bench.notes)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), theirs)


def test_nothing_is_accepted_that_is_empty_awaited_or_in_a_folder_for_reading(bench):
    session = bench.session
    session.overview.accept(["a", "b", "c"])
    assert states(session) == [UNTOUCHED] * 3
    assert session.undo_stack.count == 0
    assert any("Nothing is proposed or drawn" in text for _, text in bench.notes)
    proposed_on(bench, "a")
    session.store.read_only = "it is read only"
    session.overview.accept(["a"])
    assert session.state_of("a") is PROPOSED


@pytest.mark.parametrize("at", ["before", "meanwhile"])
def test_nothing_is_accepted_from_a_store_that_lacks_what_was_done(bench, on_disk, monkeypatch, at):
    session, record = bench.session, Project.record

    def refuse(store, events):
        raise LabelWriteError(store.root, "the disk is full")

    session.editing.painted(with_square(session.labels))
    monkeypatch.setattr(Project, "record", refuse)
    bench.hold = at == "meanwhile"
    session.editing.painted(with_square(session.labels, 20))
    strokes = session.labels
    session.navigation.open_image("b")
    session.overview.accept(["a"])
    bench.release()
    assert session.state_of("a") is PROPOSED
    assert session.undo_stack.count == 2
    assert any("Nothing was changed" in text for _, text in bench.notes)
    monkeypatch.setattr(Project, "record", record)
    session.retry()
    session.overview.accept(["a"])
    assert session.state_of("a") is ACCEPTED
    np.testing.assert_array_equal(on_disk("a"), strokes)


def test_what_is_done_to_an_image_while_others_are_read_stands(bench, on_disk):
    session = bench.session
    proposed_on(bench, "a", "b", "c")
    bench.hold = True
    session.overview.accept(["a", "b", "c"])
    session.navigation.open_image("b")
    session.navigation.flag()
    session.navigation.open_image("a")
    drawn = with_square(session.labels, 11)  # beside the ellipse, in the box that has it
    session.flushing.connect(lambda: session.editing.painted(drawn))
    bench.release()
    assert states(session) == [ACCEPTED, ImageState.FLAGGED, ACCEPTED]
    np.testing.assert_array_equal(on_disk("a")[11:15, 11:15], drawn[11:15, 11:15])
    assert on_disk("a")[25, 25], "what was proposed is there too"
    assert on_disk("b") is None


def test_the_prompts_of_an_image_accepted_with_others_can_be_used_on_the_next(bench):
    session = bench.session
    proposed_on(bench, "a", "b")
    session.overview.accept(["a", "b"])
    session.navigation.open_image("b")
    session.navigation.step(1)
    session.copying.prompts()
    (item,) = session.proposal.objects
    assert item.prompts.box.tolist() == [10, 10, 40, 40]


def test_classes_are_counted_on_images_that_were_accepted_together(bench):
    session = bench.session
    proposed_on(bench, "a", "b")
    session.overview.accept(["a", "b"])
    assert session.prompt_predictor.counts == {1: 2}
    session.undo()
    assert session.prompt_predictor.counts == {1: 0}


def test_summaries_are_read_while_somebody_looks_and_follow_what_is_done(bench):
    session, overview = bench.session, bench.session.overview
    proposed_on(bench, "a", "b")
    assert overview.get("a") is None
    overview.begin()
    assert overview.left == 0
    assert overview.get("a").classes == {1}
    assert overview.get("a").score == pytest.approx(0.9)
    assert (overview.get("c").classes, overview.get("c").score) == (frozenset(), None)
    told = []
    overview.changed.connect(told.append)
    session.editing.accept()
    assert (overview.get("a").classes, overview.get("a").score) == ({1}, None)
    assert "a" in told
    overview.end()
    told.clear()
    session.undo()
    assert told == []


def test_what_changed_while_nobody_looked_is_read_anew(bench):
    session, overview = bench.session, bench.session.overview
    proposed_on(bench, "a", "b")
    overview.begin()
    assert overview.get("b").score == pytest.approx(0.9)
    overview.end()
    overview.accept(["a", "b"])
    overview.begin()
    assert (overview.get("b").classes, overview.get("b").score) == ({1}, None)
    overview.end()
    session.navigation.open_image("c")
    session.undo()
    overview.begin()
    assert [overview.get(name).score for name in "ab"] == [pytest.approx(0.9)] * 2


def test_the_picture_of_a_summary_is_small_and_has_the_classes_where_they_are():
    labels = np.zeros((600, 800), np.uint8)
    labels[300:, 400:] = 3
    small = summary_of(labels, ImageProposal()).labels()
    assert small.shape == (120, 160)
    assert set(np.unique(small[:58, :78])) == {0}
    assert set(np.unique(small[62:, 82:])) == {3}
    tiny = summary_of(np.full((3, 4), 2, np.uint8), ImageProposal())
    assert tiny.labels().shape == (3, 4)


def test_a_filter_asks_for_class_state_emptiness_and_score(bench):
    proposed_on(bench, "a")
    bench.session.overview.begin()
    full, empty = (bench.session.overview.get(name) for name in ("a", "b"))
    assert passes(None, UNTOUCHED)
    assert not passes(None, UNTOUCHED, class_id=1), "it is not read yet"
    assert passes(full, PROPOSED, only=PROPOSED, class_id=1, is_empty=False, below=0.95)
    assert not passes(full, PROPOSED, only=ACCEPTED)
    assert not passes(full, PROPOSED, class_id=2)
    assert not passes(full, PROPOSED, is_empty=True)
    assert not passes(full, PROPOSED, below=0.5)
    assert passes(empty, UNTOUCHED, is_empty=True)
    assert not passes(empty, UNTOUCHED, below=0.95), "it has no score"
