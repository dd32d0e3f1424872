"""A layer of labels is saved by napari through this plugin, and read by others as it was."""

from __future__ import annotations

from pathlib import Path

import napari.layers
import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from napari_usgseg.core.errors import LabelWriteError
from napari_usgseg.gui.canvas.layers import STEP
from napari_usgseg.gui.writers import write_nifti, write_png
from napari_usgseg.io.formats import read_labels_of
from napari_usgseg.io.labels import read_labels

pytestmark = pytest.mark.gui


def labels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1500, shape)


def saved(layer: napari.layers.Labels, path: Path) -> list[str]:
    """As File > Save Selected Layers does."""
    return layer.save(str(path), plugin="napari-usgseg")


@pytest.fixture(autouse=True)
def this_plugin():
    """The manifest of this tree, whatever is installed."""
    from npe2 import PluginManager, PluginManifest

    import napari_usgseg

    manager = PluginManager.instance()
    if "napari-usgseg" not in manager._manifests:
        place = Path(napari_usgseg.__file__).parent / "napari.yaml"
        manager.register(PluginManifest.from_file(place))


def test_a_label_map_has_every_value(tmp_path):
    layer = napari.layers.Labels(labels(20, 30))
    assert saved(layer, tmp_path / "a.png") == [str(tmp_path / "a.png")]
    assert np.array_equal(read_labels(tmp_path / "a.png"), layer.data)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("shape", [(20, 30), (4, 20, 30)])
def test_a_volume_has_every_value_and_the_scale(tmp_path, name, shape):
    scale, units = (2.0, 0.25, 0.5)[-len(shape):], ("mm",) * len(shape)  # fmt: skip
    layer = napari.layers.Labels(labels(*shape), scale=scale, units=units)
    assert saved(layer, tmp_path / name) == [str(tmp_path / name)]
    volume = nibabel.load(tmp_path / name)
    frames = layer.data.reshape(-1, 20, 30)
    assert np.array_equal(np.asarray(volume.dataobj).T, frames)
    assert volume.header.get_zooms()[:2] == pytest.approx((0.5, 0.25))
    assert volume.header.get_xyzt_units()[0] == "mm"
    if len(shape) == 3:
        assert volume.header.get_zooms()[2] == pytest.approx(2.0)
    read = sitk.ReadImage(str(tmp_path / name))
    assert np.array_equal(sitk.GetArrayFromImage(read), frames)
    assert read.GetSpacing()[:2] == pytest.approx((0.5, 0.25))
    _, found = read_labels_of(tmp_path / name)
    assert len(found.images) == len(frames)


@pytest.mark.parametrize(
    ("units", "zooms", "said"),
    [
        (("cm", "cm"), (3.0, 2.0), "mm"),
        (("pixel", "pixel"), (1.0, 1.0), "unknown"),
        (("mm", "cm"), (1.0, 1.0), "unknown"),
    ],
)
def test_a_scale_that_is_no_length_is_none(tmp_path, units, zooms, said):
    layer = napari.layers.Labels(labels(20, 30), scale=(0.2, 0.3), units=units)
    saved(layer, tmp_path / "a.nii")
    header = nibabel.load(tmp_path / "a.nii").header
    assert header.get_zooms()[:2] == pytest.approx(zooms)
    assert header.get_xyzt_units()[0] == said


def test_what_is_there_or_cannot_be_told_is_refused(tmp_path):
    place = tmp_path / "a.png"
    place.write_bytes(b"mine")
    for write, name in ((write_png, "a.png"), (write_nifti, "a.png")):
        with pytest.raises(LabelWriteError):
            write(str(tmp_path / name), labels(20, 30), {"scale": (1, 1)})
    assert place.read_bytes() == b"mine"
    with pytest.raises(LabelWriteError, match=r"a layer of 3 axes.*save it as \.nii\.gz"):
        write_png(str(tmp_path / "b.png"), labels(2, 20, 30), {"scale": (1, 1, 1)})
    for change in ({"rotate": 20}, {"shear": [0.3]}, {"affine": np.diag([2, 1, 1])}):
        data, about, _ = napari.layers.Labels(labels(20, 30), **change).as_layer_data_tuple()
        with pytest.raises(LabelWriteError, match="turned, skewed or has an affine"):
            write_nifti(str(tmp_path / "b.nii"), data, about)
    with pytest.raises(LabelWriteError, match="do not fit"):
        write_nifti(str(tmp_path / "b.nii"), labels(20, 30) - 5, {"scale": (1, 1)})


def test_a_layer_that_shows_a_smaller_copy_of_its_labels_is_not_saved_as_if_it_were_all(tmp_path):
    layer = napari.layers.Labels(labels(20, 30), metadata={STEP: 4})
    for write, name in ((write_png, "a.png"), (write_nifti, "a.nii.gz")):
        with pytest.raises(LabelWriteError, match=r"each 4th pixel.*export them in the dock"):
            write(str(tmp_path / name), *layer.as_layer_data_tuple()[:2])
    assert not list(tmp_path.iterdir())
