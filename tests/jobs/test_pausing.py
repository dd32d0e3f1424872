from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from napari_usgseg.core.errors import Cancelled
from napari_usgseg.jobs.loaded_models import pausing
from napari_usgseg.models.sam.nano import NanoSam
from napari_usgseg.models.sam.sam import SamSegmenter

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


@pytest.fixture(scope="module")
def segmenter() -> SamSegmenter:
    torch.manual_seed(0)
    return SamSegmenter(NanoSam(64), "nano-random")


def test_an_encoding_stands_still_between_two_parts_and_then_goes_on(segmenter):
    plain = segmenter.embed(IMAGE)
    calls, reached, go = [0], threading.Event(), threading.Event()
    result = []

    def wait() -> None:
        calls[0] += 1
        if calls[0] == 20:
            reached.set()
            go.wait()

    def work() -> None:
        with pausing(wait):
            result.append(segmenter.embed(IMAGE))

    thread = threading.Thread(target=work)
    thread.start()
    assert reached.wait(60)
    other = segmenter.embed(IMAGE)  # another thread is not held up
    assert calls[0] == 20
    assert not result
    go.set()
    thread.join(60)
    assert calls[0] > 100
    for name, tensor in plain.features.items():
        assert torch.equal(result[0].features[name], tensor)
        assert torch.equal(other.features[name], tensor)


def test_an_encoding_can_be_given_up_and_the_network_is_as_before(segmenter):
    plain = segmenter.embed(IMAGE)
    calls = [0]

    def wait() -> None:
        calls[0] += 1
        if calls[0] == 30:
            raise Cancelled("another image is wanted")

    with pytest.raises(Cancelled), pausing(wait):
        segmenter.embed(IMAGE)
    again = segmenter.embed(IMAGE)
    assert calls[0] == 30, "outside of the block nothing is asked"
    assert torch.equal(again.features["image_embed"], plain.features["image_embed"])
