"""Which object a prompt means, as the table of docs/objects.md says; no prompt changes another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_usgseg.annotation.class_table import with_class
from napari_usgseg.annotation.commands import classes, objects, prompts
from napari_usgseg.annotation.commands.search import Search, propose_found
from napari_usgseg.annotation.state import AnnotationState, Refused
from napari_usgseg.core.types import ImageRecord, Prompts
from napari_usgseg.jobs.inference import Found
from napari_usgseg.project.records import ProposedObject
from napari_usgseg.segmentation.propose import Proposal, within_lasso

SIZE_HW = (120, 200)
ROWS, COLUMNS = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]]
HEAD, ILIUM = 1, 2


def disc(x: float, y: float, radius: float) -> np.ndarray:
    return (COLUMNS - x) ** 2 + (ROWS - y) ** 2 <= radius**2


def ring(x: float, y: float, radius: float) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], 1).astype(np.float32)


def line(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points, np.float32)


def item(mask: np.ndarray, class_id: int = HEAD) -> ProposedObject:
    return objects.by_hand(ProposedObject(class_id, Prompts()), mask)


@pytest.fixture
def state(tmp_path) -> AnnotationState:
    """A head (under work) on the left, an ilium beside it, and a second head on the right."""
    table = with_class(AnnotationState().table, "ilium")
    three = (item(disc(50, 60, 20)), item(disc(85, 60, 10), ILIUM), item(disc(160, 60, 12)))
    return AnnotationState(
        table=table.picking(HEAD),
        record=ImageRecord("a", tmp_path / "a.png", None, SIZE_HW),
        labels=np.zeros(SIZE_HW, np.uint8),
        proposal=replace(AnnotationState().proposal, objects=three, active=0),
    )


def after(state: AnnotationState, change) -> AnnotationState:
    state = change.state or state
    return state if change.edit is None else state.after(change.edit)


def picking(state: AnnotationState, class_id: int) -> AnnotationState:
    return after(state, classes.pick_class(state, class_id))


def asked_for(state: AnnotationState, index: int) -> AnnotationState:
    """The state while an answer about an object is awaited."""
    item = state.proposal.objects[index]
    proposal = state.proposal.putting(item, replace(item, is_asked=True))
    return replace(state, proposal=proposal)


NEW = 3
MEANT = {
    "a click into the head under work": (HEAD, "click", (50, 60), 0),
    "a click into another head": (HEAD, "click", (160, 60), 2),
    "a click near the head under work": (HEAD, "click", (50, 85), 0),
    "a click near another head": (HEAD, "click", (160, 76), 2),
    "a click far from all": (HEAD, "click", (110, 15), NEW),
    "a click 40 pixels beside the head under work": (HEAD, "click", (50, 115), NEW),
    "a click into the ilium with the head picked": (HEAD, "click", (88, 60), NEW),
    "a click near the head with the ilium picked": (ILIUM, "click", (50, 85), NEW),
    "a click into the head with the ilium picked": (ILIUM, "click", (50, 60), NEW),
    "a click near the ilium with the ilium picked": (ILIUM, "click", (85, 72), 1),
    "a negative click into the ilium with the head picked": (HEAD, "negative", (85, 60), 1),
    "a negative click into the head with the ilium picked": (ILIUM, "negative", (50, 60), 0),
    "a box over the head under work": (HEAD, "box", (50, 60), NEW),
    "a box beside it": (HEAD, "box", (130, 100), NEW),
    "a box with Shift": (HEAD, "box anew", (130, 100), 0),
    "a box with Shift and the ilium picked": (ILIUM, "box anew", (50, 60), 0),
    "a scribble on the head": (HEAD, "scribble", (50, 60), 0),
    "a scribble on the head with the ilium picked": (ILIUM, "scribble", (50, 60), NEW),
    "a lasso over the head's rim": (HEAD, "lasso", (50, 80), 0),
    "a lasso over the head's rim with the ilium picked": (ILIUM, "lasso", (50, 80), NEW),
    "a lasso as drawn over the head's rim": (HEAD, "drawn", (50, 80), 0),
    "a lasso as drawn with the ilium picked": (ILIUM, "drawn", (50, 80), NEW),
    "a negative lasso over the ilium's rim": (HEAD, "negative lasso", (95, 60), 1),
    "a stroke as drawn on another head": (HEAD, "stroke", (172, 60), 2),
}
"""What a person does -> the picked class, the prompt, where, and which object it changes."""


def do(state: AnnotationState, prompt: str, x: float, y: float):
    match prompt:
        case "click" | "negative":
            return prompts.add_point(state, x, y, prompt == "click")
        case "box" | "box anew":
            return prompts.add_box(state, (x - 15, y - 10), (x + 15, y + 10), prompt != "box")
        case "scribble":
            return prompts.add_scribble(state, line((x - 8, y), (x + 8, y)))
        case "stroke":
            return prompts.draw_stroke(state, line((x - 3, y), (x + 3, y)), 4)
        case "drawn":
            return prompts.draw_lasso(state, ring(x, y, 8))
        case _:
            return prompts.add_lasso(state, ring(x, y, 8), prompt == "lasso")


@pytest.mark.parametrize("name", MEANT)
def test_a_prompt_means_one_object_and_changes_no_other(state, name) -> None:
    picked, prompt, (x, y), index = MEANT[name]
    before = picking(state, picked)
    then = after(before, do(before, prompt, x, y)).proposal
    assert then.active == index
    assert len(then.objects) == max(index + 1, 3)
    for other, old in enumerate(before.proposal.objects):
        assert other == index or then.objects[other] is old
    wanted = picked if index == NEW else before.proposal.objects[index].class_id
    assert then.objects[index].class_id == wanted


def test_a_negative_prompt_beside_all_objects_takes_nothing_and_says_so(state) -> None:
    for prompt in ("negative", "negative lasso"):
        with pytest.raises(Refused, match="nothing proposed here"):
            do(state, prompt, 110, 15)
    with pytest.raises(Refused, match="nothing proposed here"):
        prompts.add_scribble(state, line((110, 15), (120, 15)), positive=False)


def test_after_new_object_the_next_prompt_begins_one_whatever_is_near(state) -> None:
    for prompt in ("click", "scribble", "lasso", "drawn", "stroke"):
        new = after(state, prompts.new_object(state))
        assert new.proposal.active is None
        then = after(new, do(new, prompt, 50, 60))
        assert len(then.proposal.objects) == 4
        assert not then.begins_new
    again = after(new, prompts.pick_object(new, 0))
    assert len(after(again, do(again, "scribble", 50, 60)).proposal.objects) == 3


def test_new_object_waits_for_a_positive_prompt(state) -> None:
    for prompt in ("negative", "negative lasso"):
        new = after(state, prompts.new_object(state))
        less = after(new, do(new, prompt, 50, 60))
        assert less.begins_new
        assert len(after(less, do(less, "click", 50, 60)).proposal.objects) == 1 + len(
            less.proposal.objects
        )


def test_of_a_scribble_stays_what_was_not_overruled(state) -> None:
    drawn = line((35, 60), (65, 60))
    cut_in_two = item(disc(50, 60, 20) & ~disc(50, 60, 5))
    head = replace(cut_in_two, prompts=Prompts(scribbles=((drawn, 1), (line((2, 2), (9, 2)), 0))))
    scribbled = replace(state, proposal=state.proposal.with_object(0, head))
    asked = after(scribbled, do(scribbled, "click", 50, 85)).proposal.current
    (left, _), (right, _), (nothing, sign) = asked.prompts.scribbles
    assert (left[0].tolist(), left[-1].tolist()) == ([35, 60], [44, 60])
    assert (right[0].tolist(), right[-1].tolist()) == ([56, 60], [65, 60])
    assert (nothing.tolist(), sign) == ([[2, 2], [9, 2]], 0)


def test_a_box_or_a_click_after_a_lasso_is_not_bound_to_what_was_drawn(state) -> None:
    waiting = after(state, do(state, "lasso", 120, 100))
    assert waiting.proposal.current.drawn is not None
    for prompt in ("box anew", "click", "scribble"):
        asked = after(waiting, do(waiting, prompt, 120, 100)).proposal
        assert asked.active == NEW
        assert asked.current.drawn is None


def test_an_object_that_was_not_found_is_meant_where_it_was_pointed_at(state) -> None:
    asked = after(state, prompts.add_point(state, 110, 15)).proposal
    empty = Proposal(np.zeros(SIZE_HW, bool), np.zeros(4, np.float32), 0.1, "", 0.1)
    answer = replace(asked.current, proposal=empty, is_asked=False)
    answered = replace(state, proposal=asked.putting(asked.current, answer))
    assert after(answered, do(answered, "click", 118, 22)).proposal.active == NEW
    assert len(after(answered, do(answered, "click", 2, 2)).proposal.objects) == 5


def test_an_object_is_taken_to_work_on_with_its_class_and_dropped(state) -> None:
    assert after(state, prompts.pick_object_at(state, 85, 60)).proposal.active == 1
    taken = after(state, prompts.next_object(state))
    assert (taken.proposal.active, taken.table.active) == (1, ILIUM)
    taken = after(taken, prompts.next_object(taken))
    assert (taken.proposal.active, taken.table.active) == (2, HEAD)
    assert after(taken, prompts.next_object(taken)).proposal.active == 0
    dropped = after(taken, prompts.drop(taken, 1)).proposal
    assert [each.class_id for each in dropped.objects] == [HEAD, HEAD]
    assert dropped.objects[dropped.active] is taken.proposal.current, "the others stay as they are"
    assert after(taken, prompts.drop(taken)).proposal.active is None
    waits = asked_for(taken, 2)
    with pytest.raises(Refused, match="Wait"):
        prompts.drop(waits)
    assert len(after(waits, prompts.drop(waits, 0)).proposal.objects) == 2
    assert after(waits, prompts.next_object(waits)).proposal.active == 0
    inner = item(disc(50, 60, 8), ILIUM)
    nested = replace(state.proposal, objects=(*state.proposal.objects, inner))
    first = after(state, prompts.pick_object_at(replace(state, proposal=nested), 50, 60))
    assert first.proposal.active == 3
    assert after(first, prompts.pick_object_at(first, 50, 60)).proposal.active == 0
    with pytest.raises(Refused, match="no proposed object"):
        prompts.pick_object_at(state, 5, 5)


def test_who_is_quicker_than_the_model_corrects_what_was_clicked_a_moment_ago(state) -> None:
    quick = after(state, prompts.add_point(state, 110, 15))
    assert quick.proposal.current.proposal is None
    more = after(quick, prompts.add_point(quick, 118, 22))
    assert more.proposal.active == NEW
    less = after(more, prompts.add_point(more, 104, 8, positive=False))
    assert less.proposal.current.prompts.point_labels.tolist() == [1, 1, 0]
    other = after(less, prompts.add_point(less, 10, 110))
    assert len(other.proposal.objects) == 5


def test_what_is_drawn_is_taken_as_it_is(state) -> None:
    inside = prompts.lasso_mask(ring(120, 100, 9), SIZE_HW)
    new = after(state, prompts.draw_lasso(state, ring(120, 100, 9))).proposal
    assert np.array_equal(new.current.proposal.mask, inside)
    assert (new.pending, new.current.by_hand) == (False, True)

    head = state.proposal.objects[0].proposal.mask
    part = prompts.lasso_mask(ring(50, 80, 8), SIZE_HW)
    more = after(state, prompts.draw_lasso(state, ring(50, 80, 8))).proposal.current
    assert np.array_equal(more.proposal.mask, head | part)
    less = after(state, prompts.draw_lasso(state, ring(50, 80, 8), positive=False)).proposal.current
    assert np.array_equal(less.proposal.mask, head & ~part)
    around = prompts.lasso_mask(ring(52, 61, 23), SIZE_HW)
    anew = after(state, prompts.draw_lasso(state, ring(52, 61, 23))).proposal.current
    assert np.array_equal(anew.proposal.mask, around)
    gone = after(state, prompts.draw_lasso(state, ring(50, 60, 30), positive=False)).proposal
    assert [each.class_id for each in gone.objects] == [ILIUM, HEAD]

    stroke = prompts.stroke_mask(line((45, 20), (55, 20)), 6, SIZE_HW)
    wide = after(state, prompts.draw_stroke(state, line((45, 20), (55, 20)), 6))
    assert np.array_equal(wide.proposal.objects[-1].proposal.mask, stroke), "it touches nothing"
    rubbed = prompts.draw_stroke(state, line((30, 60), (70, 60)), 6, positive=False)
    assert not after(state, rubbed).proposal.objects[0].mask_at(50, 60)
    waits = asked_for(state, 0)
    with pytest.raises(Refused, match="Wait"):
        prompts.draw_lasso(waits, ring(120, 100, 9))


def test_a_box_of_the_object_under_work_forgets_what_lies_outside_of_it(state) -> None:
    clicked = after(state, prompts.add_point(state, 50, 85))
    clicked = after(clicked, prompts.add_point(clicked, 50, 45, positive=False))
    boxed = after(clicked, prompts.add_box(clicked, (30, 40), (70, 70), anew=True)).proposal
    assert boxed.current.prompts.point_coords.tolist() == [[50, 45]]
    assert boxed.current.corrected is None


masks = st.builds(disc, st.integers(40, 160), st.integers(30, 90), st.integers(5, 30))


@settings(deadline=None, max_examples=60)
@given(masks, masks, masks)
def test_a_model_changes_nothing_outside_of_a_lasso_round_a_part(drawn, answer, previous):
    merged = within_lasso(drawn, answer, previous)
    assert np.array_equal(merged[~drawn], previous[~drawn])
    assert not (previous & ~merged).any()


def test_an_answer_that_has_little_in_common_with_a_lasso_is_not_taken() -> None:
    bone, blob = (abs(ROWS - 60) < 4) & (COLUMNS > 40) & (COLUMNS < 140), disc(90, 60, 40)
    assert np.array_equal(within_lasso(bone, blob), bone)
    near = disc(90, 60, 38)
    assert np.array_equal(within_lasso(blob, near), near)
    old = disc(60, 60, 20)
    assert np.array_equal(within_lasso(disc(82, 60, 8), old, old), old | disc(82, 60, 8))


# -- what a search finds -----------------------------------------------------------------------


def found(*masks: np.ndarray) -> Found:
    items = tuple(Proposal(m, np.zeros(4, np.float32), 0.9, "ilium", 0.9) for m in masks)
    return Found(items, "it", 0.1, () if items else ("No 'ilium' found in this image.",))


SEARCH = Search("ilium", ("ilium",), True, HEAD)


def by_model(mask: np.ndarray, class_id: int) -> ProposedObject:
    return replace(item(mask, class_id), by_hand=False)


def test_a_search_that_finds_nothing_takes_nothing_away(state) -> None:
    change = propose_found(state, SEARCH, found(), False)
    assert change.edit is None
    assert after(state, change).proposal.objects == state.proposal.objects
    assert "No 'ilium' found" in change.said


def test_a_search_keeps_other_classes_and_replaces_what_a_model_found_of_its_own(state) -> None:
    old = (by_model(disc(50, 60, 20), HEAD), by_model(disc(85, 60, 10), ILIUM))
    state = replace(state, proposal=replace(state.proposal, objects=old, active=None))
    then = after(state, propose_found(state, SEARCH, found(disc(90, 30, 9)), False)).proposal
    assert then.objects[0] is old[0]
    assert [each.class_id for each in then.objects] == [HEAD, ILIUM]
    assert then.objects[1].mask_at(90, 30)


def test_a_search_finds_no_second_time_what_a_person_has_already(state) -> None:
    new = found(disc(85, 60, 10), disc(20, 20, 9))
    then = after(state, propose_found(state, SEARCH, new, False)).proposal
    assert then.objects[:3] == state.proposal.objects
    assert len(then.objects) == 4
    assert then.objects[3].mask_at(20, 20)
