"""Volumes: slices as viewers show them, of NIfTI, MetaImage and NRRD."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from napari_usgseg.core.errors import ImageReadError
from napari_usgseg.io.images import read_image, read_spacing
from napari_usgseg.io.labels import read_labels
from napari_usgseg.io.reading.files import open_frames

DICOM = Path(os.environ.get("USGSEG_DATA", "absent")).parent / "dicom"
samples = pytest.mark.skipif(not DICOM.is_dir(), reason="the real files of dicom/ are not here")
LPS = np.diag([-0.5, -0.25, 1.0, 1.0])
"""An affine whose columns run to the left and rows to the back, as ITK writes what it has."""


def values(*shape: int, dtype=np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def nifti(path, array, affine=LPS, units="mm", codes=(1, 1)):
    image = nibabel.Nifti1Image(array, affine)
    image.header.set_xyzt_units(units)
    image.set_qform(affine, codes[0])
    image.set_sform(affine, codes[1])
    nibabel.save(image, path)
    return path


@samples
@pytest.mark.parametrize("case", ["hip_56568", "hip_72628"])
def test_the_labels_of_a_real_loop_lie_on_its_frames(case):
    path = DICOM / f"{case}_labels.nii.gz"
    stored = np.asarray(nibabel.load(path).dataobj)
    with open_frames(path) as labels, open_frames(DICOM / f"{case}.dcm") as frames:
        assert len(labels) == len(frames)
        assert labels.sizes[0] == frames.sizes[0]
        assert labels.about.spacing_mm is None  # 1.0 stands for nothing
        for index in range(len(labels)):
            np.testing.assert_array_equal(labels.frame(index), stored[:, :, index].T)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32])
def test_slices_of_nifti_are_nibabels_own(tmp_path, suffix, dtype):
    array = values(30, 20, 4, dtype=dtype)
    path = nifti(tmp_path / f"a{suffix}", array)
    with open_frames(path) as frames:
        assert (len(frames), frames.sizes[0], frames.about.kind) == (4, (20, 30), "volume")
        for index in (3, 0):
            np.testing.assert_array_equal(frames.frame(index), array[:, :, index].T)
            assert frames.frame(index).dtype == dtype
        assert frames.about.spacing_mm == pytest.approx((0.25, 0.5))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_scaled_values_are_nibabels_own(tmp_path, suffix):
    array = np.random.default_rng(0).normal(size=(12, 10, 3))
    image = nibabel.Nifti1Image(array, LPS)
    image.set_data_dtype(np.int16)
    nibabel.save(image, tmp_path / f"a{suffix}")
    expected = nibabel.load(tmp_path / f"a{suffix}").get_fdata()
    with open_frames(tmp_path / f"a{suffix}") as frames:
        np.testing.assert_allclose(frames.frame(2), expected[:, :, 2].T)


@pytest.mark.parametrize("shape", [(30, 20), (30, 20, 1), (30, 20, 2, 3), (30, 20, 1, 5)])
def test_all_axes_but_two_are_frames(tmp_path, shape):
    array = values(*shape)
    with open_frames(nifti(tmp_path / "a.nii", array)) as frames:
        flat = array.reshape(*shape[:2], -1, order="F")
        assert len(frames) == flat.shape[2]
        for index in range(len(frames)):
            np.testing.assert_array_equal(frames.frame(index), flat[:, :, index].T)


@pytest.mark.parametrize("signs", [(-1, -1), (1, -1), (-1, 1), (1, 1)])
def test_slices_are_turned_as_viewers_show_them(tmp_path, signs):
    """ITK-SNAP and Slicer put the patient's left on the right and the back below."""
    array = values(30, 20, 2)
    path = nifti(tmp_path / "a.nii", array, np.diag([0.5 * signs[0], 0.5 * signs[1], 1, 1]))
    image = sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS")
    with open_frames(path) as frames:
        np.testing.assert_array_equal(frames.frame(1), sitk.GetArrayFromImage(image)[1])


def test_a_volume_that_does_not_say_how_it_lies_is_as_stored(tmp_path):
    array = values(30, 20, 2)
    path = nifti(tmp_path / "a.nii", array, np.eye(4), codes=(0, 0))
    with open_frames(path) as frames:
        np.testing.assert_array_equal(frames.frame(1), array[:, :, 1].T)
        assert frames.about.spacing_mm is None


def test_colours_of_nifti(tmp_path):
    array = values(30, 20, 2, 3)
    rgb = array.copy().view([("R", "u1"), ("G", "u1"), ("B", "u1")]).reshape(30, 20, 2)
    path = nifti(tmp_path / "a.nii.gz", rgb)
    np.testing.assert_array_equal(read_image(path, 1), array[:, :, 1].swapaxes(0, 1))


def test_the_unit_of_a_spacing_counts(tmp_path):
    affine = np.diag([-300.0, -200.0, 1, 1])
    path = nifti(tmp_path / "a.nii", values(9, 8, 1), affine, units="micron")
    assert read_spacing(path) == pytest.approx((0.2, 0.3))


def test_a_label_map_in_nifti_is_one(tmp_path):
    array = (values(30, 20) % 3).astype(np.uint16)
    path = nifti(tmp_path / "a.nii.gz", array)
    np.testing.assert_array_equal(read_labels(path), array.T)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd", ".nhdr"])
@pytest.mark.parametrize("shape", [(3, 20, 30), (20, 30)])
def test_slices_of_metaimage_and_nrrd_are_simpleitks_own(tmp_path, suffix, packed, shape):
    array = values(*shape, dtype=np.int16)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([0.3, 0.2, 1.0][: len(shape)])
    sitk.WriteImage(image, str(tmp_path / f"a{suffix}"), useCompression=packed)
    with open_frames(tmp_path / f"a{suffix}") as frames:
        expected = array.reshape(-1, 20, 30)
        assert len(frames) == len(expected)
        for index in range(len(expected)):
            np.testing.assert_array_equal(frames.frame(index), expected[index])
        assert frames.about.spacing_mm == pytest.approx((0.2, 0.3))


def test_colours_of_metaimage(tmp_path):
    array = values(2, 20, 30, 3)
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=True), str(tmp_path / "a.mha"))
    np.testing.assert_array_equal(read_image(tmp_path / "a.mha", 1), array[1])
    assert read_spacing(tmp_path / "a.mha") is None


META = "ObjectType = Image\nNDims = 2\nDimSize = 30 20\nElementType = MET_UCHAR\n"
NRRD = "NRRD0004\ntype: uchar\ndimension: 2\nsizes: 30 20\nencoding: raw\n"
REMARK = "# data file: no.raw\n"


@pytest.fixture
def secret(tmp_path) -> Path:
    """A folder beside which lies a file that nobody asked for."""
    (tmp_path / "secret.raw").write_bytes(bytes([7]) * 600)
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "ok.raw").write_bytes(bytes([1]) * 600)
    return folder


@pytest.mark.parametrize("name", ["../secret.raw", "/etc/hostname", "LIST", "x%03d.raw 1 3 1"])
@pytest.mark.parametrize("kind", ["mhd", "nhdr"])
def test_a_header_opens_no_file_elsewhere(secret, name, kind):
    text = f"{META}ElementDataFile = {name}\n"
    if kind == "nhdr":
        text = f"{NRRD}data file: {name}\n\n"
    (secret / f"a.{kind}").write_text(text)
    with pytest.raises(ImageReadError, match=r"in other files than one beside it"):
        read_image(secret / f"a.{kind}")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.mhd", f"{META}ElementDataFile: ../secret.raw\n"),
        ("a.mhd", f"{META.replace(' =', ':')}ElementDataFile:../secret.raw\n"),
        ("a.mhd", f"{META.rstrip()} ElementDataFile = ../secret.raw\n"),
        ("a.mhd", f"Comment = ElementDataFile = ok.raw\n{META}ElementDataFile = ../secret.raw\n"),
        ("a.mhd", f"{META}Comment = {'x' * 20000}\nElementDataFile = ../secret.raw\n"),
        ("a.mhd", f"{META}Comment = {'x' * 2_000_000}\nElementDataFile = ../secret.raw\n"),
        ("a.mhd", f"{META}ElementDataFile = ok.raw\nElementDataFile = ../secret.raw\n"),
        ("a.mhd", f"{META}ElementDataFile = ../secret.raw\r".replace("\n", "\r")),
        ("a.nhdr", f"{NRRD}# data file: ok.raw\ndata file: ../secret.raw\n\n"),
        ("a.nhdr", f"{NRRD}{REMARK * 2000}data file: ../secret.raw\n\n"),
        ("a.nhdr", f"{NRRD}{REMARK * 200_000}data file: ../secret.raw\n\n"),
        ("a.nhdr", f"{NRRD}data file: ../secret.raw\n\n".replace("\n", "\r")),
        ("a.nhdr", f"{NRRD}data file: ../secret.raw\n\n".replace("\n", "\r\n")),
        ("a.nhdr", f"{NRRD}datafile: ../secret.raw\n"),
        ("a.nhdr", f"{NRRD}data file: ok.raw\ndata file: ../secret.raw\n\n"),
    ],
    ids=range(15),
)
def test_no_way_to_write_a_header_opens_a_file_elsewhere(secret, name, text):
    (secret / name).write_bytes(text.encode())
    with pytest.raises(ImageReadError, match=r"its values are in other|not clear|does not end|no"):
        read_image(secret / name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.mhd", f"{META}ElementDataFile = ok.raw\n"),
        ("a.mhd", f"{META.replace(' =', ':')}ElementDataFile: ok.raw"),
        ("a.mhd", f"Comment = {'x' * 200}\n{META}ElementDataFile = ok.raw\n"),
        ("a.nhdr", f"{NRRD}{REMARK * 2000}data file: ok.raw\n"),
        ("a.nhdr", f"{NRRD}data file: ok.raw\n\n".replace("\n", "\r\n")),
    ],
    ids=range(5),
)
def test_a_long_header_and_a_file_beside_it_are_read(secret, name, text):
    (secret / name).write_bytes(text.encode())
    assert read_image(secret / name)[..., 0].min() == 1


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_what_can_be_read_all_at_once_only_is_refused_where_it_is_too_much(tmp_path, name):
    image = sitk.GetImageFromArray(values(3, 20, 30))
    sitk.WriteImage(image, str(tmp_path / name), useCompression=True)
    data = (tmp_path / name).read_bytes()
    data = data.replace(b"30 20 3", b"3000 2000 300", 1)
    (tmp_path / name).write_bytes(data + bytes(2_000_000))
    with pytest.raises(ImageReadError, match=r"read all at once only.*save it as NIfTI"):
        open_frames(tmp_path / name)


def test_more_slices_than_anybody_labels_are_refused(tmp_path):
    path = nifti(tmp_path / "a.nii", values(2, 2, 4))
    data = bytearray(path.read_bytes())
    data[40:50] = np.array([4, 2, 2, 1000, 1000], "<i2").tobytes()
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(bytes(data) + bytes(4_000_000)))
    with pytest.raises(ImageReadError, match="200,000 frames"):
        open_frames(path)


# What is broken


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


def huge_nifti(path):
    data = bytearray(path.read_bytes())
    data[42:48] = np.array([30000, 30000, 2], "<i2").tobytes()
    path.write_bytes(data)


def packed_bomb(path):
    data = bytearray(path.read_bytes())
    data[42:48] = np.array([9000, 9000, 20], "<i2").tobytes()
    path.write_bytes(gzip.compress(bytes(data)))


@pytest.mark.parametrize("breaking", [cut, huge_nifti, packed_bomb])
def test_a_broken_nifti_is_a_clear_error(tmp_path, breaking):
    path = nifti(tmp_path / "a.nii", values(30, 20, 2))
    breaking(path)
    with pytest.raises(ImageReadError, match=r"a\.nii: "):
        read_image(path, 1)


def test_a_packed_nifti_that_was_cut_off_is_a_clear_error(tmp_path):
    path = nifti(tmp_path / "a.nii.gz", values(30, 20, 5))
    cut(path)
    with pytest.raises(ImageReadError, match="truncated"):
        read_image(path, 4)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_broken_metaimage_or_nrrd_is_a_clear_error(tmp_path, suffix, packed):
    path = tmp_path / f"a{suffix}"
    image = sitk.GetImageFromArray(values(3, 40, 50))
    sitk.WriteImage(image, str(path), useCompression=packed)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageReadError, match="truncated"):
        read_image(path, 2)
    path.write_bytes(data.replace(b"50 40 3", b"50000 40000 30000"))
    with pytest.raises(ImageReadError):
        read_image(path)
