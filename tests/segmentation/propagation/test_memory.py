"""SAM 2.1's memory, beside the package's own video predictor with the same random weights."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import OmegaConf

from napari_usgseg import load_segmenter
from napari_usgseg.core.errors import ModelError
from napari_usgseg.jobs import Lane, inference
from napari_usgseg.jobs.loaded_models import LoadedModels
from napari_usgseg.models.sam.sam import SamSegmenter, to_pixels
from napari_usgseg.models.sam.sam1 import Sam1Net, Sam1Segmenter
from napari_usgseg.models.sam.sam2 import SAM2_VARIANTS, Sam2Net, build_sam2
from napari_usgseg.phantoms.loop import make_phantom_loop
from napari_usgseg.segmentation.propagation import memory, propagator_for
from napari_usgseg.segmentation.propagation.flow import FlowPropagator
from napari_usgseg.segmentation.propagation.memory import MemoryPropagator

SIDE = 128
COUNT = 18
"""Longer than the 16 frames whose object pointers are remembered."""


@pytest.fixture(scope="module")
def loop():
    """Frames (T, H, W, 3) and two objects' masks on every frame."""
    made = make_phantom_loop(1, COUNT, (96, 128), "thyroid", "beat")
    sizes = np.bincount(made.instances[0].ravel())
    numbers = np.argsort(sizes[1:])[::-1][:2] + 1
    return np.repeat(made.frames[..., None], 3, axis=3), {
        int(number): made.instances == number for number in numbers
    }


@pytest.fixture(scope="module")
def networks():
    """Our SAM 2.1 tiny at a small size, and the package's video predictor of equal weights."""
    torch.manual_seed(0)
    sam = build_sam2(SAM2_VARIANTS["sam2.1-hiera-tiny"], SIDE)
    for parameter in sam.parameters():  # a network as made answers all frames alike
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, 0.0, 0.3)
    torch.nn.init.constant_(sam.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, 3.0)
    predictor = _video_predictor()
    predictor.load_state_dict(sam.state_dict())
    return SamSegmenter(Sam2Net(sam), "sam2.1-random"), predictor.eval()


def _video_predictor():
    from importlib import resources

    text = resources.files("sam2").joinpath("configs", "sam2.1", "sam2.1_hiera_t.yaml").read_text()
    config = OmegaConf.create(text)
    config.model._target_ = "sam2.sam2_video_predictor.SAM2VideoPredictor"
    config.model.image_size = SIDE
    config.model.binarize_mask_from_pts_for_mem_enc = True
    config.model.sam_mask_decoder_extra_args = {
        "dynamic_multimask_via_stability": True,
        "dynamic_multimask_stability_delta": 0.05,
        "dynamic_multimask_stability_thresh": 0.98,
    }
    return instantiate(config.model, _recursive_=True)


def _package(predictor, frames, keyframes, *, reverse=False):
    """Logits (H, W) by frame and object, of the package, which loads all frames first."""
    images = torch.cat([to_pixels(frame, SIDE) for frame in frames])
    import sam2.sam2_video_predictor as module

    given = (images, frames.shape[1], frames.shape[2])
    original, module.load_video_frames = module.load_video_frames, lambda **_: given
    try:
        state = predictor.init_state("")
    finally:
        module.load_video_frames = original
    for frame, objects in keyframes.items():
        for number, mask in objects.items():
            predictor.add_new_mask(state, frame, number, mask)
    return {
        frame: dict(zip(numbers, logits[:, 0].numpy(), strict=True))
        for frame, numbers, logits in predictor.propagate_in_video(state, reverse=reverse)
    }


@pytest.fixture
def ours(networks, monkeypatch):
    """Our logits (H, W) by frame and object: the low-resolution ones of each step, enlarged."""
    segmenter, _ = networks

    def run(frames, keyframes, wanted):
        steps = []
        sam = segmenter.net.sam
        with monkeypatch.context() as patch:
            track = sam.track_step

            def noted(**given):
                output = track(**given)
                if not given["is_init_cond_frame"]:
                    steps.append(output["pred_masks"])
                return output

            patch.setattr(sam, "track_step", noted)
            found = list(MemoryPropagator(segmenter).propagate(frames, keyframes, wanted))
        numbers = list(next(iter(keyframes.values())))
        assert len(steps) == len(found) * len(numbers)
        enlarged = iter(F.interpolate(step, frames.shape[1:3], mode="bilinear") for step in steps)
        return {
            one.frame: {number: next(enlarged)[0, 0].numpy() for number in numbers} for one in found
        }

    return run


def _largest_difference(ours, package):
    return max(
        np.abs(logits - package[frame][number]).max()
        for frame, objects in ours.items()
        for number, logits in objects.items()
    )


@pytest.mark.parametrize("keys", [(0,), (3, 11)])
def test_every_frame_has_the_logits_of_the_packages_video_predictor(loop, networks, ours, keys):
    frames, objects = loop
    keyframes = {k: {number: masks[k] for number, masks in objects.items()} for k in keys}
    logits = ours(frames, keyframes, range(keys[0], COUNT))
    assert list(logits) == [t for t in range(keys[0], COUNT) if t not in keys]
    assert _largest_difference(logits, _package(networks[1], frames, keyframes)) < 1e-4
    first, *_, last = logits.values()  # the frames are not answered alike
    assert max(np.abs(first[number] - last[number]).max() for number in objects) > 1e-2


def test_frames_before_the_first_keyframe_are_those_of_a_run_in_reverse(loop, networks, ours):
    frames, objects = loop
    keyframes = {12: {number: masks[12] for number, masks in objects.items()}}
    logits = ours(frames, keyframes, range(12))
    assert list(logits) == list(range(11, -1, -1))
    package = _package(networks[1], frames, keyframes, reverse=True)
    assert _largest_difference(logits, package) < 1e-4


def test_the_first_answer_waits_for_no_later_frame(loop, networks):
    frames, objects = loop
    read = []

    class Watched:
        def __len__(self):
            return len(frames)

        def __getitem__(self, frame):
            read.append(frame)
            return frames[frame]

    keyframes = {0: {1: next(iter(objects.values()))[0]}}
    answers = MemoryPropagator(networks[0]).propagate(Watched(), keyframes, range(COUNT))
    assert next(answers).frame == 1
    assert max(read) == 1


def test_only_frames_that_a_later_one_looks_at_are_remembered(loop, networks, monkeypatch):
    frames, objects = loop
    propagator = MemoryPropagator(networks[0])
    kept = []
    sam = networks[0].net.sam
    track = sam.track_step

    def noted(**given):
        if not given["is_init_cond_frame"]:
            kept.append(len(given["output_dict"]["non_cond_frame_outputs"]))
        return track(**given)

    monkeypatch.setattr(sam, "track_step", noted)
    monkeypatch.setattr(memory.Sam2Track, "_reach", 4)
    keyframes = {0: {1: next(iter(objects.values()))[0]}}
    assert len(list(propagator.propagate(frames, keyframes, range(12)))) == 11
    assert kept == [0, 1, 2, 3, *[4] * 7]


def test_of_many_keyframes_each_interval_has_those_around_it(loop, networks, monkeypatch):
    frames, objects = loop
    monkeypatch.setattr(memory, "MOST_KEYFRAMES", 2)
    told = []
    propagator = MemoryPropagator(networks[0])
    tell = memory.Sam2Track.tell
    monkeypatch.setattr(
        memory.Sam2Track,
        "tell",
        lambda track, key, masks: told.append(key) or tell(track, key, masks),
    )
    first, second = objects
    keyframes = {key: {first: objects[first][key]} for key in (0, 3, 9)}
    keyframes[6] = {second: objects[second][6]}
    numbers = {
        found.frame: set(found.masks) for found in propagator.propagate(frames, keyframes, range(9))
    }
    assert sorted(numbers) == [1, 2, 4, 5, 7, 8]
    assert second in numbers[5] | numbers[7]  # of a keyframe in the middle
    assert set(told) == {0, 3, 6, 9}


def test_a_segmenter_without_a_memory_gets_the_flow(networks):
    nano = load_segmenter("nano")
    assert isinstance(propagator_for(nano), FlowPropagator)
    assert isinstance(propagator_for(networks[0]), MemoryPropagator)
    with pytest.raises(ModelError, match="no memory"):
        MemoryPropagator(nano)


def test_sam_of_the_first_version_as_medsam_gets_the_flow():
    from transformers import SamConfig, SamModel

    small = {"hidden_size": 32, "num_hidden_layers": 1, "image_size": 64, "num_attention_heads": 2}
    config = SamConfig(
        vision_config=small | {"output_channels": 32, "num_pos_feats": 16},
        prompt_encoder_config={"hidden_size": 32, "image_size": 64},
        mask_decoder_config={"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2},
    )
    segmenter = Sam1Segmenter(Sam1Net(SamModel(config)), "sam")
    assert isinstance(propagator_for(segmenter), FlowPropagator)


def test_the_job_of_a_window_tells_what_the_memory_finds(networks, loop, tmp_path):
    segmenter, _ = networks
    frames, masks = loop
    tifffile.imwrite(tmp_path / "loop.tif", frames[..., 0], photometric="minisblack")
    keyframes = {4: {number: masks[number][4] for number in masks}}
    told = []
    models = LoadedModels(lambda name: segmenter)
    outcome = models.run(
        inference.propagate,
        tmp_path / "loop.tif",
        "sam2.1",
        keyframes,
        (3, 5, 6),
        lane=Lane.LOOPS,
        tell=told.append,
    )
    assert (outcome.error, outcome.result) == ("", {})
    assert {word.model_id for word in told} == {segmenter.model_id}
    direct = MemoryPropagator(segmenter).propagate(frames, keyframes, (3, 5, 6))
    for word, found in zip(told, direct, strict=True):
        assert word.found.frame == found.frame
        for number, mask in found.masks.items():
            np.testing.assert_array_equal(word.found.masks[number], mask)
