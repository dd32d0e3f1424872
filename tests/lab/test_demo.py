from __future__ import annotations

import numpy as np

from napari_usgseg.io.datasets import read_dataset
from napari_usgseg.io.labels import read_labels
from napari_usgseg.io.outputs import OutputFolder
from napari_usgseg.lab.demo import correct, run_demo
from napari_usgseg.segmentation.propose import Proposal, Proposals


def _found(embedding, mask, segmenter):
    box = np.array([0, 0, 9, 9], np.float32)
    return Proposals((Proposal(mask, box, 0.9, "cyst", 0.9),), (), embedding)


def test_a_missed_object_is_started_by_a_positive_click(plain_segmenter, image):
    truth = np.zeros((60, 80), bool)
    truth[20:45, 30:55] = True
    found = Proposals((), (), plain_segmenter.embed(image))
    items, click = correct(plain_segmenter, found, truth)
    assert click is not None
    x, y, label = click
    assert label == 1
    assert truth[y, x]
    assert items[0].mask[y, x]


def test_an_excess_is_corrected_on_the_proposal_that_it_belongs_to(plain_segmenter, image):
    truth = np.zeros((60, 80), bool)
    truth[:10, :10] = True
    mask = truth.copy()
    mask[30:60, 30:60] = True
    found = _found(plain_segmenter.embed(image), mask, plain_segmenter)
    items, click = correct(plain_segmenter, found, truth)
    assert click is not None
    assert click[2] == 0
    assert len(items) == 1
    assert plain_segmenter.asked[-1].box is not None


def test_nothing_is_clicked_where_all_is_right(plain_segmenter, image):
    truth = np.zeros((60, 80), bool)
    truth[:10, :10] = True
    found = _found(plain_segmenter.embed(image), truth, plain_segmenter)
    items, click = correct(plain_segmenter, found, truth)
    assert click is None
    assert items is found.items


def test_the_demo_leaves_a_data_set_that_evaluate_reads(tmp_path, plain_segmenter, make_detector):
    steps = run_demo(plain_segmenter, make_detector(), OutputFolder(tmp_path), count=2, seed=5)
    dataset = read_dataset(tmp_path / "dataset")
    assert [item.item_id for item in dataset.items] == [step.image_id for step in steps]
    assert all(step.found == 0 and step.dice_text == 0 for step in steps)
    assert all(step.click is not None and step.dice_click > 0 for step in steps)
    for item in dataset.items:
        assert read_labels(item.mask_path).any()
    assert len(list((tmp_path / "overlays").glob("*.png"))) == 4
