from __future__ import annotations

import gzip
import hashlib
import json
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_usgseg.core.errors import DatasetError, LabelWriteError
from napari_usgseg.io.datasets import read_dataset, read_splits
from napari_usgseg.io.images import read_image
from napari_usgseg.io.labels import read_labels
from napari_usgseg.lab.public_datasets.prepare import prepare_dataset
from napari_usgseg.lab.public_datasets.registry import known_dataset, known_datasets

NAMES = [known.name for known in known_datasets()]
EXPECTED = {  # items, groups
    "BrEaST": (3, 3), "BUID": (3, 3), "BUS-UC": (3, 3), "BUS-UCLM": (3, 2), "BUS-B": (3, 3),
    "BUSI": (3, 3), "STU": (3, 3), "S1": (3, 3), "BUS-BRA": (4, 3), "TN3K": (3, 3),
    "TG3K": (3, 3), "TNSCUI": (3, 3), "105US": (3, 3), "AUL": (3, 3), "MicroSeg": (6, 3),
    "RegPro": (6, 3), "kidneyUS": (3, 3), "Luminous": (3, 2), "HC18": (3, 2), "DDTI": (4, 2),
    "DL_Track": (3, 3), "CAMUS": (4, 2), "usgra": (3, 3),
}  # fmt: skip
TOLERANT = {"TN3K", "TG3K", "HC18"}
"""Masks in JPEG, and an outline: the border may be a pixel off."""


def square() -> np.ndarray:
    mask = np.zeros((48, 64), bool)
    mask[8:28, 10:30] = True
    return mask


def contents(folder):
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("name", NAMES)
def test_an_original_folder_becomes_a_data_set_that_evaluate_and_train_read(
    name, imitate, tmp_path
):
    folder, out = imitate(name), tmp_path / "out"
    before = contents(folder)
    report = prepare_dataset(known_dataset(name), folder, out)
    assert contents(folder) == before
    assert (report.images, report.groups) == EXPECTED[name]
    assert [r for r in report.remarks if r.kind != "odd"] == []
    dataset = read_dataset(out)
    assert (dataset.name, dataset.target) == (name, known_dataset(name).target)
    assert set(dataset.labels) == {1}
    for item in dataset.items:
        labels, image = read_labels(item.mask_path), read_image(item.image_path)
        assert labels.shape == image.shape[:2] == (48, 64)
        assert set(np.unique(labels)) == {0, 1}
        differing = (labels.astype(bool) & square()) != square()
        assert differing.sum() <= (120 if name in TOLERANT else 0), item.item_id
    split = read_splits(out / "splits.json")[name]
    sides = [set(side) for side in (split.train, split.val, split.test)]
    assert set.union(*sides) == {item.item_id for item in dataset.items}
    assert sum(map(len, sides)) == len(dataset.items)
    groups = [{i.group for i in dataset.items if i.item_id in side} for side in sides]
    assert sum(map(len, groups)) == len(set.union(*groups))
    if known_dataset(name).seen is False:
        assert len(split.test) == len(dataset.items)


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("BUS-UCLM", {1: "benign breast tumor", 2: "malignant breast tumor"}),
        ("BUSI", {1: "benign breast tumor", 2: "malignant breast tumor"}),
        ("BrEaST", {1: "breast tumor", 2: "other breast lesion"}),
        ("S1", {1: "benign breast tumor", 2: "malignant breast tumor"}),
        ("AUL", {1: "liver tumor", 2: "liver"}),
        ("CAMUS", {1: "left ventricle", 2: "left ventricle myocardium", 3: "left atrium"}),
    ],
)
def test_labels_of_the_original_can_be_kept_apart(name, labels, imitate, tmp_path):
    prepare_dataset(known_dataset(name), imitate(name), tmp_path / "out", keep_labels=True)
    dataset = read_dataset(tmp_path / "out")
    assert dataset.labels == labels
    used = {int(v) for item in dataset.items for v in np.unique(read_labels(item.mask_path))}
    assert used >= {0, 1, 2}


def test_a_tumor_lies_on_top_of_its_liver(imitate, tmp_path):
    prepare_dataset(known_dataset("AUL"), imitate("AUL"), tmp_path / "out", keep_labels=True)
    labels = read_labels(tmp_path / "out" / "masks" / "benign_0.png")
    assert (labels[8:28, 10:30] == 1).all()
    assert labels[5, 5] == 2


def test_several_masks_of_an_image_are_one(imitate, tmp_path):
    prepare_dataset(known_dataset("BUSI"), imitate("BUSI"), tmp_path / "out")
    labels = read_labels(tmp_path / "out" / "masks" / "benign_0.png")
    assert labels[20, 20] == labels[35, 45] == 1


def test_images_without_the_target_are_kept_when_asked_for(imitate, tmp_path):
    folder = imitate("BUSI")
    left = prepare_dataset(known_dataset("BUSI"), folder, tmp_path / "a")
    kept = prepare_dataset(known_dataset("BUSI"), folder, tmp_path / "b", keep_empty=True)
    assert (left.images, left.empty, kept.images, kept.empty) == (3, 1, 4, 1)
    card = json.loads((tmp_path / "b" / "dataset.json").read_text(encoding="utf-8"))
    normal = [item for item in card["items"] if item["finding"] == "normal"]
    assert [item["empty_mask"] for item in normal] == [True]


def test_findings_parts_and_pixel_sizes_are_in_the_card(imitate, tmp_path):
    prepare_dataset(known_dataset("HC18"), imitate("HC18"), tmp_path / "hc18")
    side = 0.069136
    assert {item.spacing_mm for item in read_dataset(tmp_path / "hc18").items} == {(side, side)}


def test_the_table_says_finding_and_patient(imitate, tmp_path):
    prepare_dataset(known_dataset("BUS-BRA"), imitate("BUS-BRA"), tmp_path / "out")
    items = {item.item_id: item for item in read_dataset(tmp_path / "out").items}
    assert items["bus_0001-l"].group == items["bus_0001-r"].group == "1"
    assert items["bus_0002-s"].finding == "benign"


def test_slices_of_a_volume_are_upright_with_their_pixel_size(imitate, tmp_path):
    prepare_dataset(known_dataset("RegPro"), imitate("RegPro"), tmp_path / "out")
    items = read_dataset(tmp_path / "out").items
    assert [item.spacing_mm for item in items] == [pytest.approx((0.8, 0.8))] * 6
    assert [i.item_id for i in items[:2]] == ["train_case000000_001", "train_case000000_002"]
    assert (read_labels(items[0].mask_path).astype(bool) == square()).all()


def test_pixels_of_a_volume_that_are_not_square_have_a_row_and_a_column(imitate, tmp_path):
    folder = imitate("RegPro")
    for path in folder.rglob("us_*/*.nii.gz"):
        data = bytearray(gzip.decompress(path.read_bytes()))
        struct.pack_into("<f", data, 80, 0.5)  # pixdim along x
        path.write_bytes(gzip.compress(data))
    prepare_dataset(known_dataset("RegPro"), folder, tmp_path / "out")
    card = json.loads((tmp_path / "out" / "dataset.json").read_text(encoding="utf-8"))
    assert [item["pixel_size_mm"] for item in card["items"]] == [[pytest.approx(0.8), 0.5]] * 6


def test_the_scale_of_a_tiff_is_kept(imitate, tmp_path):
    folder = imitate("BUSI")
    path = folder / "Dataset_BUSI_with_GT" / "benign" / "benign (0).png"
    pixels = np.asarray(Image.open(path))
    tifffile.imwrite(path, pixels, imagej=True, resolution=(4, 4), metadata={"unit": "mm"})
    prepare_dataset(known_dataset("BUSI"), folder, tmp_path / "out")
    sizes = [item.spacing_mm for item in read_dataset(tmp_path / "out").items]
    assert sorted(sizes, key=str) == [(0.25, 0.25), None, None]


def test_a_result_that_is_made_anew_leaves_nothing_of_the_earlier_one(imitate, tmp_path):
    folder, out = imitate("STU"), tmp_path / "out"
    prepare_dataset(known_dataset("STU"), folder, out)
    (folder / "Hospital" / "Test_Image_1.png").unlink()
    (folder / "Hospital" / "mask_1.png").unlink()
    prepare_dataset(known_dataset("STU"), folder, out, overwrite=True)
    names = {item.item_id for item in read_dataset(out).items}
    assert len(names) == 2
    for part in ("images", "masks"):
        assert {path.stem for path in (out / part).iterdir()} == names


def test_one_bad_file_of_each_kind_is_named_and_stops_no_other(imitate, tmp_path):
    folder = imitate("BUSI")
    base = folder / "Dataset_BUSI_with_GT" / "benign"
    pixels = np.random.default_rng(9).integers(0, 255, (48, 64), np.uint8)
    for number in (7, 8, 9):
        Image.fromarray(pixels).save(base / f"benign ({number}).png")
    Image.fromarray(np.zeros((48, 60), np.uint8)).save(base / "benign (7)_mask.png")
    (base / "benign (8)_mask.png").write_bytes(b"\x89PNG broken")
    Image.fromarray(pixels).save(base / "benign (66)_mask.png")
    (base / "benign (5).png").write_bytes(b"")
    Image.fromarray(pixels).save(base / "benign (5)_mask.png")
    report = prepare_dataset(known_dataset("BUSI"), folder, tmp_path / "out")
    assert report.images == 3
    said = {(r.kind, r.path.rpartition("/")[2]) for r in report.remarks}
    assert said == {
        ("failed", "benign (5).png"),
        ("failed", "benign (7).png"),
        ("failed", "benign (8).png"),
        ("missing", "benign (9).png"),
        ("missing", "benign (66)_mask.png"),
    }
    card = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert len(card["remarks"]) == 5


def test_inverted_masks_are_noticed_and_turned(imitate, tmp_path):
    folder = imitate("STU")
    for path in (folder / "Hospital").glob("mask_*.png"):
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    odd = prepare_dataset(known_dataset("STU"), folder, tmp_path / "a").remarks
    assert all("--invert" in remark.text for remark in odd)
    assert len(odd) == 3
    done = prepare_dataset(known_dataset("STU"), folder, tmp_path / "b", invert=True)
    assert done.remarks == ()
    mask = read_labels(read_dataset(tmp_path / "b").items[0].mask_path)
    assert (mask.astype(bool) == square()).all()


def test_a_color_or_a_number_that_says_nothing_is_reported(imitate, tmp_path):
    folder = imitate("BUS-UCLM")
    mask = np.zeros((48, 64, 3), np.uint8)
    mask[square()] = [0, 255, 0]
    mask[40:, 40:] = [0, 0, 255]
    Image.fromarray(mask).save(folder / "BUS-UCLM" / "masks" / "ALWI_000.png")
    report = prepare_dataset(known_dataset("BUS-UCLM"), folder, tmp_path / "out")
    assert [(r.kind, r.path) for r in report.remarks] == [("odd", "BUS-UCLM/masks/ALWI_000.png")]
    labels = read_labels(tmp_path / "out" / "masks" / "ALWI_000.png")
    assert (labels.astype(bool) == square()).all()


def test_an_annotation_file_of_many_images_that_is_cut_off_costs_its_images_only(imitate, tmp_path):
    folder = imitate("DDTI")
    text = (folder / "1.xml").read_text(encoding="utf-8")
    (folder / "1.xml").write_text(text[: len(text) // 2], encoding="utf-8")
    report = prepare_dataset(known_dataset("DDTI"), folder, tmp_path / "out")
    assert report.images == 2
    assert [(r.kind, r.path) for r in report.remarks] == [
        ("failed", "1_1.jpg"),
        ("failed", "1_2.jpg"),
    ]


def test_near_duplicates_are_on_one_side_where_no_patient_is_named(imitate, tmp_path):
    folder = imitate("STU")
    hospital = folder / "Hospital"
    twin = np.asarray(Image.open(hospital / "Test_Image_0.png")).copy()
    twin[:3, :3] = 0
    Image.fromarray(twin).save(hospital / "Test_Image_9.png")
    Image.open(hospital / "mask_0.png").save(hospital / "mask_9.png")
    report = prepare_dataset(known_dataset("STU"), folder, tmp_path / "out")
    assert (report.images, report.groups) == (4, 3)


def test_an_outline_that_the_border_of_the_image_cuts_is_filled_too(imitate, tmp_path):
    folder = imitate("HC18")
    line = np.zeros((48, 64), np.uint8)
    line[10, :20] = line[30, :20] = line[10:31, 20] = 255
    Image.fromarray(line).save(folder / "training_set" / "000_HC_Annotation.png")
    report = prepare_dataset(known_dataset("HC18"), folder, tmp_path / "out")
    assert [r.kind for r in report.remarks] == ["odd"]
    assert (read_labels(tmp_path / "out" / "masks" / "000_HC.png")[11:30, :20] == 1).all()


def test_a_folder_of_something_else_is_refused_with_what_was_expected(imitate, tmp_path):
    with pytest.raises(DatasetError, match=r"bus_0001-l\.png with Masks/mask_0001-l\.png"):
        prepare_dataset(known_dataset("BUS-BRA"), imitate("BUSI"), tmp_path / "out")
    with pytest.raises(DatasetError, match="no such folder"):
        prepare_dataset(known_dataset("BUSI"), tmp_path / "nowhere", tmp_path / "out")


def test_the_result_is_never_written_into_the_original_nor_over_another(imitate, tmp_path):
    folder = imitate("STU")
    with pytest.raises(DatasetError, match="only read"):
        prepare_dataset(known_dataset("STU"), folder, folder / "out")
    prepare_dataset(known_dataset("STU"), folder, tmp_path / "out")
    with pytest.raises(LabelWriteError, match="holds an earlier result"):
        prepare_dataset(known_dataset("STU"), folder, tmp_path / "out")
    prepare_dataset(known_dataset("STU"), folder, tmp_path / "out", overwrite=True)
