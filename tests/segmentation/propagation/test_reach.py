from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from napari_usgseg.segmentation.propagation.reach import Direction, Reach


@given(
    st.sets(st.integers(0, 29)),
    st.integers(30, 40),
    st.none() | st.integers(1, 50),
    st.sampled_from(Direction),
)
def test_a_frame_is_within_reach_where_a_keyframe_is_near_enough_on_the_side_it_is_left_by(
    keys, count, most, direction
):
    ways = {Direction.BOTH: (1, -1), Direction.FORWARD: (1,), Direction.BACKWARD: (-1,)}[direction]
    expected = {
        frame
        for frame in range(count)
        for way in ways
        if any(0 <= way * (frame - key) <= (most or count) for key in keys)
    }
    assert Reach(most, direction).frames(keys, count) == expected
