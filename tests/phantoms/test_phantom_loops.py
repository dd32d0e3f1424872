"""Loops of phantoms: their truth moves with the picture."""

from __future__ import annotations

import numpy as np
import pytest

from napari_usgseg.phantoms.loop import MOTIONS, make_phantom_loop


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_seed_gives_one_loop_whose_objects_move(motion):
    loop = make_phantom_loop(4, 8, (96, 128), "cysts-and-vessels", motion, period=16.0)
    again = make_phantom_loop(4, 8, (96, 128), "cysts-and-vessels", motion, period=16.0)
    assert np.array_equal(loop.frames, again.frames)
    assert loop.frames.shape == loop.labels.shape == loop.instances.shape == (8, 96, 128)
    assert np.array_equal(loop.labels > 0, loop.instances > 0)
    assert not np.array_equal(loop.labels[0], loop.labels[-1])
    assert set(np.unique(loop.labels)) <= {0, *loop.names}


def test_a_cyst_is_dark_on_every_frame_where_the_truth_says_so():
    loop = make_phantom_loop(3, 12, (128, 160), "cysts-and-vessels", "beat", period=12.0)
    for frame, labels in zip(loop.frames, loop.labels, strict=True):
        assert frame[labels == 1].mean() < 0.6 * frame[(labels == 0) & (frame > 0)].mean()


def test_speckle_moves_with_the_tissue_and_is_not_drawn_anew():
    loop = make_phantom_loop(3, 3, (128, 160), "breast", "breathe", period=200.0)
    first, second = (loop.frames[index].astype(float) for index in (0, 1))
    tissue = (loop.labels[0] == 0) & (loop.frames[0] > 0)
    other = make_phantom_loop(5, 1, (128, 160), "breast").frames[0].astype(float)
    alike = np.corrcoef(first[tissue], second[tissue])[0, 1]
    assert alike > 0.7 > np.corrcoef(first[tissue], other[tissue])[0, 1]


def test_an_unknown_kind_or_motion_is_named():
    with pytest.raises(ValueError, match="no phantom of kind 'liver'"):
        make_phantom_loop(1, kind="liver")
    with pytest.raises(ValueError, match="no motion 'jump'"):
        make_phantom_loop(1, motion="jump")
