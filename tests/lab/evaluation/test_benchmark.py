"""Speed beside the sam2 package; how fast is for `usgseg benchmark` to say, on a quiet machine."""

from __future__ import annotations

import pytest
import torch

from napari_usgseg.lab.evaluation.benchmark import ratios_to_peer, run_benchmark
from napari_usgseg.models.sam.nano import NanoSam
from napari_usgseg.models.sam.sam import SamSegmenter


def test_ratios_are_ours_over_the_peers_of_the_same_task():
    seconds = {"peer_embed": 4.0, "nano_embed": 0.1, "peer_click": 0.1, "sam2_click": 0.05}
    assert ratios_to_peer(seconds) == pytest.approx({"nano_embed": 0.025, "sam2_click": 0.5})


@pytest.mark.slow  # a timing, with SAM 2.1 at its full size
def test_everything_is_measured_in_one_run_and_given_as_ratios():
    torch.manual_seed(0)
    rounds: list[tuple[int, int]] = []
    result = run_benchmark(
        1,
        SamSegmenter(NanoSam(384), "nano-random"),
        lambda done, total: rounds.append((done, total)),
    )
    assert rounds == [(1, 2), (2, 2)]
    tasks = ("embed", "click", "ppn_click")
    assert set(result["ratios"]) == {
        f"{name}_{task}" for name in ("nano", "sam2") for task in tasks
    }
    assert result["ratios"] == pytest.approx(ratios_to_peer(result["seconds"]))
    assert result["ratios"]["nano_embed"] < result["ratios"]["sam2_embed"]
