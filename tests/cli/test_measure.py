from __future__ import annotations

import csv
from contextlib import closing

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.cli.main import run
from napari_usgseg.core.types import LabelClass
from napari_usgseg.project.project import Project
from napari_usgseg.project.records import Event, EventKind
from tests.support.dicom import region, write_dicom
from tests.support.labelling import accept_labels, set_classes

SIZE = (80, 120)


@pytest.fixture
def folder(tmp_path):
    """A DICOM file with a region of 0.1 mm, and a PNG of the same size whose scale nobody knows."""
    folder = tmp_path / "scans"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(40, 220, SIZE).astype(np.uint8)
    write_dicom(
        folder / "a.dcm", pixels[None],
        SequenceOfUltrasoundRegions=[region((0, 10, 99, 79), deltas=(0.01, 0.01))],
    )  # fmt: skip
    Image.fromarray(pixels).save(folder / "b.png")
    Image.fromarray(pixels).save(folder / "c.png")
    labels = np.zeros(SIZE, np.uint8)
    labels[30:50, 20:60] = 1
    with closing(Project(folder)) as project:
        set_classes(project, (LabelClass(1, "cyst", "#ff0000"),))
        for record in project.records[:2]:
            accept_labels(project, record, labels)
    return folder


def rows(folder):
    with (folder / "measurements.csv").open() as file:
        return list(csv.DictReader(file))


def test_accepted_objects_are_measured_where_the_scale_is_known_in_mm(folder, tmp_path, capsys):
    assert run(["measure", str(folder), "--out", str(tmp_path / "m")]) == 0
    assert "2 objects measured, 1 of them in millimetres" in capsys.readouterr().out
    first, second = rows(tmp_path / "m")
    assert (first["image"], first["class"]) == ("a", "cyst")
    assert float(first["area_mm2"]) == pytest.approx(8)
    assert float(first["area_px"]) == float(second["area_px"]) == 800
    assert float(first["depth_mm"]) == pytest.approx(2, abs=0.2)
    assert (second["image"], second["area_mm2"], second["spacing_from"]) == ("b", "", "")
    assert run(["measure", str(folder), "--out", str(tmp_path / "m")]) == 0, "it replaces its own"


def test_what_a_person_said_of_pictures_of_that_size_counts_where_the_file_says_nothing(
    folder, tmp_path
):
    with closing(Project(folder)) as project:
        body = {**project.settings(), "mm_per_pixel": {"80x120": 0.5}}
        project.record([Event(project.log.serial + 1, EventKind.SETTINGS, body=body)])
    assert run(["measure", str(folder), "--out", str(tmp_path / "m")]) == 0
    first, second = rows(tmp_path / "m")
    assert [first["spacing_from"], second["spacing_from"]] == ["scanner", "person"]
    assert float(second["area_mm2"]) == pytest.approx(800 * 0.25)


def test_an_image_that_is_gone_bad_stops_no_other(folder, tmp_path, capsys):
    (folder / "a.dcm").write_bytes((folder / "a.dcm").read_bytes()[:-3000])
    assert run(["measure", str(folder), "--out", str(tmp_path / "m")]) == 3
    assert [row["image"] for row in rows(tmp_path / "m")] == ["b"]
    assert "a" in capsys.readouterr().err


def test_a_strangers_table_is_left_as_it_is(folder, tmp_path, capsys):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "measurements.csv").write_text("mine")
    assert run(["measure", str(folder), "--out", str(tmp_path / "m")]) == 1
    assert (tmp_path / "m" / "measurements.csv").read_text() == "mine"


def test_an_export_has_the_same_table_where_it_is_wanted_and_only_there(folder, tmp_path):
    assert run(["measure", str(folder), "--out", str(tmp_path / "m")]) == 0
    words = ["export", str(folder), "--out", str(tmp_path / "out"), "--overwrite"]
    assert run([*words, "--measurements"]) == 0
    assert rows(tmp_path / "out") == rows(tmp_path / "m")
    assert run(["evaluate", str(tmp_path / "out"), "--baseline", "dark-blob"]) == 0
    assert run([*words, "--measurements"]) == 0, "it is the program's own"
    assert run(words) == 0
    assert not (tmp_path / "out" / "measurements.csv").exists()
