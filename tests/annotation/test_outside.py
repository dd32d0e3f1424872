"""What is drawn beside the image, or has no area, makes nothing, and a word is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_usgseg.annotation.commands.prompts import add_box
from napari_usgseg.annotation.state import AnnotationState, Refused
from napari_usgseg.core.geometry import box_within, clip_box
from napari_usgseg.core.types import ImageRecord
from tests.support.bench import SIZE_HW

HEIGHT, WIDTH = SIZE_HW
BESIDE = {
    "left": (-40, 20),
    "right": (WIDTH + 15, 20),
    "above": (30, -25),
    "below": (30, HEIGHT + 8),
    "corner": (-60, -60),
}
FIGURE = np.array([[0, 0], [10, 0], [10, 10], [0, 10]], np.float32)
ACTS = {
    "point": lambda session, line: session.prompting.add_point(*map(float, line[0])),
    "box": lambda session, line: session.prompting.add_box(tuple(line[0]), tuple(line[2])),
    "scribble": lambda session, line: session.prompting.add_scribble(line),
    "lasso": lambda session, line: session.prompting.add_lasso(line),
    "box on labels": lambda session, line: session.painting.box(tuple(line[0]), tuple(line[2])),
    "stroke on labels": lambda session, line: session.painting.stroke(line, 3),
    "lasso on labels": lambda session, line: session.painting.lasso(line),
}


@pytest.mark.parametrize("place", BESIDE)
@pytest.mark.parametrize("act", ACTS)
def test_beside_the_image_nothing_is_made_and_it_is_said(session, act, place) -> None:
    ACTS[act](session, FIGURE * 0.5 + np.array(BESIDE[place], np.float32))
    assert not session.proposal.objects
    assert not session.labels.any()
    assert session.undo_stack.count == 0
    assert "inside the image" in session.status.text


@pytest.mark.parametrize(
    ("draw", "word"),
    [
        (lambda p: p.prompting.add_box((20, 20), (20, 20)), "width and height"),
        (lambda p: p.prompting.add_box((20, 20), (60, 20)), "width and height"),
        (lambda p: p.painting.box((20, 20), (20, 50)), "width and height"),
        (lambda p: p.painting.box((20, 20), (20, 20)), "width and height"),
        (lambda p: p.prompting.add_box((-50, 10), (0, 40)), "inside the image"),
        (lambda p: p.prompting.add_lasso(FIGURE[:1]), "round the object"),
        (lambda p: p.prompting.add_lasso(FIGURE[[0, 1, 0]]), "round the object"),
        (lambda p: p.painting.lasso(FIGURE[[0, 1, 0]]), "round the object"),
        (lambda p: p.prompting.add_scribble(FIGURE[:1]), "Draw a line"),
    ],
)
def test_a_figure_without_area_makes_nothing_and_it_is_said(session, draw, word) -> None:
    draw(session)
    assert not session.proposal.objects
    assert not session.labels.any()
    assert word in session.status.text


def test_of_what_is_partly_inside_that_part_counts(session) -> None:
    session.prompting.add_box((-30, -30), (20, 25))
    assert session.proposal.objects[0].prompts.box.tolist() == [0, 0, 20, 25]
    session.prompting.clear_prompts()
    session.prompting.add_scribble(np.array([[-20, 30], [40, 30]], np.float32))
    (line, sign) = session.proposal.objects[0].prompts.scribbles[0]
    assert sign == 1
    assert line[:, 1].tolist() == [30] * len(line)
    assert (line[0, 0], line[-1, 0]) == (pytest.approx(0, abs=1), 40)
    session.prompting.clear_prompts()
    session.painting.box((-30, 50), (5, 200))
    assert np.argwhere(session.labels).min(0).tolist() == [50, 0]
    assert np.argwhere(session.labels).max(0).tolist() == [HEIGHT - 1, 5]


def test_a_fast_scribble_across_the_image_is_a_scribble_in_it(session) -> None:
    session.prompting.add_scribble(np.array([[-30, 20], [WIDTH + 30, 20]], np.float32))
    line, _ = session.proposal.objects[0].prompts.scribbles[0]
    assert line[:, 0].min() >= 0
    assert line[:, 0].max() <= WIDTH - 1
    assert np.ptp(line[:, 0]) > WIDTH - 3


RECORD = ImageRecord("a", Path("a.png"), None, SIZE_HW)
corner = st.floats(-200, 200, width=32)


@given(corner, corner, st.floats(0, 200, width=32), st.floats(0, 200, width=32))
def test_a_box_is_made_where_it_covers_some_of_the_image_and_nowhere_else(x, y, width, height):
    box = np.array([x, y, x + width, y + height], np.float32)
    grid = np.mgrid[0:HEIGHT, 0:WIDTH]
    pixels = (
        (grid[1] + 0.5 >= box[0])
        & (grid[1] - 0.5 <= box[2])
        & (grid[0] + 0.5 >= box[1])
        & (grid[0] - 0.5 <= box[3])
    )
    part = box_within(box, SIZE_HW)
    assert (part is not None) == pixels.any()
    if part is not None:
        assert part.tolist() == clip_box(box, SIZE_HW).tolist()
    state = AnnotationState(record=RECORD, labels=np.zeros(SIZE_HW, np.uint8))
    try:
        change = add_box(state, (x, y), (x + width, y + height))
    except Refused:
        return
    assert pixels.any()
    (item,) = change.edit.proposal[1].objects
    assert item.prompts.box.tolist() == part.tolist()
