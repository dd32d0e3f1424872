"""Labels and ids of a card that are no file names, in each layout that is written."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_usgseg.cli.main import run
from napari_usgseg.io.datasets import (
    Dataset,
    DatasetItem,
    Split,
    read_dataset,
    read_pair,
    read_splits,
)
from napari_usgseg.io.images import read_image
from napari_usgseg.io.labels import read_labels
from napari_usgseg.lab.public_datasets.conversions import (
    COLUMNS,
    read_source_csv,
    write_png_layout,
    write_sam2rad,
    write_source_csv,
)

NAMES = [
    "tumor/left", "tumor_left", "x/../../../../evil", "../evil", "..", ".", "CON", "con", "nul.png",
    "a:b", "a?b", "a*b", "dots...", "dots", " blank ", "Tumor", "tumor", "TUMOR", "\u00fc",
    "\u00dc", "u\u0308", "x" * 300, "x" * 299 + "y", "back\\slash", "C:\\evil", "/etc/evil",
    "-rf", "a.png", "line\nbreak", "a, b", 'quo"te', ";",
]  # fmt: skip
SIZE = (12, 16)


def dataset_of(folder: Path, ids: list[str], labels: list[str]) -> Dataset:
    """One image an id, each with its own grey and a square of every label at its own place."""
    folder.mkdir()
    items = []
    for number, item_id in enumerate(ids):
        image_path, mask_path = folder / f"{number}i.png", folder / f"{number}m.png"
        Image.fromarray(np.full(SIZE, number, np.uint8)).save(image_path)
        mask = np.zeros(SIZE, np.uint8)
        for value in range(1, len(labels) + 1):
            mask[3 * value - 3 : 3 * value - 1, number : number + 2] = value
        Image.fromarray(mask).save(mask_path)
        values = tuple(range(1, len(labels) + 1))
        items.append(DatasetItem(item_id, item_id, image_path, mask_path, labels=values))
    names = dict(enumerate(labels, 1))
    return Dataset("my/../set", "organ", labels[0], names, tuple(items))


def truth(dataset: Dataset) -> dict[int, np.ndarray]:
    """Grey of an image -> its labels."""
    return {int(image[0, 0, 0]): labels for image, labels in map(read_pair, dataset.items)}


def files_outside(folder: Path, *inside: str) -> set[str]:
    return {name for name in os.listdir(folder) if name not in inside}


names = st.lists(
    st.one_of(st.sampled_from(NAMES), st.text(min_size=1, max_size=8)),
    min_size=1, max_size=4, unique=True,
)  # fmt: skip
cases = settings(deadline=None, max_examples=25)


@cases
@given(names, names)
def test_the_protocol_s_layout_reads_back_whatever_ids_and_labels_are(tmp_path_factory, ids, words):
    place = tmp_path_factory.mktemp("png")
    dataset = dataset_of(place / "in", ids, words)
    out = place / "deep" / "er" / "out"
    assert write_png_layout(dataset, out) == (len(ids), ())
    assert files_outside(place, "in", "deep") == set()
    back = read_dataset(out)
    assert len(back.items) == len(ids)
    for grey, labels in truth(dataset).items():
        assert (truth(back)[grey] == labels).all()


@cases
@given(names, names)
def test_sam2rad_s_folders_read_back_whatever_ids_and_labels_are(tmp_path_factory, ids, words):
    place = tmp_path_factory.mktemp("rad")
    dataset = dataset_of(place / "in", ids, words)
    out = place / "deep" / "er" / "out"
    write_sam2rad(dataset, Split(tuple(ids[:1]), (), tuple(ids[1:])), out)
    assert files_outside(place, "in", "deep") == set()
    assert set(os.listdir(out)) <= {"Train", "Test", "classes.json", ".usgseg-written.jsonl"}
    back = read_dataset(out)
    assert len(back.items) == len(ids)
    for grey, labels in truth(dataset).items():
        assert (truth(back)[grey] == labels).all()


@cases
@given(names, names)
def test_the_csv_reads_back_whatever_ids_and_labels_are(tmp_path_factory, ids, words):
    place = tmp_path_factory.mktemp("csv")
    dataset = dataset_of(place / "in", ids, words)
    out = place / "deep" / "er" / "out"
    said, remarks = write_source_csv(dataset, Split(tuple(ids[:2]), (), tuple(ids[2:])), out)
    count = len(ids) * len(words)
    assert (said, remarks) == (f"{count} boxes of {count} images", ())
    assert files_outside(place, "in", "deep") == set()
    assert set(os.listdir(out)) <= {
        "train", "test_image", "test_mask", "train.CSV", "val.CSV", "test.CSV",
        ".usgseg-written.jsonl",
    }  # fmt: skip
    written = [path.relative_to(out).as_posix() for path in out.rglob("*.png")]
    assert len({path.casefold() for path in written}) == len(written)
    total, remarks = read_source_csv(out, place / "deep" / "back")
    assert total == count
    assert [remark for remark in remarks if remark.kind != "odd"] == []
    back = read_dataset(place / "deep" / "back")
    expected = {grey: labels > 0 for grey, labels in truth(dataset).items()}
    seen = {grey: np.zeros(SIZE, bool) for grey in expected}
    for item in back.items:
        image, labels = read_pair(item)
        seen[int(image[0, 0, 0])] |= labels > 0
    for grey, mask in expected.items():
        assert (seen[grey] == mask).all()


@pytest.mark.parametrize("to", ["csv", "sam2rad", "png"])
def test_a_label_that_is_a_path_stays_in_the_folder(tmp_path, monkeypatch, capsys, to):
    """Case 35: it wrote ``deep/evil.png``, two folders above ``--out``."""
    place = tmp_path / "w"
    for part in ("images", "masks"):
        (place / "s" / part).mkdir(parents=True)
        pixels = np.zeros((20, 20), np.uint8)
        pixels[2:6, 2:6], pixels[9:14, 9:14] = 1, 2
        Image.fromarray(pixels).save(place / "s" / part / "1.png")
    card = {
        "name": "s", "organ": "x", "target": "nerve", "items": ["1"],
        "labels": {"1": "x/../../../../evil", "2": "b"},
    }  # fmt: skip
    (place / "s" / "dataset.json").write_text(json.dumps(card))
    monkeypatch.chdir(place)
    assert run(["datasets", "convert", "s", "--to", to, "--out", "deep/er/out"]) == 0
    assert capsys.readouterr().err == ""
    written = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
    outside = {path for path in written if not path.startswith("deep/er/out/")}
    assert outside == {"s/images/1.png", "s/masks/1.png", "s/dataset.json"}
    assert run(["datasets", "convert", "deep/er/out", "--to", "png", "--out", "back"]) == 0
    assert len(read_dataset("back").items) == (2 if to == "csv" else 1)


def test_a_csv_with_folders_in_its_names_is_read_image_by_image(tmp_path):
    """As this program wrote it for a label "tumor/left": all images had the id "left"."""
    folder = tmp_path / "csv"
    rows = []
    for number, name in enumerate(("s_1_tumor/left.png", "s_2_tumor/left.png", "A.png", "a.png")):
        path = folder / "train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full(SIZE, number, np.uint8)).save(path)
        rows.append(["tumor/left", number, 1, 4, 4, name, 16, 12, "../evil"])
        rows.append(["tumor/left", number, 1, 4, 4, name.replace(".png", ".jpg"), 16, 12, "b"])
    with (folder / "train.CSV").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    total, remarks = read_source_csv(folder, tmp_path / "deep" / "out")
    assert total == 4
    assert len([remark for remark in remarks if remark.kind == "failed"]) == 4
    assert sorted(os.listdir(tmp_path)) == ["csv", "deep"]
    (place,) = [each for each in (tmp_path / "deep" / "out").iterdir() if each.is_dir()]
    back = read_dataset(place)
    assert [item.item_id for item in back.items] == [
        "s_1_tumor/left", "s_2_tumor/left", "A", "a",
    ]  # fmt: skip
    for number, item in enumerate(back.items):
        assert (read_image(item.image_path) == number).all()
        assert (read_labels(item.mask_path)[1:5, number : number + 4] == 1).all()
    assert len(read_splits(place / "splits.json")["../evil"].train) == 4
