from __future__ import annotations

import json
import os
import tempfile
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_usgseg.core.errors import DatasetError, ImageReadError
from napari_usgseg.io.datasets import (
    Dataset,
    DatasetItem,
    leave_one_out,
    read_dataset,
    read_folds,
    read_pair,
    read_splits,
    split_by_group,
    split_of,
    write_splits,
)

quick = settings(deadline=None, max_examples=60)

CARD = {
    "name": "phantoms",
    "organ": "breast",
    "target": "breast tumor",
    "labels": {"1": "breast tumor (any)", "2": "cyst"},
    "items": [
        {"id": "a", "group": "p1", "finding": "benign", "pixel_size_mm": 0.1},
        {"id": "b", "group": "p2"},
        {"id": "c"},
    ],
}


NAMES = ((1, "nerve"), (2, "vessel"))


def write_folder(folder, card=CARD):
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
        for item in card["items"]:
            Image.fromarray(np.zeros((4, 5), np.uint8)).save(folder / part / f"{item['id']}.png")
    (folder / "dataset.json").write_text(json.dumps(card), encoding="utf-8")
    return folder


def dataset_of(groups, name="d"):
    items = tuple(
        DatasetItem(f"i{index}", group, f"i{index}.png", f"m{index}.png")
        for index, group in enumerate(groups)
    )
    return Dataset(name, "breast", "breast tumor", {1: "breast tumor"}, items)


GROUPS = st.lists(st.integers(0, 30).map(str), max_size=80)


@quick
@given(GROUPS, st.integers(0, 5))
def test_every_item_is_on_one_side_and_no_group_on_two(groups, seed):
    dataset = dataset_of(groups)
    split = split_by_group(dataset, seed)
    sides = (split.train, split.val, split.test)
    placed = [item_id for side in sides for item_id in side]
    assert sorted(placed) == sorted(item.item_id for item in dataset.items)
    group_of = {item.item_id: item.group for item in dataset.items}
    on_sides = [{group_of[item_id] for item_id in side} for side in sides]
    assert not on_sides[0] & on_sides[1]
    assert not on_sides[0] & on_sides[2]
    assert not on_sides[1] & on_sides[2]


@quick
@given(GROUPS, st.integers(0, 5), st.randoms())
def test_a_split_does_not_depend_on_the_order_of_items(groups, seed, random):
    dataset = dataset_of(groups)
    shuffled = list(dataset.items)
    random.shuffle(shuffled)
    other = Dataset(dataset.name, "", "", dataset.labels, tuple(shuffled))
    assert split_by_group(dataset, seed) == split_by_group(other, seed)


def test_the_seed_and_the_name_change_the_split():
    groups = [str(number) for number in range(60)]
    first = split_by_group(dataset_of(groups), 0)
    assert split_by_group(dataset_of(groups), 0) == first
    assert split_by_group(dataset_of(groups), 1) != first
    assert split_by_group(dataset_of(groups, "other"), 0) != first


def test_the_sides_have_the_sizes_that_were_asked_for():
    split = split_by_group(dataset_of([str(number) for number in range(200)]), 0, 0.1, 0.15)
    assert (len(split.train), len(split.val), len(split.test)) == (150, 20, 30)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_very_few_groups_still_train(count):
    split = split_by_group(dataset_of([str(number) for number in range(count)]))
    assert len(split.test) == (1 if count == 3 else 0)
    assert len(split.train) == count - len(split.test)


def test_splits_come_back_from_their_file(tmp_path):
    datasets = [dataset_of([str(n) for n in range(30)], name) for name in ("a", "b")]
    splits = {each.name: split_by_group(each, 3) for each in datasets}
    write_splits(splits, tmp_path / "splits.json", seed=3)
    assert read_splits(tmp_path / "splits.json") == {
        dataset.name: split_by_group(dataset, 3) for dataset in datasets
    }


@quick
@given(GROUPS.filter(bool))
def test_leaving_one_group_out_tests_each_item_once_and_never_where_its_group_trains(groups):
    dataset = dataset_of(groups)
    folds = leave_one_out(dataset)
    tested = [item_id for fold in folds.values() for item_id in fold.test]
    assert sorted(tested) == sorted(item.item_id for item in dataset.items)
    group_of = {item.item_id: item.group for item in dataset.items}
    for name, fold in folds.items():
        assert {group_of[item_id] for item_id in fold.test} == {name}
        assert name not in {group_of[item_id] for item_id in fold.train}


def test_folds_come_back_from_their_file_and_files_without_them_have_none(tmp_path):
    dataset = dataset_of(["h", "h", "b"], "abdomen")
    splits, folds = {"abdomen": split_by_group(dataset)}, {"abdomen": leave_one_out(dataset)}
    write_splits(splits, tmp_path / "folds.json", folds=folds)
    write_splits(splits, tmp_path / "none.json")
    assert read_folds(tmp_path / "folds.json") == folds
    assert read_splits(tmp_path / "folds.json") == splits
    assert read_folds(tmp_path / "none.json") == {}


def test_a_fold_is_asked_for_behind_the_files_name(tmp_path):
    dataset = dataset_of(["h", "h", "b"], "abdomen")
    path = tmp_path / "splits.json"
    write_splits(
        {"abdomen": split_by_group(dataset)}, path, folds={"abdomen": leave_one_out(dataset)}
    )
    assert split_of(f"{path}#b", "abdomen") == leave_one_out(dataset)["b"]
    assert split_of(path, "abdomen") == split_by_group(dataset)
    with pytest.raises(DatasetError, match="no fold 'c' of 'abdomen', only b, h"):
        split_of(f"{path}#c", "abdomen")


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"datasets": {"a": {"train": []}}}'])
def test_what_is_no_split_file_says_how_to_make_one(tmp_path, text):
    path = tmp_path / "splits.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DatasetError, match="make_splits"):
        read_splits(path)


def test_a_folder_is_read_with_its_groups_findings_and_phrases(tmp_path):
    folder = write_folder(tmp_path / "a b ü")
    dataset = read_dataset(str(folder))
    assert (dataset.name, dataset.organ, dataset.target) == ("phantoms", "breast", "breast tumor")
    assert [item.item_id for item in dataset.items] == ["a", "b", "c"]
    assert [item.group for item in dataset.items] == ["p1", "p2", "c"]
    assert (dataset.items[0].finding, dataset.items[0].spacing_mm) == ("benign", (0.1, 0.1))
    assert dataset.items[1].image_path == folder / "images" / "b.png"
    assert (dataset.phrase(1), dataset.phrase(2)) == ("breast tumor", "cyst")
    assert [item.item_id for item in dataset.only(["c", "a"]).items] == ["a", "c"]


def without(key):
    return {name: value for name, value in CARD.items() if name != key}


@pytest.mark.parametrize(
    "card",
    [
        "",
        "null",
        "[]",
        "{",
        *(json.dumps(without(key)) for key in ("name", "organ", "target", "labels", "items")),
        json.dumps({**CARD, "labels": []}),
        json.dumps({**CARD, "labels": {"0": "background"}}),
        json.dumps({**CARD, "labels": {"tumor": 1, "cyst": 1}}),
        json.dumps({**CARD, "labels": {"one": "breast tumor"}}),
        json.dumps({**CARD, "items": [{"group": "p1"}]}),
        json.dumps({**CARD, "items": 3}),
    ],
)
def test_a_malformed_card_names_the_file_and_what_was_expected(tmp_path, card):
    folder = write_folder(tmp_path / "set")
    (folder / "dataset.json").write_text(card)
    with pytest.raises(DatasetError, match="expected name, organ") as caught:
        read_dataset(folder)
    assert caught.value.path == folder / "dataset.json"


@pytest.mark.parametrize(
    "labels",
    [
        {"1": "nerve", "2": "vessel"},
        {"0": "background", "2": "vessel", "1": "nerve"},
        ["nerve", "vessel"],
        ["Background", "nerve", "vessel"],
        {"nerve": 1, "vessel": 2},
        {"background": 0, "nerve": "1", "vessel": "2"},
        [{"id": 1, "name": "nerve"}, {"id": 2, "name": "vessel"}],
        [{"value": 0, "name": "background"}, *({"value": v, "name": n} for v, n in NAMES)],
        {"1": {"name": "nerve", "color": "#ffffff"}, "2": {"name": "vessel"}},
    ],
)
def test_labels_are_read_in_every_way_that_people_write_them(tmp_path, labels):
    folder = write_folder(tmp_path / "set", {**CARD, "labels": labels})
    dataset = read_dataset(folder)
    assert list(dataset.labels.items()) == list(NAMES)
    assert dataset.items[0].labels == (1, 2)


def test_two_labels_of_one_phrase_are_two_classes(tmp_path):
    card = {**CARD, "target": "Nerve", "labels": {"1": "left", "2": "nerve", "3": " "}}
    dataset = read_dataset(write_folder(tmp_path / "set", card))
    assert dataset.class_names() == {1: "Nerve (1)", 2: "nerve (2)", 3: "label 3"}
    folder = write_folder(tmp_path / "other", {**card, "target": " "})
    assert read_dataset(folder).class_names() == {1: "left", 2: "nerve", 3: "label 3"}


def test_a_card_of_a_windows_editor_with_unknown_groups_is_read(tmp_path):
    items = [
        {"id": 1.5, "group": None, "finding": 3, "pixel_size_mm": [0.1, 0.1]},
        {"id": "b", "group": "", "pixel_size_mm": [0.1, 0.2]},
        {"id": "c", "group": 7, "pixel_size_mm": "unknown"},
    ]
    folder = write_folder(tmp_path / "set", {**CARD, "items": items})
    card = folder / "dataset.json"
    card.write_text(card.read_text(), encoding="utf-8-sig")
    found = read_dataset(folder).items
    assert [(item.item_id, item.group) for item in found] == [
        ("1.5", "1.5"),
        ("b", "b"),
        ("c", "7"),
    ]
    assert [item.spacing_mm for item in found] == [(0.1, 0.1), (0.1, 0.2), None]
    assert found[0].finding == "3"
    card.write_text(json.dumps({**CARD, "items": ["b", "c"]}))
    assert [item.item_id for item in read_dataset(folder).items] == ["b", "c"]


@pytest.mark.parametrize(
    ("item_id", "name"), [("1.2.3", "1.2.3.JPG"), ("b", "b.tif"), ("c.png", "c.png")]
)
def test_images_need_not_be_png_nor_ids_without_dots(tmp_path, item_id, name):
    folder = write_folder(tmp_path / "set", {**CARD, "items": [{"id": "x"}]})
    (folder / "images" / "x.png").rename(folder / "images" / name)
    stem = item_id.removesuffix(".png")
    (folder / "masks" / "x.png").rename(folder / "masks" / f"{stem}.png")
    (folder / "dataset.json").write_text(json.dumps({**CARD, "items": [{"id": item_id}]}))
    (item,) = read_dataset(folder).items
    assert (item.image_path.name, item.mask_path.name) == (name, f"{stem}.png")


@pytest.mark.parametrize("part", ["images", "masks"])
def test_a_listed_file_that_is_missing_is_named_when_it_is_read(tmp_path, part):
    folder = write_folder(tmp_path / "set")
    (folder / part / "b.png").unlink()
    first, second, _ = read_dataset(folder).items
    read_pair(first)
    with pytest.raises(ImageReadError, match="no such file") as caught:
        read_pair(second)
    assert caught.value.path == folder / part / "b.png"


@pytest.mark.parametrize(
    ("items", "said"), [([], "no items"), ([{"id": "a"}, {"id": "b"}, {"id": "a"}], "'a' twice")]
)
def test_a_card_lists_every_image_once(tmp_path, items, said):
    folder = write_folder(tmp_path / "set")
    (folder / "dataset.json").write_text(json.dumps({**CARD, "items": items}))
    with pytest.raises(DatasetError, match=said):
        read_dataset(folder)


def test_a_folder_without_a_data_set_says_how_to_make_one(tmp_path):
    with pytest.raises(DatasetError, match="usgseg export"):
        read_dataset(tmp_path)
    with pytest.raises(DatasetError, match="no such folder"):
        read_dataset(tmp_path / "gone")


def sam2rad_folder(folder):
    for part, name in (("Train", "x1"), ("Train", "x2"), ("Test", "y1")):
        for kind, suffix in (("imgs", "jpg"), ("gts", "png")):
            (folder / part / kind).mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(np.zeros((4, 5), np.uint8))
            image.save(folder / part / kind / f"{name}.{suffix}")
    return folder


def test_the_layout_of_sam2rad_is_read(tmp_path):
    dataset = read_dataset(sam2rad_folder(tmp_path / "shoulder_bone"))
    assert [item.item_id for item in dataset.items] == ["Train-x1", "Train-x2", "Test-y1"]
    assert dataset.items[0].mask_path.name == "x1.png"
    assert dataset.phrase(1) == "shoulder bone"


def test_an_image_of_sam2rad_without_its_mask_is_named(tmp_path):
    folder = sam2rad_folder(tmp_path / "bone")
    (folder / "Train" / "gts" / "x2.png").unlink()
    item = read_dataset(folder).items[1]
    with pytest.raises(ImageReadError, match=r"gts.x2\.png: no such file"):
        read_pair(item)


def test_the_real_data_sets_are_read(data_folder):
    folders = [path.parent for path in sorted(data_folder.glob("*/dataset.json"))]
    assert folders
    for folder in folders:
        dataset = read_dataset(folder)
        assert dataset.name == folder.name
        assert dataset.items
        if len({item.group for item in dataset.items}) >= 3:
            split = split_by_group(dataset)
            assert len(split.test) >= 0.15 * len(dataset.items)


# -- pairing by name ---------------------------------------------------------------------------


def bare_folder(folder, ids, images, masks):
    """A data set whose files are empty: only their names count."""
    for part, names in (("images", images), ("masks", masks)):
        for name in names:
            (folder / part / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / part / name).touch()
    (folder / "dataset.json").write_text(json.dumps({**CARD, "items": ids}), encoding="utf-8")
    return folder


def bare_sam2rad(folder, images, masks):
    for part, names in (("imgs", images), ("gts", masks)):
        (folder / "Train" / part).mkdir(parents=True)
        for name in names:
            (folder / "Train" / part / name).touch()
    return folder


def pairs(folder):
    return [
        (
            item.item_id,
            item.image_path.relative_to(folder).as_posix().partition("/")[2],
            item.mask_path.relative_to(folder).as_posix().partition("/")[2],
        )
        for item in read_dataset(folder).items
    ]


@pytest.mark.parametrize(
    ("ids", "images", "masks", "expected"),
    [
        (["a.png", "a.jpg"], "a.jpg a.png", "a.jpg.png a.png", "a.png>a.png a.jpg>a.jpg.png"),
        (["a.jpg", "a.tif"], "a.jpg a.tif", "a.jpg a.tif", "a.jpg>a.jpg a.tif>a.tif"),
        (["a.JPG"], "a.JPG a.png", "a.JPG.png a.png", "a.JPG>a.JPG.png"),
        (["a.png"], "a.jpg a.png", "a.png", "a.png>a.png"),
        (["a.jpg"], "a.jpg", "a.png", "a.jpg>a.png"),
        (["a.png"], "a.png a.png.png", "a.png a.png.png", "a.png>a.png"),
        (["a", "a.png"], "a.png a.png.png", "a.png a.png.png", "a.png>a.png a.png.png>a.png.png"),
        (["a"], "a.png a.jpg", "a.jpg a.png", "a.png>a.png"),
        (["a"], "a.jpeg", "a.jpg", "a.jpeg>a.jpg"),
        (["a.1", "a"], "a.1.bmp a.bmp", "a.1.png a.png", "a.1.bmp>a.1.png a.bmp>a.png"),
        (["c/1", "d/1"], "c/1.tif d/1.png", "c/1.png d/1.png", "c/1.tif>c/1.png d/1.png>d/1.png"),
        (["c/1"], "c_1~d1fe8adc0f.png", "c/1.png", "c_1~d1fe8adc0f.png>c/1.png"),
    ],
)
def test_an_id_is_a_file_name_first_and_then_a_stem(tmp_path, ids, images, masks, expected):
    folder = bare_folder(tmp_path, ids, images.split(), masks.split())
    assert [item_id for item_id, _, _ in pairs(folder)] == ids
    assert " ".join(f"{image}>{mask}" for _, image, mask in pairs(folder)) == expected


@pytest.mark.parametrize(
    ("ids", "images", "masks", "said"),
    [
        (["a", "a.png"], "a.png", "a.png", r"images.a\.png: could be the file of 'a' and 'a\.png'"),
        (["a.jpg", "a.png"], "a.jpg a.png", "a.png", r"masks.a\.png: could be the file of"),
        (["a.jpg"], "a.jpg a.png", "a.png", r"masks.a\.png: could be the mask of 'a\.jpg' or of a"),
        (["a"], "a.jpg a.tif", "a.png", r"images.a\.jpg: and a\.tif stand for the same image"),
        (["a"], "a.png", "a.bmp a.jpg", r"masks.a\.jpg: and a\.bmp stand for the same image"),
        (["\u00fc", "u\u0308"], "\u00fc.png", "\u00fc.png", "twice"),
        (["a", "../images/a"], "a.png", "a.png", r"'\.\./images/a' leads out of"),
        (["..\\a"], "a.png", "a.png", "leads out of"),
        (["c/../a"], "a.png", "a.png", "leads out of"),
        ([str(Path.home().absolute() / "a")], "a.png", "a.png", "leads out of"),
    ],
)
def test_what_two_items_could_share_is_refused_by_name(tmp_path, ids, images, masks, said):
    bare_folder(tmp_path, ids, images.split(), masks.split())
    with pytest.raises(DatasetError, match=said):
        read_dataset(tmp_path)


def test_a_composed_id_finds_a_decomposed_file_and_the_other_way_round(tmp_path):
    composed, parted = "Schilddr\u00fcse", unicodedata.normalize("NFD", "Schilddr\u00fcse")
    bare_folder(tmp_path / "a", [composed], [f"{parted}.png"], [f"{parted}.PNG"])
    bare_folder(tmp_path / "b", [f"{parted}.jpg"], [f"{composed}.jpg"], [f"{composed}.png"])
    for name in ("a", "b"):
        (item,) = read_dataset(tmp_path / name).items
        assert item.image_path.is_file()
        assert item.mask_path.is_file()


def test_an_image_of_sam2rad_gets_the_mask_of_its_own_stem(tmp_path):
    names = ["case7.10.png", "case7.2.png", "case7.png"]
    assert pairs(bare_sam2rad(tmp_path, names, names)) == [
        (f"Train-{name.removesuffix('.png')}", f"imgs/{name}", f"gts/{name}") for name in names
    ]


@pytest.mark.parametrize("missing", ["case7.png", "case7.10.png"])
def test_a_missing_mask_of_sam2rad_is_not_another_images(tmp_path, missing):
    names = ["case7.10.png", "case7.png"]
    folder = bare_sam2rad(tmp_path, names, [name for name in names if name != missing])
    (item,) = [item for item in read_dataset(folder).items if item.image_path.name == missing]
    assert item.mask_path == folder / "Train" / "gts" / missing


def test_hidden_files_are_no_items_of_sam2rad(tmp_path):
    images = ["x.jpg", "._x.jpg", ".y.png", "Thumbs.db", "notes.txt"]
    folder = bare_sam2rad(tmp_path, images, ["x.png", "._x.png", ".y.png"])
    assert pairs(folder) == [("Train-x", "imgs/x.jpg", "gts/x.png")]


def test_two_images_of_one_stem_are_refused_by_name_in_sam2rads_layout(tmp_path):
    folder = bare_sam2rad(tmp_path, ["x.jpg", "x.png"], ["x.png"])
    with pytest.raises(DatasetError, match=r"imgs.x\.png: and x\.jpg would be one item"):
        read_dataset(folder)


STEMS = st.lists(
    st.text(alphabet="aB.1\u00fc-", min_size=1, max_size=5).filter(
        lambda stem: not stem.startswith(".") and stem.strip(".") == stem
    ),
    min_size=1,
    max_size=6,
    unique_by=str.casefold,
)
SUFFIXES = st.sampled_from((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".PNG", ".TIF"))


@settings(deadline=None, max_examples=60)
@given(st.data(), STEMS, st.sampled_from(("NFC", "NFD")), st.booleans())
def test_every_item_is_paired_with_what_is_named_like_it(data, stems, form, whole):
    """Whatever the dots, umlauts and suffixes, and whether ids are stems or whole file names."""
    images = [stem + data.draw(SUFFIXES) for stem in stems]
    masks = [stem + data.draw(SUFFIXES) for stem in stems]
    with tempfile.TemporaryDirectory() as place:
        on_disk = [[unicodedata.normalize(form, n) for n in names] for names in (images, masks)]
        folder = bare_folder(Path(place), images if whole else stems, *on_disk)
        hidden = folder / "images" / f"._{images[0]}"
        hidden.touch()
        found = read_dataset(folder).items
        assert [item.image_path.name for item in found] == on_disk[0]
        assert [item.mask_path.name for item in found] == on_disk[1]
        rad = bare_sam2rad(folder / "rad", *on_disk)
        assert Counter((i.image_path.name, i.mask_path.name) for i in read_dataset(rad).items) == (
            Counter(zip(*on_disk, strict=True))
        )


def test_images_whose_names_are_no_utf8_are_items_too(tmp_path):
    odd = os.fsdecode(b"latin\xe9")
    try:
        bare_sam2rad(tmp_path, [f"{odd}.png"], [f"{odd}.png"])
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    dataset = read_dataset(tmp_path)
    assert dataset.items[0].mask_path.is_file()
    assert split_by_group(dataset).train == (r"Train-latin\xe9",)
