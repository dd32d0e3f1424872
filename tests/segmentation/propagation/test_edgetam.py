"""EdgeTAM's memory, beside transformers' own run over the same loop with the same weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from napari_usgseg import load_segmenter
from napari_usgseg.phantoms.loop import make_phantom_loop
from napari_usgseg.segmentation.propagation import memory, propagator_for
from napari_usgseg.segmentation.propagation.memory import MemoryPropagator
from tests.support.edgetam import SIDE, write_edgetam

COUNT = 14
"""More than the frames that the small network remembers."""


@pytest.fixture(scope="module")
def loop():
    """Frames (T, H, W, 3) and two objects' masks on every frame."""
    made = make_phantom_loop(1, COUNT, (96, 128), "thyroid", "beat")
    numbers = np.argsort(np.bincount(made.instances[0].ravel())[1:])[::-1][:2] + 1
    return np.repeat(made.frames[..., None], 3, axis=3), {
        int(number): made.instances == number for number in numbers
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_edgetam(tmp_path_factory.mktemp("edgetam") / "small-edgetam")


@pytest.fixture(scope="module")
def segmenter(folder):
    return load_segmenter(folder)


def transformers_run(folder, frames, keyframes, reverse):
    """Logits (H, W) by frame and object, of transformers' own pipeline, all frames loaded first."""
    from transformers import (
        EdgeTamVideoModel,
        Sam2ImageProcessor,
        Sam2VideoProcessor,
        Sam2VideoVideoProcessor,
    )

    side = {"height": SIDE, "width": SIDE}
    processor = Sam2VideoProcessor(
        Sam2ImageProcessor(size=side), Sam2VideoVideoProcessor(size=side), target_size=SIDE
    )
    model = EdgeTamVideoModel.from_pretrained(folder).eval()
    session = processor.init_video_session(video=list(frames), dtype=torch.float32)
    for frame, objects in keyframes.items():
        processor.add_inputs_to_inference_session(
            session, frame, list(objects), input_masks=list(objects.values())
        )
        model(session, frame_idx=frame)
    start = max(keyframes) if reverse else min(keyframes)
    found = {}
    for output in model.propagate_in_video_iterator(session, start, reverse=reverse):
        logits = F.interpolate(output.pred_masks, frames.shape[1:3], mode="bilinear")[:, 0]
        found[output.frame_idx] = dict(zip(output.object_ids, logits.numpy(), strict=True))
    return found


def our_run(segmenter, frames, keyframes, wanted, monkeypatch):
    steps = []
    step = memory.EdgeTamTrack.step

    def noted(track, frame):
        for number, logits, score in step(track, frame):
            full = F.interpolate(logits, frames.shape[1:3], mode="bilinear")[0, 0]
            steps.append((frame, number, full.numpy()))
            yield number, logits, score

    monkeypatch.setattr(memory.EdgeTamTrack, "step", noted)
    found = list(MemoryPropagator(segmenter).propagate(frames, keyframes, wanted))
    logits = {one.frame: {} for one in found}
    for frame, number, full in steps:
        logits[frame][number] = full
    return logits


@pytest.mark.parametrize(
    ("keys", "wanted", "reverse"),
    [((0,), range(COUNT), False), ((2, 8), range(2, COUNT), False), ((11,), range(11), True)],
    ids=["from the first frame", "from two frames", "backwards"],
)
def test_every_frame_has_the_logits_of_transformers(
    loop, folder, segmenter, monkeypatch, keys, wanted, reverse
):
    frames, objects = loop
    keyframes = {k: {number: masks[k] for number, masks in objects.items()} for k in keys}
    ours = our_run(segmenter, frames, keyframes, wanted, monkeypatch)
    assert sorted(ours) == [frame for frame in wanted if frame not in keys]
    theirs = transformers_run(folder, frames, keyframes, reverse)
    for frame, found in ours.items():
        for number, logits in found.items():
            np.testing.assert_allclose(logits, theirs[frame][number], atol=1e-4)
    first, *_, last = ours.values()  # the frames are not answered alike
    assert max(np.abs(first[number] - last[number]).max() for number in objects) > 1e-2


def test_frames_are_read_one_by_one_and_only_what_a_later_one_looks_at_is_kept(loop, segmenter):
    frames, objects = loop
    read = []

    class Watched:
        def __len__(self):
            return len(frames)

        def __getitem__(self, frame):
            read.append(frame)
            return frames[frame]

    number, masks = next(iter(objects.items()))
    answers = propagator_for(segmenter).propagate(Watched(), {0: {number: masks[0]}}, range(COUNT))
    assert next(answers).frame == 1
    assert max(read) == 1
    track = memory.EdgeTamTrack(segmenter, frames, (number,), reverse=False)
    with torch.inference_mode():
        track.tell(0, {number: torch.from_numpy(masks[0]).float()})
        for frame in range(1, COUNT):
            list(track.step(frame))
    outputs = track._session.output_dict_per_obj[0]
    assert len(outputs["non_cond_frame_outputs"]) == 6
    assert track._session.processed_frames is None, "no pixels are kept"
    assert len(track._session.cache._vision_features) == 1
