from __future__ import annotations

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_usgseg.cli.common import parse_box, parse_point, progress
from napari_usgseg.core.errors import PromptError

PIXELS = st.floats(-1e4, 1e4, allow_nan=False)


@settings(deadline=None, max_examples=50)
@given(PIXELS, PIXELS, PIXELS, PIXELS)
def test_a_box_may_be_given_by_any_two_opposite_corners(x0, y0, x1, y1):
    box = parse_box(f"{x0!r},{y0!r},{x1!r},{y1!r}")
    assert box == parse_box(f"{x1!r}, {y0!r}, {x0!r}, {y1!r}")
    assert box == (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1;2;3;4", "nan,0,1,1"])
def test_what_is_no_box_is_refused_by_its_words(text):
    with pytest.raises(PromptError, match="x0,y0,x1,y1"):
        parse_box(text)


def test_a_point_is_positive_unless_marked():
    assert parse_point("3,4.5") == (3, 4.5, 1)
    assert parse_point("3,4.5,+") == (3, 4.5, 1)
    assert parse_point("3, 4.5, -") == (3, 4.5, 0)


@pytest.mark.parametrize("text", ["", "1", "1,2,3", "1,2,-,-", "x,y", "inf,0"])
def test_what_is_no_point_is_refused(text):
    with pytest.raises(PromptError, match="x,y in pixels"):
        parse_point(text)


def test_progress_is_plain_lines_where_there_is_no_terminal(capsys):
    with progress(2, "working") as step:
        step("first")
        step("")
    assert capsys.readouterr() == ("first\n", "")


def test_progress_is_a_bar_on_a_terminal_and_keeps_standard_output_clean(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress(2, "working") as step:
        step("[first] of two")
        step("")
    out, err = capsys.readouterr()
    assert out == ""
    assert "[first] of two" in err
