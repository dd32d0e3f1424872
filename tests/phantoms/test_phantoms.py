from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_usgseg.core.errors import LabelWriteError
from napari_usgseg.core.geometry import components
from napari_usgseg.io.datasets import read_dataset
from napari_usgseg.io.images import read_image
from napari_usgseg.io.labels import read_labels
from napari_usgseg.phantoms.phantom import (
    ALL_KINDS,
    KINDS,
    make_phantom,
    write_phantom_dataset,
)
from napari_usgseg.phantoms.scene import Scene, b_mode, fan_scan, linear_scan


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 2**31),
    st.tuples(st.integers(32, 200), st.integers(32, 200)),
    st.sampled_from([None, *ALL_KINDS]),
)
def test_a_phantom_knows_every_object_in_it(seed, size_hw, kind):
    phantom = make_phantom(seed, size_hw, kind)
    assert phantom.image.shape == (*size_hw, 3)
    assert phantom.image.dtype == np.uint8
    assert phantom.labels.shape == phantom.instances.shape == size_hw
    assert (phantom.labels == 1).any()
    assert phantom.phrase == phantom.names[1]
    assert kind in (None, phantom.kind)
    assert set(np.unique(phantom.labels)) <= {0, *phantom.names}
    assert np.array_equal(phantom.labels > 0, phantom.instances > 0)
    for number in range(1, int(phantom.instances.max()) + 1):
        inside = phantom.instances == number
        assert len(list(components(inside))) == 1
        assert len(np.unique(phantom.labels[inside])) == 1


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_the_same_seed_gives_the_same_phantom_and_another_seed_another(kind):
    first, again, other = (make_phantom(seed, (96, 128), kind) for seed in (3, 3, 4))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.instances, again.instances)
    assert not np.array_equal(first.image, other.image)


def test_the_kinds_are_named_as_a_sonographer_would_name_them():
    phrases = {kind: make_phantom(0, (64, 64), kind).phrase for kind in KINDS}
    assert phrases["breast"] == "breast tumor"
    assert phrases["thyroid"] == "thyroid nodule"
    assert phrases["fetal-head"] == "fetal head"
    assert phrases["cysts-and-vessels"] == "cyst"


def test_cysts_are_darker_than_what_is_around_them():
    darker = []
    for seed in range(12):
        phantom = make_phantom(seed, (192, 256), "cysts-and-vessels")
        tissue = (phantom.labels == 0) & (phantom.image[..., 0] > 0)
        cyst = phantom.image[phantom.labels == 1].mean()
        darker.append(cyst < 0.6 * phantom.image[tissue].mean())
    assert np.mean(darker) > 0.9


def test_a_seed_alone_draws_none_of_the_organs_that_are_asked_for_by_name():
    assert {make_phantom(seed, (48, 64)).kind for seed in range(40)} == set(KINDS)
    assert len(ALL_KINDS) > len(KINDS)


@pytest.mark.parametrize("kind", ["bone-surface", "back"])
def test_a_bone_surface_is_a_thin_bright_line_over_a_shadow(kind):
    told = []
    for seed in range(6):
        phantom = make_phantom(seed, (192, 256), kind)
        value = next(v for v, name in phantom.names.items() if name == "bone surface")
        band, grey = phantom.labels == value, phantom.image[..., 0].astype(float)
        if band.any():
            behind = np.zeros_like(band)
            for row, column in zip(*np.nonzero(band), strict=True):
                behind[row + 12 : row + 40, column] = True
            behind &= ~band & phantom.visible
            told.append(grey[band].mean() > 1.5 * grey[behind].mean())
            assert band.sum(0).max() < 40
    assert np.mean(told) > 0.8


def scan_and_maps(echo=0.0):
    scan = linear_scan((160, 160), (0, 0, 0, 0))
    maps = [np.full((160, 160), value, np.float32) for value in (echo, 0.0, 0.0)]
    return scan, maps


def render(scan, maps, seed=0, **changes):
    options = {
        "pulse": 1.0,
        "beam_width": 1.6,
        "gain_db": 25.0,
        "noise_db": -60.0,
        "looks": 1,
        **changes,
    }
    return b_mode(scan, *maps, rng=np.random.default_rng(seed), **options).astype(float)


def decibels(grey):
    return (grey / 255 - 1) * 55 + 25


def test_speckle_of_one_look_is_rayleigh_distributed():
    """The envelope's mean is 1.91 times its deviation, as for fully developed speckle."""
    scan, maps = scan_and_maps()
    envelope = 10 ** (decibels(render(scan, maps, noise_db=-90.0)[40:100, 20:140]) / 20)
    assert envelope.mean() / envelope.std() == pytest.approx(1.91, abs=0.15)


def test_the_grey_level_follows_the_echogenicity_in_decibels():
    levels = [decibels(render(*scan_and_maps(echo))[40:90]).mean() for echo in (0.0, -10.0)]
    assert levels[0] - levels[1] == pytest.approx(10, abs=1)


def test_looks_from_more_angles_smooth_the_speckle():
    one, four = (render(*scan_and_maps(), looks=looks)[40:90].std() for looks in (1, 4))
    assert four < 0.65 * one


def test_speckle_is_wider_across_the_beam_than_along_it():
    grey = render(*scan_and_maps())[50:110]
    grey = grey - grey.mean()
    along = (grey[1:] * grey[:-1]).mean() / grey.var()
    across = (grey[:, 1:] * grey[:, :-1]).mean() / grey.var()
    assert across > along


def test_behind_bone_is_shadow_and_behind_fluid_enhancement():
    scan, (echo, loss, mirror) = scan_and_maps()
    loss[40:50, 20:60], loss[40:60, 100:140] = 3.0, -0.4
    grey = decibels(render(scan, (echo, loss, mirror)))
    beside = grey[80:120, 70:90].mean()
    assert beside - grey[80:120, 30:50].mean() == pytest.approx(30, abs=4)
    assert grey[80:120, 110:130].mean() - beside == pytest.approx(8, abs=2)


def test_a_fan_is_black_outside_and_its_depth_starts_at_the_probe():
    scan = fan_scan((120, 160), half_angle=0.6, radius=0.2)
    maps = [np.zeros((120, 160), np.float32)] * 3
    grey = render(scan, maps)
    assert not grey[~scan.visible].any()
    assert grey[scan.visible].mean() > 60
    assert not scan.visible[0, 0]
    assert not scan.visible[-1, 0]
    assert 0 <= scan.depth[scan.visible].min() < 1
    assert np.hypot(*scan.beam_yx)[scan.visible] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("size_hw", [(73, 32), (32, 300), (300, 32), (32, 32)])
def test_a_fan_shows_something_in_an_image_of_any_shape(size_hw):
    for half_angle, radius in ((0.45, 0.45), (0.8, 0.45), (0.8, 0.08)):
        assert fan_scan(size_hw, half_angle, radius).visible.mean() > 0.02
    for seed in range(6):
        assert make_phantom(seed, size_hw, "fetal-head").labels.any()


@pytest.mark.parametrize(
    ("size_hw", "kind", "cause"), [((31, 99), None, "too small"), ((99, 99), "x", "no phantom")]
)
def test_an_impossible_phantom_is_refused(size_hw, kind, cause):
    with pytest.raises(ValueError, match=cause):
        make_phantom(0, size_hw, kind)


def test_a_phantom_data_set_is_read_back_with_its_truth(tmp_path):
    folder = write_phantom_dataset(tmp_path / "a b", 3, seed=7, kind="nerve", size_hw=(96, 128))
    dataset = read_dataset(folder)
    assert (dataset.name, dataset.target) == ("phantoms-nerve", "nerve")
    assert dataset.labels == {1: "nerve", 2: "blood vessel"}
    assert len({item.group for item in dataset.items}) == 3
    for seed, item in enumerate(dataset.items, start=7):
        phantom = make_phantom(seed, (96, 128), "nerve")
        assert np.array_equal(read_image(item.image_path), phantom.image)
        assert np.array_equal(read_labels(item.mask_path), phantom.labels)


def test_a_phantom_data_set_is_not_written_over_another(tmp_path):
    write_phantom_dataset(tmp_path, 1, seed=0, size_hw=(64, 64))
    with pytest.raises(LabelWriteError, match="is there already"):
        write_phantom_dataset(tmp_path, 1, seed=1, size_hw=(64, 64))


def test_the_target_of_an_image_is_placed_even_where_everything_is_taken():
    scene = Scene(fan_scan((64, 64), 0.6, 0.2), np.random.default_rng(0))
    scene.placed.append((32.0, 32.0, 200.0, 200.0))
    row, column, _, _ = scene.place_surely(20, 20, (0.4, 0.5))
    assert scene.scan.visible[int(row), int(column)]
