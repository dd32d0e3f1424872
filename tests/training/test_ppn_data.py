"""The images that a prompt predictor learns from."""

import numpy as np
import pytest

from napari_usgseg.errors import DatasetError
from napari_usgseg.io.datasets import read_dataset
from napari_usgseg.io.labels import write_labels
from napari_usgseg.io.phantoms import write_phantom_dataset
from napari_usgseg.training.ppn_data import load_items


def test_a_mask_of_another_size_is_named_before_anything_is_learnt(tmp_path):
    dataset = read_dataset(write_phantom_dataset(tmp_path / "data", 2, 0, size_hw=(96, 128)))
    assert [image.labels.shape for image in load_items(dataset.items)] == [(96, 128)] * 2
    wrong = dataset.items[1].mask_path
    write_labels(wrong, np.ones((48, 64), np.uint8), overwrite=True)
    with pytest.raises(DatasetError, match=rf"{wrong.name}: is 64x48 pixels, its image 128x96"):
        load_items(dataset.items)
