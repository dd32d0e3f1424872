from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_usgseg.io.datasets import read_dataset
from napari_usgseg.io.formats import FORMATS
from napari_usgseg.io.images import read_image
from napari_usgseg.io.labels import read_labels
from napari_usgseg.project.project import Project
from napari_usgseg.project.records import ImageState
from tests.support.labelling import accept_labels, set_state


def test_labelled_images_become_a_data_set_that_evaluate_reads(
    usgseg, labelled, tmp_path, checkpoint
):
    out = tmp_path / "set"
    outcome = usgseg("export", labelled, "--format", "png", "--out", out, "--organ", "ovary")
    assert (outcome.code, outcome.err) == (0, "")
    assert "2 of 3 images exported" in outcome.out
    dataset = read_dataset(out)
    assert (dataset.organ, dataset.target) == ("ovary", "cyst")
    assert dataset.labels == {1: "cyst", 2: "wall"}
    for item, value in zip(dataset.items, (1, 2), strict=True):
        assert read_labels(item.mask_path)[20, 20] == value
        assert read_image(item.image_path).shape[:2] == read_labels(item.mask_path).shape
    report = tmp_path / "r.json"
    words = ["--prompt", "box", "--json", report, "--model", checkpoint]
    assert usgseg("evaluate", out, *words).code == 0
    (entry,) = json.loads(report.read_text())["datasets"].values()
    assert entry["images"] == 2


def test_the_help_names_every_format(usgseg):
    help_text = "".join(usgseg("export", "--help").out.split())  # lines are broken at hyphens
    assert all(f"{name}:" in help_text for name in FORMATS)


def test_an_export_is_not_overwritten_unless_told_to(usgseg, labelled, tmp_path):
    words = ["export", labelled, "--out", tmp_path / "set"]
    assert usgseg(*words).code == 0
    again = usgseg(*words)
    assert again.code == 1
    assert "holds an earlier result" in again.err
    assert "overwrite" not in again.err
    assert usgseg(*words, "--overwrite").code == 0


def test_a_folder_without_labels_says_what_to_do(usgseg, images, tmp_path):
    outcome = usgseg("export", images, "--out", tmp_path / "set")
    assert outcome.code == 1
    assert "accept an image" in outcome.err
    assert not (tmp_path / "set").exists()


def test_a_damaged_label_file_is_named_and_the_version_of_the_history_is_exported(
    usgseg, labelled, tmp_path
):
    (labelled / "usgseg" / "labels" / "scan 0.png").write_bytes(b"torn")
    outcome = usgseg("export", labelled, "--out", tmp_path / "set")
    assert outcome.code == 3
    assert "scan 0" in outcome.err
    items = read_dataset(tmp_path / "set").items
    assert [item.item_id for item in items] == ["scan 0", "scan 1"]
    assert read_labels(items[0].mask_path)[20, 20] == 1


def test_all_annotators_are_exported_but_those_who_have_nothing_yet(usgseg, images, tmp_path):
    first = Project(images)
    set_state(first, first.records[0].image_id, ImageState.SKIPPED)
    first.close()
    store = Project(images, annotator="Ann")
    accept_labels(store, store.records[0], np.ones(store.records[0].size_hw, np.uint8))
    store.close()
    outcome = usgseg("export", images, "--out", tmp_path / "out", "--annotator", "all")
    assert (outcome.code, outcome.err) == (0, "")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["Ann"]
    assert len(read_dataset(tmp_path / "out" / "Ann").items) == 1


def annotate(folder, *names):
    """Label every image of a folder, once for each annotator."""
    for name in names or [""]:
        store = Project(folder, annotator=name)
        for record in store.records:
            accept_labels(store, record, np.ones(record.size_hw, np.uint8))
        store.close()


def groups_of(out):
    card = json.loads((out / "dataset.json").read_text(encoding="utf-8"))
    return {item["id"]: item["group"] for item in card["items"]}


@pytest.mark.parametrize("words", [(), ("--annotator", "all")])
@pytest.mark.parametrize("overwrite", [False, True])
def test_an_export_into_the_folder_of_the_images_is_refused(usgseg, tmp_path, overwrite, words):
    """Case 02: 16-bit originals became 8-bit copies."""
    images = tmp_path / "w" / "images"
    images.mkdir(parents=True)
    Image.fromarray(np.arange(2400, dtype=np.uint16).reshape(40, 60)).save(images / "a.png")
    before = hashlib.sha256((images / "a.png").read_bytes()).hexdigest()
    annotate(images)
    for folder, out in ((images.parent, images.parent), (images, images), (images, images.parent)):
        flags = ["--overwrite"] if overwrite else []
        outcome = usgseg("export", folder, "--out", out, *words, *flags)
        assert outcome.code == 1
        assert "choose an empty or a new folder" in outcome.err
        assert hashlib.sha256((images / "a.png").read_bytes()).hexdigest() == before
        assert [path.name for path in images.parent.iterdir()] == ["images"]
        assert sorted(path.name for path in images.iterdir()) == ["a.png", "usgseg"]


def test_groups_are_named_by_a_rule(usgseg, tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in ("P1_a.png", "P1_b.png", "P2_a.png", "other.png"):
        Image.fromarray(np.zeros((8, 9), np.uint8)).save(folder / name)
    tifffile.imwrite(folder / "P2_loop.tif", np.zeros((3, 8, 9), np.uint8), photometric=1)
    annotate(folder)
    outcome = usgseg("export", folder, "--out", tmp_path / "plain")
    assert (outcome.code, outcome.err) == (0, "")
    assert set(groups_of(tmp_path / "plain").values()) == {
        "P1_a", "P1_b", "P2_a", "other", "P2_loop",
    }  # fmt: skip
    for number, rule in enumerate(("(P\\d)_", "prefix:_")):
        out = tmp_path / str(number)
        outcome = usgseg("export", folder, "--out", out, "--groups", rule)
        assert outcome.code == 3
        assert len(outcome.err_lines) == 1
        assert "says nothing of 1 image (other)" in outcome.err
        groups = groups_of(out)
        assert groups.pop("other") == "other"
        assert groups == {image_id: image_id[:2] for image_id in groups}
        assert len(groups) == 6


def test_groups_are_named_by_a_table(usgseg, labelled, tmp_path):
    table = tmp_path / "patients.csv"
    table.write_text("File name;Patient\nscan 0.png;Ann\nscan 1;Ann\ngone.png;Bob\n")
    words = ("export", labelled, "--groups", table)
    outcome = usgseg(*words, "--out", tmp_path / "out")
    assert outcome.code == 0
    assert groups_of(tmp_path / "out") == {"scan 0": "Ann", "scan 1": "Ann"}
    assert "has 1 row (row 4: gone.png) without an image here" in outcome.err
    table.write_text("file,group\nscan 0.png,Ann\n")
    outcome = usgseg(*words, "--out", tmp_path / "part")
    assert outcome.code == 3
    assert "says nothing of 1 image (scan 1)" in outcome.err  # scan 2 is not exported
    assert groups_of(tmp_path / "part") == {"scan 0": "Ann", "scan 1": "scan 1"}


@pytest.mark.parametrize(
    ("rule", "words"),
    [("patient", "expected folder, prefix:_"), ("none.csv", "none.csv"), ("bad.csv", "row 2")],
)
def test_what_is_no_rule_is_one_line_and_nothing_is_written(
    usgseg, labelled, tmp_path, rule, words, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.csv").write_text("image,group\nscan 0,\n")
    for more in ((), ("--annotator", "all")):
        outcome = usgseg("export", labelled, "--out", tmp_path / "set", "--groups", rule, *more)
        assert (outcome.code, len(outcome.err_lines)) == (1, 1)
        assert words in outcome.err
        assert not (tmp_path / "set").exists()


def test_each_annotator_has_a_folder_and_a_file_of_a_person_in_one_stops_all(
    usgseg, images, tmp_path
):
    annotate(images, "", "Ann", "ann B")
    out = tmp_path / "out"
    words = ("export", images, "--out", out, "--annotator", "all")
    outcome = usgseg(*words)
    assert (outcome.code, outcome.err) == (0, "")
    folders = sorted(path.name for path in out.iterdir())
    assert folders == ["Ann", "ann B", "first"]
    assert all(len(read_dataset(out / name).items) == 3 for name in folders)
    (out / "Ann" / "masks" / "notes.txt").write_text("mine")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    outcome = usgseg(*words, "--overwrite")
    assert outcome.code == 1
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert "holds other files (Ann/masks/notes.txt)" in outcome.err


def test_an_export_of_one_is_replaced_by_that_of_all_and_back(usgseg, images, tmp_path):
    annotate(images, "", "Ann")
    out = tmp_path / "out"
    for words, expected in (
        ((), {"images", "masks", "dataset.json", "classes.json", "README.md"}),
        (("--annotator", "all", "--overwrite"), {"first", "Ann"}),
        (("--overwrite",), {"images", "masks", "dataset.json", "classes.json", "README.md"}),
    ):
        assert usgseg("export", images, "--out", out, *words).code == 0
        assert {path.name for path in out.iterdir()} - {".usgseg-written.jsonl"} == expected


def test_images_that_are_no_longer_labelled_leave_the_export(usgseg, labelled, tmp_path):
    out = tmp_path / "set"
    assert usgseg("export", labelled, "--out", out).code == 0
    store = Project(labelled)
    accept_labels(store, store.records[0], None)
    store.close()
    assert usgseg("export", labelled, "--out", out, "--overwrite").code == 0
    assert [item.item_id for item in read_dataset(out).items] == ["scan 1"]
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.png")) == [
        "images/scan 1.png", "masks/scan 1.png",
    ]  # fmt: skip


@pytest.mark.parametrize("format", ["yolo", "nnunet"])
def test_a_data_card_says_who_accepted_and_under_which_licence(usgseg, images, tmp_path, format):
    annotate(images, "Ann")
    words = ("--annotator", "Ann", "--licence", "CC BY 4.0", "--no-split", "--format", format)
    done = usgseg("export", images, "--out", tmp_path / "out", *words)
    assert done.code == 0, done.err
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "images were accepted by Ann, in" in text
    assert "Licence of the images: CC BY 4.0." in text
    assert "What this format does not keep" in text
    assert "| test |" not in text
