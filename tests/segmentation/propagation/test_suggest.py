from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_usgseg.phantoms.loop import make_phantom_loop
from napari_usgseg.segmentation.propagation import suggest
from napari_usgseg.segmentation.propagation.suggest import Looks, looks_of, suggested


@pytest.fixture(scope="module")
def frames():
    """Frames (T, H, W, 3) of a beat: frame 12 is in the phase of frame 0."""
    made = make_phantom_loop(1, 13, (96, 128), "breast", "beat", period=12.0)
    return np.repeat(made.frames[..., None], 3, axis=3)


def test_a_frame_in_another_phase_of_the_beat_looks_less_like_it(frames):
    looks = looks_of(frames)
    assert looks.frames == tuple(range(13))
    assert looks.differences[0, 6] > 1.4 * looks.differences[0, 12]
    np.testing.assert_allclose(looks.differences, looks.differences.T)


def test_the_first_suggestion_is_like_the_frames_that_are_unlike_the_keyframe(frames):
    first, *others = suggested(looks_of(frames), [0], range(13))
    assert 3 <= first <= 9, "another phase"
    assert len(others) == 2
    assert 0 not in others


def test_of_a_long_loop_not_every_frame_is_compared(frames, monkeypatch):
    monkeypatch.setattr(suggest, "MOST_LOOKS", 5)
    looks = looks_of(frames)
    assert looks.frames == (0, 3, 6, 9, 12)
    assert set(suggested(looks, [1], range(13))) <= set(looks.frames)


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 12), st.just(4))),
    st.sets(st.integers(0, 11)),
    st.sets(st.integers(0, 11)),
    st.integers(1, 4),
)
def test_only_candidates_are_suggested_each_once_and_the_first_helps_most(seen, keys, free, most):
    seen = seen.astype(np.float32)
    count = len(seen)
    differences = np.abs(seen[:, None] - seen[None]).mean(axis=-1)
    found = suggested(Looks(tuple(range(count)), differences), keys, free, most)
    may = {n for n in free - keys if n < count}
    assert set(found) <= may
    assert len(found) == len(set(found)) == min(most, len(may))
    known = [n for n in keys if n < count]
    if found and known:
        left = {n: differences[:, [*known, n]].min(axis=1).sum() for n in may}
        assert left[found[0]] == pytest.approx(min(left.values()), abs=1e-3)
