from __future__ import annotations

import numpy as np
import pytest

from napari_usgseg.core.geometry import mask_to_box
from napari_usgseg.core.metrics import dice
from napari_usgseg.phantoms.loop import make_phantom_loop
from napari_usgseg.segmentation.propagation.smoothing import NEIGHBOURS, smoothed
from napari_usgseg.segmentation.propose import Proposal

COUNT = 14


@pytest.fixture(scope="module")
def loop():
    """Frames (T, H, W, 3) of a beat, and an object's masks on every frame."""
    made = make_phantom_loop(1, COUNT, (96, 128), "breast", "beat", period=12.0)
    sizes = np.bincount(made.instances[0][made.labels[0] == 1].ravel())
    return np.repeat(made.frames[..., None], 3, axis=3), made.instances == sizes.argmax()


def item(mask, phrase="cyst", score=0.8):
    return Proposal(mask, mask_to_box(mask), score, phrase, score)


def run(frames, found, numbers=range(COUNT)):
    given = ((n, frames[n], found[n], f"rest {n}") for n in numbers)
    answers = list(smoothed(given))
    assert [(frame, rest) for frame, _, rest in answers] == [(n, f"rest {n}") for n in numbers]
    return {frame: items for frame, items, _ in answers}


def test_what_is_right_on_most_frames_corrects_the_others(loop):
    frames, masks = loop
    found = [(item(mask),) for mask in masks]
    found[4] = (item(np.roll(masks[4], 25, axis=1)),)  # elsewhere
    found[7] = ()  # missed
    answers = run(frames, found)
    for frame, items in answers.items():
        (one,) = items
        assert dice(one.mask, masks[frame]) > 0.9, frame
        assert one.phrase == "cyst"
        np.testing.assert_array_equal(one.box, mask_to_box(one.mask))
        assert one.low_res_logits is not None
    assert answers[7][0].score == pytest.approx(0.8)


def test_what_is_on_one_frame_alone_goes(loop):
    frames, masks = loop
    found = [() for _ in masks]
    found[5] = (item(masks[5]),)
    assert not any(run(frames, found).values())


def test_each_phrase_is_smoothed_by_itself_and_several_objects_of_one_are_left(loop):
    frames, masks = loop
    speck = np.zeros_like(masks[0])
    speck[:5, :5] = True
    found = [(item(mask), item(speck, "node", 0.6)) for mask in masks]
    found[1] += (item(np.roll(speck, 20, axis=0), "node", 0.5),)
    answers = run(frames, found)
    near, far = answers[1], answers[1 + NEIGHBOURS + 1]
    assert [one.mask is two.mask for one, two in zip(near[1:], found[1][1:], strict=True)] == [
        True,
        True,
    ]
    assert [one.phrase for one in far] == ["cyst", "node"]
    assert far[1].mask is not found[6][1].mask


def test_frames_that_do_not_follow_one_another_are_not_neighbours(loop):
    frames, masks = loop
    numbers = [9, 10, 2, 5]
    found = {n: (item(masks[n]),) for n in numbers}
    found[2] = ()
    answers = run(frames, found, numbers)
    assert [bool(answers[n]) for n in numbers] == [True, True, False, True]


def test_a_frame_waits_for_no_more_than_its_neighbours(loop):
    frames, masks = loop
    read = []

    def given():
        for n in range(COUNT):
            read.append(n)
            yield n, frames[n], (item(masks[n]),), None

    answers = smoothed(given())
    assert next(answers)[0] == 0
    assert max(read) == NEIGHBOURS
    assert next(answers)[0] == 1
    assert max(read) == NEIGHBOURS + 1
