"""Licences of data sets: who forbids commercial use or derivatives teaches no nano that ships."""

import json
from pathlib import Path

import pytest

from napari_usgseg.core.errors import DatasetError
from napari_usgseg.phantoms.phantom import write_phantom_dataset

pytest.importorskip("timm", reason="needs the extra 'train'")

from napari_usgseg.lab.nano_factory.materials import read_teaching


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("licences") / "breast"
    write_phantom_dataset(folder, 2, seed=5)
    return folder


def carded(folder: Path, **changes: str) -> Path:
    path = folder / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


@pytest.mark.parametrize("name", ["hip", "Hip", "lung_1", "echo_4"])
def test_a_data_set_that_is_kept_by_its_name_teaches_only_in_a_study(phantoms, name):
    folder = carded(phantoms, name=name, licence="")
    with pytest.raises(DatasetError, match="--study"):
        read_teaching([folder])
    assert [each.name for each in read_teaching([folder], study=True)] == [name]


@pytest.mark.parametrize(
    "licence",
    [
        "CC BY-NC-SA 3.0",
        "CC BY-ND 4.0",
        "for non-commercial use",
        "No derivatives",
        "research use only",
    ],
)
def test_a_licence_in_the_card_keeps_a_data_set_under_any_name(phantoms, licence):
    folder = carded(phantoms, name="joints", licence=licence)
    with pytest.raises(DatasetError, match="never leave this machine"):
        read_teaching([folder])


@pytest.mark.parametrize("licence", ["", "CC BY 4.0", "Apache-2.0", "not stated"])
def test_other_licences_teach(phantoms, licence):
    folder = carded(phantoms, name="hips and handles", licence=licence)
    assert [each.name for each in read_teaching([folder])] == ["hips and handles"]


def test_every_training_of_an_embedded_model_refuses_such_a_data_set(phantoms, tmp_path):
    from typer.testing import CliRunner

    from napari_usgseg.cli.train import app

    folder = carded(phantoms, name="hip", licence="")
    splits = tmp_path / "splits.json"
    splits.write_text('{"datasets": {}}')
    for command in ("nano-segmenter", "nano-detector", "nano-dino"):
        out = tmp_path / command
        ran = CliRunner().invoke(
            app, [command, str(folder), "--splits", str(splits), "--out", str(out)]
        )
        assert isinstance(ran.exception, DatasetError)
        assert "hip" in str(ran.exception)
