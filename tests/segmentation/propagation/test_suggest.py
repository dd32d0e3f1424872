from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_usgseg.core.types import FrameObjects
from napari_usgseg.phantoms.loop import make_phantom_loop
from napari_usgseg.segmentation.propagation.suggest import APART, Appearance, need, suggested


@pytest.fixture(scope="module")
def loop():
    """Frames (T, H, W, 3) of one beat, and an object's masks on every frame."""
    made = make_phantom_loop(1, 13, (96, 128), "breast", "beat", period=12.0)
    sizes = np.bincount(made.instances[0][made.labels[0] == 1].ravel())
    return np.repeat(made.frames[..., None], 3, axis=3), made.instances == sizes.argmax()


def change(loop, frame, *keys):
    frames, masks = loop
    appearance = Appearance(frames, {key: {1: masks[key]} for key in keys})
    return appearance.change(FrameObjects(frame, {1: masks[frame]}, {1: 1.0}))


def test_a_frame_in_another_phase_of_the_beat_looks_less_like_the_keyframe(loop):
    assert change(loop, 6, 0) > 2 * change(loop, 1, 0)
    assert change(loop, 12, 0) < change(loop, 6, 0)


def test_the_keyframe_that_is_most_like_the_frame_counts(loop):
    assert change(loop, 6, 0, 12) == pytest.approx(min(change(loop, 6, 0), change(loop, 6, 12)))
    assert change(loop, 5, 0, 6) < change(loop, 5, 0)


def test_a_frame_on_which_nothing_was_found_has_an_appearance_too(loop):
    frames, masks = loop
    for mask in (masks[0], np.zeros_like(masks[0])):
        appearance = Appearance(frames, {0: {1: mask}})
        assert appearance.change(FrameObjects(6, {}, {})) > 0


def test_doubt_and_change_make_the_need_of_a_label():
    assert need(0.5, 0.2) > need(0.8, 0.2) > need(1.0, 0.2) == 0
    assert need(0.5, 0.2) > need(0.5, 0.1)


@given(st.dictionaries(st.integers(0, 49), st.floats(0, 1)), st.integers(1, 4))
def test_the_most_needed_come_first_and_none_beside_another(needs, most):
    found = suggested(needs, 50, most)
    assert len(found) <= most
    assert [needs[n] for n in found] == sorted((needs[n] for n in found), reverse=True)
    if needs:
        assert needs[found[0]] == max(needs.values())
    pairs = [(a, b) for a in found for b in found if a < b]
    assert all(b - a >= APART * 50 for a, b in pairs)
