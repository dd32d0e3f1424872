from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_usgseg.annotation import regions
from napari_usgseg.core.geometry import stroke_mask

LINE = np.array([[5, 20], [75, 20]], np.float32)


def line(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points, np.float32)


@pytest.fixture
def two(session):
    """Two proposed ellipses side by side."""
    session.prompting.add_box((5, 10), (25, 30))
    session.prompting.add_box((45, 10), (65, 30))
    return session


@pytest.fixture
def told_apart(session):
    """An empty project with one label for each object."""
    assert session.editing.set_labelling("instance")
    return session


def masks_of(session) -> list[np.ndarray]:
    return [item.proposal.mask for item in session.proposal.objects]


# -- proposed objects ------------------------------------------------------------------------------


def test_a_line_over_two_proposed_objects_makes_them_one(two):
    first, second = masks_of(two)
    two.editing.add_class("cyst")
    two.objects.merge(LINE)
    (item,) = two.proposal.objects
    assert np.array_equal(item.proposal.mask, first | second)
    assert item.class_id == 1, "the first object that the line meets gives the class"
    assert two.proposal.active == 0
    two.undo()
    assert [mask.tolist() for mask in masks_of(two)] == [first.tolist(), second.tolist()]


def test_a_line_over_one_object_merges_nothing_and_says_so(two):
    before = two.proposal
    two.objects.merge(line((5, 20), (25, 20)))
    assert two.proposal is before
    assert "from one object to another" in two.status.text


def test_a_merged_object_is_corrected_by_a_click_and_kept_by_a_search(two):
    two.objects.merge(LINE)
    two.prompting.find("nodule")
    assert len(two.proposal.objects) == 2
    two.prompting.add_point(8, 20, positive=False)
    prompts = two.proposal.objects[0].prompts
    assert prompts.mask_input is not None
    assert prompts.box.tolist() == [5, 10, 65, 30]


def test_subtracting_takes_the_overlap_away_and_the_first_object_with_it(session):
    session.prompting.add_box((5, 5), (55, 45))
    session.prompting.new_object()
    session.prompting.add_lasso(line((20, 20), (30, 20), (30, 30), (20, 30)))
    outer = masks_of(session)[0]
    assert len(session.proposal.objects) == 2, "a new object, though it is inside another one"
    session.prompting.clear_prompts()
    session.prompting.add_box((50, 30), (70, 50))
    session.prompting.add_box((5, 5), (45, 45))
    session.prompting.add_box((46, 1), (60, 28))
    assert len(session.proposal.objects) == 3
    inner = session.proposal.objects[0]
    moved = replace(
        inner, proposal=replace(inner.proposal, mask=np.roll(inner.proposal.mask, -30, axis=1))
    )
    proposal = replace(session.proposal, objects=(moved, *session.proposal.objects[1:]))
    session.edit_proposal("as if found by a phrase", proposal)
    small, large, other = masks_of(session)
    assert (small & large).any()
    session.objects.subtract(line((30, 40), (12, 25)))
    assert len(session.proposal.objects) == 2
    assert np.array_equal(masks_of(session)[-1], large & ~small)
    assert np.array_equal(masks_of(session)[0], other)
    session.undo()
    session.objects.subtract(line((30, 40), (12, 25)), keep=True)
    assert len(session.proposal.objects) == 3
    assert outer.any()


def test_subtracting_what_does_not_overlap_says_so(two):
    before = two.proposal
    two.objects.subtract(LINE)
    assert two.proposal is before, "the line ends outside"
    two.objects.subtract(line((15, 20), (55, 20)))
    assert two.proposal is before
    assert "do not overlap" in two.status.text


def test_an_accepted_object_can_be_taken_away_from_a_proposed_one(session):
    session.prompting.add_box((20, 10), (50, 40))
    session.editing.accept()
    accepted = session.labels > 0
    session.prompting.add_box((5, 5), (45, 45))
    session.objects.subtract(line((47, 25), (10, 25)))
    (mask,) = masks_of(session)
    assert mask.any()
    assert not (mask & accepted).any()
    assert (session.labels[accepted] == 1).all()


def test_a_line_across_a_proposed_object_splits_it_and_loses_no_pixel(two):
    first, second = masks_of(two)
    two.objects.split(line((15, 2), (15, 38)))
    assert len(two.proposal.objects) == 3
    parts = masks_of(two)[1:]
    assert np.array_equal(parts[0] | parts[1], first)
    assert not (parts[0] & parts[1]).any()
    assert np.array_equal(masks_of(two)[0], second)
    two.undo()
    two.objects.split(line((15, 20), (17, 22)))
    assert len(two.proposal.objects) == 2
    assert "right across" in two.status.text


def test_a_point_takes_the_pieces_of_a_proposed_object_apart(two):
    two.objects.merge(LINE)
    two.objects.split(line((15, 20)))
    assert len(two.proposal.objects) == 2
    two.objects.split(line((15, 20)))
    assert "in one piece" in two.status.text
    two.objects.split(line((2, 55)))
    assert "no object here" in two.status.text


def test_nothing_is_merged_or_split_while_an_answer_is_awaited(bench, two):
    bench.hold = True
    two.prompting.add_point(68, 20)
    before = two.proposal
    two.objects.merge(LINE)
    two.objects.split(line((15, 2), (15, 38)))
    two.objects.subtract(LINE)
    two.objects.lift(15, 20)
    assert two.proposal is before


# -- accepted labels, one for each class -----------------------------------------------------------


def test_accepted_pieces_of_two_classes_become_one_class(two, on_disk):
    two.editing.add_class("cyst")  # the second object, which is active, takes it
    two.editing.accept()
    assert set(np.unique(two.labels)) == {0, 1}
    after = two.labels.copy()
    after[:, 40:][after[:, 40:] > 0] = 2
    two.editing.painted(after)
    two.objects.merge(LINE, accepted=True)
    assert set(np.unique(on_disk("a"))) == {0, 1}
    two.objects.merge(LINE, accepted=True)
    assert "one label already" in two.status.text
    two.undo()
    assert np.array_equal(on_disk("a"), after)


def test_one_accepted_component_is_deleted_and_comes_back_with_undo(two, on_disk):
    two.editing.accept()
    before = two.labels
    two.objects.delete(15, 20)
    assert not on_disk("a")[:, :40].any()
    assert on_disk("a")[:, 40:].any()
    two.undo()
    assert np.array_equal(on_disk("a"), before)
    two.objects.delete(2, 2)
    assert "no object here" in two.status.text


def test_splitting_an_accepted_component_leaves_a_gap_of_one_pixel(two):
    two.editing.accept()
    before = two.labels
    two.objects.split(line((15, 2), (15, 38)), accepted=True)
    assert len(regions.pieces(two.labels > 0)) == 3
    lost = np.count_nonzero(before) - np.count_nonzero(two.labels)
    assert 0 < lost <= 25
    two.objects.split(line((40, 2), (40, 38)), accepted=True)
    assert "no object here" in two.status.text


def test_a_proposed_object_is_cut_out_of_the_accepted_labels(session, on_disk):
    session.prompting.add_box((5, 5), (60, 50))
    session.editing.accept()
    before = session.labels
    session.prompting.add_box((25, 15), (40, 35))
    hole = masks_of(session)[0]
    session.objects.subtract(line((30, 25), (10, 27)), accepted=True)
    assert not session.proposal.objects
    assert np.array_equal(on_disk("a") > 0, (before > 0) & ~hole)
    session.undo()
    assert len(session.proposal.objects) == 1, "one step takes back labels and proposal"
    assert np.array_equal(on_disk("a"), before)


def test_an_accepted_object_is_taken_up_again_corrected_and_accepted(session, on_disk):
    session.prompting.add_box((5, 5), (40, 45))
    session.editing.accept()
    before = session.labels
    session.objects.lift(20, 20)
    assert not session.labels.any()
    assert np.array_equal(masks_of(session)[0], before > 0)
    session.prompting.add_point(20, 20, positive=False)
    assert session.proposal.objects[0].prompts.mask_input is not None
    session.editing.accept()
    assert 0 < np.count_nonzero(on_disk("a")) < np.count_nonzero(before)
    for _ in range(3):
        session.undo()
    assert np.array_equal(session.labels, before)


# -- accepted labels, one for each object ----------------------------------------------------------


def test_each_accepted_object_gets_a_code_of_its_own(told_apart, on_disk):
    session = told_apart
    session.prompting.find("cyst. nodule")
    session.prompting.add_box((5, 40), (20, 55))
    session.editing.accept()
    assert set(np.unique(on_disk("a"))) == {0, 1001, 1002, 2001}
    assert [item.class_id for item in session.table.classes] == [1, 2]
    session.prompting.add_box((30, 45), (45, 58))
    session.editing.accept()
    assert 1003 in session.labels
    session.undo()
    assert 1003 not in on_disk("a")


def test_merging_and_splitting_accepted_objects_numbers_them_anew(told_apart, two):
    session = told_apart
    session.editing.accept()
    before = session.labels
    assert set(np.unique(before)) == {0, 1001, 1002}
    session.objects.merge(LINE, accepted=True)
    assert len(np.unique(session.labels)) == 2
    one = int(session.labels.max())
    session.objects.split(line((15, 20)), accepted=True)
    assert set(np.unique(session.labels)) == {0, one, one + 1}
    session.objects.split(line((15, 2), (15, 38)), accepted=True)
    assert len(np.unique(session.labels)) == 4
    assert np.array_equal(session.labels > 0, before > 0), "no pixel is lost"
    for _ in range(3):
        session.undo()
    assert np.array_equal(session.labels, before)


def test_an_object_that_is_taken_up_again_keeps_its_number(told_apart, two):
    session = told_apart
    session.editing.accept()
    value = int(session.labels[20, 15])
    other = session.labels[20, 55]
    session.objects.lift(15, 20)
    assert value not in session.labels
    session.editing.accept()
    assert session.labels[20, 15] == value
    assert session.labels[20, 55] == other


def test_an_object_does_not_overwrite_its_neighbour_of_the_same_class(told_apart):
    session = told_apart
    session.prompting.add_box((5, 10), (35, 40))
    session.editing.accept()
    first = session.labels == 1001
    session.prompting.add_box((25, 10), (60, 40))
    session.editing.accept()
    assert (session.labels[first] == 1001).all()
    assert "left as they are" in session.status.text


def test_the_labelling_cannot_be_changed_once_there_are_labels(bench):
    session = bench.session
    session.prompting.add_point(20, 20)
    assert session.editing.set_labelling("instance"), "a proposal is no label"
    session.editing.accept()
    assert not session.editing.set_labelling("semantic")
    assert session.settings.labelling == "instance"
    assert "one label for each object already" in session.status.text
    session.navigation.step(1)
    assert not session.editing.set_labelling("semantic")


def test_undone_labels_of_the_other_kind_cannot_come_back(session):
    session.painting.box((10, 10), (30, 30))
    session.undo()
    assert not session.editing.set_labelling("instance")
    assert "Undone steps" in session.status.text
    session.prompting.add_point(40, 40)
    assert session.editing.set_labelling("instance")


def test_the_labelling_is_remembered_with_the_folder(bench, folder):
    bench.session.editing.set_labelling("instance")
    bench.session.prompting.add_point(20, 20)
    bench.session.editing.accept()
    again = type(bench)(folder)
    again.session.navigation.open_folder(folder)
    assert again.session.settings.labelling == "instance"
    assert [item.class_id for item in again.session.table.classes] == [1]


# -- regions ---------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-5, 44), st.integers(-5, 34)), min_size=2, max_size=5),
    st.integers(0, 9999),
)
def test_a_cut_parts_a_mask_without_loss_or_overlap(points, seed):
    rng = np.random.default_rng(seed)
    mask = np.zeros((30, 40), bool)
    for _ in range(3):
        r, c = rng.integers(0, 20, 2)
        mask[r : r + 10, c : c + 12] = True
    parts = regions.cut(mask, np.array(points, np.float32))
    assert np.array_equal(np.sum(parts, axis=0), mask.astype(int))
    sizes = [part.sum() for part in parts]
    assert sizes == sorted(sizes, reverse=True)
    gap = regions.with_gap(parts)
    assert not (gap & ~mask).any()
    if len(parts) > 1:
        assert len(regions.pieces(gap)) >= len(parts)


@settings(max_examples=40, deadline=None)
@given(st.floats(3, 30), st.floats(3, 20), st.floats(2, 9))
def test_a_lasso_along_a_circle_is_the_disc(x, y, radius):
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    circle = np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], 1)
    row, column = np.mgrid[:24, :36]
    distance = np.hypot(column - x, row - y)
    mask = regions.lasso_mask(circle.astype(np.float32), (24, 36))
    assert mask[distance < radius - 1].all()
    assert not mask[distance > radius + 1.5].any()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-9, 45), st.floats(-9, 33)), min_size=1, max_size=4),
    st.floats(1, 9),
)
def test_a_stroke_is_what_lies_within_half_its_width_of_the_line(points, width):
    line_xy = np.array(points, np.float32)
    mask = stroke_mask(line_xy, width, (24, 36))
    row, column = np.mgrid[:24, :36]
    ends = line_xy if len(line_xy) > 1 else np.repeat(line_xy, 2, 0)
    nearest = np.full((24, 36), np.inf)
    for a, b in pairwise(ends):
        d = (b - a).astype(float)
        t = ((column - a[0]) * d[0] + (row - a[1]) * d[1]) / max(d @ d, 1e-9)
        t = np.clip(t, 0, 1)
        nearest = np.minimum(nearest, np.hypot(column - a[0] - t * d[0], row - a[1] - t * d[1]))
    assert mask[nearest < width / 2 - 1.2].all()
    assert not mask[nearest > max(width / 2, 0.5) + 1.2].any()


def test_a_mask_as_logits_comes_back_as_the_mask(nano_segmenter):
    from napari_usgseg.core.metrics import dice
    from napari_usgseg.core.types import Prompts
    from napari_usgseg.segmentation.propose import as_logits

    y, x = np.mgrid[:300, :400]
    mask = (x - 200) ** 2 / 90**2 + (y - 150) ** 2 / 60**2 < 1
    image = np.where(mask[..., None], 40, 150).astype(np.uint8).repeat(3, 2)
    prompts = Prompts(box=regions.box_of(mask), mask_input=as_logits(mask))
    embedding = nano_segmenter.embed(image)
    assert dice(mask, nano_segmenter.predict(embedding, prompts).masks[0]) > 0.9


DOORS = {
    "merge": lambda session: session.objects.merge(LINE, accepted=True),
    "subtract": lambda session: session.objects.subtract(LINE, accepted=True),
    "split": lambda session: session.objects.split(LINE, accepted=True),
    "accept": lambda session: session.editing.accept(),
    "labelling": lambda session: session.editing.set_labelling("instance"),
    "delete class": lambda session: session.editing.delete_class(1),
    "find": lambda session: session.prompting.find("cyst"),
    "copy prompts": lambda session: session.copying.prompts(),
    "copy masks": lambda session: session.copying.masks(),
    "find alike": lambda session: session.copying.alike(),
    "next": lambda session: session.navigation.step(1),
    "undo": lambda session: session.undo(),
    "export": lambda session: session.export("nowhere", "wrist", "cyst"),
}


class Brush:
    """A window in which a stroke was painted and not handed in yet."""

    def __init__(self, session) -> None:
        self.session, self.left = session, True
        session.flushing.connect(self.hand_in)

    def hand_in(self) -> None:
        if self.left:
            self.left = False
            painted = self.session.labels.copy()
            painted[5:9, 5:9] = 1
            self.session.editing.painted(painted)


@pytest.mark.parametrize("door", DOORS)
def test_a_stroke_that_is_not_handed_in_yet_comes_first(bench, door) -> None:
    session, heard = bench.session, []
    session.editing.add_class("cyst")
    brush = Brush(session)
    session.requested.connect(lambda job: heard.append((job.function.__name__, brush.left)))
    DOORS[door](session)
    assert not brush.left
    assert session.undo_stack.steps[1].name == "paint"
    assert all(not left for _, left in heard), "no job was sent before"


def test_labels_that_are_painted_while_it_is_asked_leave_the_labelling_alone(session) -> None:
    brush = Brush(session)
    assert not session.editing.set_labelling("instance")
    assert not brush.left
    assert session.settings.labelling == "semantic"


@pytest.mark.parametrize("ask", ["find", "alike"])
def test_an_answer_comes_upon_what_was_painted_meanwhile(bench, ask) -> None:
    session = bench.session
    session.editing.rename_class(1, "cyst")
    bench.hold = True
    session.prompting.find("cyst") if ask == "find" else session.copying.alike()
    brush = Brush(session)
    bench.release()
    assert not brush.left
    assert [step.name for step in session.undo_stack.steps][1] == "paint"
    assert session.proposal.has_masks


def test_an_object_of_a_class_above_999_is_taken_up_as_a_class_where_objects_are_none(
    session,
) -> None:
    labels = np.zeros(session.labels.shape, np.uint16)
    labels[5:9, 5:9] = 2005
    session.editing.painted(labels)
    session.objects.lift(6, 6)
    (item,) = session.proposal.objects
    assert (item.class_id, item.number) == (2005, 0)
