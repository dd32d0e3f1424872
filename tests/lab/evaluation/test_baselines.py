from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_usgseg.core.errors import PromptError
from napari_usgseg.core.metrics import dice
from napari_usgseg.core.types import Prompts
from napari_usgseg.lab.evaluation.methods import BoxBlob, dark_blob


def cyst(x: int = 64, y: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """A dark disc in bright speckle under a black rim, and its mask."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:96, :128]
    mask = (rows - y) ** 2 + (columns - x) ** 2 < 15**2
    grey = np.where(mask, 25, 150) + rng.normal(0, 8, mask.shape)
    grey[:4] = grey[-4:] = 0
    return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2), mask


def test_a_dark_disc_in_the_middle_is_found_and_the_black_rim_is_not():
    image, mask = cyst()
    assert dice(mask, dark_blob(image)) > 0.9


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 255))
def test_an_image_of_one_grey_gives_nothing(height, width, grey):
    assert not dark_blob(np.full((height, width, 3), grey, np.uint8)).any()


def test_in_a_box_the_side_of_its_middle_is_taken():
    image, mask = cyst(30, 40)
    blob = BoxBlob()
    found = blob.predict(blob.embed(image), Prompts(box=np.array([12, 22, 48, 58], np.float32)))
    assert dice(mask, found.masks[0]) > 0.9
    bright = blob.predict(
        blob.embed(255 - image), Prompts(box=np.array([12, 22, 48, 58], np.float32))
    )
    assert dice(mask, bright.masks[0]) > 0.9


def test_it_asks_for_a_box():
    blob = BoxBlob()
    with pytest.raises(PromptError, match="box"):
        blob.predict(blob.embed(cyst()[0]), Prompts())
