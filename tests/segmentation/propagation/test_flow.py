"""Propagation by optical flow: loops whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_usgseg.core.errors import PromptError
from napari_usgseg.core.metrics import dice
from napari_usgseg.phantoms.loop import MOTIONS, make_phantom_loop
from napari_usgseg.segmentation.propagation.flow import FlowPropagator
from napari_usgseg.segmentation.propagation.intervals import intervals

COUNT = 25


def grey(frames):
    """Frames (T, H, W) as a loop of colour frames."""
    return np.repeat(frames[..., None], 3, axis=3)


def objects_on(loop, frame, least=60):
    """Masks of the objects of one frame that have some pixels."""
    numbers = [int(number) for number in np.unique(loop.instances[frame]) if number]
    masks = {number: loop.instances[frame] == number for number in numbers}
    return {number: mask for number, mask in masks.items() if mask.sum() > least}


@pytest.fixture(scope="module", params=MOTIONS)
def loop(request):
    return make_phantom_loop(1, COUNT, (128, 160), "thyroid", request.param, period=40.0)


@pytest.fixture(scope="module")
def beat():
    return make_phantom_loop(1, COUNT, (128, 160), "thyroid", "beat")


def test_objects_of_one_frame_are_found_on_all_others(loop):
    key = COUNT // 2
    objects = objects_on(loop, key)
    found = list(FlowPropagator().propagate(grey(loop.frames), {key: objects}, range(COUNT)))
    assert sorted(one.frame for one in found) == [t for t in range(COUNT) if t != key]
    scores = [
        dice(mask, loop.instances[one.frame] == number)
        for one in found
        for number, mask in one.masks.items()
        if (loop.instances[one.frame] == number).sum() > 200
    ]
    assert np.mean(scores) > 0.94


def test_a_copy_of_the_keyframe_would_be_worse(beat):
    objects = objects_on(beat, 0)
    frames = grey(beat.frames)
    found = {one.frame: one.masks for one in FlowPropagator().propagate(frames, {0: objects}, [12])}
    assert list(found) == [12]
    largest = max(objects, key=lambda number: objects[number].sum())
    truth = beat.instances[12] == largest
    assert dice(found[12][largest], truth) > dice(objects[largest], truth)


def test_an_object_that_leaves_the_picture_ends_there_and_is_not_made_up():
    slide = make_phantom_loop(1, 40, (128, 160), "nerve", "slide", period=16.0)
    key = 20
    objects = objects_on(slide, key)
    frames = range(key, 40)
    found = list(FlowPropagator().propagate(grey(slide.frames), {key: objects}, frames))
    gone = [
        (one.frame, number)
        for one in found
        for number in objects
        if not (slide.instances[one.frame - 3 : one.frame + 1] == number).any()
    ]
    assert gone  # the probe went past it
    assert not [(t, number) for t, number in gone if number in found[t - key - 1].masks]


def test_an_object_that_the_next_keyframe_lacks_ends_half_way(beat):
    objects = objects_on(beat, 0)
    dropped = min(objects)
    rest = {number: mask for number, mask in objects_on(beat, 20).items() if number != dropped}
    known = {0: objects, 20: rest}
    found = list(FlowPropagator().propagate(grey(beat.frames), known, range(21)))
    with_it = [one.frame for one in found if dropped in one.masks]
    assert with_it == list(range(1, 10))


def test_a_correction_draws_the_frames_around_it_along(beat):
    frames, last = grey(beat.frames), COUNT - 1
    objects = objects_on(beat, 0)
    number = max(objects, key=lambda n: objects[n].sum())
    half = beat.instances[last] == number
    half[: half.nonzero()[0].mean().astype(int)] = False  # the person keeps the lower half only
    ends = {0: {number: objects[number]}, last: {number: half}}
    found = {one.frame: one for one in FlowPropagator().propagate(frames, ends, range(COUNT))}
    alone = {
        one.frame: one
        for one in FlowPropagator().propagate(frames, {0: {number: objects[number]}}, range(COUNT))
    }
    near = last - 1
    assert dice(found[near].masks[number], half) > dice(alone[near].masks[number], half)


def test_a_still_loop_keeps_its_masks_and_two_objects_stay_two():
    still = np.repeat(make_phantom_loop(2, 1, (96, 120)).frames, 5, axis=0)
    left, right = np.zeros((2, 96, 120), bool)
    left[30:60, 20:60], right[30:60, 60:100] = True, True
    for one in FlowPropagator().propagate(grey(still), {0: {7: left, 9: right}}, range(5)):
        assert dice(one.masks[7], left) > 0.99
        assert dice(one.masks[9], right) > 0.99
        assert not (one.masks[7] & one.masks[9]).any()
        assert min(one.scores.values()) > 0.9


@pytest.mark.parametrize("size_hw", [(20, 31), (700, 500)])
def test_small_and_large_frames_are_followed_in_their_own_pixels(size_hw):
    frames = np.zeros((3, *size_hw, 3), np.uint8)
    rng = np.random.default_rng(0)
    frames[:] = rng.integers(0, 255, (*size_hw, 1))
    mask = np.zeros(size_hw, bool)
    mask[5:15, 6:20] = True
    for one in FlowPropagator().propagate(frames, {1: {1: mask}}, range(3)):
        assert one.masks[1].shape == size_hw
        assert dice(one.masks[1], mask) > 0.9


def test_only_the_frames_near_the_one_at_work_are_read(beat):
    read = []

    class Watched:
        def __len__(self):
            return COUNT

        def __getitem__(self, frame):
            read.append(frame)
            return np.repeat(beat.frames[frame][..., None], 3, axis=2)

    answers = FlowPropagator().propagate(Watched(), {4: objects_on(beat, 4)}, range(4, COUNT))
    assert next(answers).frame == 5
    assert max(read) == 5


@given(
    keys=st.sets(st.integers(0, 30), min_size=1, max_size=5),
    wanted=st.lists(st.integers(0, 30), max_size=40),
)
@settings(max_examples=60, deadline=None)
def test_each_wanted_frame_lies_in_one_interval_between_its_nearest_keyframes(keys, wanted):
    frames = np.zeros((31, 2, 3, 3), np.uint8)
    mask = np.ones((2, 3), bool)
    groups = list(intervals(frames, {key: {1: mask} for key in keys}, wanted))
    assert sorted(t for *_, group in groups for t in group) == sorted(set(wanted) - keys)
    for before, after, group in groups:
        for frame in group:
            assert before == max((key for key in keys if key < frame), default=None)
            assert after == min((key for key in keys if key > frame), default=None)


def test_what_cannot_be_propagated_is_refused_with_the_cure(beat):
    frames = grey(beat.frames)
    mask = np.ones((128, 160), bool)
    for keyframes, wanted, message in (
        ({}, [1], "label at least one frame"),
        ({99: {1: mask}}, [1], "frame 99 is not of this loop"),
        ({0: {1: mask}}, [-1], "frame -1 is not of this loop"),
        ({0: {1: mask[:-1]}}, [1], r"object 1 of frame 0 has \(127, 160\)"),
    ):
        with pytest.raises(PromptError, match=message):
            list(FlowPropagator().propagate(frames, keyframes, wanted))
