from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.core.errors import DatasetError, LabelWriteError
from napari_usgseg.io.atomic import write_new
from napari_usgseg.io.datasets import Split, read_dataset, read_splits, write_card, write_pair
from napari_usgseg.io.images import read_image
from napari_usgseg.io.labels import read_labels
from napari_usgseg.lab.public_datasets.conversions import (
    COLUMNS,
    SIDES,
    is_source_csv,
    read_source_csv,
    write_png_layout,
    write_sam2rad,
    write_source_csv,
)

BOXES = {"a": (10, 8, 20, 15), "b": (0, 0, 6, 5), "c": (50, 30, 14, 18), "d": (3, 40, 60, 8)}
SPLIT = Split(("a", "b"), ("c",), ("d",))


def image_of(seed):
    return np.random.default_rng(seed).integers(0, 255, (48, 64, 3), np.uint8)


@pytest.fixture
def dataset(tmp_path):
    """Four images, a box of label 1 on each; a also has a second object, and a label 2."""
    folder = tmp_path / "ours"
    for seed, (name, (x, y, width, height)) in enumerate(BOXES.items()):
        labels = np.zeros((48, 64), np.uint8)
        labels[y : y + height, x : x + width] = 1
        if name == "a":
            labels[30:40, 40:50] = 1
        write_pair(folder, name, image_of(seed), labels, write_new)
    items = [{"id": name, "group": name} for name in BOXES]
    write_card(
        folder, write_new, name="BUSI", organ="breast", target="breast tumor", labels={1: "tumor"},
        items=items,
    )  # fmt: skip
    return read_dataset(folder)


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_a_data_set_is_written_as_the_source_system_reads_it(dataset, tmp_path):
    out = tmp_path / "csv"
    assert write_source_csv(dataset, SPLIT, out) == ("5 boxes of 4 images", ())
    assert rows_of(out / "val.CSV") == [
        list(COLUMNS),
        ["breast tumor", "50", "30", "14", "18", "busi_c.png", "64", "48", "busi"],
    ]
    assert [row[1:5] for row in rows_of(out / "train.CSV")[1:]] == [
        ["10", "8", "20", "15"], ["40", "30", "10", "10"], ["0", "0", "6", "5"],
    ]  # fmt: skip
    places = {p.relative_to(out).as_posix() for p in out.rglob("*.png")}
    assert places == {
        "train/busi_a.png", "train/busi_b.png", "val/busi_c.png",
        "test_image/busi_d.png", "test_mask/busi_d.png",
    }  # fmt: skip
    assert np.unique(np.asarray(Image.open(out / "test_mask" / "busi_d.png"))).tolist() == [0, 255]
    assert (read_image(out / "train" / "busi_a.png") == image_of(0)).all()


def test_what_was_written_comes_back_with_its_sides(dataset, tmp_path):
    write_source_csv(dataset, SPLIT, tmp_path / "csv")
    assert is_source_csv(tmp_path / "csv")
    count, remarks = read_source_csv(tmp_path / "csv", tmp_path / "back")
    back = read_dataset(tmp_path / "back")
    assert (count, back.organ, back.target) == (4, "breast", "breast tumor")
    for item in back.items:
        old = next(i for i in dataset.items if item.item_id == f"busi_{i.item_id}")
        assert (read_labels(item.mask_path) == read_labels(old.mask_path)).all()
        assert (read_image(item.image_path) == read_image(old.image_path)).all()
    split = read_splits(tmp_path / "back" / "splits.json")["busi"]
    assert split == Split(("busi_a", "busi_b"), ("busi_c",), ("busi_d",))
    assert [remark.kind for remark in remarks] == ["odd"]
    assert "3 of 4 masks are the filled boxes" in remarks[0].text


def test_each_label_is_an_image_of_its_own(dataset, tmp_path):
    labels = np.zeros((48, 64), np.uint8)
    labels[5:15, 5:15], labels[20:30, 20:30] = 1, 2
    folder = tmp_path / "two"
    write_pair(folder, "k", image_of(9), labels, write_new)
    write_card(
        folder, write_new, name="kidneyUS", organ="kidney", target="kidney",
        labels={1: "kidney", 2: "renal cortex"}, items=[{"id": "k", "group": "k"}],
    )  # fmt: skip
    write_source_csv(read_dataset(folder), Split((), (), ("k",)), tmp_path / "csv")
    rows = rows_of(tmp_path / "csv" / "test.CSV")[1:]
    assert [(row[0], row[5]) for row in rows] == [
        ("kidney", "kidneyus_k_kidney.png"), ("renal cortex", "kidneyus_k_renal_cortex.png"),
    ]  # fmt: skip
    mask = np.asarray(Image.open(tmp_path / "csv" / "test_mask" / "kidneyus_k_renal_cortex.png"))
    assert ((mask > 0) == (labels == 2)).all()


def write_source(folder, rows, images=("breast_case146.png",)):
    """The read-me's own example, and what else a test puts in."""
    for name in images:
        (folder / "train").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image_of(1)).save(folder / "train" / name)
    with (folder / "train.CSV").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return folder


def row(x=10, y=8, width=24, height=10, name="breast_case146.png", label="benign", of="breast"):
    return [label, x, y, width, height, name, 64, 48, of]


def test_rows_that_cannot_be_used_are_named_and_stop_no_other(tmp_path):
    rows = [
        row(), row(name="none.png"), row(width=0), row(x="much"), row(x=500, name="far.png"),
    ]  # fmt: skip
    source = write_source(tmp_path / "s", rows, ("breast_case146.png", "far.png"))
    count, remarks = read_source_csv(source, tmp_path / "out", organ="breast")
    assert count == 1
    failed = " ".join(f"{r.path} {r.text}" for r in remarks if r.kind == "failed")
    for word in ("none.png no such image", "row 4: a box of 0", "row 5", "far.png the box 500"):
        assert word in failed
    labels = read_labels(read_dataset(tmp_path / "out").items[0].mask_path)
    assert (labels[8:18, 10:34] == 1).all()
    assert labels.sum() == 240


def test_an_image_on_two_sides_counts_for_the_stricter_one(tmp_path):
    source = write_source(tmp_path / "s", [row()])
    (source / "train.CSV").rename(source / "test.CSV")
    source = write_source(source, [row(x=30)])
    _, remarks = read_source_csv(source, tmp_path / "out")
    assert any("on the sides" in remark.text for remark in remarks)
    split = read_splits(tmp_path / "out" / "splits.json")["breast"]
    assert split == Split((), (), ("breast_case146",))


def test_several_data_sets_of_one_file_get_a_folder_each(tmp_path):
    rows = [row(), row(name="busi_x.png", of="busi", label="malignant")]
    source = write_source(tmp_path / "s", rows, ("breast_case146.png", "busi_x.png"))
    read_source_csv(source, tmp_path / "out")
    assert read_dataset(tmp_path / "out" / "breast").target == "benign"
    assert read_dataset(tmp_path / "out" / "busi").organ == "breast"


def test_a_table_of_other_columns_is_refused_with_those_expected(tmp_path):
    (tmp_path / "train.csv").write_text("image,box\nx,1\n", encoding="utf-8")
    with pytest.raises(DatasetError, match="label_name, bbox_x"):
        read_source_csv(tmp_path, tmp_path / "out")
    (tmp_path / "train.csv").write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    with pytest.raises(DatasetError, match="no row"):
        read_source_csv(tmp_path, tmp_path / "out")


def test_nothing_is_written_over_without_being_asked(dataset, tmp_path):
    write_source_csv(dataset, SPLIT, tmp_path / "csv")
    with pytest.raises(LabelWriteError, match="holds an earlier result"):
        write_source_csv(dataset, SPLIT, tmp_path / "csv")
    write_source_csv(dataset, SPLIT, tmp_path / "csv", overwrite=True)
    read_source_csv(tmp_path / "csv", tmp_path / "back")
    with pytest.raises(LabelWriteError, match="holds an earlier result"):
        read_source_csv(tmp_path / "csv", tmp_path / "back")


def test_sam2rad_s_folders_are_written_and_read_back(dataset, tmp_path):
    said = write_sam2rad(dataset, SPLIT, tmp_path / "rad")
    assert said == ("Train 3, Test 1 images", ())
    back = read_dataset(tmp_path / "rad")
    assert [item.item_id for item in back.items] == ["Train-a", "Train-b", "Train-c", "Test-d"]
    assert (read_labels(back.items[0].mask_path)[8:23, 10:30] == 1).all()
    with pytest.raises(LabelWriteError, match="holds an earlier result"):
        write_sam2rad(dataset, SPLIT, tmp_path / "rad")


def test_sam2rad_s_masks_of_0_and_255_become_label_1(tmp_path):
    for part, name in (("Train", "a"), ("Test", "b")):
        for kind in ("imgs", "gts"):
            (tmp_path / "rad" / part / kind).mkdir(parents=True)
        mask = np.zeros((48, 64), np.uint8)
        mask[4:20, 4:20] = 255
        Image.fromarray(image_of(1)).save(tmp_path / "rad" / part / "imgs" / f"{name}.png")
        Image.fromarray(mask).save(tmp_path / "rad" / part / "gts" / f"{name}.png")
    assert write_png_layout(read_dataset(tmp_path / "rad"), tmp_path / "out") == (2, ())
    back = read_dataset(tmp_path / "out")
    assert set(back.labels) == {1}
    assert all(read_labels(item.mask_path).max() == 1 for item in back.items)


def test_every_side_has_a_file_even_where_it_is_empty(dataset, tmp_path):
    write_source_csv(dataset, Split(("a",), (), ()), tmp_path / "csv")
    assert [len(rows_of(tmp_path / "csv" / f"{side}.CSV")) for side in SIDES] == [3, 1, 1]
