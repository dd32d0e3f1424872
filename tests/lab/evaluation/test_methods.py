"""Predictions on disk are found by name as masks are."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.core.errors import DatasetError
from napari_usgseg.io.datasets import Dataset, DatasetItem
from napari_usgseg.lab.evaluation.methods import Answer, Scene, predictions_method

SIZE_HW = (4, 5)


def scene_of(dataset: Dataset, item_id: str) -> Scene:
    item = next(item for item in dataset.items if item.item_id == item_id)
    labels = np.zeros(SIZE_HW, np.uint8)
    image = np.zeros((*SIZE_HW, 3), np.uint8)
    return Scene(dataset, item, item, image, labels, (labels == 1,), np.random.default_rng(0))


def ask(folder: Path, ids: list[str], wanted: str, name: str = "made") -> Answer:
    items = tuple(DatasetItem(item_id, item_id, Path("i"), Path("m")) for item_id in ids)
    dataset = Dataset(name, "organ", "cyst", {1: "cyst"}, items)
    return predictions_method(folder).answer(scene_of(dataset, wanted))


def predict(path: Path, pixels: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.zeros(SIZE_HW, np.uint8)
    labels.flat[:pixels] = 1
    Image.fromarray(labels).save(path)


@pytest.mark.parametrize(
    ("ids", "wanted", "there"),
    [
        (["a"], "a", "made/a.png"),
        (["a.jpg", "a.png"], "a.jpg", "a.jpg.png"),
        (["a.jpg"], "a.jpg", "a.png"),
        (["case7", "case7.10"], "case7", "made/case7.png"),
        (["\u00dcber.1"], "\u00dcber.1", unicodedata.normalize("NFD", "\u00dcber.1.png")),
        (["case1/a"], "case1/a", "case1/a.png"),
        (["case1/a"], "case1/a", "made/case1_a~d713353386.png"),
    ],
)
def test_a_prediction_is_found_by_its_items_name(
    tmp_path: Path, ids: list[str], wanted: str, there: str
) -> None:
    predict(tmp_path / there, 3)
    predict((tmp_path / there).with_name("case7.10.png"), 1)
    predict((tmp_path / there).with_name(f"._{Path(there).name}"), 2)
    (mask,) = ask(tmp_path, ids, wanted).masks
    assert mask.sum() == 3


@pytest.mark.parametrize(
    ("ids", "files", "said"),
    [
        (["case7", "case7.10"], ["case7.10.png"], r"case7\.png: no such prediction"),
        (["a.jpg", "a.png"], ["a.png"], r"a\.png: could be the file of 'a\.jpg' and 'a\.png'"),
        (["../a"], [], "no such prediction"),
    ],
)
def test_no_prediction_of_another_item_is_taken(
    tmp_path: Path, ids: list[str], files: list[str], said: str
) -> None:
    predict(tmp_path / "a.png", 1)
    for name in files:
        predict(tmp_path / "in" / name, 1)
    with pytest.raises(DatasetError, match=said):
        ask(tmp_path / "in", ids, ids[0])


def test_the_name_of_a_data_set_leads_nowhere_else(tmp_path: Path) -> None:
    predict(tmp_path / "elsewhere" / "a.png", 1)
    predict(tmp_path / "in" / "a.png", 2)
    for name in ("../elsewhere", str(tmp_path / "elsewhere"), "..", ""):
        (mask,) = ask(tmp_path / "in", ["a"], "a", name).masks
        assert mask.sum() == 2
