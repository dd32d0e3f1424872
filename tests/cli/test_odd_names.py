"""No file name stops a command: umlauts of either form, line breaks, bytes that are no UTF-8.

Each command runs on a terminal that knows few letters and refuses the others.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.core.types import LabelClass
from napari_usgseg.io.datasets import read_dataset
from napari_usgseg.io.names import safe_file_name
from napari_usgseg.project.project import Project
from tests.support.labelling import accept_labels, set_classes

UTF8 = "Schilddru\u0308se.1", "Schilddr\u00fcse", "5% \\:?", "a\nb"
STEMS = (b"latin\xe9", *(stem.encode() for stem in UTF8))


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        Image.fromarray(pixels).save(path, format="PNG")
    except OSError:
        pytest.skip("this file system does not take every name")


@pytest.fixture
def names() -> list[str]:
    return [os.fsdecode(stem) for stem in STEMS]


@pytest.fixture
def sam2rad(tmp_path: Path, names: list[str]) -> Path:
    """A data set in Sam2Rad's layout, in a folder whose name is no UTF-8 either."""
    folder = tmp_path / os.fsdecode(b"mus\xe9e")
    rng = np.random.default_rng(0)
    for number, name in enumerate(names):
        labels = np.zeros((60, 80), np.uint8)
        labels[10:30, 10 : 30 + number] = 1
        write(folder / "Train" / "imgs" / f"{name}.png", rng.integers(0, 255, (60, 80), np.uint8))
        write(folder / "Train" / "gts" / f"{name}.png", labels)
    return folder


@pytest.fixture
def strict(usgseg_process, monkeypatch):
    """Call a command where output knows ASCII only; it must end by itself."""
    monkeypatch.setenv("PYTHONIOENCODING", "ascii:strict")

    def call(*arguments: object, code: int = 0):
        outcome = usgseg_process(*arguments)
        assert "Traceback" not in outcome.err
        assert outcome.code == code, outcome.err
        return outcome

    return call


def test_a_data_set_of_any_names_is_scored_and_written_in_every_layout(
    strict, sam2rad: Path, tmp_path: Path
) -> None:
    dataset = read_dataset(sam2rad)
    ids = [item.item_id for item in dataset.items]
    assert len(set(ids)) == len(STEMS)
    assert all(item_id.isprintable() for item_id in ids)
    for to in ("png", "sam2rad"):
        out = tmp_path / to
        strict("datasets", "convert", sam2rad, "--to", to, "--out", out)
        again = read_dataset(out)
        assert len(again.items) == len(STEMS)
        assert all(item.image_path.is_file() and item.mask_path.is_file() for item in again.items)
    strict("datasets", "convert", sam2rad, "--to", "csv", "--out", tmp_path / "csv")
    report = tmp_path / "report.json"
    predictions = tmp_path / "png" / "masks"
    out = tmp_path / "tables"
    words = ("--predictions", predictions, "--out", out, "--json", report, "--per-image")
    strict("evaluate", tmp_path / "png", *words, "--worst", 3)
    (entry,) = json.loads(report.read_text())["datasets"].values()
    assert (entry["images"], entry["dice"]) == (len(STEMS), 1.0)


def test_images_of_any_names_are_segmented(strict, sam2rad: Path, names: list[str], tmp_path: Path):
    out = tmp_path / "out"
    strict("segment", sam2rad / "Train" / "imgs", "--box", "10,10,30,30", "--out", out)
    assert {path.name for path in out.glob("*.png")} == {
        f"{safe_file_name(name)}.png" for name in names
    }
    said = strict("segment", sam2rad / "Train" / "imgs", "--box", "10,10,30,30", "--out", out).out
    assert f"{len(STEMS)} kept" in said


def test_a_project_of_any_names_is_exported_and_reported(
    strict, sam2rad: Path, tmp_path: Path
) -> None:
    images = sam2rad / "Train" / "imgs"
    store = Project(images)
    assert len(store.records) == len(STEMS) - 1
    (problem,) = store.problems
    assert r"latin\xe9.png" in problem
    set_classes(store, (LabelClass(1, "cyst", "#e69f00"),))
    for record in store.records:
        accept_labels(store, record, np.ones(record.size_hw, np.uint8))
    store.close()
    said = strict("export", images, "--out", tmp_path / "set", code=3)
    assert r"latin\xe9.png" in said.err
    again = read_dataset(tmp_path / "set")
    assert len(again.items) == len(STEMS) - 1
    assert all(item.image_path.is_file() and item.mask_path.is_file() for item in again.items)
    strict("report", images, "--out", tmp_path / "report")
