"""Speed beside the sam2 package, measured once, with room for a busy machine."""

from __future__ import annotations

import pytest
import torch

from napari_usgseg.models.nano import NanoSam
from napari_usgseg.models.sam import SamSegmenter
from napari_usgseg.pipeline.benchmark import ratios_to_peer, run_benchmark


def test_ratios_are_ours_over_the_peers_of_the_same_task():
    seconds = {"peer_embed": 4.0, "nano_embed": 0.1, "peer_click": 0.1, "sam2_click": 0.05}
    assert ratios_to_peer(seconds) == pytest.approx({"nano_embed": 0.025, "sam2_click": 0.5})


def test_nano_is_many_times_faster_and_our_path_no_slower_than_the_package():
    torch.manual_seed(0)
    rounds: list[tuple[int, int]] = []
    result = run_benchmark(
        1,
        SamSegmenter(NanoSam(384), "nano-random"),
        lambda done, total: rounds.append((done, total)),
    )
    assert rounds == [(1, 2), (2, 2)]
    ratios = result["ratios"]
    assert ratios["nano_embed"] <= 1 / 20
    assert ratios["nano_click"] <= 1 / 3
    assert ratios["sam2_embed"] < 1.5  # one measurement: `usgseg benchmark` takes medians
    assert ratios["sam2_click"] < 1.5
