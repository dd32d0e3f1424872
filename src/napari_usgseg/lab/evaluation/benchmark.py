"""Speed beside the ``sam2`` package's own predictor, as ratios within one run on one machine.

The peer is SAM 2.1 tiny in its real shape with random weights: what it computes is nonsense, how
long it takes is not. Peer and own path take turns, so that whatever else the machine does falls
on both.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.types import Prompts

if TYPE_CHECKING:
    from ...models.interfaces import Segmenter
    from ...models.ppn.model import PpnModel


SIZE_HW = (480, 640)
CLICK_XY = (300.0, 200.0)
PEER_VARIANT = "sam2.1-hiera-tiny"
CLICKS_PER_REPEAT = 10
"""Clicks are short, and so need more measurements for a steady median."""


def run_benchmark(
    repeats: int = 5,
    nano: Segmenter | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Measure embedding, click and prompt predictor of nano and of SAM 2.1 tiny beside the peer's.

    A prompt predictor's prediction of one class, its embedding in hand, stands beside the peer's
    click; what it has learnt does not change how long it takes, so it is an untrained one.

    Args:
        repeats: images to embed with each, after one that does not count; ten times as many
            clicks; medians are reported.
        nano: the light segmenter; None takes the embedded one.
        progress: called with (rounds of images done, rounds in all).

    Returns:
        "seconds": the medians, by name; "ratios": ours over the peer's ("nano_embed",
        "nano_click", "nano_ppn_click", and the same of "sam2"; below 1 is faster); and what was
        run.

    Raises:
        ModelNotFoundError: the embedded weights are missing.
    """
    import torch
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    from ...models.registry import load_segmenter
    from ...models.sam.sam import SamSegmenter
    from ...models.sam.sam2 import SAM2_VARIANTS, Sam2Net, build_sam2

    nano = nano or load_segmenter("nano")
    variant = SAM2_VARIANTS[PEER_VARIANT]
    peer = SAM2ImagePredictor(build_sam2(variant).eval())
    ours = SamSegmenter(Sam2Net(build_sam2(variant)), f"{PEER_VARIANT}-random")
    image = np.random.default_rng(0).integers(0, 256, (*SIZE_HW, 3), np.uint8)
    click = Prompts(np.array([CLICK_XY], np.float32), np.ones(1, np.int32))
    nano_embedding, our_embedding = nano.embed(image), ours.embed(image)

    embed: dict[str, Callable[[], object]] = {
        "peer_embed": lambda: peer.set_image(image),
        "sam2_embed": lambda: ours.embed(image),
        "nano_embed": lambda: nano.embed(image),
    }
    clicks: dict[str, Callable[[], object]] = {
        "peer_click": lambda: peer.predict(click.point_coords, click.point_labels),
        "sam2_click": lambda: ours.predict(our_embedding, click, multimask=True),
        "nano_click": lambda: nano.predict(nano_embedding, click),
    }
    clicks |= {
        f"{name}_ppn_click": partial(_untrained_ppn(segmenter).predict, embedding)
        for name, segmenter, embedding in (
            ("sam2", ours, our_embedding),
            ("nano", nano, nano_embedding),
        )
    }
    seconds = _take_turns(embed, repeats, progress)
    seconds |= _take_turns(clicks, repeats * CLICKS_PER_REPEAT)
    return {
        "schema": 1,
        "peer": f"SAM2ImagePredictor, {PEER_VARIANT}",
        "nano": nano.model_id,
        "image_hw": list(SIZE_HW),
        "repeats": repeats,
        "threads": torch.get_num_threads(),
        "seconds": seconds,
        "ratios": ratios_to_peer(seconds),
    }


def _untrained_ppn(segmenter: Segmenter) -> PpnModel:
    """A prompt predictor of one class, of the sizes that a training makes."""
    from ...models.ppn.card import PpnCard
    from ...models.ppn.model import PpnModel, new_prompter

    prompter = new_prompter(segmenter, 1)
    return PpnModel(segmenter, prompter, PpnCard({1: "object"}, segmenter.model_id, {}))


def ratios_to_peer(seconds: dict[str, float]) -> dict[str, float]:
    """Ours over the peer's, for each measurement "<model>_<task>" beside "peer_<task>"."""
    return {
        name: value / seconds[f"peer_{name.rsplit('_', 1)[1]}"]
        for name, value in seconds.items()
        if not name.startswith("peer_")
    }


def _take_turns(
    tasks: dict[str, Callable[[], object]],
    repeats: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, float]:
    """The median seconds of each task over ``repeats`` rounds, after one round to warm up."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(repeats + 1):
        # Forth and back, so that neither side always runs in the caches that the other left.
        for name, task in list(tasks.items())[:: -1 if turn % 2 else 1]:
            start = time.perf_counter()
            task()
            if turn > 0:
                times[name].append(time.perf_counter() - start)
        progress(turn + 1, repeats + 1)
    return {name: statistics.median(values) for name, values in times.items()}
