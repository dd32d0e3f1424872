from __future__ import annotations

import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from pycocotools.coco import COCO

from napari_usgseg.core.errors import (
    Cancelled,
    DatasetError,
    ImageReadError,
    LabelWriteError,
    PromptError,
    readable,
)
from napari_usgseg.core.types import ImageRecord, LabelClass
from napari_usgseg.io import export, formats, outputs
from napari_usgseg.io.atomic import write_over
from napari_usgseg.io.datasets import read_dataset, split_by_group
from napari_usgseg.io.export import export_images
from napari_usgseg.io.formats import ExportFormat
from napari_usgseg.io.images import read_image
from napari_usgseg.io.labels import read_classes, read_labels, write_labels

CLASSES = [LabelClass(1, "breast tumor", "#e69f00"), LabelClass(2, "cyst", "#56b4e9")]
ABOUT = {"name": "mine", "organ": "breast", "target": "breast tumor", "classes": CLASSES}


def export_pairs(pairs, out, **options):
    """Export pairs of an image's record and the path of its label map."""
    label_paths = dict(pairs)

    def read(record):
        return read_image(record.path, record.frame), read_labels(label_paths[record])

    return export_images(list(label_paths), read, out, reads=label_paths.values(), **options)


def record_of(folder, image_id, pixels, labels, **more):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{image_id}.png"
    Image.fromarray(pixels).save(path)
    label_path = folder / "labels" / f"{image_id}.png"
    write_labels(label_path, labels, write_over)
    return ImageRecord(image_id, path, None, labels.shape, **more), label_path


@settings(deadline=None, max_examples=20)
@given(
    st.lists(
        st.tuples(st.integers(1, 20), st.integers(1, 20)).flatmap(
            lambda shape: st.tuples(
                hnp.arrays(np.uint8, (*shape, 3)),
                hnp.arrays(np.uint16, shape, elements=st.sampled_from([0, 1, 2, 700])),
            )
        ),
        min_size=1,
        max_size=3,
    )
)
def test_what_is_exported_is_read_back_pixel_by_pixel(tmp_path_factory, pairs):
    tmp_path = tmp_path_factory.mktemp("export")
    records = [
        record_of(tmp_path / "in", f"bild ü {index}", image, labels)
        for index, (image, labels) in enumerate(pairs)
    ]
    folder = export_pairs(records, tmp_path / "out", **ABOUT).whole()
    dataset = read_dataset(folder)
    assert (dataset.name, dataset.organ, dataset.target) == ("mine", "breast", "breast tumor")
    assert len(dataset.items) == len(pairs)
    for item, (image, labels) in zip(dataset.items, pairs, strict=True):
        assert np.array_equal(read_image(item.image_path), image)
        back = read_labels(item.mask_path)
        assert np.array_equal(back, labels)
        for value in np.unique(back[back > 0]):
            assert dataset.phrase(int(value))


@pytest.fixture
def pair(tmp_path):
    grey = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    labels = np.zeros((20, 30), np.uint8)
    labels[4:9, 5:12] = 1
    return record_of(tmp_path / "in", "a", grey, labels, spacing_mm=(0.2, 0.2))


def test_the_card_says_what_is_known_of_each_image(tmp_path, pair):
    folder = export_pairs([pair], tmp_path / "out", **ABOUT).whole()
    card = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    assert card["labels"] == {"1": "breast tumor", "2": "cyst"}
    assert card["items"] == [
        {
            "id": "a",
            "group": "a",
            "width": 30,
            "height": 20,
            "empty_mask": False,
            "source": "a.png",
            "pixel_size_mm": 0.2,
        }
    ]
    assert read_classes(folder / "classes.json") == CLASSES
    with Image.open(folder / "images" / "a.png") as image:
        assert image.mode == "L"


def test_deep_images_are_exported_by_the_rule_of_reading(tmp_path):
    deep = np.linspace(0, 4095, 600).reshape(20, 30).astype(np.uint16)
    pair = record_of(tmp_path, "deep", deep, np.ones((20, 30), int))
    folder = export_pairs([pair], tmp_path / "out", **ABOUT).whole()
    exported = read_image(folder / "images" / "deep.png")
    assert np.array_equal(exported, read_image(pair[0].path))


def test_groups_are_taken_from_the_mapping_and_frames_of_a_file_stay_together(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (6, 20, 30), np.uint8)
    video = tmp_path / "video.tif"
    tifffile.imwrite(video, frames, photometric="minisblack")
    write_labels(tmp_path / "labels.png", np.ones((20, 30), int))
    records = [
        (ImageRecord(f"video-{index}", video, index, (20, 30)), tmp_path / "labels.png")
        for index in range(6)
    ]
    out = export_pairs(records, tmp_path / "out", **ABOUT, groups={"video-5": "patient 7"}).whole()
    dataset = read_dataset(out)
    assert [item.group for item in dataset.items] == ["video"] * 5 + ["patient 7"]
    assert np.array_equal(read_image(dataset.items[3].image_path)[..., 0], frames[3])
    split = split_by_group(dataset)
    assert split.test == ()


def test_a_bad_image_is_reported_and_the_others_are_there(tmp_path, pair):
    damaged = record_of(tmp_path / "in", "b", np.zeros((9, 9), np.uint8), np.ones((9, 9), int))
    damaged[0].path.write_bytes(b"no image")
    small = record_of(tmp_path / "in", "c", np.zeros((9, 9), np.uint8), np.ones((8, 9), int))
    unlabelled = (ImageRecord("d", pair[0].path, None, (20, 30)), tmp_path / "absent.png")
    records = [damaged, small, pair, unlabelled]
    report = export_pairs(records, tmp_path / "out", **ABOUT)
    assert report.exported == ("a",)
    assert [failure.image_id for failure in report.failures] == ["b", "c", "d"]
    assert isinstance(report.failures[0].error, ImageReadError)
    assert "exactly" in str(report.failures[1].error)
    assert "no such file" in str(report.failures[2].error)
    assert [item.item_id for item in read_dataset(tmp_path / "out").items] == ["a"]
    assert sorted(os.listdir(tmp_path / "out" / "images")) == ["a.png"]


def test_the_short_way_names_what_was_left_out_and_keeps_the_rest(tmp_path, pair):
    damaged = record_of(tmp_path / "in", "b", np.zeros((9, 9), np.uint8), np.ones((9, 9), int))
    damaged[0].path.write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"1 images exported, 1 left out: b"):
        export_pairs([damaged, pair], tmp_path / "out", **ABOUT).whole()
    assert len(read_dataset(tmp_path / "out").items) == 1


def test_two_images_of_one_id_do_not_overwrite_each_other(tmp_path, pair):
    other = record_of(tmp_path / "other", "a", np.zeros((9, 9), np.uint8), np.ones((9, 9), int))
    report = export_pairs([pair, other], tmp_path / "out", **ABOUT, overwrite=True)
    assert "second image" in str(report.failures[0].error)
    assert read_labels(tmp_path / "out" / "masks" / "a.png").shape == (20, 30)


IDS = [
    "../a", "x/../../../../evil", "..", ".", "a/b", "a_b", "..\\a", "C:\\a", "/etc/a", "CON",
    "con.x", "a:b", "a?b", "dot.", "dot", "A", "a", " a", "a ", "\u00fc", "u\u0308", "x" * 300,
    "x" * 299 + "y", "tumor/left", "a.png", "a.jpg", "-a", "line\nbreak", "line\\nbreak",
    "latin \udce9", "", "~",
]  # fmt: skip
"""Ids that a card or a file system may bring along; no two are one."""


def export_ids(tmp_path, ids, **options):
    """An export of images of these ids, each with its own pixels and labels."""
    values = {image_id: 1 + index for index, image_id in enumerate(ids)}
    pairs = []
    for image_id, value in values.items():
        record, label_path = record_of(
            tmp_path / "in", str(value), np.full((6, 8), value, np.uint8), np.full((6, 8), value)
        )
        pairs.append((ImageRecord(image_id, record.path, None, (6, 8)), label_path))
    return values, export_pairs(pairs, tmp_path / "deep" / "er" / "out", **ABOUT, **options)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.one_of(st.sampled_from(IDS), st.text(max_size=12)), unique=True, min_size=1))
def test_no_id_leaves_the_folder_and_each_is_read_back(tmp_path_factory, ids):
    tmp_path = tmp_path_factory.mktemp("ids")
    values, report = export_ids(tmp_path, ids)
    assert report.failures == ()
    assert {path.name for path in tmp_path.iterdir()} == {"in", "deep"}
    assert sorted(os.listdir(report.folder)) == [
        ".usgseg-written.jsonl", "README.md", "classes.json", "dataset.json", "images", "masks",
    ]  # fmt: skip
    names = os.listdir(report.folder / "images")
    assert len({name.casefold() for name in names}) == len(ids)
    items = read_dataset(report.folder).items
    assert len(items) == len(ids)
    for item, (image_id, value) in zip(items, values.items(), strict=True):
        assert (read_image(item.image_path) == value).all()
        assert (read_labels(item.mask_path) == value).all()
        assert item.item_id == readable(image_id) or "~" in item.item_id


def files_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() or path.is_symlink()
    }


def test_a_data_set_that_is_there_stays_unless_told_otherwise(tmp_path, pair):
    out = export_pairs([pair], tmp_path / "out", **ABOUT).whole()
    before = files_of(out)
    with pytest.raises(LabelWriteError, match="holds an earlier result"):
        export_pairs([pair], out, **{**ABOUT, "name": "other"})
    assert files_of(out) == before
    export_pairs([pair], out, **{**ABOUT, "name": "other"}, overwrite=True).whole()
    assert read_dataset(out).name == "other"


@pytest.mark.parametrize(
    "name", ["notes.txt", ".hidden", "images/scan.png", "masks/b.png", "other/x", "dataset.json"]
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_holds_anything_else_is_left_as_it_is(tmp_path, pair, name, overwrite):
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_bytes(b"mine")
    with pytest.raises(LabelWriteError, match="holds other files"):
        export_pairs([pair], out, **ABOUT, overwrite=overwrite)
    assert files_of(out) == {name: b"mine"}


def test_what_file_managers_leave_in_a_folder_makes_it_no_other_s(tmp_path, pair):
    out = tmp_path / "out"
    out.mkdir()
    (out / ".DS_Store").write_bytes(b"")
    export_pairs([pair], out, **ABOUT).whole()
    assert len(read_dataset(out).items) == 1


@pytest.mark.parametrize("name", ["images/a.png", "masks/a.png", "dataset.json", "classes.json"])
def test_an_export_that_a_person_changed_is_never_replaced(tmp_path, pair, name):
    out = export_pairs([pair], tmp_path / "out", **ABOUT).whole()
    (out / name).write_bytes((out / name).read_bytes() + b" ")
    before = files_of(out)
    with pytest.raises(LabelWriteError, match="holds other files"):
        export_pairs([pair], out, **ABOUT, overwrite=True)
    assert files_of(out) == before


def test_an_export_without_a_record_counts_as_a_person_s(tmp_path, pair):
    out = export_pairs([pair], tmp_path / "out", **ABOUT).whole()
    (out / ".usgseg-written.jsonl").unlink()
    with pytest.raises(LabelWriteError, match="holds other files"):
        export_pairs([pair], out, **ABOUT, overwrite=True)


def test_an_export_that_is_replaced_leaves_nothing_of_the_earlier_one(tmp_path, pair):
    codes = np.full((6, 8), 1001, np.uint16)
    others = [
        record_of(tmp_path / "in", name, np.zeros((6, 8), np.uint8), codes) for name in ("b", "c")
    ]
    out = tmp_path / "out"
    export_pairs(others, out, labelling="instance", **ABOUT).whole()
    export_pairs([pair], out, **ABOUT, overwrite=True).whole()
    assert sorted(files_of(out)) == [
        ".usgseg-written.jsonl", "README.md", "classes.json", "dataset.json", "images/a.png",
        "masks/a.png",
    ]  # fmt: skip
    assert not (out / "instances").exists()
    assert [item.item_id for item in read_dataset(out).items] == ["a"]


def test_an_export_of_nothing_leaves_the_earlier_one(tmp_path, pair):
    out = export_pairs([pair], tmp_path / "out", **ABOUT).whole()
    before = files_of(out)
    pair[0].path.write_bytes(b"no image")
    assert export_pairs([pair], out, **ABOUT, overwrite=True).exported == ()
    assert files_of(out) == before


def test_an_image_whose_mask_cannot_be_written_is_left_out_whole(tmp_path, pair, monkeypatch):
    other = record_of(tmp_path / "in", "b", np.zeros((9, 9), np.uint8), np.ones((9, 9), int))
    write = outputs.write_atomically

    def full(path, data, *, overwrite):
        if path == tmp_path / "out" / "masks" / "b.png":
            raise LabelWriteError(path, "the disk is full")
        write(path, data, overwrite=overwrite)

    monkeypatch.setattr(outputs, "write_atomically", full)
    report = export_pairs([other, pair], tmp_path / "out", **ABOUT)
    assert [failure.image_id for failure in report.failures] == ["b"]
    assert os.listdir(tmp_path / "out" / "images") == ["a.png"]
    assert [item.item_id for item in read_dataset(tmp_path / "out").items] == ["a"]


def test_an_export_that_was_cut_off_is_no_data_set_and_can_be_made_anew(
    tmp_path, pair, monkeypatch
):
    out = export_pairs([pair], tmp_path / "out", **ABOUT).whole()
    write = outputs.write_atomically

    def killed(path, data, *, overwrite):
        if path.parent.name == "masks":
            raise KeyboardInterrupt
        write(path, data, overwrite=overwrite)

    monkeypatch.setattr(outputs, "write_atomically", killed)
    with pytest.raises(KeyboardInterrupt):
        export_pairs([pair], out, **ABOUT, overwrite=True)
    monkeypatch.undo()
    with pytest.raises(DatasetError, match="no data set here"):
        read_dataset(out)
    export_pairs([pair], out, **ABOUT, overwrite=True).whole()
    assert len(read_dataset(out).items) == 1


def test_an_export_into_the_export_that_it_reads_is_refused(tmp_path, pair):
    """All of it is the program's own, so nothing else would keep it."""
    first = export_pairs([pair], tmp_path / "first", **ABOUT).whole()
    (item,) = read_dataset(first).items
    record = ImageRecord("a", item.image_path, None, (20, 30))
    before = files_of(first)
    for out in (first, first / "images", tmp_path):
        with pytest.raises(LabelWriteError, match="holds what this command reads"):
            export_pairs([(record, item.mask_path)], out, **ABOUT, overwrite=True)
    assert files_of(first) == before


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [((0.2, 0.2), 0.2), ((0.25, 0.2), [0.25, 0.2]), (None, None)],
)
def test_the_spacing_is_written_as_row_and_column_where_they_differ(tmp_path, spacing, expected):
    labels = np.ones((6, 8), int)
    pair = record_of(tmp_path, "a", np.zeros((6, 8), np.uint8), labels, spacing_mm=spacing)
    out = export_pairs([pair], tmp_path / "out", **ABOUT).whole()
    card = json.loads((out / "dataset.json").read_text())
    assert card["items"][0].get("pixel_size_mm") == expected
    assert read_dataset(out).items[0].spacing_mm == spacing


def test_the_spacing_of_a_tiff_is_written(tmp_path):
    record, label_path = record_of(tmp_path, "a", np.zeros((6, 8), np.uint8), np.ones((6, 8), int))
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, np.zeros((6, 8), np.uint8), imagej=True, resolution=(4, 4), metadata={"unit": "mm"}
    )
    record = ImageRecord("a", path, None, (6, 8))
    out = export_pairs([(record, label_path)], tmp_path / "out", **ABOUT).whole()
    assert read_dataset(out).items[0].spacing_mm == (0.25, 0.25)


def test_objects_told_apart_are_exported_as_classes_and_as_codes(tmp_path):
    labels = np.zeros((6, 8), np.uint16)
    labels[0, :2], labels[2, :3], labels[4, 4:] = 1001, 1002, 2001
    pixels = np.zeros((6, 8, 3), np.uint8)
    records = [
        record_of(tmp_path / "in", "a", pixels, labels),
        record_of(tmp_path / "in", "nothing", pixels, np.zeros((6, 8), np.uint8)),
    ]
    out = export_pairs(records, tmp_path / "out", labelling="instance", **ABOUT).whole()
    dataset = read_dataset(out)
    assert dataset.labels == {1: "breast tumor", 2: "cyst"}
    assert np.array_equal(read_labels(dataset.items[0].mask_path), labels // 1000)
    for image_id, expected in (("a", labels), ("nothing", np.zeros_like(labels))):
        with Image.open(out / "instances" / f"{image_id}.png") as file:
            assert file.mode == "I;16"
            assert np.array_equal(np.asarray(file), expected)
    assert json.loads((out / "dataset.json").read_text())["labelling"] == "instance"


def test_an_export_of_classes_has_no_instances(tmp_path):
    pixels = np.zeros((6, 8, 3), np.uint8)
    records = [record_of(tmp_path / "in", "a", pixels, np.ones((6, 8), np.uint8))]
    out = export_pairs(records, tmp_path / "out", **ABOUT).whole()
    assert not (out / "instances").exists()
    assert "labelling" not in json.loads((out / "dataset.json").read_text())


def test_a_format_is_one_entry_of_the_table(tmp_path, pair, monkeypatch):
    """Whatever a format writes, an export that fails, is cut off or replaced leaves no half."""
    other = record_of(tmp_path / "in", "b", np.zeros((9, 9), np.uint8), np.ones((9, 9), int))

    def write_image(folder, item):
        folder.write(folder.root / f"{item.file_name}.txt", str(item.labels.sum()).encode())
        if item.image_id == "b":
            raise DatasetError(item.source, "cannot be told in words")
        return {"area": int((item.labels > 0).sum()), "group": item.group}

    def write_card(folder, about, entries):
        card = {"organ": about.organ, "labels": dict(about.labels), "images": list(entries)}
        folder.write(folder.root / "words.json", json.dumps(card).encode())

    words = SimpleNamespace(write_image=write_image, write_card=write_card)
    known = {**formats.FORMATS, "words": ExportFormat("words", "words", "words.json")}
    monkeypatch.setattr(formats, "FORMATS", known)
    monkeypatch.setattr(export, "FORMATS", known)
    module = formats.format_module
    monkeypatch.setattr(export, "format_module", lambda n: words if n == "words" else module(n))
    out = tmp_path / "out"
    export_pairs([pair], out, **ABOUT).whole()
    report = export_pairs([other, pair], out, **ABOUT, format="words", overwrite=True)
    assert [failure.image_id for failure in report.failures] == ["b"]
    assert sorted(files_of(out)) == [".usgseg-written.jsonl", "README.md", "a.txt", "words.json"]
    card = json.loads((out / "words.json").read_text())
    assert card["images"] == [{"area": 35, "group": "a"}]
    assert card["labels"] == {"1": "breast tumor", "2": "cyst"}


def test_a_format_that_is_not_there_is_named_before_anything_is_written(tmp_path, pair):
    with pytest.raises(PromptError, match="no export format 'docx'; expected one of png"):
        export_pairs([pair], tmp_path / "out", **ABOUT, format="docx")
    assert not (tmp_path / "out").exists()


def coco_of(folder):
    """The export as COCO's own reader has it: annotations and masks of each image, by file name."""
    coco = COCO(folder / "annotations.json")
    return coco, {
        image["file_name"]: [
            (each, coco.annToMask(each).astype(bool))
            for each in coco.loadAnns(coco.getAnnIds(imgIds=[number]))
        ]
        for number, image in coco.imgs.items()
    }


def test_cocos_own_reader_gets_every_object_told_apart(tmp_path):
    labels = np.zeros((20, 30), np.uint16)
    labels[2:6, 3:9], labels[2:6, 9:12], labels[10:, 20:], labels[0, 0] = 1001, 1002, 2001, 2001
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    records = [
        record_of(tmp_path / "in", "a", pixels, labels, spacing_mm=(0.25, 0.2)),
        record_of(tmp_path / "in", "nothing", pixels, np.zeros_like(labels)),
    ]
    options = {"labelling": "instance", "format": "coco", "groups": {"a": "patient 7"}}
    out = export_pairs(records, tmp_path / "out", **ABOUT, **options).whole()
    assert sorted(files_of(out)) == [
        ".usgseg-written.jsonl", "README.md", "annotations.json", "images/a.png",
        "images/nothing.png",
    ]  # fmt: skip
    assert np.array_equal(read_image(out / "images" / "a.png")[..., 0], pixels)
    coco, found = coco_of(out)
    assert {c["id"]: c["name"] for c in coco.loadCats(coco.getCatIds())} == {
        1: "breast tumor",
        2: "cyst",
    }
    first = coco.imgs[1]
    assert (first["width"], first["height"]) == (30, 20)
    assert (first["group"], first["pixel_size_mm"]) == ("patient 7", [0.25, 0.2])
    assert found["nothing.png"] == []
    assert [(each["category_id"], each["area"]) for each, _ in found["a.png"]] == [
        (1, 24), (1, 12), (2, 101),
    ]  # fmt: skip
    for (each, mask), code in zip(found["a.png"], (1001, 1002, 2001), strict=True):
        assert np.array_equal(mask, labels == code)
        assert each["iscrowd"] == 0
    assert found["a.png"][1][0]["bbox"] == [9, 2, 3, 4]


def test_in_coco_a_class_is_one_object_for_each_of_its_pieces(tmp_path, pair):
    labels = np.zeros((20, 30), np.uint8)
    labels[1:3, 1:3], labels[3, 3], labels[10:12, 10:20], labels[15, 15] = 1, 1, 1, 7
    two = record_of(tmp_path / "in", "two", np.zeros((20, 30), np.uint8), labels)
    out = export_pairs([pair, two], tmp_path / "out", **ABOUT, format="coco").whole()
    coco, found = coco_of(out)
    assert [(e["category_id"], e["area"]) for e, _ in found["two.png"]] == [(1, 5), (1, 20), (7, 1)]
    together = sum(each["category_id"] * mask for each, mask in found["two.png"])
    assert np.array_equal(together, labels)
    assert coco.cats[7]["name"] == "label 7"
    assert sorted(coco.anns) == [1, 2, 3, 4]


def test_one_format_replaces_the_other_whole(tmp_path, pair):
    out = export_pairs([pair], tmp_path / "out", **ABOUT).whole()
    export_pairs([pair], out, **ABOUT, format="coco", overwrite=True).whole()
    assert sorted(files_of(out)) == [
        ".usgseg-written.jsonl",
        "README.md",
        "annotations.json",
        "images/a.png",
    ]
    export_pairs([pair], out, **ABOUT, overwrite=True).whole()
    assert not (out / "annotations.json").exists()
    assert len(read_dataset(out).items) == 1


def test_a_person_who_stops_an_export_ends_it_and_leaves_no_half_of_an_image(tmp_path, pair):
    def read(record):
        raise Cancelled

    with pytest.raises(Cancelled):
        export_images([pair[0]], read, tmp_path / "out", **ABOUT)
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_coco_parts_what_is_not_told_apart_among_objects_that_are(tmp_path):
    codes = np.zeros((20, 30), np.uint16)
    codes[2:6, 2:6], codes[10:14, 2:6] = 1001, 1001
    codes[2:6, 20:26], codes[10:14, 20:26] = 1, 1
    pair = record_of(tmp_path / "in", "a", np.zeros((20, 30), np.uint8), codes)
    out = export_pairs([pair], tmp_path / "out", **ABOUT, labelling="instance", format="coco")
    areas = [each["area"] for each in COCO(out.folder / "annotations.json").dataset["annotations"]]
    assert sorted(areas) == [24, 24, 32]
