from __future__ import annotations

import json

import numpy as np

from napari_usgseg.io.datasets import read_dataset
from napari_usgseg.io.images import read_image
from napari_usgseg.io.labels import read_labels
from napari_usgseg.store.project import ProjectStore
from napari_usgseg.store.records import ImageState


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
    assert "commit an image" in outcome.err
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
    first = ProjectStore(images)
    first.write_state(first.records[0].image_id, ImageState.SKIPPED)
    first.close()
    store = ProjectStore(images, annotator="Ann")
    store.write_labels(store.records[0], np.ones(store.records[0].size_hw, np.uint8))
    store.close()
    outcome = usgseg("export", images, "--out", tmp_path / "out", "--annotator", "all")
    assert (outcome.code, outcome.err) == (0, "")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["Ann"]
    assert len(read_dataset(tmp_path / "out" / "Ann").items) == 1
