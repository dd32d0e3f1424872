"""Propagation of objects through a loop by the memory of SAM 2.1 and of EdgeTAM.

SAM 2.1 (arXiv 2408.00714, section 4) is the ``sam2`` package's video predictor, step by step,
EdgeTAM (arXiv 2501.07256) transformers' ``EdgeTamVideoModel``: keyframes are conditioning frames,
the last frames are remembered. What differs is that frames are read one after the other, and that
only those are kept which a later frame looks at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.errors import ModelError
from ...core.types import BoolArray, FrameObjects
from ...models.interfaces import RgbFrames
from ...models.sam.edgetam import EdgeTamNet
from ...models.sam.sam import MASK_THRESHOLD, SamSegmenter, feature_list
from ...models.sam.sam2 import Sam2Net
from .intervals import Objects, intervals

MOST_KEYFRAMES = 8
"""So many keyframes at most condition a run, for each costs an embedding, and attention to it on
every frame. Where there are more, each interval is a run of its own, with those nearest to it."""


class Track(Protocol):
    """The memory of one run over a loop, one way."""

    def tell(self, frame: int, masks: Mapping[int, Tensor]) -> None:
        """Remember a keyframe: the mask (H, W) of every object, 0 where it is not."""
        ...

    def step(self, frame: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Go on to a frame: of each object its number, logits (1, 1, h, w), and object score."""
        ...


class MemoryPropagator:
    """A `Propagator` by the memory of SAM 2.1 or EdgeTAM.

    Args:
        segmenter: any SAM 2.1 of the catalogue, or an EdgeTAM.

    Raises:
        ModelError: the segmenter is neither, and has no memory.
    """

    def __init__(self, segmenter: SamSegmenter) -> None:
        if not isinstance(segmenter.net, Sam2Net | EdgeTamNet):
            raise ModelError(f"{segmenter.model_id} has no memory of frames: take FlowPropagator")
        self._segmenter = segmenter
        self.model_id = segmenter.model_id

    @torch.inference_mode()
    def propagate(
        self, frames: RgbFrames, keyframes: Mapping[int, Objects], wanted: Iterable[int]
    ) -> Iterator[FrameObjects]:
        """As `Propagator.propagate`.

        An object that a keyframe lacks is not there on that frame, and this is remembered, too.
        """
        groups = list(intervals(frames, keyframes, wanted))
        if len(keyframes) > MOST_KEYFRAMES:
            runs = [group[::-1] if before is None else group for before, _, group in groups]
        else:  # as the package: what was seen before a keyframe is remembered behind it
            behind = [frame for before, _, group in groups if before is None for frame in group]
            ahead = [frame for before, _, group in groups if before is not None for frame in group]
            runs = [run for run in (behind[::-1], ahead) if run]
        for run in runs:
            yield from self._run(frames, keyframes, run)

    def _run(
        self, frames: RgbFrames, keyframes: Mapping[int, Objects], wanted: list[int]
    ) -> Iterator[FrameObjects]:
        """The wanted frames in their order: backwards those before the first keyframe."""
        reverse = wanted[0] < min(keyframes)
        step = -1 if reverse else 1
        passed = [key for key in keyframes if step * (wanted[0] - key) > 0]
        start = max(passed, key=lambda key: step * key)
        low, high = sorted((start, wanted[-1]))
        near = sorted(
            sorted(keyframes, key=lambda key: max(low - key, key - high))[:MOST_KEYFRAMES]
        )
        numbers = tuple(dict.fromkeys(number for key in near for number in keyframes[key]))
        is_edge = isinstance(self._segmenter.net, EdgeTamNet)
        track: Track = (EdgeTamTrack if is_edge else Sam2Track)(
            self._segmenter, frames, numbers, reverse
        )
        size_hw = frames[start].shape[:2]
        empty = torch.zeros(size_hw)
        for key in near:
            known = {number: torch.from_numpy(m).float() for number, m in keyframes[key].items()}
            track.tell(key, {number: known.get(number, empty) for number in numbers})
        asked = set(wanted)
        for frame in range(start + step, wanted[-1] + step, step):
            if frame in keyframes:
                continue
            masks: dict[int, BoolArray] = {}
            scores: dict[int, float] = {}
            for number, low_res, score in track.step(frame):
                logits = F.interpolate(low_res.float(), size_hw, mode="bilinear")
                mask = (logits[0, 0] > MASK_THRESHOLD).cpu().numpy()
                if mask.any():
                    masks[number] = mask
                    scores[number] = float(score.sigmoid())
            if frame in asked:
                yield FrameObjects(frame, masks, scores)


class Sam2Track:
    """A `Track` by the ``sam2`` package's modules.

    Args:
        segmenter: a SAM 2.1.
        frames: the loop.
        numbers: of the objects.
        reverse: it goes from later frames to earlier ones.
    """

    def __init__(
        self, segmenter: SamSegmenter, frames: RgbFrames, numbers: tuple[int, ...], reverse: bool
    ) -> None:
        assert isinstance(segmenter.net, Sam2Net)
        self._segmenter, self._net, self._frames = segmenter, segmenter.net, frames
        self._reverse = reverse
        self._memories: dict[int, dict[str, dict[int, Any]]] = {
            number: {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}} for number in numbers
        }

    def tell(self, frame: int, masks: Mapping[int, Tensor]) -> None:
        """As `Track.tell`."""
        features = self._features(frame)
        for number, mask in masks.items():
            self._memories[number]["cond_frame_outputs"][frame] = self._told(features, frame, mask)

    def step(self, frame: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        """As `Track.step`."""
        features = self._features(frame)
        for number, memory in self._memories.items():
            output = self._net.sam.track_step(
                frame_idx=frame,
                is_init_cond_frame=False,
                **features,
                point_inputs=None,
                mask_inputs=None,
                output_dict=memory,
                num_frames=len(self._frames),
                track_in_reverse=self._reverse,
            )
            recent = memory["non_cond_frame_outputs"]
            recent[frame] = _kept(output)
            # Out of the network's reach, so that memory does not grow with the loop.
            recent.pop(frame + (self._reach if self._reverse else -self._reach), None)
            yield number, output["pred_masks"], output["object_score_logits"]

    @property
    def _reach(self) -> int:
        """So many frames back the network looks: spatial memories, or pointers to objects."""
        sam = self._net.sam
        spatial = 2 + max(0, sam.num_maskmem - 2) * sam.memory_temporal_stride_for_eval
        return int(max(spatial, sam.max_obj_ptrs_in_encoder))

    def _features(self, frame: int) -> dict[str, list[Any]]:
        """A frame's embedding as ``track_step`` takes it, without the "no memory" embedding."""
        embedding = self._segmenter.embed(self._frames[frame])
        sam = self._net.sam
        levels = [level.to(sam.device) for level in feature_list(embedding)]
        if sam.directly_add_no_mem_embed:
            # ``Sam2Net.encode`` has added it for stills; with a memory the network adds that in its
            # place.
            levels[-1] = levels[-1] - sam.no_mem_embed.view(1, -1, 1, 1)
        place = self._net.frame_positions(levels[-1])
        return {
            "current_vision_feats": [_flat(level) for level in levels],
            "current_vision_pos_embeds": [_flat(place)],
            "feat_sizes": [tuple(level.shape[-2:]) for level in levels],
        }

    def _told(self, features: dict[str, list[Any]], frame: int, mask: Tensor) -> dict[str, Any]:
        """The memory of a keyframe's mask (H, W) of one object."""
        sam = self._net.sam
        side = (sam.image_size, sam.image_size)
        mask = mask[None, None].to(sam.device)
        if mask.shape[-2:] != side:
            mask = F.interpolate(mask, side, mode="bilinear", antialias=True)
        output = sam.track_step(
            frame_idx=frame,
            is_init_cond_frame=True,
            **features,
            point_inputs=None,
            mask_inputs=(mask >= 0.5).float(),
            output_dict={},
            num_frames=1,
            run_mem_encoder=False,
        )
        # as the package does it: remembered is what the low-resolution mask says
        remembered, places = sam._encode_new_memory(
            current_vision_feats=features["current_vision_feats"],
            feat_sizes=features["feat_sizes"],
            pred_masks_high_res=F.interpolate(output["pred_masks"], side, mode="bilinear"),
            object_score_logits=output["object_score_logits"],
            is_mask_from_pts=True,
        )
        return _kept(output | {"maskmem_features": remembered, "maskmem_pos_enc": places})


class EdgeTamTrack:
    """A `Track` by transformers' ``EdgeTamVideoModel``; the arguments are those of `Sam2Track`."""

    def __init__(
        self, segmenter: SamSegmenter, frames: RgbFrames, numbers: tuple[int, ...], reverse: bool
    ) -> None:
        assert isinstance(segmenter.net, EdgeTamNet)
        self._net, self._reverse = segmenter.net, reverse
        self._session = segmenter.net.session(len(frames), lambda n: segmenter.pixels(frames[n]))
        self._numbers = {self._session.obj_id_to_idx(number): number for number in numbers}
        config = segmenter.net.video.config
        self._reach = max(config.num_maskmem, config.max_object_pointers_in_encoder)

    def tell(self, frame: int, masks: Mapping[int, Tensor]) -> None:
        """As `Track.tell`."""
        session, side = self._session, (self._net.image_size,) * 2
        for index, number in self._numbers.items():
            mask = masks[number][None, None]
            if mask.shape[-2:] != side:
                mask = F.interpolate(mask, side, mode="bilinear", antialias=True)
            session.add_mask_inputs(index, frame, (mask >= 0.5).float())
        session.obj_with_new_inputs = list(masks)
        self._net.video(session, frame_idx=frame)

    def step(self, frame: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        """As `Track.step`."""
        session = self._session
        found = self._net.video(session, frame_idx=frame, reverse=self._reverse)
        out_of_reach = frame + (self._reach if self._reverse else -self._reach)
        for index, number in self._numbers.items():
            session.output_dict_per_obj[index]["non_cond_frame_outputs"].pop(out_of_reach, None)
            session.frames_tracked_per_obj[index].pop(out_of_reach, None)
            yield number, found.pred_masks[index, None], found.object_score_logits[index]


def _flat(level: Tensor) -> Tensor:
    """(1, C, h, w) to (h * w, 1, C)."""
    return level.flatten(2).permute(2, 0, 1)


def _kept(output: dict[str, Any]) -> dict[str, Any]:
    """What later frames look at; the package, too, keeps memories in bfloat16."""
    return {
        "maskmem_features": output["maskmem_features"].to(torch.bfloat16),
        "maskmem_pos_enc": output["maskmem_pos_enc"],
        "obj_ptr": output["obj_ptr"],
    }
