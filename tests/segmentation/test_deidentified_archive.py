"""Archives without who the patients are: what a person gets, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from napari_usgseg.core.errors import LabelWriteError
from napari_usgseg.io.reading.dicom import DicomFrames
from napari_usgseg.phantoms.phantom import make_phantom
from napari_usgseg.segmentation import deidentified_archive as archive
from napari_usgseg.segmentation.deidentified_archive import deidentify_files
from tests.support.dicom import region, write_dicom
from tests.support.screens import WHO, screen


@pytest.fixture
def scans(tmp_path) -> Path:
    folder = tmp_path / "scans" / "Zebedee"
    folder.mkdir(parents=True)
    return folder


def test_the_text_beside_the_sector_is_black_and_the_tissue_the_same(scans, tmp_path):
    path = write_dicom(scans / "a.dcm", frames := screen(), **WHO)
    (result,) = deidentify_files([path], tmp_path / "out", tmp_path / "check")
    with DicomFrames(result.target) as new:
        shown = new.frame(1)
    assert shown[50:90, :190].max() == 0
    assert frames[1][50:90, :190].max() == 255
    phantom = np.zeros(shown.shape, bool)
    phantom[30:-30, 200:-10] = make_phantom(5).visible
    same = shown[phantom] == frames[1][phantom]
    assert same.mean() > 0.98
    assert pydicom.dcmread(result.target).BurnedInAnnotation == "NO"


def test_text_on_the_tissue_is_said_and_black_where_that_is_asked_for(scans, tmp_path):
    path = write_dicom(scans / "a.dcm", screen(inside="ZEBEDEE"), **WHO)
    (said,) = deidentify_files([path], tmp_path / "one", tmp_path / "check")
    assert said.text_inside >= 1
    assert pydicom.dcmread(said.target).BurnedInAnnotation == "YES"
    (black,) = deidentify_files([path], tmp_path / "two", tmp_path / "check2", black_text=True)
    with DicomFrames(said.target) as old, DicomFrames(black.target) as new:
        gone = (old.frame(0) == 255) & (new.frame(0) == 0)
    assert gone.sum() > 100
    assert pydicom.dcmread(black.target).BurnedInAnnotation == "NO"


def test_no_file_claims_to_be_without_text_whose_frames_were_not_all_looked_at(
    scans, tmp_path, monkeypatch
):
    one = screen()[:1]
    frames = np.concatenate([np.repeat(one, 20, 0), screen(inside="ZEBEDEE")[:1], one])
    path = write_dicom(scans / "a.dcm", frames, **WHO)
    (every,) = deidentify_files([path], tmp_path / "every", tmp_path / "check")
    assert pydicom.dcmread(every.target).BurnedInAnnotation == "YES"
    monkeypatch.setattr(archive, "_READ", 8)
    (some,) = deidentify_files([path], tmp_path / "some", tmp_path / "check2")
    assert some.text_inside == 0, "the one frame with text is not among the eight"
    assert "BurnedInAnnotation" not in pydicom.dcmread(some.target)


def test_what_cannot_be_read_back_is_failed_and_never_in_the_archive(scans, tmp_path, monkeypatch):
    paths = [write_dicom(scans / f"{name}.dcm", screen(), **WHO) for name in "ab"]
    whole = archive.deidentified

    def torn(frames, *args, **kwargs) -> bytes:
        data = whole(frames, *args, **kwargs)
        return data[:400] if frames.path == paths[0] else data

    monkeypatch.setattr(archive, "deidentified", torn)
    first, second = deidentify_files(paths, tmp_path / "out", tmp_path / "check")
    assert (first.status, first.target, second.status) == ("failed", None, "done")
    assert [path.name for path in (tmp_path / "out").rglob("*.dcm")] == [second.target.name]


def test_the_scanner_s_regions_and_a_person_s_box_say_what_stays(scans, tmp_path):
    regions = {"SequenceOfUltrasoundRegions": [region((210, 40, 300, 120))]}
    path = write_dicom(scans / "a.dcm", screen(), **WHO, **regions)
    for box, by, place in (
        (None, "regions", np.s_[40:121, 210:301]),
        ((20, 10, 90, 70), "person", np.s_[10:70, 20:90]),
    ):
        out = tmp_path / by
        (result,) = deidentify_files([path], out, tmp_path / f"{by}-check", box=box)
        with DicomFrames(result.target) as new:
            shown = new.frame(0)
        inside = np.zeros(shown.shape, bool)
        inside[place] = True
        assert result.by == by
        np.testing.assert_array_equal(shown[inside], screen()[0][inside])
        assert shown[~inside].max() == 0


def test_nothing_of_a_person_s_is_written_over(scans, tmp_path):
    path = write_dicom(scans / "a.dcm", screen(), **WHO)
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(LabelWriteError, match="holds other files"):
        list(deidentify_files([path], out, tmp_path / "check"))
    with pytest.raises(LabelWriteError, match="holds"):
        list(deidentify_files([path], scans, tmp_path / "check", overwrite=True))
    assert (out / "mine.txt").read_text() == "mine"


def test_an_archive_is_made_again_where_that_is_asked_for(scans, tmp_path):
    path = write_dicom(scans / "a.dcm", screen(), **WHO)
    out, check = tmp_path / "out", tmp_path / "check"
    (first,) = deidentify_files([path], out, check)
    with pytest.raises(LabelWriteError, match="earlier result"):
        list(deidentify_files([path], out, check))
    (again,) = deidentify_files([path], out, check, overwrite=True)
    assert again.target == first.target
    assert len(list(out.rglob("*.dcm"))) == 1
