"""Files with bytes changed at random: an image or a clear error, never anything else.

A longer run: ``USGSEG_FUZZ=5000 pytest tests/io/reading/test_fuzz.py``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_usgseg.core.errors import ImageReadError
from napari_usgseg.io.images import as_shown
from napari_usgseg.io.reading.files import open_frames
from tests.support.dicom import palette, region, write_dicom
from tests.support.videos import write_video

COUNT = int(os.environ.get("USGSEG_FUZZ", "12"))
fuzz = settings(
    max_examples=COUNT,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize="USGSEG_FUZZ" not in os.environ,
)
LOOP = np.arange(3 * 20 * 24, dtype=np.uint8).reshape(3, 20, 24)


def nifti(path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(LOOP.T, np.eye(4)), path.with_suffix(".nii"))
    path.with_suffix(".nii").rename(path)


def meta(path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(LOOP), str(path.with_suffix(".mha")))
    path.with_suffix(".mha").rename(path)


def nrrd(path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(LOOP), str(path.with_suffix(".nrrd")))
    path.with_suffix(".nrrd").rename(path)


def gif(path: Path) -> None:
    first, *rest = (Image.fromarray(frame) for frame in LOOP)
    first.save(path, "GIF", save_all=True, append_images=rest)


def apng(path: Path) -> None:
    first, *rest = (Image.fromarray(frame) for frame in LOOP)
    first.save(path, "PNG", save_all=True, append_images=rest)


def dicom(syntax: str = "1.2.840.10008.1.2.1", **more: object) -> Callable[[Path], object]:
    more = {"SequenceOfUltrasoundRegions": [region((0, 0, 9, 9))], **more}
    return lambda path: write_dicom(path, LOOP, syntax=syntax, **more)


KINDS: dict[str, Callable[[Path], object]] = {
    "plain": dicom(),
    "implicit": dicom("1.2.840.10008.1.2"),
    "jpeg": dicom("1.2.840.10008.1.2.4.50"),
    "jpegls": dicom("1.2.840.10008.1.2.4.80"),
    "jpeg2000": dicom("1.2.840.10008.1.2.4.90"),
    "palette": dicom(photometric="PALETTE COLOR", **palette(np.zeros((256, 3), int))),
    "mp4": lambda path: write_video(path, container="mp4", count=5, size=(32, 32)),
    "avi": lambda path: write_video(path, container="avi", codec="mpeg4", count=5, size=(32, 32)),
    "mkv": lambda path: write_video(path, container="matroska", count=5, size=(32, 32)),
    "gif": gif, "apng": apng, "nifti": nifti, "meta": meta, "nrrd": nrrd,
}  # fmt: skip


@pytest.fixture(scope="module", params=sorted(KINDS))
def whole(request, tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "a"
    KINDS[request.param](path)
    return path.read_bytes()


changes = st.lists(
    st.tuples(
        st.one_of(st.floats(0, 0.08), st.floats(0, 1)),  # headers above all
        st.one_of(st.binary(min_size=1, max_size=4), st.sampled_from([b"\xff" * 4, b"\0" * 4])),
    ),
    min_size=1,
    max_size=4,
)


@fuzz
@given(changes, st.one_of(st.just(1.0), st.floats(0, 1)))
def test_changed_bytes_give_an_image_or_a_clear_error(whole, tmp_path_factory, edits, kept):
    data = bytearray(whole)
    for place, new in edits:
        at = int(place * (len(data) - len(new)))
        data[at : at + len(new)] = new
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    path.write_bytes(data[: max(1, int(kept * len(data)))])
    try:
        with open_frames(path) as frames:
            for index in (0, len(frames) - 1):
                try:
                    shown = as_shown(path, frames.stored(index))
                except ImageReadError:
                    continue
                assert shown.shape == (*frames.sizes[index], 3)
    except ImageReadError:
        pass
