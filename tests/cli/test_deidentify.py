"""`usgseg deidentify`: what a person gets of an archive, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.segmentation.deidentified_archive import LOG_FILE, SHEET_FILE
from tests.support.dicom import write_dicom
from tests.support.screens import WHO, screen


@pytest.fixture
def scans(tmp_path) -> Path:
    folder = tmp_path / "scans" / "Zebedee"
    folder.mkdir(parents=True)
    return folder


def held(folder: Path) -> bytes:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return b"\n".join(str(path.relative_to(folder)).encode() + path.read_bytes() for path in files)


def test_an_archive_has_pseudonyms_for_names_a_log_and_a_sheet(usgseg, scans, tmp_path):
    write_dicom(scans / "MRN90210.dcm", screen(), **WHO)
    write_dicom(scans / "IM2", screen()[:1], **WHO)
    (scans / "notes.txt").write_text("Zebedee")
    before = held(scans)
    out = tmp_path / "out"
    outcome = usgseg("deidentify", scans.parent, "--out", out)
    assert (outcome.code, outcome.err) == (0, "")
    assert "2 written, 0 failed" in outcome.out
    assert held(scans) == before
    files = sorted(out.rglob("*.dcm"))
    assert len(files) == 2
    assert files[0].parent == files[1].parent  # one patient, one study
    assert [part.partition("-")[0] for part in files[0].relative_to(out).parts] == [
        "patient", "study", "image",
    ]  # fmt: skip
    log = json.loads((out / LOG_FILE).read_text())
    assert set(log["files"]) == {path.relative_to(out).as_posix() for path in files}
    for entry in log["files"].values():
        assert entry["by"] == "sector"
        assert entry["text_outside_now_black"] >= 1
        assert entry["text_inside"] == 0
    found = held(out).replace(b"\0", b"").lower()
    for word in (b"zebedee", b"maria", b"mrn90210", b"19870605", b"zebhospital", b"1.2.840.99.7"):
        assert word not in found
    with Image.open(tmp_path / "out-check" / SHEET_FILE) as sheet:
        assert sheet.width > 600


def test_what_is_not_certain_is_refused_and_the_others_are_done(usgseg, scans, tmp_path):
    noise = np.random.default_rng(0).integers(0, 2, (1, 90, 120)).astype(np.uint8)
    noise[:, 40:44, 50:54] = 255
    write_dicom(scans / "odd.dcm", noise * 0 + 3, **WHO)
    write_dicom(scans / "good.dcm", screen(), **WHO)
    Image.new("L", (30, 20)).save(scans / "a.png")
    outcome = usgseg("deidentify", scans, "--out", tmp_path / "out")
    assert outcome.code == 3
    assert "odd.dcm: what is ultrasound in it is not certain; say where it is" in outcome.err
    assert "a.png: is no DICOM" in outcome.err
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 1
    log = json.loads((tmp_path / "out" / LOG_FILE).read_text())
    assert log["failed"] == 2
