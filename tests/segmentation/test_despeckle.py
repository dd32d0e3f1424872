from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_usgseg.annotation.settings import DESPECKLING
from napari_usgseg.phantoms.phantom import make_phantom
from napari_usgseg.segmentation import despeckle
from napari_usgseg.segmentation.despeckle import despeckled


@pytest.mark.parametrize("kind", DESPECKLING)
@pytest.mark.parametrize("shape", [(40, 50), (40, 50, 3), (1, 1), (3, 200, 3), (0, 5)])
def test_shape_and_type_stay(kind, shape):
    image = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    out = despeckled(image, kind)
    assert out.shape == image.shape
    assert out.dtype == np.uint8
    assert np.array_equal(out, image) == (kind == "off" or image.size < 2)


@pytest.mark.parametrize("kind", ["median", "lee"])
def test_speckle_is_less_and_edges_stay(kind):
    rng = np.random.default_rng(1)
    clean = np.full((120, 120), 60.0)
    clean[:, 60:] = 180.0
    speckled = np.clip(clean * rng.gamma(20, 1 / 20, clean.shape), 0, 255).astype(np.uint8)
    out = despeckled(speckled, kind).astype(float)
    assert out[20:100, 10:50].std() < 0.6 * speckled[20:100, 10:50].std()
    assert out[:, 70:110].mean() - out[:, 10:50].mean() > 110
    assert abs(out[:, 64:].mean() - speckled[:, 64:].mean()) < 4


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 40))
def test_an_image_in_strips_is_the_image_in_one(seed, rows):
    image = np.random.default_rng(seed).integers(0, 255, (37, 23)).astype(np.uint8)
    whole = despeckled(image, "lee")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(despeckle, "STRIP_ROWS", rows)
        in_strips = despeckled(image, "lee")
    assert np.array_equal(whole[4:-4], in_strips[4:-4])


def test_a_grey_image_in_three_channels_stays_grey_and_an_even_one_stays_as_it_is():
    phantom = make_phantom(0).image
    grey = np.repeat(phantom[..., :1], 3, axis=2)
    out = despeckled(grey, "lee")
    assert (out == out[..., :1]).all()
    even = np.full((20, 20), 77, np.uint8)
    assert (despeckled(even, "lee") == 77).all()
