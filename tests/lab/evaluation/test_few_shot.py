"""Baselines from a few images: matching of features, and the table of all ways."""

import numpy as np
import pytest

from napari_usgseg.core.metrics import dice
from napari_usgseg.io.datasets import read_dataset
from napari_usgseg.lab.evaluation.few_shot import few_shot
from napari_usgseg.lab.evaluation.matching import matcher
from napari_usgseg.phantoms.phantom import make_phantom, write_phantom_dataset


@pytest.mark.parametrize("side", [3, None])
def test_matcher_finds_a_mask_in_its_own_image_and_takes_one_below_a_cell(side, nano_segmenter):
    phantom = make_phantom(2, (240, 320), "breast")
    embedding, mask = nano_segmenter.embed(phantom.image), phantom.labels == 1
    if side is not None:
        mask = np.zeros((240, 320), bool)
        mask[100 : 100 + side, 100 : 100 + side] = True
    found = matcher(nano_segmenter, [(embedding, mask)], embedding)
    assert found.shape == mask.shape
    if side is None:
        assert dice(mask, found) > 0.6


def test_every_way_is_measured_on_images_that_it_did_not_learn_from(nano_segmenter, tmp_path):
    write_phantom_dataset(tmp_path / "breast", 4, seed=5)
    dataset = read_dataset(tmp_path / "breast")
    ways = ("light head", "PerSAM", "Matcher")
    told = []
    shots = few_shot(dataset, nano_segmenter, (1, 2), 0, 2, ways, told.append)
    assert [(s.count, s.way) for s in shots] == [(n, w) for n in (1, 2) for w in ways]
    assert shots == told
    assert all(0 <= shot.mean <= 1 and shot.cpu_seconds >= 0 for shot in shots)
    assert max(shot.mean for shot in shots) > 0.3
