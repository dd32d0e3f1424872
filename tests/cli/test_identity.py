"""Who a patient is: no value of a DICOM attribute reaches a file, a log or a message of ours."""

from __future__ import annotations

import logging
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset

from napari_usgseg.core.notes import listening
from napari_usgseg.gui.readers import read_layers
from napari_usgseg.project.exchange import export_store
from napari_usgseg.project.project import Project
from tests.support.dicom import write_dicom
from tests.support.labelling import accept_labels

FRAMES = np.random.default_rng(0).integers(0, 255, (2, 20, 30), np.uint8)
TEXTS = ("LO", "SH", "LT", "ST", "UT", "UC", "AE", "CS", "UR")
NEEDED = (
    0x00080005, 0x00080016, 0x00080018, 0x00280004, 0x00281056, 0x00280301,
)  # fmt: skip
"""Without these, or with nonsense in them, there is no picture: character set, syntax, colours."""


def marked() -> tuple[Dataset, dict[str, str]]:
    """A data set with a value of its own in each attribute that may hold text, names, dates, times
    or identifiers, the attributes of PS3.15's basic profile among them; and value -> keyword.
    """
    data, marks = Dataset(), {}
    for number, (tag, (vr, _, _, _, keyword)) in enumerate(sorted(DicomDictionary.items())):
        if not keyword or tag in NEEDED or tag >> 16 in (0, 2, 4, 0x28, 0x7FE0):
            continue
        if vr in TEXTS:
            value = f"ZEB{tag:08X}"
        elif vr == "PN":
            value = f"ZEB{tag:08X}^MARIA"
        elif vr == "UI":
            value = f"1.2.840.99.{tag}"
        elif vr in ("DA", "DT"):
            value = f"{date(1901, 1, 1) + timedelta(number):%Y%m%d}"
        elif vr == "AS":
            continue  # "071Y" is part of many a hash
        else:
            continue
        data.add_new(tag, vr, value)
        marks[value.partition("^")[0]] = keyword
    return data, marks


def held(folder: Path) -> bytes:
    """Names and contents of all files of a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return b"\n".join(str(path.relative_to(folder)).encode() + path.read_bytes() for path in files)


@pytest.fixture(scope="module")
def patient() -> tuple[Dataset, dict[str, str]]:
    return marked()


def test_every_attribute_that_could_identify_is_marked(patient):
    _, marks = patient
    assert len(marks) > 1500
    for keyword in (
        "PatientName", "PatientID", "PatientBirthDate", "OtherPatientNames", "AccessionNumber",
        "InstitutionName", "InstitutionAddress", "StationName", "ReferringPhysicianName",
        "OperatorsName", "StudyDate", "StudyInstanceUID", "SeriesInstanceUID", "StudyID",
        "StudyDescription", "SeriesDescription", "ProtocolName", "DeviceSerialNumber",
        "PatientAddress", "PatientComments", "EthnicGroup", "MilitaryRank", "RegionOfResidence",
        "PatientTelephoneNumbers", "RequestingPhysician", "PersonName", "ImageComments",
    ):  # fmt: skip
        assert keyword in marks.values()


def test_no_value_reaches_what_is_written_or_said(usgseg, tmp_path, checkpoint, patient, caplog):
    data, marks = patient
    caplog.set_level(logging.DEBUG)
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in ("a.dcm", "b.dcm"):
        path = write_dicom(folder / name, FRAMES)
        whole = pydicom.dcmread(path)
        whole.update(data)
        whole.save_as(path)
    broken = path.read_bytes()
    (folder / "b.dcm").write_bytes(broken[:-700])
    out = tmp_path / "out"
    outcome = usgseg("segment", folder, "--box", "2,2,15,15", "--model", checkpoint, "--out", out)
    assert (out / "a" / "0001.png").is_file()
    with listening() as notes:
        store = Project(folder)
        for record in store.records[:2]:
            store.read_image(record)
        accept_labels(store, store.records[0], np.ones((20, 30), np.uint8))
        export_store(store, tmp_path / "export", target="cyst")
        export_store(store, tmp_path / "export" / "dicom", target="cyst", format="dicom-seg")
        said = [*store.problems, *notes.lines(), *store.take_warnings()]
        store.close()
    layers = read_layers(str(folder / "a.dcm"))
    said += [outcome.out, outcome.err, caplog.text, repr(layers[0][1])]
    found = held(out) + held(tmp_path / "export") + held(folder / "usgseg")
    found += "\n".join(said).encode()
    assert (tmp_path / "export").is_dir()
    leaks = sorted(keyword for mark, keyword in marks.items() if mark.encode() in found)
    assert leaks == []
