from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_usgseg.core.errors import ImageReadError
from napari_usgseg.lab.public_datasets.nifti import is_nifti, read_nifti

CODES = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "i1": 256, "u2": 512}


def write(path, values, order="<", spacing=(0.5, 0.5, 2.0), slope=0.0, inter=0.0):
    """By the NIfTI-1.1 standard, with a header of 352 bytes."""
    head = bytearray(352)
    struct.pack_into(f"{order}i", head, 0, 348)
    struct.pack_into(f"{order}8h", head, 40, values.ndim, *values.shape, *[1] * (7 - values.ndim))
    struct.pack_into(f"{order}hh", head, 70, CODES[values.dtype.str[1:]], 8)
    struct.pack_into(f"{order}8f", head, 76, 1, *spacing, 0, 0, 0, 0)
    struct.pack_into(f"{order}3f", head, 108, 352, slope, inter)
    head[344:348] = b"n+1\0"
    data = bytes(head) + values.astype(values.dtype.newbyteorder(order)).tobytes(order="F")
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(sorted(CODES)), st.sampled_from("<>"), st.booleans(),
    st.lists(st.integers(1, 6), min_size=2, max_size=4), st.integers(0, 99),
)  # fmt: skip
def test_values_come_back_from_every_type_byte_order_and_shape(
    tmp_path_factory, code, order, packed, shape, seed
):
    values = (np.random.default_rng(seed).random(shape) * 100).astype(code)
    folder = tmp_path_factory.mktemp("volume")
    volume = read_nifti(write(folder / ("v.nii.gz" if packed else "v.nii"), values, order))
    assert volume.values.shape == tuple(shape + [1] * (3 - len(shape)))
    assert (volume.values.reshape(shape) == values).all()


def test_a_slice_has_rows_along_y_and_columns_along_x(tmp_path):
    values = np.zeros((7, 5, 3), np.uint8)
    values[6, 1, 2] = 9
    volume = read_nifti(write(tmp_path / "v.nii", values))
    assert volume.slices == 3
    assert volume.image(2).shape == (5, 7)
    assert volume.image(2)[1, 6] == 9
    assert volume.pixel_size_mm == (0.5, 0.5)


def test_the_channel_of_a_volume_of_several_is_taken(tmp_path):
    values = np.zeros((4, 4, 2, 6), np.uint8)
    values[..., 5] = 1
    volume = read_nifti(write(tmp_path / "v.nii", values))
    assert volume.image(0, 5).all()
    assert not volume.image(0, 0).any()


def test_stored_numbers_are_scaled_as_the_header_says(tmp_path):
    path = write(tmp_path / "v.nii", np.full((2, 2, 2), 10, "i2"), slope=0.5, inter=1)
    assert (read_nifti(path).values == 6).all()


@pytest.mark.parametrize(
    ("spacing", "size"), [((1, 2, 3), (2, 1)), ((0, 2, 3), None), ((-1, 2, 3), None)]
)
def test_the_size_of_pixels_is_that_of_a_row_and_of_a_column(tmp_path, spacing, size):
    path = write(tmp_path / "v.nii", np.zeros((2, 2, 2), "u1"), spacing=spacing)
    assert read_nifti(path).pixel_size_mm == size


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: data[:360], "truncated or damaged"),
        (lambda data: b"", "no NIfTI-1 header"),
        (lambda data: b"\x89PNG" + data[4:], "no NIfTI-1 header"),
        (lambda data: data[:344] + b"ni1\0" + data[348:], "without its values"),
        (lambda data: data[:70] + struct.pack("<h", 32) + data[72:], "values of type 32"),
        (lambda data: data[:40] + struct.pack("<h", 1) + data[42:], "two to four axes"),
    ],
)
def test_a_file_that_is_no_volume_is_refused_by_name(tmp_path, damage, said):
    path = write(tmp_path / "v.nii", np.zeros((9, 9, 3), "u1"))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ImageReadError, match=said) as error:
        read_nifti(path)
    assert error.value.path == path


def test_a_missing_and_a_torn_packed_file_are_refused(tmp_path):
    with pytest.raises(ImageReadError, match="no such file"):
        read_nifti(tmp_path / "none.nii")
    path = write(tmp_path / "v.nii.gz", np.zeros((9, 9, 3), "u1"))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ImageReadError, match="damaged"):
        read_nifti(path)


def test_volumes_are_known_by_name():
    assert is_nifti("a/b.NII.GZ")
    assert is_nifti("b.nii")
    assert not is_nifti("b.gz")
