"""Files of scanners in napari: dropped, opened by its menu, or by a script."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from npe2 import PluginManager, PluginManifest
from PIL import Image
from pydicom.pixels import apply_color_lut

import napari_usgseg
from napari_usgseg.core.errors import ImageReadError
from napari_usgseg.gui.readers import get_reader
from tests.support.dicom import region, write_dicom
from tests.support.videos import decoded, write_video

SHARED = Path(os.environ.get("USGSEG_DATA", "absent")).parent
MANIFEST = Path(napari_usgseg.__file__).parent / "napari.yaml"
PLUGIN = "napari-usgseg"
LOOP = np.random.default_rng(0).integers(0, 255, (5, 24, 32), np.uint8)


@pytest.fixture(autouse=True)
def installed(viewer):
    """The plugin is known to napari, also where the package is not installed."""
    manager = PluginManager.instance()
    if PLUGIN not in {manifest.name for manifest in manager.iter_manifests()}:
        manager.register(PluginManifest.from_file(MANIFEST))


def test_dicom_video_and_nifti_are_layers_with_scale_and_unit(viewer, tmp_path):
    more = {"SequenceOfUltrasoundRegions": [region((0, 0, 31, 23), deltas=(0.01, 0.02))]}
    (loop,) = viewer.open(write_dicom(tmp_path / "IM0001", LOOP, **more), plugin=PLUGIN)
    assert loop.data.shape == (5, 24, 32)
    assert tuple(loop.scale) == pytest.approx((1, 0.2, 0.1))
    assert [str(unit) for unit in loop.units] == ["pixel", "millimeter", "millimeter"]
    np.testing.assert_array_equal(np.asarray(loop.data[3]), LOOP[3])
    viewer.layers.clear()
    video = write_video(tmp_path / "a.mp4", count=6)
    (layer,) = viewer.open(video, plugin=PLUGIN)
    assert (layer.data.shape, layer.rgb) == ((6, 64, 96, 3), True)
    np.testing.assert_array_equal(np.asarray(layer.data[4]), decoded(video)[4])
    viewer.layers.clear()
    nibabel.save(nibabel.Nifti1Image(LOOP.T, np.diag([-0.3, -0.4, 1, 1])), tmp_path / "a.nii.gz")
    (layer,) = viewer.open(tmp_path / "a.nii.gz", plugin=PLUGIN)
    assert tuple(layer.scale) == pytest.approx((1, 0.4, 0.3))
    np.testing.assert_array_equal(np.asarray(layer.data[2]), LOOP[2])


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real files are not here")
@pytest.mark.parametrize("name", ["dicom/neck_2.dcm", "dicom/US-PAL-8-10x-echo"])
def test_a_real_file_shows_what_pydicom_reads(viewer, name):
    (layer,) = viewer.open(SHARED / name, plugin=PLUGIN)
    data = pydicom.dcmread(SHARED / name)
    expected = (apply_color_lut(data.pixel_array, data) >> 8).astype(np.uint8)
    np.testing.assert_array_equal(np.asarray(layer.data), expected)
    viewer.dims.set_current_step(0, 3)
    if "neck" in name:
        assert tuple(layer.scale) == pytest.approx((0.0702905, 0.0702905), rel=1e-4)


def test_a_file_of_another_kind_is_left_to_others(tmp_path):
    (tmp_path / "notes").write_text("no picture at all")
    Image.new("L", (9, 9)).save(tmp_path / "a.mp4", "PNG")
    for name in ("notes", "a.mp4", "absent"):
        assert get_reader(str(tmp_path / name)) is None
    assert get_reader([str(tmp_path / "notes")]) is None


def test_a_file_is_known_by_its_first_bytes_and_opened_when_it_is_read(tmp_path):
    (tmp_path / "a.dcm").write_bytes(bytes(128) + b"DICM")
    read = get_reader(str(tmp_path / "a.dcm"))
    assert read is not None
    with pytest.raises(ImageReadError, match=r"a\.dcm: .*without a picture|damaged"):
        read(str(tmp_path / "a.dcm"))


def test_names_without_a_suffix_are_ours_and_images_are_not(tmp_path):
    manager = PluginManager()
    manager.register(PluginManifest.from_file(MANIFEST))
    for name, ours in (
        ("IM0001", True), ("A", True), ("1.2.840.113619.2", False), ("1.2.840.113619", True),
        ("a.png", False), ("a.tif", False), ("a.DCM", True), ("a.nii.gz", True),
    ):  # fmt: skip
        readers = manager.iter_compatible_readers([str(tmp_path / name)])
        assert (PLUGIN in {reader.plugin_name for reader in readers}) is ours, name
